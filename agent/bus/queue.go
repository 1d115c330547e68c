package bus

import (
	"context"
	"sync"
	"time"

	"dcshealer/policies"
)

const (
	queueMessages = 200_000
	queueBytes    = 32 << 20
	messageCost   = 128 // bytes that a message takes beside its payload, about
)

// queue holds messages between the socket and a slower consumer. It is bounded in number and bytes; when it is full
// the oldest make room. It is safe for concurrent use.
type queue struct {
	maxCount, maxBytes int
	wake               chan struct{} // capacity 1

	mu     sync.Mutex // guards what follows
	items  []policies.Message
	bytes  int
	closed bool
}

func newQueue(maxCount, maxBytes int) *queue {
	return &queue{maxCount: maxCount, maxBytes: maxBytes, wake: make(chan struct{}, 1)}
}

// push never waits. It returns how many messages were dropped for this one; one too big for the whole queue drops itself.
func (q *queue) push(m policies.Message) (dropped int) {
	cost := len(m.Payload) + messageCost
	q.mu.Lock()
	defer q.mu.Unlock()
	if cost > q.maxBytes {
		return 1
	}
	for len(q.items) > 0 && (len(q.items) >= q.maxCount || q.bytes+cost > q.maxBytes) {
		q.shift()
		dropped++
	}
	q.items = append(q.items, m)
	q.bytes += cost
	q.signal()
	return dropped
}

// shift takes the oldest. The caller holds q.mu and knows that there is one.
func (q *queue) shift() policies.Message {
	m := q.items[0]
	q.items[0] = policies.Message{} // let go of the payload
	q.items = q.items[1:]
	q.bytes -= len(m.Payload) + messageCost
	if len(q.items) == 0 {
		q.items = nil
	}
	return m
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// close lets batch end once the queue is empty.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.signal()
}

// share is how full the queue is, from 0 to 1.
func (q *queue) share() float64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return max(float64(len(q.items))/float64(q.maxCount), float64(q.bytes)/float64(q.maxBytes))
}

func (q *queue) take(into []policies.Message, max int) (_ []policies.Message, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) > 0 && len(into) < max {
		into = append(into, q.shift())
	}
	return into, q.closed
}

// batch waits for a message, and then up to linger for more, max at most. It returns none once the context has ended,
// or the queue is closed and empty. One consumer at a time.
func (q *queue) batch(ctx context.Context, max int, linger time.Duration) []policies.Message {
	var got []policies.Message
	var timer <-chan time.Time
	for {
		var closed bool
		got, closed = q.take(got, max)
		if len(got) >= max || closed || len(got) > 0 && linger <= 0 {
			q.rewake(closed)
			return got
		}
		if len(got) > 0 && timer == nil {
			t := time.NewTimer(linger)
			defer t.Stop()
			timer = t.C
		}
		select {
		case <-q.wake:
		case <-timer:
			return got
		case <-ctx.Done():
			return got
		}
	}
}

// rewake keeps the next batch from waiting on a queue that is closed already.
func (q *queue) rewake(closed bool) {
	if closed {
		q.signal()
	}
}
