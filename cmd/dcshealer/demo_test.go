package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

// demoTemp is a TMPDIR of the test's own, so that what a demo leaves behind shows.
func demoTemp(t *testing.T) string {
	t.Helper()
	program(t) // is built before TMPDIR and PATH change
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	return dir
}

// needServer skips a test that plays the demo for real.
func needServer(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("plays the whole demo")
	}
	if _, err := findServerProgram(t.Context()); err != nil {
		redistest.Missing(t, err)
	}
}

// livingIn are the processes whose current folder lies, or lay, in dir.
func livingIn(t *testing.T, dir string) (pids []string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("/proc tells which processes are left; there is none here")
	}
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		// A process that ended meanwhile has no link any more.
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, filepath.Join(dir, "dcshealer-demo-")) {
			pids = append(pids, strings.Split(link, "/")[2])
		}
	}
	return pids
}

// leavesNothing checks that no process and no folder of a demo is left.
func leavesNothing(t *testing.T, dir string) {
	t.Helper()
	if pids := livingIn(t, dir); len(pids) > 0 {
		t.Errorf("processes are left: %v", pids)
	}
	if left := demoFolders(t, dir); len(left) > 0 {
		t.Errorf("folders are left: %v", left)
	}
}

func demoFolders(t *testing.T, dir string) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "dcshealer-demo-*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestDemoHeals(t *testing.T) {
	needServer(t)
	dir := demoTemp(t)
	start := time.Now()
	code, stdout, stderr := command(t, "demo")
	if took := time.Since(start); code != exitDone || stderr != "" || took > time.Minute {
		t.Fatalf("exit %d after %s, want 0 within a minute\n%s%s", code, took, stdout, stderr)
	}
	rest := stdout
	for _, want := range []string{"1. Start a fleet", "dcs-slave-01, its replica", "2. Watch it", "| [On-duty DBA]", "3. Break it", "(error) OOM ", "!!! Critical alarm !!! dcs-prod-02",
		"4. See what it would do", "PLAN     reattach-replica on dcs-slave-01 (dry-run): stopped by mode", "deny    mode", "nobody sent it a REPLICAOF but we", "not one of its keys was deleted",
		"5. Trust it", "(live)", "6. Check the result", "The journal is whole", "│ dcs-prod-01", "reattach-replica", "full resync", "│ dcs-prod-02", "reclaim-expired", "MiB freed",
		"Alarms fired, by severity: ", "All healed and proven"} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("it does not say %q where expected; it goes on with\n%s", want, rest)
		}
		rest = after
	}
	if strings.Contains(stdout, "\x1b") {
		t.Error("it colours a pipe")
	}
	leavesNothing(t, dir)
}

func TestDemoKeepsUpAndReportsAsJSON(t *testing.T) {
	needServer(t)
	dir := demoTemp(t)
	p := background(t, "demo", "--keep", "-o", "json")
	awaitDemo(t, p, func() bool { return strings.Contains(p.stderr.String(), "REPLICAOF NO ONE     #") })
	var r demoReport
	if err := json.Unmarshal([]byte(p.stdout.String()), &r); err != nil {
		t.Fatalf("stdout holds more or less than JSON: %v", err)
	}
	checkDemoReport(t, r)
	if pids := livingIn(t, dir); len(pids) != 6 {
		t.Errorf("%d processes are up, want the roles, the bus and four nodes", len(pids))
	}
	folders := demoFolders(t, dir)
	if len(folders) != 1 || !strings.Contains(p.stderr.String(), "config         "+folders[0]) {
		t.Fatalf("the config of %v is not shown", folders)
	}
	if s := parse[fleetStatus](t, succeeds(t, "status", "-o", "json", "-c", filepath.Join(folders[0], "dcshealer.yaml"))); !s.Running || len(s.Instances) != 3 {
		t.Errorf("status of what is kept up: %+v", s)
	}
	if code, _ := p.stop(sigint); code != exitDone {
		t.Errorf("Ctrl-C after the end: exit %d, want 0", code)
	}
	leavesNothing(t, dir)
}

