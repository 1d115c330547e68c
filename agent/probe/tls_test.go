package probe

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

// selfSigned writes a certificate for 127.0.0.1 and its key.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestProbeOverTLS(t *testing.T) {
	cert, key := selfSigned(t)
	port := redistest.FreePort(t)
	s := startServer(t, "--tls-port", fmt.Sprint(port), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	probe := func(port int, files *policies.TLS) policies.Snapshot {
		cfg, err := TLSConfig(files)
		if err != nil {
			t.Fatal(err)
		}
		return s.prober(func(o *Options) {
			o.Node.Address.Port, o.TLS, o.Timeout = port, cfg, 500*time.Millisecond
		}).ProbeDeep(t.Context())
	}
	tests := []struct {
		name  string
		port  int
		files *policies.TLS
		want  policies.Reach
		text  string
	}{
		{"right", port, &policies.TLS{CAFile: cert}, policies.ReachUp, ""},
		{"unknown CA", port, &policies.TLS{}, policies.ReachOdd, "tls.ca_file"},
		{"other name", port, &policies.TLS{CAFile: cert, ServerName: "other.internal"}, policies.ReachOdd, "other.internal"},
		{"plaintext spoken to the TLS port", port, nil, policies.ReachReset, "TLS"},
		{"TLS spoken to the plaintext port", s.addr.Port, &policies.TLS{CAFile: cert}, policies.ReachHung, "plaintext"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := probe(tt.port, tt.files); got.Reach != tt.want || !strings.Contains(got.Err, tt.text) {
				t.Errorf("%s (%s), want %s", got.Reach, got.Err, tt.want)
			}
		})
	}
}

func TestTLSConfig(t *testing.T) {
	cert, key := selfSigned(t)
	if cfg, err := TLSConfig(nil); cfg != nil || err != nil {
		t.Errorf("none: got %v, %v", cfg, err)
	}
	cfg, err := TLSConfig(&policies.TLS{CAFile: cert, CertFile: cert, KeyFile: key, ServerName: "r"})
	if err != nil || len(cfg.Certificates) != 1 || cfg.RootCAs == nil || cfg.ServerName != "r" || cfg.InsecureSkipVerify {
		t.Errorf("all: got %+v, %v", cfg, err)
	}
	for name, tt := range map[string]struct {
		files policies.TLS
		want  string
	}{
		"no such CA":           {policies.TLS{CAFile: "/nowhere/ca.pem"}, "/nowhere/ca.pem"},
		"a CA that is none":    {policies.TLS{CAFile: key}, "no certificate"},
		"a key without cert":   {policies.TLS{KeyFile: key}, "both or neither"},
		"cert without key":     {policies.TLS{CertFile: cert}, "both or neither"},
		"cert and key swapped": {policies.TLS{CertFile: key, KeyFile: cert}, key},
	} {
		if _, err := TLSConfig(&tt.files); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want text %q", name, err, tt.want)
		}
	}
}
