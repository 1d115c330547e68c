package policies

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// ReattachFacts is what the guards of reattach-replica need: fresh probes of the replica X and the master M it should
// follow, and what was remembered of them.
type ReattachFacts struct {
	Facts
	X, M         Snapshot
	XNode, MNode Node
	Group        Group
	OldX, OldM   NodeMemory
	EarlierM     Snapshot // M in the probe before: buffers that grow show by two
	PlannedM     Snapshot // M when the plan was made; zero: it is being made now
	Peer         Snapshot // what answers us at M's peer address, where that is not where we reach M; zero: nothing that we can read
	Predicted    Resync
	Kill         bool // the step is CLIENT KILL TYPE master on X, whose link to M is half open; else it is REPLICAOF M
	AllowLost    bool // a person let this one case through, by name, once
}

// ReattachGuards asks every guard of reattach-replica, the common ones first.
func ReattachGuards(f ReattachFacts) []Ruling {
	common := CommonGuards(f.Facts)
	for i, r := range common {
		switch {
		case r.Denied():
		case r.Guard == GuardBudget:
			common[i] = Rule(GuardBudget, f.resyncBudget())
		case r.Guard == GuardIdentity && f.PlannedM.RunID != "" && f.PlannedM.RunID != f.M.RunID:
			common[i] = Rule(GuardIdentity, deny("the master %s restarted since the diagnosis: it will be diagnosed anew", f.MNode.Name))
		}
	}
	return append(common,
		Rule(GuardBusy, f.busy()),
		Rule(GuardMasterSafe, f.masterSafe()),
		Rule(GuardLineage, f.lineage()),
		Rule(GuardNoLostWrites, f.noLostWrites()),
		Rule(GuardNoCycle, f.noCycle()),
		Rule(GuardVersion, f.version()),
		Rule(GuardAuth, f.auth()),
		Rule(GuardHeadroom, f.headroom()),
	)
}

// busy: a copy under way at X must not be called off, and a master that forks already is not asked to fork again.
func (f ReattachFacts) busy() Verdict {
	p := f.M.Persistence
	switch {
	case f.X.Reach == ReachLoading || f.X.Loading.Or(false):
		return hold("%s is loading its data set: what it holds is not known yet", f.XNode.Name)
	case f.X.Reach != ReachUp || !f.X.Loading.Known:
		return deny("%s is not up (%s), or does not say whether it loads", f.XNode.Name, f.X.Reach)
	case f.X.Replication.Role == RoleReplica && !f.X.Replication.SyncInProgress.Known:
		return deny("%s does not say whether a copy is under way", f.XNode.Name)
	case f.X.Replication.SyncInProgress.Or(false):
		return hold("%s is in the middle of a copy from %s:%d", f.XNode.Name, f.X.Replication.MasterHost, f.X.Replication.MasterPort)
	case !p.BgsaveRunning.Known || !p.AOFRewriteRunning.Known:
		return deny("%s does not say whether it saves", f.MNode.Name)
	case f.Predicted != ResyncPartial && (p.BgsaveRunning.V || p.AOFRewriteRunning.V):
		return hold("%s is saving (BGSAVE or AOF rewrite)", f.MNode.Name)
	case clientsPaused(f.M):
		return hold("clients are paused on %s (%s)", f.MNode.Name, f.M.Clients.Paused.V)
	}
	return allow("no copy at %s, no save at %s", f.XNode.Name, f.MNode.Name)
}

func clientsPaused(s Snapshot) bool {
	why := s.Clients.Paused.Or("none")
	return why != "" && why != "none"
}

