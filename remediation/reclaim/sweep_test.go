package reclaim

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dcshealer/policies"
)

func TestNextCount(t *testing.T) {
	t.Parallel()
	const target = 300 * time.Microsecond
	for _, c := range []struct {
		count int64
		call  time.Duration
		want  int64
	}{
		{100, 0, 200}, {100, target / 2, 200}, {100, target/2 + 1, 110}, {100, target * 7 / 10, 110}, {100, target*7/10 + 1, 100}, {100, target, 100}, {100, target + 1, 50},
		{leastCount - 1, target * 6 / 10, leastCount}, {mostCount - 1, target * 6 / 10, mostCount},
		{8000, 0, mostCount}, {mostCount, 0, mostCount}, {mostCount, time.Second, mostCount / 2},
		{15, time.Second, leastCount}, {leastCount, time.Second, leastCount}, {leastCount, 0, 2 * leastCount},
	} {
		if got := NextCount(c.count, c.call, target); got != c.want {
			t.Errorf("NextCount(%d, %s) = %d, want %d", c.count, c.call, got, c.want)
		}
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		call time.Duration
		duty float64
		want time.Duration
	}{
		{4 * time.Millisecond, 0.25, 12 * time.Millisecond}, {4 * time.Millisecond, 0.5, 4 * time.Millisecond},
		{0, 0.25, leastPause}, {10 * time.Microsecond, 0.25, leastPause}, {time.Second, 1, 0}, {time.Second, 0, leastPause}, {time.Second, 2, 0},
	} {
		if got := Pause(c.call, c.duty); got != c.want {
			t.Errorf("Pause(%s, %g) = %s, want %s", c.call, c.duty, got, c.want)
		}
	}
}

// A fake is a master whose keys are gone once they were visited. Each call takes as long as said.
type fake struct {
	snap  policies.Snapshot
	per   int64 // expired keys a visited one
	bytes int64 // freed a key
	took  func(count int64) time.Duration
	fails func(call int) error

	calls    []int64 // COUNTs
	at       []time.Time
	selected []int
	served   time.Duration // what the server spent
	hiccup   time.Duration // our own delay in each call
	left     int64         // keys to visit in the DB
	size     int64
}

var _ Conn = (*fake)(nil)

func (f *fake) Select(_ context.Context, db int) error {
	f.selected, f.left = append(f.selected, db), f.size
	return nil
}

func (f *fake) Ping(context.Context) error { time.Sleep(100 * time.Microsecond); return nil }

func (f *fake) ScanTime(context.Context) (time.Duration, error) { return f.served, nil }

func (f *fake) Scan(_ context.Context, _ uint64, count int64) (uint64, error) {
	f.calls, f.at = append(f.calls, count), append(f.at, time.Now())
	took := f.took(count)
	f.served += took
	time.Sleep(100*time.Microsecond + took + f.hiccup)
	if f.fails != nil {
		if err := f.fails(len(f.calls)); err != nil {
			return 0, err
		}
	}
	f.left -= count
	f.snap.Stats.ExpiredKeys.V += count * f.per
	f.snap.Memory.Used.V -= count * f.per * f.bytes
	if f.left <= 0 {
		return 0, nil
	}
	return uint64(f.left), nil
}

const mega = 1 << 20

// newFake is a master with 100 MiB in use and a million keys with a TTL in each of the DBs.
func newFake(dbs ...int) *fake {
	f := &fake{per: 1, bytes: 10, size: 1_000_000, took: func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }}
	f.snap = policies.Snapshot{Node: "m", Reach: policies.ReachUp, RunID: "one", KeyspaceKnown: true,
		Memory:      policies.Memory{Used: policies.Known[int64](100 * mega), NotCounted: policies.Known[int64](0), Max: policies.Known[int64](100 * mega)},
		Stats:       policies.Stats{ExpiredKeys: policies.Known[int64](1000)},
		Replication: policies.Replication{Role: policies.RoleMaster},
	}
	for _, db := range dbs {
		f.snap.DBs = append(f.snap.DBs, policies.DB{Index: db, Keys: f.size, Expires: f.size})
	}
	return f
}

