package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// story writes one record for a person; every text in it passes printable.
type story struct{ w io.Writer }

func writeStory(w io.Writer, r policies.Record, entries []journal.Entry) {
	s := story{w}
	s.head(r)
	s.guards(r)
	s.plan(r)
	s.sent(r.Commands)
	s.states(r)
	if r.Error != "" {
		s.title("Error")
		s.line("%s", r.Error)
	}
	if len(r.Notes) > 0 {
		s.title("Notes")
	}
	for _, n := range r.Notes {
		s.line("%s  %s%s", clock(n.At), n.Text, dataText(n.Data))
	}
	s.title("Journal entries")
	for _, e := range entries {
		s.line("%d  %-11s  %s  hash %.12s", e.Seq, e.Kind, e.At, e.Hash)
	}
}

func (s story) title(format string, args ...any) {
	fmt.Fprintf(s.w, "\n%s\n", printable(fmt.Sprintf(format, args...)))
}

func (s story) line(format string, args ...any) {
	fmt.Fprintf(s.w, "  %s\n", printable(fmt.Sprintf(format, args...)))
}

// fact is a line of the head; without a value it is left out.
func (s story) fact(name, value string) {
	if value != "" {
		s.line("%-10s%s", name, value)
	}
}

func (s story) head(r policies.Record) {
	what := string(r.Action)
	if what == "" {
		what = "no action"
	}
	where := r.Instance
	if r.Node != "" {
		where += ", node " + r.Node
	}
	fmt.Fprintln(s.w, printable(fmt.Sprintf("%s on %s: %s", what, where, r.Outcome)))
	s.fact("in short", conclusionOf(r))
	s.fact("record", r.ID)
	s.fact("decided", clock(r.At)+" UTC, "+string(r.Mode)+", "+triggerText(r))
	if !r.Finished.IsZero() {
		s.fact("finished", clock(r.Finished)+" UTC, after "+r.Finished.Sub(r.At).Round(time.Millisecond).String())
	}
	s.fact("cause", string(r.Cause))
	s.fact("metric", string(r.Metric))
	s.fact("alarm", r.Alarm)
	s.fact("incident", r.Incident)
	o := r.Operator
	s.fact("operator", fmt.Sprintf("%s, process %d, dcshealer %s", dash(o.Host), o.PID, dash(o.Version)))
}

func triggerText(r policies.Record) string {
	if r.Trigger == policies.TriggerManual {
		return "by hand of " + dash(r.Operator.By)
	}
	return "by " + dash(string(r.Trigger))
}

func (s story) guards(r policies.Record) {
	denied := 0
	for _, g := range r.Guards {
		if g.Denied() {
			denied++
		}
	}
	if len(r.Guards) == 0 {
		return
	}
	s.title("Guards: %d asked, %d denied", len(r.Guards), denied)
	for _, g := range r.Guards {
		s.line("%-5s  %-17s  %s", g.Verdict, g.Guard, g.Reason)
	}
}

func (s story) plan(r policies.Record) {
	if len(r.Planned) > 0 {
		s.title("Planned")
	}
	for _, c := range r.Planned {
		s.line("%s", strings.Join(c, " "))
	}
	if e := expectText(r.Expect); e != "" {
		s.title("Expected")
		s.line("%s", e)
	}
}

func expectText(e policies.Expect) string {
	var parts []string
	if e.Resync != "" {
		parts = append(parts, "a "+string(e.Resync)+" resync")
	}
	if e.ExpiredKeys.Known {
		parts = append(parts, fmt.Sprintf("about %d expired keys", e.ExpiredKeys.V))
	}
	if e.Bytes.Known {
		parts = append(parts, fmt.Sprintf("about %d bytes", e.Bytes.V))
	}
	if e.Known != nil && !*e.Known && e.Method == "" {
		parts = append(parts, "not known without acting")
	}
	if e.Method != "" && len(parts) == 0 {
		return e.Method
	}
	if e.Method != "" {
		parts = append(parts, "by "+e.Method)
	}
	return strings.Join(parts, ", ")
}

func (s story) sent(commands []policies.CommandRecord) {
	if len(commands) == 0 {
		s.title("Nothing was sent.")
		return
	}
	s.title("Sent")
	for _, c := range commands {
		times := ""
		if c.Count > 0 {
			times = fmt.Sprintf(" (%d calls, the longest %s)", c.Count, secondsText(c.Longest))
		}
		s.line("%s  %s  %s%s -> %s, %s", c.At.UTC().Format("15:04:05.000"), dash(c.Node), strings.Join(c.Args, " "), times, dash(c.Reply), secondsText(c.TookS))
	}
}

func secondsText(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Microsecond).String()
}

// states shows each field before and after, and the effect in words.
func (s story) states(r policies.Record) {
	names := maps.Clone(r.Before)
	if names == nil {
		names = map[string]any{}
	}
	maps.Copy(names, r.After)
	if len(names) > 0 {
		s.title("Before and after")
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		s.line("%s: %s -> %s", name, fieldText(r.Before, name), fieldText(r.After, name))
	}
	brought := effectText(r)
	if len(brought) > 0 {
		s.title("Effect")
	}
	for _, text := range brought {
		s.line("%s", text)
	}
}

// fieldText is a value as a person writes it: numbers without an exponent, texts without quotes; "-" where there is none.
func fieldText(fields map[string]any, name string) string {
	switch v := fields[name].(type) {
	case nil:
		return "-"
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(b)
	}
}

func dataText(data map[string]any) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(data)) {
		fmt.Fprintf(&b, "  %s=%s", name, fieldText(data, name))
	}
	return b.String()
}
