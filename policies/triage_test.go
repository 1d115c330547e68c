package policies

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// Histories that the tests draw on. The master's is histM.
const (
	histM    = ReplID("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	histX    = ReplID("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")
	histE    = ReplID("cccccccccccccccccccccccccccccccccccccccc") // of a server outside the instance
	noHist   = ReplID("0000000000000000000000000000000000000000")
	fullTo   = int64(1000) // the last byte that every node of a healthy trio holds
	outsider = "10.9.9.9"
)

// A trio is a master M with its replicas X and Y, healthy until a test changes it.
type trio struct {
	in      Instance
	m, x, y Snapshot
	oldX    NodeMemory
	course  LinkCourse // of x
	woke    bool       // the master did not answer until a moment ago
}

func newTrio() *trio {
	address := func(i int) Address { return Address{"10.0.0." + strconv.Itoa(i), 6379} }
	tr := &trio{in: Instance{Name: "dcs-1", ManagedBy: ManagedByNone, Nodes: []Node{
		{Name: "node-m", Address: address(1), Role: RoleMaster},
		{Name: "node-x", Address: address(2), Role: RoleReplica},
		{Name: "node-y", Address: address(3), Role: RoleReplica},
	}}}
	for i, s := range []*Snapshot{&tr.m, &tr.x, &tr.y} {
		*s = healthyNode(tr.in.Nodes[i])
	}
	tr.m.Replication.Role = RoleMaster
	tr.m.Replication.Replicas = []ReplicaLine{{Host: "10.0.0.2", Port: 6379, State: "online", Offset: fullTo}, {Host: "10.0.0.3", Port: 6379, State: "online", Offset: fullTo}}
	tr.follow(&tr.x, tr.in.Nodes[0].Address)
	tr.follow(&tr.y, tr.in.Nodes[0].Address)
	return tr
}

func healthyNode(n Node) Snapshot {
	return Snapshot{
		Instance: "dcs-1", Node: n.Name, At: noon.Add(-time.Second), RTT: time.Millisecond, Reach: ReachUp,
		RunID: "run-of-" + n.Name, TCPPort: Known(6379), Version: "7.0.15", Product: "redis",
		Cluster: Known(false), Loading: Known(false), CommandsKnown: true, MasterAuthSet: Known(false), AuthRequired: Known(false),
		SentinelSeen: Known(false), KeyspaceKnown: true, DBs: []DB{{Index: 0, Keys: 500, Expires: 50}}, OwnIPs: []string{n.Address.Host},
		Persistence: Persistence{BgsaveRunning: Known(false), AOFRewriteRunning: Known(false), LastBgsaveOK: Known(true)},
		Replication: Replication{
			ReplID: histM, ReplID2: noHist, Offset: Known(fullTo), SecondOffset: Known(int64(-1)),
			BacklogActive: Known(true), BacklogFirst: Known(int64(1)), BacklogLength: Known(fullTo),
		},
	}
}

// follow makes s a replica in step with what listens at a.
func (tr *trio) follow(s *Snapshot, a Address) {
	r := &s.Replication
	r.Role, r.MasterHost, r.MasterPort = RoleReplica, a.Host, a.Port
	r.LinkUp, r.LinkState, r.LastIOSecondsAgo = Known(true), "connected", Known(int64(1))
	r.SyncInProgress, r.ReplicaOffset, r.ReadOnly = Known(false), Known(fullTo), Known(true)
	s.MasterIPs = []string{a.Host}
}

// followDown is follow with a link that is down.
func (tr *trio) followDown(s *Snapshot, a Address, state string) {
	tr.follow(s, a)
	r := &s.Replication
	r.LinkUp, r.LinkState, r.LastIOSecondsAgo = Known(false), state, Opt[int64]{}
}

// promote makes s a master with a history of its own, as REPLICAOF NO ONE does, grown by own bytes since.
func (tr *trio) promote(s *Snapshot, own int64) {
	r := &s.Replication
	*r = Replication{
		Role: RoleMaster, ReplID: histX, ReplID2: r.ReplID, Offset: Known(fullTo + own), SecondOffset: Known(fullTo + 1),
		BacklogActive: Known(true), BacklogFirst: Known(int64(1)), BacklogLength: Known(fullTo + own),
		ReadOnly: Known(true),
	}
	s.MasterIPs = nil
}

// moved is the course of a link that is down: pairs of a counter and how far it came.
func moved(span time.Duration, pairs ...int) LinkCourse {
	c := LinkCourse{Since: noon.Add(-span), Last: noon}
	for i := 0; i < len(pairs); i += 2 {
		c.broke = 1
		c.first.counters[pairs[i]], c.last.counters[pairs[i]] = Known(int64(7)), Known(int64(7+pairs[i+1]))
	}
	return c
}

// grownTrio has X promoted and its history grown by expired keys: the changes that it counted when it followed are those it counts now.
func grownTrio() *trio {
	tr := newTrio()
	tr.promote(&tr.x, 95)
	tr.m.Replication.Replicas = tr.m.Replication.Replicas[1:]
	p := &tr.x.Persistence
	p.ChangesSinceLastSave, p.LastSaveTime, p.Saves = Known(int64(7)), Known(int64(100)), Known(int64(1))
	tr.oldX = NodeMemory{Instance: "dcs-1", Node: "node-x", At: tr.x.At, RunID: tr.x.RunID, Role: RoleMaster, ReplID: histX, Followed: Followed{
		ReplID: histM, Offset: fullTo, At: tr.x.At.Add(-10 * time.Second), RunID: tr.x.RunID,
		Writes: WriteCount{RunID: tr.x.RunID, Changes: p.ChangesSinceLastSave, LastSave: p.LastSaveTime, Saves: p.Saves, Settled: time.Minute},
	}}
	return tr
}

// lose makes s a node that does not answer.
func (tr *trio) lose(s *Snapshot, why Reach) {
	*s = Snapshot{Instance: s.Instance, Node: s.Node, At: s.At, Reach: why, Err: "dial tcp: " + string(why), OwnIPs: s.OwnIPs}
}

func (tr *trio) mNode() Address { return tr.in.Nodes[0].Peer() }
func (tr *trio) xNode() Address { return tr.in.Nodes[1].Peer() }
func (tr *trio) yNode() Address { return tr.in.Nodes[2].Peer() }

func (tr *trio) group() Group {
	up := noon.Add(-time.Hour)
	if tr.woke {
		up = noon.Add(-2 * time.Second)
	}
	return Group{MasterUp: up, Instance: tr.in, Snapshots: []Snapshot{tr.m, tr.x, tr.y}, Memory: map[string]NodeMemory{"node-x": tr.oldX}, Courses: map[string]LinkCourse{"node-x": tr.course}}
}

// verdicts writes a triage as text: one "node cause severity [remedy]" for each sick replica.
func verdicts(ts []Triage) string {
	var lines []string
	for _, t := range ts {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", t.Node, t.Cause, t.Severity, t.Remedy)))
	}
	return strings.Join(lines, ", ")
}

func TestTriageNamesTheCause(t *testing.T) {
	const dead = 1 // a port that nobody listens on
	for _, c := range []struct {
		name   string
		change func(*trio)
		want   string
	}{
		{"a healthy group has no entry", func(*trio) {}, ""},

		// X is a master.
		{"promoted, nothing written", func(tr *trio) { tr.promote(&tr.x, 0) }, "node-x promoted critical reattach-replica"},
		{"promoted, written to", func(tr *trio) { tr.promote(&tr.x, 40) }, "node-x promoted-with-writes critical reattach-replica"},
		{"promoted, the history it left is forgotten", func(tr *trio) { tr.promote(&tr.x, 40); tr.x.Replication.ReplID2 = noHist }, "node-x promoted critical reattach-replica"},
		{"promoted, its backlog is gone so that writes do not show", func(tr *trio) { tr.promote(&tr.x, 40); tr.x.Replication.BacklogActive = Known(false) }, "node-x promoted critical reattach-replica"},
		{"promoted, with replicas from outside", func(tr *trio) {
			tr.promote(&tr.x, 0)
			tr.x.Replication.Replicas = []ReplicaLine{{Host: outsider, Port: 6379, State: "online"}}
		}, "node-x two-masters critical reattach-replica"},
		{"promoted, and Y follows it, for all that is known since then", func(tr *trio) {
			tr.promote(&tr.x, 0)
			tr.follow(&tr.y, tr.xNode())
			tr.y.Replication.ReplID = histX
		}, "node-x two-masters critical reattach-replica, node-y two-masters critical"},
		{"master beside an empty master", func(tr *trio) { tr.promote(&tr.x, 0); tr.m.DBs = nil }, "node-x master-empty critical reattach-replica"},
		{"both empty is no empty master", func(tr *trio) { tr.promote(&tr.x, 0); tr.m.DBs, tr.x.DBs = nil, nil }, "node-x promoted critical reattach-replica"},
		{"a master whose keys are not known is not called empty", func(tr *trio) { tr.promote(&tr.x, 0); tr.m.KeyspaceKnown, tr.m.DBs = false, nil }, "node-x promoted critical reattach-replica"},

		// X follows somebody else.
		{"wrong master outside, link up", func(tr *trio) { tr.follow(&tr.x, Address{outsider, 6379}); tr.x.Replication.ReplID = histE }, "node-x wrong-master critical reattach-replica"},
		{"wrong master outside, link down", func(tr *trio) { tr.followDown(&tr.x, Address{outsider, 6379}, "connect") }, "node-x wrong-master critical reattach-replica"},
		{"dead port of the right host", func(tr *trio) { tr.followDown(&tr.x, Address{"10.0.0.1", dead}, "connect") }, "node-x wrong-master critical reattach-replica"},
		{"following itself", func(tr *trio) { tr.followDown(&tr.x, tr.xNode(), "connect") }, "node-x wrong-master critical reattach-replica"},
		{"outside relay of the same history", func(tr *trio) { tr.follow(&tr.x, Address{outsider, 6379}) }, ""},
		{"outside relay that has gone silent", func(tr *trio) {
			tr.follow(&tr.x, Address{outsider, 6379})
			tr.x.Replication.LastIOSecondsAgo = Known(int64(21))
		}, "node-x wrong-master critical reattach-replica"},
		{"outside, the link not known", func(tr *trio) {
			tr.follow(&tr.x, Address{outsider, 6379})
			tr.x.Replication.LinkUp = Opt[bool]{}
		}, "node-x wrong-master critical reattach-replica"},

		// Chains and cycles.
		{"a chain is healthy", func(tr *trio) { tr.follow(&tr.x, tr.yNode()) }, ""},
		{"a chain whose middle lost its link and dropped the end", func(tr *trio) {
			tr.followDown(&tr.x, tr.yNode(), "connect")
			tr.followDown(&tr.y, tr.mNode(), "connect")
		}, "node-x chained critical, node-y network critical"},
		{"a chain whose middle lost its link and holds on to the end: the master lists neither", func(tr *trio) {
			tr.follow(&tr.x, tr.yNode())
			tr.followDown(&tr.y, tr.mNode(), "connect")
			tr.m.Replication.Replicas = nil
		}, "node-x chained critical, node-y network critical"},
		{"a chain whose last link is silent", func(tr *trio) {
			tr.follow(&tr.x, tr.yNode())
			tr.x.Replication.LastIOSecondsAgo = Known(int64(21))
		}, "node-x stuck-link critical"},
		{"the end of a chain copies from the middle", func(tr *trio) {
			tr.followDown(&tr.x, tr.yNode(), "sync")
			tr.x.Replication.SyncInProgress = Known(true)
		}, "node-x syncing warning"},
		{"the end of a chain is being prepared a copy, and says handshake", func(tr *trio) {
			tr.followDown(&tr.x, tr.yNode(), "handshake")
			tr.y.Replication.Replicas = []ReplicaLine{{Host: "10.0.0.2", Port: 6379, State: "wait_bgsave"}}
		}, "node-x syncing warning"},
		{"promoted, and Y is on its way to it", func(tr *trio) {
			tr.promote(&tr.x, 0)
			tr.followDown(&tr.y, tr.xNode(), "handshake")
		}, "node-x two-masters critical reattach-replica, node-y two-masters critical"},
		{"promoted in the middle of a chain, and the end has lost its link: it had that replica before", func(tr *trio) {
			tr.promote(&tr.x, 0)
			tr.followDown(&tr.y, tr.xNode(), "handshake")
			tr.oldX.Followed = Followed{RunID: tr.x.RunID, ReplID: histM, Replicas: []Address{tr.yNode()}}
		}, "node-x promoted critical reattach-replica, node-y chained critical"},
		{"a chain whose middle is down", func(tr *trio) { tr.followDown(&tr.x, tr.yNode(), "connect"); tr.lose(&tr.y, ReachRefused) }, "node-x wrong-master critical reattach-replica, node-y node-down critical"},
		{"a cycle of all", func(tr *trio) {
			tr.follow(&tr.m, tr.xNode())
			tr.follow(&tr.x, tr.yNode())
			tr.follow(&tr.y, tr.mNode())
		}, "node-x cycle critical, node-y cycle critical"},
		{"a cycle beside a live master", func(tr *trio) {
			tr.follow(&tr.x, tr.yNode())
			tr.follow(&tr.y, tr.xNode())
		}, "node-x wrong-master critical reattach-replica, node-y wrong-master critical reattach-replica"},
		{"master and replica in a cycle while another replica is down", func(tr *trio) {
			tr.follow(&tr.m, tr.xNode())
			tr.lose(&tr.y, ReachRefused)
		}, "node-x cycle critical, node-y node-down critical"},
		{"master and replica in a cycle while another replica was promoted", func(tr *trio) {
			tr.follow(&tr.m, tr.xNode())
			tr.promote(&tr.y, 0)
		}, "node-x cycle critical, node-y switched-over critical or node-x cycle critical, node-y cycle critical"},

		// The configured master is a replica.
		{"switched over to X", func(tr *trio) {
			tr.promote(&tr.x, 0)
			tr.follow(&tr.m, tr.xNode())
			tr.follow(&tr.y, tr.xNode())
		}, "node-x switched-over warning, node-y switched-over warning"},
		{"switched over to X, Y left behind", func(tr *trio) {
			tr.promote(&tr.x, 0)
			tr.follow(&tr.m, tr.xNode())
			tr.followDown(&tr.y, Address{outsider, 6379}, "connect")
		}, "node-x switched-over warning, node-y switched-over critical"},
		{"the master follows a node outside", func(tr *trio) { tr.follow(&tr.m, Address{outsider, 6379}) }, "node-x switched-over warning, node-y switched-over warning"},
		{"the master follows a node outside and a replica lost its link", func(tr *trio) {
			tr.follow(&tr.m, Address{outsider, 6379})
			tr.promote(&tr.x, 0)
			tr.followDown(&tr.y, tr.mNode(), "connect")
		}, "node-x switched-over critical, node-y switched-over critical"},

		// The master does not answer us.
		{"master down, links down", func(tr *trio) {
			tr.lose(&tr.m, ReachRefused)
			tr.followDown(&tr.x, tr.mNode(), "connect")
			tr.followDown(&tr.y, tr.mNode(), "connect")
		}, "node-x master-down critical, node-y master-down critical"},
		{"master down, X promoted: the plan is shown and the guards deny it", func(tr *trio) { tr.lose(&tr.m, ReachRefused); tr.promote(&tr.x, 0) }, "node-x master-down critical reattach-replica"},
		{"master down for us alone", func(tr *trio) { tr.lose(&tr.m, ReachNoRoute) }, ""},
		{"master hung", func(tr *trio) { tr.lose(&tr.m, ReachHung); tr.followDown(&tr.x, tr.mNode(), "connect") }, "node-x master-down critical"},
		{"master unreadable", func(tr *trio) { tr.lose(&tr.m, ReachAuth); tr.followDown(&tr.x, tr.mNode(), "connect") }, "node-x master-down critical"},
		{"the link is not known and the master is down", func(tr *trio) { tr.lose(&tr.m, ReachHung); tr.x.Replication.LinkUp = Opt[bool]{} }, "node-x master-down critical"},

		// X does not answer us.
		{"replica down", func(tr *trio) { tr.lose(&tr.x, ReachRefused) }, "node-x node-down critical"},
		{"replica without a route", func(tr *trio) { tr.lose(&tr.x, ReachNoRoute) }, "node-x node-down critical"},
		{"replica resets", func(tr *trio) { tr.lose(&tr.x, ReachReset) }, "node-x node-down critical"},
		{"replica at maxclients", func(tr *trio) { tr.lose(&tr.x, ReachMaxConns) }, "node-x node-down critical"},
		{"replica hung", func(tr *trio) { tr.lose(&tr.x, ReachHung) }, "node-x node-hung critical"},
		{"replica in a script", func(tr *trio) { tr.lose(&tr.x, ReachBusy) }, "node-x node-hung critical"},
		{"replica unreadable", func(tr *trio) { tr.lose(&tr.x, ReachAuth) }, "node-x auth critical"},
		{"replica with another certificate", func(tr *trio) { tr.lose(&tr.x, ReachTLS) }, "node-x tls critical"},
		{"replica not probed with a reach", func(tr *trio) { tr.x = Snapshot{Node: "node-x"} }, "node-x node-down critical"},

		// Loading and copying.
		{"replica loading", func(tr *trio) { tr.x.Reach, tr.x.Loading = ReachLoading, Known(true) }, "node-x loading warning"},
		{"master loading, link down", func(tr *trio) {
			tr.m.Reach, tr.m.Loading = ReachLoading, Known(true)
			tr.followDown(&tr.x, tr.mNode(), "connecting")
		}, "node-x loading warning"},
		{"full copy under way", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "sync")
			tr.x.Replication.SyncInProgress = Known(true)
		}, "node-x syncing warning"},
		{"diskless copy in its first 5 s: the replica says only handshake", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "handshake")
			tr.m.Replication.Replicas[0].State = "wait_bgsave"
		}, "node-x syncing warning"},
		{"handshake while another replica is copied to", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "handshake")
			tr.m.Replication.Replicas[1].State = "wait_bgsave"
		}, "node-x network critical"},

		// X points at M and the link is bad.
		{"last byte 20 s ago", func(tr *trio) { tr.x.Replication.LastIOSecondsAgo = Known(int64(20)) }, ""},
		{"last byte 21 s ago", func(tr *trio) { tr.x.Replication.LastIOSecondsAgo = Known(int64(21)) }, "node-x stuck-link critical reattach-replica"},
		{"last byte 25 s ago, of a master that woke up a moment ago", func(tr *trio) {
			tr.woke = true
			tr.x.Replication.LastIOSecondsAgo = Known(int64(25))
		}, ""},
		{"last byte 50 s ago, of a master that sends a PING each 60 s", func(tr *trio) {
			tr.m.PingPeriod = Known(int64(60))
			tr.x.Replication.LastIOSecondsAgo = Known(int64(50))
		}, ""},
		{"last byte 12 s ago, and the master shows others that answer it", func(tr *trio) { tr.x.Replication.LastIOSecondsAgo = Known(int64(12)) }, ""},
		{"last byte 12 s ago, and the master shows no replica that answers it", func(tr *trio) {
			tr.x.Replication.LastIOSecondsAgo = Known(int64(12))
			tr.m.Replication.Replicas = []ReplicaLine{{Host: "10.0.0.2", Port: 6379, State: "online", Lag: Known(int64(12))}, {Host: "10.0.0.3", Port: 6379, State: "wait_bgsave"}}
		}, "node-x stuck-link critical reattach-replica"},
		{"a copy that has stood still", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "sync")
			tr.x.Replication.SyncInProgress, tr.x.Replication.SyncLastIOSeconds = Known(true), Known(int64(21))
		}, "node-x stuck-link critical"},
		{"master empty, replica still holds its keys", func(tr *trio) { tr.followDown(&tr.x, tr.mNode(), "connect"); tr.m.DBs = nil }, "node-x master-empty critical"},
		{"TLS spoken to the plaintext port", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "connecting")
			tr.x.TLSReplication, tr.m.TLSPort = Known(true), Known(6380)
		}, "node-x tls critical"},
		{"plaintext spoken to the TLS port", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "connect")
			tr.x.TLSReplication, tr.m.TLSPort, tr.m.TCPPort = Known(false), Known(6379), Known(6380)
		}, "node-x tls critical"},
		{"TLS on both, and no link comes up", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "connect")
			tr.x.TLSReplication = Known(true)
			tr.course = moved(3 * time.Second)
		}, "node-x tls critical"},
		{"TLS on both, and nothing answers", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "connecting")
			tr.x.TLSReplication = Known(true)
			tr.course = moved(3 * time.Second)
		}, "node-x network critical"},
		{"master refuses its login", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "connect")
			tr.x.MasterAuthSet = Known(true)
			tr.course = moved(time.Second, counterWrongPass, 1)
		}, "node-x auth critical"},
		{"master refuses somebody's login, and the replica does not come so far", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "connecting")
			tr.x.MasterAuthSet = Known(true)
			tr.course = moved(time.Second, counterWrongPass, 1)
		}, "node-x network critical"},
		{"6.0: the ACL log names it", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "connect")
			tr.x.MasterAuthSet = Known(true)
			tr.m.Refusals = []Refusal{{Host: "10.0.0.2", Reason: "command", Object: "PSYNC", Age: 2 * time.Second}}
		}, "node-x auth critical"},
		{"6.0: the ACL log names others and older ones", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "connect")
			tr.x.MasterAuthSet = Known(true)
			tr.m.Refusals = []Refusal{{Host: "10.0.0.9", Object: "AUTH"}, {Host: "10.0.0.2", Object: "AUTH", Age: time.Minute}, {Host: "10.0.0.2", Object: "get"}}
		}, "node-x network critical"},
		{"one copy for each replica is no loop", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "sync")
			tr.x.Replication.SyncInProgress = Known(true)
			tr.course = moved(5*time.Second, counterCopies, 2)
		}, "node-x syncing warning"},
		{"a copy was begun a moment ago, and the link is down again", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "connect")
			tr.course = moved(20*time.Second, counterCopies, 1)
			tr.course.past, tr.course.copyAt = true, noon.Add(-5*time.Second)
		}, "node-x syncing warning"},
		{"a copy was begun a while ago, and the link is down", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "connect")
			tr.course = moved(40*time.Second, counterCopies, 1)
			tr.course.past, tr.course.copyAt = true, noon.Add(-30*time.Second)
		}, "node-x network critical"},
		{"copy after copy, cut off for the buffer", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "sync")
			tr.x.Replication.SyncInProgress = Known(true)
			tr.course = moved(5*time.Second, counterCopies, 3, counterKills, 3)
		}, "node-x resync-loop critical"},
		{"copy after copy, nobody cut it off", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "connect")
			tr.course = moved(5*time.Second, counterCopies, 3, counterKills, 0)
		}, "node-x load-failed critical"},
		{"copy after copy, no such counter, the stream outgrew the limit", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "connect")
			tr.m.ReplicaBuffer = Known(BufferLimit{Hard: 8 << 20, Soft: 1 << 20, SoftSeconds: 10})
			tr.course = moved(5*time.Second, counterCopies, 3, counterStream, 3<<20)
			tr.course.grown = 1 << 20
		}, "node-x resync-loop critical"},
		{"copy after copy, no such counter, the stream is slow", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "connect")
			tr.m.ReplicaBuffer = Known(BufferLimit{Hard: 8 << 20, Soft: 1 << 20, SoftSeconds: 10})
			tr.course = moved(5*time.Second, counterCopies, 3, counterStream, 1<<20)
		}, "node-x load-failed critical"},
		{"copy after copy, no such counter and no limit known", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "connect")
			tr.course = moved(5*time.Second, counterCopies, 3, counterStream, 1<<20)
		}, "node-x resync-loop critical"},
		{"copy after copy, and the master is newer", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "connect")
			tr.m.Version = "8.0.2"
			tr.course = moved(5*time.Second, counterCopies, 30, counterKills, 1)
		}, "node-x load-failed critical"},
		{"grown by expired keys alone, as our record proves", func(tr *trio) { *tr = *grownTrio() }, "node-x promoted critical reattach-replica"},
		{"promoted with the replica that it had before", func(tr *trio) {
			tr.promote(&tr.x, 0)
			tr.x.Replication.Replicas = []ReplicaLine{{Host: "10.0.0.3", Port: 6379, State: "online"}}
			tr.follow(&tr.y, tr.xNode())
			tr.y.Replication.ReplID = histX
			tr.oldX.Followed = Followed{RunID: tr.x.RunID, ReplID: histM, Offset: fullTo, Replicas: []Address{tr.yNode()}}
		}, "node-x promoted critical reattach-replica, node-y chained critical"},
		{"promoted with the replica that it had in another life", func(tr *trio) {
			tr.promote(&tr.x, 0)
			tr.x.Replication.Replicas = []ReplicaLine{{Host: "10.0.0.3", Port: 6379, State: "online"}}
			tr.oldX.Followed = Followed{RunID: "another", ReplID: histM, Offset: fullTo, Replicas: []Address{tr.yNode()}}
		}, "node-x two-masters critical reattach-replica"},
		{"PSYNC is renamed on the master: no id and offset -1, link up, nothing else wrong", func(tr *trio) {
			r := &tr.x.Replication
			r.ReplID, r.ReplicaOffset, r.Offset = "", Known(int64(-1)), Known(int64(-1))
			tr.m.Replication.Replicas[0].Offset = 0
		}, ""},
		{"network between them", func(tr *trio) { tr.followDown(&tr.x, tr.mNode(), "connect") }, "node-x network critical"},
		{"no masterauth", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "connecting")
			tr.m.AuthRequired, tr.x.MasterAuthSet = Known(true), Known(false)
		}, "node-x auth critical"},
		{"masterauth not readable", func(tr *trio) {
			tr.followDown(&tr.x, tr.mNode(), "connecting")
			tr.m.AuthRequired, tr.x.MasterAuthSet = Known(true), Opt[bool]{}
		}, "node-x network critical"},
		{"the link is not known", func(tr *trio) { tr.x.Replication.LinkUp = Opt[bool]{} }, "node-x network critical"},

		// Who is who.
		{"one process under two addresses", func(tr *trio) { tr.x.RunID = tr.m.RunID; tr.promote(&tr.x, 0) }, "node-x same-node critical"},
		{"run ids that are not known are not the same node", func(tr *trio) { tr.x.RunID, tr.m.RunID = "", "" }, ""},
		{"a host name that resolves to the master", func(tr *trio) {
			tr.followDown(&tr.x, Address{"redis-m.internal", 6379}, "connect")
			tr.x.MasterIPs = []string{"10.0.0.1"}
		}, "node-x network critical"},
		{"a host name in other case", func(tr *trio) {
			tr.in.Nodes[0].Address.Host = "Redis-M.internal"
			tr.followDown(&tr.x, Address{"redis-m.INTERNAL", 6379}, "connect")
			tr.x.MasterIPs = nil
		}, "node-x network critical"},
		{"a host name that resolves to the master, of another port", func(tr *trio) {
			tr.followDown(&tr.x, Address{"redis-m.internal", dead}, "connect")
			tr.x.MasterIPs = []string{"10.0.0.1"}
		}, "node-x wrong-master critical reattach-replica"},
		{"a host name that does not resolve, link down", func(tr *trio) {
			tr.followDown(&tr.x, Address{"redis-m.internal", 6379}, "connect")
			tr.x.MasterIPs = nil
		}, "node-x wrong-master critical reattach-replica"},
		{"a host name that does not resolve, in step", func(tr *trio) {
			tr.follow(&tr.x, Address{"redis-m.internal", 6379})
			tr.x.MasterIPs = nil
		}, ""},
		{"the address that peers know", func(tr *trio) { mapped(tr) }, ""},
		{"the address that peers know, link down", func(tr *trio) { mapped(tr); tr.followDown(&tr.x, tr.mNode(), "connect") }, "node-x network critical"},
		{"the address that only we can reach: peers find nobody there", func(tr *trio) {
			mapped(tr)
			tr.followDown(&tr.x, tr.in.Nodes[0].Address, "connect")
		}, "node-x wrong-master critical reattach-replica"},
		{"our address of one node is the peers' address of another", func(tr *trio) {
			mapped(tr)
			tr.in.Nodes[0].Address = tr.in.Nodes[2].PeerAddress
			tr.promote(&tr.y, 0)
			tr.follow(&tr.x, tr.yNode())
			tr.x.Replication.ReplID = histX
		}, "node-x two-masters critical, node-y two-masters critical reattach-replica"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTrio()
			c.change(tr)
			got := TriageReplication(tr.group(), noon)
			if v := verdicts(got); !slices.Contains(strings.Split(c.want, " or "), v) {
				t.Errorf("got  %s\nwant %s\n%+v", v, c.want, got)
			}
			for _, g := range got {
				if !strings.Contains(g.Msg, g.Node) && g.Cause != CauseCycle {
					t.Errorf("the message does not name %s: %q", g.Node, g.Msg)
				}
			}
		})
	}
}

