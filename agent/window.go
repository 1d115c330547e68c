package agent

import (
	"slices"
	"time"

	"dcshealer/policies"
)

// Windows counts the events of one node over time: evicted keys by their counter, slow commands by their ids. Its owner
// serialises the calls.
type Windows struct {
	evicted counter
	slow    slowCount
}

// NewWindows returns Windows that have seen nothing.
func NewWindows() *Windows { return &Windows{} }

// Add takes a snapshot, newer than all before, and returns the counts within the policy's windows that end at now.
// Evicted keys are known from the second snapshot on. A snapshot that does not answer adds nothing and counts nothing.
func (w *Windows) Add(s policies.Snapshot, p policies.Policy, now time.Time) policies.Counts {
	if !s.Reach.Answers() {
		return policies.Counts{}
	}
	var c policies.Counts
	if s.Stats.EvictedKeys.Known {
		w.evicted.add(s.RunID, s.Stats.EvictedKeys.V, now)
		c.Evicted = w.evicted.within(now, p.EvictedKeys.Window)
	}
	if s.Slowlog.Known {
		w.slow.add(s, now)
		c.Slowlog, c.SlowlogAtLeast = w.slow.within(now, p.Slowlog.Window)
	}
	return c
}

// events are numbers of things that happened, by time.
type events []event

type event struct {
	at time.Time
	n  int64
}

// add keeps one entry a second at most, so that their number is bounded by the window.
func (e *events) add(at time.Time, n int64) {
	if last := len(*e) - 1; last >= 0 && (*e)[last].at.Unix() == at.Unix() {
		(*e)[last].n += n
		return
	}
	*e = append(*e, event{at, n})
}

// within forgets what is older than the window and sums the rest.
func (e *events) within(now time.Time, window time.Duration) (sum int64) {
	kept := (*e)[:0]
	for _, v := range *e {
		if now.Sub(v.at) <= window {
			kept = append(kept, v)
			sum += v.n
		}
	}
	*e = kept
	return sum
}

// A counter turns a number that only rises, and restarts at 0 with the server or at CONFIG RESETSTAT, into events.
type counter struct {
	runID string
	last  int64
	reads int
	events
}

func (c *counter) add(runID string, v int64, now time.Time) {
	delta := v
	if runID == c.runID && v >= c.last {
		delta = v - c.last
	}
	if c.reads > 0 && delta > 0 {
		c.events.add(now, delta)
	}
	c.runID, c.last, c.reads = runID, v, c.reads+1
}

func (c *counter) within(now time.Time, window time.Duration) policies.Opt[int64] {
	if c.reads < 2 {
		return policies.Opt[int64]{}
	}
	return policies.Known(c.events.within(now, window))
}

// slowCount counts slow commands by their ids, which rise without gaps and restart at 0 with the server.
type slowCount struct {
	runID string
	last  int64 // newest id counted; -1: none
	lost  time.Time
	events
}

// add counts the entries not seen before at their own time, on our clock, and those that left the server's ring unread
// at now: they came between two probes.
func (c *slowCount) add(s policies.Snapshot, now time.Time) {
	first := c.runID == ""
	if c.runID != s.RunID {
		c.runID, c.last = s.RunID, -1
	}
	unread := max(0, s.Slowlog.Newest-c.last) // the log may have been emptied: its ids go on, and Newest is -1
	for i, e := range slices.Backward(s.Slowlog.Entries) {
		if e.ID <= c.last {
			continue
		}
		unread--
		at := ourTime(e, s, now)
		c.events.add(at, 1)
		if first && i == len(s.Slowlog.Entries)-1 && e.ID > 0 {
			c.lost = at // older ones left the ring before we came
		}
	}
	if !first && unread > 0 {
		c.events.add(now, unread)
	}
	c.last = max(c.last, s.Slowlog.Newest)
}

// ourTime is an entry's time on our clock, not after now. A server that does not tell its clock is taken to share ours.
func ourTime(e policies.SlowEntry, s policies.Snapshot, now time.Time) time.Time {
	at := time.Unix(e.Unix, 0)
	if s.ServerTime.Known {
		at = at.Add(now.Sub(time.Unix(s.ServerTime.V, 0)).Truncate(time.Second))
	}
	if at.After(now) {
		return now
	}
	return at
}

// within also reports whether there may have been more: commands of the window that had left the ring before our first look.
func (c *slowCount) within(now time.Time, window time.Duration) (policies.Opt[int64], bool) {
	atLeast := !c.lost.IsZero() && now.Sub(c.lost) <= window
	return policies.Known(c.events.within(now, window)), atLeast
}
