package probe

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A story breaks fresh servers step by step, and records what they show.
type story struct {
	name string
	not  []string // versions of which it is not told
	tell func(*lab)
}

func (s story) without(version string) bool { return slices.Contains(s.not, version) }

var stories = []story{
	{name: "promoted", tell: func(l *lab) {
		m, x := l.pair()
		l.record("in-step", m, x)
		l.await("the next PING is due", func() bool { return x.field("master_last_io_seconds_ago") == "9" })
		l.record("in-step-idle", m, x)
		x.do("replicaof", "no", "one")
		l.record("promoted", m, x)
		for i := range 3 {
			x.do("set", fmt.Sprint("own:", i), "v")
		}
		l.record("promoted-with-writes", m, x)
	}},
	{name: "wrong-master", tell: func(l *lab) {
		m, x := l.pair()
		f := l.box("f").run()
		f.do("set", "foreign", "v")
		x.follow(f).linkIs("up")
		l.record("wrong-master-live", m, x)
		x.follow(m, "6399")
		l.await("it cannot connect", func() bool { return x.state() == "connect" || x.state() == "connecting" })
		l.record("wrong-master-dead-port", m, x)
		x.follow(x)
		time.Sleep(3 * time.Second) // what comes of it differs by version
		l.record("wrong-master-itself", m, x)
	}},
	{name: "chain", tell: func(l *lab) {
		m, y := l.master(), l.box("y")
		y.run().follow(m).linkIs("up")
		x := l.box("x").run().follow(y)
		x.linkIs("up")
		l.record("chain", m, y, x)
		y.do("config", "set", "repl-timeout", "5")
		y.cutFrom(m)
		y.linkIs("down")
		l.record("chained", m, y, x)
		y.heal()
		y.linkIs("up")
		l.await("the chain is in step", func() bool {
			return x.field("master_replid") == m.field("master_replid") && x.field("master_link_status") == "up"
		})
		y.do("replicaof", "no", "one")
		l.await("its replica has the new history", func() bool {
			return x.field("master_replid") == y.field("master_replid") && x.field("master_link_status") == "up"
		})
		l.record("chain-middle-promoted", m, y, x)
	}},
	{name: "network", tell: func(l *lab) {
		m, x := l.pair()
		x.do("config", "set", "repl-timeout", "5")
		x.cutFrom(m)
		x.linkIs("down")
		l.watch("network-drop", m, x)
		x.heal()
		x.linkIs("up")
		x.rejectedBy(m)
		x.do("client", "kill", "type", "master")
		x.linkIs("down")
		l.watch("network-reject", m, x)
	}},
	{name: "network-with-password", tell: func(l *lab) {
		m := l.master("--requirepass", "pw")
		x := l.box("x").run("--masterauth", "pw").follow(m)
		x.linkIs("up")
		x.rejectedBy(m)
		x.do("client", "kill", "type", "master")
		x.linkIs("down")
		l.watch("network-reject-password", m, x)
	}},
	{name: "auth", tell: func(l *lab) {
		m := l.master("--requirepass", "pw")
		m.do("acl", "setuser", "repl", "on", ">pw", "+ping", "+replconf")
		x := l.box("x").run().follow(m)
		x.tries()
		l.watch("auth-none", m, x)
		l.recordAt("auth-none-connecting", "connecting", m, x)
		x.do("config", "set", "masterauth", "wrong")
		x.tries()
		l.watch("auth-wrong-password", m, x)
		x.do("config", "set", "masterauth", "pw")
		x.do("config", "set", "masteruser", "repl")
		x.tries()
		l.watch("auth-no-right", m, x)
		l.recordAt("auth-no-right-connecting", "connecting", m, x)
	}},
	{name: "maxclients", tell: func(l *lab) {
		m := l.master("--maxclients", "1")
		x := l.box("x").run().follow(m)
		l.await("it is rejected", func() bool { return m.field("rejected_connections") != "0" })
		l.watch("maxclients", m, x)
	}},
	{name: "tls", tell: func(l *lab) {
		ours, theirs := l.authority(), l.authority()
		m := l.box("m").certify(ours).run(tlsArgs("--tls-port", "6380")...)
		x := l.box("x").certify(ours).run(tlsArgs("--tls-replication", "yes")...)
		m.fill()
		x.follow(m, "6380").linkIs("up")
		l.record("tls-in-step", m, x)
		x.follow(m)
		l.await("the handshake waits for an answer", func() bool { return x.state() == "connecting" || x.state() == "connect" })
		l.watch("tls-to-plaintext", m, x)
		x.do("config", "set", "tls-replication", "no")
		x.follow(m, "6380")
		x.tries()
		l.watch("plaintext-to-tls", m, x)
		x.kill()
		x.certify(theirs).run(tlsArgs("--tls-replication", "yes")...).follow(m, "6380")
		x.tries()
		l.watch("tls-not-trusted", m, x)
		x.rejectedBy6380(m)
		l.watch("tls-rejected", m, x)
	}},
	{name: "stuck", tell: func(l *lab) {
		m, x := l.pair()
		_, port, _ := strings.Cut(clientFields(fmt.Sprint(m.do("client", "list", "type", "replica")))["addr"], ":")
		x.iptables("-A INPUT -p tcp -s "+m.ip()+" --dport "+port+" -j DROP", "-A OUTPUT -p tcp -d "+m.ip()+" --sport "+port+" -j DROP")
		silent := func(seconds int) func() bool {
			return func() bool { n, _ := strconv.Atoi(x.field("master_last_io_seconds_ago")); return n >= seconds }
		}
		l.await("it is silent for 13 s", silent(13))
		l.record("stuck-early", m, x)
		l.await("it is silent for 21 s", silent(21))
		l.record("stuck", m, x)
	}},
	{name: "loading", tell: func(l *lab) {
		m, x := l.master("--rdbcompression", "no"), l.box("x").run("--rdbcompression", "no")
		m.do("debug", "populate", 600, "big", 100000)
		x.follow(m).linkIs("up")
		x.do("save")
		x.restart(slowLoad(x, "--replicaof", m.ip(), "6379")...)
		l.record("loading-replica", m, x)
		x.empty(slowLoad(x)...).follow(m)
		x.await(func() bool { return x.field("loading") == "1" })
		l.record("loading-copy", m, x)
		x.empty().follow(m).linkIs("up")
		m.do("save")
		m.restart(slowLoad(m)...)
		x.linkIs("down")
		l.watch("loading-master", m, x)
	}},
	{name: "syncing", tell: func(l *lab) {
		m, x := l.master(), l.box("x").run()
		m.do("debug", "populate", 2000, "slow", 10000)
		m.do("config", "set", "rdb-key-save-delay", 10000)
		x.follow(m)
		x.await(func() bool { return x.state() == "sync" })
		l.watch("syncing", m, x)
		l.record("syncing-beside-backups-first", m, x)
		for i := range 3 {
			l.docker("exec", "-d", l.box("y").id, "redis-cli", "-h", m.ip(), "--rdb", fmt.Sprint("/tmp/backup-", i))
		}
		l.await("the backups have begun", func() bool { return m.field("sync_full") == "4" })
		l.record("syncing-beside-backups", m, x)
		m.empty("--repl-diskless-sync", "yes").fill().do("config", "set", "repl-diskless-sync-delay", 8)
		x.empty().follow(m)
		l.await("the master waits for others", func() bool { return strings.Contains(m.field("slave0"), "state=wait_bgsave") })
		l.watch("syncing-delay", m, x)
	}},
	// From 7.0 on a limit below repl-backlog-size, which Valkey sets to 10 MB, is taken to be that.
	{name: "resync-loop", tell: func(l *lab) {
		m, x := l.master("--client-output-buffer-limit", "replica", "1mb", "1mb", "10", "--repl-backlog-size", "1mb"), l.box("x").run()
		m.do("debug", "populate", 2000, "slow", 10000)
		m.do("config", "set", "rdb-key-save-delay", 500)
		stop := m.writes()
		x.follow(m)
		l.await("a copy has begun", func() bool { return m.field("sync_full") != "0" })
		l.looks("resync-loop", m, x)
		stop()
	}},
	{name: "load-failed-version", not: []string{"redis-8.0"}, tell: func(l *lab) {
		n, x := l.box("n", newer[l.version]).run().fill(), l.box("x").run().fill()
		x.follow(n)
		l.await("a copy has begun", func() bool { return n.field("sync_full") != "0" })
		l.looks("load-failed-version", n, x)
	}},
	{name: "load-failed-disk", tell: func(l *lab) {
		m, x := l.master("--rdbcompression", "no"), l.box("x").run("--dir", "/small").fill()
		m.do("debug", "populate", 50, "big", 100000)
		x.follow(m)
		l.await("a copy has begun", func() bool { return m.field("sync_full") != "0" })
		l.looks("load-failed-disk", m, x)
	}},
	{name: "master-down", tell: func(l *lab) {
		m, x := l.pair()
		m.kill()
		x.linkIs("down")
		l.record("master-down", m, x)
	}},
	{name: "master-empty", tell: func(l *lab) {
		m, x := l.pair()
		x.do("config", "set", "repl-timeout", "5")
		x.cutFrom(m)
		x.linkIs("down")
		m.empty()
		l.watch("master-empty", m, x)
		x.do("replicaof", "no", "one")
		l.record("master-empty-promoted", m, x)
	}},
	{name: "switched-over", tell: func(l *lab) {
		m, x := l.pair()
		x.do("replicaof", "no", "one")
		m.follow(x).linkIs("up")
		l.record("switched-over", m, x)
	}},
	{name: "two-masters", tell: func(l *lab) {
		m, x := l.pair()
		y := l.box("y").run().follow(m)
		y.linkIs("up")
		l.record("two-masters-first", m, x, y)
		x.do("replicaof", "no", "one")
		y.follow(x).linkIs("up")
		l.record("two-masters", m, x, y)
	}},
	{name: "cycle", tell: func(l *lab) {
		m, x := l.pair()
		m.follow(x)
		time.Sleep(4 * time.Second) // what comes of it differs by version
		l.record("cycle", m, x)
	}},
	{name: "same-node", tell: func(l *lab) {
		m := l.master()
		l.record("same-node", m)
		l.recordAs("same-node", "x", m)
	}},
}

