package journal

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

// The test binary, started again with childEnv set, is another process on the same state_dir.
const (
	childEnv = "DCSHEALER_JOURNAL_TEST_CHILD"
	dirEnv   = "DCSHEALER_JOURNAL_TEST_DIR"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(childEnv); role != "" {
		if err := beChild(role, os.Getenv(dirEnv)); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// beChild says "go", waits for a line, does its part, says what came of it and stays until its standard input ends.
func beChild(role, dir string) error {
	ctx, in := context.Background(), bufio.NewReader(os.Stdin)
	fmt.Println("go")
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	j, err := Open(ctx, dir, oper)
	if err != nil {
		return err
	}
	said, err := childPart(ctx, j, role)
	if err != nil {
		return err
	}
	fmt.Println(said)
	io.Copy(io.Discard, in)
	return j.Close()
}

func childPart(ctx context.Context, j *Journal, role string) (string, error) {
	switch role {
	case "append":
		for i := range 40 {
			if _, err := j.Begin(ctx, decision("dcs-1", t0.Add(time.Duration(i)*time.Second))); err != nil {
				return "", err
			}
		}
		return "done", nil
	case "act":
		if _, err := j.Lock(ctx, "dcs-1"); err != nil {
			return "", err
		}
		r := decision("dcs-1", t0)
		r.Outcome = ""
		return j.Begin(ctx, r)
	case "healer":
		_, err := j.LockHealer(ctx)
		return "locked", err
	case "breaker":
		return "locked", j.BreakerStore().Lock("b")
	}
	return "", fmt.Errorf("no role %q", role)
}

type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func spawn(t *testing.T, role, dir string) *child {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+role, dirEnv+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	c := &child{cmd, in, bufio.NewReader(out)}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if said := c.line(t); said != "go" {
		t.Fatalf("child %s said %q", role, said)
	}
	return c
}

func (c *child) line(t *testing.T) string {
	t.Helper()
	s, err := c.out.ReadString('\n')
	must(t, err)
	return strings.TrimSpace(s)
}

// do lets the child do its part and returns what it said of it.
func (c *child) do(t *testing.T) string {
	t.Helper()
	_, err := fmt.Fprintln(c.in)
	must(t, err)
	return c.line(t)
}

func (c *child) kill(t *testing.T) {
	t.Helper()
	must(t, c.cmd.Process.Kill()) // SIGKILL
	c.cmd.Wait()                  // its error is the kill
}

func (c *child) pid() string { return "process " + strconv.Itoa(c.cmd.Process.Pid) }

func TestKilledProcessLeavesItsIntentAndIsFoundInterrupted(t *testing.T) {
	dir := t.TempDir()
	c := spawn(t, "act", dir)
	id := c.do(t)
	j := open(t, dir)
	ctx := t.Context()

	_, err := j.Lock(ctx, "dcs-1")
	wantErr(t, err, ErrLocked, "dcs-1", c.pid())
	if rs, err := j.RecoverInterrupted(ctx, t0.Add(time.Minute)); err != nil || len(rs) != 0 {
		t.Fatalf("closed %v of a living process, error %v", rs, err)
	}
	c.kill(t)
	ro, err := OpenReadOnly(ctx, dir) // what was in the write-ahead log alone shows to readers too
	must(t, err)
	defer ro.Close()
	if r, _, err := ro.Show(ctx, id); err != nil || r.Outcome != policies.OutcomeRunning || r.Instance != "dcs-1" {
		t.Fatalf("after the kill: %+v, error %v, want the intent", r, err)
	}
	rs, err := j.RecoverInterrupted(ctx, t0.Add(time.Minute))
	if err != nil || len(rs) != 1 || rs[0].ID != id || rs[0].Outcome != policies.OutcomeInterrupted || !rs[0].Finished.Equal(t0.Add(time.Minute)) {
		t.Fatalf("recovered %+v, error %v, want %s", rs, err, id)
	}
	if rs, err := j.RecoverInterrupted(ctx, t0); err != nil || len(rs) != 0 {
		t.Errorf("recovered again %v, error %v", rs, err)
	}
	wantErr(t, j.Finish(ctx, id, Result{Outcome: policies.OutcomeSucceeded}), ErrFinished)
	unlock, err := j.Lock(ctx, "dcs-1")
	must(t, err)
	unlock()
	if v, err := j.Verify(ctx); err != nil || !v.OK || v.Entries != 2 {
		t.Errorf("verify %+v, error %v", v, err)
	}
}

func TestProcessesThatCreateAndAppendAtOnceKeepTheChainWhole(t *testing.T) {
	dir := t.TempDir() + "/new"
	children := []*child{spawn(t, "append", dir), spawn(t, "append", dir), spawn(t, "append", dir)}
	for _, c := range children {
		_, err := fmt.Fprintln(c.in)
		must(t, err)
	}
	for _, c := range children {
		if said := c.line(t); said != "done" {
			t.Fatalf("child said %q", said)
		}
	}
	if v, err := open(t, dir).Verify(t.Context()); err != nil || !v.OK || v.Entries != 120 || v.Records != 120 {
		t.Errorf("verify %+v (%+v), error %v, want 120", v, v.FirstBad, err)
	}
}

func TestOneHealerAStateDir(t *testing.T) {
	dir := t.TempDir()
	if HealerRunning(dir) || HealerRunning(dir+"/none") {
		t.Error("a healer runs in an empty state_dir")
	}
	c := spawn(t, "healer", dir)
	c.do(t)
	j := open(t, dir)
	if !HealerRunning(dir) {
		t.Error("the running healer is not seen")
	}
	_, err := j.LockHealer(t.Context())
	wantErr(t, err, ErrHealerRunning, c.pid())
	c.kill(t)
	if HealerRunning(dir) {
		t.Error("a killed healer still counts")
	}
	unlock, err := j.LockHealer(t.Context())
	must(t, err)
	unlock()
	unlock()
	if HealerRunning(dir) {
		t.Error("an unlocked healer still counts")
	}
}

// status asks for the lock while a healer starts: the healer must not take that for another healer.
func TestAskingForTheHealerNeverKeepsOneFromStarting(t *testing.T) {
	j := open(t, t.TempDir())
	unlock, err := j.LockHealer(t.Context())
	must(t, err)
	unlock()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				HealerRunning(j.dir)
			}
		}
	}()
	for range 200 {
		unlock, err := j.LockHealer(t.Context())
		must(t, err)
		unlock()
	}
	close(stop)
	<-done
}

