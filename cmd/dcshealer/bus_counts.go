package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"dcshealer/agent/bus"
	"dcshealer/agent/observer/metrics"
	"dcshealer/policies"
)

// busCounts are what processes count on the bus since their starts, where a healthy one counts nothing: alarms that wait, are lost, or
// are not taken. Maps leave out what is 0.
type busCounts struct {
	Queued   int64            `json:"queued"`    // alarms that wait to be published
	Owed     int64            `json:"owed"`      // alarms that were published and wait to be added to the stream
	Dropped  int64            `json:"dropped"`   // alarms that were never published: their queue was full
	Refused  int64            `json:"refused"`   // alarms whose publication the server does not permit
	NotAdded int64            `json:"not_added"` // alarms that were published and never added to the stream: a reader that was away missed them
	Unread   map[string]int64 `json:"unread"`    // messages that a reader's full queue has lost, by reader
	Deaf     map[string]int64 `json:"deaf"`      // how often a reader heard nothing of its own canary and subscribed anew, by reader
	Missing  map[string]int64 `json:"missing"`   // alarms that the archiver misses by their numbers, by source; anyone on the bus can be a source
	Ignored  map[string]int64 `json:"ignored"`   // messages that the healer has not taken, by what is wrong with their signature; one comes on Pub/Sub and by the stream
}

// reader is a subscription of this process, by the role that it serves.
type reader struct {
	name string
	sub  *bus.Subscription
}

// busFacts is what this process counts on the bus. It is for parts that start after all that it asks.
func (s *service) busFacts() metrics.Bus {
	b := metrics.Bus{Unread: map[string]int64{}, Deaf: map[string]int64{}}
	for _, r := range s.readers {
		b.Unread[r.name], b.Deaf[r.name] = r.sub.Dropped(), r.sub.Deaf()
	}
	if n := s.notify; n != nil {
		if sub := n.sub.Load(); sub != nil {
			b.Unread["notifier"], b.Deaf["notifier"] = sub.Dropped(), sub.Deaf()
		}
	}
	if s.archived != nil {
		b.Missing = most(s.archived.Missing(), shownSources)
	}
	if s.gate != nil {
		b.Ignored = s.gate.Ignored()
	}
	publishers := []*bus.Publisher{s.pub}
	if s.heal != nil {
		publishers = append(publishers, s.heal.pub)
	}
	for _, p := range publishers {
		if p == nil {
			continue
		}
		st := p.Stats()
		b.Queued += int64(st.Queued)
		b.Owed += int64(st.Owed)
		b.Delivered += st.Delivered
		b.Dropped += st.Dropped
		b.Refused += st.Refused
		b.NotAdded += st.NotAdded
	}
	return b
}

// shownSources bounds what anyone on the bus can have a status show.
const shownSources = 20

// most keeps the largest n counts by name, and the sum of the others under that name.
func most(m map[string]int64, n int) map[string]int64 {
	if len(m) <= n {
		return m
	}
	names := slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) })
	kept := map[string]int64{}
	for i, name := range names {
		if i >= n {
			name = "others"
		}
		kept[name] += m[names[i]]
	}
	return kept
}

func countsOf(b metrics.Bus) busCounts {
	c := busCounts{Queued: b.Queued, Owed: b.Owed, Dropped: b.Dropped, Refused: b.Refused, NotAdded: b.NotAdded}
	c.eachMap(func(to *map[string]int64) { *to = map[string]int64{} })
	return c.plus(busCounts{Unread: b.Unread, Deaf: b.Deaf, Missing: b.Missing, Ignored: b.Ignored})
}

func (c *busCounts) eachMap(do func(*map[string]int64)) {
	for _, m := range []*map[string]int64{&c.Unread, &c.Deaf, &c.Missing, &c.Ignored} {
		do(m)
	}
}

// plus adds those of another process to c, whose maps it writes to.
func (c busCounts) plus(o busCounts) busCounts {
	c.Queued, c.Owed, c.Dropped, c.Refused, c.NotAdded = c.Queued+o.Queued, c.Owed+o.Owed, c.Dropped+o.Dropped, c.Refused+o.Refused, c.NotAdded+o.NotAdded
	for _, m := range [...]struct{ to, from map[string]int64 }{{c.Unread, o.Unread}, {c.Deaf, o.Deaf}, {c.Missing, o.Missing}, {c.Ignored, o.Ignored}} {
		for k, n := range m.from {
			if n != 0 {
				m.to[k] += n
			}
		}
	}
	return c
}

// String says what is not 0, for a person; empty where all is well.
func (c busCounts) String() string {
	var parts []string
	say := func(n int64, what string) {
		if n != 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	say(c.Queued, "wait for the bus")
	say(c.Owed, "wait for the stream")
	say(c.Dropped, "dropped, the queue was full")
	say(c.Refused, "refused by the bus")
	say(c.NotAdded, "never in the stream")
	sayEach := func(m map[string]int64, form string) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			parts = append(parts, fmt.Sprintf(form, m[k], k))
		}
	}
	sayEach(c.Missing, "%d of %s missing in the archive")
	sayEach(c.Unread, "%d lost before the %s read them")
	sayEach(c.Ignored, "%d messages ignored by the healer: %s")
	for _, k := range slices.Sorted(maps.Keys(c.Deaf)) {
		parts = append(parts, fmt.Sprintf("the %s was deaf %s", k, nounCount(int(c.Deaf[k]), "time")))
	}
	return strings.Join(parts, "; ")
}

// note is what of it a person has to know; empty where there is nothing, or no process that counts.
func (c *busCounts) note() string {
	if c == nil || c.String() == "" {
		return ""
	}
	return "alarms since the start: " + policies.Printable(c.String(), 1000)
}
