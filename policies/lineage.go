package policies

import (
	"fmt"
	"slices"
	"time"
)

// PredictResync tells which copy a REPLICAOF from x to m will make. It held for 220 of 220 attachments in random histories on
// Redis 6.0, 7.0, 8.0 and Valkey 8.1 and 9.1. What is unknown counts as full, the dearer one.
//
// A promoted node asks with its own new id, never with replid2, and the offset after the last byte it has.
func PredictResync(x, m Replication) Resync {
	ask, first, length := x.reach(), m.BacklogFirst, m.BacklogLength
	if x.ReplID.None() || !ask.Known || !m.BacklogActive.Or(false) || !first.Known || !length.Known {
		return ResyncFull
	}
	next := ask.V + 1
	same := x.ReplID == m.ReplID
	before := x.ReplID == m.ReplID2 && m.SecondOffset.Known && next <= m.SecondOffset.V
	if (same || before) && first.V <= next && next <= first.V+length.V {
		return ResyncPartial
	}
	return ResyncFull
}

// reach is the last byte of its current history that the node holds.
func (r Replication) reach() Opt[int64] {
	if r.Role == RoleReplica {
		return r.ReplicaOffset
	}
	return r.Offset
}

// reachOn is the last byte of the history id that the node is known to hold; unknown when it is not of that history.
func (r Replication) reachOn(id ReplID) Opt[int64] {
	switch {
	case id.None():
		return Opt[int64]{}
	case id == r.ReplID:
		return r.reach()
	case id == r.ReplID2 && r.SecondOffset.Or(-1) > 0:
		return Known(r.SecondOffset.V - 1)
	}
	return Opt[int64]{}
}

// OwnBytes is what a promoted node added to its history since it left its master, in bytes of the replication
// stream: writes, and also deletions of expired keys (about 30 bytes each) and PINGs to replicas of its own (14 bytes
// each 10 s). Unknown unless the node remembers the history it left (replid2) and keeps a backlog: without one its
// offset stands still while it is written to.
func OwnBytes(x Replication) Opt[int64] {
	if x.Role != RoleMaster || !x.BacklogActive.Or(false) {
		return Opt[int64]{}
	}
	return x.grownSince()
}

// grownSince is how many bytes of its current history a node holds beyond the end of the one it left; unknown without one.
func (r Replication) grownSince() Opt[int64] {
	at := r.reach()
	if r.ReplID2.None() || !at.Known || r.SecondOffset.Or(-1) < 1 {
		return Opt[int64]{}
	}
	own := at.V - (r.SecondOffset.V - 1)
	if own < 0 {
		return Opt[int64]{} // behind the point where it left: not a history that we understand
	}
	return Known(own)
}

// Kinship is what the replication ids of two nodes prove.
type Kinship struct {
	Related bool
	ID      ReplID // the shared history
	Behind  int64  // bytes of the shared history that the master does not hold and the replica does; 0: none
	Known   bool   // both ends of the shared history are known
}

// KinshipOf compares the histories of a node and the master it should follow.
func KinshipOf(x, m Replication) Kinship {
	for _, id := range []ReplID{x.ReplID, x.ReplID2} {
		if id.None() || !slices.Contains([]ReplID{m.ReplID, m.ReplID2}, id) {
			continue
		}
		k := Kinship{Related: true, ID: id}
		xr, mr := x.reachOn(id), m.reachOn(id)
		if xr.Known && mr.Known {
			k.Known, k.Behind = true, max(0, xr.V-mr.V)
		}
		return k
	}
	return Kinship{}
}

// formerMaster reports whether m has gone on from the present history of a node that is a master, and holds all of it. What the node took
// before, when it may have left another history itself, is part of that one.
func formerMaster(x, m Replication) bool {
	k := KinshipOf(x, m)
	return x.Role == RoleMaster && x.BacklogActive.Or(false) && x.ReplID != m.ReplID && x.ReplID == m.ReplID2 && k.Known && k.Behind == 0
}

// HistoryLost reports whether a master no longer holds what it held when it was last remembered: it has another
// history that does not go on from the old one, or its offset went back.
func HistoryLost(m Snapshot, old NodeMemory) bool {
	if old.ReplID.None() || old.Role != RoleMaster {
		return false
	}
	r := m.Replication
	switch {
	case r.ReplID == old.ReplID:
		return r.Offset.Or(0) < old.Offset
	case r.ReplID2 == old.ReplID:
		return r.SecondOffset.Or(0)-1 < old.Offset
	}
	return true
}

