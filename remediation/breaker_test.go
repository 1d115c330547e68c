package remediation

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

func openJournal(t *testing.T, dir string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(context.Background(), dir, policies.Operator{Host: "test", PID: 1, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func count(t *testing.T, b *breakers, instance string, a policies.Action, outcomes ...policies.Outcome) {
	t.Helper()
	for _, o := range outcomes {
		if err := b.report(context.Background(), instance, a, o); err != nil {
			t.Fatal(err)
		}
	}
}

func wantBreaker(t *testing.T, b *breakers, name, want string) {
	t.Helper()
	got, err := b.state(name, time.Now())
	if err != nil || got != want {
		t.Errorf("breaker %s is %q (%v), want %s", name, got, err, want)
	}
}

func TestWhatOpensABreaker(t *testing.T) {
	t.Parallel()
	const f, i, x, s = policies.OutcomeFailed, policies.OutcomeIneffective, policies.OutcomeInterrupted, policies.OutcomeSucceeded
	const u, d = policies.OutcomeUnsupported, policies.OutcomeDenied
	for name, c := range map[string]struct {
		outcomes []policies.Outcome
		want     string
	}{
		"nothing counted":                         {nil, "closed"},
		"two failures":                            {[]policies.Outcome{f, f}, "closed"},
		"three failures":                          {[]policies.Outcome{f, f, f}, "open"},
		"three that did not help":                 {[]policies.Outcome{i, i, i}, "open"},
		"one of each kind of failure":             {[]policies.Outcome{f, i, x}, "open"},
		"a success in between":                    {[]policies.Outcome{f, f, s, f, f}, "closed"},
		"unsupported never counts":                {[]policies.Outcome{u, u, u, u, u}, "closed"},
		"denied never counts":                     {[]policies.Outcome{d, d, d, d, d}, "closed"},
		"unsupported does not reset the failures": {[]policies.Outcome{f, f, u, d, f}, "open"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBreakers(openJournal(t, t.TempDir()))
			count(t, b, prod1, policies.ReclaimExpired, c.outcomes...)
			wantBreaker(t, b, breakerName(prod1, policies.ReclaimExpired), c.want)
			wantBreaker(t, b, fleetBreakerName(policies.ReclaimExpired), c.want)
			wantBreaker(t, b, breakerName(prod1, policies.ReattachReplica), "closed")
			wantBreaker(t, b, breakerName(prod2, policies.ReclaimExpired), "closed")
		})
	}
}

func TestTheFleetBreakerCountsAllInstances(t *testing.T) {
	t.Parallel()
	b := newBreakers(openJournal(t, t.TempDir()))
	for _, in := range []string{prod1, prod2, "dcs-prod-03"} {
		count(t, b, in, policies.ReattachReplica, policies.OutcomeFailed)
		wantBreaker(t, b, breakerName(in, policies.ReattachReplica), "closed")
	}
	wantBreaker(t, b, fleetBreakerName(policies.ReattachReplica), "open")
}

func TestABreakerStaysOpenWhenTheJournalIsOpenedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := openJournal(t, dir)
	count(t, newBreakers(j), prod1, policies.ReclaimExpired, policies.OutcomeFailed, policies.OutcomeFailed)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	b := newBreakers(openJournal(t, dir)) // the count goes on where it stood
	count(t, b, prod1, policies.ReclaimExpired, policies.OutcomeFailed)
	wantBreaker(t, b, breakerName(prod1, policies.ReclaimExpired), "open")
	wantBreaker(t, newBreakers(openJournal(t, dir)), breakerName(prod1, policies.ReclaimExpired), "open")
	if got, err := b.state(breakerName(prod1, policies.ReclaimExpired), time.Now().Add(breakerRest+time.Second)); err != nil || got != "half-open" {
		t.Errorf("after its rest it is %q (%v), want half-open", got, err)
	}
	if got, _ := b.state(breakerName(prod1, policies.ReclaimExpired), time.Now().Add(breakerRest-time.Minute)); got != "open" {
		t.Errorf("a minute before the end of its rest it is %q, want open", got)
	}
}

// expire lets a breaker's rest be over, as ten minutes would.
func expire(t *testing.T, j *journal.Journal, name string) {
	t.Helper()
	store := j.BreakerStore()
	data, err := store.GetData("gobreaker:state:" + name)
	if err != nil {
		t.Fatal(err)
	}
	var s gobreaker.SharedState
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	s.Expiry = time.Now().Add(-time.Second)
	if data, err = json.Marshal(s); err == nil {
		err = store.SetData("gobreaker:state:"+name, data)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAHalfOpenBreakerIsDecidedByOneTrial(t *testing.T) {
	t.Parallel()
	for outcome, want := range map[policies.Outcome]string{
		policies.OutcomeSucceeded: "closed", policies.OutcomeFailed: "open", policies.OutcomeIneffective: "open", policies.OutcomeUnsupported: "half-open",
	} {
		t.Run(string(outcome), func(t *testing.T) {
			j := openJournal(t, t.TempDir())
			b := newBreakers(j)
			name := breakerName(prod1, policies.ReclaimExpired)
			count(t, b, prod1, policies.ReclaimExpired, policies.OutcomeFailed, policies.OutcomeFailed, policies.OutcomeFailed)
			expire(t, j, name)
			wantBreaker(t, b, name, "half-open")
			count(t, b, prod1, policies.ReclaimExpired, outcome)
			wantBreaker(t, b, name, want)
		})
	}
}

func TestAnUnreadableBreakerIsAnErrorAndNotClosed(t *testing.T) {
	t.Parallel()
	j := openJournal(t, t.TempDir())
	b := newBreakers(j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := b.state(breakerName(prod1, policies.ReclaimExpired), time.Now()); err == nil || got != "" {
		t.Errorf("state %q, error %v; want none and an error", got, err)
	}
}

// "fleet" is a legal instance name.
func TestAnInstanceNamedFleetHasABreakerOfItsOwn(t *testing.T) {
	t.Parallel()
	b := newBreakers(openJournal(t, t.TempDir()))
	count(t, b, "fleet", policies.ReclaimExpired, policies.OutcomeFailed, policies.OutcomeFailed)
	wantBreaker(t, b, fleetBreakerName(policies.ReclaimExpired), "closed") // two failures open nothing
	if breakerName("fleet", policies.ReclaimExpired) == fleetBreakerName(policies.ReclaimExpired) {
		t.Error("the breaker of the instance fleet and the one of the whole fleet have one name: each outcome counts twice, and it stops everybody")
	}
}

func TestAPersonResetsABreaker(t *testing.T) {
	t.Parallel()
	j := openJournal(t, t.TempDir())
	b := newBreakers(j)
	in := []policies.Instance{{Name: prod1}, {Name: prod2}}
	count(t, b, prod1, policies.ReattachReplica, policies.OutcomeFailed, policies.OutcomeIneffective)
	if open, err := OpenBreakers(j, in, time.Now()); err != nil || len(open) != 0 {
		t.Errorf("open after two failures: %+v, %v", open, err)
	}
	count(t, b, prod1, policies.ReattachReplica, policies.OutcomeFailed)
	open, err := OpenBreakers(j, in, time.Now())
	if err != nil || len(open) != 2 || open[0].Instance != "" || open[1].Instance != prod1 || open[1].State != "open" || open[1].Until.Sub(open[1].Since) != breakerRest {
		t.Errorf("open %+v, %v; want the fleet's and that of %s", open, err, prod1)
	}
	for _, of := range []string{prod1, ""} {
		r, err := ResetBreaker(t.Context(), j, journal.BreakerReset{Instance: of, Action: policies.ReattachReplica, Reason: "mended", By: "ann"}, time.Now())
		if err != nil || r.Was != "open" {
			t.Errorf("reset of %q: %+v, %v", of, r, err)
		}
	}
	count(t, b, prod1, policies.ReattachReplica, policies.OutcomeFailed, policies.OutcomeFailed)
	if open, err := OpenBreakers(j, in, time.Now()); err != nil || len(open) != 0 {
		t.Errorf("open after a reset and two failures: %+v, %v; want the count begun anew", open, err)
	}
}
