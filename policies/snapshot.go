package policies

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Reach says how a node answered a probe.
type Reach string

// What a probe can meet. Only ReachUp gives a node whose fields may be judged; ReachLoading answers INFO too.
const (
	ReachUp       Reach = "up"       // it answered INFO and ROLE
	ReachLoading  Reach = "loading"  // it answers, its data set is still loading
	ReachRefused  Reach = "refused"  // connection refused: process gone or wrong port
	ReachNoRoute  Reach = "no-route" // connecting timed out, no route, or the name does not resolve
	ReachHung     Reach = "hung"     // it accepts connections and does not answer: stopped, swapping, a long command, or TLS asked of a plaintext port
	ReachTLS      Reach = "tls"      // it answers and the two do not agree on TLS: its certificate, ours, the versions
	ReachReset    Reach = "reset"    // closed at once: plaintext asked of a TLS port, or it is going down
	ReachMaxConns Reach = "maxconns" // ERR max number of clients reached
	ReachBusy     Reach = "busy"     // BUSY: in a script past its limit, nothing passes
	ReachAuth     Reach = "auth"     // NOAUTH, WRONGPASS or NOPERM: unreadable
	ReachOdd      Reach = "odd"      // an answer that is not Redis's
)

// Answers reports whether INFO could be read.
func (r Reach) Answers() bool { return r == ReachUp || r == ReachLoading }

// Snapshot is what one probe read off one node. Fields that the server did not report are unknown.
type Snapshot struct {
	Instance string
	Node     string
	At       time.Time     // when the probe began
	Took     time.Duration // the whole probe
	RTT      time.Duration // the INFO call alone; 0 when it did not answer
	Reach    Reach
	Err      string // what was met, for a person, when Reach is not ReachUp

	RunID          string
	TCPPort        Opt[int] // where the server itself listens; 0: TLS only
	Version        string   // of the product: Valkey's own, not the redis_version it claims
	Product        string   // "redis" or "valkey"
	Cluster        Opt[bool]
	UptimeSeconds  Opt[int64]
	Loading        Opt[bool]
	ServerTime     Opt[int64] // Unix seconds by the server's clock
	Memory         Memory
	Clients        Clients
	Persistence    Persistence
	Stats          Stats
	Replication    Replication
	DBs            []DB // the keyspace, in DB order; a DB without keys is missing
	KeyspaceKnown  bool
	Slowlog        Slowlog
	ConfigDenied   bool // CONFIG GET was refused (ACL or renamed)
	MasterAuthSet  Opt[bool]
	MasterUser     Opt[string]
	Priority       Opt[int64]       // replica-priority: 0 is never promoted by Sentinel
	TLSPort        Opt[int]         // tls-port; 0: none
	TLSReplication Opt[bool]        // tls-replication: it speaks TLS to its master
	ReplicaBuffer  Opt[BufferLimit] // client-output-buffer-limit of replicas
	PingPeriod     Opt[int64]       // repl-ping-replica-period, in seconds
	ConfigFile     Opt[bool]        // it was started with a config file, which CONFIG REWRITE needs
	Refusals       []Refusal        // logins and commands refused to peers by ACL LOG; deep probes of servers without error counters (6.0)
	LazyfreeExpire Opt[string]      // lazyfree-lazy-expire: yes or no
	SentinelSeen   Opt[bool]        // CLIENT LIST shows a Sentinel; unknown unless a deep probe read it
	ClientOutput   Opt[int64]       // bytes of output buffers of normal and Pub/Sub clients by CLIENT LIST; deep probes only
	ClientMemory   Opt[int64]       // bytes of normal and Pub/Sub clients in all by CLIENT LIST, their input included; deep probes only
	TopClient      string           // address of the client that holds most, when it is over 1 MiB
	TopClientUse   ClientUse        // what that one holds
	AuthRequired   Opt[bool]        // an unauthenticated connection is refused; deep probes only
	Renamed        []string         // commands the server does not know: deep probes only
	CommandsKnown  bool             // Renamed was read
	MasterIPs      []string         // what Replication.MasterHost resolves to from here; empty: not resolvable
	OwnIPs         []string         // what the node's own configured addresses resolve to from here
}

