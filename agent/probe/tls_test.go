package probe

import (
	"os"
	"strings"
	"testing"
	"time"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

// What is wrong with TLS shows as such, and names the setting to correct.
func TestProbeOverTLS(t *testing.T) {
	ours, theirs := redistest.NewAuthority(t), redistest.NewAuthority(t)
	port := redistest.FreePort(t)
	s := startServer(t, ours.Args(port)...)
	client, foreign := ours.Client(), theirs.Client()
	expired := &policies.TLS{CAFile: ours.CA}
	expired.CertFile, expired.KeyFile = ours.IssueExpired()
	tests := []struct {
		name  string
		port  int
		files *policies.TLS
		want  policies.Reach
		text  string
	}{
		{"right", port, client, policies.ReachUp, ""},
		{"the system's authorities", port, &policies.TLS{CertFile: client.CertFile, KeyFile: client.KeyFile}, policies.ReachTLS, "set tls.ca_file"},
		{"a foreign CA", port, &policies.TLS{CAFile: theirs.CA, CertFile: client.CertFile, KeyFile: client.KeyFile}, policies.ReachTLS, "set tls.ca_file"},
		{"no client certificate", port, &policies.TLS{CAFile: ours.CA}, policies.ReachTLS, "set tls.cert_file and tls.key_file"},
		{"a foreign client certificate", port, &policies.TLS{CAFile: ours.CA, CertFile: foreign.CertFile, KeyFile: foreign.KeyFile}, policies.ReachTLS, "tls.cert_file has to be one that its CA signed"},
		{"a client certificate of yesterday", port, expired, policies.ReachTLS, "tls.cert_file has to be"},
		{"other name", port, &policies.TLS{CAFile: ours.CA, ServerName: "other.internal"}, policies.ReachTLS, "set tls.server_name"},
		{"plaintext spoken to the TLS port", port, nil, policies.ReachReset, "TLS"},
		{"TLS spoken to the plaintext port", s.addr.Port, client, policies.ReachHung, "plaintext"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := TLSConfig(tt.files)
			if err != nil {
				t.Fatal(err)
			}
			timeout := redistest.Patience
			if tt.want == policies.ReachHung {
				timeout = 500 * time.Millisecond
			}
			p := s.prober(func(o *Options) { o.Node.Address.Port, o.TLS, o.Timeout = tt.port, cfg, timeout })
			for range 5 { // what a server says last may or may not arrive: it makes no difference
				if got := p.ProbeDeep(t.Context()); got.Reach != tt.want || !strings.Contains(got.Err, tt.text) {
					t.Errorf("%s (%s), want %s with %q", got.Reach, got.Err, tt.want, tt.text)
				}
				if tt.want == policies.ReachHung {
					break
				}
			}
		})
	}
}

// A renewed client certificate is used from the next connection on.
func TestAClientCertificateIsRenewedInPlace(t *testing.T) {
	ours := redistest.NewAuthority(t)
	port := redistest.FreePort(t)
	s := startServer(t, ours.Args(port)...)
	files := &policies.TLS{CAFile: ours.CA}
	files.CertFile, files.KeyFile = ours.IssueExpired()
	cfg, err := TLSConfig(files)
	if err != nil {
		t.Fatal(err)
	}
	p := s.prober(func(o *Options) { o.Node.Address.Port, o.TLS, o.Timeout = port, cfg, redistest.Patience })
	if got := p.Probe(t.Context()); got.Reach != policies.ReachTLS {
		t.Fatalf("%s (%s) with a certificate of yesterday, want tls", got.Reach, got.Err)
	}
	cert, key := ours.Issue()
	for from, to := range map[string]string{cert: files.CertFile, key: files.KeyFile} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if got := p.Probe(t.Context()); got.Reach != policies.ReachUp {
		t.Errorf("%s (%s) with the renewed certificate, want up", got.Reach, got.Err)
	}
	if err := os.Remove(files.KeyFile); err != nil {
		t.Fatal(err)
	}
	p.hangUp()
	if got := p.Probe(t.Context()); got.Reach != policies.ReachTLS || !strings.Contains(got.Err, files.KeyFile) {
		t.Errorf("%s (%s) without the key's file, want tls and its name", got.Reach, got.Err)
	}
}

func TestTLSConfig(t *testing.T) {
	cert, key := redistest.NewAuthority(t).Issue()
	if cfg, err := TLSConfig(nil); cfg != nil || err != nil {
		t.Errorf("none: got %v, %v", cfg, err)
	}
	cfg, err := TLSConfig(&policies.TLS{CAFile: cert, CertFile: cert, KeyFile: key, ServerName: "r"})
	if err != nil || cfg.GetClientCertificate == nil || cfg.RootCAs == nil || cfg.ServerName != "r" || cfg.InsecureSkipVerify {
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
