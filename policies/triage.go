package policies

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Triage is what is wrong between a replica and its master.
type Triage struct {
	Node     string // the replica, by configuration
	Cause    Cause
	Severity Severity // Critical: off its master; Warning: on the mend by itself, or changed by a person
	Remedy   Action   // the action that can cure the cause once every guard agrees; empty: none
	Early    bool     // another look may still tell a nearer cause, or find it gone: nothing is decided yet
	Msg      string
}

// memoryKept is how long a master's last good state is believed over what it says after a loss.
const memoryKept = 24 * time.Hour

// silentLink is the age of the last byte from the master at which an "up" link is stuck: a master sends a PING each 10 s,
// and master_link_status says up until repl-timeout (60 s).
const silentLink = 20

// TriageReplication tells what is wrong with each configured replica of the group, in config order; a healthy one has no
// entry. It judges by what the nodes say of themselves and of each other, never by one node alone where two can be asked.
func TriageReplication(g Group, now time.Time) []Triage {
	master := g.Instance.Master()
	m, _ := g.Of(master.Name)
	var out []Triage
	for _, n := range g.Instance.Nodes {
		if n.Role != RoleReplica {
			continue
		}
		x, ok := g.Of(n.Name)
		if !ok {
			continue
		}
		if t, sick := triageOne(g, n, master, x, m); sick {
			t.Node = n.Name
			if t.Severity == 0 {
				t.Severity = Critical
			}
			out = append(out, t)
		}
	}
	return out
}

func triageOne(g Group, xn, mn Node, x, m Snapshot) (Triage, bool) {
	switch {
	case !x.Reach.Answers():
		return unreachable(xn, x), true
	case x.Reach == ReachLoading || x.Loading.Or(false):
		return Triage{Cause: CauseLoading, Severity: Warning, Msg: xn.Name + " is loading its data set; wait"}, true
	case !m.Reach.Answers():
		return masterUnreachable(xn, mn, x, m)
	case m.RunID != "" && x.RunID == m.RunID:
		return Triage{Cause: CauseSameNode, Msg: fmt.Sprintf("%s and %s are the same server process (run id %s): correct the addresses in the config", xn.Name, mn.Name, short(x.RunID))}, true
	case m.Replication.Role != RoleMaster:
		return masterDemoted(g, xn, mn, x, m)
	case x.Replication.Role == RoleMaster:
		return masterRole(g, xn, mn, x, m), true
	}
	return replicaRole(g, xn, mn, x, m)
}

func unreachable(n Node, s Snapshot) Triage {
	switch s.Reach {
	case ReachHung, ReachBusy:
		return Triage{Cause: CauseNodeHung, Msg: fmt.Sprintf("%s does not answer (%s): %s", n.Name, s.Reach, s.Err)}
	case ReachAuth:
		return Triage{Cause: CauseAuth, Msg: fmt.Sprintf("%s cannot be read: %s; check username and password of the instance", n.Name, s.Err)}
	case ReachTLS:
		return Triage{Cause: CauseTLS, Msg: fmt.Sprintf("%s cannot be read: %s", n.Name, s.Err)}
	}
	return Triage{Cause: CauseNodeDown, Msg: fmt.Sprintf("%s cannot be reached (%s): %s", n.Name, s.Reach, s.Err)}
}

// masterUnreachable is a replica whose configured master we cannot read. Nothing is repaired towards a master unseen.
func masterUnreachable(xn, mn Node, x, m Snapshot) (Triage, bool) {
	r := x.Replication
	if r.Role == RoleReplica && r.LinkUp.Or(false) {
		return Triage{}, false // the master is down for us alone; instance_up says so
	}
	t := Triage{Cause: CauseMasterDown, Msg: fmt.Sprintf("the master %s cannot be reached (%s) and %s has no link to it: restore the master first", mn.Name, m.Reach, xn.Name)}
	if r.Role == RoleMaster {
		t.Remedy = ReattachReplica
		t.Msg = fmt.Sprintf("%s is a master and the configured master %s cannot be reached (%s): it may have been promoted in its place; decide which one holds the data", xn.Name, mn.Name, m.Reach)
	}
	return t, true
}

