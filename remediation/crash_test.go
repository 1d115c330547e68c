package remediation

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// The test binary, started again with childEnv set to the address of a full master, is a Healer of its own on the state_dir.
const (
	childEnv = "DCSHEALER_REMEDIATION_TEST_CHILD"
	dirEnv   = "DCSHEALER_REMEDIATION_TEST_DIR"
)

// beChild sweeps the master very slowly until it is killed.
func beChild() int {
	err := func() error {
		addr, err := policies.ParseAddress(os.Getenv(childEnv))
		if err != nil {
			return err
		}
		c := fleet(instance(prod1, reclaimLive, &server{addr: addr}))
		adjust(&c, slowly)
		op := policies.Operator{Host: "test", PID: os.Getpid(), Version: "child"}
		j, err := journal.Open(context.Background(), os.Getenv(dirEnv), op)
		if err != nil {
			return err
		}
		probers, _, err := probersOf(c)
		if err != nil {
			return err
		}
		h := New(Options{Config: c, Probers: probers, Journal: j, Lines: os.Stdout, Operator: op, Trigger: policies.TriggerAlarm,
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), NewID: func() string { return ulid.Make().String() }})
		h.Alarm(alarm(prod1, memory))
		return h.Run(context.Background())
	}()
	fmt.Println("the child ended:", err)
	return 1
}

func TestKilledInTheMiddleOfASweep(t *testing.T) {
	t.Parallel()
	s := fullOfStale(t, 100_000)
	s.do("CONFIG", "RESETSTAT")
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+s.addr.String(), dirEnv+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { child.Process.Kill(); child.Wait() })
	in := bufio.NewScanner(out)
	for in.Scan() && !strings.Contains(in.Text(), "plan (live)") {
		if strings.Contains(in.Text(), "the child ended") {
			t.Fatal(in.Text())
		}
	}
	eventually(t, "the child's sweep is under way", func() bool { return s.calls()["scan"] > 20 })
	if err := child.Process.Kill(); err != nil { // SIGKILL
		t.Fatal(err)
	}
	_ = child.Wait() // its error is the kill

	r := newRig(t, fleet(instance(prod1, reclaimLive, s)), dir)
	if got := s.setting(lazyExpire); got != "yes" {
		t.Errorf("%s is %s after the kill, want what the sweep set", lazyExpire, got)
	}
	if all := r.records(prod1); len(all) != 1 || all[0].Outcome != policies.OutcomeRunning || all[0].Planned == nil {
		t.Fatalf("after the kill: %+v, want one intent that is running", all)
	}
	r.start()
	r.waitLine("interrupted: reclaim-expired", "it will be diagnosed anew")
	dead := r.record(prod1, memory, policies.OutcomeInterrupted)
	eventually(t, "the setting is put back", func() bool { return s.setting(lazyExpire) == "no" })
	r.waitLine("lazyfree-lazy-expire of", "was put back to no")
	if debts, err := r.j.Debts(context.Background()); err != nil || len(debts) > 0 {
		t.Errorf("debts %+v, %v after it was put back", debts, err)
	}
	eventually(t, "the breaker counted one failure", func() bool {
		data, _ := r.h.breakers.store.GetData("gobreaker:state:" + breakerName(prod1, policies.ReclaimExpired))
		return strings.Contains(string(data), `"TotalFailures":1,`)
	})
	r.waitState(prod1, policies.StateIdle)
	if r.lines.count("plan (live)") > 0 {
		t.Error("it went on without a new diagnosis")
	}
	r.alarm(prod1, memory)
	rec := r.record(prod1, memory, policies.OutcomeSucceeded)
	if rec.Incident == dead.Incident || !rec.At.After(dead.At) || rec.Operator.Version != "test" || dead.Operator.Version != "child" {
		t.Errorf("records %+v and %+v: want a new diagnosis by the new process", dead, rec)
	}
	s.takesWrites()
	r.whole()
}

func TestTheBudgetOfOneHealsTwoInstancesOneAfterAnother(t *testing.T) {
	t.Parallel()
	a, b := fullOfStale(t, 100_000), fullOfStale(t, 100_000)
	c := fleet(instance(prod1, reclaimLive, a), instance(prod2, reclaimLive, b))
	c.Budget.ConcurrentActions = 1
	adjust(&c, func(p *policies.Policy) { p.Reclaim.Duty = 10 }) // slow enough to overlap if they could
	r := newRig(t, c, "").start()
	r.alarm(prod1, memory)
	r.alarm(prod2, memory)
	first, second := r.record(prod1, memory, policies.OutcomeSucceeded), r.record(prod2, memory, policies.OutcomeSucceeded)
	from := func(o policies.Record) time.Time { return o.Commands[0].At }
	if from(second).Before(from(first)) {
		first, second = second, first
	}
	if from(second).Before(first.Finished) {
		t.Errorf("%s acted from %s to %s and %s from %s to %s: both at once", first.Instance, from(first), first.Finished, second.Instance, from(second), second.Finished)
	}
	t.Logf("first for %s, the second began %s after it ended", first.Finished.Sub(from(first)).Round(time.Millisecond), from(second).Sub(first.Finished).Round(time.Millisecond))
	a.takesWrites()
	b.takesWrites()
	r.whole()
}
