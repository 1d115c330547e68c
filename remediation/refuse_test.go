package remediation

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

// loneWrites leaves keys on the promoted replica that only it has.
func loneWrites(x *server) {
	x.promote()
	x.do("SET", "mine", "only here")
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, r *rig, m, x *server)
		cause policies.Cause
		by    []policies.Guard
	}{
		"promoted with writes": {func(_ *testing.T, _ *rig, _, x *server) { loneWrites(x) },
			policies.CausePromotedWithWrites, []policies.Guard{policies.GuardNoLostWrites}},
		"master restarted without data": {func(_ *testing.T, _ *rig, m, x *server) { x.promote(); m.restart() },
			policies.CauseMasterEmpty, []policies.Guard{policies.GuardMasterSafe}},
		"master restarted with fewer keys than remembered": {func(t *testing.T, r *rig, m, x *server) {
			in := r.h.opt.Config.Instances[0]
			for _, n := range in.Nodes {
				r.h.Observe(r.h.opt.Probers[prod1][n.Name].Probe(context.Background()))
			}
			x.promote()
			m.restart()
			m.fill(0, 50, 10, 0)
		}, policies.CausePromoted, []policies.Guard{policies.GuardMasterSafe, policies.GuardLineage}},
		"master restarted with fewer keys, remembered by an earlier process": {func(t *testing.T, r *rig, m, x *server) {
			s := r.h.opt.Probers[prod1]["master-"+prod1].Probe(context.Background())
			if err := r.j.Remember(context.Background(), policies.NextMemory(policies.NodeMemory{}, s)); err != nil {
				t.Fatal(err)
			}
			x.promote()
			m.restart()
			m.fill(0, 50, 10, 0)
		}, policies.CausePromoted, []policies.Guard{policies.GuardMasterSafe, policies.GuardLineage}},
		"master flushed and written to again: the detached replica holds the last copy": {func(_ *testing.T, _ *rig, m, x *server) {
			x.promote()
			m.do("FLUSHALL")
			m.fill(0, 1, 10, 0)
		}, policies.CausePromoted, []policies.Guard{policies.GuardNoLostWrites}},
		"replica that was writable before it was promoted": {func(_ *testing.T, _ *rig, m, x *server) {
			x.do("CONFIG", "SET", "replica-read-only", "no")
			x.do("SET", "only-here", "1")
			x.promote()
		}, policies.CausePromoted, []policies.Guard{policies.GuardNoLostWrites}},
		"two masters that never met": {func(_ *testing.T, _ *rig, _, x *server) {
			x.restart()
			x.fill(0, 90, 10, 0)
		}, policies.CausePromoted, []policies.Guard{policies.GuardLineage}},
		"a promoted node with a replica of its own": {func(t *testing.T, _ *rig, _, x *server) {
			x.promote()
			startServer(t).follow(x)
		}, policies.CauseTwoMasters, []policies.Guard{policies.GuardNoLostWrites}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, x := pair(t)
			r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), "")
			c.spoil(t, r, m, x)
			r.start()
			check := untouched(t, m, x)
			r.alarm(prod1, replication)
			rec := r.refuses(prod1, replication, c.cause, c.by...)
			if rec.Mode != policies.Live || rec.Action != policies.ReattachReplica {
				t.Errorf("record %+v", rec)
			}
			rounds(t, x, 2)
			r.only(prod1, 1)
			check()
			r.whole()
		})
	}
}

func TestWhatNoActionCures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(m, x *server)
		cause policies.Cause
		alive func(m, x *server) *server
	}{
		"the master is down":     {func(m, _ *server) { m.kill() }, policies.CauseMasterDown, func(_, x *server) *server { return x }},
		"the replica is down":    {func(_, x *server) { x.kill() }, policies.CauseNodeDown, func(m, _ *server) *server { return m }},
		"the replica is stopped": {func(_, x *server) { x.hang() }, policies.CauseNodeHung, func(m, _ *server) *server { return m }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, x := pair(t)
			cfg := fleet(instance(prod1, reattachLive, m, x))
			cfg.Agent.Timeout = 500 * time.Millisecond
			r := newRig(t, cfg, "").start()
			alive := c.alive(m, x)
			c.spoil(m, x)
			eventually(t, "the other node sees it", func() bool { return alive == m || !x.linkUp() })
			check := untouched(t, alive)
			r.alarm(prod1, replication)
			rec := r.refuses(prod1, replication, c.cause)
			if rec.Action != "" || !strings.Contains(rec.Error, "no action cures") {
				t.Errorf("record %+v, want no action and the reason", rec)
			}
			r.waitLine("escalated: no action cures "+string(c.cause), "a person is needed")
			rounds(t, alive, 2)
			if n := r.lines.count("diagnosis: " + string(c.cause)); n > 2 { // a master that is down is two faults
				t.Errorf("the diagnosis was said %d times", n)
			}
			check()
			r.whole()
		})
	}
}