func (f *fake) sweep() *Sweep {
	return &Sweep{Conn: f, Pace: policies.PresetDefault().Reclaim, Target: 10 * mega,
		Look:   func(context.Context) policies.Snapshot { return f.snap },
		Permit: func(context.Context) error { return nil }, Nap: time.Sleep}
}

// run sweeps in a bubble of false time.
func (f *fake) run(t *testing.T, ctx context.Context, s *Sweep) (r Result) {
	t.Helper()
	r, err := s.Run(ctx, f.snap)
	if err != nil && r.Stop != StopError {
		t.Errorf("error %v with the end %s", err, r.Stop)
	}
	return r
}

func TestASweepKeepsCallsToTheTargetAndItsShareOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0)
		s := f.sweep()
		r := f.run(t, t.Context(), s)
		over := 0
		for i, n := range f.calls {
			if i > 3 && f.took(n) > 2*s.Pace.CallP99 {
				over++
			}
		}
		if over > 0 || f.calls[0] != firstCount {
			t.Errorf("%d calls of twice the target, the first of %d keys", over, f.calls[0])
		}
		busy := time.Duration(0)
		for _, n := range f.calls {
			busy += f.took(n)
		}
		if share := float64(busy) / float64(r.Took); share > 0.25 {
			t.Errorf("%.2f of the time in calls, want a quarter at most", share)
		}
		if r.Stop != StopDone && r.Stop != StopTarget || r.Calls != int64(len(f.calls)) || r.Longest > 2*s.Pace.CallP99 {
			t.Errorf("result %+v", r)
		}
	})
}