// newer is a version whose data set the version cannot read. Redis 8.0 reads all of the others.
var newer = map[string]string{"redis-6.0": "redis-7.0", "redis-7.0": "redis-8.0", "valkey-8.1": "redis-8.0", "valkey-9.1": "redis-8.0"}

// master is a master that holds some keys.
func (l *lab) master(args ...string) *box { return l.box("m").run(args...).fill() }

// pair is a master and a replica in step with it.
func (l *lab) pair() (m, x *box) {
	m = l.master()
	x = l.box("x").run().follow(m)
	x.linkIs("up")
	l.await("they are in step", func() bool {
		return x.field("slave_repl_offset") == m.field("master_repl_offset") && strings.Contains(m.field("slave0"), "state=online")
	})
	return m, x
}

func (b *box) fill() *box {
	for i := range 20 {
		b.do("set", fmt.Sprint("key:", i), "value")
	}
	return b
}

func (b *box) restart(args ...string) *box {
	b.kill()
	return b.run(args...)
}

// empty is restart without the data.
func (b *box) empty(args ...string) *box {
	b.kill()
	b.sh("rm -f /data/dump.rdb")
	return b.run(args...)
}

func (b *box) await(holds func() bool) { b.l.t.Helper(); b.l.await(b.name+" comes that far", holds) }

