package main

import (
	"fmt"
	"io"
	"strings"

	"dcshealer/policies"
)

// write answers the question first, then shows each guard.
func (r whyReport) write(w io.Writer) {
	s := story{w}
	healer := "no healer runs on this state_dir"
	if r.Running {
		healer = "the running healer has it as " + string(r.State)
	}
	fmt.Fprintln(w, printable(fmt.Sprintf("%s: %s (%s)", r.Instance, r.answer(), healer)))
	for _, f := range r.Findings {
		s.line("%-8s %s on %s%s: %s", strings.ToUpper(f.Severity.String()), f.Metric, f.Node, causeText(f.Cause), f.Msg)
	}
	for _, e := range notAmong(r.Errors, r.Findings) {
		s.line("error    %s", e)
	}
	for _, p := range r.Now {
		s.title("Now: %s on %s (%s, %s): %s", p.Action, p.Node, p.Mode, p.Cause, p.verdict())
		s.rulings(p.Guards)
	}
	for _, p := range r.Last {
		what := "no action on " + p.Node
		if p.Action != "" {
			what = fmt.Sprintf("%s on %s", p.Action, p.Node)
		}
		s.title("Last decision, %s UTC: %s (%s, %s): %s%s", clock(p.At), what, p.Mode, p.Cause, p.Outcome, inBrackets(p.origin()))
		if p.Error != "" {
			s.line("%s", p.Error)
		}
		s.rulings(p.Guards)
	}
	if len(r.Last) == 0 {
		s.title("Last decision: there is none in the journal.")
	}
}

// answer is the short one.
func (r whyReport) answer() string {
	critical := 0
	for _, f := range r.Findings {
		if f.Severity == policies.Critical {
			critical++
		}
	}
	switch {
	case critical == 0 && len(r.Errors) > 0:
		return "it cannot be read in full: nothing is repaired that cannot be seen"
	case critical == 0:
		return "nothing critical is found: there is nothing to act on"
	case len(r.Now) == 0:
		return "no action cures what is found: a person is needed"
	}
	for _, p := range r.Now {
		if len(p.DeniedBy) == 0 {
			if r.Running && r.State == policies.StateEscalated {
				return fmt.Sprintf("%s on %s is permitted now, and the running healer has given it up: dcshealer ack INCIDENT has it look anew", p.Action, p.Node)
			}
			return fmt.Sprintf("%s on %s is permitted now", p.Action, p.Node)
		}
	}
	return fmt.Sprintf("it does not act because of %s", join(r.Now[0].DeniedBy))
}

func (p whyPlan) verdict() string {
	if len(p.DeniedBy) == 0 {
		return "permitted"
	}
	return "denied by " + join(p.DeniedBy)
}

// origin names the record and the incident.
func (p whyPlan) origin() string {
	if p.Incident == nil {
		return "record " + p.Record
	}
	state := "ended"
	if p.Incident.Open {
		state = "open"
	}
	return fmt.Sprintf("record %s, incident %s, %s", p.Record, p.Incident.ID, state)
}

// rulings lists the guards, those that deny first.
func (s story) rulings(guards []whyRuling) {
	for _, denied := range []bool{true, false} {
		for _, g := range guards {
			if g.Denied() != denied {
				continue
			}
			s.line("%-5s  %-17s  %s", g.Verdict, g.Guard, g.Reason)
			if denied && !strings.Contains(g.Reason, g.Lift) {
				s.line("%-5s  %-17s  lifted by: %s", "", "", g.Lift)
			}
		}
	}
}
