package remediation

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// fullOfStale is a master without room whose memory is expired keys, and half a thousand live ones.
func fullOfStale(t *testing.T, n int) *server {
	t.Helper()
	s := startServer(t)
	s.fill(0, 500, 40, 0)
	s.stale(n, 0)
	s.limit(100)
	if err := s.c.Set(context.Background(), "refused", "x", 0).Err(); err == nil || !strings.HasPrefix(err.Error(), "OOM") {
		t.Fatalf("SET on a full server: %v, want OOM", err)
	}
	return s
}

func (s *server) takesWrites() {
	s.t.Helper()
	if err := s.c.Set(context.Background(), "welcome", "x", 0).Err(); err != nil {
		s.t.Errorf("SET after the repair: %v", err)
	}
}

func TestAFullMasterOfExpiredKeysIsSwept(t *testing.T) {
	t.Parallel()
	const stale = 200_000
	s := fullOfStale(t, stale)
	r := newRig(t, fleet(instance(prod1, reclaimLive, s)), "").start()
	s.do("CONFIG", "RESETSTAT")
	a := r.alarm(prod1, memory)
	rec := r.record(prod1, memory, policies.OutcomeSucceeded)
	calls := s.writes()
	truth := s.number("stats", "expired_keys")
	if calls["scan"] == 0 || calls["config|set"] != 2 || len(calls) != 2 {
		t.Errorf("the server was sent %v by its own count, want SCAN, and CONFIG SET before and after it", calls)
	}
	if got := s.setting(lazyExpire); got != "no" {
		t.Errorf("%s is %s after the sweep, it was no", lazyExpire, got)
	}
	scans := slices.IndexFunc(rec.Commands, func(c policies.CommandRecord) bool { return c.Args[0] == "SCAN" })
	switch {
	case scans < 0 || rec.Commands[scans].Count != int64(calls["scan"]):
		t.Errorf("commands %+v, the server counted %d SCANs", rec.Commands, calls["scan"])
	case rec.Effect["keys"] != float64(truth) || truth < stale/10:
		t.Errorf("effect %v, the server counted %d expired keys", rec.Effect, truth)
	case rec.Cause != policies.CauseExpiredKeys || rec.Alarm != a.ID || rec.Mode != policies.Live || rec.Effect["solved"] != true:
		t.Errorf("record %+v", rec)
	case rec.Effect["bytes"].(float64) < float64(truth)*40:
		t.Errorf("%v bytes reported for %d keys of 40 bytes", rec.Effect["bytes"], truth)
	}
	for _, parts := range [][]string{{"Full memory detected -> Automatic cleanup triggered: " + prod1}, {"diagnosis: expired-keys"}, {"plan (live): reclaim-expired", "not known without acting"},
		{"result: succeeded: reclaim-expired", fmt.Sprint(truth, " expired keys deleted")}} {
		r.waitLine(parts...)
	}
	s.takesWrites()
	if n, _ := s.c.Eval(context.Background(), "return #redis.call('KEYS', 'key:0:*')", nil).Int(); n != 500 {
		t.Errorf("%d of 500 keys without TTL are left", n)
	}
	r.waitState(prod1, policies.StateCooldown)
	r.sent(prod1, 1)
	r.whole()
}

func TestAFullMasterInDryRunIsOnlyPlanned(t *testing.T) {
	t.Parallel()
	s := fullOfStale(t, 200_000)
	r := newRig(t, fleet(instance(prod1, dry, s)), "").start()
	check := untouched(t, s)
	r.alarm(prod1, memory)
	rec := r.record(prod1, memory, policies.OutcomePlanned)
	r.waitState(prod1, policies.StateHeld)
	if !slices.Equal(rec.DeniedBy, []policies.Guard{policies.GuardMode}) || rec.Cause != policies.CauseExpiredKeys || rec.Action != policies.ReclaimExpired {
		t.Errorf("record %+v, want a plan that the dry run alone stops", rec)
	}
	rounds(t, s, 2)
	r.only(prod1, 1)
	check()
	if n := s.number("stats", "expired_keys"); n != 0 {
		t.Errorf("%d keys expired", n)
	}
	r.whole()
}

