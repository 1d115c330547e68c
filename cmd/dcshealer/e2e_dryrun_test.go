package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

// What watching and planning may send, by the names of INFO commandstats; what a master and its replica send one another is there too.
var (
	watchList = []string{"info", "role", "dbsize", "ping", "hello", "auth", "select", "config|get", "client|list", "client|id", "client|setname", "client|info",
		"slowlog|get", "slowlog|len", "latency|latest", "command|info", "command|count", "memory|usage", "memory|stats"}
	replicationList = []string{"replconf", "psync", "sync"}
	replicaList     = []string{"scan", "pttl"}
)

// dryFleet is broken in both ways: a full master with a healthy replica, and a master whose replica was detached.
type dryFleet struct {
	*fleet
	full, fullReplica, well, detached *server
}

func newDryFleet(t *testing.T) *dryFleet {
	f := &dryFleet{fleet: newFleet(t), full: startServer(t), well: startServer(t)}
	f.fullReplica, f.detached = startReplica(t, f.full), startReplica(t, f.well)
	f.add("dcs-full", "", master("full-m", f.full), replica("full-r", f.fullReplica))
	f.add("dcs-split", "", master("split-m", f.well), replica("split-r", f.detached))
	f.well.do("SET", "k", "v")
	f.full.expire(50_000)
	until(t, "the replica holds what its master holds", func() bool { return f.fullReplica.info("db0") != "" && f.keys(f.fullReplica) == f.keys(f.full) })
	f.detached.detach()
	return f
}

func (f *dryFleet) nodes() map[string]*server {
	return map[string]*server{"full-m": f.full, "full-r": f.fullReplica, "split-m": f.well, "split-r": f.detached}
}

func (f *dryFleet) keys(s *server) string { keys, _, _ := strings.Cut(s.info("db0"), ","); return keys }

// facts is what a dry run must leave as it is.
func (f *dryFleet) facts() map[string]string {
	out := map[string]string{}
	for name, s := range f.nodes() {
		for _, field := range []string{"run_id", "role", "master_host", "master_port", "master_link_status", "master_replid", "connected_slaves", "expired_keys", "evicted_keys", "db0", "maxmemory"} {
			out[name+" "+field] = s.info(field)
		}
	}
	return out
}

