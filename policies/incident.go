package policies

import (
	"fmt"
	"time"
)

// Incident is a critical problem of one instance, from the first alarm to the proof that it is gone, under one id.
type Incident struct {
	ID         string     `json:"id"`
	Instance   string     `json:"instance"`
	Node       string     `json:"node"`
	Metric     Metric     `json:"metric"`
	Cause      Cause      `json:"cause"` // as last diagnosed
	Msg        string     `json:"msg"`   // of the finding
	Trigger    Trigger    `json:"trigger"`
	Alarm      string     `json:"alarm"`            // id of the alarm that led here; empty: none, or one without an id
	Alarmed    time.Time  `json:"alarmed,omitzero"` // when the first alarm reached the healer, by its own clock; zero: none did
	Seen       time.Time  `json:"seen,omitzero"`    // when our own probe first saw it
	Opened     time.Time  `json:"opened"`           // when two probes agreed
	Closed     time.Time  `json:"closed,omitzero"`  // zero: open
	Resolution Resolution `json:"resolution,omitempty"`
	Text       string     `json:"text,omitempty"` // how it was closed, in words
	Ack        *Ack       `json:"ack,omitempty"`  // the newest
}

// Ack is a person's word that they have taken an incident.
type Ack struct {
	By   string    `json:"by"`
	Note string    `json:"note,omitempty"`
	At   time.Time `json:"at"`
}

// Resolution says who ended an incident.
type Resolution string

// The ways in which an incident ends.
const (
	ResolvedByUs     Resolution = "repair"    // our action, proven to have stayed
	ResolvedByOther  Resolution = "other"     // a person or another controller, by what they left on the node
	ResolvedByItself Resolution = "itself"    // nothing was changed from outside
	ResolvedUnknown  Resolution = "unknown"   // gone, by itself or by a person
	CameBack         Resolution = "came-back" // repaired, and back while it was watched: it goes on as another incident
	Abandoned        Resolution = "abandoned" // nobody watches it any more; no proof that it is gone
)

// Open reports whether the incident has not been closed.
func (i Incident) Open() bool { return i.Closed.IsZero() }

// Began is the earliest that is known of the fault: the alarm, or our own first sight of it.
func (i Incident) Began() time.Time {
	began := i.Opened
	for _, t := range []time.Time{i.Alarmed, i.Seen} {
		if !t.IsZero() && t.Before(began) {
			began = t
		}
	}
	return began
}

// Detected is how long it took from there to the confirmed diagnosis.
func (i Incident) Detected() time.Duration { return i.Opened.Sub(i.Began()) }

// Lasted is how long the fault was there, up to now where it still is.
func (i Incident) Lasted(now time.Time) time.Duration {
	if !i.Open() {
		now = i.Closed
	}
	return now.Sub(i.Began())
}

// ResolvedBy tells from a node as it was when the incident was opened, and as it is now that the fault is gone, who ended it when no
// action of ours did, and what shows that.
func ResolvedBy(metric Metric, was, now Snapshot) (Resolution, string) {
	switch {
	case was.RunID == "" || now.RunID == "":
		return ResolvedUnknown, "gone by itself or by a person"
	case was.RunID != now.RunID:
		return ResolvedByOther, fmt.Sprintf("gone after %s was restarted", now.Node)
	}
	switch metric {
	case MetricReplication:
		return replicationResolvedBy(was, now)
	case MetricUsedMemory:
		return memoryResolvedBy(was, now)
	case MetricClients:
		if a, b := was.Clients.Max, now.Clients.Max; a.Known && b.Known && a != b {
			return ResolvedByOther, fmt.Sprintf("gone after somebody changed maxclients of %s from %d to %d", now.Node, a.V, b.V)
		}
	}
	return ResolvedUnknown, "gone by itself or by a person"
}

func replicationResolvedBy(was, now Snapshot) (Resolution, string) {
	a, b := was.Replication, now.Replication
	if a.Role != b.Role || a.MasterHost != b.MasterHost || a.MasterPort != b.MasterPort {
		return ResolvedByOther, fmt.Sprintf("somebody made %s %s; it was %s", now.Node, follows(b), follows(a))
	}
	return ResolvedByItself, fmt.Sprintf("the link of %s came back by itself: what it follows was not changed", now.Node)
}

func follows(r Replication) string {
	if r.Role == RoleReplica {
		return "a replica of " + Address{Host: r.MasterHost, Port: r.MasterPort}.String()
	}
	return "a " + string(r.Role)
}

func memoryResolvedBy(was, now Snapshot) (Resolution, string) {
	if a, b := was.Memory.Max, now.Memory.Max; a.Known && b.Known && a != b {
		return ResolvedByOther, fmt.Sprintf("gone after somebody changed maxmemory of %s from %d to %d bytes", now.Node, a.V, b.V)
	}
	expired, evicted := rise(was.Stats.ExpiredKeys, now.Stats.ExpiredKeys), rise(was.Stats.EvictedKeys, now.Stats.EvictedKeys)
	fewer := was.Keys().Or(0) - now.Keys().Or(0)
	switch server := expired + evicted; {
	case server > 0 && server >= fewer/2:
		return ResolvedByItself, fmt.Sprintf("gone by itself: %s expired %d and evicted %d keys meanwhile", now.Node, expired, evicted)
	case fewer > 0:
		return ResolvedUnknown, fmt.Sprintf("gone by itself or by a person: clients deleted most of the %d keys that went; no setting was changed", fewer)
	}
	return ResolvedUnknown, "gone by itself or by a person: no setting was changed, and the server itself deleted nothing"
}

// rise is by how much a counter rose; 0 where it is not known or was reset.
func rise(was, now Opt[int64]) int64 {
	if !was.Known || !now.Known {
		return 0
	}
	return max(0, now.V-was.V)
}
