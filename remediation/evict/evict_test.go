package evict

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dcshealer/agent/probe"
	"dcshealer/policies"
)

const mega = int64(1 << 20)

type fakeKey struct {
	expires time.Time // zero: never
	size    int64
}

// A fake is a server whose keys are in a map. Freeing a key frees twice its size.
type fake struct {
	dbs     map[int]map[probe.KeyName]fakeKey
	db      int
	snap    policies.Snapshot
	batches []int
	deleted []probe.KeyName
	at      []time.Time // of each UnlinkNear
	took    time.Duration
	served  time.Duration
	scans   int
	reads   int                   // of TTLs
	before  func(batch int) error // told before each UnlinkNear
	onRead  func(n int)           // told before each TTLs
}

var _ Conn = (*fake)(nil)

func newFake() *fake {
	f := &fake{dbs: map[int]map[probe.KeyName]fakeKey{}, took: 100 * time.Microsecond}
	f.snap = policies.Snapshot{Node: "m", Reach: policies.ReachUp, RunID: "one", KeyspaceKnown: true,
		Replication: policies.Replication{Role: policies.RoleMaster},
		Memory:      policies.Memory{Used: policies.Known(100 * mega), NotCounted: policies.Known(int64(0)), Max: policies.Known(100 * mega)}}
	return f
}

// fill adds n keys that expire after 1 s, 2 s, ...
func (f *fake) fill(db, n int, size int64) {
	if f.dbs[db] == nil {
		f.dbs[db] = map[probe.KeyName]fakeKey{}
		f.snap.DBs = append(f.snap.DBs, policies.DB{Index: db, Keys: 1, Expires: 1})
	}
	for i := range n {
		f.dbs[db][probe.KeyName(fmt.Sprintf("k:%d:%04d", db, i))] = fakeKey{time.Now().Add(time.Duration(i+1) * time.Second), size}
	}
}

func (f *fake) Select(_ context.Context, db int) error        { f.db = db; return nil }
func (f *fake) Ping(context.Context) error                    { return nil }
func (f *fake) Served(context.Context) (time.Duration, error) { return f.served, nil }

func (f *fake) ScanNames(context.Context, uint64, int64) ([]probe.KeyName, uint64, error) {
	f.scans++
	return slices.Sorted(maps.Keys(f.dbs[f.db])), 0, nil
}

func (f *fake) TTLs(_ context.Context, names []probe.KeyName) (out []int64, err error) {
	f.reads++
	if f.onRead != nil {
		f.onRead(f.reads)
	}
	defer time.Sleep(time.Duration(f.reads) * time.Millisecond) // the answer is on its way, for longer each time
	for _, n := range names {
		out = append(out, f.pttl(n))
	}
	return out, nil
}

func (f *fake) pttl(n probe.KeyName) int64 {
	k, ok := f.dbs[f.db][n]
	switch {
	case !ok:
		return -2
	case k.expires.IsZero():
		return -1
	}
	return max(-2, time.Until(k.expires).Milliseconds())
}

func (f *fake) Sizes(_ context.Context, names []probe.KeyName) (out []int64, err error) {
	for _, n := range names {
		out = append(out, f.dbs[f.db][n].size)
	}
	return out, nil
}

func (f *fake) UnlinkNear(_ context.Context, names []probe.KeyName, most []int64) (out []Fate, err error) {
	f.batches, f.at = append(f.batches, len(names)), append(f.at, time.Now())
	if f.before != nil {
		if err := f.before(len(f.batches)); err != nil {
			return nil, err
		}
	}
	time.Sleep(f.took)
	f.served += f.took
	for i, n := range names {
		left := f.pttl(n)
		switch {
		case left > 0 && left <= most[i]:
			f.snap.Memory.Used.V -= 2 * f.dbs[f.db][n].size
			f.deleted = append(f.deleted, n)
			delete(f.dbs[f.db], n)
			out = append(out, Deleted)
		case left > 0:
			out = append(out, Raised)
		default:
			out = append(out, Fate(left))
		}
	}
	return out, nil
}

func (f *fake) set(db int, n probe.KeyName, change func(*fakeKey)) {
	k := f.dbs[db][n]
	change(&k)
	f.dbs[db][n] = k
}

// eviction looks on the master itself.
func (f *fake) eviction() *Eviction {
	p := policies.PresetDefault()
	p.Evict.Allow = []string{"k:*"}
	return &Eviction{Conn: f, Policy: p.Evict, Pace: p.Reclaim, Target: 70 * mega,
		Look:   func(context.Context) policies.Snapshot { return f.snap },
		Permit: func(context.Context) error { return nil }}
}