// Plan and a long run on a fleet that needs both repairs: what they would do is said in full, and nothing is done.
func TestDryRunChangesNothing(t *testing.T) {
	t.Parallel()
	period := 20 * time.Second
	if s := os.Getenv("DCSHEALER_DRYRUN_FOR"); s != "" {
		var err error
		if period, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	f := newDryFleet(t)
	file := f.write()
	for _, s := range f.nodes() {
		s.do("CONFIG", "RESETSTAT")
	}
	before := f.facts()
	checkPlans(t, file)

	p := running(t, "-c", file)
	p.prints("dcs-full | plan (dry-run): reclaim-expired on full-m: SCAN cursor COUNT n, about 50000 expired keys")
	p.prints("dcs-split | plan (dry-run): reattach-replica on split-r: REPLICAOF 127.0.0.1")
	select { // the point of this test is that time passes
	case <-time.After(period):
	case <-p.ended:
		t.Fatal("it ended")
	}
	f.onlyPlanned()
	p.stopsWell(sigterm)
	if after := f.facts(); !maps.Equal(before, after) {
		for k := range before {
			if before[k] != after[k] {
				t.Errorf("%s: %q became %q", k, before[k], after[k])
			}
		}
	}
	for name, s := range f.nodes() {
		f.onlyReads(t, name, s)
	}
}

// onlyPlanned checks that each instance has its plan on record, that it was written down again only where another guard than
// before denied (a busy machine answers late), and that nothing was sent.
func (f *dryFleet) onlyPlanned() {
	f.t.Helper()
	for _, instance := range []string{"dcs-full", "dcs-split"} {
		last, planned := "", 0
		for _, r := range f.records("--instance", instance) {
			if r.Outcome == policies.OutcomePlanned {
				planned++
			}
			if why := fmt.Sprint(r.Cause, r.DeniedBy); why == last || len(r.Commands) > 0 || !slices.Contains(r.DeniedBy, policies.GuardMode) {
				f.t.Errorf("%s: after %s: %+v", instance, last, r)
			} else {
				last = why
			}
		}
		if planned == 0 {
			f.t.Errorf("%s has no plan on record", instance)
		}
	}
}

// onlyReads checks the commands that a node was sent since RESETSTAT. The test itself sent INFO alone.
func (f *dryFleet) onlyReads(t *testing.T, name string, s *server) {
	t.Helper()
	allowed := append(slices.Clone(watchList), "config|resetstat")
	switch name {
	case "full-m", "split-m":
		allowed = append(allowed, replicationList...)
	case "full-r":
		allowed = append(allowed, replicaList...)
	}
	seen := commandsOf(t, s)
	t.Logf("%s was sent %v", name, seen)
	if !slices.Contains(seen, "role") || !slices.Contains(seen, "slowlog|get") {
		t.Errorf("%s: it was not probed at all: %v", name, seen)
	}
	for _, c := range seen {
		if !slices.Contains(allowed, c) {
			t.Errorf("%s was sent %s", name, c)
		}
	}
}

func commandsOf(t *testing.T, s *server) (names []string) {
	t.Helper()
	stats, err := s.c.Info(context.Background(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(stats) {
		if name, ok := strings.CutPrefix(line, "cmdstat_"); ok {
			name, _, _ = strings.Cut(name, ":")
			names = append(names, name)
		}
	}
	return names
}

// checkPlans runs plan and checks the form of its JSON and what it says.
func checkPlans(t *testing.T, file string) {
	t.Helper()
	code, stdout, stderr := command(t, "plan", "-c", file, "-o", "json")
	if code != exitPlanned {
		t.Errorf("plan: exit %d, want %d; stderr %s", code, exitPlanned, stderr)
	}
	matches(t, "plan", parse[any](t, stdout), planForm)
	report := parse[struct {
		Instances []struct {
			Instance string
			Findings []struct{ Metric, Severity, Node, Cause string }
			Plans    []struct {
				Action, Node, Mode string
				Commands           [][]string
				Permitted          bool
				Denied             []string `json:"denied_by"`
				Guards             []struct{ Guard string }
				Expect             map[string]any
			}
		}
	}](t, stdout)
	want := map[string][3]string{"dcs-full": {"reclaim-expired", "full-m", "expired-keys"}, "dcs-split": {"reattach-replica", "split-r", "promoted"}}
	for _, in := range report.Instances {
		w := want[in.Instance]
		if len(in.Plans) != 1 || in.Plans[0].Action != w[0] || in.Plans[0].Node != w[1] {
			t.Errorf("%s: plans %+v, want one %v", in.Instance, in.Plans, w)
			continue
		}
		plan := in.Plans[0]
		if plan.Mode != "dry-run" || plan.Permitted || !slices.Equal(plan.Denied, []string{"mode"}) || len(plan.Guards) < 15 {
			t.Errorf("%s: %+v, want a dry run that the mode alone stops", in.Instance, plan)
		}
		if !slices.ContainsFunc(in.Findings, func(f struct{ Metric, Severity, Node, Cause string }) bool {
			return f.Severity == "critical" && f.Cause == w[2]
		}) {
			t.Errorf("%s: findings %+v, want a critical one with the cause %s", in.Instance, in.Findings, w[2])
		}
		form := map[string]object{"reclaim-expired": sweepExpectForm, "reattach-replica": reattachExpectForm}[plan.Action]
		matches(t, in.Instance+" expect", map[string]any(plan.Expect), form)
		if plan.Action == "reclaim-expired" && (plan.Expect["known"] != true || plan.Expect["expired_keys"] != 50_000.0) {
			t.Errorf("expect %v, want the exact number that the replica in step tells: 50000", plan.Expect)
		}
		if plan.Action == "reattach-replica" && plan.Commands[0][0] != "REPLICAOF" {
			t.Errorf("commands %v", plan.Commands)
		}
	}
}