// Memory is INFO memory, in bytes.
type Memory struct {
	Used              Opt[int64]
	NotCounted        Opt[int64] // mem_not_counted_for_evict
	Max               Opt[int64] // maxmemory; 0: no limit
	Policy            string     // maxmemory_policy
	Dataset           Opt[int64] // used_memory_dataset
	Overhead          Opt[int64]
	RSS               Opt[int64]
	SystemTotal       Opt[int64]
	ClientsNormal     Opt[int64]
	ClientsReplicas   Opt[int64]
	Backlog           Opt[int64]
	FragmentationX    Opt[float64]
	FragmentationB    Opt[int64]
	LazyfreePending   Opt[int64] // lazyfree_pending_objects
	EvictionExceeded  Opt[int64] // current_eviction_exceeded_time, ms; 7.0 and later
	ReplicaIgnoresMax bool       // a replica: maxmemory does not bind it
	Allocator         Allocator

	// Parts of Overhead, and the setting of one.
	Startup            Opt[int64] // used_memory_startup
	BacklogSize        Opt[int64] // repl_backlog_size: the setting
	ReplicationBuffers Opt[int64] // mem_total_replication_buffers, 7.0 and later: the backlog and the replicas share them
	Scripts            Opt[int64] // used_memory_scripts: functions included
	ScriptVM           Opt[int64] // used_memory_vm_total, 7.0 and later; most versions do not count it as used memory
	AOFBuffer          Opt[int64]
	ClusterLinks       Opt[int64]
}

// ClientUse is what one client holds.
type ClientUse struct {
	Kind    ClientKind
	Memory  int64 // tot-mem: input and output
	Output  int64 // omem, and what its fixed buffer holds
	Waiting bool  // output waits for the client to read
}

// ClientKind is the class of a client by which its output is limited.
type ClientKind string

// The kinds. MONITOR is limited as a normal client.
const (
	ClientNormal  ClientKind = "normal"
	ClientPubSub  ClientKind = "pubsub"
	ClientMonitor ClientKind = "monitor"
)

// Counted is the memory the server compares with maxmemory: used_memory less mem_not_counted_for_evict
// (all of Redis 6.0 to 8.0 and Valkey 8.1 and 9.1). Unknown when either is.
func (m Memory) Counted() Opt[int64] {
	if !m.Used.Known || !m.NotCounted.Known {
		return Opt[int64]{}
	}
	return Known(m.Used.V - m.NotCounted.V)
}

// Share is Counted over Max, 1 being full. Unknown without a limit.
func (m Memory) Share() Opt[float64] {
	c := m.Counted()
	if !c.Known || m.Max.Or(0) <= 0 {
		return Opt[float64]{}
	}
	return Known(float64(c.V) / float64(m.Max.V))
}

// Clients is INFO clients.
type Clients struct {
	Connected Opt[int64] // leaves out replicas
	Blocked   Opt[int64]
	Max       Opt[int64]  // maxclients: INFO from 7.0 on, CONFIG GET before
	Paused    Opt[string] // paused_reason where INFO shows it; "" or "none": not paused
}

// Persistence is INFO persistence.
type Persistence struct {
	BgsaveRunning        Opt[bool]
	AOFRewriteRunning    Opt[bool]
	LastBgsaveOK         Opt[bool]
	LastAOFWriteOK       Opt[bool]
	ChangesSinceLastSave Opt[int64]
	LastSaveTime         Opt[int64]
	Saves                Opt[int64] // rdb_saves, 7.0 and later
}

// Stats is INFO stats and errorstats: counters that a restart and CONFIG RESETSTAT set to 0.
type Stats struct {
	EvictedKeys         Opt[int64]
	ExpiredKeys         Opt[int64]
	ExpiredStalePercent Opt[float64] // expired_stale_perc; 0 proves nothing
	RejectedConnections Opt[int64]
	SyncFull            Opt[int64]
	SyncPartialOK       Opt[int64]
	SyncPartialErr      Opt[int64]
	OOMErrors           Opt[int64]   // errorstat_OOM; 7.0 and later. Known and 0 when the server reports errorstats and has none
	OutputBufferKills   Opt[int64]   // client_output_buffer_limit_disconnections
	ConnectionsReceived Opt[int64]   // total_connections_received
	CPUSeconds          Opt[float64] // of the main thread where it is told apart (from 6.2 on), else of the process; since the start
	OpsPerSecond        Opt[int64]   // instantaneous_ops_per_sec

	// Refusals of errorstats, 7.0 and later. Known and 0 when the server reports errorstats and has none.
	NoAuthErrors, WrongPassErrors, NoPermErrors Opt[int64]
}

// BufferLimit is one class of client-output-buffer-limit: a client whose buffer passes Hard bytes, or Soft bytes for SoftSeconds, is
// cut off. 0: no limit.
type BufferLimit struct {
	Hard, Soft, SoftSeconds int64
}

// Refusal is one entry of ACL LOG: what a peer was refused.
type Refusal struct {
	Host   string // the peer's address
	Reason string // auth, command, key or channel
	Object string // AUTH, or the command
	Age    time.Duration
}

// ReplID is a replication id; "" and forty zeros are none.
type ReplID string

// None reports whether there is no id.
func (r ReplID) None() bool { return strings.Trim(string(r), "0") == "" }

