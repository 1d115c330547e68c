package remediation

import (
	"errors"
	"slices"
	"testing"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// incidents are those of the journal, newest first; want is their number.
func (r *rig) incidents(want int) []policies.Incident {
	r.t.Helper()
	all, err := r.j.Incidents(r.t.Context(), journal.IncidentFilter{})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(all) != want {
		r.t.Fatalf("incidents %+v, want %d", all, want)
	}
	return all
}

// ended waits until the journal has the incident closed.
func (r *rig) ended(id string) policies.Incident {
	r.t.Helper()
	var in policies.Incident
	eventually(r.t, "incident "+id+" is closed", func() bool {
		f, err := r.j.Incident(r.t.Context(), id)
		in = f.Incident
		return err == nil && !in.Open()
	})
	return in
}

func TestAnEscalatedIncidentStaysEscalatedAfterARestartUntilAPersonTakesIt(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	loneWrites(x)
	c, dir := fleet(instance(prod1, reattachLive, m, x)), t.TempDir()
	first := newRig(t, c, dir).start()
	first.alarm(prod1, replication)
	rec := first.refuses(prod1, replication, policies.CausePromotedWithWrites, policies.GuardNoLostWrites)
	in := first.incidents(1)[0]
	first.whole()

	r := newRig(t, c, dir).start()
	check := untouched(t, m, x)
	r.waitLine("taken up: incident "+in.ID, "promoted-with-writes", in.Opened.Format(time.RFC3339))
	r.waitState(prod1, policies.StateEscalated)
	rounds(t, x, 2)
	r.only(prod1, 1)
	if n := r.lines.count("diagnosis: ") + r.lines.count("plan ("); n > 0 {
		t.Errorf("%d lines of a decision that had been made before the restart", n)
	}
	if _, err := r.j.Acknowledge(t.Context(), in.ID, policies.Ack{By: "ann"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is decided anew", func() bool { return len(r.records(prod1)) > 1 })
	r.waitState(prod1, policies.StateEscalated)
	if n := r.log.count("from=escalated to=confirming"); n != 1 {
		t.Errorf("it left escalated for confirming %d times, want once", n)
	}
	if again := r.records(prod1)[0]; again.Incident != rec.Incident || again.Cause != rec.Cause {
		t.Errorf("record %+v, want another of the incident of %+v", again, rec)
	}
	check()
	x.follow(m)
	got := r.ended(in.ID)
	if got.Resolution != policies.ResolvedByOther || got.Ack == nil || got.Ack.By != "ann" || !got.Opened.Equal(in.Opened) || got.Alarm != in.Alarm {
		t.Errorf("ended %+v, want by a person: what it was before the restart is known from the journal", got)
	}
	r.waitState(prod1, policies.StateIdle)
	r.incidents(1)
	r.whole()
}

// A word that came while no healer ran counts, too.
func TestAnAcknowledgementBeforeTheRestartIsHeard(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	loneWrites(x)
	c, dir := fleet(instance(prod1, reattachLive, m, x)), t.TempDir()
	first := newRig(t, c, dir).start()
	first.alarm(prod1, replication)
	first.refuses(prod1, replication, policies.CausePromotedWithWrites, policies.GuardNoLostWrites)
	in := first.incidents(1)[0]
	first.whole()
	if _, err := openJournal(t, dir).Acknowledge(t.Context(), in.ID, policies.Ack{By: "ann"}); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, c, dir).start()
	eventually(t, "it is decided anew", func() bool { return len(r.records(prod1)) > 1 })
	r.incidents(1)
	r.whole()
}

func TestARepairGoesOnBeingWatchedAfterARestart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(x *server)
		want  policies.Resolution
		text  string
	}{
		"it stays":        {func(*server) {}, policies.ResolvedByUs, "still well 10s after the repair"},
		"it is back then": {func(x *server) { x.promote() }, policies.CameBack, "the fault came back: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, x := pair(t)
			cfg, dir := fleet(instance(prod1, reattachLive, m, x)), t.TempDir()
			first := newRig(t, cfg, dir).start()
			x.promote()
			clearStats(m, x)
			first.alarm(prod1, replication)
			rec := first.healed(policies.CausePromoted, m, x)
			first.whole()
			c.spoil(x)
			r := newRig(t, cfg, dir).start()
			in := r.ended(rec.Incident)
			if in.Resolution != c.want || c.want == policies.ResolvedByUs && in.Closed.Sub(rec.Finished) < watchFor-time.Second {
				t.Errorf("ended %+v, want %s", in, c.want)
			}
			r.waitLine("taken up: incident " + in.ID)
			if c.want != policies.CameBack {
				r.waitLine("resolved: replication_status", c.text)
				r.incidents(1)
			} else if next := r.waitIncidents(2)[0]; next.ID == in.ID || !next.Open() {
				t.Errorf("%+v after %+v: want another incident for the fault that is back", next, in)
			}
			r.whole()
		})
	}
}

// waitIncidents waits until there are so many, and returns them newest first.
func (r *rig) waitIncidents(want int) []policies.Incident {
	r.t.Helper()
	eventually(r.t, "incidents in the journal", func() bool {
		all, err := r.j.Incidents(r.t.Context(), journal.IncidentFilter{})
		return err == nil && len(all) == want
	})
	return r.incidents(want)
}