func (f *fake) run(t *testing.T, e *Eviction) Result {
	t.Helper()
	r, err := e.Run(t.Context(), f.snap)
	if err != nil {
		t.Fatal(err)
	}
	var taken int64
	for _, b := range r.By {
		taken += b.Keys
	}
	if n := int64(len(f.deleted)); r.Keys != n || taken != n || int(r.Calls) != len(f.batches) || r.Stop == "" || r.Detail == "" {
		t.Errorf("%d keys are gone in %d calls; reported %+v", n, len(f.batches), r)
	}
	return r
}

func TestTheNearestGoFirstInSmallPacedBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.fill(0, 250, 100)
		f.fill(3, 250, 100)
		r := f.run(t, f.eviction())
		if r.Stop != StopDone || r.Keys < 490 || len(f.dbs[0])+len(f.dbs[3])+int(r.Keys) != 500 {
			t.Fatalf("ended by %s (%s) with %d keys, %d and %d left", r.Stop, r.Detail, r.Keys, len(f.dbs[0]), len(f.dbs[3]))
		}
		last := 0 // a window of 50 keys is deleted DB by DB: no key comes more than that too late
		for i, n := range f.deleted {
			var db, second int
			if _, err := fmt.Sscanf(string(n), "k:%d:%d", &db, &second); err != nil {
				t.Fatal(err)
			}
			if second < last-mostBatch {
				t.Fatalf("key %d is of second %d, after one of second %d", i, second, last)
			}
			last = max(last, second)
		}
		for i := range f.batches {
			if f.batches[i] > mostBatch {
				t.Errorf("a batch of %d keys", f.batches[i])
			}
			if i > 0 && f.at[i].Sub(f.at[i-1]) < f.took+max(leastPause, 3*f.took) {
				t.Errorf("%s from one call of %s to the next", f.at[i].Sub(f.at[i-1]), f.took)
			}
		}
	})
}

func TestABatchThatTakesLongIsFollowedByASmallerOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.fill(0, 200, 100)
		f.took = 10 * time.Millisecond // over call_p99, under abort_call
		r := f.run(t, f.eviction())
		if r.Stop != StopDone || slices.Max(f.batches) != firstBatch || f.batches[len(f.batches)-1] != 1 {
			t.Errorf("ended by %s, batches %v", r.Stop, f.batches)
		}
		for i := 1; i < len(f.at); i++ {
			if f.at[i].Sub(f.at[i-1]) < 4*f.took {
				t.Fatalf("%s from one call of %s to the next, want a pause of three times the call", f.at[i].Sub(f.at[i-1]), f.took)
			}
		}
	})
}

