package remediation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// byHand heals as one process of its own would.
func byHand(t *testing.T, c policies.Config, dir string, h ByHand) (*rig, policies.Record) {
	t.Helper()
	r := newRig(t, c, dir)
	r.h.opt.Trigger = policies.TriggerManual
	got, err := r.h.HealByHand(context.Background(), prod1, h)
	if err != nil || len(got.Records) != 1 {
		t.Fatalf("healed %+v, error %v; want one record", got, err)
	}
	return r, got.Records[0]
}

func TestOwnWritesAreGivenUpByNameOnly(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	loneWrites(x)
	c, dir := fleet(instance(prod1, dry, m, x)), t.TempDir()
	node := "replica-" + prod1 + "-1"
	check := untouched(t, m, x)
	for name, h := range map[string]ByHand{
		"without the permission":             {Live: true},
		"for another node":                   {Live: true, AllowLost: "master-" + prod1},
		"for a node that there is not":       {Live: true, AllowLost: node + "0"},
		"for the node, and without --live":   {AllowLost: node},
		"for the node, and the other action": {Live: true, AllowLost: "", Action: policies.ReattachReplica},
	} {
		r, rec := byHand(t, c, dir, h)
		if rec.Outcome != policies.OutcomeDenied && (h.Live || rec.Outcome != policies.OutcomePlanned) || len(rec.Commands) > 0 {
			t.Errorf("%s: outcome %s, commands %v", name, rec.Outcome, rec.Commands)
		}
		if rec.Trigger != policies.TriggerManual {
			t.Errorf("%s: trigger %s", name, rec.Trigger)
		}
		r.whole()
	}
	check()
	r, rec := byHand(t, c, dir, ByHand{Live: true, AllowLost: node})
	if rec.Outcome != policies.OutcomeSucceeded || fmt.Sprint(rec.Effect["bypassed"]) != "[no-lost-writes]" {
		t.Errorf("outcome %s, error %q, effect %v: want it healed, and the bypass on record", rec.Outcome, rec.Error, rec.Effect)
	}
	lost, _ := rec.Effect["lost"].(map[string]any)
	if own, _ := lost["own_bytes"].(float64); lost["node"] != node || lost["keys_held"] != float64(101) || own <= 0 {
		t.Errorf("lost %v, want the node, its 101 keys and the bytes of its own", lost)
	}
	x.wantWrites(map[string]int{"replicaof": 1})
	m.wantWrites(map[string]int{})
	eventually(t, "the copy is the master's", func() bool { return x.do("DEBUG", "DIGEST") == m.do("DEBUG", "DIGEST") })
	r.whole()
}

func TestAPermissionIsForOneHealingOnly(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	c := fleet(instance(prod1, reattachLive, m, x))
	adjust(&c, func(p *policies.Policy) { p.Reattach.Cooldown = 0 })
	dir, node := t.TempDir(), "replica-"+prod1+"-1"
	loneWrites(x)
	if _, rec := byHand(t, c, dir, ByHand{Live: true, AllowLost: node}); rec.Outcome != policies.OutcomeSucceeded {
		t.Fatalf("record %+v", rec)
	}
	loneWrites(x)
	check := untouched(t, m, x)
	r := newRig(t, c, dir).start()
	r.alarm(prod1, replication)
	r.refuses(prod1, replication, policies.CausePromotedWithWrites, policies.GuardNoLostWrites)
	check()
	r.whole()
}

// Between the last look at the journal and the incident of its own another process opens one of the same fault: this one works on that.
func TestAnIncidentThatAnotherProcessIsQuickerToOpenIsGoneOnWith(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	x.promote()
	r := newRig(t, fleet(instance(prod1, dry, m, x)), t.TempDir())
	id, fresh := r.h.opt.NewID, sync.OnceFunc(func() {
		err := r.j.OpenIncident(t.Context(), policies.Incident{ID: "01QUICKER", Instance: prod1, Node: "replica-" + prod1 + "-1", Metric: replication, Cause: policies.CausePromoted, Opened: time.Now()})
		if err != nil {
			t.Error(err)
		}
	})
	r.h.opt.NewID = func() string { fresh(); return id() }
	got, err := r.h.HealByHand(t.Context(), prod1, ByHand{})
	if err != nil || len(got.Records) != 1 || got.Records[0].Incident != "01QUICKER" {
		t.Errorf("healed %+v, error %v; want one record of the other's incident", got, err)
	}
	r.incidents(1)
	r.whole()
}

