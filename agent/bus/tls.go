package bus

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/redis/go-redis/v9"

	"dcshealer/agent/probe"
	"dcshealer/policies"
)

// errPlainURL refuses TLS settings for a connection that would not use them.
var errPlainURL = errors.New("bus tls: the bus url is not rediss://, which is what asks for TLS")

// useTLS takes the files of t for a URL that asks for TLS.
func useTLS(opt *redis.Options, t *policies.TLS) error {
	switch {
	case opt.TLSConfig == nil && t != nil:
		return errPlainURL
	case opt.TLSConfig == nil:
		return nil
	case t == nil:
		t = &policies.TLS{}
	}
	cfg, err := probe.TLSConfig(t)
	if err != nil {
		return fmt.Errorf("bus %w", err)
	}
	cfg.InsecureSkipVerify = opt.TLSConfig.InsecureSkipVerify // skip_verify=true in the URL
	opt.TLSConfig = cfg
	return nil
}

// newDialer opens connections to the server, with TLS where the URL asks for it.
func (b *Bus) newDialer() dialer {
	plain := b.opt
	plain.TLSConfig = nil
	dial, cfg := redis.NewDialer(&plain), b.opt.TLSConfig
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		conn, err := dial(ctx, network, addr)
		if err != nil || cfg == nil {
			return conn, err
		}
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return probe.Encrypt(ctx, conn, cfg, host, "bus.tls")
	}
}
