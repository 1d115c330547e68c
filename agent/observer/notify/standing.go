package notify

import (
	"strings"
	"time"

	"dcshealer/policies"
)

// Limits of Standing.
const (
	// MaxStanding alarms are followed; those of more are told each time they come.
	MaxStanding = 10_000
	// Forgotten is how long an alarm may not be repeated until it counts as one that ended unseen.
	Forgotten = 15 * time.Minute
)

// alarmKey names an alarm over its repeats.
type alarmKey struct{ instance, metric, node, slave string }

type standing struct {
	event    Event
	last     time.Time // repeated
	reminded time.Time // or told first
}

// Standing follows critical alarms from their first publication to their end, so that a repeat tells nobody twice. It reads no clock and
// is used by one goroutine.
type Standing struct {
	Remind time.Duration // between two reminders of an alarm; 0: none
	alarms map[alarmKey]*standing
}

// Alarm takes one publication, and returns what to tell of it.
func (s *Standing) Alarm(a policies.Alarm, now time.Time) (Event, bool) {
	if a.Severity != policies.Critical {
		return Event{}, false
	}
	key := alarmKey{a.Instance, string(a.Metric), a.Node, a.Slave}
	known := s.alarms[key]
	switch {
	case a.IsResolved():
		delete(s.alarms, key)
		return eventOf(a, KindResolved, now), true // also one that fired before this process began
	case known != nil && now.Sub(known.last) < Forgotten && sameOnset(known.event.Since, a.Since):
		known.last = now
		return Event{}, false
	}
	e := eventOf(a, KindAlarm, now)
	if s.alarms == nil {
		s.alarms = map[alarmKey]*standing{}
	}
	if known != nil || len(s.alarms) < MaxStanding {
		s.alarms[key] = &standing{event: e, last: now, reminded: now}
	}
	return e, true
}

// sameOnset reports whether two publications are of one alarm; a producer that says no onset repeats the one it has.
func sameOnset(a, b time.Time) bool { return a.IsZero() || b.IsZero() || a.Equal(b) }

func eventOf(a policies.Alarm, kind Kind, now time.Time) Event {
	node := a.Node
	if a.Slave != "" {
		node = a.Slave
	}
	return Event{Kind: kind, At: now.UTC(), Instance: a.Instance, Node: node, Metric: a.Metric, Msg: strings.TrimPrefix(a.Msg, policies.ResolvedPrefix), Since: a.Since}
}

// Due returns the reminders that are due, and drops alarms that have not been repeated. taken reports whether a person has taken an
// alarm: of those nobody is reminded.
func (s *Standing) Due(now time.Time, taken func(Event) bool) (events []Event) {
	for key, a := range s.alarms {
		switch {
		case now.Sub(a.last) >= Forgotten:
			delete(s.alarms, key)
		case s.Remind > 0 && now.Sub(a.reminded) >= s.Remind && !taken(a.event):
			a.reminded = now
			e := a.event
			e.Kind, e.At = KindReminder, now.UTC()
			events = append(events, e)
		}
	}
	return events
}
