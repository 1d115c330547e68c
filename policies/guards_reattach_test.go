package policies

import (
	"strings"
	"testing"
	"time"
)

// reattachOf are facts about a trio's X and M that every guard not about the two themselves allows.
func reattachOf(tr *trio) ReattachFacts {
	return ReattachFacts{
		Facts: factsOf(tr), X: tr.x, M: tr.m, XNode: tr.in.Nodes[1], MNode: tr.in.Nodes[0], Group: tr.group(), EarlierM: tr.m, OldX: tr.oldX,
		Predicted: PredictResync(tr.x.Replication, tr.m.Replication),
	}
}

// promotedTrio has X promoted with nothing written: the case that is repaired by a full copy.
func promotedTrio() *trio {
	tr := newTrio()
	tr.promote(&tr.x, 0)
	tr.m.Replication.Replicas = tr.m.Replication.Replicas[1:]
	return tr
}

// strayTrio has X still of M's history and pointing at a dead port: the case that is repaired by a partial resync.
func strayTrio() *trio {
	tr := newTrio()
	tr.followDown(&tr.x, Address{"10.0.0.1", 1}, "connect")
	tr.m.Replication.Replicas = tr.m.Replication.Replicas[1:]
	return tr
}

// copyTrio has X as a copy of a live master outside, with none of M's history.
func copyTrio() *trio {
	tr := newTrio()
	tr.follow(&tr.x, Address{outsider, 6379})
	tr.x.Replication.ReplID = histE
	tr.m.Replication.Replicas = tr.m.Replication.Replicas[1:]
	return tr
}

// forkedTrio has X promoted, grown by own bytes and then pointed at a dead port. As on real servers (7.0.15) that leaves a
// read-only replica that keeps its own id, the id it left and the offset at which it left.
func forkedTrio(own int64) func() *trio {
	return func() *trio {
		tr := strayTrio()
		r := &tr.x.Replication
		r.ReplID, r.ReplID2, r.SecondOffset = histX, histM, Known(fullTo+1)
		r.Offset, r.ReplicaOffset = Known(fullTo+own), Known(fullTo+own)
		return tr
	}
}

type reattachRow struct {
	name   string
	start  func() *trio
	change func(*trio)
	facts  func(*ReattachFacts) // after the facts were taken off the trio
	want   string               // who denies
	reason string               // in the first denial's reason
}

func (c reattachRow) run(t *testing.T) {
	tr := c.start()
	if c.change != nil {
		c.change(tr)
	}
	f := reattachOf(tr)
	if c.facts != nil {
		c.facts(&f)
	}
	rs := ReattachGuards(f)
	checkRulings(t, rs)
	if !deniedAs(rs, c.want) {
		t.Fatalf("denied by %q, want %q (predicted %s)\n%s", denied(rs), c.want, f.Predicted, listing(rs))
	}
	if r := firstDenial(rs); !strings.Contains(r.Reason, c.reason) {
		t.Errorf("%s: reason %q does not say %q", r.Guard, r.Reason, c.reason)
	}
}

