package probe

import (
	"context"
	"errors"
	"fmt"
	"math"
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
	m := startServer(t, "--enable-debug-command", "local")
	x := replicaOf(t, m)
	fillStale(t, m, 3000, 1200)
	p := x.prober()
	redistest.Eventually(t, "the replica has all keys", func() bool { return p.Probe(t.Context()).Keys() == policies.Known[int64](8400) })
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
	if got.Complete || got.Took > 5*time.Second {
		t.Fatalf("complete %v after %v: the budget was not kept", got.Complete, got.Took)
	}
	db := got.PerDB[0]
	if n := db.Expired(); db.Share > 0.05 && (!n.Known || math.Abs(float64(n.V)-30000) > 6000) {
		t.Errorf("estimated %v of 30000 from a share of %.3f", n, db.Share)
	}
	if n := got.Expired(); n.Known && got.PerDB[2].Share < 0.01 {
		t.Errorf("a database that was not visited counts as known: %v", n)
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

// Without rights to keys the count works and the size is unknown.
func TestCountLiveWithANarrowACL(t *testing.T) {
	m := startServer(t, "--enable-debug-command", "local")
	x := replicaOf(t, m)
	fillStale(t, m, 100, 50)
	x.do(x.admin(), "acl", "setuser", "healer", "on", ">pw", "+info", "+role", "+dbsize", "+select", "+scan")
	p := x.prober(func(o *Options) { o.Username, o.Password = "healer", "pw" })
	redistest.Eventually(t, "the replica has all keys", func() bool { return p.Probe(t.Context()).Keys() == policies.Known[int64](300) })
	got, err := p.CountLive(t.Context(), CountOptions{})
	if err != nil || got.Expired() != policies.Known[int64](100) || got.MeanSize.Known {
		t.Errorf("got %+v, %v", got, err)
	}
}
