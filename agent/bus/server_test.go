package bus

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// TestMain keeps go-redis from writing each failed dial to stderr, as the program does.
func TestMain(m *testing.M) {
	redis.SetLogger(silent{})
	os.Exit(m.Run())
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// testServer is a real redis-server on a free port of the loopback.
type testServer struct {
	t    *testing.T
	port int
	dir  string
	args []string
	cmd  *exec.Cmd
}

func startServer(t *testing.T, args ...string) *testServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("DCSHEALER_TEST_REQUIRE") == "1" {
			t.Fatal("no redis-server on PATH, and DCSHEALER_TEST_REQUIRE=1")
		}
		t.Skip("SKIPPED, NOT TESTED: no redis-server on PATH")
	}
	s := &testServer{t: t, port: freePort(t), dir: t.TempDir(), args: args}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *testServer) start() {
	s.t.Helper()
	args := append([]string{"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--appendonly", "no"}, s.args...)
	s.cmd = exec.Command("redis-server", args...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	c := s.client()
	defer c.Close()
	eventually(s.t, "redis-server answers", func() bool {
		err := c.Ping(context.Background()).Err()
		return err == nil || strings.HasPrefix(err.Error(), "NOAUTH")
	})
}

// kill is kill -9.
func (s *testServer) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(syscall.SIGCONT)
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *testServer) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

func (s *testServer) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

func (s *testServer) client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.addr(), Protocol: 2, DisableIdentity: true, DialerRetries: 1, MaxRetries: -1})
}

func (s *testServer) url() policies.Secret { return policies.Secret("redis://" + s.addr()) }

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// logBuffer keeps what was logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newBus(t *testing.T, url policies.Secret, log *slog.Logger) *Bus {
	t.Helper()
	b, err := New(Options{URL: url, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// reader runs a subscription and keeps what it brings.
type reader struct {
	sub *Subscription
	dec *Decoder

	mu     sync.Mutex
	raw    int
	alarms []policies.Alarm
}

func startReader(t *testing.T, b *Bus, topics policies.Topics, change func(*Subscription)) *reader {
	t.Helper()
	r := &reader{sub: b.Subscribe(topics), dec: NewDecoder(b.Prefix(), b.log)}
	if change != nil {
		change(r.sub)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.sub.Run(ctx) })
	wg.Go(r.consume)
	t.Cleanup(func() { cancel(); wg.Wait() })
	return r
}

func (r *reader) consume() {
	for {
		batch := r.sub.Batch(context.Background(), 100, 0)
		if len(batch) == 0 {
			return
		}
		r.mu.Lock()
		for _, m := range batch {
			r.raw++
			if a, err := r.dec.Decode(m); err == nil {
				r.alarms = append(r.alarms, a)
			}
		}
		r.mu.Unlock()
	}
}

func (r *reader) got() []policies.Alarm {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]policies.Alarm(nil), r.alarms...)
}

func (r *reader) awaitReady(t *testing.T) {
	t.Helper()
	select {
	case <-r.sub.Ready():
	case <-time.After(10 * time.Second):
		t.Fatal("not subscribed within 10 s")
	}
}

func (r *reader) seqs() []int64 {
	var seqs []int64
	for _, a := range r.got() {
		seqs = append(seqs, a.Seq)
	}
	return seqs
}
