package bus

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// Subscription receives messages and keeps receiving: it connects and subscribes again after a fault, and then reads
// from the stream what it missed. Run does the work; Batch hands the messages over through a queue of 200,000 messages
// and 32 MiB, so that a slow consumer never stops the socket. What the queue has to drop is counted and logged.
type Subscription struct {
	bus    *Bus
	topics policies.Topics
	log    *slog.Logger
	queue  *queue
	state  link
	wire   *wire
	client *redis.Client // for commands: the stream's and canaries; one connection. Set by Run
	ready  chan struct{}
	timing timing

	group  *member // nil: it reads the stream by itself
	pacing pacing
	ear    ear

	connected atomic.Bool
	dropped   atomic.Int64

	confirmed map[string]bool // only Run's goroutine touches it

	reading  sync.Mutex // guards what follows, and orders what is read from the stream
	position streamID   // the newest entry of the stream that we know of
	placed   bool       // position is set
	behind   bool       // there was no time, or no room in the queue, to read on to the end

	spell    sync.Mutex // guards dropping
	dropping int64      // dropped when the current spell began; 0: none
}

// timing says when silence becomes suspicious, and when it is a lost connection. A process that was stopped and a
// network that is gone close no connection.
// canary is the time between two canaries, and deaf that within which one comes back.
type timing struct{ tick, ping, dead, canary, deaf time.Duration }

var usualTiming = timing{tick: time.Second, ping: 3 * time.Second, dead: 9 * time.Second, canary: 5 * time.Second, deaf: 5 * time.Second}

// Subscribe makes a subscription; nothing is received before Run.
func (b *Bus) Subscribe(t policies.Topics) *Subscription {
	log := b.log.With("topics", strings.Join(topicNames(t, b.prefix), " "))
	return &Subscription{bus: b, topics: t, log: log, queue: newQueue(queueMessages, queueBytes), ready: make(chan struct{}),
		state: link{log: log, what: "subscription"}, timing: usualTiming, pacing: usualPacing, wire: &wire{base: b.newDialer()}}
}

// Ready is closed once the server has confirmed the whole subscription for the first time.
func (s *Subscription) Ready() <-chan struct{} { return s.ready }

// Dropped counts the messages that a full queue has lost.
func (s *Subscription) Dropped() int64 { return s.dropped.Load() }

// Connected reports whether the subscription stands now.
func (s *Subscription) Connected() bool { return s.connected.Load() }

// Batch waits for a message, and then up to linger for more, max at most. It returns none once
// Run has returned and all was handed over, or where ctx ends first. For one consumer at a time.
func (s *Subscription) Batch(ctx context.Context, max int, linger time.Duration) []policies.Message {
	return s.queue.batch(ctx, max, linger)
}

// Run receives until the context ends; it returns nil then. It may be called once.
func (s *Subscription) Run(ctx context.Context) error {
	defer s.queue.close()
	client := s.bus.newClient(s.wire.dial)
	defer client.Close()
	ps := client.Subscribe(ctx) // no channels: connects to nothing yet
	defer ps.Close()
	commands := &wire{base: s.bus.newDialer()}
	s.client = s.bus.newClient(commands.dial, func(o *redis.Options) { o.PoolSize = 1 })
	defer s.client.Close()
	stop := context.AfterFunc(ctx, func() { ps.Close(); s.wire.cut(); commands.cut() }) // a cancelled context alone interrupts no read
	defer stop()
	s.register(ctx, ps)
	watched := s.startWatch(ctx, ps)
	defer watched()
	followed := s.startFollowing(ctx)
	defer func() { followed(); s.connected.Store(false) }()
	for ctx.Err() == nil {
		reply, err := ps.Receive(ctx)
		if err == nil {
			s.handle(ctx, reply)
		} else if ctx.Err() == nil {
			s.lost(ctx, err)
		}
	}
	return nil
}

// register tells go-redis what to subscribe to, now and on each later connection. Its errors come back from Receive.
func (s *Subscription) register(ctx context.Context, ps *redis.PubSub) {
	if s.topics.All {
		_ = ps.PSubscribe(ctx, topicNames(s.topics, s.bus.prefix)...)
	} else {
		_ = ps.Subscribe(ctx, topicNames(s.topics, s.bus.prefix)...)
	}
	s.confirmed = map[string]bool{}
}

// lost waits before the next try. After an error reply the connection is cut, because go-redis would keep it and never
// send the refused SUBSCRIBE again.
func (s *Subscription) lost(ctx context.Context, err error) {
	s.connected.Store(false)
	clear(s.confirmed)
	s.state.failed(err)
	var reply redis.Error
	if errors.As(err, &reply) {
		s.wire.cut()
	}
	pause(ctx, s.state.backoff())
}

