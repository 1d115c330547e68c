package policies

import "slices"

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
// believed for a day: its last good state stays, so that a guard can still tell what was lost. An unreadable node
// changes nothing.
func NextMemory(old NodeMemory, s Snapshot) NodeMemory {
	keys := s.Keys()
	r := s.Replication
	if s.Reach != ReachUp || !keys.Known || r.ReplID.None() || !r.reach().Known {
		return old
	}
	if HistoryLost(s, old) && ClearlyFewer(keys.V, old.Keys) && s.At.Sub(old.At) < memoryKept {
		return old
	}
	next := NodeMemory{
		Instance: s.Instance, Node: s.Node, At: s.At, RunID: s.RunID, Role: r.Role,
		ReplID: r.ReplID, ReplID2: r.ReplID2, Offset: r.reach().V, Keys: keys.V, Followed: old.Followed,
	}
	if r.Role == RoleReplica && r.LinkUp.Or(false) {
		next.Followed = Followed{ReplID: r.ReplID, Offset: next.Offset, At: s.At}
	}
	return next
}
