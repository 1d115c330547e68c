package agent

import (
	"fmt"
	"sync"
	"time"

	"dcshealer/policies"
)

// An outbox numbers publications and hands them on, one at a time, so that seq has no gaps and no disorder.
type outbox struct {
	opt Options

	mu   sync.Mutex // guards what follows, and orders the calls
	seq  int64
	sent bool // something was published since the last end of a cycle
}

// send publishes alarms in order: to the bus, to the healer of this process, and as console lines.
func (o *outbox) send(alarms []policies.Alarm, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range alarms {
		o.seq++
		a.ID, a.Seq, a.Source, a.At = o.opt.NewID(), o.seq, o.opt.Source, now
		o.opt.Publish(a)
		if o.opt.Direct != nil && a.Severity == policies.Critical {
			o.opt.Direct(a)
		}
		o.line(policies.AgentLine(a))
		o.sent = true
		o.opt.Log.Info("alarm published", "component", "agent", "status", string(a.Status), "alarm", a.ID, "instance", a.Instance, "node", a.Node,
			"metric", string(a.Metric), "severity", a.Severity.String())
	}
}

// endCycle prints the cycle's last line if anything was published in it.
func (o *outbox) endCycle() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sent {
		o.line(policies.AgentCycleLine)
	}
	o.sent = false
}

// line writes one console line; a console that is gone is no reason to stop watching.
func (o *outbox) line(s string) {
	if o.opt.Lines != nil {
		_, _ = fmt.Fprintln(o.opt.Lines, s)
	}
}

// cycles knows how far each instance is. A cycle of the fleet ends when all have finished the round.
type cycles struct {
	out *outbox

	mu     sync.Mutex // guards what follows
	rounds map[string]int
	ended  int // rounds finished by all
}

// join adds an instance, which counts its rounds from the one that is returned.
func (c *cycles) join(instance string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rounds[instance] = c.ended - 1
	return c.ended
}

func (c *cycles) leave(instance string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.rounds, instance)
}

func (c *cycles) done(instance string, round int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rounds[instance] = round
	lowest := round
	for _, r := range c.rounds {
		lowest = min(lowest, r)
	}
	if lowest+1 > c.ended {
		c.ended = lowest + 1
		c.out.endCycle()
	}
}
