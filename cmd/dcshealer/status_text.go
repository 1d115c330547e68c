package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"dcshealer/policies"
)

// coloured reports whether w is a terminal whose user wants colours.
func coloured(w io.Writer) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// widthOf is how many columns the terminal has; 0: w is none, and no line is too long.
func widthOf(w io.Writer) int {
	if !isTerminal(w) {
		return 0
	}
	width, _, err := term.GetSize(int(w.(*os.File).Fd()))
	if err != nil {
		return 0
	}
	return width
}

// paint is one use of colour: the text alone where there are none.
type paint bool

func (p paint) in(c text.Color, s string) string {
	if !p || s == "" {
		return s
	}
	return c.Sprint(s)
}

// write shows one line an instance, as wide as width (0: any), and below what does not fit into one.
func (s fleetStatus) write(w io.Writer, now time.Time, colours bool, width int) {
	p := paint(colours)
	healer := p.in(text.FgYellow, "not running; the states are the last known")
	if s.Running {
		healer = p.in(text.FgGreen, "running")
	}
	fmt.Fprintf(w, "healer: %s\nbus: %s\n", healer, dash(printable(s.Bus)))
	if s.BusNote != "" {
		fmt.Fprintln(w, p.in(text.FgYellow, s.BusNote))
	}
	if s.NotifyNote != "" {
		fmt.Fprintln(w, p.in(text.FgYellow, printable(s.NotifyNote)))
	}
	if s.Journal != "" {
		fmt.Fprintln(w, p.in(text.FgRed, "journal: "+printable(s.Journal)))
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, s.fleetTable(now, p, width))
	s.writeBelow(w, p)
}

// How much of an instance its line leaves out: each step all that the one before it does, too.
const (
	inFull       = iota
	inShort      // ids of incidents, nodes of actions
	asCounts     // names of actions
	withoutLast  // the last action
	withoutSince // for how long
)

// fleetTable leaves out as little as the width demands, and cuts what is too long even so.
func (s fleetStatus) fleetTable(now time.Time, p paint, width int) string {
	for brief := inFull; ; brief++ {
		t := table.NewWriter()
		t.SetStyle(table.StyleDefault)
		t.Style().Options = table.OptionsNoBordersAndSeparators
		t.Style().Box.PaddingLeft, t.Style().Box.PaddingRight = "", "  "
		t.Style().Format.Header = text.FormatUpper
		if brief == withoutSince {
			t.Style().Size.WidthMax = width
		}
		t.AppendHeader(leaveOut(table.Row{"instance", "state", "for", "live", "breakers", "incidents", "last action"}, brief))
		for _, in := range s.Instances {
			t.AppendRow(leaveOut(in.row(now, p, brief), brief))
		}
		lines, widest := []string{}, 0
		for line := range strings.Lines(t.Render()) {
			line = strings.TrimRight(line, " \n")
			lines, widest = append(lines, line), max(widest, text.StringWidthWithoutEscSequences(line))
		}
		if width == 0 || widest <= width || brief == withoutSince {
			return strings.Join(lines, "\n")
		}
	}
}

// leaveOut takes the columns off a full row that are too much.
func leaveOut(row table.Row, brief int) table.Row {
	if brief >= withoutLast {
		row = row[:6]
	}
	if brief >= withoutSince {
		row = slices.Delete(row, 2, 3)
	}
	return row
}

func (s fleetStatus) writeBelow(w io.Writer, p paint) {
	for _, in := range s.Instances {
		if in.Progress != nil && s.Running {
			fmt.Fprintln(w, p.in(text.FgCyan, printable(in.Instance+" under way: "+in.Progress.String())))
		}
		if in.Blind != "" {
			fmt.Fprintln(w, p.in(text.FgYellow, printable(in.Instance+" is blind: "+in.Blind)))
		}
	}
}

func (in instanceStatus) row(now time.Time, p paint, brief int) table.Row {
	since, last := "-", "-"
	if in.Since != nil {
		since = span(now.Sub(*in.Since))
	}
	if l := in.LastAction; l != nil {
		on := " on " + printable(l.Node)
		if brief >= inShort {
			on = ""
		}
		last = fmt.Sprintf("%s%s %s, %s ago", l.Action, on, p.in(outcomeColour(l.Outcome), string(l.Outcome)), span(now.Sub(l.At)))
	}
	state := p.in(stateColour(in.State), string(in.State))
	if in.Paused {
		state += p.in(text.FgYellow, ", paused")
	}
	return table.Row{printable(in.Instance), state, since, in.live(p, brief), in.breakers(p, brief), in.incidents(p, brief), last}
}

// live lists what may run for real.
func (in instanceStatus) live(p paint, brief int) string {
	var names []string
	for _, action := range policies.Actions {
		if in.Modes[action] == policies.Live {
			names = append(names, string(action))
		}
	}
	if len(names) == 0 {
		return "dry run"
	}
	if brief >= asCounts {
		return p.in(text.FgMagenta, nounCount(len(names), "action"))
	}
	return p.in(text.FgMagenta, strings.Join(names, " "))
}

// breakers names those that are not closed.
func (in instanceStatus) breakers(p paint, brief int) string {
	if len(in.Breakers) == 0 {
		return "-"
	}
	var parts []string
	for _, action := range policies.Actions {
		if b, ok := in.Breakers[action]; ok && b != "closed" {
			parts = append(parts, string(action)+" "+dash(printable(b)))
		}
	}
	if len(parts) == 0 {
		return "closed"
	}
	if brief >= asCounts {
		return p.in(text.FgRed, fmt.Sprintf("%d not closed", len(parts)))
	}
	return p.in(text.FgRed, strings.Join(parts, ", "))
}

// incidents says what is open, in the words of the journal where it holds the incident.
func (in instanceStatus) incidents(p paint, brief int) string {
	var parts []string
	for _, i := range in.Open {
		if brief >= inShort {
			parts = append(parts, printable(string(i.Cause)))
			continue
		}
		taken := ""
		if i.Ack != nil {
			taken = ", taken by " + i.Ack.By
		}
		parts = append(parts, printable(fmt.Sprintf("%s: %s on %s%s", i.ID, i.Cause, i.Node, taken)))
	}
	for _, id := range in.Incidents {
		if !slices.ContainsFunc(in.Open, func(i policies.Incident) bool { return i.ID == id }) {
			parts = append(parts, printable(id))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return p.in(text.FgYellow, strings.Join(parts, "; "))
}

func stateColour(s policies.State) text.Color {
	switch s {
	case policies.StateIdle:
		return text.FgGreen
	case policies.StateEscalated:
		return text.FgRed
	case policies.StateHeld, stateUnknown:
		return text.FgYellow
	}
	return text.FgCyan
}

func outcomeColour(o policies.Outcome) text.Color {
	switch o {
	case policies.OutcomeSucceeded:
		return text.FgGreen
	case policies.OutcomeRunning:
		return text.FgCyan
	}
	return text.FgRed
}