func TestEnds(t *testing.T) {
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		change func(f *fake, e *Eviction)
		want   Stop
		keys   func(n int64) bool
	}{
		"every key was tried": {func(f *fake, e *Eviction) {}, StopDone, func(n int64) bool { return n > 250 }},
		"max_keys":            {func(f *fake, e *Eviction) { e.Policy.MaxKeys = 33 }, StopCapped, func(n int64) bool { return n == 33 }},
		"max_mb": {func(f *fake, e *Eviction) {
			e.Policy.MaxMB = 1
			for name := range f.dbs[0] {
				f.set(0, name, func(k *fakeKey) { k.size = mega / 10 })
			}
		}, StopCapped, func(n int64) bool { return n == 10 }},
		"a key bigger than max_mb": {func(f *fake, e *Eviction) {
			e.Policy.MaxMB = 1
			f.set(0, "k:0:0100", func(k *fakeKey) { k.size = mega + 1 })
		}, StopCapped, func(n int64) bool { return n > 250 }},
		"the target, with no more than it takes": {func(f *fake, e *Eviction) {
			for name := range f.dbs[0] {
				f.set(0, name, func(k *fakeKey) { k.size = mega })
			}
		}, StopTarget, func(n int64) bool { return n == 15 }}, // 30 MiB to go, 2 a key
		"at the target already":     {func(f *fake, e *Eviction) { e.Target = 100 * mega }, StopTarget, none},
		"nothing qualifies":         {func(f *fake, e *Eviction) { e.Policy.Allow = []string{"x"} }, StopNothing, none},
		"everything protected":      {func(f *fake, e *Eviction) { e.Policy.Protect = []string{"*"} }, StopNothing, none},
		"no key within the horizon": {func(f *fake, e *Eviction) { e.Policy.Horizon = time.Millisecond }, StopNothing, none},
		"denied before the first": {func(f *fake, e *Eviction) {
			e.Permit = func(context.Context) error { return errors.New("pause: lunch") }
		}, StopDenied, none},
		"denied on the way": {func(f *fake, e *Eviction) {
			f.took = 40 * time.Millisecond
			e.Permit = func(context.Context) error {
				if len(f.batches) > 0 {
					return errors.New("mode: revoked")
				}
				return nil
			}
		}, StopDenied, some},
		"restarted":           {func(f *fake, e *Eviction) { e.Ready = func() { f.snap.RunID = "two" } }, StopChanged, none},
		"no longer a master":  {func(f *fake, e *Eviction) { e.Ready = func() { f.snap.Replication.Role = policies.RoleReplica } }, StopChanged, none},
		"not readable":        {func(f *fake, e *Eviction) { e.Ready = func() { f.snap.Reach = policies.ReachHung } }, StopChanged, none},
		"memory not readable": {func(f *fake, e *Eviction) { e.Ready = func() { f.snap.Memory.Used = policies.Opt[int64]{} } }, StopChanged, none},
		"saving": {func(f *fake, e *Eviction) {
			e.Ready = func() { f.snap.Persistence.BgsaveRunning = policies.Known(true) }
		}, StopBusy, none},
		"paused": {func(f *fake, e *Eviction) {
			e.Ready = func() { f.snap.Clients.Paused = policies.Known("client_pause") }
		}, StopBusy, none},
		"one long call": {func(f *fake, e *Eviction) { f.took = e.Pace.AbortCall + time.Millisecond }, StopSlowCall, func(n int64) bool { return n == firstBatch }},
		"out of time":   {func(f *fake, e *Eviction) { e.Pace.MaxDuration, f.took = time.Second, 40*time.Millisecond }, StopDeadline, some},
		"the connection breaks": {func(f *fake, e *Eviction) {
			f.before = func(batch int) error {
				if batch == 3 {
					return boom
				}
				return nil
			}
		}, StopError, some},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.fill(0, 280, 100)
				e := f.eviction()
				c.change(f, e)
				r, err := e.Run(t.Context(), f.snap)
				if r.Stop != c.want || !c.keys(r.Keys) || r.Keys != int64(len(f.deleted)) {
					t.Errorf("ended by %s (%s) with %d keys (%d are gone), want %s", r.Stop, r.Detail, r.Keys, len(f.deleted), c.want)
				}
				if errors.Is(err, boom) != (c.want == StopError) || (r.Unknown > 0) != (c.want == StopError) {
					t.Errorf("error %v, %d keys whose fate is unknown", err, r.Unknown)
				}
			})
		})
	}
}

func none(n int64) bool { return n == 0 }
func some(n int64) bool { return n > 0 && n < 280 }

func TestKeysThatChangeMeanwhileStay(t *testing.T) {
	for name, sampled := range map[string]bool{"looked for on the master": false, "told by a replica": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.fill(0, 200, 100)
				e := f.eviction()
				if sampled {
					e.Sample = f.sample(e)
				}
				e.Ready = func() {
					f.set(0, "k:0:0100", func(k *fakeKey) { k.expires = time.Time{} })
					f.set(0, "k:0:0101", func(k *fakeKey) { k.expires = k.expires.Add(20 * time.Millisecond) }) // within the horizon
					f.set(0, "k:0:0102", func(k *fakeKey) { k.expires = k.expires.Add(time.Hour) })
					delete(f.dbs[0], "k:0:0103")
					f.set(0, "k:0:0104", func(k *fakeKey) { k.expires = k.expires.Add(-10 * time.Second) }) // lowered: it may go
				}
				r := f.run(t, e)
				if left := slices.Sorted(maps.Keys(f.dbs[0])); !slices.Equal(left, []probe.KeyName{"k:0:0100", "k:0:0101", "k:0:0102"}) {
					t.Errorf("%d keys are left, want the three that changed", len(left))
				}
				if want := (Skipped{NoTTL: 1, Raised: 2, Gone: 1}); r.Skipped != want || f.scans > 0 == sampled {
					t.Errorf("skipped %+v, want %+v; %d SCANs", r.Skipped, want, f.scans)
				}
			})
		})
	}
}

