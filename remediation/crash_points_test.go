package remediation

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dcshealer/policies"
)

// killItself runs a child on the errand until it has killed itself at its point.
func (e errand) killItself(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := e.child(ctx, t)
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	err := c.Run()
	if ctx.Err() != nil || c.ProcessState == nil {
		t.Fatalf("the child never came to %q (%v):\n%s", e.KilledAt, err, &said)
	}
	if s, ok := c.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended with %v before it came to %q:\n%s", err, e.KilledAt, &said)
	}
}

// A crash is one place at which a process is killed, and what the journal and the servers have to show right after it.
type crash struct {
	at       string
	outcome  policies.Outcome // of the one record; empty: there is none
	commands int              // in that record
	sent     int              // commands that change something, by the server's own count
	setting  string           // lazyfree-lazy-expire then; for sweeps
	owed     bool             // a debt is on disk; for sweeps
	cured    bool             // the fault is gone: the next process has nothing to do
}

// One command that may go out once: REPLICAOF, or CLIENT KILL TYPE master.
var reattachCrashes = []crash{
	{at: "decided"},
	{at: "intended", outcome: policies.OutcomeRunning},
	{at: "connected", outcome: policies.OutcomeRunning},
	{at: "looked", outcome: policies.OutcomeRunning},
	{at: "asked", outcome: policies.OutcomeRunning},
	{at: "sent", outcome: policies.OutcomeRunning, sent: 1, cured: true}, // its record was not written: the intent and the server tell
	{at: "recorded", outcome: policies.OutcomeRunning, commands: 1, sent: 1, cured: true},
	{at: "verifying", outcome: policies.OutcomeRunning, commands: 1, sent: 1, cured: true},
	{at: "verified", outcome: policies.OutcomeRunning, commands: 1, sent: 1, cured: true},
	{at: "finishing", outcome: policies.OutcomeRunning, commands: 1, sent: 1, cured: true},
	{at: "finished", outcome: policies.OutcomeSucceeded, commands: 1, sent: 1, cured: true},
}

func TestKilledAtAnyStepOfAReattachmentByReplicaof(t *testing.T) {
	t.Parallel()
	for _, c := range reattachCrashes {
		t.Run(c.at, func(t *testing.T) {
			t.Parallel()
			m, x := pair(t)
			x.promote()
			clearStats(m, x)
			c.reattach(t, errand{Dir: t.TempDir(), Metric: replication, Master: m.addr, Replica: x.addr}, m, x, "replicaof")
			m.wantWrites(map[string]int{})
		})
	}
}

func TestKilledAtAnyStepOfAReattachmentByClientKill(t *testing.T) {
	t.Parallel()
	for _, c := range reattachCrashes {
		if c.at == "connected" || c.at == "looked" || c.at == "verified" {
			continue // the same code for both commands
		}
		t.Run(c.at, func(t *testing.T) {
			t.Parallel()
			m, x, peer := halfOpen(t)
			c.reattach(t, errand{Dir: t.TempDir(), Metric: replication, Master: m.addr, Peer: peer, Replica: x.addr}, m, x, "client|kill")
		})
	}
}

// halfOpen is a master and a replica whose link says up and passes nothing. A master that PINGs each second is missed after two.
func halfOpen(t *testing.T) (m, x *server, peer policies.Address) {
	t.Helper()
	slow := []string{"--repl-timeout", "600", "--repl-ping-replica-period", "1"}
	m, x = startServer(t, slow...), startServer(t, slow...)
	m.fill(0, 100, 10, 0)
	between := newRelay(t, m.addr)
	x.do("REPLICAOF", between.addr.Host, between.addr.Port)
	eventually(t, "the replica holds all keys", func() bool { return x.linkUp() && x.keys(0) == 100 })
	between.hush()
	m.do("SET", "after", "it")
	clearStats(m, x)
	eventually(t, "the replica and its master notice the silence", func() bool {
		return x.number("replication", "master_last_io_seconds_ago") > 3 && !strings.Contains(m.info("replication")["slave0"], "lag=0") && !strings.Contains(m.info("replication")["slave0"], "lag=1")
	})
	return m, x, between.addr
}

