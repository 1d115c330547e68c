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
		if steady := now.Sub(t.last); steady > tiltStall {
			t.why, t.until = fmt.Sprintf("our own loop stood still for %s", steady.Round(time.Millisecond)), now.Add(tiltRest)
		} else if step := t.step(now); step != "" {
			t.why, t.until = step, now.Add(tiltRest)
		}
	}
	t.last = now
}

// step says how far the wall clock went another way than the monotonic one since the last tick; empty: not. The monotonic clock stands still
// while the machine sleeps, so that a sleep looks like a clock set forward. The caller holds t.mu.
func (t *tilt) step(now time.Time) string {
	switch step := now.Round(0).Sub(t.last.Round(0)) - now.Sub(t.last); {
	case step > tiltStep:
		return fmt.Sprintf("the clock was set by %s, or the machine slept so long", step.Round(time.Millisecond))
	case step < -tiltStep:
		return fmt.Sprintf("the clock was set by %s", step.Round(time.Millisecond))
	}
	return ""
}

// reason is why the process does not trust itself at now; empty: it does.
func (t *tilt) reason(now time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.until) {
		return t.why
	}
	if t.last.IsZero() {
		return ""
	}
	// A reader may be the first to notice: the ticks stop with the process, and with the machine.
	if late := now.Sub(t.last); late > tiltStall {
		return fmt.Sprintf("our own loop is late by %s", late.Round(time.Millisecond))
	}
	return t.step(now)
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