// ClearlyFewer reports whether n keys are clearly fewer than were: less than nine tenths.
func ClearlyFewer(n, were int64) bool { return float64(n) < 0.9*float64(were) }

// NextMemory is what to remember of a node after s was read. A master that lost history and clearly holds fewer keys is not
// believed for a day: its last good state stays, so that a guard can still tell what was lost, until it has become a replica with its link
// up, which holds the data of another. That a replica takes writes is noted whatever else is believed. An unreadable node changes nothing.
func NextMemory(old NodeMemory, s Snapshot) NodeMemory {
	keys := s.Keys()
	r := s.Replication
	if s.Reach != ReachUp || !keys.Known || r.ReplID.None() || !r.reach().Known {
		return old
	}
	writable := r.Role == RoleReplica && r.ReadOnly.Known && !r.ReadOnly.V
	copied := r.Role == RoleReplica && r.LinkUp.Or(false)
	if HistoryLost(s, old) && ClearlyFewer(keys.V, old.Keys) && s.At.Sub(old.At) < memoryKept && !copied {
		if writable {
			old.Writable = s.At
		}
		return old
	}
	next := NodeMemory{
		Instance: s.Instance, Node: s.Node, At: s.At, RunID: s.RunID, Role: r.Role,
		ReplID: r.ReplID, ReplID2: r.ReplID2, Offset: r.reach().V, Keys: keys.V, Followed: old.Followed, Writable: old.Writable,
		Alone: old.Alone, SaveSeen: old.SaveSeen, LastSave: s.Persistence.LastSaveTime,
	}
	if old.RunID != s.RunID || old.LastSave != next.LastSave || old.SaveSeen.IsZero() {
		next.SaveSeen = s.At
	}
	if own := OwnBytes(r); own.Known && own.V == 0 && !hiddenWrites(s, old) {
		next.Alone = Alone{ReplID: r.ReplID, Writes: writeCount(s, next.SaveSeen)}
	}
	if writable {
		next.Writable = s.At
	}
	if copied {
		next.Followed = Followed{ReplID: r.ReplID, Offset: next.Offset, At: s.At, Master: Address{r.MasterHost, r.MasterPort}, RunID: s.RunID, Replicas: r.replicaAddresses(),
			Writes: writeCount(s, next.SaveSeen), Settings: SettingsOf(s)}
	}
	return next
}

func (r Replication) replicaAddresses() (out []Address) {
	for _, l := range r.Replicas {
		out = append(out, Address{l.Host, l.Port})
	}
	return out
}

// newReplicas reports whether a promoted node has a replica that it did not have when it last followed its master itself: somebody has
// begun to use it as a master. The lower part of a chain is no such sign.
func newReplicas(x Snapshot, old NodeMemory) bool {
	return slices.ContainsFunc(x.Replication.replicaAddresses(), func(a Address) bool {
		return old.Followed.RunID != x.RunID || !slices.Contains(old.Followed.Replicas, a)
	})
}

// SettingsOf is what of a replica's settings has to survive a repair.
func SettingsOf(s Snapshot) ReplicaSettings {
	return ReplicaSettings{MasterAuth: s.MasterAuthSet, MasterUser: s.MasterUser, ReadOnly: s.Replication.ReadOnly, Priority: s.Priority}
}

// Changed names the settings that are known on both sides and differ, as "replica-priority 100 -> 0".
func (r ReplicaSettings) Changed(now ReplicaSettings) []string {
	var out []string
	add := func(name string, known, differs bool, from, to any) {
		if known && differs {
			out = append(out, fmt.Sprintf("%s %v -> %v", name, from, to))
		}
	}
	a, b := r, now
	add("masterauth set", a.MasterAuth.Known && b.MasterAuth.Known, a.MasterAuth != b.MasterAuth, a.MasterAuth, b.MasterAuth)
	add("masteruser", a.MasterUser.Known && b.MasterUser.Known, a.MasterUser != b.MasterUser, a.MasterUser, b.MasterUser)
	add("replica-read-only", a.ReadOnly.Known && b.ReadOnly.Known, a.ReadOnly != b.ReadOnly, a.ReadOnly, b.ReadOnly)
	add("replica-priority", a.Priority.Known && b.Priority.Known, a.Priority != b.Priority, a.Priority, b.Priority)
	return out
}