// reattach kills a child at the step, and lets a new Healer go on.
func (c crash) reattach(t *testing.T, e errand, m, x *server, command string) {
	e.KilledAt = c.at
	e.killItself(t)
	r := newRig(t, e.config(), e.Dir)
	c.checkJournal(r)
	if n := x.writes()[command]; n != c.sent {
		t.Errorf("%s went out %d times before the kill by the server's own count, want %d", command, n, c.sent)
	}
	r.start()
	c.checkClosed(r)
	if n := x.writes()[command]; n != c.sent {
		t.Errorf("%s went out %d times more without a new diagnosis", command, n-c.sent)
	}
	r.alarm(prod1, replication)
	if c.cured {
		c.nothingToDo(r, func() bool { return x.linkUp() })
	} else {
		rec := r.record(prod1, replication, policies.OutcomeSucceeded)
		if rec.Operator.Version != "test" || r.lines.count("diagnosis: ") == 0 {
			t.Errorf("record %s: want a new diagnosis by the new process", brief([]policies.Record{rec}))
		}
		r.sent(prod1, 1)
	}
	got := x.writes()
	delete(got, "set") // its master's
	if want := map[string]int{command: 1}; !maps.Equal(got, want) {
		t.Errorf("the replica was sent %v, want %v", got, want)
	}
	eventually(t, "the replica follows its master and holds all that it holds", func() bool {
		return x.linkUp() && x.do("DEBUG", "DIGEST") == m.do("DEBUG", "DIGEST")
	})
	r.whole()
}

// A sweep changes a setting, which is owed meanwhile, selects a DB and scans: the scans are summed and written with the result.
var sweepCrashes = []crash{
	{at: "decided", setting: "no"},
	{at: "intended", outcome: policies.OutcomeRunning, setting: "no"},
	{at: "owed", outcome: policies.OutcomeRunning, setting: "no", owed: true},
	{at: "set", outcome: policies.OutcomeRunning, commands: 1, sent: 1, setting: "yes", owed: true},
	{at: "sweeping", outcome: policies.OutcomeRunning, commands: 1, sent: 1, setting: "yes", owed: true},
	{at: "midway", outcome: policies.OutcomeRunning, commands: 2, sent: 1, setting: "yes", owed: true},
	{at: "swept", outcome: policies.OutcomeRunning, commands: 2, sent: 1, setting: "yes", owed: true, cured: true},
	{at: "given back", outcome: policies.OutcomeRunning, commands: 3, sent: 2, setting: "no", owed: true, cured: true},
	{at: "settled", outcome: policies.OutcomeRunning, commands: 3, sent: 2, setting: "no", cured: true},
	{at: "finishing", outcome: policies.OutcomeRunning, commands: 3, sent: 2, setting: "no", cured: true},
	{at: "finished", outcome: policies.OutcomeSucceeded, commands: 4, sent: 2, setting: "no", cured: true},
}

func TestKilledAtAnyStepOfASweep(t *testing.T) {
	t.Parallel()
	for _, c := range sweepCrashes {
		t.Run(c.at, func(t *testing.T) {
			t.Parallel()
			c.sweep(t, c.at)
		})
	}
	// The process that puts a setting back is killed as well.
	for then, c := range map[string]crash{
		"closed":     {outcome: policies.OutcomeInterrupted, commands: 2, sent: 1, setting: "yes", owed: true, cured: true},
		"given back": {outcome: policies.OutcomeInterrupted, commands: 3, sent: 2, setting: "no", owed: true, cured: true},
	} {
		t.Run("swept, then "+then, func(t *testing.T) {
			t.Parallel()
			c.sweep(t, "swept", then)
		})
	}
}

