package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

// tlsServer is a server and the address of its TLS port, which takes no client without a certificate.
type tlsServer struct {
	*server
	secure policies.Address
}

func startTLS(t *testing.T, a *redistest.Authority, args ...string) tlsServer {
	t.Helper()
	port := redistest.FreePort(t)
	s := startServer(t, slices.Concat(a.Args(port), args)...)
	return tlsServer{s, policies.Address{Host: s.Addr.Host, Port: port}}
}

func (s tlsServer) node(name string, role policies.Role) string {
	return fmt.Sprintf("      - {name: %s, address: %s, role: %s}\n", name, s.secure, role)
}

func tlsSection(f *policies.TLS) string {
	return fmt.Sprintf("tls: {ca_file: %s, cert_file: %s, key_file: %s}", f.CAFile, f.CertFile, f.KeyFile)
}

// Nodes and bus that take nobody without a certificate: probes, alarms, roles and a repair work, over TLS from end to end.
func TestMutualTLSFromEndToEnd(t *testing.T) {
	t.Parallel()
	ours := redistest.NewAuthority(t)
	client := ours.Client()
	bus := startTLS(t, ours)
	m := startTLS(t, ours)
	m.do("SET", "k", "v")
	r := startTLS(t, ours, "--replicaof", fmt.Sprint(m.secure.Host, " ", m.secure.Port))
	until(t, "the replica is linked over TLS", r.linked)
	f := newFleet(t)
	f.policies, f.bus, f.busMore = eager, "rediss://"+bus.secure.String(), tlsSection(client)
	f.add("one", "live: [reattach-replica]\n"+tlsSection(client), m.node("one-m", policies.RoleMaster), r.node("one-r", policies.RoleReplica))
	p := running(t, "-c", f.write())
	p.prints(policies.HealerStartLine)
	dba := background(t, "observe", "dba", "--bus", f.bus, "--ca-file", client.CAFile, "--cert-file", client.CertFile, "--key-file", client.KeyFile)
	dba.prints(policies.DBAStartLine)
	r.detach()
	until(t, "the replica is healed", r.linked)
	if got := r.info("master_port"); got != fmt.Sprint(m.secure.Port) {
		t.Errorf("it follows port %s, want the TLS port %d", got, m.secure.Port)
	}
	f.outcome("one", policies.OutcomeSucceeded)
	dba.prints("[On-duty DBA] !!! Critical alarm !!! one | ")
	succeeds(t, "publish", "-c", f.file, "--severity", "critical", "--instance", "two", "--metric", "other", "--msg", "by the config")
	dba.prints("[On-duty DBA] !!! Critical alarm !!! two | by the config")
	dba.stopsWell(sigint)
	p.stopsWell(sigterm)
	f.verifies()
}

// What is missing or foreign is named with its setting, for a node and for the bus.
func TestWrongTLSNamesTheSetting(t *testing.T) {
	t.Parallel()
	ours, theirs := redistest.NewAuthority(t), redistest.NewAuthority(t)
	client, foreign := ours.Client(), theirs.Client()
	s := startTLS(t, ours)
	for name, tt := range map[string]struct {
		files policies.TLS
		want  string
	}{
		"no client certificate": {policies.TLS{CAFile: ours.CA}, "set %s.cert_file and %s.key_file"},
		"a foreign certificate": {policies.TLS{CAFile: ours.CA, CertFile: foreign.CertFile, KeyFile: foreign.KeyFile}, "%s.cert_file has to be one"},
		"a foreign CA":          {policies.TLS{CAFile: theirs.CA, CertFile: client.CertFile, KeyFile: client.KeyFile}, "set %s.ca_file"},
	} {
		t.Run(name, func(t *testing.T) {
			section := "tls: {ca_file: " + tt.files.CAFile
			args := []string{"publish", "--severity", "notice", "--instance", "i", "--metric", "m", "--bus", "rediss://" + s.secure.String(), "--ca-file", tt.files.CAFile}
			if tt.files.CertFile != "" {
				section += ", cert_file: " + tt.files.CertFile + ", key_file: " + tt.files.KeyFile
				args = append(args, "--cert-file", tt.files.CertFile, "--key-file", tt.files.KeyFile)
			}
			wanted := func(path string) string { return strings.ReplaceAll(tt.want, "%s", path) }
			f := newFleet(t)
			f.add("one", section+"}", s.node("one-m", policies.RoleMaster))
			_, stdout, _ := here(t, "plan", "-c", f.write())
			if !strings.Contains(stdout, "(tls)") || !strings.Contains(stdout, wanted("tls")) {
				t.Errorf("plan says\n%swant the cause tls and %q", stdout, wanted("tls"))
			}
			if code, _, stderr := here(t, args...); code != exitFailed || !strings.Contains(stderr, wanted("bus.tls")) {
				t.Errorf("publish: exit %d, %s, want %q", code, stderr, wanted("bus.tls"))
			}
		})
	}
	for want, args := range map[string][]string{
		"go together":               {"rediss://" + s.secure.String(), "--cert-file", client.CertFile},
		"URL begins with rediss://": {s.url(), "--ca-file", ours.CA},
		"/nowhere/ca.pem":           {"rediss://" + s.secure.String(), "--ca-file", "/nowhere/ca.pem"},
	} {
		args = append([]string{"publish", "--severity", "notice", "--instance", "i", "--metric", "m", "--bus"}, args...)
		if code, _, stderr := here(t, args...); code != exitFailed || !strings.Contains(stderr, want) {
			t.Errorf("%v: exit %d, %s, want %q", args, code, stderr, want)
		}
	}
}

func TestConfigCheckHoldsTheKeyOfTheBusAgainstItsCertificate(t *testing.T) {
	a := redistest.NewAuthority(t)
	f := newFleet(t)
	f.bus, f.busMore = "rediss://10.0.0.1:6379", tlsSection(&policies.TLS{CAFile: a.CA, CertFile: a.Client().CertFile, KeyFile: a.Client().KeyFile})
	f.add("one", "", "      - {name: n, address: 10.0.0.2:6379, role: master}\n")
	if code, _, stderr := here(t, "config", "check", "-c", f.write()); code != exitFailed || !strings.Contains(stderr, "bus.tls.cert_file") || !strings.Contains(stderr, "private key does not match") {
		t.Errorf("exit %d, %s, want the setting and what is wrong", code, stderr)
	}
}
