package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dcshealer/policies"
)

// sweepingFleet has one full master whose sweep under slowSweep is under way when this returns.
func sweepingFleet(t *testing.T) (*fleet, *server, *process) { return newFleet(t).sweeping() }

func (f *fleet) sweeping() (*fleet, *server, *process) {
	t := f.t
	f.policies = slowSweep
	m := startServer(t)
	m.expire(100_000)
	f.add("one", liveBoth, master("m", m))
	p := running(t, "-c", f.write())
	from := m.number("expired_keys")
	p.until("a sweep is under way", func() bool { return m.number("expired_keys") > from+500 && len(f.records("--outcome", "running")) == 1 })
	return f, m, p
}

// sent is the records of actions that were begun and not called off before their first command: where the machine is busy the
// latency guard may have held the first try.
func (f *fleet) sent(instance string) []policies.Record {
	f.t.Helper()
	return slices.DeleteFunc(f.records("--instance", instance), func(r policies.Record) bool {
		return r.Outcome == policies.OutcomeDenied || r.Outcome == policies.OutcomePlanned
	})
}

// kill -9 in the middle of a sweep: the next start says that it was interrupted, diagnoses anew, and heals.
func TestKilledInTheMiddleOfASweep(t *testing.T) {
	t.Parallel()
	f, m, p := sweepingFleet(t)
	p.kill()
	left := f.sent("one")
	if len(left) != 1 || left[0].Outcome != policies.OutcomeRunning {
		t.Fatalf("after kill -9: %+v", left)
	}
	f.verifies()
	deleted := m.number("expired_keys")

	f.policies = eager
	p = running(t, "-c", f.write())
	p.prints("interrupted: reclaim-expired on m was under way when its process ended (" + left[0].ID + ")")
	healed := f.outcome("one", policies.OutcomeSucceeded)
	list := f.sent("one")
	if len(list) != 2 || list[1].ID != left[0].ID || list[1].Outcome != policies.OutcomeInterrupted || list[1].Finished.IsZero() {
		t.Errorf("want the interrupted record and a new one: %+v", list)
	}
	if healed.Incident != left[0].Incident || healed.Operator.PID != p.cmd.Process.Pid || len(healed.Guards) == 0 || !healed.At.After(left[0].At) {
		t.Errorf("the incident was not taken up, or not diagnosed anew: %+v after %+v", healed, left[0])
	}
	if !m.takesWrites() || m.number("expired_keys") <= deleted {
		t.Error("the master is still full")
	}
	if table := succeeds(t, "actions", "list", "-c", f.file); !strings.Contains(table, "interrupted") {
		t.Errorf("actions list:\n%s", table)
	}
	p.stopsWell(sigterm)
	f.verifies()
}

// A signal in the middle of a sweep ends it within 5 s with its record closed.
func TestStoppedInTheMiddleOfASweep(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{sigint, sigterm} {
		t.Run(signal.String(), func(t *testing.T) {
			f, m, p := sweepingFleet(t)
			p.stopsWell(signal)
			list := f.sent("one")
			if len(list) != 1 || list[0].Outcome != policies.OutcomeInterrupted || list[0].Finished.IsZero() {
				t.Fatalf("the record: %+v", list)
			}
			if keys, _ := list[0].Effect["keys"].(float64); keys < 500 || len(list[0].Commands) < 2 {
				t.Errorf("the record tells nothing of what was done: %v, %v", list[0].Effect, list[0].Commands)
			}
			f.verifies()
			if clients := m.clients(); strings.Contains(clients, "cmd=scan") {
				t.Errorf("a connection of the sweep is left:\n%s", clients)
			}
		})
	}
}

// A bus that is gone, or that hangs while an alarm is on its way, does not hold up the end, and a sweep has its record closed.
func TestStopsWithoutABus(t *testing.T) {
	t.Parallel()
	for state, signal := range map[string]syscall.Signal{"dead": syscall.SIGKILL, "hung": syscall.SIGSTOP} {
		t.Run(state, func(t *testing.T) {
			bus, other := startServer(t), startServer(t)
			f := newFleet(t)
			f.bus = bus.url()
			f.add("other", "", master("other-m", other))
			f, _, p := f.sweeping()
			bus.signal(signal)
			other.signal(syscall.SIGKILL) // so that there is something to publish
			p.prints("[Monitoring agent] CRITICAL | other | ")
			p.stopsWell(sigterm)
			if list := f.sent("one"); len(list) != 1 || list[0].Outcome != policies.OutcomeInterrupted {
				t.Errorf("the record of the sweep: %+v", list)
			}
		})
	}
}

// A run that has ended leaves no goroutine and no connection behind.
func TestStopLeavesNothing(t *testing.T) {
	m := startServer(t)
	f := newFleet(t)
	f.add("one", "", master("m", m))
	file := f.write()
	once := func() {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var stdout, stderr textBuffer
		root := newRoot(&app{stdout: &stdout, stderr: &stderr})
		root.SetArgs([]string{"run", "-c", file})
		done := make(chan error, 1)
		go func() { done <- root.ExecuteContext(ctx) }()
		until(t, "it runs", func() bool {
			return strings.Contains(stdout.String(), policies.HealerStartLine) && strings.Contains(m.clients(), "name=dcshealer-probe")
		})
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%v\n%s", err, stderr.String())
			}
		case <-time.After(5 * time.Second):
			t.Fatal("not ended within 5 s")
		}
	}
	once() // what is made once a process stays
	before := runtime.NumGoroutine()
	for range 3 {
		once()
	}
	until(t, "its goroutines end", func() bool { return runtime.NumGoroutine() <= before })
	until(t, "its connections end", func() bool { return strings.Count(m.clients(), "id=") == 1 })
}

func (s *server) clients() string { return fmt.Sprint(s.do("CLIENT", "LIST")) }
