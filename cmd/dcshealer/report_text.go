package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"dcshealer/policies"
)

func (r report) writeText(w io.Writer) {
	fmt.Fprintf(w, "Evidence from %s to %s UTC\n", clock(r.Since), clock(r.Until))
	for _, n := range r.Notes {
		fmt.Fprintln(w, printable("note: "+n))
	}
	for _, e := range r.Instances {
		fmt.Fprintln(w)
		fmt.Fprintln(w, printable(e.Instance+": "+e.Text))
		for _, t := range e.Actions {
			writeTrackRecord(w, t)
		}
	}
}

func incidentsText(e policies.Evidence) string {
	text := plural(e.Incidents, "incident")
	if e.Open > 0 {
		text += fmt.Sprintf(", %d still open", e.Open)
	}
	if len(e.NoRemedy) > 0 {
		text += "; no action cures " + countsText(e.NoRemedy)
	}
	return text
}

// inWords adds what a person reads of the evidence.
func inWords(e policies.Evidence) evidenceView {
	v := evidenceView{Evidence: e, Text: incidentsText(e), Actions: []actionEvidence{}}
	for _, t := range e.Actions {
		v.Actions = append(v.Actions, actionEvidence{t, t.Conclusion(), []evidenceFact{
			{"would have acted", shadowText(t)}, {"acted", actedText(t)}, {"foretold", foretoldText(t)},
			{"detected after", spreadText(t.Detect)}, {"repaired after", spreadText(t.Repair)}, {"refused by", countsText(t.Refused)},
		}})
	}
	return v
}

func writeTrackRecord(w io.Writer, t actionEvidence) {
	fmt.Fprintf(w, "  %s (%s now): %s\n", t.Action, t.Mode, t.Conclusion)
	for _, f := range t.Facts {
		if f.Text != "" {
			fmt.Fprintln(w, printable(fmt.Sprintf("    %-17s %s", f.Name, f.Text)))
		}
	}
}

func shadowText(t policies.ActionRecord) string {
	s := t.Shadow
	if s.Incidents == 0 {
		return ""
	}
	return fmt.Sprintf("in %s; then: %s; the fault stood %s", plural(s.Incidents, "incident"), countsText(s.Then), spreadText(s.Stood))
}

func actedText(t policies.ActionRecord) string {
	if t.Sent == 0 {
		return ""
	}
	text := plural(t.Sent, "time") + ": " + countsText(t.Outcomes)
	for what, n := range map[string]int{"by hand": t.ByHand, "came back": t.CameBack, "past a guard's denial": t.Bypassed} {
		if n > 0 {
			text += fmt.Sprintf("; %d %s", n, what)
		}
	}
	return text
}

func foretoldText(t policies.ActionRecord) string {
	var parts []string
	if t.Resync.Made > 0 {
		parts = append(parts, fmt.Sprintf("the kind of resync rightly %d of %d times", t.Resync.Right, t.Resync.Made))
	}
	if t.Keys.Made > 0 {
		parts = append(parts, fmt.Sprintf("the expired keys within a tenth %d of %d times", t.Keys.Right, t.Keys.Made))
	}
	return strings.Join(parts, "; ")
}

func spreadText(s policies.Spread) string {
	switch {
	case s.N == 0:
		return ""
	case s.N == 1:
		return span(ofSeconds(s.Median))
	}
	return fmt.Sprintf("%s (median of %d), %s at the longest", span(ofSeconds(s.Median)), s.N, span(ofSeconds(s.Longest)))
}

// countsText lists counts, the largest first.
func countsText[T ~string](counts map[T]int) string {
	names := slices.SortedFunc(maps.Keys(counts), func(x, y T) int {
		if counts[x] != counts[y] {
			return counts[y] - counts[x]
		}
		return strings.Compare(string(x), string(y))
	})
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%s %d", name, counts[name])
	}
	return strings.Join(parts, ", ")
}

func (r report) writeMarkdown(w io.Writer) {
	fmt.Fprintf(w, "# Evidence for live repair\n\nFrom %s to %s UTC.\n", clock(r.Since), clock(r.Until))
	for _, n := range r.Notes {
		fmt.Fprintln(w, "\nNote: "+markdown(n)+".")
	}
	fmt.Fprintln(w, "\n| instance | action | mode now | would have acted | acted | foretold | detected after | repaired after | refused by | in short |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|")
	for _, e := range r.Instances {
		for _, t := range e.Actions {
			cells := []string{e.Instance, string(t.Action), string(t.Mode)}
			for _, f := range t.Facts {
				cells = append(cells, f.Text)
			}
			cells = append(cells, t.Conclusion)
			for i, c := range cells {
				cells[i] = markdown(dash(c))
			}
			fmt.Fprintln(w, "| "+strings.Join(cells, " | ")+" |")
		}
	}
	fmt.Fprintln(w)
	for _, e := range r.Instances {
		fmt.Fprintln(w, "- "+markdown(e.Instance+": "+e.Text))
	}
}

// markdown makes a text safe for a cell of a Markdown table.
func markdown(s string) string {
	return strings.NewReplacer("\\", "\\\\", "|", "\\|", "<", "&lt;", "*", "\\*", "_", "\\_", "`", "\\`", "[", "\\[").Replace(printable(s))
}

// plural is "1 incident", "2 incidents".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func ofSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// span is a duration as a person says it: to three digits or so.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + span(-d)
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%.1f days", d.Hours()/24)
}