func TestIncidentsThatNobodyWatchesAreAbandoned(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	r := newRig(t, fleet(instance(prod1, dry, m, x)), "")
	for id, where := range map[string][2]string{"01INSTANCE": {"dcs-gone-09", "n1"}, "01NODE": {prod1, "removed"}} {
		in := policies.Incident{ID: id, Instance: where[0], Node: where[1], Metric: replication, Cause: policies.CausePromoted, Opened: time.Now()}
		if err := r.j.OpenIncident(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	for _, in := range r.incidents(2) {
		if in.Open() || in.Resolution != policies.Abandoned {
			t.Errorf("%+v, want it abandoned", in)
		}
	}
	r.waitLine("dcs-gone-09 | abandoned: incident 01INSTANCE")
	r.whole()
}

func TestHealByHandWorksOnTheIncidentOfTheRunningHealer(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	c, dir := fleet(instance(prod1, dry, m, x)), t.TempDir()
	c.StateDir = dir
	r := newRig(t, c, dir)
	unlock, err := r.j.LockHealer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	r.start()
	x.promote()
	r.alarm(prod1, replication)
	rec := r.record(prod1, replication, policies.OutcomePlanned)
	hand, healed := byHand(t, c, dir, ByHand{Live: true})
	if healed.Outcome != policies.OutcomeSucceeded || healed.Incident != rec.Incident || healed.Trigger != policies.TriggerManual {
		t.Errorf("healed %+v, want of the incident %s", healed, rec.Incident)
	}
	hand.incidents(1)
	in := r.ended(rec.Incident)
	if in.Resolution != policies.ResolvedByUs || in.Closed.Sub(healed.Finished) < watchFor-time.Second || in.Trigger != policies.TriggerAlarm {
		t.Errorf("ended %+v, want the running healer to have watched the repair", in)
	}
	r.whole()
}

// What the running healer decided while the command by hand was at work hides neither that it is, nor that it has repaired.
func TestARepairBesideIsSeenBehindOurOwnDecisions(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := newRig(t, fleet(instance(prod1, dry, s)), "")
	m, inc := r.h.machine(prod1), &incident{id: "one", resting: policies.StateHeld}
	if err := r.j.OpenIncident(t.Context(), policies.Incident{ID: inc.id, Instance: prod1, Opened: time.Now()}); err != nil {
		t.Fatal(err)
	}
	unlock, err := r.j.Lock(t.Context(), prod1)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	decide := func(o policies.Outcome) string {
		t.Helper()
		id, err := r.j.Begin(t.Context(), policies.Record{Instance: prod1, Incident: inc.id, Action: policies.ReattachReplica, Mode: policies.Live, Trigger: policies.TriggerManual, At: time.Now(), Outcome: o})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	decide(policies.OutcomePlanned)
	if m.underWayBeside(t.Context(), inc) {
		t.Error("a plan is taken for an action under way")
	}
	hand := decide(policies.OutcomeRunning)
	decide(policies.OutcomeDenied)
	if !m.underWayBeside(t.Context(), inc) || inc.resting != policies.StateHeld {
		t.Errorf("what is under way is not seen; the incident is %s", inc.resting)
	}
	finished := time.Now()
	if err := errors.Join(r.j.Command(t.Context(), hand, policies.CommandRecord{Args: []string{"REPLICAOF", "h", "1"}, Reply: "OK", At: finished}),
		r.j.Finish(t.Context(), hand, journal.Result{Outcome: policies.OutcomeSucceeded, Finished: finished})); err != nil {
		t.Fatal(err)
	}
	if m.underWayBeside(t.Context(), inc) || inc.resting != policies.StateCooldown || inc.record != hand || inc.watch.Sub(finished.Add(watchFor)).Abs() > time.Millisecond {
		t.Errorf("after the repair the incident is %s with the record %s, watched until %s", inc.resting, inc.record, inc.watch)
	}
}

func TestHealByHandAloneOpensAndEndsItsIncident(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	x.promote()
	c, dir := fleet(instance(prod1, dry, m, x)), t.TempDir()
	r, planned := byHand(t, c, dir, ByHand{})
	in := r.incidents(1)[0]
	if !in.Open() || in.ID != planned.Incident || in.Trigger != policies.TriggerManual || in.Alarm != "" {
		t.Errorf("after the plan: %+v", in)
	}
	r.whole()
	r, healed := byHand(t, c, dir, ByHand{Live: true})
	in = r.incidents(1)[0]
	if healed.Incident != in.ID || in.Open() || in.Resolution != policies.ResolvedByUs {
		t.Errorf("after the repair: %+v of %+v", in, healed)
	}
	r.whole()
}

// An incident of two hours ago says nothing about how long the fault stands that is seen after a restart: somebody else may be at work on it.
func TestTheGraceForOthersBeginsAnewAfterARestart(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	x.promote()
	c, dir := fleet(instance(prod1, reattachLive, m, x)), t.TempDir()
	adjust(&c, func(p *policies.Policy) { p.Reattach.Grace = time.Hour })
	r := newRig(t, c, dir)
	old := policies.Incident{ID: "old", Instance: prod1, Node: c.Instances[0].Nodes[1].Name, Metric: replication, Cause: policies.CausePromoted, Opened: time.Now().Add(-2 * time.Hour)}
	if err := r.j.OpenIncident(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	check := untouched(t, m, x)
	r.start()
	r.waitLine("taken up: incident old")
	rec := r.record(prod1, replication, policies.OutcomeDenied)
	if rec.Incident != old.ID || !slices.Equal(steady(rec.DeniedBy), []policies.Guard{policies.GuardManagedElsewhere}) {
		t.Errorf("record %+v, want it held by the grace", rec)
	}
	rounds(t, x, 2)
	r.sent(prod1, 0)
	// By hand beside it, too.
	unlock, err := r.j.LockHealer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	c.StateDir = dir
	if _, rec := byHand(t, c, dir, ByHand{Live: true}); !slices.Equal(steady(rec.DeniedBy), []policies.Guard{policies.GuardManagedElsewhere}) || len(rec.Commands) > 0 {
		t.Errorf("by hand: %+v, want it held by the grace", rec)
	}
	check()
	r.whole()
}
