package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	tc "github.com/testcontainers/testcontainers-go"
	tcexec "github.com/testcontainers/testcontainers-go/exec"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// chaosConfig is the operator's config file. The cooldown is short, so that a second fault of one fleet is not kept waiting; the
// sweep is slow, so that it can be killed on its way. Every command counts as slow on these servers.
const chaosConfig = `%s
state_dir: /state
listen: ""
agent: {interval: 500ms, timeout: 2s, repeat: 10s}
instances:
  - name: dcs-chaos
    live: [%s]
%s    nodes:
%s
policies:
%s  default:
    thresholds:
      slowlog: {warning: 1000000}
    remediation:
      reattach-replica: {cooldown: 1s}
      reclaim-expired: {target: 80%%, call_p99: 1us, duty: 5%%, abort_call: 30s, cooldown: 1s}
`

func (f *chaosFleet) config() string {
	nodes := []string{f.configNode(chaosMaster, "master")}
	if !f.scenario.alone {
		nodes = append(nodes, f.configNode(chaosReplica, "replica"), f.configNode(chaosOther, "replica"))
	}
	live := ""
	if f.live {
		live = "reattach-replica, reclaim-expired"
	}
	more, bus := f.scenario.config, ""
	if f.hasBus() {
		bus = `bus: {url: "redis://bus:6379"}`
	}
	if f.scenario.least {
		more += "\nusername: " + chaosUserName + "\npassword_env: CHAOS_PASSWORD"
		bus = strings.Replace(bus, "//", "//"+chaosUserName+":"+chaosPassword+"@", 1)
	}
	if l := f.scenario.ladder; l != "" {
		more += "\nladder: [" + l + "]"
		live = strings.Replace(live, "reattach-replica", l, 1)
	}
	return fmt.Sprintf(chaosConfig, bus, live, chaosIndent(4, more), strings.Join(nodes, "\n"), chaosIndent(2, f.scenario.policy))
}

func (f *chaosFleet) configNode(name, role string) string {
	peer := ""
	if p := f.scenario.peers[name]; p != "" {
		peer = ", peer_address: " + p
	}
	return fmt.Sprintf("      - {name: %[1]s, address: %[1]s:6379, role: %[2]s%[3]s}", name, role, peer)
}

// chaosIndent is text as a block that stands n columns in.
func chaosIndent(n int, text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.Repeat(" ", n) + strings.TrimSuffix(line, "\n") + "\n")
	}
	return b.String()
}

// chaosPassword is what a scenario's servers may ask for; its config names it as password_env: CHAOS_PASSWORD. A server that asks
// for none takes it all the same.
const chaosPassword = "correct-horse"

// chaosOperatorBox is the operator's container. What it thinks is asked with its own commands, run beside it.
type chaosOperatorBox struct {
	f      *chaosFleet
	c      *tc.DockerContainer
	beside string // a config file for commands in this process, on the operator's state_dir; empty: that is out of reach
}

// startOperator starts it and waits until it runs, sees the nodes and has nothing to do.
func (f *chaosFleet) startOperator(t *testing.T) {
	t.Helper()
	state := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	shared := os.Chown(state, chaosUser, chaosUser) == nil // else the operator could not write there, nor this process remove what it wrote
	c, err := tc.Run(t.Context(), f.lab.operator, f.options(chaosOperator, tc.WithCmd("run", "-c", "/dcshealer.yaml"),
		tc.WithHostConfigModifier(func(hc *container.HostConfig) {
			if shared {
				hc.Binds = append(hc.Binds, state+":/state")
			}
		}),
		tc.WithEnv(map[string]string{"CHAOS_PASSWORD": chaosPassword}),
		tc.WithFiles(tc.ContainerFile{Reader: strings.NewReader(f.config()), ContainerFilePath: "/dcshealer.yaml", FileMode: 0o644}))...)
	tc.CleanupContainer(t, c, tc.StopTimeout(0))
	if err != nil {
		t.Fatalf("start the operator: %v", err)
	}
	f.op = &chaosOperatorBox{f: f, c: c}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the operator said:\n%s", f.lab.logs(t, c))
		}
	})
	f.op.awaitLine(t, "msg=running ")
	f.op.reach(t, state)
	f.op.awaitRunning(t)
	f.op.awaitState(t, policies.StateIdle)
	f.awaitReadings(t, 2)
}

