package bus

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// Group names the consumer group of a reader that must miss nothing. Readers of one group share the work, so each archive
// and each healer has a group of its own.
type Group struct {
	Name     string
	Consumer string // the same again after a restart: it goes on with what it had not acknowledged
}

// SubscribeGroup makes a subscription that also reads the stream as a member of a consumer group: what a crashed member had
// taken and not acknowledged is handed out again. Its reader calls Ack once it has dealt with messages. Where the server
// permits no group the subscription reads the stream by itself, as one of Subscribe does, and asks again now and then.
func (b *Bus) SubscribeGroup(t policies.Topics, g Group) *Subscription {
	s := b.Subscribe(t)
	s.group = &member{Group: g, recheck: true}
	s.log = s.log.With("group", g.Name)
	s.state.log = s.log
	return s
}

// pacing says how often a group is read, when one that was refused is asked for again, and when entries that a member has
// held this long without acknowledging them are taken over.
type pacing struct{ tick, retry, claim time.Duration }

var usualPacing = pacing{tick: 500 * time.Millisecond, retry: 10 * time.Second, claim: 30 * time.Second}

const (
	groupPage    = 500
	groupTimeout = 3 * time.Second // one command; a cancelled one still takes that long, and a stop has 5 s for all
	lastAck      = time.Second     // for what was dealt with when the subscription ends
	fullQueue    = 0.5             // share of the queue at which the stream keeps what we have not read
)

// member is our place in a group. Subscription.reading guards it, where nothing else is said.
type member struct {
	Group
	stood     bool      // the group was there in the life of this process
	refused   time.Time // when the group was refused; zero: it was not
	said      string    // kind of the refusal that was logged
	claimed   time.Time // when entries of others were last taken over
	oldServer bool      // without XAUTOCLAIM

	mu      sync.Mutex // guards what follows
	recheck bool       // something may have been handed to us that did not reach us
	done    []string   // to be acknowledged
}

func (m *member) recheckSoon() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recheck = true
}

func (m *member) takeRecheck() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.recheck
	m.recheck = false
	return r
}

// due reports whether the group may be asked for.
func (m *member) due(now time.Time) bool { return m.refused.IsZero() || !now.Before(m.refused) }

// startFollowing reads the stream beside Pub/Sub until the returned function is called, which waits for the end.
func (s *Subscription) startFollowing(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(s.pacing.tick)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				if s.group != nil && s.connected.Load() {
					last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastAck)
					s.sendDone(last)
					cancel()
				}
				return
			case now := <-ticker.C:
				if s.group != nil {
					s.follow(ctx, now)
				}
				s.finishCatchUp(ctx)
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// finishCatchUp goes on where the time for it was too short, or the queue too full.
func (s *Subscription) finishCatchUp(ctx context.Context) {
	s.reading.Lock()
	behind := s.behind
	s.reading.Unlock()
	if behind && s.connected.Load() {
		s.catchUp(ctx)
	}
}

// follow reads what is new in the group. Pub/Sub is faster as a rule: then these are duplicates that wait to be acknowledged.
func (s *Subscription) follow(ctx context.Context, now time.Time) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if !s.connected.Load() || !s.group.due(now) {
		return // subscribed reads it first
	}
	s.sendDone(ctx)
	if !s.hasRoom() {
		return // nothing would be asked of the group, which says nothing of whether there is one
	}
	err := s.drain(ctx)
	if err == nil && now.Sub(s.group.claimed) >= s.pacing.claim {
		s.group.claimed = now
		if err := s.claim(ctx); err != nil && !isPassing(err) {
			s.bus.stream.refused(s.log, "stream entries of others not taken over", err)
		}
	}
	s.groupRefused(err)
}

// groupRefused reports whether the group is not to be had. It is logged once a kind.
func (s *Subscription) groupRefused(err error) bool {
	m := s.group
	switch {
	case err == nil:
		if !m.refused.IsZero() {
			s.log.Info("the stream's consumer group is there now")
		}
		m.refused, m.said = time.Time{}, ""
		return false
	case isPassing(err):
		return false
	}
	m.refused = time.Now().Add(s.pacing.retry)
	if kind := errorKind(err); kind != m.said {
		m.said = kind
		s.log.Warn("no consumer group on the stream: it is read on from our place after a fault, and what a crash leaves undone is not read again",
			"consumer", m.Consumer, "cause", kind, "err", err)
	}
	return true
}

// drain reads what we had not acknowledged, where that may be more than we know of, and then what is new. The caller holds
// s.reading.
func (s *Subscription) drain(ctx context.Context) error {
	if s.group.takeRecheck() {
		if err := s.pages(ctx, "0-0"); err != nil {
			s.group.recheckSoon()
			return err
		}
	}
	err := s.pages(ctx, ">")
	if err != nil {
		s.group.recheckSoon()
	}
	return err
}

// pages reads entries after an id of ours, or new ones (">"), until there are none or the queue fills.
func (s *Subscription) pages(ctx context.Context, from string) error {
	for s.hasRoom() {
		entries, err := s.page(ctx, from)
		if errorIs(err, "NOGROUP") {
			if err = s.makeGroup(ctx); err == nil {
				entries, err = s.page(ctx, from)
			}
		}
		if err != nil {
			return err
		}
		s.group.stood = true
		if err := s.handOver(ctx, entries); err != nil {
			return err
		}
		if len(entries) < groupPage {
			return nil
		}
		if from != ">" {
			from = entries[len(entries)-1].ID
		}
	}
	if from != ">" {
		s.group.recheckSoon()
	}
	return nil
}

