package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"

	"dcshealer/policies"
)

// TLSConfig reads the files that t names; nil gives nil, which is plaintext. At least TLS 1.2 is asked for. The client certificate and its
// key are read anew for each connection, so that they may be renewed under a process that runs. Errors name the file and what is wrong with it.
func TLSConfig(t *policies.TLS) (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls ca_file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls ca_file %s: no certificate in it; want PEM", t.CAFile)
		}
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, errors.New("tls cert_file and key_file: want both or neither")
	}
	files := *t
	if _, err := clientPair(files); err != nil {
		return nil, err
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return clientPair(files) }
	return cfg, nil
}

// clientPair is the client certificate with its key; an empty one, which is never sent, where t names none.
func clientPair(t policies.TLS) (*tls.Certificate, error) {
	if t.CertFile == "" {
		return &tls.Certificate{}, nil
	}
	cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("tls cert_file %s, key_file %s: %w", t.CertFile, t.KeyFile, err)
	}
	return &cert, nil
}

// Encrypt puts TLS on a new connection and closes it on error. An empty ServerName becomes host. setting is the path of the tls section in
// the config, which the errors, each a *TLSError, name; so are those of the connection up to its first answer, which is
// where a server that wants another client certificate says so.
func Encrypt(ctx context.Context, conn net.Conn, cfg *tls.Config, host, setting string) (net.Conn, error) {
	c := &tlsConn{setting: setting}
	cfg = cfg.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	if choose := cfg.GetClientCertificate; choose != nil {
		cfg.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := choose(info)
			c.asked, c.gave = true, cert != nil && len(cert.Certificate) > 0
			return cert, err
		}
	}
	t := tls.Client(conn, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, c.fault(err)
	}
	c.Conn = t
	return c, nil
}

// A TLSError is met between connecting and the first answer.
type TLSError struct {
	err     error
	setting string // the config's section, such as tls or bus.tls
	asked   bool   // the server asked for a client certificate
	gave    bool   // and got one
}

// Unwrap gives a list of one: go-redis takes one layer off an error that has a single cause.
func (e *TLSError) Unwrap() []error { return []error{e.err} }

// Error says what was met and which setting to look at.
func (e *TLSError) Error() string {
	if advice := e.advice(); advice != "" {
		return "TLS: " + e.err.Error() + "; " + advice
	}
	return "TLS: " + e.err.Error()
}

func (e *TLSError) advice() string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch {
	case errors.As(e.err, &unknown):
		return "set " + e.setting + ".ca_file to the CA that signed the server's certificate"
	case errors.As(e.err, &name):
		return "set " + e.setting + ".server_name to a name that the server's certificate has"
	case errors.As(e.err, &invalid) && invalid.Reason == x509.Expired:
		return "renew the server's certificate, or set the clock of this host"
	case errors.As(e.err, &record):
		return "the port answers, but not TLS: leave " + e.setting + " out, or give the TLS port"
	case e.turnedAway() && e.gave:
		return "the server does not take the client certificate: " + e.setting + ".cert_file has to be one that its CA signed, and within its dates"
	case e.turnedAway():
		return "the server wants a client certificate: set " + e.setting + ".cert_file and " + e.setting + ".key_file"
	case isAlert(e.err):
		return "the server refuses the handshake: compare the TLS versions and ciphers of both sides"
	}
	return ""
}

// turnedAway reports that the server went away after it had asked who we are. What it sends before that does not always arrive.
func (e *TLSError) turnedAway() bool { return e.asked && (isAlert(e.err) || isReset(e.err)) }

// isAlert reports an alert that the other side sent.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// IsTLS reports whether TLS is what keeps a connection from being made, and not a server that is gone, going or silent.
func IsTLS(err error) bool {
	var e *TLSError
	return errors.As(err, &e) && !isTimeout(e.err) && (e.turnedAway() || !isReset(e.err))
}

// tlsConn explains what goes wrong before the first answer: with TLS 1.3 a client learns only then that its certificate is refused.
type tlsConn struct {
	net.Conn
	setting     string
	asked, gave bool // settled by the handshake
	answered    atomic.Bool
}

func (c *tlsConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.answered.Store(true)
	}
	return n, c.explain(err)
}

func (c *tlsConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.explain(err)
}

func (c *tlsConn) explain(err error) error {
	if err == nil || c.answered.Load() {
		return err
	}
	if e := c.fault(err); e.turnedAway() || isAlert(err) {
		return e
	}
	return err
}

func (c *tlsConn) fault(err error) *TLSError {
	return &TLSError{err: err, setting: c.setting, asked: c.asked, gave: c.gave}
}