func TestWhyASweepEnds(t *testing.T) {
	t.Parallel()
	boom := errors.New("connection reset")
	for name, c := range map[string]struct {
		change func(f *fake, s *Sweep, cancel context.CancelFunc)
		want   Stop
		detail string
	}{
		"every DB was visited": {func(f *fake, s *Sweep, _ context.CancelFunc) { f.bytes = 1 }, StopDone, "every DB"},
		"at the target":        {func(f *fake, s *Sweep, _ context.CancelFunc) { s.Target = 95 * mega }, StopTarget, "target"},
		"max_duration is over": {func(f *fake, s *Sweep, _ context.CancelFunc) { s.Pace.MaxDuration = 50 * time.Millisecond }, StopDeadline, "max_duration of 50ms"},
		"one slow call": {func(f *fake, s *Sweep, _ context.CancelFunc) {
			f.took = func(int64) time.Duration {
				if len(f.calls) == 5 {
					return s.Pace.AbortCall + time.Millisecond
				}
				return 0
			}
		}, StopSlowCall, "abort_call is 50ms"},
		"calls that only look slow from here": {func(f *fake, s *Sweep, _ context.CancelFunc) {
			f.size, f.hiccup = 3000, s.Pace.AbortCall+time.Millisecond
		}, StopDone, "every DB"},
		"the first pass brings nothing": {func(f *fake, s *Sweep, _ context.CancelFunc) { f.per = 0 }, StopNothing, "brought nothing"},
		"the server restarted": {func(f *fake, s *Sweep, _ context.CancelFunc) {
			f.later(3, func() { f.snap.RunID = "two" })
		}, StopChanged, "restarted"},
		"it is a replica now": {func(f *fake, s *Sweep, _ context.CancelFunc) {
			f.later(3, func() { f.snap.Replication.Role = policies.RoleReplica })
		}, StopChanged, "no longer a master"},
		"a call meets a replica": {func(f *fake, s *Sweep, _ context.CancelFunc) {
			f.fails = func(n int) error {
				if n > 3 {
					t.Error("a call after it")
				}
				if n == 3 {
					return ErrNotMaster
				}
				return nil
			}
		}, StopChanged, "no longer a master"},
		"it cannot be read": {func(f *fake, s *Sweep, _ context.CancelFunc) {
			f.later(3, func() { f.snap.Reach, f.snap.Err = policies.ReachHung, "no answer" })
		}, StopChanged, "no answer"},
		"it saves": {func(f *fake, s *Sweep, _ context.CancelFunc) {
			f.later(3, func() { f.snap.Persistence.BgsaveRunning = policies.Known(true) })
		}, StopBusy, "BGSAVE"},
		"it rewrites": {func(f *fake, s *Sweep, _ context.CancelFunc) {
			f.later(3, func() { f.snap.Persistence.AOFRewriteRunning = policies.Known(true) })
		}, StopBusy, "AOF"},
		"a replica falls far behind": {func(f *fake, s *Sweep, _ context.CancelFunc) {
			f.later(3, func() {
				f.snap.Replication.Offset = policies.Known[int64](policies.MostBehind + 2*mega)
				f.snap.Replication.Replicas = []policies.ReplicaLine{{State: "online", Offset: 1}}
			})
		}, StopBusy, "33 MiB behind"},
		"a guard denies": {func(f *fake, s *Sweep, _ context.CancelFunc) {
			s.Permit = func(context.Context) error { return errors.New("pause: paused") }
		}, StopDenied, "pause: paused"},
		"our process ends between two calls": {func(f *fake, s *Sweep, cancel context.CancelFunc) {
			f.later(10, cancel)
		}, StopCancel, "stopping"},
		"our process ends during a look": {func(f *fake, s *Sweep, cancel context.CancelFunc) {
			s.Look = func(ctx context.Context) policies.Snapshot {
				cancel()
				return seen(ctx, f.snap)
			}
		}, StopCancel, "stopping"},
		"our process ends while the guards are asked": {func(f *fake, s *Sweep, cancel context.CancelFunc) {
			s.Permit = func(ctx context.Context) error {
				cancel()
				return ctx.Err()
			}
		}, StopCancel, "stopping"},
		"the connection breaks": {func(f *fake, s *Sweep, _ context.CancelFunc) {
			f.fails = func(n int) error {
				if n == 3 {
					return boom
				}
				return nil
			}
		}, StopError, "connection reset"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(0, 3)
				s := f.sweep()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				c.change(f, s, cancel)
				r, err := s.Run(ctx, f.snap)
				if r.Stop != c.want || !strings.Contains(r.Detail, c.detail) {
					t.Errorf("ended by %s (%s), want %s (%s)", r.Stop, r.Detail, c.want, c.detail)
				}
				if (err != nil) != (c.want == StopError) || c.want == StopError && !errors.Is(err, boom) {
					t.Errorf("error %v with the end %s", err, r.Stop)
				}
				if c.want == StopDone && (!slices.Equal(f.selected, []int{0, 3}) || len(r.PerDB) != 2) {
					t.Errorf("DBs %v, visited %v; want both", f.selected, r.PerDB)
				}
			})
		})
	}
}

// later does it right after the nth call.
func (f *fake) later(n int, do func()) {
	f.fails = func(call int) error {
		if call == n {
			do()
		}
		return nil
	}
}

// seen is what a real prober reads under a context: nothing once it has ended.
func seen(ctx context.Context, s policies.Snapshot) policies.Snapshot {
	if ctx.Err() != nil {
		return policies.Snapshot{Node: s.Node, Reach: policies.ReachOdd, Err: "the probe was cancelled before the node answered"}
	}
	return s
}

func TestDBsWithoutVolatileKeysAreNotVisited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0, 3, 15)
		f.size, f.bytes = 1000, 1
		f.snap.DBs[1].Expires = 0
		if r := f.run(t, t.Context(), f.sweep()); r.Stop != StopDone || !slices.Equal(f.selected, []int{0, 15}) {
			t.Errorf("ended by %s after DBs %v, want 0 and 15", r.Stop, f.selected)
		}
	})
}

func TestASweepSlowsDownWhenReplicasFallBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0)
		f.bytes = 1
		f.snap.Replication.Offset = policies.Known[int64](10 * mega)
		f.snap.Replication.Replicas = []policies.ReplicaLine{{State: "online", Offset: 10 * mega}}
		s := f.sweep()
		calm := f.run(t, t.Context(), s)
		g := newFake(0)
		g.bytes = 1
		g.snap.Replication = f.snap.Replication
		g.later(1, func() { g.snap.Replication.Offset = policies.Known[int64](10*mega + maxLagGrowth + 1) })
		if slow := g.run(t, t.Context(), g.sweep()); slow.Took < 2*calm.Took {
			t.Errorf("took %s with replicas in step and %s with one that falls behind", calm.Took, slow.Took)
		}
	})
}

func TestPressure(t *testing.T) {
	t.Parallel()
	at := time.Now()
	calm := policies.Snapshot{At: at, Memory: policies.Memory{ClientsReplicas: policies.Known[int64](1000)},
		Stats:       policies.Stats{CPUSeconds: policies.Known(10.0), OpsPerSecond: policies.Known[int64](5000)},
		Replication: policies.Replication{Role: policies.RoleMaster, Offset: policies.Known[int64](mega), Replicas: []policies.ReplicaLine{{State: "online", Offset: mega}}}}
	for name, c := range map[string]struct {
		change func(now *policies.Snapshot)
		want   string
	}{
		"nothing":               {func(*policies.Snapshot) {}, ""},
		"replicas fall behind":  {func(now *policies.Snapshot) { now.Replication.Offset.V += maxLagGrowth + 1 }, "replicas fall behind"},
		"their buffers grow":    {func(now *policies.Snapshot) { now.Memory.ClientsReplicas.V += bufferGrowth + 1 }, "replica buffers grow"},
		"the main thread busy":  {func(now *policies.Snapshot) { now.Stats.CPUSeconds.V += 0.98 }, "the CPU is busy"},
		"half busy":             {func(now *policies.Snapshot) { now.Stats.CPUSeconds.V += 0.5 }, ""},
		"the CPU is not known":  {func(now *policies.Snapshot) { now.Stats.CPUSeconds = policies.Opt[float64]{} }, ""},
		"serves less than half": {func(now *policies.Snapshot) { now.Stats.OpsPerSecond.V = 2400 }, "the server serves less"},
	} {
		now := calm
		now.At = at.Add(time.Second)
		c.change(&now)
		if got := Pressure(calm, calm, now); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	quiet := calm
	quiet.Stats.OpsPerSecond = policies.Known[int64](10)
	if got := Pressure(quiet, quiet, quiet); got != "" {
		t.Errorf("a quiet server is under pressure: %q", got)
	}
}

// A sweep that was stopped goes on where it left; one of another run of the server starts over.
func TestASweepGoesOnWhereAnEarlierOneLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		from     Place
		selected []int
	}{
		"the beginning":          {Place{}, []int{0, 3, 5}},
		"in the middle of DB 3":  {Place{RunID: "one", DB: 3, Cursor: 400}, []int{3, 5, 0, 3}},
		"at the start of DB 3":   {Place{RunID: "one", DB: 3}, []int{3, 5, 0}},
		"of another run":         {Place{RunID: "zero", DB: 3, Cursor: 400}, []int{3, 5, 0}},
		"a DB that is gone":      {Place{RunID: "one", DB: 4, Cursor: 9}, []int{5, 0, 3}},
		"behind the last DB":     {Place{RunID: "one", DB: 9, Cursor: 9}, []int{0, 3, 5}},
		"in the middle of DB 0 ": {Place{RunID: "one", DB: 0, Cursor: 400}, []int{0, 3, 5, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(0, 3, 5)
				f.size, f.bytes = 1000, 1
				s := f.sweep()
				s.From = c.from
				if r := f.run(t, t.Context(), s); r.Stop != StopDone || !slices.Equal(f.selected, c.selected) || r.At != (Place{RunID: "one"}) {
					t.Errorf("ended by %s after DBs %v at %+v, want %v and the beginning", r.Stop, f.selected, r.At, c.selected)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0, 3)
		f.bytes = 1
		s := f.sweep()
		s.Pace.MaxDuration = 100 * time.Millisecond
		if r := f.run(t, t.Context(), s); r.Stop != StopDeadline || r.At.RunID != "one" || r.At.Cursor == 0 {
			t.Errorf("ended by %s at %+v, want the place where it left", r.Stop, r.At)
		}
	})
}

