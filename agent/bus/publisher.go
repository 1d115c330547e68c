package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

const (
	publisherQueue = 10_000          // alarms waiting for a bus that is away
	stopTimeout    = 2 * time.Second // for what waits when the publisher is stopped
)

// Publisher sends alarms from a queue, so that a bus that is away or slow never holds up who publishes. Alarms go out
// in the order they came; each is tried until the server has taken it. It is safe for concurrent use.
type Publisher struct {
	send  func(context.Context, policies.Alarm) (int64, error)
	cut   func() // ends a send under way; may be nil
	limit int
	log   *slog.Logger
	state link
	wake  chan struct{} // capacity 1: something was queued

	mu    sync.Mutex // guards what follows
	queue []policies.Alarm
	stats PublisherStats
	empty chan struct{} // closed while the queue is empty

	refused map[policies.Severity]bool // that this was logged
}

// PublisherStats counts since the start.
type PublisherStats struct {
	Queued    int   // waiting now
	Delivered int64 // taken by the server
	Dropped   int64 // the oldest of a full queue
	Refused   int64 // the server permits no publication to the channel (NOPERM)
}

// NewPublisher makes a publisher with room for 10,000 waiting alarms; Run delivers.
func (b *Bus) NewPublisher() *Publisher {
	p := newPublisher(b.Send, publisherQueue, b.log)
	p.cut = b.wire.cut
	return p
}

func newPublisher(send func(context.Context, policies.Alarm) (int64, error), limit int, log *slog.Logger) *Publisher {
	p := &Publisher{send: send, limit: limit, log: log, wake: make(chan struct{}, 1), empty: make(chan struct{}),
		refused: map[policies.Severity]bool{}, state: link{log: log, what: "publishing"}}
	close(p.empty)
	return p
}

// Publish queues an alarm and never waits. In a full queue the oldest makes room, which is counted and logged. The
// error is a *policies.MalformedAlarm: this alarm can never be sent.
func (p *Publisher) Publish(_ context.Context, a policies.Alarm) error {
	if _, err := policies.EncodeAlarm(a); err != nil {
		return fmt.Errorf("publish alarm of %s: %w", policies.Printable(a.Instance, 100), err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		p.empty = make(chan struct{})
	}
	if len(p.queue) >= p.limit {
		p.drop()
	}
	p.queue = append(p.queue, a)
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return nil
}

// drop makes room. The caller holds p.mu.
func (p *Publisher) drop() {
	p.queue = p.queue[1:]
	if p.stats.Dropped++; p.stats.Dropped%int64(p.limit) == 1 || p.limit == 1 {
		p.log.Error("alarms dropped: the bus has been away too long and the queue is full", "queued", p.limit, "dropped", p.stats.Dropped)
	}
}

// Stats is a copy of the counters.
func (p *Publisher) Stats() PublisherStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Queued = len(p.queue)
	return s
}

// Flush waits until nothing is queued, or for the context's end.
func (p *Publisher) Flush(ctx context.Context) error {
	p.mu.Lock()
	empty := p.empty
	p.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d alarms still wait for the bus: %w", p.Stats().Queued, ctx.Err())
	}
}

// Run delivers until the context ends, and then what still waits, for at most 2 s. It returns nil.
func (p *Publisher) Run(ctx context.Context) error {
	last, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(stopTimeout, func() {
			cancel()
			if p.cut != nil {
				p.cut()
			}
		})
	})
	defer stop()
	for p.next(ctx) {
		p.deliver(ctx)
	}
	for p.Stats().Queued > 0 && last.Err() == nil && !p.state.lost() {
		p.deliver(last)
	}
	if n := p.Stats().Queued; n > 0 {
		p.log.Error("stopped with alarms that the bus has not taken", "queued", n)
	}
	return nil
}

// next waits for something to deliver; false at the context's end.
func (p *Publisher) next(ctx context.Context) bool {
	for p.Stats().Queued == 0 {
		select {
		case <-p.wake:
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

// deliver tries the oldest alarm once, and pauses when the bus did not take it.
func (p *Publisher) deliver(ctx context.Context) {
	p.mu.Lock()
	a, before := p.queue[0], p.stats.Dropped
	p.mu.Unlock()
	_, err := p.send(ctx, a)
	refused := errorIs(err, "NOPERM")
	if err != nil && !refused {
		if ctx.Err() == nil {
			p.state.failed(err)
			pause(ctx, p.state.backoff())
		}
		return
	}
	p.state.works()
	p.mu.Lock()
	defer p.mu.Unlock()
	if refused && !p.refused[a.Severity] {
		p.refused[a.Severity] = true
		p.log.Error("the bus permits no publication to this channel, its alarms are lost; grant it with ACL SETUSER", "severity", a.Severity.String(), "err", err)
	}
	p.taken(refused, before)
}

// taken removes the alarm that was sent, unless the queue dropped it meanwhile. The caller holds p.mu.
func (p *Publisher) taken(refused bool, droppedBefore int64) {
	if refused {
		p.stats.Refused++
	} else {
		p.stats.Delivered++
	}
	if p.stats.Dropped > droppedBefore {
		p.stats.Dropped-- // it was dropped while it was on its way
		return
	}
	p.queue = p.queue[1:]
	if len(p.queue) == 0 {
		p.queue = nil // let go of the array
		close(p.empty)
	}
}

// errorIs reports a server's error by its first word.
func errorIs(err error, prefix string) bool {
	var reply redis.Error
	return errors.As(err, &reply) && errorKind(reply) == prefix
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
