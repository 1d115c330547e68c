package policies

import (
	"reflect"
	"testing"
	"time"
)

// known64 is an offset that was read.
func known64(v int64) Opt[int64] { return Known(v) }

func TestPredictResync(t *testing.T) {
	// M holds bytes 500 to 1000 of histM in its backlog, and went on from histX at byte 701.
	m := Replication{Role: RoleMaster, ReplID: histM, ReplID2: histX, Offset: known64(1000), SecondOffset: known64(701), BacklogActive: Known(true), BacklogFirst: known64(500), BacklogLength: known64(501)}
	replica := func(id ReplID, offset int64) Replication {
		return Replication{Role: RoleReplica, ReplID: id, ReplicaOffset: known64(offset), Offset: known64(9999)}
	}
	with := func(change func(x, m *Replication)) [2]Replication {
		x, mm := replica(histM, 900), m
		change(&x, &mm)
		return [2]Replication{x, mm}
	}
	for _, c := range []struct {
		name string
		pair [2]Replication
		want Resync
	}{
		{"in the middle of the backlog", [2]Replication{replica(histM, 900), m}, ResyncPartial},
		{"has all: asks for the byte after the last", [2]Replication{replica(histM, 1000), m}, ResyncPartial},
		{"asks one byte past the end", [2]Replication{replica(histM, 1001), m}, ResyncFull},
		{"asks for the first byte kept", [2]Replication{replica(histM, 499), m}, ResyncPartial},
		{"asks for the byte before the first kept", [2]Replication{replica(histM, 498), m}, ResyncFull},
		{"of the master's earlier history, up to where it left it", [2]Replication{replica(histX, 700), m}, ResyncPartial},
		{"of the master's earlier history, one byte too far", [2]Replication{replica(histX, 701), m}, ResyncFull},
		{"of another history", [2]Replication{replica(histE, 900), m}, ResyncFull},
		{"no history", [2]Replication{replica("", 900), m}, ResyncFull},
		{"zeros are no history, not a shared one", with(func(x, m *Replication) { x.ReplID, m.ReplID, m.ReplID2 = noHist, noHist, noHist }), ResyncFull},
		{"no second history and its offset -1", with(func(x, m *Replication) { m.ReplID2, m.SecondOffset = noHist, known64(-1) }), ResyncPartial},
		{"second offset not known", with(func(x, m *Replication) { x.ReplID = histX; m.SecondOffset = Opt[int64]{} }), ResyncFull},
		{"no backlog", with(func(x, m *Replication) { m.BacklogActive = Known(false) }), ResyncFull},
		{"backlog not known", with(func(x, m *Replication) { m.BacklogActive = Opt[bool]{} }), ResyncFull},
		{"first byte not known", with(func(x, m *Replication) { m.BacklogFirst = Opt[int64]{} }), ResyncFull},
		{"length not known", with(func(x, m *Replication) { m.BacklogLength = Opt[int64]{} }), ResyncFull},
		{"offset of the replica not known", with(func(x, m *Replication) { x.ReplicaOffset = Opt[int64]{} }), ResyncFull},
		{"a promoted node asks with its new id, never with the one it left", with(func(x, m *Replication) {
			*x = Replication{Role: RoleMaster, ReplID: histE, ReplID2: histM, Offset: known64(900), SecondOffset: known64(901)}
		}), ResyncFull},
		{"a master asks with its master_repl_offset", with(func(x, m *Replication) {
			*x = Replication{Role: RoleMaster, ReplID: histX, Offset: known64(700), ReplicaOffset: known64(9999)}
		}), ResyncPartial},
		{"empty backlog of a master without writes", with(func(x, m *Replication) {
			x.ReplicaOffset = known64(0)
			m.Offset, m.BacklogFirst, m.BacklogLength = known64(0), known64(1), known64(0)
		}), ResyncPartial},
	} {
		if got := PredictResync(c.pair[0], c.pair[1]); got != c.want {
			t.Errorf("%s: got %s, want %s\nx %+v\nm %+v", c.name, got, c.want, c.pair[0], c.pair[1])
		}
	}
}

