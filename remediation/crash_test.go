package remediation

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// The test binary, started again with childEnv set to an errand, is a Healer of its own on the state_dir.
const childEnv = "DCSHEALER_REMEDIATION_TEST_CHILD"

// An errand is what such a child is to do, and where it kills itself.
type errand struct {
	Dir      string
	Metric   policies.Metric  // of the alarm that it hears; empty: none
	Master   policies.Address // of dcs-prod-01
	Peer     policies.Address // by which the replica reaches it; empty: the same
	Replica  policies.Address // empty: there is none
	Slow     bool             // sweeps take a minute
	KilledAt string           // the step at which it kills itself, as kill -9 does; empty: it lives
}

func (e errand) config() policies.Config {
	live, m := reclaimLive, &server{addr: e.Master}
	var replicas []*server
	if e.Replica.Port > 0 {
		live, replicas = reattachLive, []*server{{addr: e.Replica}}
	}
	in := instance(prod1, live, m, replicas...)
	in.Nodes[0].PeerAddress = e.Peer
	c := fleet(in)
	if e.Slow {
		adjust(&c, slowly)
	}
	return c
}

// beChild runs a Healer until it is killed.
func beChild() int {
	err := func() error {
		var e errand
		if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &e); err != nil {
			return err
		}
		c := e.config()
		op := policies.Operator{Host: "test", PID: os.Getpid(), Version: "child"}
		j, err := journal.Open(context.Background(), e.Dir, op)
		if err != nil {
			return err
		}
		probers, _, err := probersOf(c)
		if err != nil {
			return err
		}
		h := New(Options{Config: c, Probers: probers, Journal: j, Lines: os.Stdout, Operator: op, Trigger: policies.TriggerAlarm,
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), NewID: func() string { return ulid.Make().String() }})
		h.step = func(point string) {
			if point == e.KilledAt {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {} // not one instruction more
			}
		}
		if e.Metric != "" {
			h.Alarm(alarm(prod1, e.Metric))
		}
		return h.Run(context.Background())
	}()
	fmt.Println("the child ended:", err)
	return 1
}

// child is the process of an errand, not started yet.
func (e errand) child(ctx context.Context, t *testing.T) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(ctx, os.Args[0])
	c.Env = append(os.Environ(), childEnv+"="+string(text))
	return c
}

func TestKilledInTheMiddleOfASweep(t *testing.T) {
	t.Parallel()
	s := fullOfStale(t, 100_000)
	s.do("CONFIG", "RESETSTAT")
	dir := t.TempDir()
	child := errand{Dir: dir, Metric: memory, Master: s.addr, Slow: true}.child(t.Context(), t)
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
	rec := r.record(prod1, memory, policies.OutcomeSucceeded) // without an alarm: the incident is taken up
	if n := r.lines.count("diagnosis: "); n == 0 || n < r.lines.count("plan (live)") {
		t.Error("it went on without a new diagnosis")
	}
	if rec.Incident != dead.Incident || !rec.At.After(dead.At) || rec.Operator.Version != "test" || dead.Operator.Version != "child" {
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
