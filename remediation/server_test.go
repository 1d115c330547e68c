package remediation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	redistest.Eventually(t, what, holds)
}

// A server is a redistest.Server with what these tests do to it and want of it.
type server struct {
	*redistest.Server
	t    testing.TB
	addr policies.Address
	c    *redis.Client // the test's own, which may write
}

func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	file, options := args[:0:0], args
	if len(args) > 0 && !strings.HasPrefix(args[0], "--") {
		file, options = args[:1], args[1:]
	}
	s := redistest.Start(t, slices.Concat(file, []string{"--enable-debug-command", "local"}, options)...)
	return &server{s, t, s.Addr, s.C}
}

func (s *server) kill()                                 { s.Kill() }
func (s *server) restart()                              { s.t.Helper(); s.Restart() }
func (s *server) hang()                                 { s.t.Helper(); s.Hang() }
func (s *server) do(args ...any) any                    { s.t.Helper(); return s.Do(args...) }
func (s *server) info(section string) map[string]string { return s.Info(section) }
func (s *server) number(section, field string) int64    { s.t.Helper(); return s.Number(section, field) }
func (s *server) calls() map[string]int                 { return s.CommandCalls() }
func (s *server) linkUp() bool                          { return s.LinkUp() }

// fill writes n keys of size bytes into a DB; ttl 0: without one.
func (s *server) fill(db, n, size int, ttl time.Duration) {
	s.t.Helper()
	const script = `local v = string.rep('x', tonumber(ARGV[3]))
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  if ARGV[4] == '0' then redis.call('SET', ARGV[5] .. i, v) else redis.call('SET', ARGV[5] .. i, v, 'PX', ARGV[4]) end
end
return 1`
	pipe := s.c.TxPipeline() // one connection: SELECT holds for it alone
	pipe.Do(context.Background(), "SELECT", db)
	for from := 1; from <= n; from += 20_000 {
		pipe.Do(context.Background(), "EVAL", script, 0, from, min(n, from+19_999), size, ttl.Milliseconds(), fmt.Sprintf("key:%d:", ttl.Milliseconds()))
	}
	pipe.Do(context.Background(), "SELECT", 0)
	if _, err := pipe.Exec(context.Background()); err != nil {
		s.t.Fatalf("fill DB %d: %v", db, err)
	}
}

// stale fills DBs with keys that expire at once and stay, as the server's own cycle is off.
func (s *server) stale(n int, dbs ...int) {
	s.t.Helper()
	s.do("DEBUG", "SET-ACTIVE-EXPIRE", "0")
	for _, db := range dbs {
		s.fill(db, n, 40, time.Millisecond)
	}
}

// counted is what the server compares with maxmemory.
func (s *server) counted() int64 {
	return s.number("memory", "used_memory") - s.number("memory", "mem_not_counted_for_evict")
}

// limit sets maxmemory so that the counted memory is this share of it, in percent. It waits until the server has done
// growing its tables and its buffers stand: until ten looks in a row differ by less than a thousandth.
func (s *server) limit(percent int64) {
	s.t.Helper()
	last, same := int64(0), 0
	eventually(s.t, "the memory stands", func() bool {
		time.Sleep(30 * time.Millisecond)
		now := s.counted()
		if same++; max(now-last, last-now) > now/1000 {
			last, same = now, 0
		}
		return same >= 10
	})
	s.do("CONFIG", "SET", "maxmemory", s.counted()*100/percent)
}

func (s *server) keys(db int) int64 {
	s.t.Helper()
	line := s.info("keyspace")["db"+strconv.Itoa(db)]
	n, _ := strconv.ParseInt(strings.TrimPrefix(strings.Split(line, ",")[0], "keys="), 10, 64)
	return n
}

// setting is one parameter of the server.
func (s *server) setting(name string) string {
	s.t.Helper()
	all, _ := s.do("CONFIG", "GET", name).([]any)
	if len(all) != 2 {
		s.t.Fatalf("CONFIG GET %s: %v", name, all)
	}
	return fmt.Sprint(all[1])
}

// harmless are the commands that change nothing anywhere, those that the servers send each other, and the test's own.
var harmless = []string{"info", "role", "dbsize", "ping", "hello", "auth", "select", "config|get", "client|list", "client|id", "client|setname",
	"slowlog|get", "slowlog|len", "latency|latest", "command|info", "command|count", "memory|usage", "memory|stats",
	"psync", "replconf", "debug", "config|resetstat"}

// writes are the calls of commands outside the read-only list. SCAN and PTTL change nothing on a replica.
func (s *server) writes() map[string]int {
	out := s.calls()
	replica := s.info("replication")["role"] == "slave"
	maps.DeleteFunc(out, func(name string, n int) bool {
		return n == 0 || slices.Contains(harmless, name) || replica && (name == "scan" || name == "pttl")
	})
	return out
}

func (s *server) wantWrites(want map[string]int) {
	s.t.Helper()
	if got := s.writes(); !maps.Equal(got, want) {
		s.t.Errorf("%s was sent %v by its own count, want %v", s.addr, got, want)
	}
}

// state is what a node holds and follows.
func (s *server) state() string {
	s.t.Helper()
	r := s.info("replication")
	return fmt.Sprint(s.do("DEBUG", "DIGEST"), r["role"], r["master_host"], r["master_port"], r["master_replid"], s.info("server")["run_id"])
}

// untouched resets the counters of the servers and returns the check that since then nothing was sent to any of them
// but reads, and that each still holds and follows what it did.
func untouched(t *testing.T, servers ...*server) (check func()) {
	t.Helper()
	before := make([]string, len(servers))
	for i, s := range servers {
		before[i] = s.state()
		s.do("CONFIG", "RESETSTAT")
	}
	return func() {
		t.Helper()
		for i, s := range servers {
			s.wantWrites(map[string]int{})
			if now := s.state(); now != before[i] {
				t.Errorf("%s changed: it was %s and is %s", s.addr, before[i], now)
			}
		}
	}
}

func (s *server) follow(m *server) {
	s.t.Helper()
	s.do("REPLICAOF", m.addr.Host, m.addr.Port)
	eventually(s.t, "the replica's link is up", s.linkUp)
}

// promote is what a person or another controller does to a replica.
func (s *server) promote() { s.t.Helper(); s.do("REPLICAOF", "NO", "ONE") }

// pair is a master with 100 keys and a replica in step.
func pair(t testing.TB, args ...string) (m, x *server) {
	t.Helper()
	m, x = startServer(t, args...), startServer(t, args...)
	m.fill(0, 100, 10, 0)
	x.follow(m)
	eventually(t, "the replica holds all keys", func() bool { return x.keys(0) == 100 })
	return m, x
}
