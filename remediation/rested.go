package remediation

import (
	"sync"
	"time"
)

// rested knows when actions ended by the monotonic clock, so that setting the wall clock neither ends a cooldown at once nor makes it last
// until the clock comes to a time that was never true.
type rested struct {
	mu    sync.Mutex
	ended map[string]time.Time // by record; each with the monotonic clock
}

// since is when the record's action ended, as far as now can tell: what it says when first seen, and never later than that.
func (r *rested) since(record string, finished, now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended == nil {
		r.ended = map[string]time.Time{}
	}
	at, known := r.ended[record]
	if !known {
		at = now.Add(-max(0, now.Sub(finished)))
		r.ended[record] = at
	}
	return at
}
