package main

import (
	"testing"
	"time"

	"dcshealer/policies"
)

// A replica that comes off its master is back within 3 s at an interval of 1 s, time after time. It runs alone, as it measures.
func TestReplicaIsBackWithinThreeSeconds(t *testing.T) {
	f := newFleet(t)
	f.agent, f.policies = "interval: 1s, timeout: 500ms, repeat: 1m", eager
	in := newPair(t)
	f.addPair("one", liveBoth, in)
	p := running(t, "-c", f.write())
	for round := range 3 {
		p.until("no alarm stands", func() bool { return p.alarms("one")%2 == 0 })
		broken := time.Now()
		in.r.detach()
		p.until("the replica is linked again", in.r.linked)
		took := time.Since(broken)
		t.Logf("round %d: link up %s after REPLICAOF NO ONE", round, took.Round(time.Millisecond))
		if took >= 3*time.Second {
			t.Errorf("round %d: %s, want less than 3 s", round, took)
		}
		until(t, "the repair is recorded", func() bool { return len(f.records("--outcome", "succeeded")) == round+1 })
	}
	p.stopsWell(sigterm)
}

// alarms is how many critical alarms of an instance the agent has published: they fire and resolve by turns.
func (p *process) alarms(instance string) int {
	return len(p.lines("[Monitoring agent] CRITICAL | " + instance + " | "))
}

// A fault that comes and goes is still a fault: what keeps a flapping alarm from waking people must not keep the healer waiting
// for the alarm's next repeat.
func TestFlappingReplicaIsBackSoonToo(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.policies = eager
	in := newPair(t)
	f.addPair("one", liveBoth, in)
	p := running(t, "-c", f.write())
	for n := range 3 {
		in.r.detach()
		p.until("it is healed", in.r.linked)
		p.until("the alarm fired once more", func() bool { return p.alarms("one") > 2*n })
		if n < 2 { // from the third firing on the alarm flaps, and stands although all is well
			p.until("the alarm is resolved", func() bool { return p.alarms("one") > 2*n+1 })
		}
	}
	p.until("the healer has nothing open any more", func() bool { return f.status().Instances[0].State == policies.StateIdle })
	broken := time.Now()
	in.r.detach()
	p.until("it is healed once more", in.r.linked)
	if took := time.Since(broken); took > 4*time.Second {
		t.Errorf("the repair came after %s, at an interval of 200 ms", took)
	}
	p.stopsWell(sigterm)
}

// A master full of expired keys takes writes again within 5 s of the alarm.
func TestFullMasterTakesWritesWithinFiveSeconds(t *testing.T) {
	f := newFleet(t)
	f.agent, f.policies = "interval: 1s, timeout: 500ms, repeat: 1m", eager
	m := startServer(t)
	f.add("one", liveBoth, master("m", m))
	p := running(t, "-c", f.write())
	m.expire(200_000)
	p.prints("Full memory detected -> Automatic cleanup triggered: one")
	alarm := time.Now()
	p.until("writes are taken again", m.takesWrites)
	took := time.Since(alarm)
	r := f.outcome("one", policies.OutcomeSucceeded)
	t.Logf("writes %s after the alarm; the sweep: %v keys, %v bytes in %v s, longest call %v s, stopped: %v", took.Round(time.Millisecond),
		r.Effect["keys"], r.Effect["bytes"], r.Effect["took"], r.Effect["longest_call"], r.Effect["detail"])
	if took >= 5*time.Second {
		t.Errorf("%s, want less than 5 s", took)
	}
	if keys, _ := r.Effect["keys"].(float64); keys < 50_000 || r.Effect["solved"] != true || m.number("expired_keys") < int64(keys) {
		t.Errorf("effect %v, expired_keys %s", r.Effect, m.info("expired_keys"))
	}
	p.prints("result: succeeded: reclaim-expired on m:")
	p.stopsWell(sigterm)
}