// tries waits until the replica has begun to connect twice more: not every attempt shows in the master's counters.
func (b *box) tries() {
	b.l.t.Helper()
	attempts := func() int {
		n, _ := strconv.Atoi(b.sh("grep -c ' <-> REPLICA sync started' /tmp/log || true"))
		return n
	}
	from := attempts()
	b.await(func() bool { return attempts() >= from+2 })
}

// slowLoad makes the server take some ten seconds over its data set, and answer meanwhile. 6.0 looks up every 2 MB only.
func slowLoad(b *box, args ...string) []string {
	args = append(args, "--key-load-delay", "20000")
	if b.version != "redis-6.0" {
		args = append(args, "--loading-process-events-interval-bytes", "1024")
	}
	return args
}

// writes keeps some 5 MB/s going to a key of the master, until it is stopped.
func (b *box) writes() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	value := bytes.Repeat([]byte("x"), 100_000)
	c := b.c.WithTimeout(5 * time.Second)
	go func() {
		defer close(done)
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
				_ = c.Set(ctx, "busy", value, 0).Err() // a write that is lost does not matter
			}
		}
	}()
	return func() { cancel(); <-done }
}

func (b *box) rejectedBy6380(o *box) {
	o.iptables("-A INPUT -p tcp -s " + b.ip() + " --dport 6380 -j REJECT --reject-with tcp-reset")
}

// authority is a certificate that signs itself, and its key, both as PEM.
func (l *lab) authority() [2]string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		l.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "redis"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		l.t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		l.t.Fatal(err)
	}
	return [2]string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}))}
}

// certify puts a certificate and its key into the box.
func (b *box) certify(authority [2]string) *box {
	b.l.t.Helper()
	for i, file := range []string{"/data/cert.pem", "/data/key.pem"} {
		cmd := exec.Command("docker", "exec", "-i", b.id, "sh", "-c", "cat >"+file)
		cmd.Stdin = strings.NewReader(authority[i])
		if out, err := cmd.CombinedOutput(); err != nil {
			b.l.t.Fatalf("write %s: %v\n%s", file, err, out)
		}
	}
	return b
}

func tlsArgs(more ...string) []string {
	return append([]string{"--tls-cert-file", "/data/cert.pem", "--tls-key-file", "/data/key.pem", "--tls-ca-cert-file", "/data/cert.pem"}, more...)
}