// masterSafe: M is reachable, a master, has finished loading, and still holds what it should.
func (f ReattachFacts) masterSafe() Verdict {
	m, name := f.M, f.MNode.Name
	mk, xk := m.Keys(), f.X.Keys()
	switch {
	case m.Reach == ReachLoading:
		return hold("%s is loading its data set, or does not say", name)
	case m.Reach != ReachUp:
		return deny("the master %s cannot be reached (%s): %s", name, m.Reach, m.Err)
	case m.Replication.Role != RoleMaster:
		return deny("%s is not a master but a %s", name, cmpOr(string(m.Replication.Role), "node of unknown role"))
	case !f.Kill && f.translated() != "":
		return deny("%s: set peer_address of %s in the config to what %s has to dial; a wrong one can lead to another server, whose data would replace that of %s", f.translated(), name, f.XNode.Name, f.XNode.Name)
	case !f.Kill && f.Peer.RunID != "" && f.Peer.RunID != m.RunID:
		return deny("the peer_address %s of %s leads to another server (run id %s) than the one that we reach at %s (%s), and its data would replace that of %s: correct peer_address", f.MNode.Peer(), name, short(f.Peer.RunID), f.MNode.Address, short(m.RunID), f.XNode.Name)
	case !m.Loading.Known || m.Loading.V:
		return hold("%s is loading its data set, or does not say", name)
	case !m.Cluster.Known || m.Cluster.V:
		return deny("%s runs in cluster mode, or does not say", name)
	case !mk.Known || !xk.Known:
		return deny("the number of keys on %s or %s is not known", name, f.XNode.Name)
	case f.speaksOtherwise() != "":
		return deny("the address %s of %s: %s %s", f.MNode.Peer(), name, f.XNode.Name, f.speaksOtherwise())
	case f.unreached() != "":
		return hold("%s points at %s too and cannot connect: the address %s may not be reachable from the replicas; see to that link first", f.unreached(), name, f.MNode.Peer())
	case mk.V == 0 && xk.V > 0:
		return deny("%s is empty and %s holds %d keys: following it would delete them; restore %s, or where it is meant to be empty send REPLICAOF %s %d to %s by hand", name, f.XNode.Name, xk.V, name, f.MNode.Peer().Host, f.MNode.Peer().Port, f.XNode.Name)
	case HistoryLost(m, f.OldM) && ClearlyFewer(mk.V, max(xk.V, f.OldM.Keys)):
		return deny("%s lost its history since %s: it holds %d keys and held %d, %s holds %d; restore it, or accept the loss by hand: REPLICAOF %s %d on %s", name,
			f.OldM.At.UTC().Format("2006-01-02 15:04:05"), mk.V, f.OldM.Keys, f.XNode.Name, xk.V, f.MNode.Peer().Host, f.MNode.Peer().Port, f.XNode.Name)
	}
	return allow("%s is a master with %d keys, not loading; %s holds %d%s", name, mk.V, f.XNode.Name, xk.V, f.reachedBefore())
}

// speaksOtherwise says how X and the port that it would be given disagree about TLS; empty: they do not, or it is not known.
func (f ReattachFacts) speaksOtherwise() string {
	x := f.X
	x.Replication.MasterPort = f.MNode.Peer().Port
	return tlsMismatch(x, f.M)
}

// unreached names a sibling that cannot connect to M where none can: X would not either. Nothing asks X itself without changing it.
func (f ReattachFacts) unreached() (name string) {
	for _, s := range f.Group.Snapshots {
		up, ok := f.Group.upstream(s)
		if s.Node == f.XNode.Name || !s.Reach.Answers() || !ok || up.Name != f.MNode.Name {
			continue
		}
		r := s.Replication
		if r.LinkUp.Or(false) || r.SyncInProgress.Or(false) || copying(f.M, s) {
			return ""
		}
		if r.LinkState == "connecting" { // nothing answers; what answers and refuses is another matter
			name = s.Node
		}
	}
	if f.OldX.Followed.Master == f.MNode.Peer() {
		return "" // X itself was linked to that very address
	}
	return name
}

