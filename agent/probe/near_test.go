package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

func nearPolicy(allow ...string) policies.Evict {
	p := policies.PresetDefault().Evict
	p.Allow, p.Protect = allow, []string{"*:keep"}
	return p
}

// fillNear gives a master n keys a:1, a:2, ... in each of db 0 and 2 that expire after 60 s, 61 s, ..., and neighbours that may not go.
func fillNear(t *testing.T, m *server, n int) {
	t.Helper()
	ctx := context.Background()
	for _, db := range []int{0, 2} {
		if _, err := m.admin().Pipelined(ctx, func(p redis.Pipeliner) error {
			p.Do(ctx, "select", db)
			for i := range n {
				p.Set(ctx, fmt.Sprintf("a:%d", i), strings.Repeat("x", 100), time.Minute+time.Duration(i)*time.Second)
			}
			p.Set(ctx, "a:none", "x", 0)
			p.Set(ctx, "a:far", "x", time.Hour)
			p.Set(ctx, "a:keep", "x", time.Minute)
			p.Set(ctx, "b:1", "x", time.Minute)
			p.Do(ctx, "set", "a:stale", "x", "px", 1)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSampleNearFindsTheNearest(t *testing.T) {
	m := startServer(t, "--enable-debug-command", "local")
	m.do(m.admin(), "debug", "set-active-expire", "0")
	x := replicaOf(t, m)
	fillNear(t, m, 200)
	p := x.prober()
	redistest.Eventually(t, "the replica has all keys", func() bool { return p.Probe(t.Context()).Keys() == policies.Known[int64](410) })
	before := m.do(m.admin(), "debug", "digest")
	got, err := p.SampleNear(t.Context(), NearOptions{Policy: nearPolicy("zzz", "a:*"), Keep: 30, Measure: 1000, Batch: 50})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.About, []int64{0, 400}) || got.Sum() != 400 || got.Protected != 2 || !got.Complete {
		t.Errorf("got %+v, want 400 keys of the second pattern", got)
	}
	if size := got.MeanSize; !size.Known || size.V < 140 || size.V > 250 {
		t.Errorf("mean size %v", size)
	}
	if len(got.Keys) != 30 || !slices.IsSortedFunc(got.Keys, Nearer) {
		t.Fatalf("%d keys, want the 30 nearest", len(got.Keys))
	}
	for _, k := range got.Keys {
		var i int
		if _, err := fmt.Sscanf(string(k.Name), "a:%d", &i); err != nil || i > 16 || k.Pattern != 1 || k.DB != 0 && k.DB != 2 {
			t.Errorf("%s of db%d is not among the nearest", string(k.Name), k.DB)
		}
	}
	if n := m.Number("stats", "expired_keys"); n != 0 || m.do(m.admin(), "debug", "digest") != before {
		t.Errorf("the master expired %d keys", n)
	}
}

func TestSampleNearRefusesAMaster(t *testing.T) {
	m := startServer(t)
	fillNear(t, m, 3)
	if _, err := m.prober().SampleNear(t.Context(), NearOptions{Policy: nearPolicy("*"), Keep: 10}); !errors.Is(err, ErrNotReplica) {
		t.Errorf("got %v, want ErrNotReplica", err)
	}
	if calls := m.CommandCalls(); calls["scan"]+calls["pttl"] > 0 {
		t.Errorf("the master was sent %v", calls)
	}
}

func TestSampleNearWithinABudget(t *testing.T) {
	m := startServer(t)
	x := replicaOf(t, m)
	fillNear(t, m, 10_000)
	p := x.prober()
	redistest.Eventually(t, "the replica has all keys", func() bool { return p.Probe(t.Context()).Keys().V >= 20_000 })
	o := NearOptions{Policy: nearPolicy("a:*"), Batch: 20, Budget: 60 * time.Millisecond}
	o.Policy.Horizon = 24 * time.Hour
	got, err := p.SampleNear(t.Context(), o)
	if err != nil || got.Complete || got.Took > 5*time.Second || len(got.Keys) != 0 {
		t.Fatalf("%+v, %v: want an end when the time is over, and no names", got, err)
	}
	if n := got.Sum(); n < 10_000 || n > 40_000 {
		t.Errorf("about %d keys of 20,000, from a part", n)
	}
}

// No name of a key comes through in an error: an unknown command is answered with its arguments.
func TestSampleNearWithoutTheRights(t *testing.T) {
	m := startServer(t)
	fillNear(t, m, 100)
	rights := func(rule string) *Prober {
		x := replicaOf(t, m)
		x.do(x.admin(), "acl", "setuser", "healer", "on", ">pw", "~*", "&*", "+@all", rule)
		return x.prober(func(o *Options) { o.Username, o.Password = "healer", "pw" })
	}
	for name, p := range map[string]*Prober{
		"renamed":   replicaOf(t, m, "--rename-command", "PTTL", "").prober(),
		"forbidden": rights("-pttl"),
	} {
		got, err := p.SampleNear(t.Context(), NearOptions{Policy: nearPolicy("a:*"), Keep: 10})
		if err == nil || strings.Contains(err.Error(), "a:") || !strings.Contains(strings.ToLower(err.Error()), "pttl") || len(got.Keys) > 0 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	got, err := rights("-memory").SampleNear(t.Context(), NearOptions{Policy: nearPolicy("a:*"), Measure: 10})
	if err != nil || got.MeanSize.Known || got.Sum() != 200 {
		t.Errorf("without MEMORY USAGE: %+v, %v; want the number of keys and no size", got, err)
	}
}

func TestNearestKeepsTheNearestOfMany(t *testing.T) {
	p := nearPolicy("*")
	n, at := NewNearest(p, 3), time.Now()
	for i := range 5000 {
		k := n.Wanted(1, []KeyName{KeyName(fmt.Sprint(5000 - i))})[0]
		if !n.Take(k, int64(5000-i), at) || !n.Take(k, int64(5000-i)+1, at) { // SCAN returned it twice
			t.Fatal("not taken")
		}
	}
	got := n.Keys()
	if len(got) != 3 || got[0].Name != "1" || got[1].Name != "2" || got[2].Name != "3" || n.Near[0] != 10_000 {
		t.Errorf("%d keys, %d counted", len(got), n.Near[0])
	}
	for _, pttl := range []int64{0, -1, -2, p.Horizon.Milliseconds() + 1} {
		if n.Take(NearKey{}, pttl, at) {
			t.Errorf("a key with a PTTL of %d is taken", pttl)
		}
	}
}
