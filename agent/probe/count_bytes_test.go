package probe

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

// A keySet is keys of one kind in one database of a test.
type keySet struct {
	db                  int
	kind                string // string, hash or list
	name                int    // bytes of a key's name
	live, plain, stale  int    // keys with a TTL, without one, and expired
	liveSize, staleSize int    // bytes of a value, a field or an element
}

// byteCases are data sets that differ in what the expired keys hold.
var byteCases = map[string][]keySet{
	"small strings":                      {{0, "string", 12, 10000, 0, 10000, 10, 10}},
	"strings":                            {{0, "string", 20, 10000, 0, 10000, 100, 100}},
	"large strings":                      {{0, "string", 20, 3000, 0, 3000, 1000, 1000}},
	"long names":                         {{0, "string", 60, 10000, 0, 10000, 40, 40}},
	"few of many are expired":            {{0, "string", 20, 9000, 20000, 4000, 100, 100}},
	"hashes":                             {{0, "hash", 20, 5000, 0, 5000, 20, 20}},
	"lists":                              {{0, "list", 20, 3000, 0, 3000, 20, 20}},
	"the expired are larger":             {{0, "string", 20, 10000, 0, 5000, 50, 500}},
	"the expired are smaller":            {{0, "string", 20, 10000, 0, 20000, 500, 50}},
	"no key is alive":                    {{0, "string", 20, 0, 0, 10000, 100, 100}},
	"no key with a TTL is alive":         {{0, "string", 20, 0, 10000, 10000, 100, 100}},
	"no larger key with a TTL is alive":  {{0, "string", 20, 0, 10000, 5000, 50, 500}},
	"so many expired that tables shrink": {{0, "string", 20, 500, 0, 9500, 100, 100}},
	"several databases": {{0, "string", 20, 5000, 5000, 5000, 100, 100}, {3, "hash", 20, 0, 3000, 3000, 20, 20},
		{5, "list", 20, 0, 2000, 0, 50, 50}, {7, "string", 20, 2000, 0, 2000, 300, 300}},
	"mixed sizes": {{0, "string", 12, 4000, 4000, 4000, 10, 10}, {0, "string", 20, 2000, 0, 2000, 400, 400}, {0, "hash", 16, 1000, 500, 1000, 30, 30}},
}

func (k keySet) write(p redis.Pipeliner, name string, size int, ttl time.Duration) {
	ctx := context.Background()
	name += strings.Repeat("k", max(k.name-len(name), 0))
	value := strings.Repeat("v", size)
	switch k.kind {
	case "string":
		p.Set(ctx, name, value, 0)
	case "hash":
		p.HSet(ctx, name, "f1", value, "f2", value, "f3", value, "f4", value, "f5", value)
	case "list":
		p.RPush(ctx, name, slices.Repeat([]any{value}, 20)...)
	}
	if ttl > 0 {
		p.PExpire(ctx, name, ttl)
	}
}

