package agent

import (
	"fmt"
	"sync"
	"time"
)

// TiltHold is how long a stall of the own loop or a step of the clock is held against our own view.
const TiltHold = 30 * time.Second

// clockStep is the difference between the wall clock and the monotonic one, from one look to the next, that is a step.
const clockStep = time.Second

// A stall watches ourselves: a process that was stopped, starved of CPU or suspended sees faults that are its own.
type stall struct {
	mu    sync.Mutex // guards what follows
	bound time.Duration
	late  int64
	at    time.Time // of the newest trouble
	what  string
	seen  time.Time // the newest look, wall and monotonic
}

func newStall(interval time.Duration) *stall { return &stall{bound: boundOf(interval)} }

func boundOf(interval time.Duration) time.Duration { return max(interval/2, 500*time.Millisecond) }

// pace takes another interval.
func (s *stall) pace(interval time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bound = boundOf(interval)
}

// observe is told when a loop was free, when its next probe was due and when it began.
func (s *stall) observe(free, due, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if by := now.Sub(due); free.Before(due) && by > s.bound {
		s.late++
		s.at, s.what = now, fmt.Sprintf("a probe began %s late", by.Round(100*time.Millisecond))
	}
	if !s.seen.IsZero() {
		wall, mono := now.Round(0).Sub(s.seen.Round(0)), now.Sub(s.seen)
		if step := wall - mono; step.Abs() > clockStep {
			s.at, s.what = now, fmt.Sprintf("the clock of this machine stepped by %s", step.Round(100*time.Millisecond))
		}
	}
	s.seen = now
}

func (s *stall) count() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.late
}

func (s *stall) tilt(now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at.IsZero() || now.Sub(s.at) > TiltHold {
		return ""
	}
	return fmt.Sprintf("%s %s ago", s.what, now.Sub(s.at).Round(time.Second))
}