// masterDemoted: the configured master is a replica now. Somebody switched over, and that is never undone.
func masterDemoted(g Group, xn, mn Node, x, m Snapshot) (Triage, bool) {
	upstream, inGroup := g.upstream(m)
	switch {
	case inGroup && g.endless(m):
		return Triage{Cause: CauseCycle, Msg: fmt.Sprintf("no node of %s is a master: they follow each other in a circle; a person has to choose the master", g.Instance.Name)}, true
	case inGroup && upstream.Name == xn.Name:
		return Triage{Cause: CauseSwitchedOver, Severity: Warning, Msg: fmt.Sprintf("%s is the master now and %s follows it: correct the roles in the config", xn.Name, mn.Name)}, true
	case x.Replication.Role == RoleReplica && x.Replication.LinkUp.Or(false):
		return Triage{Cause: CauseSwitchedOver, Severity: Warning, Msg: fmt.Sprintf("the configured master %s is a replica of %s:%d; %s has its link up: correct the roles in the config", mn.Name, m.Replication.MasterHost, m.Replication.MasterPort, xn.Name)}, true
	}
	return Triage{Cause: CauseSwitchedOver, Msg: fmt.Sprintf("the configured master %s is a replica of %s:%d: correct the roles in the config, then see to %s", mn.Name, m.Replication.MasterHost, m.Replication.MasterPort, xn.Name)}, true
}

// masterRole: a configured replica that is a master, beside the configured master that is one too.
func masterRole(g Group, xn, mn Node, x, m Snapshot) Triage {
	t := Triage{Remedy: ReattachReplica}
	own := OwnBytes(x.Replication)
	switch {
	case m.Reach == ReachUp && !m.Loading.Or(false) && m.Keys().Or(1) == 0 && x.Keys().Or(1) > 0:
		t.Cause, t.Msg = CauseMasterEmpty, fmt.Sprintf("%s is a master with %s keys and %s is empty: following it would delete them", xn.Name, x.Keys(), mn.Name)
	case inUse(g, xn, x, g.Memory[xn.Name]):
		t.Cause, t.Msg = CauseTwoMasters, fmt.Sprintf("%s and %s are both masters, and %s has replicas of its own: decide which one holds the data", xn.Name, mn.Name, xn.Name)
	case formerMaster(x.Replication, m.Replication):
		t.Cause, t.Msg = CausePromoted, fmt.Sprintf("%s is the former master and still a master; %s has gone on from its history", xn.Name, mn.Name)
	case own.Known && own.V > 0 && GrowthExplained(x, g.Memory[xn.Name]) != "":
		t.Cause, t.Msg = CausePromoted, fmt.Sprintf("%s is a master instead of a replica of %s; its history grew by %d bytes, none of them a write: %s", xn.Name, mn.Name, own.V, GrowthExplained(x, g.Memory[xn.Name]))
	case own.Known && own.V > 0:
		t.Cause, t.Msg = CausePromotedWithWrites, fmt.Sprintf("%s was promoted to master and its history grew by %d bytes since", xn.Name, own.V)
	default:
		t.Cause, t.Msg = CausePromoted, fmt.Sprintf("%s is a master instead of a replica of %s", xn.Name, mn.Name)
	}
	return t
}

// inUse reports whether a node that is a master has begun to serve replicas as one: some that it did not have as a replica itself, be it
// that it shows them or that a node of the group says it follows it, on its way to be linked.
func inUse(g Group, n Node, s Snapshot, old NodeMemory) bool {
	return newReplicas(s, old) || slices.ContainsFunc(g.Snapshots, func(o Snapshot) bool {
		up, ok := g.upstream(o)
		return ok && o.Node != n.Name && up.Name == n.Name && !g.hadReplica(s, old, o)
	})
}

// hadReplica reports whether a node had the other one as its replica when it last followed its master itself, by the address that it showed.
func (g Group) hadReplica(s Snapshot, old NodeMemory, o Snapshot) bool {
	peer, _ := g.Instance.Node(o.Node)
	return old.Followed.RunID == s.RunID && s.RunID != "" && slices.ContainsFunc(old.Followed.Replicas, func(a Address) bool {
		return a.Port == peer.Peer().Port && (strings.EqualFold(a.Host, peer.Peer().Host) || slices.Contains(o.OwnIPs, a.Host))
	})
}

