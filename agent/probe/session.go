package probe

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"dcshealer/policies"
)

// clientName is what CLIENT LIST of a node shows for our connections.
const clientName = "dcshealer-probe"

// errOver says that a session's one connection is gone.
var errOver = errors.New("the connection to the node was lost")

// A session is one connection, never silently replaced by another: go-redis' pool would dial again behind our back,
// answer with the error of an earlier dial for a second, and carry what was learnt of one server to another.
type session struct {
	pass    *Password
	used    policies.Secret // of pass
	client  *redis.Client
	guard   *guard
	stage   atomic.Int32
	mu      sync.Mutex // guards what follows
	dialed  bool
	raw     net.Conn  // once dialed
	readyAt time.Time // when the handshake was done
}

// The stages of a session: how far it came tells what a timeout means.
const (
	connecting = iota
	encrypting
	connected
)

// open makes a session that connects at its first command. With scan its guard lets single SCANs pass after ROLE said replica.
func (p *Prober) open(scan bool) *session {
	s := &session{guard: &guard{scan: scan}, pass: p.pass, used: p.pass.Next()}
	s.client = redis.NewClient(&redis.Options{
		Addr:     p.opt.Node.Address.String(),
		Username: p.opt.Username,
		Password: s.used.Reveal(),
		Protocol: 2,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if !s.first() {
				return nil, errOver
			}
			conn, err := p.dial(ctx, network, addr, &s.stage)
			s.keep(conn)
			return conn, err
		},
		OnConnect:             s.greet,
		PoolSize:              1,
		MaxActiveConns:        1,
		PipelinePoolSize:      -1,
		MaxRetries:            -1,
		DialerRetries:         1,
		DialTimeout:           p.opt.Timeout,
		ReadTimeout:           p.opt.Timeout,
		WriteTimeout:          p.opt.Timeout,
		PoolTimeout:           p.opt.Timeout,
		ContextTimeoutEnabled: true,
		ConnMaxIdleTime:       -1,
		DisableIdentity:       true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	})
	s.client.AddHook(s.guard)
	s.client.AddHook(Renaming{p.opt.Renamed})
	return s
}

// first reports whether this is the session's only dial.
func (s *session) first() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.dialed
	s.dialed = true
	return !was
}

// greet names the connection. A server that refuses the name is still readable.
func (s *session) greet(ctx context.Context, c *redis.Conn) error {
	err := c.ClientSetName(ctx, clientName).Err()
	if err != nil && !isReply(err) {
		return err
	}
	s.pass.Took(s.used)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readyAt = time.Now()
	return nil
}

// since is the time from start, or from the end of the handshake if that was later.
func (s *session) since(start time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readyAt.After(start) {
		start = s.readyAt
	}
	return time.Since(start)
}

func (s *session) keep(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw = conn
}

// interrupt ends a read under way: a context that is cancelled does not by itself.
func (s *session) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.raw != nil {
		_ = s.raw.SetDeadline(time.Now())
	}
}

// close ends the connection. Its error says nothing that a probe could use.
func (s *session) close() { _ = s.client.Close() }

// pipeline sends all commands in one write. Each command carries its own reply or error; the error returned is one
// that is not a reply of the server: the connection broke, or the guard refused.
func (s *session) pipeline(ctx context.Context, cmds ...redis.Cmder) error {
	pipe := s.client.Pipeline()
	for _, c := range cmds {
		_ = pipe.Process(ctx, c) // queues; the error comes with Exec
	}
	_, err := pipe.Exec(ctx)
	if err == nil || isReply(err) {
		return nil
	}
	return err
}

// isReply reports whether the server sent the error as a reply, so that the connection still stands.
func isReply(err error) bool {
	var r redis.Error
	return errors.As(err, &r)
}

// explain gives a timeout its stage: go-redis stops waiting for a dial by itself, and says only that the time is over.
func (s *session) explain(err error) error {
	stage := s.stage.Load()
	switch {
	case !isTimeout(err) || stage == connected:
		return err
	case stage == encrypting:
		return &TLSError{err: err}
	}
	return &dialError{err}
}

// dial opens the connection, with TLS where the node wants it, and notes in stage how far it came.
func (p *Prober) dial(ctx context.Context, network, addr string, stage *atomic.Int32) (net.Conn, error) {
	conn, err := p.opt.Dialer(ctx, network, addr)
	if err != nil {
		return nil, &dialError{err}
	}
	if p.opt.TLS == nil {
		stage.Store(connected)
		return conn, nil
	}
	stage.Store(encrypting)
	t, err := Encrypt(ctx, conn, p.opt.TLS, p.opt.Node.Address.Host, "tls")
	if err != nil {
		return nil, err
	}
	stage.Store(connected)
	return t, nil
}

// QuietLibrary keeps go-redis from writing to stderr, where it reports each failed dial of any client in this process. The
// errors reach the callers all the same. For main, once.
func QuietLibrary() { logging.Disable() }