// reach has commands that look at the state_dir alone run in this process, where that can read what the operator writes: one beside it in
// the container takes the engine a good part of a second.
func (o *chaosOperatorBox) reach(t *testing.T, state string) {
	t.Helper()
	if journal.HealerRunning(state) {
		o.beside = filepath.Join(filepath.Dir(state), "beside.yaml")
		plain := chaosFleet{scenario: chaosScenario{alone: o.f.scenario.alone}}
		text := strings.Replace(plain.config(), "state_dir: /state", "state_dir: "+state, 1)
		if err := os.WriteFile(o.beside, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// logs is all that a container has written, standard output and error as they came.
func (l *chaosLab) logs(t *testing.T, c *tc.DockerContainer) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
	defer cancel()
	r, err := c.Logs(ctx)
	if err != nil {
		t.Fatalf("read the log of a container: %v", err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read the log of a container: %v", err)
	}
	return string(text)
}

// ask runs a command of the operator beside it and returns what it wrote to stdout first, then to stderr.
func (o *chaosOperatorBox) ask(ctx context.Context, args ...string) (code int, out []byte, err error) {
	if looks := []string{"status", "actions", "incidents", "alarms"}; o.beside != "" && slices.Contains(looks, args[0]) {
		var stdout, stderr textBuffer
		code = run(append(args, "-c", o.beside), &stdout, &stderr)
		return code, []byte(stdout.String() + stderr.String()), nil
	}
	code, r, err := o.c.Exec(ctx, append([]string{"/dcshealer", "-c", "/dcshealer.yaml"}, args...), tcexec.Multiplexed())
	if err != nil {
		return code, nil, fmt.Errorf("run %v beside the operator: %w", args, err)
	}
	out, err = io.ReadAll(r)
	return code, out, err
}

// read decodes what a command prints with -o json; want is its exit code.
func (o *chaosOperatorBox) read(ctx context.Context, into any, want int, args ...string) error {
	code, out, err := o.ask(ctx, append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	if code != want {
		return fmt.Errorf("%v exited %d, want %d: %.500s", args, code, want, out)
	}
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(into); err != nil {
		return fmt.Errorf("%v printed %.500q: %w", args, out, err)
	}
	return nil
}

func (o *chaosOperatorBox) records(ctx context.Context) (list []policies.Record, err error) {
	return list, o.read(ctx, &list, exitDone, "actions", "list", "--limit", "0")
}

// await is chaosAwait for a question that takes long to answer: it is asked when the operator has written something since, or
// after 2 s.
func (o *chaosOperatorBox) await(t *testing.T, what string, try func(ctx context.Context) error) {
	t.Helper()
	var wrote string
	var asked time.Time
	var last error
	chaosAwait(t, what, func(ctx context.Context) error {
		now := o.written(t)
		if now == wrote && time.Since(asked) < 2*time.Second {
			return last
		}
		wrote, asked = now, time.Now()
		last = try(ctx)
		return last
	})
}

// written changes with what the operator keeps, or with what it says where its state_dir is out of reach.
func (o *chaosOperatorBox) written(t *testing.T) string {
	t.Helper()
	if o.beside == "" {
		return strconv.Itoa(len(o.f.lab.logs(t, o.c)))
	}
	files, err := os.ReadDir(filepath.Join(filepath.Dir(o.beside), "state"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, file := range files {
		if i, err := file.Info(); err == nil { // else it is gone since
			fmt.Fprintln(&b, i.Name(), i.Size(), i.ModTime())
		}
	}
	return b.String()
}

// awaitRecord waits for a journal record and returns the newest that matches.
func (o *chaosOperatorBox) awaitRecord(t *testing.T, what string, match func(policies.Record) bool) (found policies.Record) {
	t.Helper()
	o.await(t, "a record of "+what, func(ctx context.Context) error {
		list, err := o.records(ctx)
		if err != nil {
			return err
		}
		for _, r := range list {
			if match(r) {
				found = r
				return nil
			}
		}
		return fmt.Errorf("the journal has %s", chaosSummary(list))
	})
	return found
}

func chaosSummary(list []policies.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d records", len(list))
	for _, r := range list {
		fmt.Fprintf(&b, "\n\t%s %s %s: %s, cause %s, denied by %v, %d commands, error %q", r.ID, r.Node, r.Action, r.Outcome, r.Cause, r.DeniedBy, len(r.Commands), r.Error)
	}
	return b.String()
}

func (o *chaosOperatorBox) awaitRunning(t *testing.T) {
	t.Helper()
	chaosAwait(t, "the operator to run", func(ctx context.Context) error {
		var s fleetStatus
		err := o.read(ctx, &s, exitDone, "status")
		if err == nil && !s.Running {
			err = fmt.Errorf("status says that it does not: %+v", s)
		}
		return err
	})
}

func (o *chaosOperatorBox) awaitState(t *testing.T, want policies.State) {
	t.Helper()
	o.await(t, fmt.Sprintf("the state %q", want), func(ctx context.Context) error {
		var s fleetStatus
		if err := o.read(ctx, &s, exitDone, "status"); err != nil {
			return err
		}
		if len(s.Instances) != 1 || s.Instances[0].State != want {
			return fmt.Errorf("status says %+v", s)
		}
		return nil
	})
}

// awaitLine waits until the operator has written a text.
func (o *chaosOperatorBox) awaitLine(t *testing.T, text string) {
	t.Helper()
	chaosAwait(t, fmt.Sprintf("the operator to write %q", text), func(context.Context) error {
		if !strings.Contains(o.f.lab.logs(t, o.c), text) {
			return fmt.Errorf("it has not")
		}
		return nil
	})
}

// kill ends the operator as the kernel would, and returns when it is gone.
func (o *chaosOperatorBox) kill(t *testing.T) {
	t.Helper()
	o.f.killContainer(t, chaosOperator, o.c)
}

// startAgain starts it on the state that it left behind.
func (o *chaosOperatorBox) startAgain(t *testing.T) {
	t.Helper()
	if _, err := o.f.lab.cli.ContainerStart(t.Context(), o.c.GetContainerID(), client.ContainerStartOptions{}); err != nil {
		t.Fatalf("start the operator again: %v", err)
	}
	o.awaitRunning(t)
}
