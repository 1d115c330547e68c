package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"dcshealer/policies"
)

// What a person does to a fleet, beside the operator or with it stopped.

// follow points a node at another one.
func (f *chaosFleet) follow(t *testing.T, name, master string) {
	t.Helper()
	f.nodes[name].do(t, "REPLICAOF", master, "6379")
}

// awaitCopy waits until a node follows another one and holds what that one holds.
func (f *chaosFleet) awaitCopy(t *testing.T, name, of string) {
	t.Helper()
	chaosAwait(t, name+" to be a copy of "+of, func(ctx context.Context) error {
		want, err := f.nodes[of].look(ctx)
		if err != nil {
			return err
		}
		got, err := f.nodes[name].look(ctx)
		if err == nil && (got.master != of+":6379" || got.link != "up" || got.replid != want.replid || got.digest != want.digest) {
			err = fmt.Errorf("it is %+v, and %s is %+v", got, of, want)
		}
		return err
	})
}

// putRight waits until all is well. In dry run it sends first what the operator would have sent.
func (f *chaosFleet) putRight(t *testing.T, names ...string) {
	t.Helper()
	if !f.live {
		for _, name := range names {
			f.follow(t, name, chaosMaster)
		}
	}
	f.awaitInStep(t)
	f.op.awaitState(t, policies.StateIdle)
}

// restoreFrom gives the master the data of a node that was promoted, and makes that node its replica again.
func (f *chaosFleet) restoreFrom(t *testing.T, name string) {
	t.Helper()
	want := f.nodes[name].standing(t).digest
	f.follow(t, chaosMaster, name)
	f.awaitCopy(t, chaosMaster, name)
	f.nodes[chaosMaster].promote(t)
	f.follow(t, name, chaosMaster)
	f.awaitInStep(t)
	if got := f.nodes[chaosMaster].standing(t).digest; got != want {
		t.Errorf("the master holds %s after it was restored from %s, which held %s", got, name, want)
	}
}

// reconfigure starts the operator again with another config, on the state that it has.
func (f *chaosFleet) reconfigure(t *testing.T, config string) {
	t.Helper()
	f.op.kill(t)
	if err := f.op.c.CopyToContainer(t.Context(), []byte(config), "/dcshealer.yaml", 0o644); err != nil {
		t.Fatalf("give the operator another config: %v", err)
	}
	f.op.startAgain(t)
}

// awaitPlan asks plan until it finds these causes of replication, by node, and no others, and has nothing to send.
func (o *chaosOperatorBox) awaitPlan(t *testing.T, want map[string]policies.Cause) {
	t.Helper()
	o.await(t, fmt.Sprintf("plan to find %v", want), func(ctx context.Context) error {
		var report planReport
		if err := o.read(ctx, &report, exitDone, "plan"); err != nil {
			return err
		}
		got := map[string]policies.Cause{}
		for _, finding := range report.Instances[0].Findings {
			if finding.Metric == policies.MetricReplication {
				got[finding.Node] = finding.Cause
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("it found %v", got)
		}
		return nil
	})
}

// because asks plan until a guard denies the plan for a node in these words. A record keeps the words of the first such denial, and the
// same guard may have had another reason while a fault was not complete.
func (f *chaosFleet) because(t *testing.T, node string, guard policies.Guard, words string) {
	t.Helper()
	f.op.await(t, fmt.Sprintf("%s to deny the plan for %s with %q", guard, node, words), func(ctx context.Context) error {
		var report planReport
		if err := f.op.read(ctx, &report, exitPlanned, "plan"); err != nil {
			return err
		}
		for _, p := range report.Instances[0].Plans {
			for _, g := range p.Guards {
				if p.Node == node && g.Guard == guard && g.Denied() && strings.Contains(g.Reason, words) {
					return nil
				}
			}
		}
		return fmt.Errorf("the plans are %+v", report.Instances[0].Plans)
	})
}

// noPlans fails when the operator ever thought of sending anything to these nodes; without names, to any.
func (f *chaosFleet) noPlans(t *testing.T, names ...string) {
	t.Helper()
	list, err := f.op.records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if (len(names) == 0 || slices.Contains(names, r.Node)) && (r.Action != "" || len(r.Commands) > 0) {
			t.Errorf("nothing was to be sent to %v, and %s", names, chaosSummary([]policies.Record{r}))
		}
	}
}

// noRecords fails when the operator ever found anything wrong.
func (f *chaosFleet) noRecords(t *testing.T) {
	t.Helper()
	if list, err := f.op.records(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("nothing was wrong, and %s, %v", chaosSummary(list), err)
	}
}

// sameData fails when a node that was looked at before holds other data now, whatever became of its role.
func (f *chaosFleet) sameData(t *testing.T, before map[string]chaosView) {
	t.Helper()
	for name, v := range f.standing(t) {
		if was := before[name]; was.digest != v.digest {
			t.Errorf("the data of %s was %s and is %s", name, was.digest, v.digest)
		}
	}
}

// number is a whole number in the INFO of a node.
func (n *chaosNode) number(t *testing.T, field string) (value int64) {
	t.Helper()
	i, err := n.info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(strings.TrimSpace(i[field]), &value); err != nil {
		t.Fatalf("%s of %s is %q: %v", field, n.name, i[field], err)
	}
	return value
}