// fill writes the keys; the stale ones are expired when it returns.
func (k keySet) fill(t *testing.T, c *redis.Client, set int) {
	t.Helper()
	ctx := context.Background()
	for kind, n := range map[string]int{"L": k.live, "P": k.plain, "S": k.stale} {
		size, ttl := k.liveSize, map[string]time.Duration{"L": time.Hour, "S": time.Millisecond}[kind]
		if kind == "S" {
			size = k.staleSize
		}
		for from := 0; from < n; from += 1000 {
			if _, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Do(ctx, "select", k.db)
				for i := from; i < min(from+1000, n); i++ {
					k.write(p, fmt.Sprintf("%s%d:%d", kind, set, i), size, ttl)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// keyMemory is used_memory less what clients and the backlog of replication hold.
func keyMemory(t *testing.T, c *redis.Client) int64 {
	t.Helper()
	reply, err := c.Do(context.Background(), "memory", "stats").Slice()
	if err != nil {
		t.Fatal(err)
	}
	stats := statsOf(reply)
	sum := wholeOf(stats["total.allocated"]).V
	for _, beside := range []string{"replication.backlog", "clients.slaves", "clients.normal"} {
		sum -= wholeOf(stats[beside]).V
	}
	return int64(sum)
}

// settled waits until nothing is left to be freed and the tables stay as they are, and returns keyMemory.
func settled(t *testing.T, c *redis.Client) int64 {
	t.Helper()
	last, same := int64(0), 0
	redistest.Eventually(t, "the memory has settled", func() bool {
		in, now := parseInfo(c.Info(context.Background(), "memory").Val()), keyMemory(t, c)
		if d := now - last; in.int("lazyfree_pending_objects").V == 0 && max(d, -d) < 8<<10 {
			same++
		} else {
			last, same = now, 0
		}
		return same >= 100 // polls, about 0.5 s: the server looks at 16 databases ten times a second, and moves a table bit by bit
	})
	return last
}

// sweep deletes the expired keys as the action does.
func sweep(t *testing.T, c *redis.Client, dbs []int) {
	t.Helper()
	ctx := context.Background()
	if _, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, db := range dbs {
			p.Do(ctx, "select", db)
			p.Do(ctx, "scan", 0, "count", 1<<20)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// pairOfServers are a master and its replica: our own, or those at DCSHEALER_COUNT_MASTER and DCSHEALER_COUNT_REPLICA
// (HOST:PORT), of any version, whose data is deleted.
func pairOfServers(t *testing.T) (master *redis.Client, x *Prober, link func() info) {
	t.Helper()
	m, r := os.Getenv("DCSHEALER_COUNT_MASTER"), os.Getenv("DCSHEALER_COUNT_REPLICA")
	if m == "" || r == "" {
		t.Parallel()
		ms := startServer(t, "--enable-debug-command", "local")
		xs := replicaOf(t, ms)
		admin := xs.admin()
		return oneConn(t, ms.addr.String()), xs.prober(), func() info { return parseInfo(admin.Info(context.Background(), "replication").Val()) }
	}
	host, port, _ := strings.Cut(r, ":")
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	p := New(Options{Instance: "dcs-test-01", Node: policies.Node{Name: "node-01", Address: policies.Address{Host: host, Port: n}}})
	t.Cleanup(func() { p.Close() })
	replica := oneConn(t, r)
	return oneConn(t, m), p, func() info { return parseInfo(replica.Info(context.Background(), "replication").Val()) }
}

// oneConn is a client of one connection, so that a selected database stays selected.
func oneConn(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, DisableIdentity: true, PoolSize: 1, MaxRetries: -1, ReadTimeout: redistest.Patience})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// What a count on a replica says, against what a sweep of the master then deletes and gives back: keys exactly, bytes to a tenth, and
// the master has deleted nothing for the count.
func TestCountLiveTellsWhatASweepFrees(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(byteCases)) {
		t.Run(name, func(t *testing.T) {
			m, x, link := pairOfServers(t)
			ctx := context.Background()
			for _, args := range [][]any{{"debug", "set-active-expire", "0"}, {"flushall"}, {"config", "set", "repl-backlog-size", "16kb"}} {
				if err := m.Do(ctx, args...).Err(); err != nil {
					t.Fatal(args, err)
				}
			}
			var dbs []int
			wanted := 0
			for i, set := range byteCases[name] {
				set.fill(t, m, i)
				dbs, wanted = append(dbs, set.db), wanted+set.stale
			}
			slices.Sort(dbs)
			dbs = slices.Compact(dbs)
			redistest.Eventually(t, "the replica has all keys", func() bool {
				at := parseInfo(m.Info(ctx, "replication").Val()).fields["master_repl_offset"]
				return link().fields["slave_repl_offset"] == at
			})
			if err := m.Do(ctx, "scan", 0, "match", "none", "count", 1).Err(); err != nil { // a first SCAN costs a histogram
				t.Fatal(err)
			}
			before := settled(t, m)
			expired := parseInfo(m.Info(ctx, "stats").Val()).int("expired_keys").V
			got, err := x.CountLive(ctx, CountOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if now := parseInfo(m.Info(ctx, "stats").Val()).int("expired_keys").V; now != expired {
				t.Errorf("expired_keys of the master went from %d to %d", expired, now)
			}
			sweep(t, m, dbs)
			stale := parseInfo(m.Info(ctx, "stats").Val()).int("expired_keys").V - expired
			freed := before - settled(t, m)
			keys, bytes := got.Expired(), got.Bytes()
			t.Logf("keys %d, estimate %v; bytes %d, estimate %v (%.3f): %s", stale, keys, freed, bytes, float64(bytes.V)/float64(freed), got.Method)
			if !got.Complete || keys != policies.Known(stale) || stale < int64(wanted)*9/10 {
				t.Errorf("keys: got %v, want %d; complete %v", keys, stale, got.Complete)
			}
			if !bytes.Known || math.Abs(float64(bytes.V-freed)) > float64(freed)/10 {
				t.Errorf("bytes: got %v, want %d: %s", bytes, freed, got.Method)
			}
		})
	}
}
