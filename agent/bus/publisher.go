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
	publisherQueue = 10_000          // alarms waiting in memory for a bus that is away
	publisherBatch = 64              // alarms that go out in one round trip
	stopTimeout    = 2 * time.Second // for what waits when the publisher is stopped
)

// Publisher sends alarms from a queue, so that a bus that is away or slow never holds up who publishes. Alarms go out in the
// order they came; each is tried until the server has taken it. Where the server passes an alarm on and refuses to add it to the
// stream (it is full), the addition is tried again, in order, while newer alarms go out. It is safe for concurrent use.
type Publisher struct {
	carry   func(context.Context, []parcel)
	cut     func() // ends a send under way; may be nil
	log     *slog.Logger
	state   link
	adding  link
	backlog *backlog
	again   time.Time // when additions are tried again
	stream  *streamFaults

	refused map[policies.Severity]bool // that this was logged
}

// PublisherStats counts since the start; what waits includes what an earlier run left in the spool.
type PublisherStats struct {
	Queued    int   // waiting now to be published
	Owed      int   // published, and waiting now to be added to the stream
	Delivered int64 // taken by the server
	Dropped   int64 // the oldest of a full queue
	NotAdded  int64 // published, and never added to the stream: it was refused too long, or for good
	Refused   int64 // the server permits no publication to the channel (NOPERM)
}

// NewPublisher makes a publisher with room for 10,000 waiting alarms; Run delivers.
func (b *Bus) NewPublisher() *Publisher { return b.newPublisher(nil) }

// NewSpoolingPublisher keeps what waits longer than a moment in a folder of its own, 64 MiB at most: it is delivered by the next
// publisher on the folder if this process ends. Where the folder cannot be used, which is logged, it is as NewPublisher.
func (b *Bus) NewSpoolingPublisher(dir string) *Publisher {
	s, err := openSpool(dir, spoolBytes, b.log)
	if err != nil {
		b.log.Error("alarms that wait for the bus cannot be kept on disk; they wait in memory", "err", fmt.Errorf("open spool %s: %w", dir, err))
	}
	return b.newPublisher(s)
}

func (b *Bus) newPublisher(s *spool) *Publisher {
	p := newPublisher(b.carry, newBacklog(publisherQueue, s, b.log), b.log)
	p.cut, p.stream = b.wire.cut, &b.stream
	return p
}

func newPublisher(carry func(context.Context, []parcel), waiting *backlog, log *slog.Logger) *Publisher {
	return &Publisher{carry: carry, backlog: waiting, log: log, stream: &streamFaults{}, refused: map[policies.Severity]bool{},
		state: link{log: log, what: "publishing"}, adding: link{log: slog.New(slog.DiscardHandler), what: "adding to the stream"}}
}

// Publish queues an alarm and never waits. In a full queue the oldest makes room, which is counted and logged. The
// error is a *policies.MalformedAlarm: this alarm can never be sent.
func (p *Publisher) Publish(_ context.Context, a policies.Alarm) error {
	if _, err := policies.EncodeAlarm(a); err != nil {
		return fmt.Errorf("publish alarm of %s: %w", policies.Printable(a.Instance, 100), err)
	}
	p.backlog.put(a)
	return nil
}

// Stats is a copy of the counters.
func (p *Publisher) Stats() PublisherStats { return p.backlog.counters() }

// Flush waits until nothing waits to be published, or for the context's end.
func (p *Publisher) Flush(ctx context.Context) error {
	p.backlog.mu.Lock()
	empty := p.backlog.empty
	p.backlog.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d alarms still wait for the bus: %w", p.Stats().Queued, ctx.Err())
	}
}

// Run delivers until the context ends, and then what still waits, for at most 2 s; the rest stays in the spool. It returns nil,
// and may be called once.
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
	spooled := p.startSpooling(ctx)
	for ctx.Err() == nil {
		if !p.deliver(ctx) {
			p.wait(ctx)
		}
	}
	for p.Stats().Queued > 0 && last.Err() == nil && !p.state.lost() {
		p.deliver(last)
	}
	spooled()
	p.end()
	return nil
}