// mapped gives the nodes addresses as containers have them: one host and mapped ports for us, a network of their own for peers.
func mapped(tr *trio) {
	for i := range tr.in.Nodes {
		tr.in.Nodes[i].Address = Address{"127.0.0.1", 7001 + i}
		tr.in.Nodes[i].PeerAddress = Address{fmt.Sprintf("172.16.0.%d", i+1), 6379}
	}
	for i, s := range []*Snapshot{&tr.m, &tr.x, &tr.y} {
		s.OwnIPs = []string{"127.0.0.1", tr.in.Nodes[i].PeerAddress.Host}
	}
	tr.follow(&tr.x, tr.mNode())
	tr.follow(&tr.y, tr.mNode())
}

// Unknown is never healthy: two ids that nobody told are not one history.
func TestTriageDoesNotTakeUnknownForHealthy(t *testing.T) {
	for name, change := range map[string]func(*trio){
		"no replication ids": func(tr *trio) { tr.x.Replication.ReplID, tr.m.Replication.ReplID = "", "" },
		"ids of zeros":       func(tr *trio) { tr.x.Replication.ReplID, tr.m.Replication.ReplID = noHist, noHist },
		"no replication ids in a chain": func(tr *trio) {
			tr.follow(&tr.x, tr.yNode())
			tr.x.Replication.ReplID, tr.m.Replication.ReplID = "", ""
		},
		"no replication ids, an outside": func(tr *trio) {
			tr.follow(&tr.x, Address{outsider, 6379})
			tr.x.Replication.ReplID, tr.m.Replication.ReplID = "", ""
		},
		"role of the replica": func(tr *trio) { tr.x.Replication.Role = "" },
		"role of the master":  func(tr *trio) { tr.m.Replication.Role = "" },
	} {
		tr := newTrio()
		change(tr)
		if got := verdicts(TriageReplication(tr.group(), noon)); !strings.Contains(got, "node-x") {
			t.Errorf("%s: node-x is taken for healthy; found only %q", name, got)
		}
	}
}

