package main

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dcshealer/policies"
)

// The bus is down at the start and killed later: watching and healing go on, and the subscribers come back with the bus.
func TestBusDownAndKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.policies = eager
	bus := startServer(t)
	f.bus = bus.url()
	bus.end()
	in := newPair(t)
	f.addPair("one", liveBoth, in)
	p := running(t, "-c", f.write())
	f.healsWithoutBus(p, in, 1)
	if n := len(p.lines("[On-duty DBA] ")); n > 0 {
		t.Errorf("the DBA prints %d lines without a bus", n)
	}

	bus.relaunch()
	f.subscribersHear(p, bus, "first")
	if got := p.lines("[On-duty DBA] "); got[0] != policies.DBAStartLine {
		t.Errorf("the DBA's first line: %s", got[0])
	}
	p.until("what was published without a bus arrives", func() bool {
		return strings.Contains(p.stdout.String(), "[On-duty DBA] !!! Critical alarm !!! one | ") && strings.Contains(p.stdout.String(), "[Log archiving] [CRITICAL] one | ")
	})
	bus.end()
	f.healsWithoutBus(p, in, 2)
	bus.relaunch()
	f.subscribersHear(p, bus, "second")
	if n := len(p.lines(policies.DBAStartLine)); n != 1 {
		t.Errorf("the DBA's start line was printed %d times", n)
	}
	p.stopsWell(sigterm)
	f.verifies()
}

// healsWithoutBus detaches the replica and waits for the nth repair.
func (f *fleet) healsWithoutBus(p *process, in pair, n int) {
	f.t.Helper()
	in.r.detach()
	p.until("healed without a bus", in.r.linked)
	p.until("the repair is recorded", func() bool { return len(f.records("--outcome", "succeeded")) == n })
}

// subscribersHear publishes until all roles have heard it: they need a moment to come back.
func (f *fleet) subscribersHear(p *process, bus *server, word string) {
	f.t.Helper()
	c := dialPlain(f.t, bus.addr())
	n := 0
	p.until("all roles hear the bus again", func() bool {
		n++
		msg := word + " " + strconv.Itoa(n)
		heard := c.publish("redis:monitor:critical", `{"instance":"one","metric":"other","value":1,"msg":"`+msg+`"}`) >= 4
		if !heard {
			time.Sleep(50 * time.Millisecond)
			return false
		}
		for _, line := range []string{"[On-duty DBA] !!! Critical alarm !!! one | ", "[O&M dashboard] [CRITICAL] one | other | ", "[Log archiving] [CRITICAL] one | ", "[Self-healing service] Alarms received: one | "} {
			p.prints(line + msg)
		}
		return true
	})
}

// A hung node and a dead one delay nobody: the fault of another instance is healed as fast as ever.
func TestHungAndDeadNodesDelayNobody(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.agent, f.policies = "interval: 500ms, timeout: 2s, repeat: 1m", eager
	hung, dead := startServer(t), startServer(t)
	in := newPair(t)
	f.add("hung", liveBoth, master("hung-m", hung))
	f.add("dead", liveBoth, master("dead-m", dead))
	f.addPair("one", liveBoth, in)
	p := running(t, "-c", f.write())
	hung.signal(syscall.SIGSTOP)
	dead.signal(syscall.SIGKILL)
	p.prints("[Monitoring agent] CRITICAL | hung | ")
	p.prints("[Monitoring agent] CRITICAL | dead | ")
	p.prints("dead | escalated: no action cures node-down on dead-m")
	p.prints("hung | escalated: no action cures node-hung on hung-m")
	for round := range 2 {
		broken := time.Now()
		in.r.detach()
		p.until("the other instance is healed", in.r.linked)
		took := time.Since(broken)
		t.Logf("round %d: %s", round, took.Round(time.Millisecond))
		if took > 4*time.Second {
			t.Errorf("round %d: %s beside a hung and a dead node", round, took)
		}
		until(t, "the repair is recorded", func() bool { return len(f.records("--instance", "one", "--outcome", "succeeded")) == round+1 })
	}
	hung.signal(syscall.SIGCONT)
	p.prints("hung | resolved: instance_up on hung-m (node-hung)")
	p.stopsWell(sigterm)
}