func TestAfterASlowCallASweepStopsOrGoesOnInTheSmallestSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0)
		f.size, f.bytes = 20_000, 1
		s := f.sweep()
		s.Pace.OnSlowCall = policies.SlowCallSlows
		f.took = func(int64) time.Duration {
			if len(f.calls) == 5 {
				return s.Pace.AbortCall + time.Millisecond
			}
			return 0
		}
		r := f.run(t, t.Context(), s)
		if r.Stop != StopDone || f.calls[5] != leastCount || f.calls[len(f.calls)-1] != leastCount || f.at[5].Sub(f.at[4]) < time.Second || r.Slowed["a slow call"] != 1 {
			t.Errorf("ended by %s; calls of %v keys after the slow one, %s later; slowed %v", r.Stop, f.calls[5], f.at[5].Sub(f.at[4]), r.Slowed)
		}
		g := newFake(0)
		g.bytes = 1
		g.took = func(int64) time.Duration { return s.Pace.AbortCall + time.Millisecond }
		u := g.sweep()
		u.Pace.OnSlowCall = policies.SlowCallSlows
		if r := g.run(t, t.Context(), u); r.Stop != StopSlowCall || r.Calls != mostSlow+1 {
			t.Errorf("ended by %s after %d calls, each of them slow; want %d", r.Stop, r.Calls, mostSlow+1)
		}
	})
}

func TestACounterThatWasResetIsCountedFromThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0)
		f.size, f.bytes = 5000, 1
		f.later(2, func() { f.snap.Stats.ExpiredKeys.V = 0 })
		if r := f.run(t, t.Context(), f.sweep()); r.Keys < 0 || r.Keys > 5000*2 {
			t.Errorf("%d keys reported", r.Keys)
		}
	})
}

// sweepOf is a sweep of a real server at a pace that a busy test machine does not break.
func sweepOf(s *server, target int64) *Sweep {
	pace := policies.PresetDefault().Reclaim
	pace.CallP99, pace.Duty, pace.AbortCall = 20*time.Millisecond, 80, 5*time.Second
	return &Sweep{Conn: s.writer(), Pace: pace, Target: target, Look: s.p.Probe, Permit: func(context.Context) error { return nil }}
}

func TestExpiredKeysOfThreeDBsAreDeletedAndNothingElse(t *testing.T) {
	t.Parallel()
	const stale, live, plain = 70_000, 500, 300
	dbs := []int{0, 3, 15}
	s := startServer(t)
	for _, db := range dbs {
		s.fill(db, stale, time.Millisecond)
		s.fill(db, live, time.Hour)
		s.fill(db, plain, 0)
	}
	s.fill(7, plain, 0) // nothing volatile: not visited
	before := s.p.Probe(t.Context())
	if got := before.Keys().Or(0); got != 3*(stale+live+plain)+plain {
		t.Fatalf("%d keys before", got)
	}
	s.do("CONFIG", "RESETSTAT")
	before = s.p.Probe(t.Context())
	used := s.field("memory", "used_memory")
	r, err := sweepOf(s, 0).Run(t.Context(), before)
	if err != nil || r.Stop != StopDone {
		t.Fatalf("ended by %s (%s), error %v", r.Stop, r.Detail, err)
	}
	for _, db := range dbs {
		if n := s.keys(db); n != live+plain {
			t.Errorf("DB %d holds %d keys, want %d", db, n, live+plain)
		}
	}
	if n := s.keys(7); n != plain || len(r.PerDB) != 3 {
		t.Errorf("DB 7 holds %d keys; visited %v", n, r.PerDB)
	}
	if truth := s.field("stats", "expired_keys"); r.Keys != truth || truth != 3*stale {
		t.Errorf("%d keys reported, the server counted %d, the truth is %d", r.Keys, truth, 3*stale)
	}
	if truth := used - s.field("memory", "used_memory"); r.Bytes < truth*9/10 || r.Bytes > truth*11/10 || r.Bytes < 3*stale*40 {
		t.Errorf("%d bytes reported, used_memory fell by %d", r.Bytes, truth)
	}
	t.Logf("%d keys, %d bytes in %s by %d calls, longest %s", r.Keys, r.Bytes, r.Took, r.Calls, r.Longest)
}

