package web

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// whyEvery is how often an instance may be probed for a person who asks why.
const whyEvery = 5 * time.Second

// pace keeps calls that probe from being a load on the fleet: one at a time, and each instance only now and then.
type pace struct {
	every time.Duration
	mu    sync.Mutex // guards what follows
	busy  bool
	last  map[string]time.Time // of calls that lie less than every ago
}

func newPace(every time.Duration) *pace { return &pace{every: every, last: map[string]time.Time{}} }

// take begins a call, or says when it may be tried again.
func (p *pace) take(name string, now time.Time) (release func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, at := range p.last {
		if now.Sub(at) >= p.every {
			delete(p.last, k)
		}
	}
	if at, ok := p.last[name]; ok {
		return nil, &Fault{http.StatusTooManyRequests, fmt.Errorf("it was probed %s ago: ask again in a few seconds", now.Sub(at).Round(time.Millisecond))}
	}
	if p.busy {
		return nil, &Fault{http.StatusTooManyRequests, errors.New("another instance is being probed for somebody: ask again in a few seconds")}
	}
	p.busy, p.last[name] = true, now
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.busy = false
	}, nil
}