// startSpooling moves what waits to disk until the returned function is called, which moves the rest.
func (p *Publisher) startSpooling(ctx context.Context) (stop func()) {
	if p.backlog.spool == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(spoolAfter / 2)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				p.backlog.toDisk(false)
			case <-ctx.Done():
				p.backlog.toDisk(true)
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

func (p *Publisher) end() {
	s, kept := p.Stats(), false
	if spool := p.backlog.spool; spool != nil {
		kept = !spool.failing
		if err := spool.close(); err != nil {
			p.log.Warn("the spool was not closed well", "err", err)
		}
	}
	switch {
	case s.Queued+s.Owed == 0:
	case kept:
		p.log.Info("stopped; alarms that the bus has not taken are kept on disk for the next start", "queued", s.Queued, "owed", s.Owed)
	default:
		p.log.Error("stopped with alarms that the bus has not taken", "queued", s.Queued, "owed", s.Owed)
	}
}

// wait returns when there may be something to deliver.
func (p *Publisher) wait(ctx context.Context) {
	var timer <-chan time.Time
	if p.Stats().Owed > 0 {
		t := time.NewTimer(max(time.Until(p.again), backoffMin/10))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-p.backlog.wake:
	case <-timer:
	case <-ctx.Done():
	}
}

// deliver tries the oldest alarms once, and pauses when the bus did not take them; then what the stream is owed. It reports
// whether there was something to try.
func (p *Publisher) deliver(ctx context.Context) bool {
	place := p.backlog.place()
	items, err := p.backlog.take(place.published, publisherBatch)
	if err != nil {
		p.unreadable(ctx, err)
		return true
	}
	tried := len(items) > 0
	if tried && !p.publish(ctx, place, items) {
		return true
	}
	place = p.backlog.place()
	if place.added == place.published || time.Now().Before(p.again) {
		return tried
	}
	return p.pay(ctx, place) || tried
}

// unreadable waits for a disk that does not answer as it should.
func (p *Publisher) unreadable(ctx context.Context, err error) {
	p.state.failed(fmt.Errorf("read the spool: %w", err))
	pause(ctx, p.state.backoff())
}

// publish sends a batch, and adds it to the stream where the stream is owed nothing older. It reports whether all went out.
func (p *Publisher) publish(ctx context.Context, place progress, items []item) bool {
	batch := make([]parcel, len(items))
	for i, it := range items {
		batch[i] = parcel{alarm: it.alarm, publish: true, add: place.added == place.published}
	}
	p.carry(ctx, batch)
	to, refused := place, int64(0)
	var failure error
	for i, it := range items {
		err := batch[i].pubErr
		if err != nil && !isHopeless(err) {
			failure = err
			break
		}
		to.published = it.n
		if err != nil {
			refused++
			p.sayRefused(it.alarm.Severity, err)
		}
	}
	if batch[0].add {
		to.added = p.advance(items, batch, place.added, to.published)
	}
	p.settle(items, to, refused)
	if failure == nil {
		p.state.works()
		return true
	}
	if ctx.Err() == nil {
		p.state.failed(failure)
		pause(ctx, p.state.backoff())
	}
	return false
}

// isHopeless reports an alarm that no later try would bring out: the next ones must not wait behind it.
func isHopeless(err error) bool {
	var bad *policies.MalformedAlarm
	return errorIs(err, "NOPERM") || errors.As(err, &bad)
}

// pay adds to the stream what was published without. It reports whether there was something to add and it was taken.
func (p *Publisher) pay(ctx context.Context, place progress) bool {
	items, err := p.backlog.take(place.added, publisherBatch)
	if err != nil {
		p.unreadable(ctx, err)
		return true
	}
	for len(items) > 0 && items[len(items)-1].n > place.published {
		items = items[:len(items)-1]
	}
	if len(items) == 0 { // the spool dropped them
		p.settle(nil, progress{place.published, place.published}, 0)
		return false
	}
	batch := make([]parcel, len(items))
	for i, it := range items {
		batch[i] = parcel{alarm: it.alarm, add: true}
	}
	p.carry(ctx, batch)
	added := p.advance(items, batch, place.added, place.published)
	p.settle(items, progress{place.published, added}, 0)
	if added == place.published {
		p.log.Info("the stream has all that it was owed")
	}
	return added == items[len(items)-1].n
}

// advance is how far the stream has the items; what it refuses for good counts as had.
func (p *Publisher) advance(items []item, batch []parcel, added, published uint64) uint64 {
	for i, it := range items {
		err := batch[i].addErr
		switch {
		case it.n > published:
			return added
		case err != nil:
			p.stream.refused(p.log, "alarm not added to the stream", err)
			if isForGood(err) {
				p.backlog.notAdded()
				break
			}
			p.adding.failed(err)
			p.again = time.Now().Add(p.adding.backoff())
			return added
		default:
			p.adding.works()
		}
		added = it.n
	}
	return added
}

func (p *Publisher) settle(items []item, to progress, refused int64) {
	if err := p.backlog.settle(items, to, refused); err != nil {
		p.log.Error("how far the bus has the spool cannot be written: after a crash alarms are sent again", "err", err)
	}
}

func (p *Publisher) sayRefused(s policies.Severity, err error) {
	if !p.refused[s] {
		p.refused[s] = true
		p.log.Error("alarms of this severity are refused and lost; where the bus permits no publication grant it with ACL SETUSER", "severity", s.String(), "err", err)
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