// While the master loads, its keys come back one by one: it is not empty, and it is not the replica's fault.
func TestALoadingMasterIsNotCalledEmpty(t *testing.T) {
	tr := newTrio()
	tr.promote(&tr.x, 0)
	tr.m.Reach, tr.m.Loading, tr.m.DBs = ReachLoading, Known(true), nil
	for _, g := range TriageReplication(tr.group(), noon) {
		if g.Node == "node-x" && g.Cause == CauseMasterEmpty {
			t.Errorf("cause %s of a master that is still loading: %s", g.Cause, g.Msg)
		}
	}
}

func TestTriageOfAPartialPicture(t *testing.T) {
	tr := newTrio()
	g := tr.group()
	g.Snapshots = g.Snapshots[:2]
	if got := verdicts(TriageReplication(g, noon)); got != "" {
		t.Errorf("a node without a snapshot is judged: %s", got)
	}
	tr.promote(&tr.x, 0)
	tr.followDown(&tr.y, tr.mNode(), "connect")
	g.Snapshots = []Snapshot{tr.x, tr.y}
	if got, want := verdicts(TriageReplication(g, noon)), "node-x master-down critical reattach-replica, node-y master-down critical"; got != want {
		t.Errorf("without a snapshot of the master: got %q, want %q", got, want)
	}
	if got := TriageReplication(Group{}, noon); len(got) != 0 {
		t.Errorf("the zero group: %v", got)
	}
}