// reachedBefore tells since when X is known to reach M at that address.
func (f ReattachFacts) reachedBefore() string {
	if l := f.OldX.Followed; l.Master == f.MNode.Peer() && !l.At.IsZero() {
		return fmt.Sprintf(", and was linked to %s until %s", l.Master, l.At.UTC().Format("2006-01-02 15:04:05"))
	}
	return ""
}

// translated says why the address at which we reach the master may lead elsewhere from the replica (a port map, a tunnel);
// empty: nothing speaks for that, or the config names the peer address.
func (f ReattachFacts) translated() string {
	other := func(n Node, s Snapshot) bool {
		return f.Instance.TLS == nil && s.TCPPort.Or(-1) != 0 && s.TCPPort.Or(-1) != n.Address.Port // unknown is not the same
	}
	loopback := onLoopback(f.MNode, f.M)
	switch {
	case !f.MNode.PeerAddress.IsZero():
		return ""
	case other(f.MNode, f.M):
		return fmt.Sprintf("we reach %s at %s and the server itself listens on port %s", f.MNode.Name, f.MNode.Address, f.M.TCPPort)
	case loopback && !onLoopback(f.XNode, f.X): // from another host it leads to that host itself
		return fmt.Sprintf("we reach %s at %s, a loopback address, and %s at %s, which may be another host", f.MNode.Name, f.MNode.Address, f.XNode.Name, f.XNode.Address)
	case loopback && other(f.XNode, f.X):
		return fmt.Sprintf("we reach %s at %s, a loopback address, and %s is not where its own port says", f.MNode.Name, f.MNode.Address, f.XNode.Name)
	}
	return ""
}

// onLoopback reports whether we reach the node at a loopback address, as the config writes it or as its name resolves.
func onLoopback(n Node, s Snapshot) bool {
	return slices.ContainsFunc(append([]string{n.Address.Host}, s.OwnIPs...), func(host string) bool {
		return strings.EqualFold(host, "localhost") || host == "::1" || strings.HasPrefix(host, "127.")
	})
}

// lineage: X must be a branch of M's history that M has reached, or hold nothing but a copy of another live master.
func (f ReattachFacts) lineage() Verdict {
	x, m := f.X.Replication, f.M.Replication
	if x.ReplID.None() || m.ReplID.None() {
		return deny("a replication id is missing")
	}
	k := KinshipOf(x, m)
	switch {
	case f.Kill && x.ReplID != m.ReplID:
		return deny("%s follows history %s and %s is of %s: making it connect again is not safe", f.XNode.Name, short(string(x.ReplID)), f.MNode.Name, short(string(m.ReplID)))
	case k.Related && !k.Known:
		return deny("%s and %s share history %s, but how far each has come on it is not known", f.XNode.Name, f.MNode.Name, short(string(k.ID)))
	case k.Related && k.Behind > 0:
		return deny("%s holds %d bytes of the shared history %s that %s has lost: the replica is ahead of the master; decide which one holds the data", f.XNode.Name, k.Behind, short(string(k.ID)), f.MNode.Name)
	case k.Related && k.ID != x.ReplID && x.grownSince().Or(1) > 0 && x.Role == RoleReplica:
		return f.foreignLineage()
	case k.Related:
		return allow("both are of history %s and %s holds all of it that %s has", short(string(k.ID)), f.MNode.Name, f.XNode.Name)
	}
	return f.foreignLineage()
}