// replicaRole: both have the right role; where does the replica point, and does the link work?
func replicaRole(g Group, xn, mn Node, x, m Snapshot) (Triage, bool) {
	r := x.Replication
	target, inGroup := g.upstream(x)
	switch {
	case inGroup && target.Name == mn.Name:
		return linkTo(g, xn, mn, x, m)
	case inGroup && target.Name == xn.Name:
		return Triage{Cause: CauseWrongMaster, Remedy: ReattachReplica, Msg: xn.Name + " follows itself"}, true
	case inGroup:
		return chained(g, xn, mn, x, m, target)
	case r.Role != RoleReplica:
		return Triage{Cause: CauseNetwork, Msg: xn.Name + " does not say whether it is a master or a replica"}, true
	case r.LinkUp.Or(false) && inStep(r, m.Replication) && silence(r) <= silentLink:
		return Triage{}, false // the master under a name of its own, or a relay of the same history
	}
	return Triage{Cause: CauseWrongMaster, Remedy: ReattachReplica,
		Msg: fmt.Sprintf("%s follows %s:%d instead of %s (%s), link %s", xn.Name, r.MasterHost, r.MasterPort, mn.Name, mn.Peer(), link(r))}, true
}

// chained: the replica follows another node of the group.
func chained(g Group, xn, mn Node, x, m Snapshot, target Node) (Triage, bool) {
	r := x.Replication
	up, _ := g.Of(target.Name)
	switch {
	case up.Reach.Answers() && up.Replication.Role == RoleMaster && !inUse(g, target, up, g.Memory[target.Name]):
		return Triage{Cause: CauseChained, Msg: fmt.Sprintf("%s follows %s, which was promoted: %s comes first, %s follows it by itself", xn.Name, target.Name, target.Name, xn.Name)}, true
	case up.Reach.Answers() && up.Replication.Role == RoleMaster:
		return Triage{Cause: CauseTwoMasters, Msg: fmt.Sprintf("%s follows %s, which is a master beside %s: decide which one holds the data", xn.Name, target.Name, mn.Name)}, true
	case !g.leadsTo(x, mn.Name) && up.Reach.Answers() && !g.endless(x):
		return Triage{Cause: CauseChained, Msg: fmt.Sprintf("%s follows %s, which is astray itself: %s comes first, %s follows it by itself", xn.Name, target.Name, target.Name, xn.Name)}, true
	case !g.leadsTo(x, mn.Name) && up.Reach.Answers():
		return Triage{Cause: CauseWrongMaster, Remedy: ReattachReplica,
			Msg: fmt.Sprintf("%s follows %s and the chain does not end at the master %s", xn.Name, target.Name, mn.Name)}, true
	case r.LinkUp.Or(false) && up.Reach.Answers() && !up.Replication.LinkUp.Or(false):
		return Triage{Cause: CauseChained, Msg: fmt.Sprintf("%s follows %s, which has no link to the master itself: %s comes first", xn.Name, target.Name, target.Name)}, true
	case r.LinkUp.Or(false) && silence(r) > silentLink:
		return Triage{Cause: CauseStuckLink, Msg: fmt.Sprintf("the link of %s says up, yet %s has sent nothing for %d s: CLIENT KILL TYPE master on %s makes it connect again", xn.Name, target.Name, silence(r), xn.Name)}, true
	case r.LinkUp.Or(false) && inStep(r, m.Replication):
		return Triage{}, false // a chain is healthy
	case r.SyncInProgress.Or(false), copying(up, x):
		return Triage{Cause: CauseSyncing, Severity: Warning, Msg: fmt.Sprintf("%s is copying from %s; wait", xn.Name, target.Name)}, true
	case up.Reach.Answers() && !up.Replication.LinkUp.Or(false):
		return Triage{Cause: CauseChained, Msg: fmt.Sprintf("%s follows %s, which has no link to the master itself: %s comes first", xn.Name, target.Name, target.Name)}, true
	}
	// A person may have made the chain just now, or its middle has come back just now: the link is still coming up (6.0: within a second,
	// once it has noticed).
	since := g.Linked[target.Name]
	settled := !up.Reach.Answers() || !since.IsZero() && x.At.Sub(since) >= chainSettles
	return Triage{Cause: CauseWrongMaster, Remedy: ReattachReplica, Early: g.Courses[xn.Name].Span() < courseEnough || !settled,
		Msg: fmt.Sprintf("%s follows %s instead of %s, link %s", xn.Name, target.Name, mn.Name, link(r))}, true
}