func TestASweepOfAServerStopsAtTheTarget(t *testing.T) {
	t.Parallel()
	const stale = 150_000
	s := startServer(t)
	s.fill(0, stale, time.Millisecond)
	before := s.p.Probe(t.Context())
	w := sweepOf(s, before.Memory.Counted().V*8/10)
	w.Pace.CallP99 = 2 * time.Millisecond
	w.Pace.Duty = 5
	r, err := w.Run(t.Context(), before)
	if err != nil || r.Stop != StopTarget {
		t.Fatalf("ended by %s (%s), error %v", r.Stop, r.Detail, err)
	}
	if left := s.keys(0); left == 0 || int64(stale-left) != r.Keys {
		t.Errorf("%d keys are left and %d reported as deleted of %d", left, r.Keys, stale)
	}
	if r.After.Memory.Counted().V > w.Target {
		t.Errorf("memory is at %d, the target was %d", r.After.Memory.Counted().V, w.Target)
	}
}

func TestASweepWithNothingExpiredEndsItselfAndChangesNothing(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.fill(0, 300_000, time.Hour)
	digest := s.do("DEBUG", "DIGEST")
	w := sweepOf(s, 0)
	w.Pace.CallP99, w.Pace.Duty = 2*time.Millisecond, 25 // long enough for a look on the way
	r, err := w.Run(t.Context(), s.p.Probe(t.Context()))
	if err != nil || r.Keys != 0 || r.Stop != StopNothing && r.Stop != StopDone {
		t.Errorf("ended by %s (%s) with %d keys, error %v; want nothing", r.Stop, r.Detail, r.Keys, err)
	}
	if r.Stop == StopDone && r.Took > 2*time.Second {
		t.Errorf("it went through all %d keys in %s although the first brought nothing", r.Visited, r.Took)
	}
	if s.keys(0) != 300_000 || s.do("DEBUG", "DIGEST") != digest {
		t.Error("the data changed")
	}
}

func TestAServerThatGoesAwayEndsTheSweep(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.fill(0, 50_000, time.Millisecond)
	w := sweepOf(s, 0)
	w.Pace.CallP99, w.Pace.Duty = time.Nanosecond, 5
	look := w.Look
	w.Look = func(ctx context.Context) policies.Snapshot {
		s.C.Do(ctx, "SHUTDOWN", "NOSAVE") // the answer is a closed connection
		return look(ctx)
	}
	r, err := w.Run(t.Context(), s.p.Probe(t.Context()))
	if r.Stop != StopError && r.Stop != StopChanged || r.Stop == StopError && err == nil || r.Calls == 0 {
		t.Errorf("ended by %s (%s) after %d calls, error %v", r.Stop, r.Detail, r.Calls, err)
	}
}

// A load that went away by itself is no reason to go slowly to the end.
func TestASweepTakesALowerRateForCalmOnceSlowingDownDoesNotRaiseIt(t *testing.T) {
	t.Parallel()
	at := func(ops int64) policies.Snapshot {
		return policies.Snapshot{Stats: policies.Stats{OpsPerSecond: policies.Known(ops)}}
	}
	r := &run{calm: at(100_000), r: Result{Slowed: map[string]int{}}}
	for look := range lessLooks {
		if why := Pressure(r.calm, at(0), at(1000)); why != servesLess {
			t.Fatalf("look %d: %q, want the pressure", look, why)
		}
		r.unmoved(servesLess, at(1000))
	}
	if why := Pressure(r.calm, at(0), at(1000)); why != "" {
		t.Errorf("after %d looks: %q", lessLooks, why)
	}
	if why := Pressure(r.calm, at(0), at(400)); why != servesLess {
		t.Errorf("less than half of that: %q, want the pressure", why)
	}
}