// Each row below is what one wrong REPLICAOF would have wiped.
func TestReattachKeepsData(t *testing.T) {
	memory := func(role Role, id ReplID, offset, keys int64) NodeMemory {
		m := NodeMemory{Instance: "dcs-1", At: noon.Add(-time.Minute), Role: role, ReplID: id, ReplID2: noHist, Offset: offset, Keys: keys}
		if role == RoleReplica {
			m.Followed = Followed{ReplID: id, Offset: offset, At: m.At}
		}
		return m
	}
	for _, c := range []reattachRow{
		{"promoted, nothing written: repaired", promotedTrio, nil, nil, "", ""},
		{"of the master's history on a dead port: repaired", strayTrio, nil, nil, "", ""},
		{"copy of a live master outside: repaired", copyTrio, nil, nil, "", ""},

		// master-safe
		{"master not reachable", promotedTrio, func(tr *trio) { tr.m.Reach, tr.m.Err = ReachHung, "no answer in 2s" }, nil, "master-safe", "node-m"},
		{"master unreadable", promotedTrio, func(tr *trio) { tr.m.Reach = ReachAuth }, nil, "master-safe", "node-m"},
		{"master is a replica", promotedTrio, func(tr *trio) { tr.m.Replication.Role, tr.m.Replication.ReplicaOffset = RoleReplica, Known(fullTo) }, nil, "master-safe no-cycle", "node-m is not a master"},
		{"master of no known role", promotedTrio, func(tr *trio) { tr.m.Replication.Role = "" }, nil, "master-safe no-cycle", "node-m"},
		{"master is loading: it will be done", promotedTrio, func(tr *trio) { tr.m.Reach, tr.m.Loading = ReachLoading, Known(true) }, nil, "master-safe?", "node-m is loading"},
		{"master says loading, its reach is up", promotedTrio, func(tr *trio) { tr.m.Loading = Known(true) }, nil, "master-safe?", "node-m"},
		{"loading not known", promotedTrio, func(tr *trio) { tr.m.Loading = Opt[bool]{} }, nil, "master-safe?", "node-m"},
		{"its peer address leads to another server", promotedTrio, nil, func(f *ReattachFacts) { f.Peer = Snapshot{Reach: ReachUp, RunID: "another"} }, "master-safe", "correct peer_address"},
		{"its peer address leads to it from here, too", promotedTrio, nil, func(f *ReattachFacts) { f.Peer = f.M }, "", ""},
		{"its peer address cannot be read from here", promotedTrio, nil, func(f *ReattachFacts) { f.Peer = Snapshot{Reach: ReachNoRoute} }, "", ""},
		{"master in cluster mode", promotedTrio, func(tr *trio) { tr.m.Cluster = Known(true) }, nil, "master-safe", "node-m"},
		{"cluster mode of the master not known", promotedTrio, func(tr *trio) { tr.m.Cluster = Opt[bool]{} }, nil, "master-safe", "node-m"},
		{"master empty", promotedTrio, func(tr *trio) { tr.m.DBs = nil }, nil, "master-safe", "node-m is empty and node-x holds 500 keys"},
		{"master with DBs of no keys", promotedTrio, func(tr *trio) { tr.m.DBs = []DB{{0, 0, 0}} }, nil, "master-safe", "node-m is empty"},
		{"both empty", promotedTrio, func(tr *trio) { tr.m.DBs, tr.x.DBs = nil, nil }, nil, "", ""},
		{"keys of the master not known", promotedTrio, func(tr *trio) { tr.m.KeyspaceKnown = false }, nil, "master-safe", "node-m"},
		{"keys of the replica not known", promotedTrio, func(tr *trio) { tr.x.KeyspaceKnown = false }, nil, "master-safe", "node-x"},
		{"master lost its history and most keys", strayTrio, func(tr *trio) { tr.m.DBs[0].Keys = 1 },
			func(f *ReattachFacts) { f.OldM = memory(RoleMaster, histM, fullTo+1, 500) }, "master-safe no-lost-writes", "node-m lost its history"},
		{"master came back empty to an empty replica, and held keys before", promotedTrio, func(tr *trio) { tr.m.DBs, tr.x.DBs = nil, nil },
			func(f *ReattachFacts) { f.OldM = memory(RoleMaster, histE, fullTo, 500) }, "master-safe", "node-m lost its history"},
		{"master lost its history and kept its keys", strayTrio, nil,
			func(f *ReattachFacts) { f.OldM = memory(RoleMaster, histE, fullTo, 500) }, "", ""},
		{"master has fewer keys by its own history: deleted or flushed, a person decides", strayTrio, func(tr *trio) { tr.m.DBs[0].Keys = 1 },
			func(f *ReattachFacts) { f.OldM = memory(RoleMaster, histM, fullTo, 500) }, "no-lost-writes", "node-x holds 500 keys"},

		{"the replica would speak TLS to the plaintext port", promotedTrio, func(tr *trio) { tr.x.TLSReplication, tr.m.TLSPort = Known(true), Known(6380) }, nil, "master-safe", "tls-replication yes"},
		{"the replica would speak plaintext to the TLS port", promotedTrio, func(tr *trio) {
			tr.x.TLSReplication, tr.m.TLSPort, tr.m.TCPPort = Known(false), Known(6379), Known(0)
		}, nil, "master-safe", "tls-replication no"},
		{"the replica speaks TLS and the port is the TLS port", promotedTrio, func(tr *trio) {
			tr.x.TLSReplication, tr.m.TLSPort, tr.m.TCPPort = Known(true), Known(6379), Known(0)
		}, nil, "", ""},
		{"another replica cannot connect to the master either", promotedTrio, func(tr *trio) { tr.followDown(&tr.y, tr.mNode(), "connecting") }, nil, "master-safe?", "node-y points at node-m too"},
		{"another replica is turned away by the master, which is another matter", promotedTrio, func(tr *trio) { tr.followDown(&tr.y, tr.mNode(), "connect") }, nil, "", ""},
		{"another replica cannot connect, and this one could", promotedTrio, func(tr *trio) {
			tr.followDown(&tr.y, tr.mNode(), "connecting")
			tr.oldX.Followed.Master = tr.mNode()
		}, nil, "", ""},
		{"another replica copies from the master", promotedTrio, func(tr *trio) {
			tr.followDown(&tr.y, tr.mNode(), "sync")
			tr.y.Replication.SyncInProgress = Known(true)
		}, nil, "", ""},
		{"another replica is linked to the master", promotedTrio, nil, nil, "", ""},

		{"the master restarted since the plan was made", promotedTrio, nil, func(f *ReattachFacts) { f.PlannedM = Snapshot{RunID: "another"} }, "identity", "node-m restarted since the diagnosis"},
		{"the master is the one of the plan", promotedTrio, nil, func(f *ReattachFacts) { f.PlannedM = f.M }, "", ""},

		// the replica itself
		{"replica is loading: its keys are still coming", promotedTrio, func(tr *trio) { tr.x.Reach, tr.x.Loading = ReachLoading, Known(true) }, nil, "busy?|capability?|identity?|master-safe?", "node-x"},
		{"replica is loading and the master is empty", promotedTrio, func(tr *trio) {
			tr.x.Reach, tr.x.Loading, tr.x.DBs = ReachLoading, Known(true), nil
			tr.m.DBs = nil
		}, nil, "busy?|capability?|identity?|master-safe?", "node-x"},
		{"loading of the replica not known", promotedTrio, func(tr *trio) { tr.x.Loading = Opt[bool]{} }, nil, "busy|busy?|capability|capability?|identity|identity?|master-safe|master-safe?", "node-x"},

		// lineage
		{"master restarted from an older file: the replica is ahead", strayTrio, func(tr *trio) {
			r := &tr.m.Replication
			r.ReplID, r.ReplID2, r.SecondOffset, r.Offset = histX, histM, Known(int64(901)), Known(int64(950))
		}, nil, "lineage|no-lost-writes", "100 bytes"},
		{"promoted further than the master came", promotedTrio, func(tr *trio) { tr.m.Replication.Offset = Known(int64(990)) }, nil, "lineage|no-lost-writes", "10 bytes"},
		{"unrelated master with nothing in common", promotedTrio, func(tr *trio) { tr.x.Replication.ReplID2 = histE }, nil, "lineage|no-lost-writes", "node-x"},
		{"no id on the replica", promotedTrio, func(tr *trio) { tr.x.Replication.ReplID = "" }, nil, "lineage|no-lost-writes", "replication id is missing"},
		{"no id on the master", promotedTrio, func(tr *trio) { tr.m.Replication.ReplID = noHist }, nil, "lineage|no-lost-writes", ""},
		{"how far the replica came is not known", strayTrio, func(tr *trio) { tr.x.Replication.ReplicaOffset = Opt[int64]{} }, nil, "lineage|no-lost-writes", "not known"},
		{"how far the master came is not known", promotedTrio, func(tr *trio) { tr.m.Replication.Offset = Opt[int64]{} }, nil, "lineage|no-lost-writes", "not known"},
		{"copy of a master that was silent for 9 s: perhaps the last copy", copyTrio, func(tr *trio) { tr.x.Replication.LastIOSecondsAgo = Known(int64(9)) }, nil, "lineage?", "wait for its next PING"},
		{"copy of a master that was heard of 3 s ago", copyTrio, func(tr *trio) { tr.x.Replication.LastIOSecondsAgo = Known(int64(3)) }, nil, "", ""},
		{"copy of a master that was heard of 4 s ago", copyTrio, func(tr *trio) { tr.x.Replication.LastIOSecondsAgo = Known(int64(4)) }, nil, "lineage?", "wait for its next PING"},
		{"former master, all of whose history the new one has", promotedTrio, func(tr *trio) {
			tr.m.Replication.ReplID, tr.m.Replication.ReplID2, tr.m.Replication.SecondOffset, tr.m.Replication.Offset = histX, histM, Known(fullTo+1), Known(fullTo+50)
			r := &tr.x.Replication
			r.ReplID, r.ReplID2, r.SecondOffset = histM, noHist, Known(int64(-1))
		}, nil, "", ""},
		{"former master that had been promoted itself once", promotedTrio, func(tr *trio) {
			tr.m.Replication.ReplID, tr.m.Replication.ReplID2, tr.m.Replication.SecondOffset, tr.m.Replication.Offset = histX, histM, Known(fullTo+1), Known(fullTo+50)
			r := &tr.x.Replication
			r.ReplID, r.ReplID2, r.SecondOffset = histM, histE, Known(int64(501))
		}, nil, "", ""},
		{"former master with replicas of its own", promotedTrio, func(tr *trio) {
			tr.m.Replication.ReplID, tr.m.Replication.ReplID2, tr.m.Replication.SecondOffset, tr.m.Replication.Offset = histX, histM, Known(fullTo+1), Known(fullTo+50)
			r := &tr.x.Replication
			r.ReplID, r.ReplID2, r.SecondOffset = histM, noHist, Known(int64(-1))
			r.Replicas = []ReplicaLine{{Host: outsider, Port: 1}}
		}, nil, "no-lost-writes", ""},
		{"written to without replicating it, since it was alone", grownTrio, func(tr *trio) {
			tr.x.Replication.Offset = Known(fullTo)
			tr.oldX.Alone = Alone{ReplID: tr.x.Replication.ReplID, Writes: tr.oldX.Followed.Writes}
			tr.oldX.Followed = Followed{}
			tr.x.Persistence.ChangesSinceLastSave = Known(int64(8))
		}, nil, "no-lost-writes", "not replicated"},
		{"written to as a replica, since the byte at which it left", grownTrio, func(tr *trio) {
			tr.x.Replication.Offset = Known(fullTo)
			tr.oldX.Followed.Offset = fullTo
			tr.x.Persistence.ChangesSinceLastSave = Known(int64(8))
		}, nil, "no-lost-writes", "not replicated"},
		{"a key more than the master at the very same byte", promotedTrio, func(tr *trio) { tr.x.DBs[0].Keys++ }, nil, "no-lost-writes", "501 and 500 keys"},
		{"a key more than the master, which has gone on", promotedTrio, func(tr *trio) {
			tr.x.DBs[0].Keys++
			tr.m.Replication.Offset = Known(fullTo + 1)
		}, nil, "", ""},
		{"a key less than the master at the same byte: a restart leaves expired keys out", promotedTrio, func(tr *trio) { tr.x.DBs[0].Keys-- }, nil, "", ""},
		{"other changes than at an earlier byte are those it was sent", grownTrio, func(tr *trio) {
			tr.x.Replication.Offset = Known(fullTo)
			tr.oldX.Followed.Offset = fullTo - 1
			tr.x.Persistence.ChangesSinceLastSave = Known(int64(8))
		}, nil, "", ""},
		{"other changes after a save prove nothing", grownTrio, func(tr *trio) {
			tr.x.Replication.Offset = Known(fullTo)
			tr.oldX.Followed.Offset = fullTo
			tr.x.Persistence.ChangesSinceLastSave, tr.x.Persistence.LastSaveTime = Known(int64(0)), Known(int64(991))
		}, nil, "", ""},
		{"the master is reached at a loopback address and the replica on another host", promotedTrio, func(tr *trio) { tr.in.Nodes[0].Address.Host = "127.0.0.1" }, nil, "master-safe", "a loopback address"},
		{"the master's name leads to a loopback address here", promotedTrio, func(tr *trio) { tr.m.OwnIPs = []string{"127.0.1.1"} }, nil, "master-safe", "a loopback address"},
		{"both are reached at loopback addresses", promotedTrio, func(tr *trio) { tr.in.Nodes[0].Address.Host, tr.in.Nodes[1].Address.Host = "127.0.0.1", "localhost" }, nil, "", ""},
		{"loopback here, and the address for the replicas is in the config", promotedTrio, func(tr *trio) {
			tr.in.Nodes[0].Address.Host, tr.in.Nodes[0].PeerAddress = "127.0.0.1", Address{"10.0.0.1", 6379}
		}, nil, "", ""},
		{"an empty server of no known history", promotedTrio, func(tr *trio) {
			tr.x.DBs, tr.x.Replication.ReplID, tr.x.Replication.ReplID2 = nil, histE, noHist
		}, nil, "lineage|no-lost-writes", "holds no keys"},
		{"former master that wrote on", promotedTrio, func(tr *trio) {
			tr.m.Replication.ReplID, tr.m.Replication.ReplID2, tr.m.Replication.SecondOffset, tr.m.Replication.Offset = histX, histM, Known(fullTo+1), Known(fullTo+50)
			r := &tr.x.Replication
			r.ReplID, r.ReplID2, r.SecondOffset, r.Offset = histM, noHist, Known(int64(-1)), Known(fullTo+10)
		}, nil, "lineage|no-lost-writes", "10 bytes"},
		{"copy of a live master, with replicas that read from it", copyTrio, func(tr *trio) { tr.x.Replication.Replicas = []ReplicaLine{{Host: outsider, Port: 1}} }, nil, "lineage", "replicas of its own"},
		{"copy of a master that is gone: the only copy", copyTrio, func(tr *trio) { tr.x.Replication.LinkUp = Known(false) }, nil, "lineage|no-lost-writes", "node-x"},
		{"copy, the link is not known", copyTrio, func(tr *trio) { tr.x.Replication.LinkUp = Opt[bool]{} }, nil, "lineage|no-lost-writes", "node-x"},
		{"copy of a master that has sent nothing for 21 s: up until repl-timeout proves nothing", copyTrio, func(tr *trio) { tr.x.Replication.LastIOSecondsAgo = Known(int64(21)) }, nil, "lineage|no-lost-writes", "node-x"},
		{"copy, the age of the last byte is not known", copyTrio, func(tr *trio) { tr.x.Replication.LastIOSecondsAgo = Opt[int64]{} }, nil, "lineage|no-lost-writes", "node-x"},
		{"copy of a node of this instance", copyTrio, func(tr *trio) { tr.follow(&tr.x, tr.yNode()) }, nil, "lineage", "node of this instance"},

		{"promoted, written to, then pointed at a dead port", forkedTrio(95), nil, nil, "lineage|no-lost-writes", "node-x"},
		{"promoted, one byte written, then pointed at a dead port", forkedTrio(1), nil, nil, "lineage|no-lost-writes", "node-x"},
		{"promoted, not written to, then pointed at a dead port: repaired", forkedTrio(0), nil, nil, "", ""},
		{"follows a node that was promoted, written to and died: the only copy of those writes", forkedTrio(95), func(tr *trio) {
			tr.x.Replication.MasterHost, tr.x.Replication.MasterPort, tr.x.MasterIPs = tr.yNode().Host, tr.yNode().Port, []string{tr.yNode().Host}
			tr.lose(&tr.y, ReachRefused)
		}, nil, "lineage|no-lost-writes", "node-x"},
		{"our record knows a replica of this master; since then it copied another, which is gone", strayTrio, func(tr *trio) {
			tr.followDown(&tr.x, Address{outsider, 6379}, "connect")
			tr.x.Replication.ReplID = histE
		}, func(f *ReattachFacts) { f.OldX = memory(RoleReplica, histM, 900, 500) }, "lineage|no-lost-writes", "node-x"},
		{"our record knows a replica of this master; since then it was promoted, written to, saved and restarted as a master", promotedTrio, func(tr *trio) {
			r := &tr.x.Replication
			r.ReplID, r.ReplID2 = histE, histX
		}, func(f *ReattachFacts) { f.OldX = memory(RoleReplica, histM, 900, 500) }, "lineage|no-lost-writes", "node-x"},
		{"our record knows a replica of this master; it restarted as a master and forgot (6.0): a person decides", promotedTrio, func(tr *trio) {
			r := &tr.x.Replication
			r.ReplID, r.ReplID2, r.SecondOffset, r.Offset, r.BacklogActive = histE, noHist, Known(int64(-1)), Known(int64(0)), Known(false)
		}, func(f *ReattachFacts) { f.OldX = memory(RoleReplica, histM, 900, 500) }, "lineage|no-lost-writes", "node-x"},
		{"the same, and our record is ahead of the master", promotedTrio, func(tr *trio) {
			r := &tr.x.Replication
			r.ReplID, r.ReplID2, r.SecondOffset, r.Offset, r.BacklogActive = histE, noHist, Known(int64(-1)), Known(int64(0)), Known(false)
		}, func(f *ReattachFacts) { f.OldX = memory(RoleReplica, histM, fullTo+1, 500) }, "lineage|no-lost-writes", "node-x"},
		{"the same, and our record knows it as a master", promotedTrio, func(tr *trio) {
			r := &tr.x.Replication
			r.ReplID, r.ReplID2, r.SecondOffset, r.Offset, r.BacklogActive = histE, noHist, Known(int64(-1)), Known(int64(0)), Known(false)
		}, func(f *ReattachFacts) { f.OldX = memory(RoleMaster, histM, 900, 500) }, "lineage|no-lost-writes", "node-x"},

		// no-lost-writes
		{"promoted, one byte written", newPromoted(1), nil, nil, "no-lost-writes", "dcshealer heal --instance dcs-1 --live --yes --allow-lost-writes node-x"},
		{"promoted, written to, and a person gave the writes up", newPromoted(40), nil, func(f *ReattachFacts) { f.AllowLost = true }, "", ""},
		{"giving up writes opens no other guard", newPromoted(40), func(tr *trio) { tr.m.DBs = nil }, func(f *ReattachFacts) { f.AllowLost = true }, "master-safe", "node-m is empty"},
		{"promoted, the history it left forgotten", promotedTrio, func(tr *trio) { tr.x.Replication.ReplID2, tr.x.Replication.ReplID = noHist, histM }, nil, "no-lost-writes", "--allow-lost-writes node-x"},
		{"promoted, without a backlog: writes do not show", promotedTrio, func(tr *trio) { tr.x.Replication.BacklogActive = Known(false) }, nil, "no-lost-writes", "node-x"},
		{"promoted, backlog not known", promotedTrio, func(tr *trio) { tr.x.Replication.BacklogActive = Opt[bool]{} }, nil, "no-lost-writes", "node-x"},
		{"promoted, with replicas of its own", promotedTrio, func(tr *trio) { tr.x.Replication.Replicas = []ReplicaLine{{Host: outsider, Port: 1}} }, nil, "no-lost-writes", "in use"},
		{"promoted, and it was seen as a writable replica once", promotedTrio, nil, func(f *ReattachFacts) { f.OldX.Writable = noon.Add(-time.Hour) }, "no-lost-writes", "seen as a writable replica"},
		{"seen as a writable replica once, and a partial resync deletes nothing", strayTrio, nil, func(f *ReattachFacts) { f.OldX.Writable = noon.Add(-time.Hour) }, "", ""},
		{"role of the replica not known", promotedTrio, func(tr *trio) { tr.x.Replication.Role = "" }, nil, "identity no-lost-writes", "node-x"},
		{"promoted, and it was a writable replica before: keys of its own that no offset shows", promotedTrio, func(tr *trio) { tr.x.Replication.ReadOnly = Known(false) }, nil, "no-lost-writes", "replica-read-only no"},
		{"promoted, and whether it was writable is not known", promotedTrio, func(tr *trio) { tr.x.Replication.ReadOnly = Opt[bool]{} }, nil, "no-lost-writes", "+config|get"},
		{"the master was flushed and took a key since: the detached replica holds the last copy", promotedTrio, func(tr *trio) { tr.m.DBs = []DB{{0, 1, 0}} }, nil, "no-lost-writes", "node-x holds 500 keys and the master node-m only 1"},
		{"the same, and a person gives them up by name", promotedTrio, func(tr *trio) { tr.m.DBs = []DB{{0, 1, 0}} }, func(f *ReattachFacts) { f.AllowLost = true }, "", ""},
		{"of the flushed master's history on a dead port, and a full copy to come", strayTrio, func(tr *trio) {
			tr.m.DBs, tr.m.Replication.BacklogActive = []DB{{0, 1, 0}}, Known(false)
		}, nil, "no-lost-writes", "node-x holds 500 keys"},
		{"of the flushed master's history on a dead port: a partial resync replays the flush", strayTrio, func(tr *trio) { tr.m.DBs = []DB{{0, 1, 0}} }, nil, "no-lost-writes", "node-x holds 500 keys"},
		{"the master is reached through a port map and no peer address is set", promotedTrio, func(tr *trio) { tr.m.TCPPort = Known(6380) }, nil, "master-safe", "set peer_address of node-m"},
		{"the server's own port is not known", promotedTrio, func(tr *trio) { tr.m.TCPPort = Opt[int]{} }, nil, "master-safe", "port unknown"},
		{"the server's own port is the configured one", promotedTrio, func(tr *trio) { tr.m.TCPPort = Known(6379) }, nil, "", ""},
		{"the port is not told (TLS only)", promotedTrio, func(tr *trio) { tr.m.TCPPort = Known(0) }, nil, "", ""},
		{"the master has a few keys fewer", promotedTrio, func(tr *trio) { tr.m.DBs, tr.m.Replication.Offset = []DB{{0, 450, 0}}, Known(fullTo+1) }, nil, "", ""},
		{"writable replica, partial resync keeps its keys", strayTrio, func(tr *trio) { tr.x.Replication.ReadOnly = Known(false) }, nil, "", ""},
		{"writable replica, a full copy would delete them", copyTrio, func(tr *trio) { tr.x.Replication.ReadOnly = Known(false) }, nil, "no-lost-writes", "replica-read-only"},
		{"read-only not known", strayTrio, func(tr *trio) { tr.x.Replication.ReadOnly = Opt[bool]{} }, nil, "no-lost-writes", "read-only"},
		{"writable replica and no prediction: what is not known counts as full", strayTrio, func(tr *trio) { tr.x.Replication.ReadOnly = Known(false) },
			func(f *ReattachFacts) { f.Predicted = "" }, "no-lost-writes", "replica-read-only"},

		// no-cycle
		{"one process", promotedTrio, func(tr *trio) { tr.x.RunID = tr.m.RunID }, nil, "no-cycle", "same server"},
		{"run id of the master not known", promotedTrio, func(tr *trio) { tr.m.RunID = "" }, nil, "no-cycle", "run id"},
		{"run id of the replica not known", promotedTrio, func(tr *trio) { tr.x.RunID = "" }, nil, "identity no-cycle", "run id"},
		{"points there already: nothing would happen", strayTrio, func(tr *trio) { tr.followDown(&tr.x, tr.mNode(), "connect") }, nil, "no-cycle", "would do nothing"},
		{"points there already by name", strayTrio, func(tr *trio) {
			tr.followDown(&tr.x, Address{"redis-m.internal", 6379}, "connect")
			tr.x.MasterIPs = []string{"10.0.0.1"}
		}, nil, "no-cycle", "would do nothing"},
		{"a cycle of replicas beside the master: repaired", strayTrio, func(tr *trio) { tr.follow(&tr.x, tr.yNode()); tr.follow(&tr.y, tr.xNode()) }, nil, "", ""},
	} {
		t.Run(c.name, c.run)
	}
}

