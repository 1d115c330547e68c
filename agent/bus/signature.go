package bus

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"dcshealer/policies"
)

// Keys sign alarms and verify them. The zero value has no key: it signs nothing and verifies nothing. It is safe for concurrent use.
type Keys struct {
	mu   sync.RWMutex
	keys []policies.Secret
}

// NewKeys are some keys: the first signs, all verify.
func NewKeys(keys ...policies.Secret) *Keys { return &Keys{keys: keys} }

// Set are others.
func (k *Keys) Set(keys []policies.Secret) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = keys
}

func (k *Keys) all() []policies.Secret {
	if k == nil {
		return nil
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.keys
}

// Sign adds a signature to a payload of policies.EncodeAlarm; without a key it stays as it is.
func (k *Keys) Sign(s policies.Severity, payload []byte) ([]byte, error) {
	keys := k.all()
	if len(keys) == 0 {
		return payload, nil
	}
	canonical, _, err := policies.CanonicalAlarm(s, payload)
	if err != nil {
		return nil, err
	}
	return policies.WithSignature(payload, hex.EncodeToString(mac(keys[0], canonical))), nil
}

func mac(key policies.Secret, canonical []byte) []byte {
	h := hmac.New(sha256.New, []byte(key.Reveal()))
	h.Write(canonical)
	return h.Sum(nil)
}

// Why a message is not taken where signatures are required.
var (
	errUnsigned  = errors.New("unsigned")
	errForged    = errors.New("wrong-signature")
	errOld       = errors.New("too-old")
	errNameless  = errors.New("no-id")
	errNoSuchKey = errors.New("no-key")
)

// verify checks the signature of a payload.
func (k *Keys) verify(s policies.Severity, payload []byte) error {
	canonical, sig, err := policies.CanonicalAlarm(s, payload)
	if err != nil {
		return err
	}
	if sig == "" {
		return errUnsigned
	}
	keys := k.all()
	if len(keys) == 0 {
		return errNoSuchKey
	}
	got, err := hex.DecodeString(sig)
	if err != nil {
		return errForged
	}
	for _, key := range keys {
		if hmac.Equal(got, mac(key, canonical)) {
			return nil
		}
	}
	return errForged
}

// replayFor is how far the time of a signed alarm may lie from ours, either way: what was recorded can be sent again only within it, and
// within it its id tells.
const replayFor = 5 * time.Minute

// A Gate lets through what is signed with one of the keys, is new and has an id. It comes before a Decoder, which remembers ids: a forged
// alarm must not use up the id of a true one. It is safe for concurrent use.
type Gate struct {
	keys   *Keys
	prefix string
	log    *slog.Logger

	mu     sync.Mutex // guards what follows
	counts map[string]int64
}

// NewGate makes a gate for channels of one prefix.
func NewGate(keys *Keys, prefix string, log *slog.Logger) *Gate {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	g := &Gate{keys: keys, prefix: prefix, log: log, counts: map[string]int64{}}
	for _, kind := range []error{errUnsigned, errForged, errOld, errNameless, errNoSuchKey} {
		g.counts[kind.Error()] = 0
	}
	return g
}

// Pass reports whether a message may be taken for an alarm at now. What may not is counted by kind, and logged once a kind.
func (g *Gate) Pass(m policies.Message, now time.Time) bool {
	severity, ok := policies.ChannelSeverity(g.prefix, m.Channel)
	if !ok {
		return true // no alarm, as the Decoder will say
	}
	err := g.check(severity, m.Payload, now)
	var bad *policies.MalformedAlarm
	if err == nil || errors.As(err, &bad) { // which the Decoder counts
		return true
	}
	kind := err.Error()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.counts[kind]++; g.counts[kind] == 1 {
		g.log.Warn("alarm from the bus ignored, bus.require_signature is on; further ones of this kind are only counted", "kind", kind,
			"channel", policies.Printable(m.Channel, 100), "bytes", len(m.Payload))
	}
	return false
}

func (g *Gate) check(s policies.Severity, payload []byte, now time.Time) error {
	if err := g.keys.verify(s, payload); err != nil {
		return err
	}
	a, err := policies.DecodeAlarm(payload)
	switch {
	case err != nil:
		return err
	case a.ID == "":
		return errNameless
	case a.At.IsZero() || now.Sub(a.At).Abs() > replayFor:
		return errOld
	}
	return nil
}

// Ignored is the number of messages that were not let through, by kind; a kind that there was none of is there with 0.
func (g *Gate) Ignored() map[string]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.counts)
}
