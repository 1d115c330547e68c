package bus

import (
	"errors"
	"hash/maphash"
	"log/slog"
	"maps"
	"sync"
	"time"

	"dcshealer/policies"
)

// What a message can be beside an alarm and a *policies.MalformedAlarm: nothing to show or to act on.
var (
	ErrCanary    = errors.New("a canary")
	ErrDuplicate = errors.New("an alarm that was received before")
)

// rememberedIDs are more than what the stream holds, so that a whole stream read again brings no duplicate.
const rememberedIDs = 1 << 17

// Decoder turns one consumer's messages into alarms. An alarm that comes twice with one id (published again after a
// lost answer, or read from the stream too) is given out once. Malformed messages are counted, and logged once per
// channel and kind. It is safe for concurrent use.
type Decoder struct {
	prefix string
	log    *slog.Logger
	seed   maphash.Seed

	mu     sync.Mutex // guards what follows
	known  map[uint64]bool
	ring   []uint64 // of known, as they came
	oldest int
	counts map[string]int64
	logged map[[2]string]bool
	gaps   *gaps // nil: not looked for
}

// NewDecoder makes a decoder for channels of one prefix.
func NewDecoder(prefix string, log *slog.Logger) *Decoder {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Decoder{prefix: prefix, log: log, seed: maphash.MakeSeed(), known: map[uint64]bool{}, counts: map[string]int64{},
		logged: map[[2]string]bool{}}
}

// Decode reads a message; the alarm's severity is the channel's. The error is ErrCanary, ErrDuplicate or a
// *policies.MalformedAlarm, which has been counted and logged.
func (d *Decoder) Decode(m policies.Message) (policies.Alarm, error) {
	if m.Channel == policies.CanaryChannel(d.prefix) {
		return policies.Alarm{}, ErrCanary
	}
	severity, ok := policies.ChannelSeverity(d.prefix, m.Channel)
	if !ok {
		return policies.Alarm{}, d.malformed("another", m, &policies.MalformedAlarm{Kind: policies.MalformedChannel,
			Detail: "channel " + policies.Printable(m.Channel, 100)})
	}
	a, err := policies.DecodeAlarm(m.Payload)
	if err != nil {
		return policies.Alarm{}, d.malformed(m.Channel, m, err)
	}
	a.Severity = severity
	if a.ID != "" && !d.isNew(a, time.Now()) {
		return a, ErrDuplicate
	}
	return a, nil
}

// Malformed is the number of malformed messages by kind.
func (d *Decoder) Malformed() map[string]int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.counts)
}

// malformed counts under a channel name that is one of few, or anyone could fill our memory with channels.
func (d *Decoder) malformed(channel string, m policies.Message, err error) error {
	var bad *policies.MalformedAlarm
	if !errors.As(err, &bad) {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts[bad.Kind]++
	if key := [2]string{channel, bad.Kind}; !d.logged[key] {
		d.logged[key] = true
		d.log.Warn("malformed alarm ignored; further ones of this kind are only counted", "channel", policies.Printable(m.Channel, 100),
			"kind", bad.Kind, "bytes", len(m.Payload), "err", policies.Printable(bad.Detail, 200))
	}
	return bad
}

// isNew remembers an id by its hash: ids of others may be of any length.
func (d *Decoder) isNew(a policies.Alarm, received time.Time) bool {
	h := maphash.String(d.seed, a.ID)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known[h] {
		return false
	}
	d.gaps.note(a, received)
	d.known[h] = true
	if len(d.ring) < rememberedIDs {
		d.ring = append(d.ring, h)
		return true
	}
	delete(d.known, d.ring[d.oldest])
	d.ring[d.oldest] = h
	d.oldest = (d.oldest + 1) % rememberedIDs
	return true
}
