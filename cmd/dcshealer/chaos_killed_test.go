package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"dcshealer/policies"
)

// The operator dies between REPLICAOF and its proof, and comes back while the copy still runs.
func chaosVerifyKilled(t *testing.T, f *chaosFleet) {
	for _, name := range []string{chaosMaster, chaosReplica} {
		f.nodes[name].do(t, "CONFIG", "SET", "repl-timeout", "60") // the slow copy is silent until its end
	}
	f.nodes[chaosMaster].do(t, "CONFIG", "SET", "rdb-key-save-delay", "25000") // 250 keys: 6 s
	f.nodes[chaosReplica].promote(t)
	if !f.live {
		f.killedDry(t, chaosReplica)
		return
	}
	f.op.awaitLine(t, "to=verifying")
	f.op.kill(t)
	f.wrote[chaosReplica] = []string{strings.Join(chaosTarget, " ")}
	f.op.startAgain(t)
	r := f.op.awaitRecord(t, "the interrupted repair", func(r policies.Record) bool { return r.Outcome == policies.OutcomeInterrupted })
	if len(r.Commands) != 1 || r.Node != chaosReplica {
		t.Errorf("the interrupted record of %s has the commands %+v, want the REPLICAOF that went out to %s", r.Node, r.Commands, chaosReplica)
	}
	f.nodes[chaosMaster].do(t, "CONFIG", "SET", "rdb-key-save-delay", "0")
	f.awaitInStep(t)
	f.awaitReadings(t, chaosReadings)
	f.op.awaitState(t, policies.StateIdle)
	f.noneRunning(t)
}

// killedDry kills the operator while a plan is held; after its return the same plan is held, and nothing has changed.
func (f *chaosFleet) killedDry(t *testing.T, node string) {
	t.Helper()
	before := f.standing(t)
	isPlan := func(r policies.Record) bool { return r.Node == node && r.Outcome == policies.OutcomePlanned }
	first := f.op.awaitRecord(t, "the plan", isPlan)
	f.op.kill(t)
	f.op.startAgain(t)
	f.op.awaitLine(t, "taken up: incident "+first.Incident) // what was decided is not decided again
	f.op.awaitState(t, policies.StateHeld)
	settings := f.configCalls(t, node)
	chaosAwait(t, "two more rounds of the operator", func(context.Context) error {
		if now := f.configCalls(t, node); now < settings+2*22 { // eleven settings a look, two looks a round
			return fmt.Errorf("it has asked for %d settings", now-settings)
		}
		return nil
	})
	if list, err := f.op.records(t.Context()); err != nil || len(list) != 1 || list[0].ID != first.ID {
		t.Errorf("after the restart: %v, %s; want the one plan %s", err, chaosSummary(list), first.ID)
	}
	f.unchanged(t, before)
	f.noneRunning(t)
}

// configCalls is how often a node was asked for a setting, which the agent and the test do not do.
func (f *chaosFleet) configCalls(t *testing.T, node string) (n int64) {
	t.Helper()
	for line := range strings.Lines(f.nodes[node].do(t, "INFO", "commandstats").(string)) {
		// cmdstat_config on 6.0, cmdstat_config|get later
		if name, rest, _ := strings.Cut(line, ":calls="); name == "cmdstat_config" || name == "cmdstat_config|get" {
			calls, _, _ := strings.Cut(rest, ",")
			c, err := strconv.ParseInt(calls, 10, 64)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			n += c
		}
	}
	return n
}

// noneRunning fails when a record was left open.
func (f *chaosFleet) noneRunning(t *testing.T) {
	t.Helper()
	list, err := f.op.records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if r.Outcome == policies.OutcomeRunning {
			t.Errorf("a record still says running: %s", chaosSummary(list))
		}
	}
}

// chaosStale are the keys that have expired and stay in memory.
const chaosStale = 30_000

// The operator dies in the middle of a sweep; the next one finishes it. No living key is lost on the way.
func chaosSweepKilled(t *testing.T, f *chaosFleet) {
	m := f.nodes[chaosMaster]
	f.fillMemory(t)
	if !f.live {
		f.killedDry(t, chaosMaster)
		if n := f.counter(t, "expired_keys"); n != 0 {
			t.Errorf("%d keys were deleted in dry run", n)
		}
		return
	}
	chaosAwait(t, "the sweep to be under way", func(ctx context.Context) error {
		if n := f.counter(t, "expired_keys"); n < 300 {
			return fmt.Errorf("%d keys are deleted", n)
		}
		return nil
	})
	f.op.kill(t)
	if left := m.do(t, "DBSIZE").(int64); left < chaosStale*8/10 {
		t.Fatalf("the sweep was over when the operator died: %d keys are left", left)
	}
	f.op.startAgain(t)
	f.op.awaitRecord(t, "the interrupted sweep", func(r policies.Record) bool { return r.Outcome == policies.OutcomeInterrupted })
	r := f.op.awaitRecord(t, "the finished sweep", func(r policies.Record) bool { return r.Outcome == policies.OutcomeSucceeded })
	if r.Action != policies.ReclaimExpired || r.Cause != policies.CauseExpiredKeys || r.Effect["solved"] != true {
		t.Errorf("the finished sweep: %s", chaosSummary([]policies.Record{r}))
	}
	f.op.awaitState(t, policies.StateIdle)
	f.noneRunning(t)
	if alive := m.do(t, "EVAL", "local n = 0 for i = 0, 249 do n = n + redis.call('EXISTS', 'key:' .. i) end return n", 0); alive != int64(250) {
		t.Errorf("%v of 250 living keys are left", alive)
	}
}

// fillMemory fills the master to 99 % with keys that expire at once and are not deleted by the server itself.
func (f *chaosFleet) fillMemory(t *testing.T) {
	t.Helper()
	m := f.nodes[chaosMaster]
	if f.live {
		m.do(t, "CONFIG", "SET", "slowlog-log-slower-than", "-1") // it would grow by each SCAN of the sweep
	}
	m.do(t, "DEBUG", "SET-ACTIVE-EXPIRE", "0")
	m.do(t, "EVAL", "for i = 1, "+strconv.Itoa(chaosStale)+" do redis.call('SET', 'stale:' .. i, string.rep('x', 100), 'PX', 1) end return 1", 0)
	counted := f.counter(t, "used_memory") - f.counter(t, "mem_not_counted_for_evict") // replication buffers come and go
	m.do(t, "CONFIG", "SET", "maxmemory", strconv.FormatInt(counted*100/99, 10))
}

// counter is a number of the master's INFO.
func (f *chaosFleet) counter(t *testing.T, name string) int64 {
	t.Helper()
	i, err := f.nodes[chaosMaster].info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(i[name], 10, 64)
	if err != nil {
		t.Fatalf("%s of the master is %q: %v", name, i[name], err)
	}
	return n
}
