// Package bus carries alarms between processes over Redis Pub/Sub, with a capped stream beside it from which a
// reconnecting reader catches up, and offers an embedded server where no bus is configured. It judges no alarm.
package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"dcshealer/policies"
)

// Options say which bus.
type Options struct {
	URL    policies.Secret // redis://[user:password@]host:port/db, rediss:// for TLS, unix:// for a socket
	TLS    *policies.TLS   // files for rediss://; nil: the system's authorities and no client certificate
	Prefix string          // of the channels; empty: redis:monitor
	// Password is asked for each new connection; nil, or an empty answer: that of the URL, if any.
	Password func() policies.Secret
	Keys     *Keys        // sign what is published; nil: nothing is signed
	Log      *slog.Logger // nil: no logs
}

const (
	dialTimeout = 3 * time.Second
	ioTimeout   = 3 * time.Second
	sendTimeout = 5 * time.Second // one publication, connecting included
)

// Bus is the connection to one bus server. It is safe for concurrent use; Close ends it.
type Bus struct {
	opt    redis.Options
	prefix string
	keys   *Keys
	log    *slog.Logger
	client *redis.Client
	stream streamFaults
	wire   *wire // of client
}

// New reads the URL and connects to nothing yet. Its error never shows the URL, which may hold a password.
func New(o Options) (*Bus, error) {
	opt, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	if err := useTLS(opt, o.TLS); err != nil {
		return nil, err
	}
	opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout = dialTimeout, ioTimeout, ioTimeout
	opt.ContextTimeoutEnabled = true // else a deadline does not reach a command that has begun
	opt.MaxRetries = -1              // retries are ours: go-redis would publish again unseen
	opt.DialerRetries = 1
	opt.DisableIdentity = true // CLIENT SETINFO counts as an error on Redis 6.0 and 7.0, and fills the ACL LOG
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	opt.Protocol = 2 // Pub/Sub needs nothing of RESP3, and HELLO is one command less to be allowed
	if o.Password != nil {
		user, inURL := opt.Username, opt.Password
		opt.CredentialsProvider = func() (string, string) { return user, cmp.Or(o.Password().Reveal(), inURL) }
	}
	b := &Bus{opt: *opt, prefix: o.Prefix, keys: o.Keys, log: o.Log}
	if b.prefix == "" {
		b.prefix = policies.DefaultConfig().Bus.Prefix
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.log = b.log.With("component", "bus", "bus", b.Addr())
	b.wire = &wire{base: b.newDialer()}
	b.client = b.newClient(b.wire.dial)
	return b, nil
}

// newClient makes a client of its own.
func (b *Bus) newClient(dial dialer, change ...func(*redis.Options)) *redis.Client {
	opt := b.opt
	opt.Dialer = dial
	for _, f := range change {
		f(&opt)
	}
	return redis.NewClient(&opt)
}

// Addr is the server's address, without credentials.
func (b *Bus) Addr() string { return b.opt.Addr }

// Prefix is the channels' prefix.
func (b *Bus) Prefix() string { return b.prefix }

// Close ends the connections of Publish and Ping; subscriptions end with the context of their Run.
func (b *Bus) Close() error { return b.client.Close() }

// Ping reports whether the bus answers.
func (b *Bus) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	if err := b.client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("ping bus %s: %w", b.Addr(), err)
	}
	return nil
}

// Encode is the payload of an alarm as Send sends it, signed where there are keys.
func (b *Bus) Encode(a policies.Alarm) ([]byte, error) {
	payload, err := policies.EncodeAlarm(a)
	if err != nil {
		return nil, err
	}
	return b.keys.Sign(a.Severity, payload)
}

// Publish is Send without the number of receivers.
func (b *Bus) Publish(ctx context.Context, a policies.Alarm) error {
	_, err := b.Send(ctx, a)
	return err
}

// Send publishes one alarm as it is, within 5 s, and adds it to the stream; it returns how many subscribers the server
// counted. A refused addition (out of memory, no permission) is counted and logged, and is no error. After an error it
// is unknown whether the alarm went out: sending it again with the same id is safe. A *policies.MalformedAlarm cannot
// be sent at all.
func (b *Bus) Send(ctx context.Context, a policies.Alarm) (receivers int64, err error) {
	batch := []parcel{{alarm: a, publish: true, add: true}}
	b.carry(ctx, batch)
	p := batch[0]
	var bad *policies.MalformedAlarm
	switch {
	case errors.As(p.pubErr, &bad):
		return 0, fmt.Errorf("publish alarm of %s: %w", policies.Printable(a.Instance, 100), p.pubErr)
	case p.pubErr != nil:
		return 0, p.pubErr
	case p.addErr != nil:
		b.stream.refused(b.log, "alarm not added to the stream", p.addErr)
	}
	return p.receivers, nil
}
