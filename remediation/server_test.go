package remediation

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// patience bounds every wait of these tests: the machine may be busy with others.
const patience = 20 * time.Second

// eventually polls to a deadline.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// A server is a real redis-server on a free port of 127.0.0.1, ended with the test by its pid.
type server struct {
	t    testing.TB
	addr policies.Address
	args []string
	cmd  *exec.Cmd
	log  *bytes.Buffer
	c    *redis.Client // the test's own, which may write
}

// startServer starts redis-server with extra arguments. A machine without one skips, loudly; DCSHEALER_TEST_REQUIRE=1 makes that an error.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		const text = "NOT TESTED: redis-server is not on PATH; install it (apt-get install redis-server)"
		if os.Getenv("DCSHEALER_TEST_REQUIRE") == "1" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	for range 5 { // a free port may be taken before the server has it
		s := &server{t: t, addr: policies.Address{Host: "127.0.0.1", Port: freePort(t)}, args: args}
		if s.start(bin) {
			s.c = s.client("", passwordOf(args))
			t.Cleanup(s.kill)
			return s
		}
		s.kill()
	}
	t.Fatal("no redis-server came up")
	return nil
}

func passwordOf(args []string) string {
	if i := slices.Index(args, "--requirepass"); i >= 0 {
		return args[i+1]
	}
	return ""
}

func (s *server) start(bin string) bool {
	base := []string{"--port", strconv.Itoa(s.addr.Port), "--bind", "127.0.0.1", "--dir", s.t.TempDir(), "--save", "", "--appendonly", "no",
		"--repl-diskless-sync-delay", "0", "--enable-debug-command", "local"}
	s.log = &bytes.Buffer{}
	s.cmd = exec.Command(bin, append(base, s.args...)...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("tcp", s.addr.String()); err == nil {
			c.Close()
			return s.cmd.Process.Signal(syscall.Signal(0)) == nil
		}
	}
	return false
}

// kill ends the process; more than once does nothing.
func (s *server) kill() {
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// restart starts another process, without data, on the same port.
func (s *server) restart() {
	s.t.Helper()
	s.kill()
	bin, err := exec.LookPath("redis-server")
	if err != nil || !s.start(bin) {
		s.t.Fatalf("redis-server did not come up again on %s: %v", s.addr, err)
	}
	eventually(s.t, "the restarted server answers", func() bool { return s.c.Ping(context.Background()).Err() == nil })
}

// hang stops the process: the kernel goes on accepting connections. kill wakes it first.
func (s *server) hang() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) client(user, password string) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: s.addr.String(), Username: user, Password: password, Protocol: 2, DisableIdentity: true, MaxRetries: -1, ReadTimeout: patience})
	s.t.Cleanup(func() { c.Close() })
	return c
}

func (s *server) do(args ...any) any {
	s.t.Helper()
	v, err := s.c.Do(context.Background(), args...).Result()
	if err != nil {
		s.t.Fatalf("%v: %v", args, err)
	}
	return v
}

// info is the fields of one INFO section; empty when the server does not answer.
func (s *server) info(section string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(s.c.Info(context.Background(), section).Val()) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			out[k] = v
		}
	}
	return out
}

func (s *server) number(section, field string) int64 {
	s.t.Helper()
	n, err := strconv.ParseInt(s.info(section)[field], 10, 64)
	if err != nil {
		s.t.Fatalf("INFO %s: %s: %v", section, field, err)
	}
	return n
}

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

// calls is the server's own count of the commands it was sent since reset, the refused ones included.
func (s *server) calls() map[string]int {
	out := map[string]int{}
	for k, v := range s.info("commandstats") {
		name, ok := strings.CutPrefix(k, "cmdstat_")
		if !ok {
			continue
		}
		for part := range strings.SplitSeq(v, ",") {
			if field, n, _ := strings.Cut(part, "="); field == "calls" || field == "rejected_calls" {
				i, _ := strconv.Atoi(n)
				out[name] += i
			}
		}
	}
	return out
}

// harmless are the commands that change nothing anywhere, those that the servers send each other, and the test's own.
var harmless = []string{"info", "role", "dbsize", "ping", "hello", "auth", "select", "config|get", "client|list", "client|id", "client|setname",
	"slowlog|get", "slowlog|len", "latency|latest", "command|info", "command|count", "memory|usage",
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

func (s *server) linkUp() bool { return s.info("replication")["master_link_status"] == "up" }

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

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
