package remediation

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A process that was stopped, swapped out or had its clock set must not trust what it remembers: its evidence and its
// grace periods are off. These bound what counts as steady.
const (
	tiltTick  = time.Second
	tiltStall = 5 * time.Second  // a tick later than this: we stood still
	tiltStep  = 2 * time.Second  // wall clock against monotonic clock
	tiltRest  = 10 * time.Second // how long we distrust ourselves then
)

// tilt notices that the own process stalled or its clock was set.
type tilt struct {
	mu    sync.Mutex
	last  time.Time
	until time.Time
	why   string
}

// observe takes a tick; now carries the monotonic clock.
func (t *tilt) observe(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.last.IsZero() {
		steady, wall := now.Sub(t.last), now.Round(0).Sub(t.last.Round(0))
		switch step := wall - steady; {
		case steady > tiltStall:
			t.why, t.until = fmt.Sprintf("our own loop stood still for %s", steady.Round(time.Millisecond)), now.Add(tiltRest)
		case step > tiltStep || step < -tiltStep:
			t.why, t.until = fmt.Sprintf("the clock was set by %s", step.Round(time.Millisecond)), now.Add(tiltRest)
		}
	}
	t.last = now
}

// reason is why the process does not trust itself at now; empty: it does.
func (t *tilt) reason(now time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.until) {
		return t.why
	}
	// A reader may be the first to notice: the ticks stop with the process.
	if !t.last.IsZero() && now.Sub(t.last) > tiltStall {
		return fmt.Sprintf("our own loop is late by %s", now.Sub(t.last).Round(time.Millisecond))
	}
	return ""
}

func (t *tilt) run(ctx context.Context) {
	tick := time.NewTicker(tiltTick)
	defer tick.Stop()
	for {
		t.observe(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