// sweep kills one child after another at their steps, and lets a new Healer go on.
func (c crash) sweep(t *testing.T, steps ...string) {
	s := fullOfStale(t, 40_000)
	s.do("CONFIG", "RESETSTAT")
	e := errand{Dir: t.TempDir(), Metric: memory, Master: s.addr}
	for _, e.KilledAt = range steps {
		e.Slow = e.KilledAt == "midway"
		e.killItself(t)
		e.Metric = ""
	}
	e.Slow = false
	r := newRig(t, e.config(), e.Dir)
	c.checkJournal(r)
	scans, sets := s.calls()["scan"], s.calls()["config|set"]
	if got := s.setting(lazyExpire); sets != c.sent || got != c.setting {
		t.Errorf("after the kill %s is %s by %d CONFIG SET, want %s by %d", lazyExpire, got, sets, c.setting, c.sent)
	}
	if debts, err := r.j.Debts(t.Context()); err != nil || (len(debts) == 1) != c.owed {
		t.Errorf("after the kill %+v is owed (%v), want a debt: %t", debts, err, c.owed)
	}
	r.start()
	c.checkClosed(r)
	eventually(t, "the setting is back and nothing is owed", func() bool {
		debts, err := r.j.Debts(t.Context())
		return err == nil && len(debts) == 0 && s.setting(lazyExpire) == "no"
	})
	if c.setting == "yes" {
		sets++
	}
	if n := s.calls(); n["config|set"] != sets || n["scan"] != scans {
		t.Errorf("the new process sent %d CONFIG SET and %d SCAN without a diagnosis, want %d and 0", n["config|set"], n["scan"]-scans, sets)
	}
	r.alarm(prod1, memory)
	if c.cured {
		c.nothingToDo(r, func() bool { return true })
		if n := s.calls()["scan"]; n != scans {
			t.Errorf("it swept on with nothing to do: %d SCAN more", n-scans)
		}
	} else {
		rec := r.record(prod1, memory, policies.OutcomeSucceeded)
		if rec.Operator.Version != "test" || r.lines.count("diagnosis: ") == 0 {
			t.Errorf("record %s: want a new diagnosis by the new process", brief([]policies.Record{rec}))
		}
		sets += 2
	}
	s.takesWrites()
	want := map[string]int{"config|set": sets, "scan": s.calls()["scan"], "set": 1}
	maps.DeleteFunc(want, func(_ string, n int) bool { return n == 0 })
	s.wantWrites(want)
	if got := s.setting(lazyExpire); got != "no" {
		t.Errorf("%s is %s in the end", lazyExpire, got)
	}
	r.whole()
}

// checkJournal reads what the killed process left, before anybody else writes.
func (c crash) checkJournal(r *rig) {
	r.t.Helper()
	if v, err := r.j.Verify(context.Background()); err != nil || !v.OK {
		r.t.Errorf("after the kill the journal does not verify: %+v, %v", v.FirstBad, err)
	}
	all := acted(r)
	switch {
	case c.outcome == "":
		if len(all) > 0 {
			r.t.Errorf("records %s before the intent was written", brief(all))
		}
	case len(all) != 1 || all[0].Outcome != c.outcome || len(all[0].Commands) != c.commands || all[0].Planned == nil || all[0].Operator.Version != "child":
		r.t.Errorf("records %s, want one that is %s with its plan and %d commands", brief(all), c.outcome, c.commands)
	}
}

// checkClosed waits until a new Healer is up: it closes what was running, says so once, and leaves what was finished.
func (c crash) checkClosed(r *rig) {
	r.t.Helper()
	interrupted := 0
	if c.outcome == policies.OutcomeRunning {
		r.waitLine("interrupted: ", "it will be diagnosed anew")
		r.record(prod1, acted(r)[0].Metric, policies.OutcomeInterrupted)
		interrupted = 1
	}
	if n := r.lines.count("interrupted: "); n != interrupted {
		r.t.Errorf("an interruption was told %d times, want %d", n, interrupted)
	}
	if c.outcome == policies.OutcomeSucceeded && acted(r)[0].Outcome != c.outcome {
		r.t.Errorf("the finished record became %s", brief(acted(r)))
	}
}

// nothingToDo waits until the new Healer has looked and found the fault gone; a copy under way may take a moment.
func (c crash) nothingToDo(r *rig, well func() bool) {
	r.t.Helper()
	eventually(r.t, "the fault is gone", well)
	r.alarm(prod1, acted(r)[0].Metric)
	eventually(r.t, "it looked and found nothing to do", func() bool { return r.lines.count("refuted: ")+r.lines.count("resolved: ") > 0 })
	r.waitState(prod1, policies.StateIdle)
	if all := acted(r); len(all) != 1 || r.lines.count("plan (live)") > 0 {
		r.t.Errorf("it acted with nothing to do: %s", brief(all))
	}
}

// acted are the records that are no refusals: on a busy machine a guard may well have denied the first attempts.
func acted(r *rig) []policies.Record {
	r.t.Helper()
	return slices.DeleteFunc(r.records(prod1), func(o policies.Record) bool { return o.Outcome == policies.OutcomeDenied })
}

// brief is what a failing row has to show of records.
func brief(all []policies.Record) (s string) {
	for _, o := range all {
		s += fmt.Sprintf("[%s by %s: %s %q, commands", o.Outcome, o.Operator.Version, o.Action, o.Error)
		for _, c := range o.Commands {
			s += fmt.Sprintf(" %q", c.Args)
		}
		s += "]"
	}
	return s
}
