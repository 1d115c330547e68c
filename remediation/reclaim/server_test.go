package reclaim

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/agent/probe"
	"dcshealer/policies"
)

func TestMain(m *testing.M) {
	probe.QuietLibrary()
	os.Exit(m.Run())
}

const patience = 20 * time.Second

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// A server is a real redis-server on a free port, ended with the test by its pid. Its own expiry cycle is off.
type server struct {
	t    testing.TB
	addr policies.Address
	c    *redis.Client
	p    *probe.Prober
}

func startServer(t testing.TB) *server {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		const text = "NOT TESTED: redis-server is not on PATH; install it (apt-get install redis-server)"
		if os.Getenv("DCSHEALER_TEST_REQUIRE") == "1" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	cmd := exec.Command(bin, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "", "--enable-debug-command", "local")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s := &server{t: t, addr: policies.Address{Host: "127.0.0.1", Port: port}}
	s.c = redis.NewClient(&redis.Options{Addr: s.addr.String(), Protocol: 2, DisableIdentity: true, MaxRetries: -1, PoolSize: 1, ReadTimeout: patience})
	t.Cleanup(func() { s.c.Close() })
	eventually(t, "redis-server answers", func() bool { return s.c.Ping(context.Background()).Err() == nil })
	s.do("DEBUG", "SET-ACTIVE-EXPIRE", "0")
	s.p = probe.New(probe.Options{Instance: "dcs-test-01", Node: policies.Node{Name: "node-01", Address: s.addr}})
	t.Cleanup(func() { s.p.Close() })
	return s
}

func (s *server) do(args ...any) any {
	s.t.Helper()
	v, err := s.c.Do(context.Background(), args...).Result()
	if err != nil {
		s.t.Fatalf("%v: %v", args, err)
	}
	return v
}

// fill writes n keys into a DB; ttl 0: without one.
func (s *server) fill(db, n int, ttl time.Duration) {
	s.t.Helper()
	const script = `for i = 1, tonumber(ARGV[1]) do
  if ARGV[2] == '0' then redis.call('SET', ARGV[3] .. i, 'some value or other') else redis.call('SET', ARGV[3] .. i, 'some value or other', 'PX', ARGV[2]) end
end
return 1`
	s.do("SELECT", db)
	s.do("EVAL", script, 0, n, ttl.Milliseconds(), fmt.Sprintf("k:%d:", ttl.Milliseconds()))
	s.do("SELECT", 0)
}

// keys counts what a DB holds, the expired ones included.
func (s *server) keys(db int) int {
	s.t.Helper()
	s.do("SELECT", db)
	defer s.do("SELECT", 0)
	return int(s.do("DBSIZE").(int64))
}

func (s *server) field(section, name string) int64 {
	s.t.Helper()
	for line := range strings.Lines(s.c.Info(context.Background(), section).Val()) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			n, err := strconv.ParseInt(v, 10, 64)
			if err == nil {
				return n
			}
		}
	}
	s.t.Fatalf("INFO %s has no number %s", section, name)
	return 0
}

// writer is a Conn of the test's own: one connection, plain commands.
type writer struct{ c *redis.Conn }

var _ Conn = writer{}

func (s *server) writer() writer {
	client := redis.NewClient(&redis.Options{Addr: s.addr.String(), Protocol: 2, DisableIdentity: true, MaxRetries: -1, PoolSize: 1})
	c := client.Conn()
	s.t.Cleanup(func() { c.Close(); client.Close() })
	return writer{c}
}

func (w writer) Select(ctx context.Context, db int) error { return w.c.Select(ctx, db).Err() }
func (w writer) Ping(ctx context.Context) error           { return w.c.Ping(ctx).Err() }
func (w writer) ScanTime(ctx context.Context) (time.Duration, error) {
	text, err := w.c.Info(ctx, "commandstats").Result()
	return ScanTimeOf(text), err
}
func (w writer) Scan(ctx context.Context, cursor uint64, count int64) (uint64, error) {
	_, next, err := w.c.Scan(ctx, cursor, "", count).Result()
	return next, err
}
