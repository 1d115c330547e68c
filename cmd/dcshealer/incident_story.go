package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dcshealer/agent/archive"
	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// storyEvent is one thing that happened in an incident.
type storyEvent struct {
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"` // alarm, incident, decision, command, outcome, note or control
	Text    string    `json:"text"`
	Details []string  `json:"details,omitempty"`
	Record  string    `json:"record,omitempty"` // of the journal, where one holds it
}

// tell puts all that is known of an incident in the order of time. alarms come oldest first. Pure.
func tell(f journal.IncidentFile, alarms []archive.Stored) []storyEvent {
	in := f.Incident
	events := alarmEvents(in, alarms)
	if !in.Alarmed.IsZero() {
		events = append(events, storyEvent{At: in.Alarmed, Kind: "alarm", Text: "the alarm reached the healer" + inBrackets(in.Alarm)})
	}
	if !in.Seen.IsZero() {
		events = append(events, storyEvent{At: in.Seen, Kind: "incident", Text: "the healer's own probe saw it"})
	}
	for _, e := range f.Events {
		events = append(events, storyEvent{At: e.At, Kind: "incident", Text: incidentEventText(in, e)})
	}
	for _, r := range f.Records {
		events = append(events, recordEvents(r)...)
	}
	for _, c := range f.Controls {
		events = append(events, storyEvent{At: c.At, Kind: "control", Text: controlText(c)})
	}
	slices.SortStableFunc(events, func(x, y storyEvent) int { return x.At.Compare(y.At) })
	return events
}

// alarmEvents are the alarms as they were received; repeats of one that stands are one event.
func alarmEvents(in policies.Incident, alarms []archive.Stored) (events []storyEvent) {
	var last policies.Severity
	repeats := 0
	for _, s := range alarms {
		a, resolved := s.Alarm, s.Alarm.IsResolved()
		switch {
		case resolved && s.Received.Before(in.Began()), !resolved && !in.Open() && s.Received.After(in.Closed):
			continue // of the incident before or after this one
		case !resolved && a.Severity == last:
			if repeats++; repeats > 1 {
				events[len(events)-1].Text = fmt.Sprintf("%s alarm repeated %d times up to %s UTC", a.Severity, repeats, clock(s.Received))
			} else {
				events = append(events, storyEvent{At: s.Received, Kind: "alarm", Text: a.Severity.String() + " alarm repeated: " + a.Msg})
			}
			continue
		}
		last, repeats = a.Severity, 0
		text := fmt.Sprintf("%s alarm: %s", a.Severity, a.Msg)
		if resolved {
			last, text = 0, fmt.Sprintf("%s alarm ended: %s", a.Severity, strings.TrimPrefix(a.Msg, policies.ResolvedPrefix))
		}
		events = append(events, storyEvent{At: s.Received, Kind: "alarm", Text: text})
	}
	return events
}

func incidentEventText(in policies.Incident, e journal.IncidentEvent) string {
	switch e.Event {
	case "opened":
		return "two probes agree: " + e.Text
	case "changed":
		return "diagnosed anew: " + e.Text
	case "acknowledged":
		return "taken " + e.Text
	case "closed":
		return "ended, " + resolutionText(in.Resolution) + ": " + e.Text
	}
	return e.Event + ": " + e.Text
}

// recordEvents are a decision, what it sent and what came of it.
func recordEvents(r policies.Record) []storyEvent {
	decision := storyEvent{At: r.At, Kind: "decision", Record: r.ID}
	what := "no action"
	if r.Action != "" {
		what = fmt.Sprintf("%s on %s", r.Action, r.Node)
	}
	switch {
	case len(r.Commands) > 0 || r.Outcome == policies.OutcomeRunning:
		decision.Text = what + " begins, " + triggerText(r)
		decision.Details = foretold(r)
	case r.Outcome == policies.OutcomePlanned:
		decision.Text = "dry run: " + what + " would be sent; nothing was"
		decision.Details = foretold(r)
	case r.Action == "":
		decision.Text = "refused: " + r.Error
	default:
		decision.Text = "refused: " + what
		decision.Details = denialsOf(r)
	}
	events := []storyEvent{decision}
	for _, c := range r.Commands {
		events = append(events, storyEvent{At: c.At, Kind: "command", Record: r.ID, Text: commandLine(c)})
	}
	if !r.Finished.IsZero() && len(r.Commands) > 0 {
		o := storyEvent{At: r.Finished, Kind: "outcome", Record: r.ID, Text: string(r.Outcome) + outcomeText(r)}
		events = append(events, o)
	}
	for _, n := range r.Notes {
		events = append(events, storyEvent{At: n.At, Kind: "note", Record: r.ID, Text: n.Text})
	}
	return events
}

func foretold(r policies.Record) (details []string) {
	for _, c := range r.Planned {
		details = append(details, "would send: "+strings.Join(c, " "))
	}
	if len(r.Commands) > 0 {
		details = nil
	}
	if e := expectText(r.Expect); e != "" {
		details = append(details, "expected: "+e)
	}
	return details
}

// denialsOf are the guards that denied, each with what it saw and what lifts it.
func denialsOf(r policies.Record) (details []string) {
	for _, g := range r.Guards {
		if g.Denied() {
			details = append(details, fmt.Sprintf("%s: %s", g.Guard, g.Reason))
		}
	}
	if r.Error != "" && len(details) == 0 {
		details = append(details, r.Error)
	}
	return details
}

func commandLine(c policies.CommandRecord) string {
	times := ""
	if c.Count > 0 {
		times = fmt.Sprintf(" (%d calls, the longest %s)", c.Count, secondsText(c.Longest))
	}
	return fmt.Sprintf("sent to %s: %s%s -> %s, %s", dash(c.Node), strings.Join(c.Args, " "), times, dash(c.Reply), secondsText(c.TookS))
}
