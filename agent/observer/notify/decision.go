package notify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"dcshealer/policies"
)

// Decision is what to tell of a record of the journal that has come to its outcome, if anything. A repair that was sent is told as such. A
// refusal is told where no time and no setting lifts it: then nothing is repaired until a person acts. What a person did by hand and was
// refused, they have read. Of once that is not empty only the first event is told. Pure.
func Decision(r policies.Record) (e Event, once string, tell bool) {
	e = Event{Kind: KindRepair, At: cmp.Or(r.Finished, r.At).UTC(), Instance: r.Instance, Node: r.Node, Metric: r.Metric, Incident: r.Incident,
		Record: r.ID, Action: r.Action, Outcome: r.Outcome, Cause: r.Cause}
	switch r.Outcome {
	case policies.OutcomeSucceeded, policies.OutcomeIneffective, policies.OutcomeFailed, policies.OutcomeInterrupted:
		if r.Mode != policies.Live {
			return e, "", false
		}
		e.Msg = fmt.Sprintf("%s on %s (%s): %s%s", r.Action, r.Node, r.Cause, r.Outcome, after(": ", r.Error))
	case policies.OutcomeUnsupported, policies.OutcomeDenied:
		why := refusal(r)
		if why == "" || r.Trigger == policies.TriggerManual {
			return e, "", false
		}
		e.Kind, e.Msg = KindRefusal, why
		once = strings.Join([]string{"refusal", r.Instance, r.Incident, string(r.Cause)}, "\x00")
	default:
		return e, "", false
	}
	e.Msg = clean(e.Msg, maxMsg) + "; dcshealer actions show " + r.ID
	return e, once, true
}

// refusal is why no repair comes without a person; empty: it comes by itself.
func refusal(r policies.Record) string {
	if r.Action == "" {
		return cmp.Or(r.Error, "no action cures "+string(r.Cause))
	}
	what := fmt.Sprintf("%s on %s is ", r.Action, r.Node)
	if r.Outcome == policies.OutcomeUnsupported {
		return what + "not supported there" + after(": ", r.Error)
	}
	i := slices.IndexFunc(r.Guards, func(g policies.Ruling) bool { return g.Denied() && !g.Temporary })
	if i < 0 {
		return ""
	}
	return fmt.Sprintf("%srefused by %s: %s", what, r.Guards[i].Guard, r.Guards[i].Reason)
}

func after(sep, text string) string {
	if text == "" {
		return ""
	}
	return sep + text
}
