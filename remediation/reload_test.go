package remediation

import (
	"slices"
	"sync"
	"testing"
	"time"

	"dcshealer/policies"
)

// released counts the probers that a Reload has left without use.
type released struct {
	mu sync.Mutex
	n  int
}

func (r *released) take(probers map[string]Prober) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n += len(probers)
}

func (r *released) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// reload takes a changed copy of the config in effect, as run does, and returns the instances that finish an action first.
func (r *rig) reload(change func(*policies.Config)) (busy []string) {
	r.t.Helper()
	before := r.h.config()
	next := before
	next.Instances, next.Policies = slices.Clone(before.Instances), map[string]policies.Policy{"default": before.PolicyOf(policies.Instance{})}
	change(&next)
	d := policies.ConfigDiffOf(before, next)
	some := next
	some.Instances = slices.DeleteFunc(slices.Clone(next.Instances), func(i policies.Instance) bool { return !slices.Contains(d.Added, i.Name) && !d.Reconnect[i.Name] })
	probers, closeAll, err := probersOf(some)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(closeAll)
	return r.h.Reload(r.t.Context(), next, d, probers)
}

// overlap reports whether two records were under way at the same time.
func overlap(a, b policies.Record) bool { return a.At.Before(b.Finished) && b.At.Before(a.Finished) }

// A config that changes during a sweep: the sweep goes to its end by the settings with which it began, once; an instance that comes is
// held by the budget until then, and goes by the new settings.
func TestReloadDuringASweep(t *testing.T) {
	t.Parallel()
	one, two := fullOfStale(t, 10_000), fullOfStale(t, 10_000)
	c := fleet(instance(prod1, reclaimLive, one))
	c.Budget.ConcurrentActions = 1
	r := sweepSlowly(t, one, c, "")
	was := r.h.machine(prod1)
	busy := r.reload(func(c *policies.Config) {
		c.Instances = append(c.Instances, instance(prod2, reclaimLive, two))
		adjust(c, func(p *policies.Policy) {
			p.Reclaim.Target, p.Reclaim.CallP99, p.Reclaim.Duty = 88, 20*time.Millisecond, 80
		})
	})
	if !slices.Equal(busy, []string{prod1}) || r.h.machine(prod1) != was {
		t.Errorf("busy %v, want that %s finishes first", busy, prod1)
	}
	r.alarm(prod2, memory)
	held := r.record(prod2, memory, policies.OutcomeDenied)
	if !slices.Contains(held.DeniedBy, policies.GuardBudget) {
		t.Errorf("%s was denied by %v beside a sweep, want budget", prod2, held.DeniedBy)
	}
	first := r.record(prod1, memory, policies.OutcomeSucceeded)
	second := r.record(prod2, memory, policies.OutcomeSucceeded)
	if overlap(first, second) {
		t.Errorf("two actions at once with a budget of one: %s to %s and %s to %s", first.At, first.Finished, second.At, second.Finished)
	}
	limit := one.number("memory", "maxmemory")
	if share := one.counted() * 100 / limit; share > 71 {
		t.Errorf("the sweep stopped at %d %% of maxmemory, want the target of 70 %% with which it began", share)
	}
	eventually(t, "another Machine has taken over", func() bool { return r.h.machine(prod1) != was })
	if now := r.h.machine(prod1); now.pol.Reclaim.Target != 88 || len(now.probers) != 1 || now.probers["master-"+prod1] != was.probers["master-"+prod1] {
		t.Errorf("it goes by %+v with other probers", now.pol.Reclaim)
	}
	scans := one.calls()["scan"]
	r.waitLine(prod1+" | resolved: ", "still well")
	r.waitState(prod1, policies.StateIdle)
	if now := one.calls()["scan"]; now != scans {
		t.Errorf("%d SCANs after the sweep's end", now-scans)
	}
	r.sent(prod1, 1)
	r.sent(prod2, 1)
	r.whole()
}