func newPromoted(own int64) func() *trio {
	return func() *trio {
		tr := newTrio()
		tr.promote(&tr.x, own)
		return tr
	}
}

// What a copy costs and whether it can work.
func TestReattachGuardsOfTheCopy(t *testing.T) {
	line := func(state string) func(*trio) {
		return func(tr *trio) { tr.m.Replication.Replicas[0].State = state }
	}
	memory := func(rss, total, used, max, buffers int64) func(*trio) {
		return func(tr *trio) {
			tr.m.Memory = Memory{RSS: Known(rss), SystemTotal: Known(total), Used: Known(used), NotCounted: Known(int64(0)), Max: Known(max), ClientsReplicas: Known(buffers)}
		}
	}
	earlier := func(buffers Opt[int64]) func(*ReattachFacts) {
		return func(f *ReattachFacts) { f.EarlierM.Memory.ClientsReplicas = buffers }
	}
	for _, c := range []reattachRow{
		// headroom
		{"the replica cannot save", promotedTrio, func(tr *trio) { tr.x.Persistence.LastBgsaveOK = Known(false) }, nil, "headroom", "node-x fails to write to its own disk"},
		{"the replica's AOF cannot be written", promotedTrio, func(tr *trio) { tr.x.Persistence.LastAOFWriteOK = Known(false) }, nil, "headroom", "node-x fails to write"},
		{"the replica cannot save, partial resync", strayTrio, func(tr *trio) { tr.x.Persistence.LastBgsaveOK = Known(false) }, nil, "", ""},
		{"the replica's host is too small", promotedTrio, func(tr *trio) {
			tr.m.Memory.Dataset, tr.x.Memory.SystemTotal = Known(int64(8<<30)), Known(int64(8<<30))
		}, nil, "headroom", "8192 MiB"},
		{"the stream would outgrow the buffer", promotedTrio, func(tr *trio) {
			tr.m.Memory.Dataset, tr.m.ReplicaBuffer = Known(int64(1<<30)), Known(BufferLimit{Hard: 1 << 20})
		}, func(f *ReattachFacts) {
			f.EarlierM.At, f.EarlierM.Replication.Offset = f.M.At.Add(-time.Second), Known(fullTo-100_000)
		}, "headroom?", "client-output-buffer-limit"},
		{"the buffer has no limit", promotedTrio, func(tr *trio) {
			tr.m.Memory.Dataset, tr.m.ReplicaBuffer = Known(int64(1<<30)), Known(BufferLimit{})
		}, func(f *ReattachFacts) {
			f.EarlierM.At, f.EarlierM.Replication.Offset = f.M.At.Add(-time.Second), Known(fullTo-100_000)
		}, "", ""},

		// busy
		{"replica is copying", strayTrio, func(tr *trio) { tr.x.Replication.SyncInProgress = Known(true) }, nil, "busy?", "node-x"},
		{"whether the replica is copying is not known", strayTrio, func(tr *trio) { tr.x.Replication.SyncInProgress = Opt[bool]{} }, nil, "busy", "node-x"},
		{"a master has no copy under way to tell of", promotedTrio, func(tr *trio) { tr.x.Replication.SyncInProgress = Opt[bool]{} }, nil, "", ""},
		{"master saves, full copy", promotedTrio, func(tr *trio) { tr.m.Persistence.BgsaveRunning = Known(true) }, nil, "busy?", "node-m"},
		{"master rewrites its AOF, full copy", promotedTrio, func(tr *trio) { tr.m.Persistence.AOFRewriteRunning = Known(true) }, nil, "busy?", "node-m"},
		{"master saves, partial resync", strayTrio, func(tr *trio) { tr.m.Persistence.BgsaveRunning = Known(true) }, nil, "", ""},
		{"master saves, no prediction", promotedTrio, func(tr *trio) { tr.m.Persistence.BgsaveRunning = Known(true) }, func(f *ReattachFacts) { f.Predicted = "" }, "busy?", "node-m"},
		{"saving not known", strayTrio, func(tr *trio) { tr.m.Persistence.BgsaveRunning = Opt[bool]{} }, nil, "busy", "node-m"},
		{"rewriting not known", strayTrio, func(tr *trio) { tr.m.Persistence.AOFRewriteRunning = Opt[bool]{} }, nil, "busy", "node-m"},
		{"clients paused", strayTrio, func(tr *trio) { tr.m.Clients.Paused = Known("client_pause") }, nil, "busy?", "client_pause"},
		{"clients not paused, said as none", strayTrio, func(tr *trio) { tr.m.Clients.Paused = Known("none") }, nil, "", ""},

		// budget
		{"full copies are forbidden", promotedTrio, nil, func(f *ReattachFacts) { f.Policy.Reattach.FullResync = false }, "budget", "remediation.reattach-replica.full_resync"},
		{"full copies are forbidden, a partial is not", strayTrio, nil, func(f *ReattachFacts) { f.Policy.Reattach.FullResync = false }, "", ""},
		{"full copies are forbidden, no prediction", strayTrio, nil, func(f *ReattachFacts) { f.Policy.Reattach.FullResync, f.Predicted = false, "" }, "budget", "full_resync"},
		{"master prepares a copy", promotedTrio, line("wait_bgsave"), nil, "budget?", "node-m already copies to 10.0.0.3:6379 (wait_bgsave)"},
		{"master sends a copy", promotedTrio, line("send_bulk"), nil, "budget?", "send_bulk"},
		{"master sends a copy, partial resync", strayTrio, line("send_bulk"), nil, "", ""},
		{"full copies of the fleet used up", promotedTrio, nil, func(f *ReattachFacts) { f.FullResyncs = 2 }, "budget?", "budget.full_resyncs"},
		{"full copies of the fleet used up, partial resync", strayTrio, nil, func(f *ReattachFacts) { f.FullResyncs = 2 }, "", ""},
		{"full copies of the fleet not set", promotedTrio, nil, func(f *ReattachFacts) { f.MaxFull = 0 }, "budget?", "budget.full_resyncs"},
		{"actions of the fleet used up, partial resync", strayTrio, nil, func(f *ReattachFacts) { f.Running = 2 }, "budget?", "budget.concurrent_actions"},

		// auth
		{"master wants a password, the replica has one", strayTrio, func(tr *trio) { tr.m.AuthRequired, tr.x.MasterAuthSet = Known(true), Known(true) }, nil, "", ""},
		{"master wants a password, the replica has none", strayTrio, func(tr *trio) { tr.m.AuthRequired = Known(true) }, nil, "auth", "CONFIG SET masterauth on node-x"},
		{"master wants a password, masterauth not readable", strayTrio, func(tr *trio) { tr.m.AuthRequired, tr.x.MasterAuthSet = Known(true), Opt[bool]{} }, nil, "auth", "+config|get"},
		{"master wants no password, and the replica would send one", strayTrio, func(tr *trio) { tr.x.MasterAuthSet = Known(true) }, nil, "auth", "masterauth"},
		{"whether a password is wanted is not known", strayTrio, func(tr *trio) { tr.m.AuthRequired = Opt[bool]{} }, nil, "auth", "node-m"},
		{"no password wanted, masterauth not readable", strayTrio, func(tr *trio) { tr.x.MasterAuthSet = Opt[bool]{} }, nil, "", ""},

		// headroom
		{"master near the memory of its host", promotedTrio, memory(91, 100, 10, 100, 0), nil, "headroom?", "node-m"},
		{"master at nine tenths", promotedTrio, memory(90, 100, 10, 100, 0), nil, "", ""},
		{"master near the memory of its host, partial resync", strayTrio, memory(99, 100, 10, 100, 0), nil, "", ""},
		{"the last save failed", promotedTrio, func(tr *trio) { tr.m.Persistence.LastBgsaveOK = Known(false) }, nil, "headroom", "BGSAVE of node-m failed"},
		{"the last save is not known", promotedTrio, func(tr *trio) { tr.m.Persistence.LastBgsaveOK = Opt[bool]{} }, nil, "", ""},
		{"the last save failed, partial resync", strayTrio, func(tr *trio) { tr.m.Persistence.LastBgsaveOK = Known(false) }, nil, "", ""},
		{"master full and its replica buffers grow", promotedTrio, memory(10, 100, 96, 100, 9), earlier(Known(int64(8))), "headroom?", "node-m"},
		{"master full, buffers stand", promotedTrio, memory(10, 100, 96, 100, 9), earlier(Known(int64(9))), "", ""},
		{"master full, buffers before not known", promotedTrio, memory(10, 100, 96, 100, 9), earlier(Opt[int64]{}), "", ""},
		{"buffers grow, master at 95 %", promotedTrio, memory(10, 100, 95, 100, 9), earlier(Known(int64(8))), "", ""},
	} {
		t.Run(c.name, c.run)
	}
}

