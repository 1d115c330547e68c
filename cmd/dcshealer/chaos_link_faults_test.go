package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// linkOf is the replication connection of a replica as the master shows it, by the fields of CLIENT LIST.
func (f *chaosFleet) linkOf(t *testing.T, name string) (link map[string]string) {
	t.Helper()
	ip := f.ip(name).String()
	chaosAwait(t, "the master to show the connection of "+name, func(ctx context.Context) error {
		list, err := f.nodes[chaosMaster].db.Do(ctx, "CLIENT", "LIST", "TYPE", "replica").Text()
		if err != nil {
			return err
		}
		for line := range strings.Lines(list) {
			fields := map[string]string{}
			for part := range strings.FieldsSeq(line) {
				k, v, _ := strings.Cut(part, "=")
				fields[k] = v
			}
			if host, _, _ := net.SplitHostPort(fields["addr"]); host == ip {
				link = fields
				return nil
			}
		}
		return fmt.Errorf("it shows %s", list)
	})
	return link
}

// dropLink closes the link of one replica at the master's end: it has to connect anew.
func (f *chaosFleet) dropLink(t *testing.T, name string) {
	t.Helper()
	if n := f.nodes[chaosMaster].do(t, "CLIENT", "KILL", "ID", f.linkOf(t, name)["id"]); n != int64(1) {
		t.Fatalf("%v connections of %s were closed, want 1", n, name)
	}
}

// halfOpen drops the packets of the link that stands, and of no other: neither end is told, and a new connection works.
func (f *chaosFleet) halfOpen(t *testing.T, name string) {
	t.Helper()
	_, port, err := net.SplitHostPort(f.linkOf(t, name)["addr"])
	if err != nil {
		t.Fatal(err)
	}
	chaosShell(t, f.beside(t, name), "iptables -A INPUT -p tcp --dport "+port+" -j DROP; iptables -A OUTPUT -p tcp --sport "+port+" -j DROP")
}

// startAnew makes a replica need a full copy, by one transaction: nobody sees it as the master that it is within.
func (n *chaosNode) startAnew(t *testing.T) {
	t.Helper()
	_, err := n.db.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
		p.Do(t.Context(), "REPLICAOF", "NO", "ONE")
		p.Do(t.Context(), "REPLICAOF", chaosMaster, "6379")
		return nil
	})
	if err != nil {
		t.Fatalf("make %s start anew: %v", n.name, err)
	}
}

// slowCopies makes each full copy of the 250 keys take so long. A slow copy sends nothing until its end.
func (f *chaosFleet) slowCopies(t *testing.T, took time.Duration) {
	t.Helper()
	for _, name := range []string{chaosMaster, chaosReplica, chaosOther} {
		f.nodes[name].do(t, "CONFIG", "SET", "repl-timeout", "60")
	}
	f.nodes[chaosMaster].do(t, "CONFIG", "SET", "rdb-key-save-delay", (took / 250).Microseconds())
}

// startLoading starts a killed master and returns while it loads what it saved.
func (f *chaosFleet) startLoading(t *testing.T, name string) {
	t.Helper()
	n := f.nodes[name]
	if _, err := f.lab.cli.ContainerStart(t.Context(), n.c.GetContainerID(), client.ContainerStartOptions{}); err != nil {
		t.Fatalf("start %s again: %v", name, err)
	}
	chaosAwait(t, name+" to be loading", func(ctx context.Context) error {
		i, err := n.info(ctx)
		if err == nil && i["loading"] != "1" {
			err = errors.New("it is not")
		}
		return err
	})
}

// chaosSays fails unless the reason of a refusal has each of the texts.
func chaosSays(t *testing.T, r policies.Record, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !regexp.MustCompile(text).MatchString(r.Error) {
			t.Errorf("the refusal for %s does not say %q but: %s", r.Node, text, r.Error)
		}
	}
}

