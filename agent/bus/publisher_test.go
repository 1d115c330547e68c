package bus

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dcshealer/policies"
)

// fakeSend is a bus whose state the test sets.
type fakeSend struct {
	mu          sync.Mutex
	err, addErr error
	sent, added []int64
}

func (f *fakeSend) carry(_ context.Context, batch []parcel) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range batch {
		p := &batch[i]
		switch {
		case p.publish && f.err != nil:
			p.pubErr, p.addErr = f.err, f.err
			continue
		case p.publish:
			f.sent = append(f.sent, p.alarm.Seq)
		}
		if p.add {
			if p.addErr = f.addErr; p.addErr == nil {
				f.added = append(f.added, p.alarm.Seq)
			}
		}
	}
}

// newTestPublisher has room for some alarms in memory.
func newTestPublisher(f *fakeSend, limit int, s *spool, log *logBuffer) *Publisher {
	return newPublisher(f.carry, newBacklog(limit, s, log.logger()), log.logger())
}

func (f *fakeSend) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func TestAFullQueueKeepsTheNewestAndCountsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		bus := &fakeSend{err: &net.OpError{Op: "dial", Err: errors.New("refused")}}
		p := newTestPublisher(bus, 10, nil, &log)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = p.Run(ctx) }()
		for i := 1; i <= 25; i++ {
			if err := p.Publish(ctx, testAlarm(i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond) // in the bubble: tries happen in between
		}
		if s := p.Stats(); s.Queued != 10 || s.Dropped != 15 || s.Delivered != 0 {
			t.Errorf("stats %+v, want 10 queued and 15 dropped", s)
		}
		if err := p.Flush(expired(ctx)); err == nil || !strings.Contains(err.Error(), "10 alarms still wait") {
			t.Errorf("flush of a dead bus: %v", err)
		}
		bus.set(nil)
		if err := p.Flush(ctx); err != nil {
			t.Error(err)
		}
		if want := upTo(25)[15:]; !slices.Equal(bus.sent, want) {
			t.Errorf("sent %v, want %v", bus.sent, want)
		}
		if log.count("bus lost") != 1 || log.count("bus back") != 1 || log.count("alarms dropped") != 2 {
			t.Errorf("want one line each for lost and back, and one for each ten that were dropped:\n%s", &log)
		}
		cancel()
		synctest.Wait()
	})
}

func expired(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

func TestWhatWaitsAtTheEndIsStillSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &fakeSend{}
		p := newTestPublisher(bus, 10, nil, &logBuffer{})
		for i := 1; i <= 5; i++ {
			_ = p.Publish(t.Context(), testAlarm(i))
		}
		if err := p.Run(expired(t.Context())); err != nil || !slices.Equal(bus.sent, upTo(5)) {
			t.Errorf("sent %v (%v), want 1 to 5", bus.sent, err)
		}
	})
}

func TestADeadBusDoesNotHoldUpTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &fakeSend{err: errors.New("down")}
		p := newTestPublisher(bus, 10, nil, &logBuffer{})
		_ = p.Publish(t.Context(), testAlarm(1))
		started := time.Now()
		if err := p.Run(expired(t.Context())); err != nil {
			t.Error(err)
		}
		if took := time.Since(started); took > stopTimeout {
			t.Errorf("took %v, want at most %v", took, stopTimeout)
		}
	})
}

func TestAnAlarmDroppedWhileItIsSentIsNotCountedTwice(t *testing.T) {
	p := newTestPublisher(&fakeSend{}, 2, nil, &logBuffer{})
	p.carry = func(ctx context.Context, _ []parcel) {
		for i := 2; i <= 4; i++ { // fills the queue and pushes out the one that is on its way, and 2
			_ = p.Publish(ctx, testAlarm(i))
		}
	}
	_ = p.Publish(t.Context(), testAlarm(1))
	p.deliver(t.Context())
	if s := p.Stats(); s.Delivered != 1 || s.Dropped != 1 || s.Queued != 2 {
		t.Errorf("stats %+v, want 1 delivered, 1 dropped, 2 queued", s)
	}
}

func TestAlarmThatCanNeverBeSentIsRefusedAtOnce(t *testing.T) {
	p := newTestPublisher(&fakeSend{}, 2, nil, &logBuffer{})
	var bad *policies.MalformedAlarm
	if err := p.Publish(t.Context(), policies.Alarm{}); !errors.As(err, &bad) || bad.Kind != policies.MalformedNoInstance {
		t.Errorf("%v, want no-instance", err)
	}
	if p.Stats().Queued != 0 {
		t.Error("it was queued")
	}
}