// A replica that cannot read its master's data set is emptied and tries again ten times a second. The pairs were seen
// on running servers; the rest of the table follows from "the master is not newer".
func TestVersionGuard(t *testing.T) {
	for _, c := range []struct {
		m, x  string
		allow bool
	}{
		{"redis 6.0.16", "redis 8.0.2", true}, {"redis 7.0.15", "redis 8.0.2", true}, {"redis 7.0.15", "valkey 9.1.2", true}, {"valkey 9.1.2", "valkey 8.1.1", true},
		{"redis 8.0.2", "redis 7.0.15", false}, {"redis 7.0.15", "redis 6.0.16", false}, {"valkey 8.1.1", "redis 7.0.15", false},
		{"valkey 9.1.2", "redis 7.0.15", false}, {"redis 8.0.2", "valkey 8.1.1", false},
		{"redis 6.0.16", "redis 6.0.16", true}, {"redis 7.0.15", "redis 7.0.11", true}, {"redis 6.0.16", "redis 7.0.15", true}, {"valkey 8.1.1", "valkey 9.1.2", true},
		{"redis 7.4.2", "redis 7.2.1", false}, {"redis 10.0.0", "redis 9.0.0", false}, {"redis 9.0.0", "redis 10.0.0", true},
		{"valkey 9.2.0", "valkey 8.1.1", false}, {"valkey 10.0.0", "valkey 9.1.2", false}, {"redis 7.0.15", "valkey 8.1.1", false}, {"redis 8.0.2", "valkey 9.1.2", false},
		{"redis 7.2.4", "valkey 9.1.2", false}, {"valkey 8.1.1", "redis 8.0.2", false},
		{"redis ", "redis 7.0.15", false}, {"redis 7.0.15", "redis 7", false}, {"redis 7.0.15", "redis x.y.z", false}, {" 7.0.15", "redis 7.0.15", false}, {" 7.0.15", " 7.0.15", false},
	} {
		tr := strayTrio()
		tr.m.Product, tr.m.Version, _ = strings.Cut(c.m, " ")
		tr.x.Product, tr.x.Version, _ = strings.Cut(c.x, " ")
		rs := ReattachGuards(reattachOf(tr))
		r := rulingOf(rs, GuardVersion)
		if r.Denied() == c.allow || r.Temporary {
			t.Errorf("master %q, replica %q: %+v, want allow %t", c.m, c.x, r, c.allow)
		}
		if want := map[bool]string{true: "", false: "version"}[c.allow]; denied(rs) != want {
			t.Errorf("master %q, replica %q: denied by %q, want %q", c.m, c.x, denied(rs), want)
		}
		if !strings.Contains(r.Reason, "node-x") || !strings.Contains(r.Reason, "node-m") {
			t.Errorf("the reason does not name both nodes: %s", r.Reason)
		}
	}
}