// onlyCauses fails when the operator ever gave another cause for the link that is broken, or found anything wrong with the other one.
func (f *chaosFleet) onlyCauses(t *testing.T, causes ...policies.Cause) {
	t.Helper()
	list, err := f.op.records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if r.Node == chaosOther || r.Node == chaosReplica && !slices.Contains(causes, r.Cause) {
			t.Errorf("the link of %s was broken by %v, and %s", chaosReplica, causes, chaosSummary([]policies.Record{r}))
		}
	}
}

// reconnected waits until the half-open link of a replica was closed by one CLIENT KILL on it, and came back by a partial resync. In dry
// run it waits for the plan of that, while nothing changes, and does it as a person would.
func (f *chaosFleet) reconnected(t *testing.T, node string) {
	t.Helper()
	command := []string{"CLIENT", "KILL", "TYPE", "master"}
	outcome, before := policies.OutcomePlanned, f.standing(t)
	if f.live {
		outcome = policies.OutcomeSucceeded
		f.wrote[node] = append(f.wrote[node], strings.Join(command, " "))
	}
	r := f.op.awaitRecord(t, "what became of the half-open link of "+node, func(r policies.Record) bool { return r.Node == node && r.Outcome == outcome })
	if r.Action != policies.ReattachReplica || r.Cause != policies.CauseStuckLink || r.Expect.Resync != policies.ResyncPartial || fmt.Sprint(r.Planned) != fmt.Sprint([][]string{command}) {
		t.Errorf("the half-open link of %s: action %s, cause %s, planned %v, a %s resync expected", node, r.Action, r.Cause, r.Planned, r.Expect.Resync)
	}
	if f.live {
		if len(r.Commands) != 1 || fmt.Sprint(r.Commands[0].Args) != fmt.Sprint(command) || r.Commands[0].Node != node {
			t.Errorf("sent for the half-open link of %s: %+v, want %v alone", node, r.Commands, command)
		}
		if r.Effect["attached"] != true || r.Effect["resync"] != string(policies.ResyncPartial) {
			t.Errorf("the effect on the half-open link of %s: %v", node, r.Effect)
		}
		return
	}
	if fmt.Sprint(r.DeniedBy) != fmt.Sprint([]policies.Guard{policies.GuardMode}) || len(r.Commands) > 0 {
		t.Errorf("the plan for the half-open link of %s: denied by %v, commands %v", node, r.DeniedBy, r.Commands)
	}
	f.op.awaitState(t, policies.StateHeld)
	f.unchanged(t, before)
	f.nodes[node].do(t, "CLIENT", "KILL", "TYPE", "master")
}

// Where the certificates lie in each container.
const (
	chaosAuthority      = "/tls/ca.crt"
	chaosOtherAuthority = "/tls/other.crt"
	chaosCertificate    = "/tls/server.crt"
	chaosKey            = "/tls/server.key"
)

// chaosTLS are the arguments of a server that can speak TLS.
var chaosTLS = []string{"--tls-cert-file", chaosCertificate, "--tls-key-file", chaosKey, "--tls-ca-cert-file", chaosAuthority}

// chaosCertificates are an authority, a certificate by it that each server shows, and another authority.
func chaosCertificates(t *testing.T) map[string]string {
	t.Helper()
	ca, caKey := chaosSign(t, "authority", nil, nil)
	other, _ := chaosSign(t, "another authority", nil, nil)
	server, key := chaosSign(t, "server", ca, caKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		chaosAuthority: chaosPEM("CERTIFICATE", ca.Raw), chaosOtherAuthority: chaosPEM("CERTIFICATE", other.Raw),
		chaosCertificate: chaosPEM("CERTIFICATE", server.Raw), chaosKey: chaosPEM("PRIVATE KEY", der),
	}
}

// chaosSign makes a certificate; without a parent it is an authority that signs itself.
func chaosSign(t *testing.T, name string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if parent == nil {
		c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
		parent, parentKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c, key
}

func chaosPEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
