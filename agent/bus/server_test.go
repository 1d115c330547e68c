package bus

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

// TestMain keeps go-redis from writing each failed dial to stderr, as the program does.
func TestMain(m *testing.M) {
	redis.SetLogger(silent{})
	os.Exit(m.Run())
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// testServer is a redistest.Server as a bus.
type testServer struct{ *redistest.Server }

func startServer(t *testing.T, args ...string) testServer {
	t.Helper()
	return testServer{redistest.Start(t, args...)}
}

func (s testServer) addr() string          { return s.Addr.String() }
func (s testServer) client() *redis.Client { return s.Client() }
func (s testServer) url() policies.Secret  { return policies.Secret("redis://" + s.addr()) }

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
	sub  *Subscription
	dec  *Decoder
	acks bool // what it gets

	mu     sync.Mutex
	raw    int
	stored int // of them from a group
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
			if m.Entry != "" {
				r.stored++
			}
			if a, err := r.dec.Decode(m); err == nil {
				r.alarms = append(r.alarms, a)
			}
		}
		r.mu.Unlock()
		if r.acks {
			r.sub.Ack(batch)
		}
	}
}

func (r *reader) entries() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stored
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
