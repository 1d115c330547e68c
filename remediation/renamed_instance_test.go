package remediation

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// wasWritable leaves in x a key of its own that no history shows, of which nothing but the memory of the healer can tell: the settings of the
// replica were seen while it took the write.
func (r *rig) wasWritable(x *server) {
	r.t.Helper()
	x.do("CONFIG", "SET", "replica-read-only", "no")
	x.do("SET", "only", "here")
	r.observe()
	x.do("CONFIG", "SET", "replica-read-only", "yes")
	r.observe()
	x.promote()
}

// What is known of a server outlives the names that the config gives it.
func TestWhatANodeWasIsKnownUnderAnotherName(t *testing.T) {
	t.Parallel()
	for name, rename := range map[string]func(*policies.Instance){
		"of the instance": func(i *policies.Instance) { i.Name = prod2 },
		"of the node":     func(i *policies.Instance) { i.Nodes[1].Name = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, x := pair(t)
			c, dir := fleet(instance(prod1, reattachLive, m, x)), t.TempDir()
			r := newRig(t, c, dir).start()
			r.wasWritable(x)
			r.whole()
			check := untouched(t, m, x)
			rename(&c.Instances[0])
			again := newRig(t, c, dir).start()
			again.alarm(c.Instances[0].Name, replication)
			rec := again.refuses(c.Instances[0].Name, replication, policies.CausePromoted, policies.GuardNoLostWrites)
			if !strings.Contains(fmt.Sprint(rec.Guards), "was seen as a writable replica") {
				t.Errorf("guards %+v", rec.Guards)
			}
			check()
			again.whole()
		})
	}
}

// A node that lost a switch-over of its own is remembered as what it is now, not as the master with more keys that it was.
func TestAFormerMasterThatTakesWritesAsAReplicaIsRemembered(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	r := newRig(t, fleet(instance(prod1, dry, m, x)), "").start()
	x.promote()
	x.fill(0, 500, 10, 0)
	r.observe()
	x.follow(m)
	r.observe()
	r.wasWritable(x)
	if mem := r.h.remembered(prod1, replica1); mem.Writable.IsZero() {
		t.Errorf("remembered as %+v, want that it took writes as a replica", mem)
	}
	r.whole()
}

func TestAPauseIsCarriedOverToTheNewNameOfAnInstance(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"by a reload": false, "over a restart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, x := pair(t)
			c, dir := fleet(instance(prod1, reattachLive, m, x)), t.TempDir()
			r := newRig(t, c, dir).start()
			r.observe()
			if err := r.j.SetPause(t.Context(), journal.Pause{Instance: prod1, Reason: "disk swap", By: "ann"}); err != nil {
				t.Fatal(err)
			}
			if restart {
				r.whole()
				c.Instances[0].Name = prod2
				r = newRig(t, c, dir).start()
			} else {
				r.reload(func(c *policies.Config) { c.Instances[0].Name = prod2 })
			}
			r.waitLine(prod2+" | paused, as "+prod1+" was", "disk swap")
			x.promote()
			check := untouched(t, m, x)
			eventually(t, "the new machine is at work", func() bool { return r.h.machine(prod2) != nil })
			r.alarm(prod2, replication)
			rec := r.record(prod2, replication, policies.OutcomeDenied)
			if by := steady(rec.DeniedBy); len(by) != 1 || by[0] != policies.GuardPause {
				t.Errorf("denied by %v, want pause", rec.DeniedBy)
			}
			rounds(t, x, 2)
			check()
			if p, paused, err := r.j.Paused(t.Context(), prod2, time.Now()); err != nil || !paused || p.By != "ann" || !p.Until.IsZero() {
				t.Errorf("pause %+v, %v, %v", p, paused, err)
			}
			r.whole()
		})
	}
}
