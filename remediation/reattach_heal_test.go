package remediation

import (
	"slices"
	"strings"
	"testing"
	"time"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

const (
	replication = policies.MetricReplication
	memory      = policies.MetricUsedMemory
)

// healed checks the record of a reattachment, and by the servers' own count that REPLICAOF went out once, to the replica alone.
func (r *rig) healed(cause policies.Cause, m, x *server) policies.Record {
	r.t.Helper()
	rec := r.record(prod1, replication, policies.OutcomeSucceeded)
	x.wantWrites(map[string]int{"replicaof": 1})
	m.wantWrites(map[string]int{})
	want := []string{"REPLICAOF", m.addr.Host, portOf(m)}
	switch {
	case rec.Cause != cause:
		r.t.Errorf("cause %s, want %s", rec.Cause, cause)
	case len(rec.Commands) != 1 || !slices.Equal(rec.Commands[0].Args, want) || rec.Commands[0].Reply != "OK" || rec.Commands[0].Node != rec.Node:
		r.t.Errorf("commands %+v, want %v to %s once, answered OK", rec.Commands, want, rec.Node)
	case rec.Mode != policies.Live || rec.Action != policies.ReattachReplica || len(rec.DeniedBy) > 0 || rec.Finished.IsZero():
		r.t.Errorf("record %+v", rec)
	case rec.Effect["attached"] != true || rec.After[rec.Node] == nil || rec.Before[rec.Node] == nil:
		r.t.Errorf("effect %v, after %v: want the proof", rec.Effect, rec.After)
	}
	if got := x.info("replication"); got["role"] != "slave" || got["master_port"] != portOf(m) || got["master_link_status"] != "up" {
		r.t.Errorf("the replica says %v", got)
	}
	if a, b := x.do("DEBUG", "DIGEST"), m.do("DEBUG", "DIGEST"); a != b {
		r.t.Errorf("digest %v on the replica, %v on its master", a, b)
	}
	r.waitLine("result: succeeded: reattach-replica", rec.ID)
	return rec
}

func portOf(s *server) string { return s.addr.String()[strings.LastIndex(s.addr.String(), ":")+1:] }

func TestAPromotedReplicaWithoutWritesIsPutBackAndWatched(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), "").start()
	x.promote()
	x.do("CONFIG", "RESETSTAT")
	m.do("CONFIG", "RESETSTAT")
	a := r.alarm(prod1, replication)
	rec := r.healed(policies.CausePromoted, m, x)
	r.waitState(prod1, policies.StateCooldown)
	switch {
	case rec.Alarm != a.ID || rec.Incident == "" || rec.Trigger != policies.TriggerAlarm || rec.Node != "replica-"+prod1+"-1":
		t.Errorf("record %+v does not name its alarm, incident, trigger and node", rec)
	case rec.Expect.Resync != policies.ResyncFull || rec.Effect["predicted"] != "full" || rec.Effect["resync"] != "full" || rec.Effect["persistent"] != false:
		t.Errorf("expected %+v, effect %v: a promoted node comes back by a full copy", rec.Expect, rec.Effect)
	}
	if n := r.lines.count("Replication interruption detected -> Attempting to reconnect to the replica: unknown"); n != 1 {
		t.Errorf("the first line came %d times, want once", n)
	}
	for _, parts := range [][]string{{"diagnosis: promoted: "}, {"plan (live): reattach-replica", "REPLICAOF 127.0.0.1 " + portOf(m), "a full resync"}} {
		if n := r.lines.count(parts...); n != 1 {
			t.Errorf("%d lines with %q, want one", n, parts)
		}
	}
	r.waitLine("resolved: replication_status on replica-" + prod1 + "-1 (promoted): still well 10s after the repair")
	r.waitState(prod1, policies.StateIdle)
	rec = r.record(prod1, replication, policies.OutcomeSucceeded)
	if len(rec.Notes) != 1 || !strings.Contains(rec.Notes[0].Text, "still well") || rec.Notes[0].At.Sub(rec.Finished) < watchFor-time.Second {
		t.Errorf("notes %+v, want one about 10 s after %s", rec.Notes, rec.Finished)
	}
	r.only(prod1, 1)
	x.wantWrites(map[string]int{"replicaof": 1})
	in := r.incidents(1)[0]
	if in.ID != rec.Incident || in.Alarm != a.ID || in.Cause != policies.CausePromoted || in.Trigger != policies.TriggerAlarm || in.Resolution != policies.ResolvedByUs ||
		in.Alarmed.IsZero() || in.Seen.Before(in.Alarmed) || in.Opened.Before(in.Seen) || in.Closed.Sub(rec.Finished) < watchFor-time.Second {
		t.Errorf("incident %+v of %+v: want it from the alarm to the proof that the repair stayed", in, rec)
	}
	r.whole()
}

