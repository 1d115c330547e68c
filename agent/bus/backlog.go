package bus

import (
	"log/slog"
	"sync"
	"time"

	"dcshealer/policies"
)

// spoolAfter is how long an alarm waits in memory alone: a bus that works never has the disk written.
const spoolAfter = 200 * time.Millisecond

// backlog is what waits for the bus, in order: the older part on disk where there is a spool, the newer in memory. Two numbers
// say how far the bus has it: published goes ahead of added while the server refuses additions to the stream. It is safe for
// concurrent use.
type backlog struct {
	limit int // of those in memory
	log   *slog.Logger
	wake  chan struct{} // capacity 1: something was added

	files sync.Mutex // guards the spool, and is taken before mu: put never waits for the disk
	spool *spool     // nil: none

	mu       sync.Mutex // guards what follows
	memory   []waiting
	next     uint64
	reached  progress
	stats    PublisherStats
	inFlight map[uint64]bool // numbers on their way; true: dropped meanwhile
	empty    chan struct{}   // closed while nothing waits to be published
}

type waiting struct {
	item
	since time.Time
}

// progress is how far the bus has the backlog, by number.
type progress struct{ published, added uint64 }

func newBacklog(limit int, s *spool, log *slog.Logger) *backlog {
	b := &backlog{limit: limit, log: log, spool: s, wake: make(chan struct{}, 1), next: 1, empty: make(chan struct{})}
	if s != nil {
		b.next = s.newest() + 1
		b.reached = progress{s.published, s.added}
		b.stats.Queued = s.count(s.published)
		b.stats.Owed = s.count(s.added) - b.stats.Queued
	}
	if b.stats.Queued == 0 {
		close(b.empty)
	}
	if b.stats.Queued+b.stats.Owed > 0 {
		log.Info("alarms of an earlier run wait for the bus", "queued", b.stats.Queued, "owed", b.stats.Owed)
		b.wake <- struct{}{}
	}
	return b
}

// put adds an alarm. Where memory is full the oldest in it makes room.
func (b *backlog) put(a policies.Alarm) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.memory) >= b.limit {
		b.dropped(b.memory[0].n)
		b.memory = b.memory[1:]
	}
	if b.stats.Queued == 0 {
		b.empty = make(chan struct{})
	}
	b.memory = append(b.memory, waiting{item{b.next, a}, time.Now()})
	b.next++
	b.stats.Queued++
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// dropped counts one that made room. The caller holds b.mu.
func (b *backlog) dropped(n uint64) {
	if _, ok := b.inFlight[n]; ok {
		b.inFlight[n] = true
	}
	if n <= b.reached.published {
		b.stats.Owed--
		b.stats.NotAdded++
		return
	}
	b.lessQueued()
	if b.stats.Dropped++; b.stats.Dropped%int64(b.limit) == 1 || b.limit == 1 {
		b.log.Error("alarms dropped: the bus has been away too long and the queue is full", "queued", b.stats.Queued, "dropped", b.stats.Dropped)
	}
}

// lessQueued takes one away. The caller holds b.mu.
func (b *backlog) lessQueued() {
	if b.stats.Queued--; b.stats.Queued == 0 {
		close(b.empty)
	}
}

// after returns up to max items with numbers above n, the oldest first.
func (b *backlog) after(n uint64, max int) (items []item, err error) {
	b.files.Lock()
	defer b.files.Unlock()
	if b.spool != nil {
		var lost []uint64
		items, lost, err = b.spool.read(n, max)
		b.countDropped(lost)
		if err != nil {
			return items, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.memory {
		if len(items) >= max {
			break
		}
		if w.n > n {
			items = append(items, w.item)
		}
	}
	return items, nil
}

// take is after for what goes on its way now; settle ends that.
func (b *backlog) take(n uint64, max int) ([]item, error) {
	items, err := b.after(n, max)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inFlight = map[uint64]bool{}
	for _, it := range items {
		b.inFlight[it.n] = false
	}
	return items, err
}

// settle counts what the bus has taken of the batch that take gave: items up to published and added are through, of the published
// refused ones were refused for good.
func (b *backlog) settle(batch []item, to progress, refused int64) error {
	b.files.Lock()
	defer b.files.Unlock()
	b.mu.Lock()
	for _, it := range batch {
		b.through(it.n, to)
	}
	b.stats.Delivered -= refused
	b.stats.Refused += refused
	b.reached = progress{max(b.reached.published, to.published), max(b.reached.added, to.added)}
	b.inFlight = nil
	for len(b.memory) > 0 && b.memory[0].n <= b.reached.added {
		b.memory = b.memory[1:]
	}
	if len(b.memory) == 0 {
		b.memory = nil // let go of the array
	}
	reached := b.reached
	b.mu.Unlock()
	if b.spool == nil || len(b.spool.segments) == 0 {
		return nil
	}
	return b.spool.reached(reached.published, reached.added)
}

// through counts one item. The caller holds b.mu.
func (b *backlog) through(n uint64, to progress) {
	before := b.reached
	if n > before.published && n <= to.published {
		b.stats.Delivered++
		if b.inFlight[n] {
			b.stats.Dropped-- // it was dropped while it was on its way
			return
		}
		b.lessQueued()
		b.stats.Owed++
	}
	switch {
	case n <= before.added || n > to.added:
	case b.inFlight[n]:
		b.stats.NotAdded--
	default:
		b.stats.Owed--
	}
}

// toDisk moves what has waited long enough into the spool; all of it: everything.
func (b *backlog) toDisk(all bool) {
	b.files.Lock()
	defer b.files.Unlock()
	if b.spool == nil {
		return
	}
	b.mu.Lock()
	var items []item
	if len(b.memory) > 0 && (all || time.Since(b.memory[0].since) >= spoolAfter) {
		for _, w := range b.memory {
			items = append(items, w.item)
		}
	}
	reached := b.reached
	b.mu.Unlock()
	if len(items) == 0 {
		return
	}
	if err := b.spool.reached(reached.published, reached.added); err != nil {
		_ = b.spool.failed(err)
		return
	}
	dropped, err := b.spool.append(items)
	b.countDropped(dropped)
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	last := items[len(items)-1].n
	for len(b.memory) > 0 && b.memory[0].n <= last {
		b.memory = b.memory[1:]
	}
}

func (b *backlog) countDropped(numbers []uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range numbers {
		if n > b.reached.added {
			b.dropped(n)
		}
	}
}

func (b *backlog) notAdded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.NotAdded++
}

func (b *backlog) counters() PublisherStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stats
}

func (b *backlog) place() progress {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reached
}