// chainSettles is how long the middle of a chain has to be linked before the end of it is not on its way any more.
const chainSettles = 4 * time.Second

// linkTo: the replica points at the right master. REPLICAOF to the address it already has is a no-op on all versions, so
// nothing here is cured by it.
func linkTo(g Group, xn, mn Node, x, m Snapshot) (Triage, bool) {
	r := x.Replication
	switch {
	case r.LinkUp.Or(false):
		return linkUp(g, xn, mn, x, m)
	case m.Reach == ReachUp && !m.Loading.Or(false) && m.Keys().Or(1) == 0 && x.Keys().Or(0) > 0:
		return Triage{Cause: CauseMasterEmpty, Msg: fmt.Sprintf("the master %s is empty and %s still holds %s keys, which it loses as soon as it connects: to keep them a person has to take it off (REPLICAOF NO ONE on %s) before the link comes up", mn.Name, xn.Name, x.Keys(), xn.Name)}, true
	case lacksPassword(g, x, m): // sync_in_progress flickers while it is turned away, so this comes before it
		return Triage{Cause: CauseAuth, Msg: fmt.Sprintf("%s wants a password and %s has no masterauth: CONFIG SET masterauth on %s", mn.Name, xn.Name, xn.Name)}, true
	case tlsMismatch(x, m) != "":
		return Triage{Cause: CauseTLS, Msg: fmt.Sprintf("%s points at its master %s and %s", xn.Name, mn.Name, tlsMismatch(x, m))}, true
	case coursesRound(g, xn), unreadable(x, m) && g.Courses[xn.Name].Copies().Or(0) >= 2:
		return copyLoop(g, xn, mn, x, m), true
	case refusedLogin(g.Courses[xn.Name], x, m, copying(m, x)): // what the replica says of a copy flickers then
		return Triage{Cause: CauseAuth, Msg: fmt.Sprintf("%s refuses the login or the commands of %s: its masteruser (%s) or masterauth is wrong, or the user lacks +psync +replconf +ping on %s; see ACL LOG there", mn.Name, xn.Name, cmpOr(x.MasterUser.Or(""), "default"), mn.Name)}, true
	case r.SyncInProgress.Or(false) && r.SyncLastIOSeconds.Or(0) > silentLink:
		return Triage{Cause: CauseStuckLink, Msg: fmt.Sprintf("the copy from %s to %s has stood still for %d s: repl-timeout of %s ends it, and it begins anew; nothing shortens that but a lower repl-timeout", mn.Name, xn.Name, r.SyncLastIOSeconds.V, xn.Name)}, true
	case r.SyncInProgress.Or(false), copying(m, x):
		return Triage{Cause: CauseSyncing, Severity: Warning, Msg: fmt.Sprintf("%s is copying from %s; wait", xn.Name, mn.Name)}, true
	case m.Reach == ReachLoading || m.Loading.Or(false):
		return Triage{Cause: CauseLoading, Severity: Warning, Msg: fmt.Sprintf("the master %s is loading its data set; %s reconnects by itself", mn.Name, xn.Name)}, true
	}
	if c := g.Courses[xn.Name]; c.past && c.Last.Sub(c.copyAt) < copyRecent {
		return Triage{Cause: CauseSyncing, Severity: Warning, Msg: fmt.Sprintf("%s has begun to copy to %s and is not done; another look tells whether it begins anew", mn.Name, xn.Name)}, true
	}
	return cannotConnect(g.Courses[xn.Name], xn, mn, x, m), true
}

// copyRecent is how long a copy that the master began speaks against a broken network.
const copyRecent = 15 * time.Second