func TestDryRunSendsNothingUntilAPersonEnablesLive(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	r := newRig(t, fleet(instance(prod1, dry, m, x)), "").start()
	x.promote()
	check := untouched(t, m, x)
	r.grant(prod1, policies.ReattachReplica, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)) // is over
	r.alarm(prod1, replication)
	rec := r.record(prod1, replication, policies.OutcomePlanned)
	r.waitState(prod1, policies.StateHeld)
	if rec.Mode != policies.DryRun || !slices.Equal(rec.DeniedBy, []policies.Guard{policies.GuardMode}) || len(rec.Commands) > 0 || len(rec.Planned) != 1 {
		t.Errorf("record %+v, want a plan that the dry run alone stops", rec)
	}
	rounds(t, x, 3)
	r.waitState(prod1, policies.StateHeld)
	r.only(prod1, 1) // said once, asked again
	if n := r.lines.count("plan (dry-run): "); n != 1 {
		t.Errorf("the plan was said %d times, want once", n)
	}
	check()

	x.do("CONFIG", "RESETSTAT")
	m.do("CONFIG", "RESETSTAT")
	start := time.Now()
	r.grant(prod1, policies.ReattachReplica, time.Now(), time.Now().Add(time.Hour))
	r.healed(policies.CausePromoted, m, x)
	t.Logf("healed %s after live was enabled", time.Since(start).Round(time.Millisecond))
	r.whole()
}

func TestTheDryRunFlagBeatsLive(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), "")
	r.h.opt.DryRun = true
	r.start()
	x.promote()
	check := untouched(t, m, x)
	r.grant(prod1, policies.ReattachReplica, time.Now(), time.Time{})
	r.alarm(prod1, replication)
	r.record(prod1, replication, policies.OutcomePlanned)
	rounds(t, x, 2)
	check()
	r.whole()
}

func TestAReplicaThatFollowsAnotherIsPutBack(t *testing.T) {
	t.Parallel()
	for name, astray := range map[string]func(t *testing.T, x *server){
		"a live master with other data": func(t *testing.T, x *server) {
			other := startServer(t)
			other.fill(0, 7, 10, 0)
			x.follow(other)
			eventually(t, "the replica holds the other master's data", func() bool { return x.keys(0) == 7 })
		},
		"a dead port": func(t *testing.T, x *server) { x.do("REPLICAOF", "127.0.0.1", redistest.FreePort(t)) },
		"itself":      func(_ *testing.T, x *server) { x.do("REPLICAOF", x.addr.Host, x.addr.Port) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, x := pair(t)
			r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), "").start()
			astray(t, x)
			x.do("CONFIG", "RESETSTAT")
			m.do("CONFIG", "RESETSTAT")
			r.alarm(prod1, replication)
			rec := r.healed(policies.CauseWrongMaster, m, x)
			if rec.Effect["resync"] != rec.Effect["predicted"] {
				t.Errorf("predicted %v, the master counted %v", rec.Effect["predicted"], rec.Effect["resync"])
			}
			r.only(prod1, 1)
			r.whole()
		})
	}
}