// foreignLineage: no id is shared. Our own record may know better, and a replica of another live master holds only a copy.
func (f ReattachFacts) foreignLineage() Verdict {
	x := f.X.Replication
	if x.Role == RoleReplica && x.LinkUp.Or(false) && x.LastIOSecondsAgo.Or(silentLink+1) <= silentLink {
		_, inGroup := f.Group.upstream(f.X)
		if len(x.Replicas) == 0 && !inGroup {
			if x.LastIOSecondsAgo.V > liveIO { // that master may be gone, and this the last copy of its data
				return hold("%s is a copy of %s:%d, which has sent nothing for %d s: wait for its next PING to see that it is alive", f.XNode.Name, x.MasterHost, x.MasterPort, x.LastIOSecondsAgo.V)
			}
			return allow("%s is a copy of the live master %s:%d and holds nothing of its own", f.XNode.Name, x.MasterHost, x.MasterPort)
		}
		return deny("%s is unrelated to %s and has replicas of its own or follows a node of this instance", f.XNode.Name, f.MNode.Name)
	}
	if x.Role == RoleMaster && f.followedByRecord() {
		return allow("no id is shared now, but at %s %s followed the history that %s still goes on with", f.OldX.Followed.At.UTC().Format("2006-01-02 15:04:05"), f.XNode.Name, f.MNode.Name)
	}
	if f.X.Keys() == Known(int64(0)) {
		return deny("%s holds no keys and shares no history with %s, and may be another server than the config means; if it is the right one send REPLICAOF %s %d to it", f.XNode.Name, f.MNode.Name, f.MNode.Peer().Host, f.MNode.Peer().Port)
	}
	return deny("%s (history %s) and %s (history %s) have nothing in common: following it would replace data that only %s has; a person who knows that none of it is needed sends REPLICAOF %s %d to it", f.XNode.Name,
		short(string(x.ReplID)), f.MNode.Name, short(string(f.M.Replication.ReplID)), f.XNode.Name, f.MNode.Peer().Host, f.MNode.Peer().Port)
}

// liveIO is the age in seconds up to which a byte proves that a master is alive now.
const liveIO = 3

// followedByRecord: a node that restarted as a master without its data forgets what it followed; our own record does not.
func (f ReattachFacts) followedByRecord() bool {
	reached := f.M.Replication.reachOn(f.OldX.Followed.ReplID)
	return reached.Known && reached.V >= f.OldX.Followed.Offset
}

// noLostWrites: the full copy replaces all that X wrote on its own. Only the history it left tells.
func (f ReattachFacts) noLostWrites() Verdict {
	v := f.ownWrites()
	if !v.Allow && f.AllowLost {
		return allow("allowed by hand for this one case, although: %s", v.Reason)
	}
	return v
}

