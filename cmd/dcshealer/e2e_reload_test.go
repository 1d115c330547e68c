package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"dcshealer/policies"
)

// A fleet changes under a running dcshealer: by the command and by SIGHUP, with good files and bad ones. It never restarts.
func TestConfigReload(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.policies = eager
	one, two := newPair(t), newPair(t)
	f.addPair("one", "", one)
	p := running(t, "-c", f.write())
	if out := succeeds(t, "config", "reload", "-c", f.file); !strings.Contains(out, "nothing has changed") {
		t.Errorf("a reload of the same file: %s", out)
	}

	one.r.detach()
	planned := f.outcome("one", policies.OutcomePlanned)
	f.instances = nil
	f.addPair("one", "live: [reattach-replica]", one)
	f.addPair("two", "live: [reattach-replica]", two)
	f.write()
	out := succeeds(t, "config", "reload", "-c", f.file)
	for _, want := range []string{"2 changes", "instances.one.live: [] -> [reattach-replica]", "instances.two: added, two-m at " + two.m.addr()} {
		if !strings.Contains(out, want) {
			t.Errorf("config reload does not say %q:\n%s", want, out)
		}
	}
	until(t, "the one made live is healed", one.r.linked)
	if healed := f.outcome("one", policies.OutcomeSucceeded); healed.Incident != planned.Incident {
		t.Errorf("healed as incident %s, planned as %s", healed.Incident, planned.Incident)
	}
	two.r.detach()
	until(t, "the one that came is healed", two.r.linked)

	f.refusesBadFiles(p)

	f.instances = f.instances[:1]
	f.write()
	p.hangup("setting=instances.two kind=removed", "config reloaded")
	two.r.detach()
	if out := succeeds(t, "config", "reload", "-c", f.file); !strings.Contains(out, "nothing has changed") {
		t.Errorf("after the SIGHUP: %s", out)
	}
	p.stopsWell(sigterm)
	if two.r.linked() || len(f.records("--instance", "two")) != 1 {
		t.Error("an instance that was removed was healed")
	}
	f.verifies()
	left, err := filepath.Glob(filepath.Join(f.state, requestPrefix+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("requests are left behind: %v, %v", left, err)
	}
}

// refusesBadFiles tries files with faults, and settings that are taken at the start, by both ways.
func (f *fleet) refusesBadFiles(p *process) {
	t := f.t
	t.Helper()
	good, agent := f.instances, f.agent
	f.agent = "interval: 1ms, timeout: 1s, repeat: 1m"
	f.instances = []string{strings.Replace(good[0], "live: [reattach-replica]", "live: [flush]", 1)}
	f.write()
	code, stdout, stderr := command(t, "config", "reload", "-c", f.file)
	_, _, checked := command(t, "config", "check", "-c", f.file)
	if code != 1 || stdout != "" || checked == "" || !strings.HasPrefix(stderr, checked) || !strings.Contains(stderr, "goes on with the config that it has") {
		t.Errorf("a bad file: exit %d\n%s%s, want what config check says:\n%s", code, stdout, stderr, checked)
	}
	p.hangup("config was not taken", "agent.interval", "1ms")

	f.instances, f.agent = good, agent
	f.write()
	text, err := os.ReadFile(f.file)
	if err != nil {
		t.Fatal(err)
	}
	moved := strings.Replace(string(text), `listen: ""`, "listen: 127.0.0.1:9\nbus: {prefix: other}", 1)
	if err := os.WriteFile(f.file, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ = command(t, "config", "reload", "-c", f.file, "-o", "json")
	var r reloadReport
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != 1 || r.OK || len(r.Errors) != 2 {
		t.Fatalf("settings that need a restart: exit %d, %v\n%s", code, err, stdout)
	}
	for i, path := range []string{"bus.prefix", "listen"} {
		if e := r.Errors[i]; e.Path != path || !strings.Contains(e.Want, "restart dcshealer run") {
			t.Errorf("fault %+v, want one of %s that says restart", e, path)
		}
	}
	f.write()
	if out := succeeds(t, "config", "reload", "-c", f.file); !strings.Contains(out, "nothing has changed") {
		t.Errorf("after refused files: %s, want the config before them", out)
	}
}

// hangup sends SIGHUP and waits until all the texts have come into the log since.
func (p *process) hangup(texts ...string) {
	p.t.Helper()
	before := len(p.stderr.String())
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		p.t.Fatal(err)
	}
	p.until("it logs after SIGHUP: "+strings.Join(texts, ", "), func() bool {
		since := p.stderr.String()[before:]
		return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(since, text) })
	})
}

// A SIGHUP that comes while it is still starting ends nothing, and is answered once it runs.
func TestSighupBeforeItRuns(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.bus = "redis://127.0.0.1:1" // the readers of a bus that is down are waited for
	f.addPair("one", "", newPair(t))
	p := background(t, "run", "-c", f.write())
	p.until("it has begun", func() bool { return p.stderr.String() != "" })
	p.hangup("running", "config reloaded", "reason=SIGHUP")
	p.stopsWell(sigterm)
}

// The command without a process to ask, and with one that runs by another file.
func TestConfigReloadAsksTheRightProcess(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.addPair("one", "", newPair(t))
	code, _, stderr := command(t, "config", "reload", "-c", f.write())
	if code != 1 || !strings.Contains(stderr, "no dcshealer runs on its state_dir "+f.state) {
		t.Errorf("nobody runs: exit %d, %s", code, stderr)
	}
	p := running(t, "-c", f.file)
	text, err := os.ReadFile(f.file)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(filepath.Dir(f.file), "other.yaml")
	if err := os.WriteFile(other, text, 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr = command(t, "config", "reload", "-c", other)
	if code != 1 || !strings.Contains(stderr, "was started with "+f.file) {
		t.Errorf("another file: exit %d, %s", code, stderr)
	}
	if err := os.WriteFile(f.file, []byte("instances: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr = command(t, "config", "reload", "-c", f.file)
	_, _, checked := command(t, "config", "check", "-c", f.file)
	if code != 1 || strings.TrimSpace(stderr) != strings.TrimSpace(checked) {
		t.Errorf("a file that is no YAML: exit %d\n%s, want\n%s", code, stderr, checked)
	}
	p.stopsWell(sigterm)
}
