// Package probe reads one Redis or Valkey node into a policies.Snapshot over a connection that can only read: every
// command outside a short list is refused before it is sent. It judges nothing and changes nothing.
package probe

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"dcshealer/policies"
)

// DefaultTimeout bounds one probe when Options give none.
const DefaultTimeout = 2 * time.Second

// settingsTTL is how long the answers of CONFIG GET are believed for one run of a server.
const settingsTTL = 60 * time.Second

// Options say which node is read, and how.
type Options struct {
	Instance string
	Node     policies.Node
	Username string
	Password policies.Secret // empty: the connection does not authenticate
	// PasswordFile is read again for each new connection; empty: Password stays what it is.
	PasswordFile string
	Renamed      policies.Renames // commands that the node knows under another name
	TLS          *tls.Config      // nil: plaintext; an empty ServerName becomes the host of Node.Address
	Timeout      time.Duration    // of one probe, connecting included; 0: DefaultTimeout
	Log          *slog.Logger     // nil: nothing is logged

	// Dialer opens the connection; nil: TCP. TLS is put on top of what it returns.
	Dialer func(ctx context.Context, network, addr string) (net.Conn, error)
}

// For is the Options of one node of an instance; the TLS files are read.
func For(i policies.Instance, n policies.Node, timeout time.Duration, log *slog.Logger) (Options, error) {
	t, err := TLSConfig(i.TLS)
	if err != nil {
		return Options{}, err
	}
	return Options{Instance: i.Name, Node: n, Username: i.Username, Password: i.Password, PasswordFile: i.PasswordFile, Renamed: i.Renamed, TLS: t, Timeout: timeout, Log: log}, nil
}

// A Prober reads one node. It holds one connection open, so that a node at maxclients can still be read, and opens a
// new one when that breaks. It is safe for concurrent use; probes of one Prober run one after another.
type Prober struct {
	opt   Options
	pass  *Password
	turn  chan struct{} // holds one token: whoever has it owns everything below
	s     *session      // nil: not connected
	whole bool          // this server takes one INFO section an invocation (before 7.0)
	set   settings
	slow  slowSeen
	names *resolver
	noLog string                  // the run of the server that refused ACL LOG
	under atomic.Pointer[session] // the session of the newest probe
	ended atomic.Bool
}

// New returns a Prober; it connects at the first probe.
func New(o Options) *Prober {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if o.Dialer == nil {
		o.Dialer = (&net.Dialer{}).DialContext
	}
	p := &Prober{opt: o, pass: NewPassword(o.Password, o.PasswordFile), turn: make(chan struct{}, 1), names: newResolver()}
	p.turn <- struct{}{}
	return p
}

// Node is the node that the Prober reads.
func (p *Prober) Node() policies.Node { return p.opt.Node }

// Close closes the connection, after a probe under way. Later probes say that the Prober is closed.
func (p *Prober) Close() error {
	p.ended.Store(true)
	<-p.turn
	defer func() { p.turn <- struct{}{} }()
	p.hangUp()
	return nil
}

// Probe reads the node once. It never fails: Reach and Err of the snapshot say what was met. It takes at most the
// timeout of the Options, after the wait for a probe of the same Prober that is under way; ctx ends both.
func (p *Prober) Probe(ctx context.Context) policies.Snapshot { return p.run(ctx, false) }

// ProbeDeep reads what Probe does and also what costs more: the client list, the commands that the server knows,
// whether it wants a password, and CONFIG GET afresh.
func (p *Prober) ProbeDeep(ctx context.Context) policies.Snapshot { return p.run(ctx, true) }

func (p *Prober) run(ctx context.Context, deep bool) policies.Snapshot {
	snap := policies.Snapshot{Instance: p.opt.Instance, Node: p.opt.Node.Name, At: time.Now()}
	select {
	case <-p.turn:
		defer func() { p.turn <- struct{}{} }()
	case <-ctx.Done():
		snap.Reach, snap.Err = policies.ReachOdd, "the probe was cancelled while waiting for the one before it"
		return snap
	}
	if p.ended.Load() {
		snap.Reach, snap.Err = policies.ReachOdd, "the prober is closed"
		return snap
	}
	ctx, cancel := context.WithTimeout(ctx, p.opt.Timeout)
	defer cancel()
	snap.At = time.Now()
	defer context.AfterFunc(ctx, func() {
		if s := p.under.Load(); s != nil && context.Cause(ctx) != context.DeadlineExceeded {
			s.interrupt()
		}
	})()
	if err := p.read(ctx, &snap, deep); err != nil {
		p.unreadable(&snap, err)
	}
	snap.Took = time.Since(snap.At)
	p.opt.Log.Debug("probed", "instance", snap.Instance, "node", snap.Node, "reach", string(snap.Reach), "took", snap.Took.String(), "err", snap.Err)
	return snap
}

// unreadable makes the snapshot say only that the node could not be read: half a reading is none.
func (p *Prober) unreadable(snap *policies.Snapshot, err error) {
	if p.s != nil {
		err = p.s.explain(err)
	}
	reach, text := classify(err)
	p.hangUp()
	*snap = policies.Snapshot{Instance: snap.Instance, Node: snap.Node, At: snap.At, Reach: reach,
		Err: "probe " + snap.Instance + "/" + snap.Node + " at " + p.opt.Node.Address.String() + ": " + text}
}

func (p *Prober) hangUp() {
	if p.s != nil {
		p.s.close()
		p.s = nil
	}
}
