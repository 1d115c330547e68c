package notify

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"dcshealer/policies"
)

// Notifier turns what happens into events that wait for its receivers: critical alarms, what becomes of them, and decisions of the healer.
// What it has told is kept with the events, at once: after a restart, also one by a crash, it goes on where it was. It is safe for
// concurrent use; one process at a time has one.
type Notifier struct {
	Outbox    *Outbox
	Receivers []policies.Receiver
	Remind    time.Duration // between two reminders of an alarm; 0: none
	// Taken is the incident that an alarm belongs to, empty where none is known, and whether a person has taken it; nil: nobody can.
	Taken func(Event) (incident string, taken bool)
	Log   *slog.Logger

	mu       sync.Mutex // guards what follows
	standing *Standing  // nil: as the outbox has it
}

// Alarms keeps what is to be told of publications. Once it returns without an error they need not be handed over again.
func (n *Notifier) Alarms(ctx context.Context, alarms []policies.Alarm, now time.Time) error {
	return n.tell(ctx, now, func(s *Standing) (t telling) {
		for _, a := range alarms {
			if e, tell := s.Alarm(a, now); tell {
				t.add(e, "")
			}
		}
		return t
	})
}

// RemindNow keeps the reminders that are due.
func (n *Notifier) RemindNow(ctx context.Context, now time.Time) error {
	return n.tell(ctx, now, func(s *Standing) (t telling) {
		for _, e := range s.Due(now, n.taken) {
			t.add(e, "")
		}
		return t
	})
}

func (n *Notifier) taken(e Event) (string, bool) {
	if n.Taken == nil {
		return "", false
	}
	return n.Taken(e)
}

// Decisions keeps what is to be told of records that came to their outcome, and the place in the journal up to which that is all.
func (n *Notifier) Decisions(ctx context.Context, records []policies.Record, place int64, now time.Time) error {
	return n.tell(ctx, now, func(*Standing) (t telling) {
		t.place = &place
		for _, r := range records {
			if e, once, tell := Decision(r); tell {
				t.add(e, once)
			}
		}
		return t
	})
}

// telling is what is written at once.
type telling struct {
	events []Event
	once   []string // of each event the key under which it is told once; empty: each time
	place  *int64   // in the journal; nil: as it was
	saved  map[string]*standing
	gone   []string
}

func (t *telling) add(e Event, once string) {
	t.events, t.once = append(t.events, e), append(t.once, once)
}

func (n *Notifier) tell(ctx context.Context, now time.Time, what func(*Standing) telling) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.standing == nil {
		s, err := n.Outbox.standing(ctx)
		if err != nil {
			return err
		}
		n.standing = s
	}
	n.standing.Remind = n.Remind
	t := what(n.standing)
	t.saved, t.gone = n.standing.unsaved(), n.standing.gone
	if len(t.events)+len(t.saved)+len(t.gone) == 0 && t.place == nil {
		return nil
	}
	dropped, err := n.Outbox.tell(ctx, n.Receivers, t, now)
	if err != nil {
		n.standing = nil // what it says was told was not
		return err
	}
	n.standing.saved(t)
	if dropped > 0 {
		n.Log.Error("too much waits for the receivers of notifications: the oldest events are dropped", "count", dropped)
	}
	return nil
}

// unsaved are the alarms of which the outbox does not know the newest.
func (s *Standing) unsaved() map[string]*standing {
	out := map[string]*standing{}
	for key, a := range s.alarms {
		if a.kept.IsZero() {
			out[key] = a
		}
	}
	return out
}

func (s *Standing) saved(t telling) {
	for _, a := range t.saved {
		a.kept = a.Last
	}
	s.gone = nil
}