func TestWithoutMasterauthNothingIsSent(t *testing.T) {
	t.Parallel()
	with := func(t *testing.T) (m, x *server, c policies.Config) {
		m, x = startServer(t, "--requirepass", "s3cret-of-test"), startServer(t, "--requirepass", "s3cret-of-test")
		m.fill(0, 100, 10, 0)
		x.do("CONFIG", "SET", "masterauth", "s3cret-of-test")
		x.follow(m)
		eventually(t, "the replica holds all keys", func() bool { return x.keys(0) == 100 })
		in := instance(prod1, reattachLive, m, x)
		in.Password = "s3cret-of-test"
		return m, x, fleet(in)
	}
	t.Run("a promoted replica that has lost it", func(t *testing.T) {
		t.Parallel()
		m, x, c := with(t)
		r := newRig(t, c, "").start()
		x.promote()
		x.do("CONFIG", "SET", "masterauth", "")
		check := untouched(t, m, x)
		r.alarm(prod1, replication)
		rec := r.refuses(prod1, replication, policies.CausePromoted, policies.GuardAuth)
		if !slices.Equal(steady(rec.DeniedBy), []policies.Guard{policies.GuardAuth}) {
			t.Errorf("denied by %v, want auth alone", rec.DeniedBy)
		}
		check()
		r.noSecret("s3cret-of-test")
		r.whole()
	})
	t.Run("a promoted replica that has it", func(t *testing.T) {
		t.Parallel()
		m, x, c := with(t)
		r := newRig(t, c, "").start()
		x.promote()
		r.alarm(prod1, replication)
		eventually(t, "the link is up", x.linkUp)
		r.record(prod1, replication, policies.OutcomeSucceeded)
		_ = m
		r.noSecret("s3cret-of-test")
		r.whole()
	})
	t.Run("a replica that cannot log in", func(t *testing.T) {
		t.Parallel()
		m, x, c := with(t)
		r := newRig(t, c, "")
		x.do("CONFIG", "SET", "masterauth", "")
		m.do("CLIENT", "KILL", "TYPE", "slave")
		eventually(t, "the link is down", func() bool { return !x.linkUp() })
		const looks = 50 // it tries hundreds of times a second, and is in another state each time
		seen := map[policies.Cause]int{}
		for range looks {
			g := r.h.machine(prod1).probeAll(t.Context())
			for _, t := range policies.TriageReplication(g, time.Now()) {
				seen[t.Cause]++
			}
		}
		if seen[policies.CauseAuth] != looks {
			t.Errorf("causes of %d looks at a replica that cannot log in: %v, want auth each time", looks, seen)
		}
		r.start()
		check := untouched(t, x)
		r.alarm(prod1, replication)
		if rec := r.refuses(prod1, replication, policies.CauseAuth); rec.Action != "" {
			t.Errorf("record %+v, want no action", rec)
		}
		check()
		r.whole()
	})
}

// noSecret checks that a password is in no line, no log and no record.
func (r *rig) noSecret(secret string) {
	r.t.Helper()
	for _, rec := range r.records(prod1) {
		_, entries, err := r.j.Show(context.Background(), rec.ID)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, e := range entries {
			if strings.Contains(string(e.Body), secret) {
				r.t.Errorf("a %s entry of the journal holds the password", e.Kind)
			}
		}
	}
	if strings.Contains(r.lines.String()+r.log.String(), secret) {
		r.t.Error("the lines or the log hold the password")
	}
}

