package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"dcshealer/policies"
)

// An Authority signs certificates for a test. Its own lies in CA.
type Authority struct {
	CA string // a file in PEM form

	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes one that nobody else trusts.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, key: newKey(t)}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "authority of " + t.Name()}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der := a.sign(template, template, &a.key.PublicKey)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.CA = writePEM(t, filepath.Join(t.TempDir(), "ca.pem"), "CERTIFICATE", der)
	return a
}

// Issue makes a certificate and its key, good for a server on 127.0.0.1 and for a client, for an hour, and returns their files.
func (a *Authority) Issue() (cert, key string) { return a.issue(time.Now().Add(time.Hour)) }

// IssueExpired is Issue for one that was good until a minute ago.
func (a *Authority) IssueExpired() (cert, key string) { return a.issue(time.Now().Add(-time.Minute)) }

func (a *Authority) issue(until time.Time) (cert, key string) {
	a.t.Helper()
	private := newKey(a.t)
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "redis"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: until}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	return writePEM(a.t, filepath.Join(dir, "cert.pem"), "CERTIFICATE", a.sign(template, a.cert, &private.PublicKey)),
		writePEM(a.t, filepath.Join(dir, "key.pem"), "EC PRIVATE KEY", keyDER)
}

func (a *Authority) sign(template, parent *x509.Certificate, public *ecdsa.PublicKey) []byte {
	a.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore = serial, time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

// Client is the TLS section of a client that the authority's servers take.
func (a *Authority) Client() *policies.TLS {
	a.t.Helper()
	cert, key := a.Issue()
	return &policies.TLS{CAFile: a.CA, CertFile: cert, KeyFile: key}
}

// Args are a server's arguments for TLS on the port, with a certificate of its own; it takes no client without one, and speaks TLS to its master.
func (a *Authority) Args(port int) []string {
	a.t.Helper()
	cert, key := a.Issue()
	return []string{"--tls-port", strconv.Itoa(port), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", a.CA,
		"--tls-auth-clients", "yes", "--tls-replication", "yes"}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t testing.TB, file, kind string, der []byte) string {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