func TestActionLock(t *testing.T) {
	j := open(t, t.TempDir())
	ctx := t.Context()
	unlock, err := j.Lock(ctx, "dcs-1")
	must(t, err)
	_, err = j.Lock(ctx, "dcs-1")
	wantErr(t, err, ErrLocked, "process "+strconv.Itoa(os.Getpid()))
	unlockOther, err := j.Lock(ctx, "dcs-2")
	must(t, err)
	unlockOther()
	unlock()
	unlock2, err := j.Lock(ctx, "dcs-1")
	must(t, err)
	unlock() // the second call must not free the new holder's lock
	if _, err := j.Lock(ctx, "dcs-1"); err == nil || !j.holds("dcs-1") {
		t.Errorf("an old unlock freed the new lock: %v", err)
	}
	unlock2()
	for _, name := range []string{"", ".", "..", "../x", "a/b", `a\b`, "a\x00b", ".open", strings.Repeat("x", 300)} {
		_, err := j.Lock(ctx, name)
		wantErr(t, err, nil, "no plain instance name")
	}
	victim := j.dir + "/victim"
	must(t, os.WriteFile(victim, []byte("keep"), 0o600))
	must(t, os.Symlink(victim, j.dir+"/locks/dcs-3.lock"))
	if _, err := j.Lock(ctx, "dcs-3"); err == nil {
		t.Error("it followed a symbolic link")
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "keep" {
		t.Errorf("the link's target holds %q, error %v", b, err)
	}
}