func (s *Subscription) page(ctx context.Context, from string) ([]redis.XMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, groupTimeout)
	defer cancel()
	streams, err := s.client.XReadGroup(ctx, &redis.XReadGroupArgs{Group: s.group.Name, Consumer: s.group.Consumer,
		Streams: []string{policies.StreamKey(s.bus.prefix), from}, Count: groupPage, Block: -1}).Result()
	if errors.Is(err, redis.Nil) || err == nil && len(streams) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return streams[0].Messages, nil
}

// makeGroup begins where we are: at the beginning where history is wanted, or where the server lost a group that there was.
// It comes after NOGROUP only: a full server refuses XGROUP CREATE of a group that is there, too.
func (s *Subscription) makeGroup(ctx context.Context) error {
	start := "$"
	switch {
	case s.topics.History || s.group.stood:
		start = "0"
	case s.placed:
		start = s.position.String()
	}
	ctx, cancel := context.WithTimeout(ctx, groupTimeout)
	defer cancel()
	err := s.client.XGroupCreateMkStream(ctx, policies.StreamKey(s.bus.prefix), s.group.Name, start).Err()
	if errorIs(err, "BUSYGROUP") {
		return nil
	}
	return err
}

// handOver queues entries; what is not for our reader is acknowledged at once, and so is what the cap took before we had it.
func (s *Subscription) handOver(ctx context.Context, entries []redis.XMessage) error {
	var done []string
	gone := 0
	for _, e := range entries {
		id, err := parseStreamID(e.ID)
		if err != nil {
			return err
		}
		if s.position.less(id) {
			s.position, s.placed = id, true
		}
		m, ok := entryMessage(e, id)
		if len(e.Values) == 0 {
			gone++
		}
		if !ok || !s.wants(m.Channel) {
			done = append(done, e.ID)
			continue
		}
		m.Entry = e.ID
		s.push(m)
	}
	if gone > 0 {
		s.log.Error("the stream dropped entries before they were dealt with: it holds too few for so long an absence", "count", gone)
	}
	return s.acknowledge(ctx, done)
}

// claim takes over what members that are gone had not acknowledged; it comes with what we have not acknowledged ourselves.
func (s *Subscription) claim(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, groupTimeout)
	defer cancel()
	n, err := s.autoClaim(ctx)
	if err != nil && errorKind(err) == "unknown-command" {
		s.group.oldServer = true
		n, err = s.claimPending(ctx)
	}
	if n > 0 {
		s.group.recheckSoon()
	}
	return err
}

func (s *Subscription) autoClaim(ctx context.Context) (n int, err error) {
	if s.group.oldServer {
		return s.claimPending(ctx)
	}
	for start := "0-0"; ; {
		ids, next, err := s.client.XAutoClaimJustID(ctx, &redis.XAutoClaimArgs{Stream: policies.StreamKey(s.bus.prefix), Group: s.group.Name,
			Consumer: s.group.Consumer, MinIdle: s.pacing.claim, Start: start, Count: groupPage}).Result()
		n += len(ids)
		if err != nil || next == "0-0" || next == "" {
			return n, err
		}
		start = next
	}
}

// claimPending is for Redis 6.0. XCLAIM asks for the idle time again, so two members never take the same entry.
func (s *Subscription) claimPending(ctx context.Context) (n int, err error) {
	key := policies.StreamKey(s.bus.prefix)
	for start := "-"; ; {
		pending, err := s.client.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: key, Group: s.group.Name, Start: start, End: "+", Count: groupPage}).Result()
		if err != nil {
			return n, err
		}
		var ids []string
		for _, p := range pending {
			if p.Idle >= s.pacing.claim {
				ids = append(ids, p.ID)
			}
		}
		if len(ids) > 0 {
			got, err := s.client.XClaimJustID(ctx, &redis.XClaimArgs{Stream: key, Group: s.group.Name, Consumer: s.group.Consumer,
				MinIdle: s.pacing.claim, Messages: ids}).Result()
			if n += len(got); err != nil {
				return n, err
			}
		}
		if len(pending) < groupPage {
			return n, nil
		}
		last, err := parseStreamID(pending[len(pending)-1].ID)
		if err != nil {
			return n, err
		}
		start = last.next().String()
	}
}

// Ack tells the group that messages are dealt with: they are not handed out again. Those of Pub/Sub need none. It does not
// wait; what cannot be acknowledged comes again, and is a duplicate then.
func (s *Subscription) Ack(batch []policies.Message) {
	if s.group == nil {
		return
	}
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	for _, m := range batch {
		if m.Entry != "" {
			s.group.done = append(s.group.done, m.Entry)
		}
	}
}

func (m *member) takeDone() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	done := m.done
	m.done = nil
	return done
}

// sendDone acknowledges what Ack was given.
func (s *Subscription) sendDone(ctx context.Context) {
	if err := s.acknowledge(ctx, s.group.takeDone()); err != nil {
		s.group.recheckSoon()
		if !isPassing(err) {
			s.bus.stream.refused(s.log, "stream entries not acknowledged", err)
		}
	}
}

func (s *Subscription) acknowledge(ctx context.Context, ids []string) error {
	if s.group == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, groupTimeout)
	defer cancel()
	for page := range slices.Chunk(ids, groupPage) {
		if err := s.client.XAck(ctx, policies.StreamKey(s.bus.prefix), s.group.Name, page...).Err(); err != nil {
			return err
		}
	}
	return nil
}
