package remediation

import (
	"testing"

	"dcshealer/policies"
)

// bothFaults is a full master whose replica was promoted and written to: one fault can be cured, one needs a person.
func bothFaults(t *testing.T) (m, x *server, r *rig) {
	t.Helper()
	m, x = pair(t)
	x.promote()
	x.do("SET", "mine", "only here")
	m.stale(100_000, 0)
	m.limit(100)
	r = newRig(t, fleet(instance(prod1, policies.Actions[:], m, x)), "").start()
	m.do("CONFIG", "RESETSTAT")
	x.do("CONFIG", "RESETSTAT")
	return m, x, r
}

func TestAnEscalatedFaultDoesNotKeepAnotherWaiting(t *testing.T) {
	t.Parallel()
	m, x, r := bothFaults(t)
	r.alarm(prod1, replication)
	if rec := r.record(prod1, replication, policies.OutcomeDenied); rec.Cause != policies.CausePromotedWithWrites {
		t.Errorf("cause %s", rec.Cause)
	}
	r.record(prod1, memory, policies.OutcomeSucceeded) // although no alarm told of it
	r.waitState(prod1, policies.StateEscalated)
	x.wantWrites(map[string]int{})
	if w := m.writes(); w["scan"] == 0 || w["config|set"] != 2 || len(w) != 2 {
		t.Errorf("the master was sent %v", w)
	}
	m.takesWrites()
	rounds(t, m, 2)
	r.waitState(prod1, policies.StateEscalated)
	r.sent(prod1, 1)
	r.whole()
}

func TestAWatchedRepairGoesOnBeingWatchedWhenTheOtherFaultIsGone(t *testing.T) {
	t.Parallel()
	m, x, r := bothFaults(t)
	r.alarm(prod1, replication)
	r.record(prod1, memory, policies.OutcomeSucceeded)
	x.follow(m) // a person decided
	r.waitLine("resolved: replication_status", "somebody made replica-"+prod1+"-1 a replica of ")
	r.waitLine("resolved: used_memory_mb", "still well 10s after the repair")
	r.waitState(prod1, policies.StateIdle)
	if n := r.log.count("round failed"); n > 0 {
		t.Errorf("%d rounds failed while the repair was watched", n)
	}
	for _, in := range r.incidents(2) {
		want := policies.ResolvedByUs
		if in.Metric == replication {
			want = policies.ResolvedByOther
		}
		if in.Resolution != want {
			t.Errorf("%+v: want the resolution %s", in, want)
		}
	}
	r.whole()
}