// linkUp: the replica says that the link to the right master is up.
func linkUp(g Group, xn, mn Node, x, m Snapshot) (Triage, bool) {
	r := x.Replication
	switch {
	case g.silent(x, m) && inStep(r, m.Replication):
		return Triage{Cause: CauseStuckLink, Remedy: ReattachReplica, Msg: fmt.Sprintf("the link of %s says up, yet the master %s has sent nothing for %d s and answers us: half-open connection; CLIENT KILL TYPE master on %s makes it connect again", xn.Name, mn.Name, silence(r), xn.Name)}, true
	case inStep(r, m.Replication):
		return Triage{}, false
	case r.ReplID == "" && r.ReplicaOffset == Known(int64(-1)) && !m.Replication.ReplID.None():
		return Triage{}, false // PSYNC is renamed on the master: the lag is unknown, nothing else is wrong
	case !r.SyncInProgress.Or(true) && !r.ReplID.None() && !m.Replication.ReplID.None():
		return Triage{Cause: CauseWrongMaster, Msg: fmt.Sprintf("%s follows a server at %s:%d that is not the %s we reach at %s (history %s, not %s): the address leads elsewhere from there; correct peer_address", xn.Name, r.MasterHost, r.MasterPort, mn.Name, mn.Address, short(string(r.ReplID)), short(string(m.Replication.ReplID)))}, true
	}
	return Triage{Cause: CauseSyncing, Severity: Warning, Msg: fmt.Sprintf("%s is copying from %s; wait", xn.Name, mn.Name)}, true
}

// cannotConnect: nothing but the connection itself is left. Whether the master turns the replica away for a reason of its own shows
// only by its counters, over some looks.
func cannotConnect(c LinkCourse, xn, mn Node, x, m Snapshot) Triage {
	if connects(x.Replication) || c.past {
		switch {
		case c.moved(counterRejected).Or(0) > 0:
			return Triage{Cause: CauseNetwork, Msg: fmt.Sprintf("%s points at its master %s, which is at maxclients and rejects new connections (%d since we look): connected_clients comes first; raise maxclients or close clients on %s", xn.Name, mn.Name, c.moved(counterRejected).V, mn.Name)}
		case x.TLSReplication.Or(false) && c.Span() >= courseEnough: // a handshake that fails is in no counter
			return Triage{Cause: CauseTLS, Msg: fmt.Sprintf("%s points at its master %s over TLS, is answered and no link comes up: check tls-ca-cert-file, the certificates and their dates on both, and what lies between them; the log of %s names the error", xn.Name, mn.Name, xn.Name)}
		}
	}
	return Triage{Cause: CauseNetwork, Early: c.Span() < courseEnough,
		Msg: fmt.Sprintf("%s points at its master %s and cannot connect (%s), while we reach both: check network, firewall, TLS and masterauth between them; REPLICAOF would change nothing", xn.Name, mn.Name, link(x.Replication))}
}

// courseEnough is how long a link has to be watched before its counters tell: a replica tries again each second.
const courseEnough = 2500 * time.Millisecond

// unreadable reports whether x is known not to read the data set of m.
func unreadable(x, m Snapshot) bool {
	reads, known := readsDataOf(x, m)
	return known && !reads
}

// coursesRound reports whether the master begins one full copy after the other and the link never comes up. Each of the other replicas
// may have had one of them.
func coursesRound(g Group, xn Node) bool {
	others := int64(len(g.Instance.Nodes)) - 2
	c := g.Courses[xn.Name]
	n := c.Copies().Or(0) - max(0, others)
	return n >= 2 && (c.broke > 0 || c.cut || c.moved(counterKills).Or(0) > 0) || n >= 4 // a backup (redis-cli --rdb) counts as a copy too
}

