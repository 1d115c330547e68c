package probe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

// fillStale gives a master live keys and expired ones that stay, in db 0 and 2.
func fillStale(t *testing.T, m *server, live, stale int) {
	t.Helper()
	c := m.admin()
	m.do(c, "debug", "set-active-expire", "0")
	for _, db := range []int{0, 2} {
		if _, err := c.Pipelined(context.Background(), func(p redis.Pipeliner) error {
			p.Do(context.Background(), "select", db)
			for i := range live {
				p.Set(context.Background(), fmt.Sprintf("live:%d", i), "0123456789", time.Hour)
			}
			for i := range stale {
				p.Set(context.Background(), fmt.Sprintf("stale:%d", i), "0123456789", time.Millisecond)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCountLiveIsExactOnAReplica(t *testing.T) {
	t.Parallel()
	m := startServer(t, "--enable-debug-command", "local")
	x := replicaOf(t, m)
	fillStale(t, m, 3000, 1200)
	p := x.prober()
	redistest.Eventually(t, "the replica has all keys", func() bool { return p.Probe(t.Context()).Keys() == policies.Known[int64](8400) })
	x.Accounted()
	got, err := p.CountLive(t.Context(), CountOptions{Batch: 200})
	if err != nil {
		t.Fatal(err)
	}
	want := DBCount{DBSize: 4200, Volatile: 4200, Returned: 3000, Share: 1}
	for _, db := range []int{0, 2} {
		n := got.PerDB[db]
		n.Bytes = policies.Opt[int64]{}
		if n != want {
			t.Errorf("db%d: got %+v, want %+v", db, n, want)
		}
	}
	if !got.Complete || len(got.PerDB) != 2 || got.Expired() != policies.Known[int64](2400) {
		t.Errorf("got %+v, want 2400 expired in two databases", got)
	}
	if got.Sampled < 2*sampleLeast || got.MeanSize.V < 80 || got.MeanSize.V > 160 {
		t.Errorf("sampled %d keys of %v bytes", got.Sampled, got.MeanSize)
	}
	if keys := p.Probe(t.Context()).Keys(); keys != policies.Known[int64](8400) {
		t.Errorf("keys after the count: %v", keys)
	}
}

func TestCountLiveRefusesAMaster(t *testing.T) {
	m := startServer(t, "--enable-debug-command", "local")
	fillStale(t, m, 10, 50)
	if _, err := m.prober().CountLive(t.Context(), CountOptions{}); !errors.Is(err, ErrNotReplica) {
		t.Errorf("got %v, want ErrNotReplica", err)
	}
	if keys := m.prober().Probe(t.Context()).Keys(); keys != policies.Known[int64](120) {
		t.Errorf("keys left: %v, want 120", keys)
	}
}

// The role changes in the middle of a count: not one SCAN reaches the new master.
func TestCountLiveStopsAtAPromotion(t *testing.T) {
	m := startServer(t, "--enable-debug-command", "local")
	x := replicaOf(t, m, "--enable-debug-command", "local")
	fillStale(t, m, 20000, 2000)
	p := x.prober()
	redistest.Eventually(t, "the replica has all keys", func() bool { return p.Probe(t.Context()).Keys() == policies.Known[int64](44000) })
	admin := x.admin()
	x.do(admin, "debug", "set-active-expire", "0")
	done := make(chan error, 1)
	go func() { _, err := p.CountLive(t.Context(), CountOptions{Batch: 10}); done <- err }()
	redistest.Eventually(t, "the count has begun", func() bool {
		in := parseInfo(admin.Info(context.Background(), "commandstats").Val())
		return in.fields["cmdstat_scan"] != ""
	})
	x.do(admin, "replicaof", "no", "one")
	if err := <-done; !errors.Is(err, ErrNotReplica) {
		t.Fatalf("got %v, want ErrNotReplica", err)
	}
	// At most the one batch whose ROLE was answered right before the promotion.
	if keys := p.Probe(t.Context()).Keys(); keys.V < 44000-30 {
		t.Errorf("keys left: %v of 44000", keys)
	}
}

// Each database gets its part of the time, and what was not visited is told by what was.
func TestCountLiveWithinABudget(t *testing.T) {
	m := startServer(t, "--enable-debug-command", "local")
	x := replicaOf(t, m)
	fillStale(t, m, 30000, 30000)
	p := x.prober()
	redistest.Eventually(t, "the replica has all keys", func() bool { return p.Probe(t.Context()).Keys() == policies.Known[int64](120000) })
	got, err := p.CountLive(t.Context(), CountOptions{Batch: 50, Budget: 150 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if got.Complete || got.Took > 2*time.Second {
		t.Fatalf("complete %v after %v: the budget was not kept", got.Complete, got.Took)
	}
	for index, db := range got.PerDB {
		n := db.Expired()
		if db.Share > 0.05 && (!n.Known || math.Abs(float64(n.V)-30000) > 6000) {
			t.Errorf("db%d: estimated %v of 30000 from a share of %.3f", index, n, db.Share)
		}
		if db.Share > 0.05 && (!db.Bytes.Known || math.Abs(float64(db.Bytes.V)-30000*112) > 12000*112) {
			t.Errorf("db%d: estimated %v bytes of %d from a share of %.3f", index, db.Bytes, 30000*112, db.Share)
		}
		if n.Known != (db.Share >= 0.01) || n.Known != db.Bytes.Known {
			t.Errorf("db%d: %v keys of %v bytes from a share of %.3f", index, n, db.Bytes, db.Share)
		}
	}
}

// A replica that stops answering ends the count, and soon.
func TestCountLiveOfAReplicaThatHangs(t *testing.T) {
	m := startServer(t, "--enable-debug-command", "local")
	x := replicaOf(t, m)
	fillStale(t, m, 3000, 3000)
	p := x.prober(func(o *Options) { o.Timeout = 20 * time.Second })
	redistest.Eventually(t, "the replica has all keys", func() bool { return p.Probe(t.Context()).Keys() == policies.Known[int64](12000) })
	x.Hang()
	start := time.Now()
	_, err := p.CountLive(t.Context(), CountOptions{Budget: 200 * time.Millisecond})
	if took := time.Since(start); err == nil || took > 5*time.Second {
		t.Errorf("got %v after %s", err, took)
	}
}

// The replica's own clock tells what of its time the commands took.
func TestCountLiveTakesAQuarterOfTheReplicasTime(t *testing.T) {
	m := startServer(t, "--enable-debug-command", "local")
	x := replicaOf(t, m)
	fillStale(t, m, 30000, 10000)
	p := x.prober()
	redistest.Eventually(t, "the replica has all keys", func() bool { return p.Probe(t.Context()).Keys() == policies.Known[int64](80000) })
	admin := x.admin()
	x.do(admin, "config", "resetstat")
	got, err := p.CountLive(t.Context(), CountOptions{})
	if err != nil || !got.Complete {
		t.Fatal(got, err)
	}
	var busy time.Duration
	for field, v := range parseInfo(admin.Info(t.Context(), "commandstats").Val()).fields {
		if slices.Contains([]string{"cmdstat_scan", "cmdstat_role", "cmdstat_pttl", "cmdstat_memory|usage", "cmdstat_memory|stats"}, field) {
			_, rest, _ := strings.Cut(v, ",usec=")
			usec, _, _ := strings.Cut(rest, ",")
			busy += time.Duration(bytesOf(usec)) * time.Microsecond
		}
	}
	t.Logf("busy for %s of %s, the longest call %s", busy, got.Took, got.Longest)
	if busy == 0 || busy > got.Took/4 {
		t.Errorf("the replica was busy for %s of %s", busy, got.Took)
	}
}

// What is not allowed is done without, as far as it goes.
func TestCountLiveWithANarrowACL(t *testing.T) {
	m := startServer(t, "--enable-debug-command", "local")
	x := replicaOf(t, m)
	fillStale(t, m, 4000, 6000)
	p := x.prober()
	redistest.Eventually(t, "the replica has all keys", func() bool { return p.Probe(t.Context()).Keys() == policies.Known[int64](20000) })
	const stale, freed = 12000, 12000 * 112 // as measured by the deletion of such keys
	for name, tt := range map[string]struct {
		rules  []any
		bytes  int64 // 0: unknown
		off    float64
		method string
	}{
		"none":         {nil, 0, 0, ""},
		"no-sizes":     {[]any{"+memory|stats"}, freed, 0.3, "bytes by an even share of the memory of the data set"},
		"no-stats":     {[]any{"+pttl", "+memory|usage", "~*"}, freed, 0.1, " live keys"},
		"no-ttl":       {[]any{"+memory|usage", "~*"}, 0, 0, ""},
		"other-keys":   {[]any{"+pttl", "+memory|usage", "~other:*"}, 0, 0, ""},
		"all-of-these": {[]any{"+pttl", "+memory|usage", "+memory|stats", "~*"}, freed, 0.3, " live keys and the memory of the data set"},
	} {
		rules := []any{"acl", "setuser", name, "on", ">pw", "+info", "+role", "+dbsize", "+select", "+scan"}
		x.do(x.admin(), append(rules, tt.rules...)...)
		as := x.prober(func(o *Options) { o.Username, o.Password = name, "pw" })
		got, err := as.CountLive(t.Context(), CountOptions{})
		if err != nil || got.Expired() != policies.Known[int64](stale) {
			t.Fatalf("%s: got %+v, %v", name, got, err)
		}
		b := got.Bytes()
		if b.Known != (tt.bytes > 0) || math.Abs(float64(b.V-tt.bytes)) > tt.off*float64(tt.bytes) || !strings.HasSuffix(got.Method, tt.method) {
			t.Errorf("%s: %v bytes (%q), want %d (%q)", name, b, got.Method, tt.bytes, tt.method)
		}
		if got.LiveSize.Known != strings.Contains(got.Method, "live keys") {
			t.Errorf("%s: a live key of %v bytes (%q)", name, got.LiveSize, got.Method)
		}
		if got.MeanSize.Known != b.Known || b.Known && math.Abs(got.MeanSize.V*stale-float64(b.V)) > 2 {
			t.Errorf("%s: mean %v of %v bytes", name, got.MeanSize, b)
		}
	}
}

func TestVisited(t *testing.T) {
	// The cursors of a table of 8 slots, in SCAN's order.
	for i, cursor := range []uint64{4, 2, 6, 1, 5, 3, 7, 0} {
		if got, want := visited(cursor), float64(i+1)/8; got != want {
			t.Errorf("cursor %d: got %v, want %v", cursor, got, want)
		}
	}
}
