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

// paint is one use of colour: the text alone where there are none.
type paint bool

func (p paint) in(c text.Color, s string) string {
	if !p || s == "" {
		return s
	}
	return c.Sprint(s)
}

// write shows one line an instance, and below what does not fit into one.
func (s fleetStatus) write(w io.Writer, now time.Time, colours bool) {
	p := paint(colours)
	healer := p.in(text.FgYellow, "not running; the states are the last known")
	if s.Running {
		healer = p.in(text.FgGreen, "running")
	}
	fmt.Fprintf(w, "healer: %s\nbus: %s\n", healer, dash(printable(s.Bus)))
	if s.BusNote != "" {
		fmt.Fprintln(w, p.in(text.FgYellow, s.BusNote))
	}
	if s.Journal != "" {
		fmt.Fprintln(w, p.in(text.FgRed, "journal: "+printable(s.Journal)))
	}
	fmt.Fprintln(w)
	t := table.NewWriter()
	t.SetStyle(table.StyleDefault)
	t.Style().Options = table.OptionsNoBordersAndSeparators
	t.Style().Box.PaddingLeft, t.Style().Box.PaddingRight = "", "  "
	t.Style().Format.Header = text.FormatUpper
	t.AppendHeader(table.Row{"instance", "state", "for", "live", "breakers", "incidents", "last action"})
	for _, in := range s.Instances {
		t.AppendRow(in.row(now, p))
	}
	for line := range strings.Lines(t.Render()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
	s.writeBelow(w, p)
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

func (in instanceStatus) row(now time.Time, p paint) table.Row {
	since, last := "-", "-"
	if in.Since != nil {
		since = span(now.Sub(*in.Since))
	}
	if l := in.LastAction; l != nil {
		last = fmt.Sprintf("%s on %s %s, %s ago", l.Action, printable(l.Node), p.in(outcomeColour(l.Outcome), string(l.Outcome)), span(now.Sub(l.At)))
	}
	state := p.in(stateColour(in.State), string(in.State))
	if in.Paused {
		state += p.in(text.FgYellow, ", paused")
	}
	return table.Row{printable(in.Instance), state, since, in.live(p), in.breakers(p), in.incidents(p), last}
}

// live lists what may run for real.
func (in instanceStatus) live(p paint) string {
	var names []string
	for _, action := range policies.Actions {
		if in.Modes[action] == policies.Live {
			names = append(names, string(action))
		}
	}
	if len(names) == 0 {
		return "dry run"
	}
	return p.in(text.FgMagenta, strings.Join(names, " "))
}

// breakers names those that are not closed.
func (in instanceStatus) breakers(p paint) string {
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
	return p.in(text.FgRed, strings.Join(parts, ", "))
}

// incidents says what is open, in the words of the journal where it holds the incident.
func (in instanceStatus) incidents(p paint) string {
	var parts []string
	for _, i := range in.Open {
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
