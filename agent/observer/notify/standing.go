package notify

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"dcshealer/policies"
)

// Limits of Standing.
const (
	// MaxStanding alarms are followed; those of more are told each time they come.
	MaxStanding = 10_000
	// Forgotten is how long an alarm may not be repeated until nobody is reminded of it, and one with another onset is another alarm.
	Forgotten = 15 * time.Minute
	// Remembered is how long an alarm is known that is not repeated; its end is told until then.
	Remembered = 7 * 24 * time.Hour
	// refreshed is how old what is kept of the last repeat may be.
	refreshed = Forgotten / 3
)

// standing is what is known of one alarm.
type standing struct {
	Event    Event     `json:"event"` // as it was told first
	Last     time.Time `json:"last"`  // repeated
	Reminded time.Time `json:"reminded"`
	Ended    bool      `json:"ended,omitempty"` // resolved at Last: what comes of it late is not told

	kept time.Time // Last, as it is in the outbox; zero: it has to be written
}

// Standing follows critical alarms from their first publication to their end, so that a repeat tells nobody twice. It reads no clock and
// is used by one goroutine.
type Standing struct {
	Remind time.Duration // between two reminders of an alarm; 0: none
	alarms map[string]*standing
	gone   []string // keys that are still in the outbox
}

// keyOf names an alarm over its repeats.
func keyOf(a policies.Alarm) string {
	key := strings.Join([]string{a.Instance, string(a.Metric), a.Node, a.Slave}, "\x00")
	if len(key) > 4*maxName { // anybody can send long names
		key = fmt.Sprintf("%x", sha256.Sum256([]byte(key)))
	}
	return key
}

// Alarm takes one publication, and returns what to tell of it.
func (s *Standing) Alarm(a policies.Alarm, now time.Time) (Event, bool) {
	if a.Severity != policies.Critical {
		return Event{}, false
	}
	key := keyOf(a)
	known := s.alarms[key]
	if a.IsResolved() {
		switch {
		case known == nil && len(s.alarms) < MaxStanding: // nobody was told that it fired
			return Event{}, false
		case known != nil && known.Ended:
			return Event{}, false
		case known != nil:
			known.Ended, known.Last, known.kept = true, now, time.Time{}
		}
		return eventOf(a, KindResolved, now), true
	}
	if known != nil && known.is(a, now) {
		if !known.Ended {
			known.Last = now
		}
		if now.Sub(known.kept) >= refreshed {
			known.kept = time.Time{}
		}
		return Event{}, false
	}
	e := eventOf(a, KindAlarm, now)
	if s.alarms == nil {
		s.alarms = map[string]*standing{}
	}
	if known != nil || len(s.alarms) < MaxStanding {
		s.alarms[key] = &standing{Event: e, Last: now, Reminded: now}
	}
	return e, true
}

// is reports whether a publication is of the alarm that is known. An agent that was started again gives what it finds a new onset; where
// the end between the two was never heard, nobody was told that it had ended.
func (k *standing) is(a policies.Alarm, now time.Time) bool {
	if !a.Since.IsZero() && a.Since.Equal(k.Event.Since) {
		return true
	}
	return !k.Ended && now.Sub(k.Last) < Forgotten
}

func eventOf(a policies.Alarm, kind Kind, now time.Time) Event {
	node := a.Node
	if a.Slave != "" {
		node = a.Slave
	}
	return Event{Kind: kind, At: now.UTC(), Instance: clean(a.Instance, maxName), Node: clean(node, maxName), Metric: policies.Metric(clean(string(a.Metric), maxName)),
		Msg: clean(strings.TrimPrefix(a.Msg, policies.ResolvedPrefix), maxMsg), Since: a.Since}
}

// Due returns the reminders that are due, and drops what is long past. taken is the incident that an alarm belongs to, empty where none is
// known, and whether a person has taken it: of those nobody is reminded.
func (s *Standing) Due(now time.Time, taken func(Event) (incident string, taken bool)) (events []Event) {
	for key, a := range s.alarms {
		rest := now.Sub(a.Last)
		switch {
		case a.Ended && rest >= Forgotten || rest >= Remembered:
			delete(s.alarms, key)
			s.gone = append(s.gone, key)
		case a.Ended || rest >= Forgotten || s.Remind <= 0 || now.Sub(a.Reminded) < s.Remind:
		default:
			incident, is := taken(a.Event)
			a.Reminded, a.kept = now, time.Time{}
			if is {
				continue
			}
			e := a.Event
			e.Kind, e.At, e.Incident = KindReminder, now.UTC(), incident
			events = append(events, e)
		}
	}
	return events
}