// sample is what a replica would tell, whose clock is 10 s off: what counts is the master's.
func (f *fake) sample(e *Eviction) *probe.NearSample {
	near := probe.NewNearest(e.Policy, e.Policy.MaxKeys)
	for _, k := range near.Wanted(0, slices.Sorted(maps.Keys(f.dbs[0]))) {
		near.Take(k, f.pttl(k.Name)+10_000, time.Now())
	}
	return &probe.NearSample{Keys: near.Keys(), About: near.Near, Complete: true}
}

func TestBetweenTheReplicasWordAndTheMasters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.fill(0, 100, 100)
		e := f.eviction()
		e.Sample = f.sample(e)
		e.Sample.About[0] += 50 // more than it was asked to name
		e.Sample.Protected = 7
		f.set(0, "k:0:0050", func(k *fakeKey) { k.expires = time.Time{} })
		f.set(0, "k:0:0051", func(k *fakeKey) { k.expires = k.expires.Add(time.Hour) })
		delete(f.dbs[0], "k:0:0052")
		r := f.run(t, e)
		if want := (Skipped{NoTTL: 1, Raised: 1, Gone: 1, Protected: 7, Capped: 50}); r.Skipped != want || r.Stop != StopCapped || r.Keys != 97 {
			t.Errorf("ended by %s with %d keys, skipped %+v, want %+v", r.Stop, r.Keys, r.Skipped, want)
		}
	})
}

func TestAKeyThatIsRaisedWhileOthersAreLookedForStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.fill(0, 200, 100) // four times 50: the fifth reading is the second of the first keys
		e := f.eviction()
		f.onRead = func(n int) {
			if n == 5 {
				f.set(0, "k:0:0030", func(k *fakeKey) { k.expires = k.expires.Add(time.Second) }) // within the horizon
			}
		}
		r := f.run(t, e)
		if _, there := f.dbs[0]["k:0:0030"]; !there || len(f.dbs[0]) != 1 || r.Skipped != (Skipped{Raised: 1}) {
			t.Errorf("%d keys are left, skipped %+v", len(f.dbs[0]), r.Skipped)
		}
	})
}

func TestAReplicaThatNamesMoreThanMayGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.fill(0, 200, 100)
		e := f.eviction()
		e.Sample = f.sample(e)
		e.Policy.MaxKeys = 77
		if r := f.run(t, e); r.Stop != StopCapped || r.Keys != 77 || r.Skipped.Capped < 100 {
			t.Errorf("ended by %s with %d keys, %+v", r.Stop, r.Keys, r.Skipped)
		}
	})
}

func TestNoNameOfAKeyIsPrinted(t *testing.T) {
	k := probe.NearKey{Name: "secret:1", Size: 3}
	if s := fmt.Sprintf("%v %+v %#v %s %q", k, k, k, k.Name, k.Name); strings.Contains(s, "secret") {
		t.Error(s)
	}
}

func TestMost(t *testing.T) {
	read := time.Now()
	for _, c := range []struct {
		left, later, horizon, want time.Duration
	}{
		{time.Minute, 0, 5 * time.Minute, time.Minute + time.Millisecond},
		{time.Minute, 10 * time.Second, 5 * time.Minute, 50*time.Second + 11*time.Millisecond},
		{5 * time.Minute, 0, 5 * time.Minute, 5 * time.Minute},
		{time.Second, 3 * time.Second, 5 * time.Minute, -2*time.Second + 4*time.Millisecond},
	} {
		k := probe.NearKey{}.Timed(c.left.Milliseconds(), read)
		if got := Most(k, read.Add(c.later), c.horizon); got != c.want {
			t.Errorf("%s left, %s later: at most %s, want %s", c.left, c.later, got, c.want)
		}
	}
}

func TestServedOf(t *testing.T) {
	const stats = "# Commandstats\r\ncmdstat_eval:calls=2,usec=300,usec_per_call=150\r\ncmdstat_evalsha:calls=2,usec=9,usec_per_call=9\r\n" +
		"cmdstat_scan:calls=1,usec=40\r\ncmdstat_pttl:calls=9,usec=9000\r\ncmdstat_memory|usage:calls=1,usec=5\r\ncmdstat_memory|stats:calls=1,usec=77\r\ncmdstat_unlink:calls=1,usec=1\r\n"
	if got := ServedOf(stats); got != 345*time.Microsecond {
		t.Errorf("%s", got)
	}
	if got := ServedOf("cmdstat_memory:calls=1,usec=6,usec_per_call=6.00"); got != 6*time.Microsecond {
		t.Errorf("6.0: %s", got)
	}
}