func TestTwoPromotedReplicasArePutBackOneAfterAnother(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	y := startServer(t)
	y.follow(m)
	c := fleet(instance(prod1, reattachLive, m, x, y))
	adjust(&c, func(p *policies.Policy) { p.Reattach.Cooldown = 0 })
	r := newRig(t, c, "").start()
	x.promote()
	y.promote()
	x.do("CONFIG", "RESETSTAT")
	y.do("CONFIG", "RESETSTAT")
	r.alarm(prod1, replication)
	eventually(t, "both links are up", func() bool { return x.linkUp() && y.linkUp() })
	eventually(t, "two records", func() bool {
		return len(r.records(prod1)) == 2 && r.records(prod1)[0].Outcome == policies.OutcomeSucceeded
	})
	x.wantWrites(map[string]int{"replicaof": 1})
	y.wantWrites(map[string]int{"replicaof": 1})
	if all := r.records(prod1); all[0].At.Before(all[1].Finished) || all[0].Incident == all[1].Incident {
		t.Errorf("the second began at %s, the first ended at %s; incidents %s, %s", all[0].At, all[1].Finished, all[0].Incident, all[1].Incident)
	}
	r.whole()
}

func TestARepairThatIsUndoneTwiceIsATugOfWar(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	c := fleet(instance(prod1, reattachLive, m, x))
	adjust(&c, func(p *policies.Policy) { p.Reattach.Cooldown = 0 })
	r := newRig(t, c, "").start()
	for n := range 2 {
		x.promote()
		r.alarm(prod1, replication)
		eventually(t, "it is put back", func() bool {
			all := r.records(prod1)
			return len(all) == n+1 && all[0].Outcome == policies.OutcomeSucceeded
		})
	}
	x.promote()
	check := untouched(t, m, x)
	r.alarm(prod1, replication)
	r.refuses(prod1, replication, policies.CausePromoted, policies.GuardTugOfWar)
	rounds(t, x, 2)
	check()
	r.only(prod1, 3)
	wantBreaker(t, r.h.breakers, breakerName(prod1, policies.ReattachReplica), "closed")
	if n := r.lines.count("resolved:"); n != 0 {
		t.Errorf("%d lines say resolved, the repairs did not hold", n)
	}
	r.whole()
}

// BenchmarkDetachToLinkUp measures, beside a bare REPLICAOF sent at once in the same run, from the promotion of a replica to its link being up again, at default settings but
// for the rests between two repairs. The server's own repl-diskless-sync-delay is 0.
func BenchmarkDetachToLinkUp(b *testing.B) {
	m, x := pair(b)
	c := fleet(instance(prod1, reattachLive, m, x))
	adjust(&c, func(p *policies.Policy) { p.Reattach.Cooldown, p.Reattach.Undone = 0, 0 })
	r := newRig(b, c, "").start()
	var took, bare []time.Duration
	for b.Loop() {
		b.StopTimer()
		x.promote()
		byHand := time.Now()
		x.do("REPLICAOF", m.addr.Host, m.addr.Port)
		for !x.linkUp() {
			time.Sleep(time.Millisecond)
		}
		bare = append(bare, time.Since(byHand))
		b.StartTimer()
		n := len(r.records(prod1))
		start := time.Now()
		x.promote()
		r.alarm(prod1, replication)
		for !x.linkUp() {
			time.Sleep(time.Millisecond)
		}
		took = append(took, time.Since(start))
		eventually(b, "the record is closed", func() bool {
			all := r.records(prod1)
			return len(all) > n && all[0].Outcome == policies.OutcomeSucceeded
		})
	}
	slices.Sort(took)
	slices.Sort(bare)
	b.ReportMetric(float64(took[len(took)/2])/float64(bare[len(bare)/2]), "x-bare-replicaof")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
}
