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
	kind                string // string, hash, list, or range: strings of up to 256 times the size
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
	"a few large live keys":              {{0, "string", 20, 5000, 5000, 5000, 100, 100}, {0, "string", 20, 0, 4, 0, 1 << 20, 0}},
	"a wide range of sizes":              {{0, "range", 20, 6000, 2000, 4000, 8, 8}},
	"several databases": {{0, "string", 20, 5000, 5000, 5000, 100, 100}, {3, "hash", 20, 0, 3000, 3000, 20, 20},
		{5, "list", 20, 0, 2000, 0, 50, 0}, {7, "string", 20, 2000, 0, 2000, 300, 300}},
	"mixed sizes": {{0, "string", 12, 4000, 4000, 4000, 10, 10}, {0, "string", 20, 2000, 0, 2000, 400, 400},
		{0, "hash", 16, 1000, 500, 1000, 30, 30}},
}

func (k keySet) write(p redis.Pipeliner, i int, name string, size int, ttl time.Duration) {
	ctx := context.Background()
	name += strings.Repeat("k", max(k.name-len(name), 0))
	value := strings.Repeat("v", size)
	switch k.kind {
	case "string":
		p.Set(ctx, name, value, 0)
	case "range":
		p.Set(ctx, name, strings.Repeat(value, 1<<(i%9)), 0)
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
					k.write(p, i, fmt.Sprintf("%s%d:%d", kind, set, i), size, ttl)
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

// settled waits until nothing is left to be freed, no table of these databases is under way to another size and memory stays as it
// is, and returns keyMemory.
func settled(t *testing.T, c *redis.Client, dbs []int) int64 {
	t.Helper()
	for _, db := range dbs {
		redistest.Eventually(t, "the tables have their sizes", func() bool { return !resizing(t, c, db) })
	}
	last, same := int64(0), 0
	redistest.Eventually(t, "the memory has settled", func() bool {
		in, now := parseInfo(c.Info(context.Background(), "memory").Val()), keyMemory(t, c)
		if d := now - last; in.int("lazyfree_pending_objects").V == 0 && max(d, -d) < 16<<10 {
			same++
		} else {
			last, same = now, 0
		}
		return same >= 60 // polls, about 0.3 s: the server looks at 16 databases ten times a second, and moves a table bit by bit
	})
	return last
}

// resizing reports whether a table of the database is under way to another size: meanwhile it holds both, and not a byte moves until
// the old one is freed. The server does a millisecond of that work ten times a second.
func resizing(t *testing.T, c *redis.Client, db int) bool {
	t.Helper()
	stats, err := c.Do(context.Background(), "debug", "htstats", db).Text()
	if err != nil {
		t.Fatalf("DEBUG HTSTATS %d: %v", db, err)
	}
	return strings.Contains(stats, "rehashing target")
}

// sweep deletes the expired keys as the action does. One large SCAN instead would leave a server of 8.0 or Valkey with room for as
// many deletions to be replicated at once, 32 bytes each.
func sweep(t *testing.T, c *redis.Client, dbs []int) {
	t.Helper()
	ctx := context.Background()
	for _, db := range dbs {
		if err := c.Do(ctx, "select", db).Err(); err != nil {
			t.Fatal(err)
		}
		for cursor := uint64(0); ; {
			_, next, err := c.Scan(ctx, cursor, "", 200).Result()
			if err != nil {
				t.Fatal(err)
			}
			if cursor = next; next == 0 {
				break
			}
		}
	}
}

// A countPair is a master, its replica, and the prober of the replica.
type countPair struct {
	m, r *redis.Client
	x    *Prober
}

// pairOfServers is a pair of our own, or that at DCSHEALER_COUNT_MASTER and DCSHEALER_COUNT_REPLICA (HOST:PORT), of any version,
// whose data is deleted.
func pairOfServers(t *testing.T) countPair {
	t.Helper()
	m, r := os.Getenv("DCSHEALER_COUNT_MASTER"), os.Getenv("DCSHEALER_COUNT_REPLICA")
	if m == "" || r == "" {
		t.Parallel()
		ms := startServer(t, "--enable-debug-command", "local")
		xs := replicaOf(t, ms)
		return countPair{oneConn(t, ms.addr.String()), oneConn(t, xs.addr.String()), xs.prober()}
	}
	host, port, _ := strings.Cut(r, ":")
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	x := &server{t: t, addr: policies.Address{Host: host, Port: n}}
	return countPair{oneConn(t, m), oneConn(t, r), x.prober()}
}

// oneConn is a client of one connection, so that a selected database stays selected.
func oneConn(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, DisableIdentity: true, PoolSize: 1, MaxRetries: -1, ReadTimeout: redistest.Patience})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func must(t *testing.T, c *redis.Client, args ...any) {
	t.Helper()
	if err := c.Do(context.Background(), args...).Err(); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
}

func expiredKeys(c *redis.Client) int64 {
	return parseInfo(c.Info(context.Background(), "stats").Val()).int("expired_keys").V
}

// fill gives the pair the keys of a case, and returns the databases that hold some.
func (p countPair) fill(t *testing.T, sets []keySet, resync bool) (dbs []int) {
	t.Helper()
	must(t, p.r, "client", "kill", "type", "master") // what it held for the case before
	must(t, p.m, "debug", "set-active-expire", "0")
	must(t, p.m, "flushall")
	must(t, p.m, "config", "set", "repl-backlog-size", "16kb")
	for i, set := range sets {
		set.fill(t, p.m, i)
		dbs = append(dbs, set.db)
	}
	replication := func(c *redis.Client) map[string]string {
		return parseInfo(c.Info(context.Background(), "replication").Val()).fields
	}
	if master := replication(p.r); resync {
		must(t, p.r, "replicaof", "no", "one")
		must(t, p.r, "replicaof", master["master_host"], master["master_port"])
	}
	redistest.Eventually(t, "the replica has all keys", func() bool {
		x := replication(p.r)
		return x["master_link_status"] == "up" && x["slave_repl_offset"] == replication(p.m)["master_repl_offset"]
	})
	must(t, p.m, "scan", 0, "match", "none", "count", 1) // a first SCAN costs a histogram
	slices.Sort(dbs)
	return slices.Compact(dbs)
}

// What a count on a replica says, against what a sweep of the master then deletes and gives back: keys exactly, bytes to a tenth, and
// the master has deleted nothing for the count.
func TestCountLiveTellsWhatASweepFrees(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(byteCases)) {
		t.Run(name, func(t *testing.T) { checkCount(t, byteCases[name], false) })
	}
	for _, name := range []string{"a wide range of sizes", "hashes", "several databases"} {
		t.Run(name+", after a full resync", func(t *testing.T) { checkCount(t, byteCases[name], true) })
	}
}

func checkCount(t *testing.T, sets []keySet, resync bool) {
	p := pairOfServers(t)
	dbs := p.fill(t, sets, resync)
	before, expired := settled(t, p.m, dbs), expiredKeys(p.m)
	redistest.Accounted(t, func() string { return p.r.Info(context.Background(), "server").Val() })
	got, err := p.x.CountLive(t.Context(), CountOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if now := expiredKeys(p.m); now != expired {
		t.Errorf("expired_keys of the master went from %d to %d", expired, now)
	}
	sweep(t, p.m, dbs)
	stale, freed := expiredKeys(p.m)-expired, before-settled(t, p.m, dbs)
	keys, bytes := got.Expired(), got.Bytes()
	t.Logf("keys %d, estimate %v; bytes %d, estimate %v (%.3f): %s", stale, keys, freed, bytes, float64(bytes.V)/float64(freed), got.Method)
	if !got.Complete || keys != policies.Known(stale) || stale == 0 {
		t.Errorf("keys: got %v, want %d; complete %v", keys, stale, got.Complete)
	}
	if !bytes.Known || math.Abs(float64(bytes.V-freed)) > float64(freed)/10 {
		t.Errorf("bytes: got %v, want %d: %s", bytes, freed, got.Method)
	}
}
