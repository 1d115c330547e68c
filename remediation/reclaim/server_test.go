package reclaim

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/agent/probe"
	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

func TestMain(m *testing.M) {
	probe.QuietLibrary()
	if addr := os.Getenv(foregroundEnv); addr != "" {
		if err := beForeground(addr, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// A server is a redistest.Server with a prober. Its own expiry cycle is off.
type server struct {
	*redistest.Server
	t testing.TB
	p *probe.Prober
}

func startServer(t testing.TB) *server {
	t.Helper()
	s := &server{Server: redistest.Start(t, "--enable-debug-command", "local"), t: t}
	s.C = s.oneConnection() // SELECT holds for what follows
	s.do("DEBUG", "SET-ACTIVE-EXPIRE", "0")
	s.p = probe.New(probe.Options{Instance: "dcs-test-01", Node: policies.Node{Name: "node-01", Address: s.Addr}})
	t.Cleanup(func() { s.p.Close() })
	return s
}

func (s *server) oneConnection() *redis.Client {
	return s.Client(func(o *redis.Options) { o.PoolSize = 1 })
}

func (s *server) do(args ...any) any { s.t.Helper(); return s.Do(args...) }

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
	if ttl < time.Second {
		_ = wait(context.Background(), 2*ttl) // the last ones were written a moment ago
	}
}

// keys counts what a DB holds, the expired ones included.
func (s *server) keys(db int) int {
	s.t.Helper()
	s.do("SELECT", db)
	defer s.do("SELECT", 0)
	return int(s.do("DBSIZE").(int64))
}

func (s *server) field(section, name string) int64 { s.t.Helper(); return s.Number(section, name) }

// writer is a Conn of the test's own: one connection, plain commands.
type writer struct{ c *redis.Conn }

var _ Conn = writer{}

func (s *server) writer() writer {
	c := s.oneConnection().Conn()
	s.t.Cleanup(func() { c.Close() })
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
