package main

import (
	"fmt"
	"io"
	"time"

	"dcshealer/policies"
)

// write tells the incident to a person: what it was and how it ended in a few lines, then what happened when.
func (r incidentReport) write(w io.Writer, now time.Time) {
	in := r.Incident
	s := story{w}
	fmt.Fprintln(w, printable(fmt.Sprintf("incident %s on %s: %s", in.ID, in.Instance, ending(in))))
	s.fact("what", fmt.Sprintf("%s on %s: %s", in.Metric, in.Node, in.Cause))
	s.fact("began", fmt.Sprintf("%s UTC; %s", clock(in.Began()), lasting(in, now)))
	s.fact("detected", "after "+span(max(0, in.Detected())))
	s.fact("repaired", repairText(r))
	s.fact("in short", r.Conclusion)
	if in.Ack != nil {
		s.fact("taken by", in.Ack.By+" at "+clock(in.Ack.At)+" UTC"+inBrackets(in.Ack.Note))
	}
	s.title("What happened (UTC, and seconds from the beginning)")
	for _, e := range r.Story {
		s.line("%s  %9s  %-8s  %s%s", e.At.UTC().Format("15:04:05.000"), fmt.Sprintf("%+.3f", e.At.Sub(in.Began()).Seconds()), e.Kind, e.Text, recordText(e))
		for _, d := range e.Details {
			s.line("%12s  %9s  %-8s  - %s", "", "", "", d)
		}
	}
}

func recordText(e storyEvent) string {
	if e.Record == "" || e.Kind == "command" || e.Kind == "note" {
		return ""
	}
	return " (record " + e.Record + ")"
}

func ending(in policies.Incident) string {
	if in.Open() {
		return "open"
	}
	return "ended, " + resolutionText(in.Resolution)
}

func lasting(in policies.Incident, now time.Time) string {
	if in.Open() {
		return "it has lasted " + span(in.Lasted(now)) + " up to now"
	}
	return "it lasted " + span(in.Lasted(now)) + ", the watch for its staying away included"
}

// repairText names the action that helped; empty: none did.
func repairText(r incidentReport) string {
	for _, rec := range r.Records {
		if rec.Outcome == policies.OutcomeSucceeded && !rec.Finished.IsZero() {
			return fmt.Sprintf("after %s by %s on %s, %s", span(rec.Finished.Sub(r.Incident.Began())), rec.Action, rec.Node, triggerText(rec.Record))
		}
	}
	return ""
}