// GrowthExplained says why what a promoted node added to its history cannot be a client's write, or "" when that is not proven.
// Deletions of expired keys and PINGs to replicas grow the history and leave rdb_changes_since_last_save alone, which every
// write moves, and every save and restart sets back (Redis 6.0 to 8.0, Valkey 8.1 and 9.1). old is what was remembered of the node when it
// last followed, or stood alone without having added anything.
func GrowthExplained(x Snapshot, old NodeMemory) string {
	r := x.Replication
	if old.Alone.ReplID == r.ReplID && !r.ReplID.None() && old.Alone.Writes.same(x) {
		return fmt.Sprintf("its %d changes since the last save are those that it had when it was first seen alone", x.Persistence.ChangesSinceLastSave.V)
	}
	f := old.Followed
	if f.ReplID == r.ReplID2 && !r.ReplID2.None() && f.Offset < r.SecondOffset.Or(0) && f.Writes.same(x) {
		return fmt.Sprintf("its %d changes since the last save are those that it had when it followed its master", x.Persistence.ChangesSinceLastSave.V)
	}
	return ""
}

// hiddenWrites reports whether a promoted node that has added nothing to its history was written to all the same: a script may write without
// replicating (redis.set_repl), and a writable replica does. Its changes are then more than they were at the same byte of the same history.
func hiddenWrites(x Snapshot, old NodeMemory) bool {
	r, f := x.Replication, old.Followed
	if own := OwnBytes(r); !own.Known || own.V != 0 {
		return false
	}
	return old.Alone.ReplID == r.ReplID && old.Alone.Writes.differs(x) ||
		f.ReplID == r.ReplID2 && f.Offset == r.SecondOffset.V-1 && f.Writes.differs(x)
}

// differs reports whether a server counts other changes than it did, in one run and without a save in between.
func (w WriteCount) differs(s Snapshot) bool {
	p := s.Persistence
	return w.RunID != "" && w.RunID == s.RunID && p.ChangesSinceLastSave.Known && w.Changes.Known && p.ChangesSinceLastSave != w.Changes &&
		p.LastSaveTime.Known && p.LastSaveTime == w.LastSave && p.Saves == w.Saves
}

// saveSettles is how long a save has to be known before another one within the same second of the server's clock is ruled out.
const saveSettles = 2 * time.Second

// same reports whether a server counts as many changes as it did, in one run and without a save in between.
func (w WriteCount) same(s Snapshot) bool {
	p := s.Persistence
	return w.RunID != "" && w.RunID == s.RunID && p.ChangesSinceLastSave.Known && p.ChangesSinceLastSave == w.Changes &&
		p.LastSaveTime.Known && p.LastSaveTime == w.LastSave && p.Saves == w.Saves && w.Settled >= saveSettles
}

// writeCount reads it off a snapshot; seen is since when the last save has been known.
func writeCount(s Snapshot, seen time.Time) WriteCount {
	p := s.Persistence
	settled := s.At.Sub(seen)
	if s.ServerTime.Known && p.LastSaveTime.Known { // by its own clock, where INFO tells that (7.0 and later)
		settled = max(settled, time.Duration(s.ServerTime.V-p.LastSaveTime.V)*time.Second)
	}
	return WriteCount{RunID: s.RunID, Changes: p.ChangesSinceLastSave, LastSave: p.LastSaveTime, Saves: p.Saves, Settled: settled}
}

// Moved says how a node was changed between two readings over one connection, a before b: another run, role or master. Empty: it was not.
func Moved(a, b Snapshot) string {
	r, o := a.Replication, b.Replication
	switch {
	case a.RunID != b.RunID:
		return "it is another run of the server"
	case r.Role != o.Role || r.MasterHost != o.MasterHost || r.MasterPort != o.MasterPort:
		return fmt.Sprintf("it was %s and became %s", r.describe(), o.describe())
	}
	return ""
}

func (r Replication) describe() string {
	if r.Role == RoleReplica {
		return fmt.Sprintf("a replica of %s:%d", r.MasterHost, r.MasterPort)
	}
	return "a " + cmpOr(string(r.Role), "node of unknown role")
}

// Wrote reports whether a node that is or was a master took a write between two readings of one run of it, a before b. Its offset stands
// still without one; where it moved, only rdb_changes_since_last_save tells writes from expired keys and PINGs.
func Wrote(a, b Snapshot) bool {
	if a.Replication.Role != RoleMaster {
		return false
	}
	p, q := a.Persistence, b.Persistence
	counted := p.ChangesSinceLastSave.Known && q.ChangesSinceLastSave.Known && p.LastSaveTime == q.LastSaveTime && p.Saves == q.Saves
	still := a.Replication.Offset.Known && a.Replication.Offset == b.Replication.Offset
	if !counted {
		return !still
	}
	return p.ChangesSinceLastSave != q.ChangesSinceLastSave
}
