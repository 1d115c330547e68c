package remediation

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

func TestHowLongBeforeAnEndIsAnnounced(t *testing.T) {
	t.Parallel()
	for lasts, want := range map[time.Duration]time.Duration{
		time.Second: 2 * time.Second, 20 * time.Second: 2 * time.Second, time.Minute: 6 * time.Second, 30 * time.Minute: 3 * time.Minute, 50 * time.Minute: 5 * time.Minute,
		time.Hour: 5 * time.Minute, 30 * 24 * time.Hour: 5 * time.Minute,
	} {
		if got := aheadOf(lasts); got != want {
			t.Errorf("%s: %s before, want %s", lasts, got, want)
		}
	}
}

// watching runs the watch of the endings in false time until the returned function is called.
func (r *rig) watching(alarms *raised) (stop func()) {
	r.h.opt.Raise = alarms.add
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { r.h.watchEndings(ctx); close(done) }()
	return func() { cancel(); <-done }
}

func (r *raised) list() []policies.Alarm {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

func (r *rig) pause(instance string, lasts time.Duration) {
	r.t.Helper()
	p := journal.Pause{Instance: instance, Until: time.Now().Add(lasts), Reason: "hardware", By: "ann"}
	if err := r.j.SetPause(context.Background(), p); err != nil {
		r.t.Fatal(err)
	}
}

func pausedFleet() policies.Config {
	node := policies.Node{Name: "m", Address: policies.Address{Host: "127.0.0.1", Port: 1}, Role: policies.RoleMaster}
	return fleet(policies.Instance{Name: prod1, Live: reattachLive, Nodes: []policies.Node{node}})
}

func TestAPauseNeverEndsSilently(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pausedFleet(), dir)
		var alarms raised
		r.pause(prod1, time.Hour)
		stop := r.watching(&alarms)
		time.Sleep(55*time.Minute - time.Second)
		if n := r.lines.count("pause"); n != 0 || len(alarms.list()) != 0 {
			t.Errorf("%d lines before it is near its end:\n%s", n, r.lines)
		}
		time.Sleep(2 * time.Second)
		if n := r.lines.count(prod1+" | pause ends in ", "by ann: hardware"); n != 1 || r.lines.count("pause") != 1 {
			t.Errorf("five minutes before:\n%s", r.lines)
		}
		time.Sleep(4 * time.Minute)
		if n := r.lines.count("pause"); n != 1 {
			t.Errorf("%d lines, want it announced once", n)
		}
		time.Sleep(2 * time.Minute)
		stop()
		if n := r.lines.count(prod1 + " | pause has ended (by ann: hardware): live actions may run again"); n != 1 || r.lines.count("pause") != 2 {
			t.Errorf("after its end:\n%s", r.lines)
		}
		if n := r.log.count("a control ends", "instance="+prod1); n != 2 {
			t.Errorf("%d log lines, want one before and one at the end", n)
		}
		if len(alarms.list()) != 2 {
			t.Fatalf("alarms %+v, want one that fires and one that resolves", alarms.list())
		}
		near, end := alarms.list()[0], alarms.list()[1]
		if near.Metric != policies.MetricPause || near.Severity != policies.Notice || near.Instance != prod1 || near.IsResolved() || near.ID == "" ||
			!end.IsResolved() || end.Severity != policies.Notice || end.Instance != prod1 || end.Metric != near.Metric || !end.Since.Equal(near.Since) {
			t.Errorf("alarms %+v", alarms.list())
		}
		all, err := r.j.Controls(t.Context(), prod1, time.Time{}, time.Time{})
		if err != nil || len(all) != 2 || all[1].Control != "pause-ended" {
			t.Errorf("journal %+v, %v", all, err)
		}
	})
}

func TestAnEndWhileNoHealerRanIsSaidAtTheStart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pausedFleet(), dir)
		r.pause(prod1, time.Minute)
		r.pause("", time.Hour)
		time.Sleep(10 * time.Minute)
		var alarms raised
		stop := r.watching(&alarms)
		time.Sleep(time.Second)
		if n := r.lines.count(prod1+" | pause has ended", "still paused: all instances"); n != 1 || r.lines.count("pause") != 1 {
			t.Errorf("at the start:\n%s", r.lines)
		}
		if len(alarms.list()) != 1 || !alarms.list()[0].IsResolved() {
			t.Errorf("alarms %+v", alarms.list())
		}
		time.Sleep(time.Hour)
		stop()
		if r.lines.count("all instances | pause ends in ") != 1 || r.lines.count("all instances | pause has ended") != 1 || alarms.list()[2].Instance != policies.SelfInstance {
			t.Errorf("of all:\n%s", r.lines)
		}
	})
}

func TestWhatIsLiftedBeforeItsEndIsNotLeftFiring(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pausedFleet(), dir)
		var alarms raised
		r.pause(prod1, time.Minute)
		stop := r.watching(&alarms)
		time.Sleep(56 * time.Second)
		if _, err := r.j.ClearPause(t.Context(), prod1, "ann", "done", time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		stop()
		if r.lines.count("pause ends in") != 1 || r.lines.count("pause was lifted or changed before its end") != 1 || r.lines.count("pause") != 2 || len(alarms.list()) != 2 || !alarms.list()[1].IsResolved() {
			t.Errorf("lines:\n%s\nalarms %+v", r.lines, alarms.list())
		}
	})
}

func TestTheEndOfALiveSettingIsAnnounced(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, pausedFleet(), dir)
		var alarms raised
		r.grant(prod1, policies.ReclaimExpired, time.Now(), time.Now().Add(10*time.Minute))
		off := policies.LiveGrant{Instance: prod1, Action: policies.ReattachReplica, Until: time.Now().Add(20 * time.Minute), Reason: "freeze", By: "bob", At: time.Now()}
		if err := r.j.SetLive(t.Context(), off); err != nil {
			t.Fatal(err)
		}
		stop := r.watching(&alarms)
		time.Sleep(30 * time.Minute)
		stop()
		for _, want := range []string{
			"live setting of reclaim-expired ends in 1m0s", "live setting of reclaim-expired has ended (by tester: test): it runs dry",
			"switch-off of reattach-replica ends in 2m0s", "switch-off of reattach-replica has ended (by bob: freeze): it may run for real (live in the config)",
		} {
			if n := r.lines.count(prod1+" | ", want); n != 1 {
				t.Errorf("%d lines with %q:\n%s", n, want, r.lines)
			}
		}
		if len(alarms.list()) != 4 || alarms.list()[0].Metric != policies.MetricLive(policies.ReclaimExpired) {
			t.Errorf("alarms %+v", alarms.list())
		}
	})
}
