// Package notify tells people what the console would only print: it groups events into notices and delivers them to receivers, with
// retries, and keeps what could not be delivered. It decides nothing about Redis and reads no bus.
package notify

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"dcshealer/policies"
)

// Kind says what an event is about.
type Kind = policies.NoticeKind

// The kinds, the most urgent first.
const (
	KindAlarm    = policies.NoticeAlarm
	KindRefusal  = policies.NoticeRefusal
	KindReminder = policies.NoticeReminder
	KindRepair   = policies.NoticeRepair
	KindResolved = policies.NoticeResolved
	KindTest     = policies.NoticeTest
)

// Kinds lists all, the most urgent first.
var Kinds = append(policies.NoticeKinds[:], KindTest)

// Bounds of an event's texts, in characters.
const (
	maxName = 100
	maxMsg  = 1000
)

// Event is one thing to tell. Its texts are those of an alarm or the journal: of anybody, without control characters.
type Event struct {
	Kind     Kind            `json:"kind"`
	At       time.Time       `json:"at"`
	Instance string          `json:"instance"`
	Node     string          `json:"node,omitempty"`
	Metric   policies.Metric `json:"metric,omitempty"`
	Msg      string          `json:"msg"`
	Since    time.Time       `json:"since,omitzero"` // of the alarm
	Incident string          `json:"incident,omitempty"`

	// Of a decision of the healer.
	Record  string           `json:"record,omitempty"`
	Action  policies.Action  `json:"action,omitempty"`
	Outcome policies.Outcome `json:"outcome,omitempty"`
	Cause   policies.Cause   `json:"cause,omitempty"`
}

// alarmOf names the alarm that an event is of.
type alarmOf struct {
	instance, node string
	metric         policies.Metric
}

func (e Event) alarm() alarmOf { return alarmOf{instance: e.Instance, node: e.Node, metric: e.Metric} }

// Notice is what a receiver gets at a time: one event, or all of a storm.
type Notice struct {
	Version int       `json:"v"`  // 1
	ID      string    `json:"id"` // the same on every try
	At      time.Time `json:"at"`
	Source  string    `json:"source"` // the host that tells
	Title   string    `json:"title"`
	Text    string    `json:"text"`
	Events  []Event   `json:"events"`        // the most urgent first, at most MaxEvents
	More    int       `json:"more,omitzero"` // events left out
}

const (
	// MaxEvents is how many events one notice lists; the rest it counts.
	MaxEvents = 50
	// maxLines and maxMessages keep the text below what chat services take (2,000 characters at the least).
	maxLines    = 12
	maxMessages = 1400 // characters of the events' own texts together: few events have room for what a person has to do
)

// NewNotice puts events, at least one, into one notice. Pure.
func NewNotice(id, source string, events []Event, now time.Time) Notice {
	sorted := slices.Clone(events)
	slices.SortStableFunc(sorted, func(a, b Event) int { return slices.Index(Kinds, a.Kind) - slices.Index(Kinds, b.Kind) })
	n := Notice{Version: 1, ID: id, At: now.UTC(), Source: source, Title: title(sorted), Text: text(sorted), Events: sorted}
	if len(sorted) > MaxEvents {
		n.Events, n.More = sorted[:MaxEvents], len(sorted)-MaxEvents
	}
	return n
}

// title tells one event as it is, and counts several.
func title(events []Event) string {
	if len(events) == 1 {
		e := events[0]
		if e.Kind == KindTest {
			return "dcshealer: test"
		}
		return fmt.Sprintf("dcshealer: %s: %s", kindText(e.Kind, 1), clean(e.Instance, 60))
	}
	var parts []string
	for _, k := range Kinds {
		n := 0
		for _, e := range events {
			if e.Kind == k {
				n++
			}
		}
		switch {
		case n == 1 && k == KindRefusal:
			parts = append(parts, "1 needs a person")
		case n > 0:
			parts = append(parts, fmt.Sprintf("%d %s", n, kindText(k, n)))
		}
	}
	named := instances(events)
	if len(named) > 3 {
		return fmt.Sprintf("dcshealer: %s on %d instances", strings.Join(parts, ", "), len(named))
	}
	return fmt.Sprintf("dcshealer: %s: %s", strings.Join(parts, ", "), strings.Join(named, ", "))
}

func kindText(k Kind, n int) string {
	one, many := string(k), string(k)+"s"
	switch k {
	case KindAlarm:
		one, many = "critical alarm", "critical alarms"
	case KindRefusal:
		one, many = "a person is needed", "need a person"
	case KindResolved:
		many = one
	}
	if n == 1 {
		return one
	}
	return many
}

func instances(events []Event) (names []string) {
	for _, e := range events {
		if name := clean(e.Instance, 60); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// text is a line for each event, as many as a chat message holds.
func text(events []Event) string {
	var b strings.Builder
	most := maxMessages / max(min(len(events), maxLines), 2)
	for i, e := range events {
		if i == maxLines {
			fmt.Fprintf(&b, "and %d more: see dcshealer alarms list and dcshealer incidents list\n", len(events)-i)
			break
		}
		fmt.Fprintf(&b, "%s | %s%s | %s\n", strings.ToUpper(string(e.Kind)), clean(e.Instance, 60), nodeText(e), clean(e.Msg, most))
	}
	return strings.TrimRight(b.String(), "\n")
}

func nodeText(e Event) string {
	if e.Node == "" {
		return ""
	}
	return "/" + clean(e.Node, 60)
}

// clean is text of anybody as one line without control characters.
func clean(s string, max int) string { return policies.Printable(s, max) }