func (s *Subscription) handle(ctx context.Context, reply any) {
	switch r := reply.(type) {
	case *redis.Subscription:
		s.confirmed[r.Channel] = true
		if s.complete() {
			s.subscribed(ctx)
		}
	case *redis.Message:
		payload := []byte(r.Payload)
		if s.ear.message(r.Channel, payload, s.bus.prefix) || !s.topics.All && r.Channel == policies.CanaryChannel(s.bus.prefix) {
			return
		}
		s.push(policies.Message{Channel: r.Channel, Payload: payload, At: time.Now().UTC()})
	}
}

func (s *Subscription) complete() bool {
	for _, name := range topicNames(s.topics, s.bus.prefix) {
		if !s.confirmed[name] {
			return false
		}
	}
	return true
}

// subscribed is called on each connection once all of it is confirmed.
func (s *Subscription) subscribed(ctx context.Context) {
	if s.connected.Swap(true) {
		return
	}
	s.state.works()
	s.catchUp(ctx)
	s.ear.again() // nobody listened meanwhile
	select {
	case <-s.ready:
	default:
		close(s.ready)
	}
}

// catchUp reads the stream on from where we were; on the first connection it only finds the place, unless history is
// wanted. Live messages wait in the server meanwhile; those that are in the stream too come twice, with the same id.
func (s *Subscription) catchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	s.reading.Lock()
	defer s.reading.Unlock()
	s.behind = false
	for {
		err := s.readOn(ctx)
		if s.behind = errors.Is(err, errNoRoom); s.behind || err == nil || errors.Is(ctx.Err(), context.Canceled) {
			return
		}
		// After a restart of the server each connection left in the pool fails once, and it may still be loading: what was
		// missed must not hang on that.
		if s.behind = isPassing(err) && ctx.Err() != nil; s.behind || !isPassing(err) {
			s.bus.stream.refused(s.log, "stream not read", err)
			return
		}
		pause(ctx, catchUpPause)
	}
}

// catchUpPause lies between two tries to read the stream.
const catchUpPause = 50 * time.Millisecond

// isPassing reports an error that says nothing of what the server permits: it may be gone at the next try.
func isPassing(err error) bool {
	var reply redis.Error
	return !errors.As(err, &reply) || errorIs(err, "LOADING") || errorIs(err, "BUSY") || errorIs(err, "MASTERDOWN")
}

// readOn hands over what the stream holds beyond our place in it. The caller holds s.reading.
func (s *Subscription) readOn(ctx context.Context) error {
	if !s.hasRoom() {
		return errNoRoom
	}
	if s.group != nil && s.group.due(time.Now()) {
		err := s.drain(ctx)
		if !s.groupRefused(err) {
			return err
		}
	}
	last, err := s.bus.lastID(ctx, s.client)
	if err != nil {
		return err
	}
	if !s.placed && !s.topics.History {
		s.position, s.placed = last, true
		return nil
	}
	if last.less(s.position) {
		s.position = streamID{} // a server that lost its data, or another one
	}
	s.position, err = s.bus.since(ctx, s.client, s.position, s.hasRoom, s.pushIfWanted)
	s.placed = s.placed || err == nil || errors.Is(err, errNoRoom)
	return err
}

// hasRoom reports whether the queue takes a page of the stream without dropping what came before it.
func (s *Subscription) hasRoom() bool { return s.queue.share() < fullQueue }

func (s *Subscription) pushIfWanted(m policies.Message) {
	if s.wants(m.Channel) {
		s.push(m)
	}
}

func (s *Subscription) wants(channel string) bool {
	severity, ok := policies.ChannelSeverity(s.bus.prefix, channel)
	return ok && (s.topics.All || slices.Contains(s.topics.Severities, severity))
}

func (s *Subscription) push(m policies.Message) {
	n := int64(s.queue.push(m))
	total := s.dropped.Add(n)
	s.spell.Lock()
	defer s.spell.Unlock()
	switch {
	case n > 0 && s.dropping == 0:
		s.dropping = total - n + 1
		s.log.Error("messages dropped: their reader is too slow and the queue is full", "dropped", total)
	case n == 0 && s.dropping > 0 && s.queue.share() < 0.5:
		s.log.Warn("the queue has room again", "dropped", total-s.dropping+1)
		s.dropping = 0
	}
}

// topicNames are the channels, that of canaries too, or the one pattern, as the server confirms them.
func topicNames(t policies.Topics, prefix string) []string {
	if t.All {
		return []string{globEscape(prefix) + ":*"}
	}
	names := make([]string, len(t.Severities))
	for i, severity := range t.Severities {
		names[i] = policies.Channel(prefix, severity)
	}
	return append(names, policies.CanaryChannel(prefix))
}

var globSpecial = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

func globEscape(s string) string { return globSpecial.Replace(s) }