func (f ReattachFacts) ownWrites() Verdict {
	x := f.X.Replication
	mk, xk := f.M.Keys(), f.X.Keys()
	lift := "" // said only where it would lift the denial
	if f.lineage().Allow {
		lift = fmt.Sprintf("; to give them up: dcshealer heal --instance %s --live --yes --allow-lost-writes %s", f.Instance.Name, f.XNode.Name)
	}
	// A master that was flushed or lost most of its keys has gone on with the same history: only the counts tell that the
	// detached replica holds the last copy.
	copyOfAnother := x.Role == RoleReplica && !KinshipOf(x, f.M.Replication).Related
	if !copyOfAnother && mk.Or(0) > 0 && ClearlyFewer(mk.V, xk.Or(0)) {
		return deny("%s holds %s keys and the master %s only %s: following it would delete what the master no longer has%s", f.XNode.Name, xk, f.MNode.Name, mk, lift)
	}
	if w := f.OldX.Writable; !w.IsZero() && f.Predicted != ResyncPartial {
		return deny("%s was seen as a writable replica (replica-read-only no) at %s: it may hold keys of its own, which no offset shows%s", f.XNode.Name, w.UTC().Format("2006-01-02 15:04:05"), lift)
	}
	if x.Role == RoleReplica {
		switch {
		case !x.ReadOnly.Known:
			return deny("%s does not say whether it is read-only", f.XNode.Name)
		case !x.ReadOnly.V && f.Predicted != ResyncPartial:
			return deny("%s is a writable replica (replica-read-only no): it may hold keys of its own, which a full copy would delete%s", f.XNode.Name, lift)
		}
		return allow("%s is a read-only replica: it took no writes of its own", f.XNode.Name)
	}
	own := OwnBytes(x)
	switch {
	case f.Predicted != ResyncPartial && !x.ReadOnly.Known:
		return deny("%s does not tell replica-read-only, so whether it took writes as a replica is not known: grant +config|get to the user%s", f.XNode.Name, lift)
	case f.Predicted != ResyncPartial && !x.ReadOnly.V:
		return deny("%s is set replica-read-only no: it may hold keys of its own from before it was promoted, which no offset shows%s", f.XNode.Name, lift)
	case formerMaster(x, f.M.Replication) && !inUse(f.Group, f.XNode, f.X, f.OldX):
		return allow("%s is the former master: %s has gone on from its very history and holds all of it", f.XNode.Name, f.MNode.Name)
	case own.Known && !slices.Contains([]ReplID{f.M.Replication.ReplID, f.M.Replication.ReplID2}, x.ReplID2):
		return deny("%s left history %s, which is not of %s: what it wrote before that cannot be told%s", f.XNode.Name, short(string(x.ReplID2)), f.MNode.Name, lift)
	case !own.Known:
		return deny("%s is a master and does not remember the history it left: whether it took writes cannot be told%s", f.XNode.Name, lift)
	case inUse(f.Group, f.XNode, f.X, f.OldX):
		return deny("%s is a master with replicas of its own: it is in use%s", f.XNode.Name, lift)
	case own.V > 0 && GrowthExplained(f.X, f.OldX) != "":
		return allow("the history of %s grew by %d bytes since it left its master, none of them a write: %s", f.XNode.Name, own.V, GrowthExplained(f.X, f.OldX))
	case own.V > 0:
		return deny("the history of %s grew by %d bytes since it left its master: writes, or expired keys, that only it has; it holds %s keys%s", f.XNode.Name, own.V, f.X.Keys(), lift)
	}
	if hiddenWrites(f.X, f.OldX) {
		return deny("%s has added nothing to its history and counts other changes than when it was at the same byte of it: it took writes that were not replicated, by a script or as a writable replica%s", f.XNode.Name, lift)
	}
	if m := f.M.Replication; m.ReplID == x.ReplID2 && m.BacklogActive.Or(false) && m.Offset == Known(x.SecondOffset.V-1) && mk.V > 0 && xk.V > mk.V { // an empty master is master-safe's
		return deny("%s and %s are at the same byte of one history and hold %d and %d keys: the replica took writes that were not replicated, by a script or as a writable replica%s", f.XNode.Name, f.MNode.Name, xk.V, mk.V, lift)
	}
	return allow("%s has added nothing since it left its master (offset %d)", f.XNode.Name, x.Offset.V)
}

// noCycle: the two are different processes, M follows nobody, and REPLICAOF will change something.
func (f ReattachFacts) noCycle() Verdict {
	r := f.X.Replication
	up, inGroup := f.Group.upstream(f.X)
	switch {
	case f.X.RunID == "" || f.M.RunID == "":
		return deny("a run id is missing: whether %s and %s are the same server cannot be told", f.XNode.Name, f.MNode.Name)
	case f.X.RunID == f.M.RunID:
		return deny("%s and %s are the same server process: Redis would accept REPLICAOF to itself", f.XNode.Name, f.MNode.Name)
	case f.M.Replication.Role != RoleMaster:
		return deny("%s follows another node", f.MNode.Name)
	case f.Kill && (r.Role != RoleReplica || !inGroup || up.Name != f.MNode.Name):
		return deny("%s does not follow %s now: its link is another one", f.XNode.Name, f.MNode.Name)
	case f.Kill:
		return allow("%s follows %s, another process, which follows nobody", f.XNode.Name, f.MNode.Name)
	case r.Role == RoleReplica && inGroup && up.Name == f.MNode.Name:
		return deny("%s points at %s already: REPLICAOF would do nothing", f.XNode.Name, f.MNode.Name)
	}
	return allow("%s is another process than %s and follows nobody", f.MNode.Name, f.XNode.Name)
}

