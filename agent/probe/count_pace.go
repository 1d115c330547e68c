package probe

import (
	"slices"
	"time"
)

// The pace of a count. A SCAN is asked for at least leastBatch keys, however long one takes, and for firstBatch at first.
const (
	firstBatch = 100
	leastBatch = 50
	mostBatch  = 1000
	callTarget = 500 * time.Microsecond
	leastRest  = time.Millisecond
	restFactor = 3 // rests per call: the replica is busy with the count for a quarter of the time at most
)

// A pace sizes the calls of a count and the rests between them.
type pace struct {
	most  int // keys that one SCAN may be asked for
	count int // of the next SCAN
	scans meter
	reads meter // of one key's TTL and size
}

func newPace(most int) *pace { return &pace{most: most, count: min(firstBatch, most)} }

// scanned takes what the SCAN of the current size took without the round trip, sizes the next one, at most twice as large, and
// returns the rest that is owed.
func (p *pace) scanned(took time.Duration) time.Duration {
	p.scans.add(p.count, took)
	owed := restFactor * p.scans.cost(p.count)
	fit := 2 * p.count
	if each := p.scans.cost(1); each > 0 {
		fit = min(fit, max(int(callTarget/each), leastBatch))
	}
	p.count = min(fit, p.most)
	return owed
}

// read takes what reading n keys took, without the round trip, and returns the rest that is owed.
func (p *pace) read(n int, took time.Duration) time.Duration {
	p.reads.add(n, took)
	return restFactor * p.reads.cost(n)
}

// A meter tells what a unit of work costs the server. It believes the least of its last calls: what is measured from here holds
// the waits of a busy machine and network too.
type meter struct {
	each []time.Duration
}

func (m *meter) add(units int, took time.Duration) {
	if units <= 0 {
		return
	}
	m.each = append(m.each, max(took, 0)/time.Duration(units))
	m.each = m.each[max(len(m.each)-5, 0):]
}

// cost is what so many units take; 0 before the first call.
func (m *meter) cost(units int) time.Duration {
	if len(m.each) == 0 {
		return 0
	}
	return time.Duration(units) * slices.Min(m.each)
}
