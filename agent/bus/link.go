package bus

import (
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	backoffMin = 100 * time.Millisecond
	backoffMax = 2 * time.Second
)

// link is the health of one use of the bus: it logs when it changes, not on every try. It is safe for concurrent use.
type link struct {
	log  *slog.Logger
	what string

	mu    sync.Mutex // guards what follows
	cause string     // kind of the fault that was logged; empty: none
	tries int        // failures in a row
	since time.Time  // of the first of them
	err   error      // the newest of them; nil: none
}

func (l *link) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
	if l.tries++; l.tries == 1 {
		l.since = time.Now()
	}
	if kind := errorKind(err); kind != l.cause {
		l.cause = kind
		l.log.Warn("bus lost, trying again", "for", l.what, "cause", kind, "err", err)
	}
}

func (l *link) works() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tries > 0 {
		l.log.Info("bus back", "for", l.what, "attempt", l.tries, "took", time.Since(l.since).Round(time.Millisecond).String())
	}
	l.tries, l.cause, l.err = 0, "", nil
}

func (l *link) lost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tries > 0
}

// backoff doubles from 100 ms to 2 s with the failures in a row, less up to half of it, so that many readers of one
// bus do not come back at once.
func (l *link) backoff() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := min(backoffMin<<min(max(l.tries-1, 0), 10), backoffMax)
	return d - rand.N(d/2)
}
