package bus

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"dcshealer/policies"
)

// ear listens for the canaries of one subscription. A connection can be up and answer pings and yet bring nothing (its server is
// cut off from those who publish, a proxy has lost the subscription): only a message that went around proves that it hears. It is
// safe for concurrent use.
type ear struct {
	mu       sync.Mutex // guards what follows
	id       string     // of the canary on its way; empty: none
	heard    chan struct{}
	messages int64 // that came since it left, of any kind
	mute     bool  // this user may not publish canaries
	deaf     int64 // how often a canary did not come
}

// expect is called before a canary is published; heard is closed when it comes.
func (e *ear) expect(id string) (heard <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.id, e.heard, e.messages = id, make(chan struct{}), 0
	return e.heard
}

// message notes that one came, and reports whether it is the canary that is expected.
func (e *ear) message(channel string, payload []byte, prefix string) (ours bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.messages++
	if e.id == "" || channel != policies.CanaryChannel(prefix) {
		return false
	}
	if a, err := policies.DecodeAlarm(payload); err != nil || a.ID != e.id {
		return false
	}
	close(e.heard)
	e.id = ""
	return true
}

// missed ends the wait for a canary and reports whether it and everything else failed to come.
func (e *ear) missed(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	missed := e.id == id && e.messages == 0
	if e.id == id {
		e.id = ""
	}
	if missed {
		e.deaf++
	}
	return missed
}

// again begins anew with a new connection, or where we have not been listening.
func (e *ear) again() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.id, e.mute = "", false
}

func (e *ear) silence() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.id, e.mute = "", true
}

func (e *ear) isMute() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mute
}

// Deaf counts how often the subscription heard nothing of what it had published itself, and was made anew.
func (s *Subscription) Deaf() int64 {
	s.ear.mu.Lock()
	defer s.ear.mu.Unlock()
	return s.ear.deaf
}

// sing publishes canaries and cuts a connection that does not bring them.
func (s *Subscription) sing(ctx context.Context) {
	ticker := time.NewTicker(s.timing.canary)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if s.connected.Load() && !s.ear.isMute() {
				s.canary(ctx)
			}
		}
	}
}

// canary sends one and waits for it. Where it could not be published nothing is known: the publisher says what is wrong then.
func (s *Subscription) canary(ctx context.Context) {
	a := policies.Alarm{ID: rand.Text(), At: time.Now(), Source: "subscription", Severity: policies.Notice, Status: policies.Firing,
		Instance: policies.SelfInstance, Metric: policies.MetricCanary, Value: policies.Int(1), Msg: "a canary: a subscription asks whether it hears"}
	heard := s.ear.expect(a.ID)
	if err := s.publishCanary(ctx, a); err != nil {
		if errorIs(err, "NOPERM") {
			s.ear.silence()
			s.log.Info("this bus user may not publish canaries: a subscription that hears nothing is found by silence alone", "err", err)
		} else {
			s.ear.missedNothing(a.ID)
		}
		return
	}
	limit := time.NewTimer(s.timing.deaf)
	defer limit.Stop()
	select {
	case <-heard:
	case <-ctx.Done():
	case <-limit.C:
		if s.connected.Load() && s.ear.missed(a.ID) {
			s.log.Warn("the subscription is deaf: the server took a canary and it did not come back; subscribing on a new connection",
				"took", s.timing.deaf.String(), "deaf", s.Deaf())
			s.wire.cut()
		}
	}
}

func (s *Subscription) publishCanary(ctx context.Context, a policies.Alarm) error {
	payload, err := s.bus.Encode(a)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return s.client.Publish(ctx, policies.CanaryChannel(s.bus.prefix), payload).Err()
}

// missedNothing ends the wait for a canary that was not sent.
func (e *ear) missedNothing(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.id == id {
		e.id = ""
	}
}