func TestTheEstimateOfAReplicaInStepIsNearTheTruth(t *testing.T) {
	t.Parallel()
	const stale = 50_000
	m, x := startServer(t), startServer(t)
	m.do("DEBUG", "SET-ACTIVE-EXPIRE", "0")
	m.fill(0, 2000, 40, 0)
	m.fill(0, 2000, 40, time.Hour)
	x.follow(m)
	m.stale(stale, 0)
	eventually(t, "the replica holds all keys", func() bool { return x.keys(0) == m.keys(0) && m.keys(0) == 4000+stale })
	m.limit(100)
	r := newRig(t, fleet(instance(prod1, dry, m, x)), "").start()
	check := untouched(t, m, x)
	r.alarm(prod1, memory)
	rec := r.record(prod1, memory, policies.OutcomePlanned)
	if e := rec.Expect; !e.ExpiredKeys.Known || e.ExpiredKeys.V < stale*9/10 || e.ExpiredKeys.V > stale*11/10 || e.Known == nil || !*e.Known || e.Method == "" {
		t.Errorf("expected %+v, the truth is %d", e, stale)
	}
	if x.calls()["scan"] == 0 {
		t.Error("nothing was counted on the replica")
	}
	check()
	r.whole()
}

func TestMemoryThatNoSweepFreesIsLeftToAPerson(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fill  func(t *testing.T, s *server)
		cause policies.Cause
	}{
		"data without a TTL": {func(t *testing.T, s *server) {
			s.fill(0, 50_000, 100, 0)
			s.limit(99)
		}, policies.CauseDataWithoutTTL},
		"client buffers": {func(t *testing.T, s *server) {
			s.do("CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0")
			s.fill(0, 2000, 100, time.Hour)
			deaf(t, s, 30<<20)
			s.limit(99)
		}, policies.CauseClientBuffers},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			c.fill(t, s)
			r := newRig(t, fleet(instance(prod1, reclaimLive, s)), "").start()
			check := untouched(t, s)
			r.alarm(prod1, memory)
			rec := r.refuses(prod1, memory, c.cause, policies.GuardWorthwhile)
			if !slices.Equal(steady(rec.DeniedBy), []policies.Guard{policies.GuardWorthwhile}) {
				t.Errorf("denied by %v, want worthwhile alone", rec.DeniedBy)
			}
			rounds(t, s, 2)
			r.only(prod1, 1)
			check()
			r.whole()
		})
	}
}

