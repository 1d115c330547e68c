package bus

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// wire is the socket under a subscription: it knows when bytes last came, and can be cut from outside, which go-redis
// offers no way to do without losing the subscription. It is safe for concurrent use.
type wire struct {
	base dialer
	last atomic.Int64 // Unix ns of the last byte or of the connect

	mu   sync.Mutex
	conn net.Conn // the newest; nil: none or cut
}

func (w *wire) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := w.base(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	w.last.Store(time.Now().UnixNano())
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn = conn
	return watchedConn{conn, w}, nil
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

// silence is how long nothing has come; 0 without a connection.
func (w *wire) silence() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn == nil {
		return 0
	}
	return time.Since(time.Unix(0, w.last.Load()))
}

type watchedConn struct {
	net.Conn
	wire *wire
}

func (c watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.wire.last.Store(time.Now().UnixNano())
	}
	return n, err
}

// startWatch pings a silent connection and cuts a dead one; the returned function ends that and waits for it.
func (s *Subscription) startWatch(ctx context.Context, ps *redis.PubSub) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { s.watch(ctx, ps) })
	wg.Go(func() { s.sing(ctx) })
	return func() { cancel(); wg.Wait() }
}

func (s *Subscription) watch(ctx context.Context, ps *redis.PubSub) {
	ticker := time.NewTicker(s.timing.tick)
	defer ticker.Stop()
	var pinged time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			silence := s.wire.silence()
			switch {
			case silence >= s.timing.dead:
				s.log.Warn("the bus has gone silent, connecting again", "took", silence.Round(time.Millisecond).String())
				s.wire.cut()
			case silence >= s.timing.ping && s.connected.Load() && now.Sub(pinged) >= s.timing.ping:
				pinged = now
				_ = ps.Ping(ctx) // its failure shows in Receive
			}
		}
	}
}
