package policies

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Health is how a check came out.
type Health string

// In rising order. An error would keep the program from seeing a node, or from repairing what it is set to repair.
const (
	HealthOK      Health = "ok"
	HealthWarning Health = "warning"
	HealthError   Health = "error"
)

// Check names what a CheckResult is about.
type Check string

// The checks.
const (
	CheckReach       Check = "reach"
	CheckTLS         Check = "tls"
	CheckAuth        Check = "auth"
	CheckVersion     Check = "version"
	CheckLatency     Check = "latency"
	CheckClock       Check = "clock"
	CheckRights      Check = "rights"
	CheckCommands    Check = "commands"
	CheckPersistence Check = "persistence"
	CheckReplication Check = "replication"
	CheckAlarms      Check = "alarms"
	CheckCluster     Check = "cluster"
	CheckManagedBy   Check = "managed_by"
	CheckTopology    Check = "topology"
	CheckBus         Check = "bus"
	CheckState       Check = "state_dir"
	CheckJournal     Check = "journal"
)

// CheckResult is one finding of doctor.
type CheckResult struct {
	Severity Health `json:"severity"`
	Instance string `json:"instance,omitempty"`
	Node     string `json:"node,omitempty"`
	Check    Check  `json:"check"`
	Seen     string `json:"seen"`
	Cure     string `json:"cure,omitempty"` // empty: nothing is to be done
}

// Checkup is what doctor reads of one node.
type Checkup struct {
	Snapshot
	Pings      []time.Duration // round trips of PING, connection and handshake left out
	User       string          // by ACL WHOAMI; empty: not told
	Permission Permission
	Unknown    []string // commands that the server does not know, by Redis's name; meaningful where Commands is true
	Commands   bool     // Unknown was read
	ReplTimeout,
	MinReplicas Opt[int64] // repl-timeout in seconds, min-replicas-to-write
}

// Permission is what the server says that a user may do, by the names of Grants.
type Permission struct {
	By      string          // ACL DRYRUN or ACL GETUSER; empty: nothing was told
	Allowed map[string]bool // a command that is missing: not known
}

// Of is what is known of one command.
func (p Permission) Of(command string) Opt[bool] {
	allowed, known := p.Allowed[command]
	return Opt[bool]{V: allowed, Known: known}
}

// Doctor judges the nodes of one instance. Pure.
type Doctor struct {
	Config   Config
	Instance Instance
	Live     []Action // what may run for real now, by the config or by live enable
	Now      time.Time
	Nodes    []Checkup // in config order

	results []CheckResult
}

// Diagnose is every finding, in the order of the nodes.
func (d Doctor) Diagnose() []CheckResult {
	for i, c := range d.Nodes {
		n := d.Instance.Nodes[i]
		if !d.reach(n, c) {
			continue
		}
		d.login(n, c)
		d.version(n, c)
		d.pace(n, c)
		d.rights(n, c)
		d.persistence(n, c)
		d.settings(n, c)
		d.alarms(n, c)
		d.others(n, c)
		d.topology(n, c)
	}
	d.twins()
	return d.results
}

func (d *Doctor) say(h Health, n Node, check Check, cure, format string, args ...any) {
	d.results = append(d.results, CheckResult{Severity: h, Instance: d.Instance.Name, Node: n.Name, Check: check, Seen: fmt.Sprintf(format, args...), Cure: cure})
}

// breaking is the severity of what would break an action: an error where it may run for real.
func (d *Doctor) breaking(actions ...Action) Health {
	for _, a := range actions {
		if slices.Contains(d.Live, a) {
			return HealthError
		}
	}
	return HealthWarning
}

// group is the instance as the replication rules know it.
func (d *Doctor) group() Group {
	g := Group{Instance: d.Instance}
	for _, c := range d.Nodes {
		g.Snapshots = append(g.Snapshots, c.Snapshot)
	}
	return g
}

// of finds a node's checkup.
func (d *Doctor) of(node string) Checkup {
	for _, c := range d.Nodes {
		if c.Node == node {
			return c
		}
	}
	return Checkup{}
}

// reach reports whether there is anything more to judge.
func (d *Doctor) reach(n Node, c Checkup) bool {
	cures := map[Reach]string{
		ReachRefused: "start the server, or correct the node's address",
		ReachNoRoute: "see to the network, the firewall or the node's address",
		ReachHung:    "see what holds the server up; a plaintext port does not answer TLS",
		ReachReset:   "start the server, or set tls for the instance where the port wants it",
		ReachBusy:    "end the script: SCRIPT KILL",
		ReachOdd:     "correct the node's address: it leads to something else",
	}
	switch c.Reach {
	case ReachUp:
		d.say(HealthOK, n, CheckReach, "", "%s answers: %s %s, %s", n.Address, c.Product, c.Version, cmp.Or(string(c.Replication.Role), "of no clear role"))
		return true
	case ReachLoading:
		d.say(HealthWarning, n, CheckReach, "wait until it has loaded, and ask again", "%s is loading its data set", n.Address)
		return true
	case ReachAuth:
		d.say(HealthError, n, CheckAuth, "set username and password_file or password_env of the instance, and grant the rights: dcshealer acl", "%s", c.Err)
	case ReachTLS:
		d.say(HealthError, n, CheckTLS, "correct the setting under tls of the instance", "%s", c.Err)
	case ReachMaxConns:
		d.say(HealthError, n, CheckReach, "raise maxclients, or close connections", "%s", c.Err)
	default:
		d.say(HealthError, n, CheckReach, cmp.Or(cures[c.Reach], "see the node"), "%s", c.Err)
	}
	return false
}