// Replication is INFO replication and ROLE.
type Replication struct {
	Role              Role
	ReplID            ReplID
	ReplID2           ReplID
	Offset            Opt[int64] // master_repl_offset
	SecondOffset      Opt[int64] // second_repl_offset: -1 without replid2
	BacklogActive     Opt[bool]
	BacklogFirst      Opt[int64] // repl_backlog_first_byte_offset
	BacklogLength     Opt[int64] // repl_backlog_histlen
	MasterHost        string     // as the replica was given it
	MasterPort        int
	LinkUp            Opt[bool]
	LastIOSecondsAgo  Opt[int64]
	LinkDownSeconds   Opt[int64] // unknown when the link never was up: 6.0 prints the Unix time there, 7.0 and later -1
	SyncInProgress    Opt[bool]
	ReplicaOffset     Opt[int64] // slave_repl_offset
	ReadOnly          Opt[bool]  // replica-read-only; of a master by CONFIG GET
	LinkState         string     // ROLE's state of a replica: connect, connecting, handshake, sync, connected
	Replicas          []ReplicaLine
	SyncLeftBytes     Opt[int64]
	SyncReadBytes     Opt[int64]
	SyncLastIOSeconds Opt[int64]
}

// ReplicaLine is one slaveN line as the master shows it (replica-announce-* where set).
type ReplicaLine struct {
	Host   string
	Port   int
	State  string // online, wait_bgsave, send_bulk, ...
	Offset int64  // 0 in the first second means nothing
	Lag    Opt[int64]
}

// MostBehind is how many bytes a replica may be behind while its master is swept, which sends it 30 bytes for each key: half of what its
// output buffer may hold for a minute by default before the master cuts it off, and it copies in full.
const MostBehind = 32 << 20

// Behind is the largest number of bytes that a replica in step is behind.
func (r Replication) Behind() (most int64) {
	for _, l := range r.Replicas {
		if l.State == "online" && l.Offset > 0 {
			most = max(most, r.Offset.Or(0)-l.Offset)
		}
	}
	return most
}

// DB is one line of INFO keyspace.
type DB struct {
	Index   int
	Keys    int64
	Expires int64 // keys with a TTL
}

// Slowlog is what SLOWLOG tells, counted by its monotonic id: LEN stops at slowlog-max-len.
type Slowlog struct {
	Known      bool
	Newest     int64       // id of the newest entry; -1: the log is empty
	Entries    []SlowEntry // newest first, as many as were asked for
	Blind      bool        // slowlog-log-slower-than is -1: nothing is ever logged
	LimitKnown bool        // CONFIG GET told Blind
}

// SlowEntry is the id and time of one slow command; its arguments are never read into memory we keep.
type SlowEntry struct {
	ID   int64
	Unix int64 // by the server's clock
}

// Keys is the number of keys in all DBs; unknown when INFO keyspace was not read.
func (s Snapshot) Keys() Opt[int64] {
	if !s.KeyspaceKnown {
		return Opt[int64]{}
	}
	var n int64
	for _, d := range s.DBs {
		n += d.Keys
	}
	return Known(n)
}

// Volatile is the number of keys with a TTL in all DBs, the expired but not yet deleted ones included.
func (s Snapshot) Volatile() Opt[int64] {
	if !s.KeyspaceKnown {
		return Opt[int64]{}
	}
	var n int64
	for _, d := range s.DBs {
		n += d.Expires
	}
	return Known(n)
}

// Age is how old the snapshot is.
func (s Snapshot) Age(now time.Time) time.Duration { return now.Sub(s.At) }

// Line is a version's release line: major and minor.
type Line struct{ Major, Minor int }

// Compare orders lines by age.
func (l Line) Compare(o Line) int {
	return cmp.Or(cmp.Compare(l.Major, o.Major), cmp.Compare(l.Minor, o.Minor))
}

// Line reads the release line off Version; unknown when it is not of the form MAJOR.MINOR.
func (s Snapshot) Line() Opt[Line] {
	parts := strings.Split(s.Version, ".")
	if len(parts) < 2 {
		return Opt[Line]{}
	}
	major, err := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	if err != nil || err2 != nil {
		return Opt[Line]{}
	}
	return Known(Line{major, minor})
}

// Group is all snapshots of one instance from one round of probing, in config order, and what earlier ones left behind.
type Group struct {
	Instance  Instance
	Snapshots []Snapshot
	MasterUp  time.Time             // since when the master has answered us without a gap; zero: not known
	Courses   map[string]LinkCourse // by replica; a missing one has seen nothing
	Linked    map[string]time.Time  // by replica: since when its link was up at every look; missing: it is not, or not known
	Memory    map[string]NodeMemory // our durable record, by node; nil: not at hand
}

// Of finds a node's snapshot.
func (g Group) Of(node string) (Snapshot, bool) {
	i := slices.IndexFunc(g.Snapshots, func(s Snapshot) bool { return s.Node == node })
	if i < 0 {
		return Snapshot{}, false
	}
	return g.Snapshots[i], true
}
