package journal

import (
	"math"
	"testing"
	"time"

	"dcshealer/policies"
)

// Who follows the journal by its place gets each outcome once, also that of a record that was under way, and none before its time.
func TestSettledGivesEachOutcomeOnce(t *testing.T) {
	j := open(t, t.TempDir())
	place := int64(0)
	follow := func(limit int, want ...policies.Outcome) {
		t.Helper()
		records, upTo, err := j.Settled(t.Context(), place, limit)
		must(t, err)
		if len(records) != len(want) || upTo < place {
			t.Fatalf("%d records up to %d, want %q", len(records), upTo, want)
		}
		for i, r := range records {
			if r.Outcome != want[i] || r.Instance != "dcs-1" {
				t.Errorf("record %d: %s of %q, want %s", i, r.Outcome, r.Instance, want[i])
			}
		}
		place = upTo
	}
	follow(10)
	id, unlock := start(t, j, "dcs-1", t0)
	defer unlock()
	follow(10)
	_, err := j.Begin(t.Context(), policies.Record{Instance: "dcs-1", At: t0, Outcome: policies.OutcomeDenied})
	must(t, err)
	must(t, j.Finish(t.Context(), id, Result{Outcome: policies.OutcomeSucceeded}))
	must(t, j.Note(t.Context(), id, policies.Note{At: t0.Add(time.Minute), Text: "still up"}))
	follow(1, policies.OutcomeDenied)
	follow(1, policies.OutcomeSucceeded)
	follow(1)
	follow(1)

	end := place
	place = math.MaxInt64
	if records, upTo, err := j.Settled(t.Context(), place, 10); err != nil || len(records) > 0 || upTo != end {
		t.Errorf("of a place that it has not come to: %d records, %d, %v; want its end %d", len(records), upTo, err, end)
	}
	place = 0
	follow(10, policies.OutcomeDenied, policies.OutcomeSucceeded) // the intent of the second was none yet
}