// readable lists which releases' data sets a replica can read beyond its own release line and older ones of its product:
// replica's product and line, then the master's. Measured on running servers (Redis 6.0.16, 7.0.15, 8.0.2, Valkey 8.1.1, 9.1.2).
var readable = map[[2]string]bool{
	{"valkey 9.1", "redis 7.0"}: true,
}

// readsDataOf reports whether x is known to read the data set of m; known is false when a release is not known.
func readsDataOf(x, m Snapshot) (reads, known bool) {
	xl, ml := x.Line(), m.Line()
	if !xl.Known || !ml.Known || x.Product == "" || m.Product == "" {
		return false, false
	}
	pair := [2]string{fmt.Sprintf("%s %d.%d", x.Product, xl.V.Major, xl.V.Minor), fmt.Sprintf("%s %d.%d", m.Product, ml.V.Major, ml.V.Minor)}
	return x.Product == m.Product && ml.V.Compare(xl.V) <= 0 || readable[pair] || measuredNewer(x.Product, m.Product, ml.V, xl.V), true
}

// version: M must not be newer than X. A replica that cannot read the master's data set is emptied first and then
// tries again ten times a second.
func (f ReattachFacts) version() Verdict {
	reads, known := readsDataOf(f.X, f.M)
	xs, ms := f.X.Product+" "+f.X.Version, f.M.Product+" "+f.M.Version
	switch {
	case !known:
		return deny("the release of %s (%q) or %s (%q) is not known", f.XNode.Name, f.X.Version, f.MNode.Name, f.M.Version)
	case reads:
		return allow("%s (%s) reads data sets of %s (%s)", f.XNode.Name, xs, f.MNode.Name, ms)
	}
	return deny("%s runs %s and the master %s runs %s: it is not known to read that data set, and would be emptied and try again ten times a second; upgrade the replica", f.XNode.Name, xs, f.MNode.Name, ms)
}

// measuredNewer: Valkey 8.1 reads what Valkey 9.1 sends.
func measuredNewer(xp, mp string, m, x Line) bool {
	return xp == "valkey" && mp == "valkey" && m == Line{9, 1} && x == Line{8, 1}
}

// auth: without masterauth a replica of Redis 7.0, 8.0 or Valkey 8.1 starts a storm of 1,700 connections a second against a
// master that wants a password.
func (f ReattachFacts) auth() Verdict {
	switch {
	case !f.M.AuthRequired.Known:
		return deny("whether %s wants a password cannot be told", f.MNode.Name)
	case !f.M.AuthRequired.V && f.X.MasterAuthSet.Or(false) && f.X.MasterUser.Or("") == "":
		return deny("%s wants no password and %s has a masterauth: its login would fail and the link never come up; CONFIG SET masterauth \"\" on %s", f.MNode.Name, f.XNode.Name, f.XNode.Name)
	case !f.M.AuthRequired.V:
		return allow("%s wants no password", f.MNode.Name)
	case !f.X.MasterAuthSet.Known:
		return deny("%s wants a password, and the masterauth of %s cannot be read: grant +config|get to the user", f.MNode.Name, f.XNode.Name)
	case !f.X.MasterAuthSet.V:
		return deny("%s wants a password and %s has no masterauth: CONFIG SET masterauth on %s first", f.MNode.Name, f.XNode.Name, f.XNode.Name)
	}
	return allow("%s wants a password and %s has one", f.MNode.Name, f.XNode.Name)
}

