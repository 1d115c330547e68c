package main

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	mobynet "github.com/moby/moby/api/types/network"
	tc "github.com/testcontainers/testcontainers-go"
	tcexec "github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/wait"

	"dcshealer/policies"
)

// replaceServer starts another container under the name and the address of a node that is away, or of a stranger.
func (f *chaosFleet) replaceServer(t *testing.T, name, image string, cmd []string, more ...tc.ContainerCustomizer) {
	t.Helper()
	options := append([]tc.ContainerCustomizer{tc.WithCmd(cmd...), tc.WithExposedPorts(chaosPort),
		tc.WithHostConfigModifier(func(hc *container.HostConfig) {
			hc.PortBindings = mobynet.PortMap{mobynet.MustParsePort(chaosPort): {{HostIP: netip.MustParseAddr("127.0.0.1")}}}
		}),
		tc.WithWaitStrategyAndDeadline(30*time.Second, wait.ForLog("Ready to accept connections")),
	}, more...)
	c, err := tc.Run(t.Context(), image, f.options(name, options...)...)
	tc.CleanupContainer(t, c, tc.StopTimeout(0))
	if err != nil {
		t.Fatalf("start another %s: %v", name, err)
	}
	f.nodes[name] = newChaosNode(t, name, c)
}

// chaosRewriting is a policy under which a repaired replica writes its config file.
const chaosRewriting = `rewriting:
  thresholds:
    slowlog: {warning: 1000000}
  remediation:
    reattach-replica: {cooldown: 1s, config_rewrite: true}
`

// chaosRewritten are the commands of a repair that lasts beyond a restart.
var chaosRewritten = [][]string{chaosTarget, {"CONFIG", "REWRITE"}}

const chaosConfigFile = "/data/redis.conf"

// chaosCat reads a file in the container of a node.
func (n *chaosNode) chaosCat(t *testing.T, path string) string {
	t.Helper()
	code, r, err := n.c.Exec(t.Context(), []string{"cat", path}, tcexec.Multiplexed())
	if err != nil {
		t.Fatalf("read %s of %s: %v", path, n.name, err)
	}
	text, err := io.ReadAll(r)
	if err != nil || code != 0 {
		t.Fatalf("read %s of %s: exit %d, %v: %s", path, n.name, code, err, text)
	}
	return string(text)
}