func TestOwnBytes(t *testing.T) {
	promoted := Replication{Role: RoleMaster, ReplID: histX, ReplID2: histM, Offset: known64(1000), SecondOffset: known64(1001), BacklogActive: Known(true)}
	for _, c := range []struct {
		name   string
		change func(*Replication)
		want   Opt[int64]
	}{
		{"nothing since it left", func(*Replication) {}, known64(0)},
		{"one byte", func(r *Replication) { r.Offset = known64(1001) }, known64(1)},
		{"the values of a real server: promoted at 77, grown to 172", func(r *Replication) { r.Offset, r.SecondOffset = known64(172), known64(78) }, known64(95)},
		{"promoted before the first byte", func(r *Replication) { r.Offset, r.SecondOffset = known64(0), known64(1) }, known64(0)},
		{"a replica has none to count", func(r *Replication) { r.Role = RoleReplica }, Opt[int64]{}},
		{"role not known", func(r *Replication) { r.Role = "" }, Opt[int64]{}},
		{"the history it left is zeros", func(r *Replication) { r.ReplID2 = noHist }, Opt[int64]{}},
		{"the history it left is missing", func(r *Replication) { r.ReplID2 = "" }, Opt[int64]{}},
		{"no backlog: the offset stands still while it is written to", func(r *Replication) { r.BacklogActive = Known(false) }, Opt[int64]{}},
		{"backlog not known", func(r *Replication) { r.BacklogActive = Opt[bool]{} }, Opt[int64]{}},
		{"offset not known", func(r *Replication) { r.Offset = Opt[int64]{} }, Opt[int64]{}},
		{"second offset not known", func(r *Replication) { r.SecondOffset = Opt[int64]{} }, Opt[int64]{}},
		{"second offset -1", func(r *Replication) { r.SecondOffset = known64(-1) }, Opt[int64]{}},
		{"second offset 0", func(r *Replication) { r.SecondOffset = known64(0) }, Opt[int64]{}},
		{"behind where it left: not a history that we understand", func(r *Replication) { r.Offset = known64(999) }, Opt[int64]{}},
	} {
		r := promoted
		c.change(&r)
		if got := OwnBytes(r); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestKinshipOf(t *testing.T) {
	master := func(id ReplID, offset int64, id2 ReplID, second int64) Replication {
		return Replication{Role: RoleMaster, ReplID: id, ReplID2: id2, Offset: known64(offset), SecondOffset: known64(second), BacklogActive: Known(true)}
	}
	replica := func(id ReplID, offset int64) Replication {
		return Replication{Role: RoleReplica, ReplID: id, ReplID2: noHist, ReplicaOffset: known64(offset), SecondOffset: known64(-1)}
	}
	unknownEnd := replica(histM, 900)
	unknownEnd.ReplicaOffset = Opt[int64]{}
	for _, c := range []struct {
		name string
		x, m Replication
		want Kinship
	}{
		{"a replica behind its master", replica(histM, 900), master(histM, 1000, noHist, -1), Kinship{Related: true, ID: histM, Known: true}},
		{"a replica in step", replica(histM, 1000), master(histM, 1000, noHist, -1), Kinship{Related: true, ID: histM, Known: true}},
		{"a replica ahead of a master that lost its end", replica(histM, 1000), master(histM, 900, noHist, -1), Kinship{Related: true, ID: histM, Known: true, Behind: 100}},
		{"master restarted from an older file: the replica is ahead", replica(histM, 1000), master(histX, 850, histM, 801), Kinship{Related: true, ID: histM, Known: true, Behind: 200}},
		{"master restarted from a file as new as the replica", replica(histM, 1000), master(histX, 1000, histM, 1001), Kinship{Related: true, ID: histM, Known: true}},
		{"promoted at a byte that the master has", master(histX, 1000, histM, 1001), master(histM, 1500, noHist, -1), Kinship{Related: true, ID: histM, Known: true}},
		{"promoted further than the master ever came", master(histX, 1000, histM, 1001), master(histM, 900, noHist, -1), Kinship{Related: true, ID: histM, Known: true, Behind: 100}},
		{"both left a third history", master(histX, 1000, histE, 901), master(histM, 2000, histE, 951), Kinship{Related: true, ID: histE, Known: true}},
		{"both left a third history, the master earlier", master(histX, 1000, histE, 951), master(histM, 2000, histE, 901), Kinship{Related: true, ID: histE, Known: true, Behind: 50}},
		{"old master whose writes never reached the one promoted in its place", master(histX, 1000, noHist, -1), master(histM, 1200, histX, 901), Kinship{Related: true, ID: histX, Known: true, Behind: 100}},
		{"old master whose writes all reached it", master(histX, 900, noHist, -1), master(histM, 1200, histX, 901), Kinship{Related: true, ID: histX, Known: true}},
		{"nothing in common", replica(histE, 900), master(histM, 1000, histX, 500), Kinship{}},
		{"zeros are nothing in common", master(histX, 900, noHist, -1), master(histM, 1000, noHist, -1), Kinship{}},
		{"missing ids are nothing in common", master(histX, 900, "", -1), master(histM, 1000, "", -1), Kinship{}},
		{"the end of the replica is not known", unknownEnd, master(histM, 1000, noHist, -1), Kinship{Related: true, ID: histM}},
		{"second offset is -1 although an id is there", replica(histX, 900), master(histM, 1000, histX, -1), Kinship{Related: true, ID: histX}},
	} {
		if got := KinshipOf(c.x, c.m); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestHistoryLost(t *testing.T) {
	old := NodeMemory{Role: RoleMaster, ReplID: histM, Offset: 1000, Keys: 500}
	master := func(id ReplID, offset Opt[int64], id2 ReplID, second int64) Snapshot {
		return Snapshot{Replication: Replication{Role: RoleMaster, ReplID: id, ReplID2: id2, Offset: offset, SecondOffset: known64(second)}}
	}
	for _, c := range []struct {
		name string
		m    Snapshot
		old  NodeMemory
		want bool
	}{
		{"went on", master(histM, known64(2000), noHist, -1), old, false},
		{"stood still", master(histM, known64(1000), noHist, -1), old, false},
		{"its offset went back", master(histM, known64(999), noHist, -1), old, true},
		{"its offset is not known", master(histM, Opt[int64]{}, noHist, -1), old, true},
		{"restarted, and goes on from where it was", master(histX, known64(1000), histM, 1001), old, false},
		{"restarted from an older file", master(histX, known64(900), histM, 901), old, true},
		{"restarted with another history", master(histX, known64(0), noHist, -1), old, true},
		{"restarted, second offset -1", master(histX, known64(0), histM, -1), old, true},
		{"nothing remembered", master(histX, known64(0), noHist, -1), NodeMemory{}, false},
		{"remembered without a history", master(histX, known64(0), noHist, -1), NodeMemory{Role: RoleMaster, ReplID: noHist, Offset: 1000}, false},
		{"it was a replica then", master(histX, known64(0), noHist, -1), NodeMemory{Role: RoleReplica, ReplID: histM, Offset: 1000}, false},
	} {
		if got := HistoryLost(c.m, c.old); got != c.want {
			t.Errorf("%s: got %t, want %t", c.name, got, c.want)
		}
	}
}

func TestClearlyFewer(t *testing.T) {
	for _, c := range []struct {
		n, were int64
		want    bool
	}{{0, 0, false}, {0, 1, true}, {90, 100, false}, {89, 100, true}, {100, 100, false}, {200, 100, false}} {
		if got := ClearlyFewer(c.n, c.were); got != c.want {
			t.Errorf("ClearlyFewer(%d, %d): got %t", c.n, c.were, got)
		}
	}
}

func TestNextMemory(t *testing.T) {
	tr := newTrio()
	fresh := NodeMemory{SaveSeen: tr.m.At, Instance: "dcs-1", Node: "node-m", At: tr.m.At, RunID: tr.m.RunID, Role: RoleMaster, ReplID: histM, ReplID2: noHist, Offset: fullTo, Keys: 500}
	old := fresh
	old.At, old.Offset, old.Keys = tr.m.At.Add(-time.Hour), 900, 450
	emptied := func(s *Snapshot) {
		s.RunID, s.DBs, s.Replication.ReplID, s.Replication.Offset = "run-2", nil, histE, known64(0)
	}
	for _, c := range []struct {
		name   string
		old    NodeMemory
		change func(*Snapshot)
		want   NodeMemory
	}{
		{"the first reading is remembered", NodeMemory{}, func(*Snapshot) {}, fresh},
		{"a newer reading replaces an older", old, func(*Snapshot) {}, fresh},
		{"a node that does not answer changes nothing", old, func(s *Snapshot) { s.Reach = ReachHung }, old},
		{"a loading node changes nothing: its keys come back one by one", old, func(s *Snapshot) { s.Reach = ReachLoading }, old},
		{"unknown keys change nothing", old, func(s *Snapshot) { s.KeyspaceKnown = false }, old},
		{"a missing history changes nothing", old, func(s *Snapshot) { s.Replication.ReplID = "" }, old},
		{"a history of zeros changes nothing", old, func(s *Snapshot) { s.Replication.ReplID = noHist }, old},
		{"an unknown offset changes nothing: 0 would hide that it went back", old, func(s *Snapshot) { s.Replication.Offset = Opt[int64]{} }, old},
		{"a master that came back empty is not believed", old, emptied, old},
		{"nor 23 hours later", with(old, func(m *NodeMemory) { m.At = tr.m.At.Add(-23 * time.Hour) }), emptied, with(old, func(m *NodeMemory) { m.At = tr.m.At.Add(-23 * time.Hour) })},
		{"one that became a replica and has no copy yet still holds what it lost from", old, func(s *Snapshot) {
			emptied(s)
			s.Replication.Role, s.Replication.LinkUp, s.Replication.ReplicaOffset = RoleReplica, Known(false), known64(0)
		}, old},
		{"that it takes writes as a replica is noted all the same", old, func(s *Snapshot) {
			emptied(s)
			s.Replication.Role, s.Replication.LinkUp, s.Replication.ReplicaOffset, s.Replication.ReadOnly = RoleReplica, Known(false), known64(0), Known(false)
		}, with(old, func(m *NodeMemory) { m.Writable = tr.m.At })},
		{"one that is linked as a replica holds the data of another", old, func(s *Snapshot) {
			emptied(s)
			s.Replication.Role, s.Replication.LinkUp, s.Replication.ReplicaOffset, s.Replication.ReadOnly = RoleReplica, Known(true), known64(5), Known(false)
		}, with(fresh, func(m *NodeMemory) {
			m.RunID, m.Role, m.ReplID, m.Offset, m.Keys, m.Writable = "run-2", RoleReplica, histE, 5, 0, tr.m.At
			m.Followed = Followed{ReplID: histE, Offset: 5, At: tr.m.At, RunID: "run-2", Replicas: tr.m.Replication.replicaAddresses(), Writes: WriteCount{RunID: "run-2"},
				Settings: ReplicaSettings{MasterAuth: tr.m.MasterAuthSet, ReadOnly: Known(false)}}
		})},
		{"after a day it is", with(old, func(m *NodeMemory) { m.At = tr.m.At.Add(-24 * time.Hour) }), emptied,
			with(fresh, func(m *NodeMemory) { m.RunID, m.ReplID, m.Offset, m.Keys = "run-2", histE, 0, 0 })},
		{"another history with all keys is believed", old, func(s *Snapshot) { s.Replication.ReplID = histE }, with(fresh, func(m *NodeMemory) { m.ReplID = histE })},
		{"emptied without a loss of history: somebody deleted the keys", old, func(s *Snapshot) { s.DBs = nil }, with(fresh, func(m *NodeMemory) { m.Keys = 0 })},
		{"a replica is remembered by its own offset", NodeMemory{}, func(s *Snapshot) { s.Replication.Role, s.Replication.ReplicaOffset = RoleReplica, known64(777) },
			with(fresh, func(m *NodeMemory) { m.Role, m.Offset = RoleReplica, 777 })},
	} {
		s := tr.m
		c.change(&s)
		if got := NextMemory(c.old, s); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", c.name, got, c.want)
		}
	}
}

func TestAPromotedNodeIsRememberedAloneOnlyAsItBegan(t *testing.T) {
	tr := grownTrio()
	grown := NextMemory(tr.oldX, tr.x)
	if grown.Alone != (Alone{}) {
		t.Errorf("a history that has grown is remembered as one that has not: %+v", grown.Alone)
	}
	tr.x.Replication.Offset = Known(fullTo)
	began := NextMemory(tr.oldX, tr.x)
	if began.Alone.ReplID != histX || began.Alone.Writes.Changes != Known(int64(7)) {
		t.Errorf("alone %+v, want it as it began", began.Alone)
	}
	tr.x.At = tr.x.At.Add(time.Minute)
	tr.x.Persistence.ChangesSinceLastSave = Known(int64(8))
	if again := NextMemory(began, tr.x); again.Alone != began.Alone {
		t.Errorf("a write that was not replicated is remembered as the beginning: %+v", again.Alone)
	}
	tr.x.Persistence.LastSaveTime = Known(int64(200))
	if saved := NextMemory(began, tr.x); saved.Alone.Writes.LastSave != Known(int64(200)) {
		t.Errorf("after a save %+v, want the new count", saved.Alone)
	}
}

// with is a copy of v, changed.
func with[T any](v T, change func(*T)) T {
	change(&v)
	return v
}