// deaf subscribes a client that never reads, and publishes until its buffer holds about so many bytes.
func deaf(t *testing.T, s *server, bytes int) {
	t.Helper()
	c, err := net.Dial("tcp", s.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Write([]byte("SUBSCRIBE noise\r\n")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the subscription stands", func() bool { return s.c.PubSubNumSub(context.Background(), "noise").Val()["noise"] == 1 })
	s.do("CONFIG", "SET", "maxmemory", 0)
	for range bytes >> 20 {
		s.do("PUBLISH", "noise", strings.Repeat("x", 1<<20))
	}
}

// sweeping is a slow sweep under way.
func sweeping(t *testing.T, dir string) (*server, *rig) {
	t.Helper()
	s := fullOfStale(t, 100_000)
	return s, sweepSlowly(t, s, fleet(instance(prod1, reclaimLive, s)), dir)
}

func sweepSlowly(t *testing.T, s *server, c policies.Config, dir string) *rig {
	t.Helper()
	adjust(&c, slowly)
	r := newRig(t, c, dir).start()
	s.do("CONFIG", "RESETSTAT")
	r.alarm(prod1, memory)
	eventually(t, "the sweep is under way", func() bool { return s.calls()["scan"] > 20 })
	return r
}

func TestAPauseStopsASweepUnderWay(t *testing.T) {
	t.Parallel()
	s, r := sweeping(t, "")
	if err := r.j.SetPause(context.Background(), journal.Pause{Instance: prod1, Reason: "a look at it first", By: "tester"}); err != nil {
		t.Fatal(err)
	}
	rec := r.record(prod1, memory, policies.OutcomeDenied)
	if rec.Effect["stop"] != "denied" || !strings.Contains(rec.Error, "a look at it first") {
		t.Errorf("effect %v, error %q: want the pause and its reason", rec.Effect, rec.Error)
	}
	if !slices.Contains(rec.DeniedBy, policies.GuardPause) {
		t.Errorf("denied by %v, want pause: a denied record names the guard", rec.DeniedBy)
	}
	r.waitState(prod1, policies.StateHeld) // diagnosed anew, and the pause holds the next plan
	n := s.calls()["scan"]
	rounds(t, s, 2)
	if now := s.calls()["scan"]; now != n || n == 0 {
		t.Errorf("%d SCANs after the pause, %d before", now, n)
	}
	if data, _ := r.h.breakers.store.GetData("gobreaker:state:" + breakerName(prod1, policies.ReclaimExpired)); strings.Contains(string(data), `"TotalFailures":1`) {
		t.Errorf("breaker %s, want no failure counted", data)
	}
	if lifted, err := r.j.ClearPause(context.Background(), prod1, "tester", "looked at", time.Now()); err != nil || !lifted {
		t.Fatalf("lifted %v, %v", lifted, err)
	}
	eventually(t, "the sweep goes on", func() bool { return s.calls()["scan"] > n })
	r.whole()
}

func TestARevokedGrantStopsASweepUnderWay(t *testing.T) {
	t.Parallel()
	s, r := sweeping(t, "")
	g := policies.LiveGrant{Instance: prod1, Action: policies.ReclaimExpired, Enabled: false, Reason: "not now", By: "tester"}
	if err := r.j.SetLive(context.Background(), g); err != nil {
		t.Fatal(err)
	}
	rec := r.record(prod1, memory, policies.OutcomeDenied)
	if rec.Effect["stop"] != "denied" || !strings.Contains(rec.Error, "not now") {
		t.Errorf("effect %v, error %q: want the revocation", rec.Effect, rec.Error)
	}
	n := s.calls()["scan"]
	rounds(t, s, 2)
	if now := s.calls()["scan"]; now != n {
		t.Errorf("%d SCANs after the revocation, %d before", now, n)
	}
	r.whole()
}

func TestAStopDuringASweepIsInterrupted(t *testing.T) {
	t.Parallel()
	s, r := sweeping(t, "")
	start := time.Now()
	if err := r.stop(); err != nil {
		t.Errorf("Run returned %v, want nil", err)
	}
	t.Logf("Run returned %s after its context ended", time.Since(start).Round(time.Millisecond))
	n := s.calls()["scan"]
	all := r.records(prod1)
	if len(all) != 1 || all[0].Outcome != policies.OutcomeInterrupted || all[0].Finished.IsZero() || all[0].Effect["stop"] != "cancelled" {
		t.Fatalf("records %+v, want one that was interrupted", all)
	}
	if i := slices.IndexFunc(all[0].Commands, func(c policies.CommandRecord) bool { return c.Args[0] == "SCAN" }); i < 0 || all[0].Commands[i].Count != int64(n) {
		t.Errorf("commands %+v, the server counted %d SCANs", all[0].Commands, n)
	}
	if got := all[0].Effect["keys"]; got != float64(s.number("stats", "expired_keys")) {
		t.Errorf("%v keys reported, the server counted %d", got, s.number("stats", "expired_keys"))
	}
	r.whole()
}

func TestASweepThatBringsNothingIsIneffectiveAndRests(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.fill(0, 150_000, 40, time.Hour) // volatile, and nothing has expired
	s.limit(100)
	r := newRig(t, fleet(instance(prod1, reclaimLive, s)), "").start()
	digest := s.do("DEBUG", "DIGEST")
	r.alarm(prod1, memory)
	rec := r.record(prod1, memory, policies.OutcomeIneffective)
	if rec.Effect["keys"] != float64(0) || rec.Effect["solved"] != false {
		t.Errorf("effect %v, want nothing", rec.Effect)
	}
	r.waitState(prod1, policies.StateHeld)
	next := r.record(prod1, memory, policies.OutcomeDenied)
	if !slices.Contains(next.DeniedBy, policies.GuardCooldown) {
		t.Errorf("denied by %v after it, want cooldown", next.DeniedBy)
	}
	if now := s.do("DEBUG", "DIGEST"); now != digest {
		t.Error("the data changed")
	}
	r.whole()
}

// Without a replica in step nobody knows how many keys have expired: the plan says between what it lies.
func TestAPlanWithoutAReplicaBoundsWhatMayComeFree(t *testing.T) {
	t.Parallel()
	s := fullOfStale(t, 2000)
	r := newRig(t, fleet(instance(prod1, dry, s)), "").start()
	r.alarm(prod1, memory)
	rec := r.record(prod1, memory, policies.OutcomePlanned)
	if e := rec.Expect; e.Known == nil || *e.Known || !strings.Contains(e.Method, "not known without acting: none to all of the 2000 keys with a TTL, 0 to ") {
		t.Errorf("expect %+v", e)
	}
	r.whole()
}
