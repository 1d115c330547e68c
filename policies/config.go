package policies

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Percent is a share in hundredths: 80 is 80 %.
type Percent float64

// Of is the share of n.
func (p Percent) Of(n int64) int64 { return int64(float64(p) / 100 * float64(n)) }

// String is the share as the config file writes it: 80%, 99.97%.
func (p Percent) String() string {
	return strconv.FormatFloat(math.Round(float64(p)*1e6)/1e6, 'f', -1, 64) + "%"
}

// Config is the config file, loaded, defaulted and checked. File names in it are absolute.
type Config struct {
	File      string // as the operator named it
	Bus       BusConfig
	StateDir  string
	Listen    string // empty: none
	Dashboard DashboardConfig
	Agent     AgentConfig
	Instances []Instance
	Policies  map[string]Policy
	Budget    Budget
	Journal   JournalConfig
	Archive   ArchiveConfig
	Notify    NotifyConfig
}

// ArchiveConfig bounds the archive of alarms.
type ArchiveConfig struct {
	Keep  time.Duration // older alarms are dropped; 0: none
	MaxMB int           // MiB of the file; the oldest are dropped above it; 0: no bound
}

// JournalConfig says how long the journal remembers.
type JournalConfig struct {
	Keep time.Duration // older entries are dropped; 0: none
}

// BusConfig says where alarms go.
type BusConfig struct {
	URL    Secret // may hold a password; empty: an embedded bus
	Prefix string
	TLS    *TLS // for a rediss:// URL; nil: the system's authorities and no client certificate

	Password     Secret // beside a URL without one
	PasswordFile string // where Password was read; each new connection reads it again. Empty: it came from elsewhere

	HMACKeyFile      string   // empty: alarms are not signed
	HMACKeys         []Secret // of it: the first signs, all verify
	RequireSignature bool     // the healer takes no alarm from the bus that is not signed
}

// AgentConfig paces the collection loop.
type AgentConfig struct {
	Interval time.Duration // between two probes of a node
	Timeout  time.Duration // of one probe; at most Interval is sensible, not demanded
	Repeat   time.Duration // a standing alarm is published again this often
}

// Budget bounds what the whole fleet may undergo at once.
type Budget struct {
	ConcurrentActions int
	FullResyncs       int
	Storm             Percent // of the other instances, at least StormFloor of them
}

// StormFloor is how many other instances must be in trouble before the storm guard can deny.
const StormFloor = 3

// Policy is the thresholds and remediation settings of the instances that name it.
type Policy struct {
	Preset      string
	UsedMemory  UsedMemory
	Clients     ClientsThreshold
	Slowlog     CountThreshold // Warning
	EvictedKeys CountThreshold // Notice
	Replication ReplicationThreshold
	Reclaim     Reclaim
	Reattach    Reattach
	Purge       Purge
	Evict       Evict
	Kill        Kill
	Windows     []Window

	// Fragmentation is judged on mem_fragmentation_ratio. Warning or Critical 0: never.
	Fragmentation Fragmentation
}

// Fragmentation fires at a ratio of resident to used memory, where the difference is at least LeastMB MiB: the ratio of a small server
// means nothing (12 to 19 on an empty one).
type Fragmentation struct {
	Warning, Critical float64
	LeastMB           int64
}

// Purge bounds purge-memory.
type Purge struct {
	Cooldown time.Duration
}

// Evict bounds evict-near-expiry. Patterns are those of KEYS (glob); a key that Protect matches is never taken.
type Evict struct {
	Horizon  time.Duration // only keys that expire within it
	Allow    []string      // empty: nothing is ever taken
	Protect  []string
	MaxKeys  int64
	MaxMB    int64 // MiB
	Cooldown time.Duration
}

// Kill bounds kill-idle-clients.
type Kill struct {
	Idle       time.Duration // only clients idle for longer
	Target     Percent       // of maxclients: where it stops
	MaxClients int64         // at a time
	Protect    []string      // names, users or addresses (glob) of clients that are never closed
	Cooldown   time.Duration
}

// UsedMemory is judged on counted memory over maxmemory.
type UsedMemory struct {
	Warning, Critical Percent
	Clear             Percent // an alarm clears this far below its threshold
	For               int     // probes in a row; at least 1
}

// CriticalClear is the level below which a critical memory alarm clears, in percent of maxmemory.
func (u UsedMemory) CriticalClear() Percent { return u.Critical - u.Clear }

// ClientsThreshold is judged on connected_clients over maxclients.
type ClientsThreshold struct {
	Warning, Critical Percent
	Clear             Percent
	For               int
}

// CountThreshold fires at Bound events or more within Window.
type CountThreshold struct {
	Bound  int64
	Window time.Duration
}

// ReplicationThreshold says how long a replica may be off its master before it is critical (it is a warning before).
type ReplicationThreshold struct {
	CriticalAfter time.Duration
}

// Reclaim paces reclaim-expired.
type Reclaim struct {
	Target      Percent       // of maxmemory: where the sweep stops
	MaxDuration time.Duration // of one sweep
	CallP99     time.Duration // what one SCAN call should stay under, without the round trip
	Duty        Percent       // share of time spent in calls
	AbortCall   time.Duration // one call longer than this ends the sweep
	Cooldown    time.Duration

	// LazyFree has lazyfree-lazy-expire set to yes for the time of a sweep, where it is no and CONFIG SET is allowed.
	LazyFree bool
	// OnSlowCall says what follows a call longer than AbortCall: the end of the sweep, or the smallest steps with long pauses.
	OnSlowCall SlowCall
}

// SlowCall is what a sweep does after a call that held the server up.
type SlowCall string