func (d *Doctor) login(n Node, c Checkup) {
	user := cmp.Or(c.User, d.Instance.Username, "default")
	switch {
	case d.Instance.TLS != nil && d.Instance.TLS.CertFile != "":
		d.say(HealthOK, n, CheckTLS, "", "TLS with a client certificate")
	case d.Instance.TLS != nil:
		d.say(HealthOK, n, CheckTLS, "", "TLS")
	}
	d.say(HealthOK, n, CheckAuth, "", "as the user %s", user)
}

// newestTested are the newest release lines that the program's own tests run on.
var newestTested = map[string]Line{"redis": {8, 0}, "valkey": {9, 1}}

func (d *Doctor) version(n Node, c Checkup) {
	line, name := c.Line(), c.Product+" "+c.Version
	newest, known := newestTested[c.Product]
	switch {
	case !line.Known || !known:
		d.say(HealthWarning, n, CheckVersion, "run Redis 6.0 to 8.0, or Valkey 8.1 to 9.1", "%q is of no release that is known: repairs that depend on it are denied", name)
	case line.V.Major < 6:
		d.say(HealthError, n, CheckVersion, "upgrade to 6.0 or later", "%s is older than what is supported", name)
	case line.V.Compare(newest) > 0:
		d.say(HealthWarning, n, CheckVersion, "try it in dry run first", "%s is newer than what was tested (%d.%d)", name, newest.Major, newest.Minor)
	default:
		d.say(HealthOK, n, CheckVersion, "", "%s is supported", name)
	}
}

// clockSkew is how far a server's clock may be off before what it dates cannot be compared with our times.
const clockSkew = 3 * time.Second

func (d *Doctor) pace(n Node, c Checkup) {
	if len(c.Pings) > 0 {
		trips := slices.Sorted(slices.Values(c.Pings))
		most, timeout := trips[len(trips)-1], d.Config.Agent.Timeout
		if most > timeout/4 {
			d.say(HealthWarning, n, CheckLatency, "raise agent.timeout, or run nearer to the node", "a round trip takes up to %s, and agent.timeout is %s", most.Round(time.Microsecond), timeout)
		} else {
			d.say(HealthOK, n, CheckLatency, "", "round trips of PING: %s in the middle, %s at most", trips[len(trips)/2].Round(time.Microsecond), most.Round(time.Microsecond))
		}
	}
	if !c.ServerTime.Known {
		return
	}
	off := time.Unix(c.ServerTime.V, 0).Sub(c.At.Truncate(time.Second))
	if off.Abs() > clockSkew {
		d.say(HealthWarning, n, CheckClock, "set the clocks by NTP", "its clock is %s %s ours", off.Abs(), map[bool]string{true: "ahead of", false: "behind"}[off > 0])
		return
	}
	d.say(HealthOK, n, CheckClock, "", "its clock agrees with ours")
}

func (d *Doctor) persistence(n Node, c Checkup) {
	p := c.Persistence
	bad := false
	if !p.LastBgsaveOK.Or(true) {
		bad = true
		d.say(d.breaking(ReattachReplica), n, CheckPersistence, "see the server's log: disk full, or no memory for a fork (vm.overcommit_memory)", "the last BGSAVE failed: a full copy is denied, and the server may refuse writes")
	}
	if !p.LastAOFWriteOK.Or(true) {
		bad = true
		d.say(d.breaking(ReattachReplica), n, CheckPersistence, "see the server's log and its disk", "the last write to the AOF failed: the server refuses writes")
	}
	if !bad && p.LastBgsaveOK.Known {
		d.say(HealthOK, n, CheckPersistence, "", "the last BGSAVE and AOF write went well")
	}
}

// alarms names those that cannot fire.
func (d *Doctor) alarms(n Node, c Checkup) {
	blind := Blind(c.Snapshot)
	for _, text := range blind {
		seen, cure, _ := strings.Cut(text, "; ")
		d.say(HealthWarning, n, CheckAlarms, cure, "%s", seen)
	}
	if len(blind) == 0 {
		d.say(HealthOK, n, CheckAlarms, "", "every alarm can fire")
	}
}

// others says who else may repair the instance.
func (d *Doctor) others(n Node, c Checkup) {
	if c.Cluster.Or(false) {
		d.say(d.breaking(ReattachReplica), n, CheckCluster, "leave repairs of its replication to the cluster", "it runs in cluster mode, where REPLICAOF is not allowed")
	}
	by := cmp.Or(d.Instance.ManagedBy, ManagedByNone)
	switch {
	case !c.SentinelSeen.Known:
		d.say(d.breaking(ReattachReplica), n, CheckManagedBy, "grant +client|list", "it does not show its clients: a Sentinel cannot be ruled out, and repairs are denied")
	case c.SentinelSeen.V && by == ManagedByNone:
		d.say(d.breaking(ReattachReplica), n, CheckManagedBy, "set managed_by: sentinel for "+d.Instance.Name, "a Sentinel is connected and managed_by is none: repairs are denied")
	case !c.SentinelSeen.V && by == ManagedBySentinel:
		d.say(HealthWarning, n, CheckManagedBy, "correct managed_by, or see why the Sentinels do not watch it", "no Sentinel is connected and managed_by is sentinel")
	default:
		d.say(HealthOK, n, CheckManagedBy, "", "managed by %s, as the config says", by)
	}
}
