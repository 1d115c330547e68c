package policies

import (
	"fmt"
	"strings"
	"time"
)

// Severity orders alarms. The zero value is no severity.
type Severity int

// In rising order.
const (
	Notice Severity = iota + 1
	Warning
	Critical
)

// Severities lists all, in rising order.
var Severities = [...]Severity{Notice, Warning, Critical}

func (s Severity) String() string {
	switch s {
	case Notice:
		return "notice"
	case Warning:
		return "warning"
	case Critical:
		return "critical"
	}
	return "none"
}

// ParseSeverity reads notice, warning or critical in any case.
func ParseSeverity(s string) (Severity, error) {
	for _, v := range Severities {
		if strings.EqualFold(s, v.String()) {
			return v, nil
		}
	}
	return 0, fmt.Errorf("severity %q: want notice, warning or critical", s)
}

// MarshalText and UnmarshalText carry a Severity as its name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Severity) UnmarshalText(b []byte) (err error) {
	*s, err = ParseSeverity(string(b))
	return err
}

// Metric names what an alarm is about. Other producers may send names that are not listed here.
type Metric string

// The metrics of our agent.
const (
	MetricUsedMemory    Metric = "used_memory_mb" // MiB; threshold: maxmemory
	MetricClients       Metric = "connected_clients"
	MetricSlowlog       Metric = "slowlog_count" // in the window; threshold: the bound
	MetricReplication   Metric = "replication_status"
	MetricEvicted       Metric = "evicted_keys" // in the window
	MetricFragmentation Metric = "mem_fragmentation_ratio"
	MetricInstanceUp    Metric = "instance_up"    // per node: 1 up, 0 not
	MetricJournal       Metric = "journal_status" // of a healer itself: "down" while its journal cannot be written and it does nothing
	MetricPause         Metric = "pause"          // of a healer: a notice that a pause is about to end, resolved when it has
	MetricCanary        Metric = "canary"         // on <prefix>:canary only
)

// MetricLive is that of a healer's notice that a live setting of an action is about to end, resolved when it has.
func MetricLive(a Action) Metric { return Metric("live_" + string(a)) }

// SelfInstance is the instance of an alarm about a healer itself.
const SelfInstance = "dcshealer"

// Status says whether an alarm stands.
type Status string

// The two states of a published alarm.
const (
	Firing   Status = "firing"
	Resolved Status = "resolved"
)

// ResolvedPrefix begins the msg of a resolved alarm, for readers that know no status.
const ResolvedPrefix = "Resolved: "

// Alarm is one publication about a finding tracked over time.
type Alarm struct {
	Severity  Severity // from the channel, not from the payload
	Instance  string
	Metric    Metric
	Value     Value
	Threshold Value // empty: none
	Pct       string
	Window    string
	Slave     string
	Msg       string

	ID     string // ULID; new with each publication. Empty: a producer that sends none
	Seq    int64  // per source, without gaps; 0: none
	Source string
	At     time.Time // ts; zero: none
	Node   string
	Status Status    // empty: firing
	Since  time.Time // zero: none
}

// IsResolved reports whether the alarm says that its fault is gone, by status or, from producers without one, by msg.
func (a Alarm) IsResolved() bool {
	return a.Status == Resolved || a.Status == "" && strings.HasPrefix(a.Msg, ResolvedPrefix)
}

// Finding is what a policy says of a snapshot.
type Finding struct {
	Metric    Metric   `json:"metric"`
	Severity  Severity `json:"severity"`
	Node      string   `json:"node"`
	Value     Value    `json:"value"`
	Threshold Value    `json:"threshold"`
	Cause     Cause    `json:"cause"`
	Msg       string   `json:"msg"`
	Pct       string   `json:"pct,omitempty"`
	Window    string   `json:"window,omitempty"`
	Slave     string   `json:"slave,omitempty"`
}