// The two ways; the zero value stops.
const (
	SlowCallStops SlowCall = "stop"
	SlowCallSlows SlowCall = "slow"
)

// Reattach bounds reattach-replica.
type Reattach struct {
	Grace      time.Duration // a fault must have stood this long
	FullResync bool          // a full resync is allowed
	Cooldown   time.Duration
	Undone     int // repairs undone within an hour that mean a tug-of-war; 0: never

	// ConfigRewrite has the replica write its settings into its config file after a repair (CONFIG REWRITE), so that it is still one
	// after a restart. All its other settings of that moment are written with it.
	ConfigRewrite bool
}

// Cooldown is the rest after an action.
func (p Policy) Cooldown(a Action) time.Duration {
	switch a {
	case ReclaimExpired:
		return p.Reclaim.Cooldown
	case PurgeMemory:
		return p.Purge.Cooldown
	case EvictNearExpiry:
		return p.Evict.Cooldown
	case KillIdleClients:
		return p.Kill.Cooldown
	}
	return p.Reattach.Cooldown
}

// Window is a time in which live actions are allowed. Its cron text was parsed by the loader into Next.
type Window struct {
	Cron     string
	Duration time.Duration
	Zone     string // IANA name; empty: UTC
	// Next is the window's first start strictly after t, or the zero time for never. Pure: the loader sets it from the parsed cron text.
	Next func(t time.Time) time.Time `json:"-"`
}

// Open reports whether now lies in the window: a start lies within the last Duration.
func (w Window) Open(now time.Time) bool {
	if w.Next == nil {
		return false
	}
	start := w.Next(now.Add(-w.Duration))
	return !start.IsZero() && !start.After(now)
}

// PolicyOf is the policy that an instance names, or "default".
func (c Config) PolicyOf(i Instance) Policy {
	name := i.Policy
	if name == "" {
		name = "default"
	}
	if p, ok := c.Policies[name]; ok {
		return p
	}
	return PresetDefault()
}

// Instance finds an instance by name.
func (c Config) Instance(name string) (Instance, bool) {
	for _, i := range c.Instances {
		if i.Name == name {
			return i, true
		}
	}
	return Instance{}, false
}

// InstanceNames lists the configured instances, for error texts.
func (c Config) InstanceNames() string {
	names := make([]string, len(c.Instances))
	for i, in := range c.Instances {
		names[i] = in.Name
	}
	return strings.Join(names, ", ")
}

// DefaultConfig is what an empty file means, the instances left out.
func DefaultConfig() Config {
	return Config{
		Bus:      BusConfig{Prefix: "redis:monitor"},
		StateDir: "./state",
		Listen:   "127.0.0.1:9470",
		Agent:    AgentConfig{Interval: 5 * time.Second, Timeout: 2 * time.Second, Repeat: time.Minute},
		Policies: map[string]Policy{"default": PresetDefault()},
		Budget:   Budget{ConcurrentActions: 2, FullResyncs: 2, Storm: 30},
		Archive:  ArchiveConfig{Keep: 90 * 24 * time.Hour, MaxMB: 1024},
		Notify:   NotifyConfig{Group: 5 * time.Second, Gap: 30 * time.Second, Remind: 30 * time.Minute, GiveUp: 24 * time.Hour},
	}
}

// PresetDefault is the preset "default".
func PresetDefault() Policy {
	return Policy{
		Preset:      "default",
		UsedMemory:  UsedMemory{Warning: 80, Critical: 95, Clear: 5, For: 2},
		Clients:     ClientsThreshold{Warning: 90, Critical: 98, Clear: 5, For: 1},
		Slowlog:     CountThreshold{Bound: 10, Window: 5 * time.Minute},
		EvictedKeys: CountThreshold{Bound: 1, Window: time.Hour},
		Reclaim: Reclaim{Target: 70, MaxDuration: 5 * time.Minute, CallP99: 100 * time.Microsecond, Duty: 25,
			AbortCall: 50 * time.Millisecond, Cooldown: 15 * time.Minute, LazyFree: true, OnSlowCall: SlowCallStops},
		Reattach: Reattach{FullResync: true, Cooldown: time.Minute, Undone: 2},

		Fragmentation: Fragmentation{Warning: 1.5, LeastMB: 100},
		Purge:         Purge{Cooldown: time.Hour},
		Evict:         Evict{Horizon: 5 * time.Minute, MaxKeys: 10_000, MaxMB: 64, Cooldown: 15 * time.Minute},
		Kill:          Kill{Idle: 10 * time.Minute, Target: 80, MaxClients: 100, Cooldown: 5 * time.Minute},
	}
}

// PresetDCS is the preset "dcs". Huawei Cloud's DCS user guide, "Configuring DCS Monitoring and Alarms"
// (support.huaweicloud.com/intl/en-us/usermanual-dcs/dcs-ug-190905001.html, edition of 2024-12-16), recommends for two
// periods in a row: memory usage over 70 % critical, connected clients over 8,000 of 10,000 major. The levels it does
// not give (the memory warning, critical clients) are ours; so is the target, which lies below the level at which
// the critical alarm clears.
func PresetDCS() Policy {
	p := PresetDefault()
	p.Preset = "dcs"
	p.UsedMemory = UsedMemory{Warning: 60, Critical: 70, Clear: 5, For: 2}
	p.Clients = ClientsThreshold{Warning: 80, Critical: 98, Clear: 5, For: 2}
	p.Reclaim.Target = 55
	return p
}

// Presets maps preset names to their policies.
func Presets() map[string]Policy {
	return map[string]Policy{"default": PresetDefault(), "dcs": PresetDCS()}
}