func TestARenamedCommandIsRefusedByCapability(t *testing.T) {
	t.Parallel()
	m := startServer(t)
	m.fill(0, 100, 10, 0)
	x := startServer(t, "--rename-command", "REPLICAOF", "", "--rename-command", "SLAVEOF", "follow", "--replicaof", m.addr.Host+" "+portOf(m))
	eventually(t, "the link is up", x.linkUp)
	r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), "").start()
	x.do("follow", "NO", "ONE")
	check := untouched(t, m, x)
	r.alarm(prod1, replication)
	rec := r.refuses(prod1, replication, policies.CausePromoted, policies.GuardCapability)
	if !slices.Equal(steady(rec.DeniedBy), []policies.Guard{policies.GuardCapability}) {
		t.Errorf("denied by %v, want capability alone", rec.DeniedBy)
	}
	check()
	r.whole()
}

func TestACommandForbiddenByACLIsUnsupportedAndTriedOnce(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	for _, s := range []*server{m, x} {
		s.do("ACL", "SETUSER", "healer", "on", ">pw", "~*", "&*", "+@all", "-replicaof")
	}
	in := instance(prod1, reattachLive, m, x)
	in.Username, in.Password = "healer", "pw"
	r := newRig(t, fleet(in), "").start()
	x.promote()
	before := x.state()
	x.do("CONFIG", "RESETSTAT")
	for range 3 { // three alarms and the rounds between them
		r.alarm(prod1, replication)
		rec := r.record(prod1, replication, policies.OutcomeUnsupported)
		if !strings.Contains(rec.Error, "NOPERM") || rec.Cause != policies.CausePromoted {
			t.Errorf("record %+v, want the refusal of the server", rec)
		}
		r.waitState(prod1, policies.StateEscalated)
		rounds(t, x, 2)
	}
	if n := x.calls()["replicaof"]; n != 1 {
		t.Errorf("REPLICAOF was tried %d times by the server's count, want once", n)
	}
	if log, _ := x.do("ACL", "LOG").([]any); len(log) != 1 {
		t.Errorf("%d entries in ACL LOG, want one", len(log))
	}
	if now := x.state(); now != before {
		t.Errorf("it was %s and is %s", before, now)
	}
	r.only(prod1, 1)
	for _, s := range []*server{m, x} {
		s.do("ACL", "SETUSER", "healer", "+replicaof")
	}
	rounds(t, x, 1)
	if n := x.calls()["replicaof"]; n != 1 {
		t.Errorf("given up, and tried %d times all the same", n)
	}
	if _, err := r.j.Acknowledge(context.Background(), r.incidents(1)[0].ID, policies.Ack{By: "ann", Note: "the right is granted"}); err != nil {
		t.Fatal(err)
	}
	r.record(prod1, replication, policies.OutcomeSucceeded)
	b := r.h.breakers
	if data, err := b.store.GetData("gobreaker:state:" + breakerName(prod1, policies.ReattachReplica)); err != nil || !strings.Contains(string(data), `"TotalFailures":0`) {
		t.Errorf("breaker %s (%v), want no failure counted", data, err)
	}
	r.whole()
}

func TestASwitchoverIsNeverUndone(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), "").start()
	x.promote()
	m.follow(x)
	x.do("SET", "after", "the switch")
	eventually(t, "the old master has it", func() bool { return m.keys(0) == 101 })
	check := untouched(t, m, x)
	for range 3 {
		n := r.lines.count("refuted")
		r.alarm(prod1, replication)
		eventually(t, "a refuted line", func() bool { return r.lines.count("refuted") > n })
	}
	r.waitState(prod1, policies.StateIdle)
	r.only(prod1, 0)
	check()
	r.whole()
}

func TestAHealthyChainIsLeftAlone(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	y := startServer(t)
	y.follow(x)
	eventually(t, "the end of the chain holds all keys", func() bool { return y.keys(0) == 100 })
	r := newRig(t, fleet(instance(prod1, reattachLive, m, x, y)), "").start()
	check := untouched(t, m, x, y)
	r.alarm(prod1, replication)
	r.waitLine("refuted")
	r.waitState(prod1, policies.StateIdle)
	r.only(prod1, 0)
	check()
	r.whole()
}