// copyLoop tells a copy that the master cuts off for its output buffer from one that the replica cannot take.
func copyLoop(g Group, xn, mn Node, x, m Snapshot) Triage {
	c := g.Courses[xn.Name]
	n := c.Copies().V
	begun := fmt.Sprintf("%s began %d full copies to %s in %s and none was finished", mn.Name, n, xn.Name, c.Span().Round(100*time.Millisecond))
	if unreadable(x, m) {
		return Triage{Cause: CauseLoadFailed, Msg: fmt.Sprintf("%s: %s (%s %s) is not known to read the data set of %s %s; upgrade %s, and take it off until then (REPLICAOF NO ONE)", begun, xn.Name, x.Product, x.Version, m.Product, m.Version, xn.Name)}
	}
	if !cutOff(c, m) {
		return Triage{Cause: CauseLoadFailed, Msg: fmt.Sprintf("%s, although %s did not cut them off for its output buffer: the log of %s tells why (disk full, not enough memory, a data set that it cannot read, a link that breaks)", begun, mn.Name, xn.Name)}
	}
	return Triage{Cause: CauseResyncLoop, Msg: begun + ": " + bufferAdvice(c, mn, m)}
}

// cutOff reports whether the copies were ended by the master for client-output-buffer-limit replica: it counts that from Redis 8.0 on and
// in Valkey; elsewhere the stream tells, which has to outgrow the limit between two copies.
func cutOff(c LinkCourse, m Snapshot) bool {
	if kills := c.moved(counterKills); kills.Known {
		return kills.V > 0
	}
	return c.cut || c.outgrew(m.ReplicaBuffer) || !m.ReplicaBuffer.Known || !c.Streamed().Known
}

// bufferAdvice says which limit is too small and what it would take.
func bufferAdvice(c LinkCourse, mn Node, m Snapshot) string {
	rate, limit := c.StreamRate(), m.ReplicaBuffer
	room := RoomForCopy(m.Memory.Dataset.Or(0), rate.Or(0))
	for limit.Known && room <= limit.V.Hard && room < 1<<40 {
		room *= 2 // what is set is not enough, whatever the figures say
	}
	is := "its limit cannot be read (grant +config|get)"
	if limit.Known {
		is = fmt.Sprintf("it is %s %s %d", size(limit.V.Hard), size(limit.V.Soft), limit.V.SoftSeconds)
	}
	return fmt.Sprintf("client-output-buffer-limit of replicas on %s is too small (%s; the stream grows by %s a second, the data set has %s): CONFIG SET client-output-buffer-limit \"replica %d %d 60\" on %s", mn.Name, is,
		size(rate.Or(0)), size(m.Memory.Dataset.Or(0)), room, room/4, mn.Name)
}