// An instance that is given another name during a sweep: the old one finishes and goes, and the new one does not touch the node before.
func TestReloadRenamesAnInstanceDuringASweep(t *testing.T) {
	t.Parallel()
	s := fullOfStale(t, 10_000)
	var gone released
	r := sweepSlowly(t, s, fleet(instance(prod1, reclaimLive, s)), "")
	r.h.opt.Release = gone.take
	busy := r.reload(func(c *policies.Config) { c.Instances = []policies.Instance{instance("renamed", reclaimLive, s)} })
	if !slices.Equal(busy, []string{prod1}) {
		t.Errorf("busy %v, want %s", busy, prod1)
	}
	r.alarm("renamed", memory)
	swept := r.record(prod1, memory, policies.OutcomeSucceeded)
	eventually(t, "the old Machine and its connections are gone", func() bool { return r.h.machine(prod1) == nil && gone.count() == 1 })
	r.waitLine(prod1+" | no longer watched: ", "removed from the config")
	r.waitLine("renamed | refuted: ")
	for _, o := range r.records("renamed") {
		if len(o.Commands) > 0 || o.At.Before(swept.Finished) {
			t.Errorf("the new one did not wait, or acted on what was repaired: %+v", o)
		}
	}
	r.alarm(prod1, memory)
	r.waitLine(prod1 + " | not an instance of this config")
	r.whole()
}

// A plan that only the dry run holds goes live by a reload: the incident stays the same one, and the command goes out once. Another
// instance is not touched.
func TestReloadKeepsIncidentsAndOtherMachines(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	other, _ := pair(t)
	r := newRig(t, fleet(instance(prod1, dry, m, x), instance(prod2, dry, other)), "").start()
	x.promote()
	r.alarm(prod1, policies.MetricReplication)
	planned := r.record(prod1, policies.MetricReplication, policies.OutcomePlanned)
	untouchedMachine := r.h.machine(prod2)
	probes, sent := other.calls()["role"], x.calls()["replicaof"]
	if busy := r.reload(func(c *policies.Config) { c.Instances[0].Live = reattachLive }); len(busy) > 0 {
		t.Errorf("busy %v, want none", busy)
	}
	healed := r.record(prod1, policies.MetricReplication, policies.OutcomeSucceeded)
	if healed.Incident != planned.Incident {
		t.Errorf("healed as incident %s, planned as %s: want the same", healed.Incident, planned.Incident)
	}
	if n := x.calls()["replicaof"] - sent; n != 1 {
		t.Errorf("%d REPLICAOF went out, want one", n)
	}
	if r.h.machine(prod2) != untouchedMachine || other.calls()["role"] != probes {
		t.Error("an instance for which nothing changed was looked at or has another Machine")
	}
	r.reload(func(c *policies.Config) { c.Instances[0].Live, c.Instances[0].Nodes = dry, c.Instances[0].Nodes[:1] })
	r.waitLine(prod1+" | no longer watched: ", "replica-"+prod1+"-1")
	if in := r.incidents(1)[0]; in.ID != planned.Incident || in.Resolution != policies.Abandoned {
		t.Errorf("incident %+v, want the one of %s, abandoned", in, planned.Incident)
	}
	r.waitState(prod1, policies.StateIdle)
	r.sent(prod1, 1)
	r.whole()
}

// A decision of the old config that has sent nothing yet is not carried out under the new one.
func TestReloadStopsWhatHasNotBegun(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*policies.Config){
		"live is taken away":      func(c *policies.Config) { c.Instances[0].Live = dry },
		"the instance is removed": func(c *policies.Config) { c.Instances = c.Instances[1:] },
	} {
		for _, point := range []string{"decided", "asked"} {
			t.Run(name+", "+point, func(t *testing.T) {
				t.Parallel()
				m, x := pair(t)
				x.promote()
				other := startServer(t)
				r := newRig(t, fleet(instance(prod1, reattachLive, m, x), instance(prod2, dry, other)), "")
				reloaded := make(chan struct{})
				r.at(point, 1, func() { r.reload(change); close(reloaded) })
				r.start()
				check := untouched(t, m, x)
				r.alarm(prod1, replication)
				<-reloaded
				if r.h.config().Instances[0].Name == prod1 {
					rec := r.record(prod1, replication, policies.OutcomePlanned)
					if rec.Mode != policies.DryRun {
						t.Errorf("record %+v, want it planned only", rec)
					}
					rounds(t, x, 2)
				} else {
					eventually(t, "the machine has gone", func() bool { return r.h.machine(prod1) == nil })
				}
				check()
				r.sent(prod1, 0)
				r.whole()
			})
		}
	}
}
