package bus

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"

	"dcshealer/policies"
)

// maxConnections bounds the clients of an embedded bus.
const maxConnections = 1000

// EmbeddedOptions say where an embedded bus listens.
type EmbeddedOptions struct {
	Addr   string // host:port; empty: 127.0.0.1 and a free port. There is no password: keep it on loopback
	Prefix string // of the channels; empty: redis:monitor
	Log    *slog.Logger
}

// Embedded is a small Redis inside this process for where no bus is configured: Pub/Sub and the alarm stream, in
// memory, with the commands for those alone. Outside clients such as redis-cli may publish and subscribe.
//
// Inside is miniredis, which is made for tests: it hands a message to each subscriber while it holds its one lock, so a
// subscriber that stops reading would stop the bus, and some malformed requests make it panic. So every connection goes
// through a relay that checks each request, buffers what the client does not read and cuts it off at 32 MiB, as Redis does.
type Embedded struct {
	redis    *miniredis.Miniredis
	listener net.Listener
	log      *slog.Logger
	wg       sync.WaitGroup

	mu     sync.Mutex // guards what follows
	relays map[*relay]bool
	closed bool
}

// StartEmbedded listens and serves until Close.
func StartEmbedded(o EmbeddedOptions) (*Embedded, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Prefix == "" {
		o.Prefix = policies.DefaultConfig().Bus.Prefix
	}
	if globEscape(o.Prefix) != o.Prefix {
		return nil, fmt.Errorf("start the embedded bus: prefix %q: want one without * ? [ ] and \\", o.Prefix)
	}
	listener, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("start the embedded bus on %s: %w; name another address, or a bus under bus.url", o.Addr, err)
	}
	e := &Embedded{redis: miniredis.NewMiniRedis(), listener: listener, log: o.Log.With("component", "embedded-bus"), relays: map[*relay]bool{}}
	first, err := e.redis.Dial() // starts it without a listener of its own
	if err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("start the embedded bus: %w", err)
	}
	_ = first.Close()
	e.redis.Server().SetPreHook(allowed(&alarmStream{key: policies.StreamKey(o.Prefix)}))
	e.wg.Go(e.accept)
	return e, nil
}

// Addr is host:port as it is listened on.
func (e *Embedded) Addr() string { return e.listener.Addr().String() }

// URL is for Options.URL.
func (e *Embedded) URL() policies.Secret { return policies.Secret("redis://" + e.Addr()) }

// Close ends all connections and waits for them. What the bus held is gone.
func (e *Embedded) Close() error {
	err := e.listener.Close()
	e.mu.Lock()
	e.closed = true
	for r := range e.relays {
		r.close()
	}
	e.mu.Unlock()
	e.wg.Wait()
	e.redis.Close()
	return err
}

func (e *Embedded) accept() {
	for {
		conn, err := e.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // too many open files, as a rule: it passes
			e.log.Warn("client not accepted", "err", err)
			<-time.After(acceptPause)
		default:
			e.serve(conn)
		}
	}
}

// acceptPause keeps a listener that cannot accept from spinning.
const acceptPause = 100 * time.Millisecond

func (e *Embedded) serve(client net.Conn) {
	server, err := e.redis.Dial()
	if err != nil {
		_ = client.Close()
		return
	}
	r := newRelay(client, server)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || len(e.relays) >= maxConnections {
		_, _ = client.Write([]byte("-ERR max number of clients reached\r\n"))
		r.close()
		return
	}
	e.relays[r] = true
	e.wg.Go(func() {
		if reason := r.run(); reason != "" {
			e.log.Warn("client cut off", "reason", reason)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.relays, r)
	})
}
