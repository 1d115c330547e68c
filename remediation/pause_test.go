package remediation

import (
	"context"
	"slices"
	"testing"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// The kill switch in the last instant: every guard has allowed, the connection stands, and the command is not sent. Resume lets the plan
// that is held go on, without another alarm.
func TestAPauseOfAllHoldsBeforeTheVeryNextCommandAndResumeLetsItGoOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		point  string // right before the first command
		metric policies.Metric
		broken func(t *testing.T) (*server, *rig)
		sends  string
	}{
		"reattach": {"asked", replication, func(t *testing.T) (*server, *rig) {
			m, x := pair(t)
			r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), "")
			x.promote()
			return x, r
		}, "replicaof"},
		"evict": {"evicting", memory, func(t *testing.T) (*server, *rig) {
			s := fullOfNear(t)
			return s, newRig(t, near(instance(prod1, evictLive[1:], s)), "")
		}, "eval"},
		"kill": {"listed", clients, func(t *testing.T) (*server, *rig) {
			s := crowded(t)
			s.idle(visitors(t, s, 97))
			return s, newRig(t, crowdedFleet(killLive, nil, s), "")
		}, "client|kill"},
		"purge": {"looked", policies.MetricFragmentation, func(t *testing.T) (*server, *rig) {
			s := bloated(t, false)
			s.waitBloated()
			return s, newRig(t, bloatedFleet(purgeLive, s), "")
		}, "memory|purge"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := c.broken(t)
			r.at(c.point, 1, func() {
				if err := r.j.SetPause(context.Background(), journal.Pause{Reason: "stop everything", By: "ann"}); err != nil {
					t.Error(err)
				}
			})
			r.start()
			s.do("CONFIG", "RESETSTAT")
			r.alarm(prod1, c.metric)
			rec := r.record(prod1, c.metric, policies.OutcomeDenied)
			r.waitState(prod1, policies.StateHeld)
			rounds(t, s, 2)
			if n := s.calls()[c.sends]; n > 0 {
				t.Errorf("%s was sent %d times: %v", c.sends, n, s.calls())
			}
			if !slices.Contains(rec.DeniedBy, policies.GuardPause) || rec.Mode != policies.Live {
				t.Errorf("record %+v, want it denied by the pause", rec)
			}
			if lifted, err := r.j.ClearPause(context.Background(), "", "ann", "all clear", rec.At); err != nil || !lifted {
				t.Fatalf("lifted %v, %v", lifted, err)
			}
			again := r.record(prod1, c.metric, policies.OutcomeSucceeded)
			if again.Incident != rec.Incident || s.calls()[c.sends] == 0 {
				t.Errorf("record %+v, %s was sent %d times; want the held plan of %s carried out", again, c.sends, s.calls()[c.sends], rec.Incident)
			}
			r.whole()
		})
	}
}