// The same where the journal could not be written for a while, and the fault came and went meanwhile: its newest incident stays.
func TestAnIncidentThatTheJournalDidNotTakeGivesUpNoOther(t *testing.T) {
	t.Parallel()
	master, x := pair(t)
	r := newRig(t, fleet(instance(prod1, dry, master, x)), t.TempDir())
	m, node := r.h.machine(prod1), "replica-"+prod1+"-1"
	f := fault{Finding: policies.Finding{Metric: replication, Node: node, Cause: policies.CausePromoted, Severity: policies.Critical}}
	fail := func(why string) {
		r.h.keeper.mu.Lock()
		defer r.h.keeper.mu.Unlock()
		r.h.keeper.fault = why
	}
	fail("the disk is full")
	m.end(t.Context(), m.openIncident(t.Context(), look{}, f), journal.Closing{Resolution: policies.ResolvedByOther, Text: "gone"})
	second := m.openIncident(t.Context(), look{}, f)
	err := r.j.OpenIncident(t.Context(), policies.Incident{ID: "01QUICKER", Instance: prod1, Node: node, Metric: replication, Cause: policies.CausePromoted, Opened: time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	fail("")
	m.keep(t.Context())
	if got := m.openIncidents()[f.key()]; got != second {
		t.Errorf("open here is %+v, want the second", got)
	}
	open, err := r.j.Incidents(t.Context(), journal.IncidentFilter{Open: true})
	if err != nil || len(open) != 1 || open[0].ID != second.id {
		t.Errorf("open in the journal is %+v, %v; want the second alone", open, err)
	}
}

func TestOneHealByHandAtATime(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	x.promote()
	r := newRig(t, fleet(instance(prod1, dry, m, x)), t.TempDir())
	unlock, err := r.j.LockHand(t.Context(), prod1)
	if err != nil {
		t.Fatal(err)
	}
	check := untouched(t, m, x)
	got, err := r.h.HealByHand(t.Context(), prod1, ByHand{Live: true})
	if !errors.Is(err, journal.ErrByHand) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) || len(got.Records) > 0 {
		t.Errorf("beside another: %+v, %v", got, err)
	}
	check()
	r.incidents(0)
	unlock()
	if got, err = r.h.HealByHand(t.Context(), prod1, ByHand{Live: true}); err != nil || len(got.Records) != 1 || got.Records[0].Outcome != policies.OutcomeSucceeded {
		t.Errorf("after it: %+v, %v", got, err)
	}
	r.whole()
}

func TestByHandWithNothingToDo(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	r := newRig(t, fleet(instance(prod1, dry, m, x)), "")
	check := untouched(t, m, x)
	got, err := r.h.HealByHand(context.Background(), prod1, ByHand{Live: true})
	if err != nil || len(got.Records) != 0 {
		t.Errorf("healed %+v, error %v; want nothing", got, err)
	}
	if _, err := r.h.HealByHand(context.Background(), "dcs-elsewhere-09", ByHand{}); err == nil {
		t.Error("an instance that is not in the config was accepted")
	}
	check()
	r.whole()
}

// A replica that forgot the history it left is known by our own record alone: it restarted without data and without
// a REPLICAOF in its config.
func TestTheRecordKnowsAReplicaThatForgot(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	c, dir := fleet(instance(prod1, dry, m, x)), t.TempDir()
	before := newRig(t, c, dir)
	for _, n := range c.Instances[0].Nodes {
		before.h.Observe(before.h.opt.Probers[prod1][n.Name].Probe(context.Background()))
	}
	x.restart()
	r, rec := byHand(t, c, dir, ByHand{Live: true, AllowLost: "replica-" + prod1 + "-1"})
	if rec.Outcome != policies.OutcomeSucceeded {
		t.Errorf("outcome %s, denied by %v: %s; the journal remembers that it followed this master", rec.Outcome, rec.DeniedBy, r.lines)
	}
	r.whole()
}

func TestAnExaminationChangesNothingAndNamesEachPlan(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	x.promote()
	r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), "")
	check := untouched(t, m, x)
	e, err := r.h.Examine(context.Background(), prod1)
	if err != nil || len(e.Plans) != 1 || !e.Plans[0].Permitted || len(e.Findings) == 0 || len(e.Errors) > 0 {
		t.Errorf("examination %+v, error %v", e, err)
	}
	check()
	r.only(prod1, 0)
	r.incidents(0)
	if _, err := r.h.Examine(context.Background(), "dcs-elsewhere-09"); err == nil {
		t.Error("an instance that is not in the config was accepted")
	}
}
