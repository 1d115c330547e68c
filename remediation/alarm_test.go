package remediation

import (
	"context"
	"fmt"
	"testing"
	"time"

	"dcshealer/policies"
)

func TestAForgedAlarmIsRefutedByOurOwnProbe(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	r := newRig(t, fleet(instance(prod1, policies.Actions[:], m, x)), "").start()
	check := untouched(t, m, x)
	for _, metric := range []policies.Metric{replication, memory, policies.MetricClients, policies.MetricInstanceUp} {
		n := r.lines.count("refuted")
		r.alarm(prod1, metric)
		eventually(t, "a refuted line", func() bool { return r.lines.count("refuted") > n })
	}
	r.alarm(prod1, "strange\x1b[2J_metric")
	r.waitLine("our probes cannot confirm strange_metric as critical")
	r.waitState(prod1, policies.StateIdle)
	r.only(prod1, 0)
	check()
	if r.lines.count("\x1b") > 0 {
		t.Error("a line holds an escape sequence")
	}
	r.whole()
}

func TestAnAlarmForAnUnknownInstanceProbesNothing(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	r := newRig(t, fleet(instance(prod1, policies.Actions[:], m, x)), "").start()
	m.do("CONFIG", "RESETSTAT")
	r.alarm("dcs-elsewhere-09", replication)
	r.waitLine("dcs-elsewhere-09 | not an instance of this config: nothing is probed")
	if n := r.lines.count("Replication interruption detected"); n != 1 {
		t.Errorf("the first line came %d times, want once", n)
	}
	r.whole()
	if n := m.calls()["role"]; n != 0 {
		t.Errorf("%d probes of an instance that no alarm named", n)
	}
}

func TestOnePublicationIsPrintedOnceAndAResolvedOneNot(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	r := newRig(t, fleet(instance(prod1, dry, m, x)), "").start()
	a := alarm(prod1, replication)
	for range 5 {
		r.h.Alarm(a)
	}
	const first = "Replication interruption detected"
	if n := r.lines.count(first); n != 1 {
		t.Errorf("one id was printed %d times, want once", n)
	}
	b := alarm(prod1, replication)
	b.Status = policies.Resolved
	m.do("CONFIG", "RESETSTAT")
	r.h.Alarm(b)
	eventually(t, "a resolved alarm is a hint to look", func() bool { return m.calls()["config|get"] >= 5 })
	c := alarm(prod1, replication)
	c.ID = "" // of a producer that sends none: never a duplicate
	r.h.Alarm(c)
	r.h.Alarm(c)
	if n := r.lines.count(first); n != 3 {
		t.Errorf("%d first lines, want 3: one id and two without", n)
	}
	r.whole()
}

func TestABurstOfForgedAlarmsIsCoalesced(t *testing.T) {
	t.Parallel()
	const burst = 5000
	m, x := pair(t)
	r := newRig(t, fleet(instance(prod1, policies.Actions[:], m, x)), "").start()
	check := untouched(t, m, x)
	start := time.Now()
	for i := range burst {
		a := alarm(prod1, replication)
		if i%2 == 0 {
			a.Metric = policies.Metric(fmt.Sprintf("forged_%d", i))
		}
		r.h.Alarm(a)
		r.h.Alarm(a)
	}
	took := time.Since(start)
	r.waitLine("refuted")
	eventually(t, "it is done with them", func() bool {
		m := r.h.machine(prod1)
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.wake) == 0 && len(m.claims) == 0
	})
	r.waitState(prod1, policies.StateIdle)
	if a, b := r.lines.count("Alarms received: "+prod1), r.lines.count("Replication interruption detected"); a != burst/2 || b != burst/2 {
		t.Errorf("%d and %d first lines for %d ids each", a, b, burst/2)
	}
	probes := m.calls()["config|get"] / 5
	t.Logf("%d alarms in %s cost %d probes of a node", burst, took.Round(time.Millisecond), probes)
	if probes > burst/20 {
		t.Errorf("%d alarms cost %d probes, want far fewer", burst, probes)
	}
	check()
	h := r.h.machine(prod1)
	h.mu.Lock()
	kept := len(h.alarms)
	h.mu.Unlock()
	if kept > 10 {
		t.Errorf("%d metric names are kept for good: whoever can publish can fill the memory", kept)
	}
	r.whole()
}

// An ended context at the very start is a clean stop too.
func TestAStopAtTheVeryStartIsClean(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	r := newRig(t, fleet(instance(prod1, dry, m, x)), "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.h.Run(ctx); err != nil {
		t.Errorf("Run returned %v, want nil", err)
	}
}
