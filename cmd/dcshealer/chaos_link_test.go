package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

// chaosLinked are the arguments of a fleet whose replicas follow the TLS port of their master.
var chaosLinked = map[string][]string{
	chaosMaster:  slices.Concat(chaosTLS, []string{"--tls-port", "6380"}),
	chaosReplica: slices.Concat(chaosTLS, []string{"--tls-replication", "yes", "--replicaof", chaosMaster, "6380"}),
	chaosOther:   slices.Concat(chaosTLS, []string{"--tls-replication", "yes", "--replicaof", chaosMaster, "6380"}),
}

var chaosLinkedPeers = map[string]string{chaosMaster: "master:6380"}

// The ways in which the link between a replica and its master can be broken.
var chaosLinkScenarios = []chaosScenario{
	{name: "link half open", run: chaosHalfOpen},
	{name: "full copies not to be stored", disk: map[string]string{chaosReplica: "4m"}, run: chaosCopiesNotStored},
	{name: "master loading", args: map[string][]string{chaosMaster: {"--rdbcompression", "no", "--key-load-delay", "15000"}}, run: chaosMasterLoading},
	{name: "slow full copy", run: chaosSlowCopy},
	{name: "master full of clients", bus: true, run: chaosMasterFull},
	{name: "replica without masterauth", config: "password_env: CHAOS_PASSWORD", run: chaosNoMasterauth},
	{name: "replica with a wrong masterauth", config: "password_env: CHAOS_PASSWORD", run: chaosWrongMasterauth},
	{name: "masteruser without rights", run: chaosNoRights},
	{name: "TLS to the plaintext port", args: map[string][]string{chaosReplica: chaosTLS}, files: chaosCertificates, run: chaosTLSToPlain},
	{name: "plaintext to the TLS port", args: chaosLinked, files: chaosCertificates, peers: chaosLinkedPeers, run: chaosPlainToTLS},
	{name: "certificate not trusted", args: chaosLinked, files: chaosCertificates, peers: chaosLinkedPeers, run: chaosNotTrusted},
}

// broken waits for the refusal of a link that is broken for a cause that no action cures: nothing was planned, and no data changed since
// before. Then a person lifts it, and the fleet is well by itself.
func (f *chaosFleet) broken(t *testing.T, before map[string]chaosView, cause policies.Cause, lift func(policies.Record), says ...string) {
	t.Helper()
	r := f.refused(t, chaosReplica, cause)
	chaosSays(t, r, says...)
	f.onlyCauses(t, cause)
	f.sameData(t, before)
	lift(r)
	f.backByItself(t, r)
	f.noPlans(t)
	f.onlyCauses(t, cause, policies.CauseNetwork) // until it tries again, nothing else is left to see
	f.sameData(t, before)
}

// set is what a person does to lift a fault.
func (n *chaosNode) set(t *testing.T, name, value string) func(policies.Record) {
	return func(policies.Record) {
		t.Helper()
		n.do(t, "CONFIG", "SET", name, value)
	}
}

func chaosNoMasterauth(t *testing.T, f *chaosFleet) {
	before := f.standing(t)
	f.nodes[chaosOther].do(t, "CONFIG", "SET", "masterauth", chaosPassword)
	f.nodes[chaosMaster].do(t, "CONFIG", "SET", "requirepass", chaosPassword)
	f.dropLink(t, chaosReplica)
	f.broken(t, before, policies.CauseAuth, f.nodes[chaosReplica].set(t, "masterauth", chaosPassword), "has no masterauth", "CONFIG SET masterauth")
}

func chaosWrongMasterauth(t *testing.T, f *chaosFleet) {
	before := f.standing(t)
	f.nodes[chaosOther].do(t, "CONFIG", "SET", "masterauth", chaosPassword)
	f.nodes[chaosReplica].do(t, "CONFIG", "SET", "masterauth", "battery-staple")
	f.nodes[chaosMaster].do(t, "CONFIG", "SET", "requirepass", chaosPassword)
	f.dropLink(t, chaosReplica)
	f.broken(t, before, policies.CauseAuth, f.nodes[chaosReplica].set(t, "masterauth", chaosPassword), "masterauth is wrong", "ACL LOG")
	if text := f.lab.logs(t, f.op.c); strings.Contains(text, chaosPassword) || strings.Contains(text, "battery-staple") {
		t.Error("the operator's log has a password")
	}
}

// The user may log in and nothing else. With REPLCONF allowed, from 7.0 on some thousand of them a second would fill the slow log.
func chaosNoRights(t *testing.T, f *chaosFleet) {
	before := f.standing(t)
	f.nodes[chaosMaster].do(t, "ACL", "SETUSER", "link", "on", ">"+chaosPassword, "+ping")
	f.nodes[chaosReplica].do(t, "CONFIG", "SET", "masteruser", "link")
	f.nodes[chaosReplica].do(t, "CONFIG", "SET", "masterauth", chaosPassword)
	f.dropLink(t, chaosReplica)
	f.broken(t, before, policies.CauseAuth, func(policies.Record) {
		f.nodes[chaosMaster].do(t, "ACL", "SETUSER", "link", "+psync", "+replconf")
	}, `masteruser \(link\)`, `\+psync`)
}