// headroom denies on evidence that the master cannot bear a fork or the buffers of a copy. A partial resync needs neither.
func (f ReattachFacts) headroom() Verdict {
	m, name := f.M.Memory, f.MNode.Name
	if f.Predicted == ResyncPartial {
		return allow("a partial resync needs no fork")
	}
	switch {
	case m.RSS.Known && m.SystemTotal.Or(0) > 0 && float64(m.RSS.V) > 0.9*float64(m.SystemTotal.V):
		return hold("%s uses %d of %d MiB of its host: a fork may not fit", name, m.RSS.V>>20, m.SystemTotal.V>>20)
	case f.M.Persistence.LastBgsaveOK.Known && !f.M.Persistence.LastBgsaveOK.V:
		return deny("the last BGSAVE of %s failed: a full copy needs the same fork; see its log", name)
	case f.X.Persistence.LastBgsaveOK.Known && !f.X.Persistence.LastBgsaveOK.V, f.X.Persistence.LastAOFWriteOK.Known && !f.X.Persistence.LastAOFWriteOK.V:
		return deny("%s fails to write to its own disk (rdb_last_bgsave_status or aof_last_write_status): a full copy is written there first; see its log", f.XNode.Name)
	case m.Dataset.Known && f.X.Memory.SystemTotal.Or(0) > 0 && float64(m.Dataset.V) > 0.9*float64(f.X.Memory.SystemTotal.V):
		return deny("the data set of %s has %s and the host of %s only %s", name, size(m.Dataset.V), f.XNode.Name, size(f.X.Memory.SystemTotal.V))
	case f.outgrows() != "":
		return hold("%s", f.outgrows())
	case m.Share().Or(0) > 0.95 && growing(f.EarlierM.Memory.ClientsReplicas, m.ClientsReplicas):
		return hold("%s is at %.1f %% of maxmemory and its replica buffers grow", name, m.Share().V*100)
	}
	return allow("nothing speaks against a fork on %s", name)
}

// outgrows says why the stream that comes up during a full copy would not fit into the replica's output buffer, which would end the copy
// and begin it anew, for ever; empty: it fits, or is not known.
func (f ReattachFacts) outgrows() string {
	took := f.M.At.Sub(f.EarlierM.At)
	a, b, limit := f.EarlierM.Replication.Offset, f.M.Replication.Offset, f.M.ReplicaBuffer
	if took < 100*time.Millisecond || f.EarlierM.RunID != f.M.RunID || !a.Known || !b.Known || !limit.Known || limit.V.Hard == 0 || !f.M.Memory.Dataset.Known {
		return ""
	}
	rate := int64(float64(b.V-a.V) / took.Seconds())
	if comes := rate * (f.M.Memory.Dataset.V / copyRate); comes > limit.V.Hard {
		return fmt.Sprintf("the stream of %s grows by %s a second, about %s while %s are copied, and client-output-buffer-limit of replicas is %s: the copy would be cut off and begin anew; raise it to %s", f.MNode.Name,
			size(rate), size(comes), size(f.M.Memory.Dataset.V), size(limit.V.Hard), size(RoomForCopy(f.M.Memory.Dataset.V, rate)))
	}
	return ""
}

func growing(a, b Opt[int64]) bool { return a.Known && b.Known && b.V > a.V }

// resyncBudget: at most one full copy per master, and a number of them in the fleet.
func (f ReattachFacts) resyncBudget() Verdict {
	if f.Predicted == ResyncPartial {
		return allow("a partial resync is predicted")
	}
	if !f.Policy.Reattach.FullResync {
		return deny("a full resync is predicted and remediation.reattach-replica.full_resync is deny")
	}
	for _, l := range f.M.Replication.Replicas {
		if l.State != "online" {
			return hold("%s already copies to %s:%d (%s): one full resync per master at a time", f.MNode.Name, l.Host, l.Port, l.State)
		}
	}
	if f.FullResyncs >= f.MaxFull {
		return hold("%d full resyncs run in the fleet, budget.full_resyncs is %d", f.FullResyncs, f.MaxFull)
	}
	return allow("a full resync is predicted; %d of %d run in the fleet, none at %s", f.FullResyncs, f.MaxFull, f.MNode.Name)
}
