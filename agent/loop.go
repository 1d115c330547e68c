package agent

import (
	"context"
	"time"

	"dcshealer/policies"
)

// A reading is a snapshot with the tick that it belongs to: ticks are counted from the start of Run, one an interval.
type reading struct {
	snapshot policies.Snapshot
	tick     int
}

// A loop probes one node at the interval. It never overlaps itself: a probe that outlasts the interval skips ticks.
type loop struct {
	node   string
	prober Prober
	pace   policies.AgentConfig
	stall  *stall
}

func (l *loop) run(ctx context.Context, start time.Time, inbox chan<- reading) {
	ticker := time.NewTicker(l.pace.Interval)
	defer ticker.Stop()
	tick := 0
	for {
		s := l.probe(ctx)
		if ctx.Err() != nil {
			return // a probe cut short says nothing of the node
		}
		select {
		case inbox <- reading{s, tick}:
		case <-ctx.Done():
			return
		}
		idle := time.Now()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		l.stall.observe(idle, start.Add(time.Duration(tick+1)*l.pace.Interval), now)
		tick = max(tick+1, int(now.Sub(start)/l.pace.Interval))
	}
}

// probe allows twice the timeout: the prober bounds itself, and may have to wait for a probe that another asked for.
func (l *loop) probe(ctx context.Context) policies.Snapshot {
	ctx, cancel := context.WithTimeout(ctx, 2*l.pace.Timeout)
	defer cancel()
	return l.prober.Probe(ctx)
}