func checkDemoReport(t *testing.T, r demoReport) {
	t.Helper()
	if !r.Healed || r.Error != "" || !r.Journal.OK || r.Journal.Records < 4 || len(r.Repairs) != 2 {
		t.Fatalf("report: %+v", r)
	}
	if r.Alarms["critical"] < 2 || r.Alarms["warning"] < 2 || r.Alarms["notice"] < 1 {
		t.Errorf("alarms fired: %v", r.Alarms)
	}
	for _, x := range r.Repairs {
		if x.Incident == "" || x.Record == "" || x.Repaired <= 0 || x.Took <= 0 || x.Took > x.Repaired || len(x.Proof) != 3 {
			t.Errorf("repair: %+v", x)
		}
	}
	if x := r.Repairs[0]; x.Cause != policies.CausePromoted || x.Resync != policies.ResyncFull {
		t.Errorf("replica: %+v", x)
	}
	if x := r.Repairs[1]; x.Cause != policies.CauseExpiredKeys || x.Keys < 10_000 || x.Bytes < 1<<20 {
		t.Errorf("memory: %+v", x)
	}
}

// awaitDemo waits longer than for anything else: it is a whole demo.
func awaitDemo(t *testing.T, p *process, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if p.hasEnded() || time.Now().After(deadline) {
			t.Fatalf("the demo does not get there; it ended: %v", p.hasEnded())
		}
	}
}

func TestDemoInterrupted(t *testing.T) {
	needServer(t)
	dir := demoTemp(t)
	p := background(t, "demo")
	awaitDemo(t, p, func() bool { return strings.Contains(p.stdout.String(), "takes dcs-slave-01 off its master") })
	if pids := livingIn(t, dir); len(pids) < 6 {
		t.Fatalf("%d processes are up in the middle of it, want 6", len(pids))
	}
	code, took := p.stop(sigterm)
	if code != exitFailed || took > 15*time.Second || !strings.Contains(p.stderr.String(), "interrupted; everything is stopped and removed") {
		t.Errorf("exit %d after %s, want 1", code, took)
	}
	leavesNothing(t, dir)
}

func TestDemoWithoutServer(t *testing.T) {
	dir := demoTemp(t)
	t.Setenv("PATH", dir)
	code, stdout, stderr := command(t, "demo")
	if code != exitFailed || stdout != "" {
		t.Errorf("exit %d, want 1; stdout %q", code, stdout)
	}
	wantWords(t, "demo", stderr, "no redis-server or valkey-server on PATH", "apt-get install redis-server", "make demo")
	leavesNothing(t, dir)
}

func TestDemoKeepsTheLogsOfAFailure(t *testing.T) {
	dir := demoTemp(t)
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no sh to play a broken server")
	}
	script := "#!" + sh + "\nif [ \"$1\" = --version ]; then echo 'Redis server v=7.0.15 sha=0'; exit; fi\necho 'no memory left' >&2\nexit 3\n"
	if err := os.WriteFile(filepath.Join(dir, "redis-server"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	code, stdout, stderr := command(t, "demo", "-o", "json")
	var r demoReport
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != exitFailed || r.Healed {
		t.Errorf("exit %d, want 1; %v; %+v", code, err, r)
	}
	folders := demoFolders(t, dir)
	if len(folders) != 1 {
		t.Fatalf("folders kept: %v", folders)
	}
	wantWords(t, "demo", stderr, "start bus: it ended at once (exit status 3)", "kept in "+folders[0])
	wantWords(t, "error", r.Error, "start bus")
	if log, err := os.ReadFile(filepath.Join(folders[0], "bus.log")); err != nil || !strings.Contains(string(log), "no memory left") {
		t.Errorf("its log: %q, %v", log, err)
	}
	if pids := livingIn(t, dir); len(pids) > 0 {
		t.Errorf("processes are left: %v", pids)
	}
}

func TestDemoTakesNoConfig(t *testing.T) {
	code, _, stderr := here(t, "demo", "-c", "fleet.yaml")
	if code != exitFailed || !strings.Contains(stderr, "config of its own") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestFoldAllowed(t *testing.T) {
	const plan = "a (held)\n  PLAN x\n  send y\n  allow   pause z\n  deny    mode no\n  allow   window z\nb (idle)\n  healthy\n"
	got := foldAllowed(plan)
	want := "a (held)\n  PLAN x\n  send y\n  deny    mode no\n             allow   (2 other guards; dcshealer plan names each with its reason)\nb (idle)\n  healthy\n"
	if got != want {
		t.Errorf("foldAllowed(%q)\n got %q\nwant %q", plan, got, want)
	}
}

func TestRoleLinesComeWhole(t *testing.T) {
	var out bytes.Buffer
	tell := newNarrator(&out)
	w := tell.lines()
	for _, part := range []string{"[Log arch", "iving] one\n[On-duty", " DBA] two\nthr"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("Write(%q) = %d, %v", part, n, err)
		}
	}
	tell.mute()
	if _, err := w.Write([]byte("ee\n")); err != nil {
		t.Fatal(err)
	}
	if want := "   | [Log archiving] one\n   | [On-duty DBA] two\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
