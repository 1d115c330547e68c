package notify

import (
	"context"
	"log/slog"
	"time"

	"dcshealer/policies"
)

// Notifier turns what happens into events for its receivers: it follows critical alarms, and takes other events as they are.
type Notifier struct {
	Outbox    *Outbox
	Receivers []string
	Taken     func(Event) bool // a person has taken the alarm; nil: nobody can say so
	Log       *slog.Logger

	standing Standing
}

// NewNotifier reminds of an alarm that stands, and that nobody has taken, each remind; 0: never.
func NewNotifier(o *Outbox, receivers []string, remind time.Duration, taken func(Event) bool, log *slog.Logger) *Notifier {
	if taken == nil {
		taken = func(Event) bool { return false }
	}
	return &Notifier{Outbox: o, Receivers: receivers, Taken: taken, Log: log, standing: Standing{Remind: remind}}
}

// Alarms keeps what is to be told of publications. Once it returns without an error they need not be handed over again.
func (n *Notifier) Alarms(ctx context.Context, alarms []policies.Alarm, now time.Time) error {
	var events []Event
	for _, a := range alarms {
		if e, tell := n.standing.Alarm(a, now); tell {
			events = append(events, e)
		}
	}
	return n.add(ctx, events)
}

// Remind keeps the reminders that are due.
func (n *Notifier) Remind(ctx context.Context, now time.Time) error {
	return n.add(ctx, n.standing.Due(now, n.Taken))
}

func (n *Notifier) add(ctx context.Context, events []Event) error {
	if len(events) == 0 {
		return nil
	}
	dropped, err := n.Outbox.Add(ctx, n.Receivers, events)
	if dropped > 0 {
		n.Log.Error("too much waits for the receivers of notifications: the oldest events are dropped", "count", dropped)
	}
	return err
}