// size is bytes for a person.
func size(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

// tlsMismatch says how the two ends of the link disagree about TLS; empty: they do not, or it is not known.
func tlsMismatch(x, m Snapshot) string {
	port := x.Replication.MasterPort
	speaks, plain, tls := x.TLSReplication, m.TCPPort.Or(0), m.TLSPort.Or(0)
	switch {
	case !speaks.Known || !m.TCPPort.Known || !m.TLSPort.Known:
		return ""
	case speaks.V && port == plain && plain != tls:
		return fmt.Sprintf("speaks TLS (tls-replication yes) to its plaintext port %d: set tls-replication no on the replica, or give it the TLS port", port)
	case !speaks.V && port == tls && plain != tls:
		return fmt.Sprintf("speaks plaintext (tls-replication no) to its TLS port %d: set tls-replication yes on the replica, or give it the plaintext port", port)
	}
	return ""
}

// refusalFresh is the age up to which an entry of ACL LOG is about now.
const refusalFresh = 10 * time.Second

// refusedLogin reports whether the master turns the replica's login or its commands away: by its ACL LOG, which names the address, or by
// its error counters (7.0 and later), which name nobody. A replica tries again once a second; without the rights it tries many times, and
// looks as if it copied in between.
func refusedLogin(c LinkCourse, x, m Snapshot, copying bool) bool {
	if !connects(x.Replication) && !c.past || !x.MasterAuthSet.Or(true) && x.MasterUser.Or("") == "" {
		return false
	}
	fromX := slices.ContainsFunc(m.Refusals, func(r Refusal) bool {
		return r.Age < refusalFresh && slices.Contains(x.OwnIPs, r.Host) && slices.Contains([]string{"auth", "psync", "sync", "replconf", "ping"}, strings.ToLower(r.Object))
	})
	rate := c.refusals(!m.ConfigDenied) // our own probes are refused commands too, then
	return fromX || rate >= 20 || !copying && rate >= 0.4
}

// copying reports whether the master shows a replica that it is preparing or sending a copy to. With
// repl-diskless-sync-delay the replica says only "handshake" in the first 5 s.
func copying(m, x Snapshot) bool {
	if x.Replication.LinkState != "handshake" && x.Replication.LinkState != "sync" {
		return false
	}
	return slices.ContainsFunc(m.Replication.Replicas, func(l ReplicaLine) bool {
		return l.State != "online" && (slices.Contains(x.OwnIPs, l.Host) || len(m.Replication.Replicas) == 1)
	})
}

// lacksPassword: the replica has none and the master wants one. A plain probe does not try without; then a password in the
// config tells.
func lacksPassword(g Group, x, m Snapshot) bool {
	wanted := m.AuthRequired.Or(g.Instance.Password != "")
	return wanted && x.MasterAuthSet.Known && !x.MasterAuthSet.V
}

func inStep(x, m Replication) bool { return !x.ReplID.None() && x.ReplID == m.ReplID }

func silence(r Replication) int64 { return r.LastIOSecondsAgo.Or(0) }

// silent reports whether a link that says up is half open: the master has sent nothing for much longer than it lets pass between two
// PINGs, although it has answered us all the while, or shows no replica that answers it. One that was stopped itself and woke up sends one soon.
func (g Group) silent(x, m Snapshot) bool {
	period := m.PingPeriod.Or(10)
	quiet := silence(x.Replication)
	attended := slices.ContainsFunc(m.Replication.Replicas, func(l ReplicaLine) bool { return l.State == "online" && l.Lag.Or(0) <= period+1 })
	answered := !g.MasterUp.IsZero() && m.At.Sub(g.MasterUp) > time.Duration(period+1)*time.Second
	return quiet > max(silentLink, 2*period) && (answered || !attended) || quiet > period+1 && !attended
}

func link(r Replication) string {
	switch {
	case !r.LinkUp.Known:
		return "unknown"
	case r.LinkUp.V:
		return "up"
	case r.LinkState != "":
		return "down, state " + r.LinkState
	}
	return "down"
}

func short(id string) string {
	if len(id) > 8 {
		return id[:8]
	}
	return id
}

// upstream is the node of the group that s follows, by the addresses that its peers know, then by what the names
// resolve to. ok is false for a master and for a target outside the group.
func (g Group) upstream(s Snapshot) (Node, bool) {
	r := s.Replication
	if r.Role != RoleReplica || r.MasterHost == "" {
		return Node{}, false
	}
	for _, n := range g.Instance.Nodes {
		if pointsAt(n.Peer(), r) {
			return n, true
		}
	}
	for _, n := range g.Instance.Nodes {
		o, _ := g.Of(n.Name)
		if n.Peer().Port == r.MasterPort && overlap(s.MasterIPs, o.OwnIPs) {
			return n, true
		}
	}
	return Node{}, false
}

func pointsAt(a Address, r Replication) bool {
	return strings.EqualFold(a.Host, r.MasterHost) && a.Port == r.MasterPort
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(ip string) bool { return slices.Contains(b, ip) })
}

// endless reports whether following s upwards goes round in a circle of nodes that all answer.
func (g Group) endless(s Snapshot) bool {
	for range len(g.Instance.Nodes) + 1 {
		n, ok := g.upstream(s)
		if !ok {
			return false
		}
		if s, ok = g.Of(n.Name); !ok || !s.Reach.Answers() {
			return false
		}
	}
	return true
}

// leadsTo reports whether following s upwards inside the group ends at the named node. A target outside the group or a
// node that does not answer ends the walk without one.
func (g Group) leadsTo(s Snapshot, name string) bool {
	for range g.Instance.Nodes {
		n, ok := g.upstream(s)
		if !ok {
			return false
		}
		if n.Name == name {
			return true
		}
		if s, ok = g.Of(n.Name); !ok || !s.Reach.Answers() {
			return false
		}
	}
	return false
}