// following is the line of a config file that makes the server a replica; empty: there is none.
func (n *chaosNode) following(t *testing.T) string {
	t.Helper()
	for line := range strings.Lines(n.chaosCat(t, chaosConfigFile)) {
		if strings.HasPrefix(line, "replicaof ") || strings.HasPrefix(line, "slaveof ") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// A replica that was promoted, and told to remember it, is a replica again, and told to remember that: after a restart it follows
// by itself.
func chaosConfigRewritten(t *testing.T, f *chaosFleet) {
	f.kill(t, chaosReplica)
	f.replaceServer(t, chaosReplica, f.lab.image, slices.Concat([]string{"redis-server", chaosConfigFile}, chaosServer[1:], f.lab.debug),
		tc.WithFiles(tc.ContainerFile{Reader: strings.NewReader("replicaof master 6379\n"), ContainerFilePath: chaosConfigFile, FileMode: 0o644}))
	f.putRight(t)
	n := f.nodes[chaosReplica]
	n.promote(t, []any{"CONFIG", "REWRITE"})
	if line := n.following(t); line != "" {
		t.Fatalf("the config file of the promoted replica says %q", line)
	}
	if !f.live {
		f.plannedTo(t, chaosReplica, chaosRewritten)
		if line := n.following(t); line != "" {
			t.Errorf("in dry run the config file says %q", line)
		}
		f.putRight(t, chaosReplica)
		return
	}
	r := f.repairedBy(t, chaosReplica, chaosRewritten, "OK", "OK")
	if r.Effect["persistent"] != true {
		t.Errorf("the repair says persistent: %v", r.Effect["persistent"])
	}
	f.putRight(t)
	if line := n.following(t); line != "replicaof master 6379" {
		t.Errorf("the config file says %q", line)
	}
	f.checkTraces(t)
	f.kill(t, chaosReplica)
	f.startAgain(t, chaosReplica)
	delete(f.wrote, chaosReplica) // with its slow log
	f.putRight(t)
}

// Without a config file the server refuses to write one: the repair succeeds, and its record says that it does not last.
func chaosNoConfigFile(t *testing.T, f *chaosFleet) {
	f.nodes[chaosReplica].promote(t)
	if !f.live {
		f.plannedTo(t, chaosReplica, chaosRewritten)
		f.putRight(t, chaosReplica)
		return
	}
	r := f.repairedBy(t, chaosReplica, chaosRewritten, "OK", "ERR The server is running without a config file")
	if said, _ := r.Effect["config_rewrite"].(string); r.Effect["persistent"] != false || !strings.Contains(said, "without a config file") {
		t.Errorf("the effect of the repair says persistent %v, config_rewrite %q", r.Effect["persistent"], said)
	}
	f.putRight(t)
}

// repairedBy waits for the repair of a promoted replica by these commands and no others, answered so.
func (f *chaosFleet) repairedBy(t *testing.T, node string, commands [][]string, replies ...string) policies.Record {
	t.Helper()
	r := f.op.awaitRecord(t, "the repair of "+node, func(r policies.Record) bool {
		return r.Node == node && r.Action == policies.ReattachReplica && r.Outcome == policies.OutcomeSucceeded
	})
	var sent [][]string
	var answered []string
	for _, c := range r.Commands {
		sent, answered = append(sent, c.Args), append(answered, c.Reply)
	}
	for _, c := range commands {
		f.wrote[node] = append(f.wrote[node], strings.Join(c, " "))
	}
	if r.Cause != policies.CausePromoted || fmt.Sprint(sent) != fmt.Sprint(commands) || !slices.Equal(answered, replies) || r.Effect["attached"] != true {
		t.Errorf("the repair of %s: cause %s, sent %v answered %q, want %v answered %q, effect %v", node, r.Cause, sent, answered, commands, replies, r.Effect)
	}
	return r
}

// plannedTo waits for the plan for a promoted replica with these commands; nothing may change.
func (f *chaosFleet) plannedTo(t *testing.T, node string, commands [][]string) {
	t.Helper()
	before := f.standing(t)
	r := f.op.awaitRecord(t, "the plan for "+node, func(r policies.Record) bool { return r.Node == node && r.Outcome == policies.OutcomePlanned })
	if r.Cause != policies.CausePromoted || fmt.Sprint(r.Planned) != fmt.Sprint(commands) || len(r.Commands) > 0 {
		t.Errorf("the plan for %s: cause %s, planned %v, want %v, sent %v", node, r.Cause, r.Planned, commands, r.Commands)
	}
	f.unchanged(t, before)
}

// chaosNewer is the image of the next release line of the same product, and whether the older line reads its data.
var chaosNewer = map[string]struct {
	image string
	reads bool
}{
	"dcshealer-test/redis:6.0":  {"dcshealer-test/redis:7.0", false},
	"dcshealer-test/redis:7.0":  {"dcshealer-test/redis:8.0", false},
	"dcshealer-test/valkey:8.1": {"dcshealer-test/valkey:9", true},
}

// The master was upgraded before its replicas: they go on with the stream, and cannot read a full copy.
func chaosNewerMaster(t *testing.T, f *chaosFleet) {
	newer := chaosNewer[f.lab.image]
	if _, err := f.lab.cli.ImageInspect(t.Context(), newer.image); newer.image == "" || err != nil {
		t.Logf("nothing to do: no image of a newer release than %s is here", f.lab.image)
		return
	}
	f.upgradeMaster(t, newer.image)
	f.nodes[chaosReplica].promote(t)
	if newer.reads {
		f.repaired(t, chaosReplica, policies.CausePromoted)
		f.putRight(t, chaosReplica)
		return
	}
	r := f.refused(t, chaosReplica, policies.CausePromoted, policies.GuardVersion)
	f.because(t, chaosReplica, policies.GuardVersion, "upgrade the replica")
	if f.live {
		f.healByHand(t, exitDenied, "--allow-lost-writes", chaosReplica)
	}
	f.kill(t, chaosReplica) // a person upgrades it, too
	f.replaceServer(t, chaosReplica, newer.image, chaosNewerServer(chaosMaster))
	f.backByItself(t, r)
}

// chaosNewerServer is a replica of a release that is not the oldest: it wants to be told that DEBUG is allowed.
func chaosNewerServer(master string) []string {
	return slices.Concat(chaosServer, []string{"--enable-debug-command", "yes", "--replicaof", master, "6379"})
}

// upgradeMaster is an upgrade as a person does it, with the operator stopped: a newer server follows the master, is promoted,
// and takes over its address. The replicas go on from where they were.
func (f *chaosFleet) upgradeMaster(t *testing.T, image string) {
	t.Helper()
	f.op.kill(t)
	f.replaceServer(t, chaosStranger, image, chaosNewerServer(chaosMaster))
	f.awaitCopy(t, chaosStranger, chaosMaster)
	f.unplug(t, chaosMaster)
	f.nodes[chaosStranger].promote(t)
	f.unplug(t, chaosStranger)
	f.nodes[chaosMaster] = f.nodes[chaosStranger]
	delete(f.nodes, chaosStranger)
	f.plugIn(t, chaosMaster)
	f.awaitInStep(t)
	f.op.startAgain(t)
	f.op.awaitState(t, policies.StateIdle)
}
