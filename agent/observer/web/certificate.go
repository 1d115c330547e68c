package web

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// Certificate is the TLS config of a server whose certificate may be renewed while it runs: the files are looked at again for a
// connection when they were written anew. One that cannot be read then leaves the last in use.
func Certificate(certFile, keyFile string) (*tls.Config, error) {
	c := &certificate{cert: certFile, key: keyFile}
	if _, err := c.load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.load() }}, nil
}

type certificate struct {
	cert, key string

	mu    sync.Mutex // guards what follows
	now   *tls.Certificate
	wrote time.Time // the younger of the two files
}

func (c *certificate) load() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var wrote time.Time
	for _, name := range []string{c.cert, c.key} {
		if info, err := os.Stat(name); err == nil && info.ModTime().After(wrote) {
			wrote = info.ModTime()
		}
	}
	if c.now != nil && wrote.Equal(c.wrote) {
		return c.now, nil
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	switch {
	case err == nil:
		c.now, c.wrote = &pair, wrote
	case c.now == nil:
		return nil, fmt.Errorf("dashboard.tls: certificate %s with key %s: %w", c.cert, c.key, err)
	}
	return c.now, nil
}