func chaosTLSToPlain(t *testing.T, f *chaosFleet) {
	before := f.standing(t)
	f.nodes[chaosReplica].do(t, "CONFIG", "SET", "tls-replication", "yes")
	f.dropLink(t, chaosReplica)
	f.broken(t, before, policies.CauseTLS, f.nodes[chaosReplica].set(t, "tls-replication", "no"), "plaintext port 6379", "tls-replication no")
}

func chaosPlainToTLS(t *testing.T, f *chaosFleet) {
	before := f.standing(t)
	f.nodes[chaosReplica].do(t, "CONFIG", "SET", "tls-replication", "no")
	f.dropLink(t, chaosReplica)
	f.broken(t, before, policies.CauseTLS, f.nodes[chaosReplica].set(t, "tls-replication", "yes"), "TLS port 6380", "tls-replication yes")
}

func chaosNotTrusted(t *testing.T, f *chaosFleet) {
	before := f.standing(t)
	f.nodes[chaosReplica].do(t, "CONFIG", "SET", "tls-ca-cert-file", chaosOtherAuthority)
	f.dropLink(t, chaosReplica)
	f.broken(t, before, policies.CauseTLS, f.nodes[chaosReplica].set(t, "tls-ca-cert-file", chaosAuthority), "tls-ca-cert-file")
}

// Who is connected stays connected, the operator too; the replica is turned away.
func chaosMasterFull(t *testing.T, f *chaosFleet) {
	before := f.standing(t)
	f.nodes[chaosBus].do(t, "PUBLISH", "redis:monitor:critical", `{"instance": "dcs-chaos", "metric": "replication_status", "value": "down", "msg": "false"}`)
	f.op.awaitLine(t, "refuted") // and the healer has connected, too
	m := f.nodes[chaosMaster]
	link := f.linkOf(t, chaosReplica)["id"]
	was := m.do(t, "CONFIG", "GET", "maxclients").([]any)[1].(string)
	m.do(t, "CONFIG", "SET", "maxclients", "1")
	if n := m.do(t, "CLIENT", "KILL", "ID", link); n != int64(1) {
		t.Fatalf("%v links were closed, want 1", n)
	}
	f.broken(t, before, policies.CauseNetwork, m.set(t, "maxclients", was), "at maxclients and rejects new connections", "raise maxclients")
}

// One command makes the replica connect again; what it missed comes by a partial resync.
func chaosHalfOpen(t *testing.T, f *chaosFleet) {
	for _, name := range []string{chaosMaster, chaosReplica} {
		f.nodes[name].do(t, "CONFIG", "SET", "repl-timeout", "120")
	}
	copies := f.counter(t, "sync_full")
	f.halfOpen(t, chaosReplica)
	f.nodes[chaosMaster].do(t, "SET", "written", "meanwhile")
	f.reconnected(t, chaosReplica)
	f.awaitInStep(t)
	f.op.awaitState(t, policies.StateIdle)
	if got := f.nodes[chaosReplica].do(t, "GET", "written"); got != "meanwhile" {
		t.Errorf("the replica says of what was written meanwhile %v", got)
	}
	if now := f.counter(t, "sync_full"); now != copies {
		t.Errorf("the master made %d full copies, want none", now-copies)
	}
}

// The replica's disk is full, so that each copy ends where it begins.
func chaosCopiesNotStored(t *testing.T, f *chaosFleet) {
	before := f.standing(t)
	f.nodes[chaosMaster].do(t, "CONFIG", "SET", "repl-diskless-sync-delay", "1") // else it forks ten times a second
	n := f.nodes[chaosReplica]
	chaosShell(t, n.c, "dd if=/dev/zero of=/data/full bs=64k count=128 2>/dev/null || true")
	n.startAnew(t)
	f.broken(t, before, policies.CauseLoadFailed, func(policies.Record) {
		chaosShell(t, n.c, "rm /data/full")
	}, `began \d+ full copies to replica-1 in [\d.]+s`, "disk full")
}

// A copy that takes its time is left alone, though it sends nothing for seconds.
func chaosSlowCopy(t *testing.T, f *chaosFleet) {
	before := f.standing(t)
	f.slowCopies(t, 8*time.Second)
	f.nodes[chaosReplica].startAnew(t)
	f.op.awaitPlan(t, map[string]policies.Cause{chaosReplica: policies.CauseSyncing})
	f.sameData(t, before)
	f.awaitInStep(t)
	f.op.awaitState(t, policies.StateIdle)
	f.op.awaitPlan(t, nil)
	f.noRecords(t)
	f.sameData(t, before)
}

// A master that is back with its data and not done loading it is waited for, and so are its replicas.
func chaosMasterLoading(t *testing.T, f *chaosFleet) {
	m := f.nodes[chaosMaster]
	m.do(t, "CONFIG", "SET", "key-load-delay", "0")
	// Redis 6.0 answers once every 2 MiB while it loads, which is 16 of these values.
	m.do(t, "EVAL", "for i = 1, 400 do redis.call('SET', 'big:' .. i, string.rep('x', 131072)) end return 1", 0)
	f.awaitInStep(t)
	before := f.standing(t)
	m.do(t, "SAVE")
	f.kill(t, chaosMaster)
	f.startLoading(t, chaosMaster)
	f.op.awaitPlan(t, map[string]policies.Cause{chaosReplica: policies.CauseLoading, chaosOther: policies.CauseLoading})
	f.awaitBack(t, m)
	f.awaitInStep(t)
	f.op.awaitState(t, policies.StateIdle)
	f.op.awaitPlan(t, nil)
	f.noPlans(t)
	f.sameData(t, before)
}
