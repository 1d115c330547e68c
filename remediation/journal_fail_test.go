package remediation

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

func TestWithoutAJournalTheHealerDoesNotRun(t *testing.T) {
	t.Parallel()
	h := New(Options{Config: fleet(), Lines: &text{}, Log: newRig(t, fleet(), "").h.log, JournalErr: errors.New("the disk is gone")})
	if err := h.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "the disk is gone") {
		t.Errorf("Run returned %v, want the reason", err)
	}
}

func TestAJournalThatFailsOnTheWayStopsAllActions(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), "").start()
	x.promote()
	check := untouched(t, m, x)
	if err := r.j.Close(); err != nil {
		t.Fatal(err)
	}
	r.alarm(prod1, replication)
	r.waitLine("held: ", "runtime settings cannot be read")
	r.waitState(prod1, policies.StateHeld)
	if n := r.lines.count("plan ():"); n > 0 {
		t.Error("the plan's mode is empty: an unknown mode is dry run's")
	}
	rounds(t, x, 2)
	check()
}

func TestAJournalThatCannotBeWrittenStopsAllActions(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	dir := t.TempDir()
	r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), dir)
	ro, err := journal.OpenReadOnly(t.Context(), dir) // reading goes on, writing fails, as on a full disk
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	r.h.opt.Journal, r.h.breakers = ro, newBreakers(ro)
	x.promote()
	check := untouched(t, m, x)
	l := r.h.machine(prod1).confirm(t.Context())
	if len(l.faults) != 1 {
		t.Fatalf("faults %+v", l.faults)
	}
	if err := r.h.machine(prod1).drive(t.Context(), eventSuspect); err != nil {
		t.Fatal(err)
	}
	if _, err := r.h.machine(prod1).work(t.Context(), l, l.faults[0]); err != nil {
		t.Fatal(err)
	}
	if n := r.lines.count("held: the journal cannot be written, and nothing is done without a record"); n != 1 {
		t.Errorf("said %d times, want once:\n%s", n, r.lines)
	}
	if r.state(prod1) != policies.StateHeld {
		t.Errorf("state %s, want held", r.state(prod1))
	}
	check()
}

func TestAnActionLockHeldByAnotherIsWaitedFor(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	dir := t.TempDir()
	other := openJournal(t, dir) // a hold of its own, as another process has
	unlock, err := other.Lock(context.Background(), prod1)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), dir).start()
	x.promote()
	check := untouched(t, m, x)
	r.alarm(prod1, replication)
	r.waitLine("held: busy: ", "wait until it is done")
	r.waitState(prod1, policies.StateHeld)
	rounds(t, x, 3)
	check()
	if n := r.lines.count("held: busy: "); n != 1 {
		t.Errorf("that it is held was said %d times in three rounds, want once", n)
	}
	x.do("CONFIG", "RESETSTAT")
	start := time.Now()
	unlock()
	r.healed(policies.CausePromoted, m, x)
	t.Logf("healed %s after the lock was free", time.Since(start).Round(time.Millisecond))
	r.whole()
}
