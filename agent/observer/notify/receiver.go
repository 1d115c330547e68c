package notify

import (
	"context"
	"log/slog"
	"time"
)

// Pace is how a receiver is told.
type Pace struct {
	Group    time.Duration // how long the first event waits for others
	Gap      time.Duration // the least between two notices
	Retry    time.Duration // after the first failure; it doubles up to
	RetryMax time.Duration // this
	GiveUp   time.Duration // a notice that is older and fails is dead
}

// DefaultPace has a storm be one notice, and a person told within seconds.
func DefaultPace() Pace {
	return Pace{Group: 5 * time.Second, Gap: 30 * time.Second, Retry: time.Second, RetryMax: 5 * time.Minute, GiveUp: 24 * time.Hour}
}

// Receiver delivers from the outbox to one place, one notice after another. Others do not wait for it.
type Receiver struct {
	Name     string
	Sender   Sender
	Template *Template // nil: ours
	Outbox   *Outbox
	Pace     Pace
	Source   string // the host that tells
	NewID    func() string
	Log      *slog.Logger

	sent    time.Time // when the last notice was
	failing bool
}

// look is how often a receiver without work looks for some.
const look = 250 * time.Millisecond

// outboxRetry is when a receiver tries again whose outbox failed: a full disk, mostly.
const outboxRetry = 15 * time.Second

// Run delivers until ctx ends, and returns its error. What is not delivered then stays in the outbox.
func (r *Receiver) Run(ctx context.Context) error {
	for {
		wait, err := r.step(ctx, time.Now())
		if err != nil && ctx.Err() == nil {
			r.Log.Error("the outbox of notifications fails", "receiver", r.Name, "err", err)
			wait = outboxRetry
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// step delivers a notice, if one is due, and says when to look again.
func (r *Receiver) step(ctx context.Context, now time.Time) (time.Duration, error) {
	l, ok, err := r.due(ctx, now)
	if err != nil || !ok {
		return look, err
	}
	id := l.notice.ID
	err = r.Sender.Send(ctx, l.notice)
	took := time.Now()
	switch {
	case err == nil:
		r.sent = took
		if r.failing {
			r.failing = false
			r.Log.Info("notifications reach their receiver again", "receiver", r.Name, "attempt", l.attempts+1)
		}
		// Also when we are being stopped: or it would be sent again.
		return 0, r.Outbox.delivered(context.WithoutCancel(ctx), r.Name, id, took)
	case ctx.Err() != nil: // ours, not the receiver's
		return 0, ctx.Err()
	}
	dead := permanent(err) || now.Sub(l.made) >= r.Pace.GiveUp
	if !r.failing || dead {
		r.Log.Error("a notification does not reach its receiver", "receiver", r.Name, "notice", id, "dead", dead, "err", err)
	}
	r.failing = true
	return max(r.backoff(l.attempts), wanted(err)), r.Outbox.failed(ctx, r.Name, id, err.Error(), dead, took)
}

// due is the notice to send now, not right after the last: many may have been asked for again. One that was begun goes first; a new one is
// made once its oldest event has waited for others.
func (r *Receiver) due(ctx context.Context, now time.Time) (l letter, ok bool, err error) {
	oldest, begun, err := r.Outbox.due(ctx, r.Name)
	if err != nil || !begun && oldest.IsZero() {
		return l, false, err
	}
	age := now.Sub(oldest)
	if grouped := age < 0 || age >= r.Pace.Group; !begun && !grouped || !r.sent.IsZero() && now.Sub(r.sent) < r.Pace.Gap {
		return l, false, nil
	}
	return r.Outbox.next(ctx, r.Name, func(events []Event) Notice { return r.Template.Apply(NewNotice(r.NewID(), r.Source, events, now)) })
}

func (r *Receiver) backoff(attempts int) time.Duration {
	return min(r.Pace.Retry<<min(attempts, 20), r.Pace.RetryMax)
}
