package policies

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// manyChecks runs the property at least n times, more where the command line asks for more, and leaves no files behind.
func manyChecks(t *testing.T, n int, property func(*rapid.T)) {
	t.Helper()
	checks, files := flag.Lookup("rapid.checks"), flag.Lookup("rapid.nofailfile")
	before, beforeFiles := checks.Value.String(), files.Value.String()
	defer func() { _, _ = checks.Value.Set(before), files.Value.Set(beforeFiles) }()
	if asked, err := strconv.Atoi(before); err != nil || asked < n {
		_ = checks.Value.Set(strconv.Itoa(n))
	}
	_ = files.Value.Set("true")
	rapid.Check(t, property)
}

// Choices draws many small choices out of few random words, which is what makes 100,000 cases quick. All zeros choose
// the first of everything, so that shrinking leads to the plain case.
type choices struct {
	t    *rapid.T
	word uint64
	left uint64 // what of the word is not used up, as the number of values it can still tell apart
}

func (c *choices) below(n int) int {
	if c.left < uint64(n) {
		c.word, c.left = rapid.Uint64().Draw(c.t, "choices"), 1<<63
		c.word >>= 1
	}
	v := c.word % uint64(n)
	c.word /= uint64(n)
	c.left /= uint64(n)
	return int(v)
}

func pick[T any](c *choices, of ...T) T { return of[c.below(len(of))] }

// maybe is mostly one of the values, and now and then not known.
func maybe[T any](c *choices, of ...T) Opt[T] {
	if c.below(12) == 11 {
		return Opt[T]{}
	}
	return Known(pick(c, of...))
}

var (
	poolIDs      = []ReplID{histM, histX, histE, noHist, ""}
	poolOffsets  = []int64{fullTo, fullTo + 95, fullTo - 1, fullTo + 1, 0, 1, 500}
	poolSeconds  = []int64{fullTo + 1, -1, fullTo, 501, 0, 1}
	poolVersions = []string{"redis 7.0.15", "redis 6.0.16", "redis 8.0.2", "valkey 8.1.1", "valkey 9.1.2", "redis ", "redis seven", " 7.0.15"}
	poolReach    = []Reach{ReachUp, ReachLoading, ReachRefused, ReachNoRoute, ReachHung, ReachReset, ReachMaxConns, ReachBusy, ReachAuth, ReachTLS, ReachOdd, ""}
)

// disturbances change one thing about one node. Few of them are applied at once, so that repairs stay possible.
var disturbances = []func(c *choices, tr *trio, s *Snapshot){
	func(c *choices, tr *trio, s *Snapshot) { s.RunID = pick(c, "run-of-node-m", "run-of-node-x", "") },
	func(c *choices, tr *trio, s *Snapshot) { s.Reach = pick(c, poolReach...) },
	func(c *choices, tr *trio, s *Snapshot) { s.Loading = maybe(c, true, false) },
	func(c *choices, tr *trio, s *Snapshot) { s.Cluster = maybe(c, true, false) },
	func(c *choices, tr *trio, s *Snapshot) {
		s.DBs = pick(c, nil, []DB{{0, 0, 0}}, []DB{{0, 1, 0}}, []DB{{0, 500, 0}}, []DB{{0, 449, 0}})
	},
	func(c *choices, tr *trio, s *Snapshot) { s.KeyspaceKnown = c.below(2) == 1 },
	func(c *choices, tr *trio, s *Snapshot) {
		s.Product, s.Version, _ = strings.Cut(pick(c, poolVersions...), " ")
	},
	func(c *choices, tr *trio, s *Snapshot) { s.AuthRequired = maybe(c, true, false) },
	func(c *choices, tr *trio, s *Snapshot) { s.MasterAuthSet = maybe(c, true, false) },
	func(c *choices, tr *trio, s *Snapshot) { s.Replication.Role = pick(c, RoleMaster, RoleReplica, "") },
	func(c *choices, tr *trio, s *Snapshot) { s.Replication.ReplID = pick(c, poolIDs...) },
	func(c *choices, tr *trio, s *Snapshot) { s.Replication.ReplID2 = pick(c, poolIDs...) },
	func(c *choices, tr *trio, s *Snapshot) { s.Replication.Offset = maybe(c, poolOffsets...) },
	func(c *choices, tr *trio, s *Snapshot) { s.Replication.ReplicaOffset = maybe(c, poolOffsets...) },
	func(c *choices, tr *trio, s *Snapshot) { s.Replication.SecondOffset = maybe(c, poolSeconds...) },
	func(c *choices, tr *trio, s *Snapshot) { s.Replication.BacklogActive = maybe(c, false, true) },
	func(c *choices, tr *trio, s *Snapshot) {
		s.Replication.BacklogFirst = maybe(c, int64(1), fullTo, fullTo+1, fullTo+2)
	},
	func(c *choices, tr *trio, s *Snapshot) {
		s.Replication.BacklogLength = maybe(c, fullTo, int64(0), int64(1))
	},
	func(c *choices, tr *trio, s *Snapshot) { s.Replication.LinkUp = maybe(c, true, false) },
	func(c *choices, tr *trio, s *Snapshot) {
		s.Replication.LastIOSecondsAgo = maybe(c, int64(0), int64(20), int64(21), int64(59))
	},
	func(c *choices, tr *trio, s *Snapshot) { s.Replication.SyncInProgress = maybe(c, true, false) },
	func(c *choices, tr *trio, s *Snapshot) { s.Replication.ReadOnly = maybe(c, false, true) },
	func(c *choices, tr *trio, s *Snapshot) {
		a := pick(c, Address{outsider, 6379}, tr.mNode(), tr.xNode(), tr.yNode(), Address{"10.0.0.1", 1}, Address{"redis-m.internal", 6379}, Address{})
		s.Replication.MasterHost, s.Replication.MasterPort = a.Host, a.Port
		s.MasterIPs = []string{a.Host} // an address resolves to itself, a name perhaps
		if a.Host == "redis-m.internal" {
			s.MasterIPs = pick(c, nil, []string{"10.0.0.1"})
		}
	},
	func(c *choices, tr *trio, s *Snapshot) {
		state := pick(c, "online", "wait_bgsave", "send_bulk")
		s.Replication.Replicas = pick(c, nil, []ReplicaLine{{Host: "10.0.0.3", Port: 6379, State: state}})
	},
	func(c *choices, tr *trio, s *Snapshot) {
		s.Persistence.BgsaveRunning, s.Persistence.AOFRewriteRunning = maybe(c, true, false), maybe(c, false, true)
	},
	func(c *choices, tr *trio, s *Snapshot) {
		s.Persistence.ChangesSinceLastSave = maybe(c, int64(7), int64(8), int64(0))
	},
	func(c *choices, tr *trio, s *Snapshot) {
		s.Persistence.LastSaveTime, s.Persistence.Saves = maybe(c, int64(100), int64(989), int64(990), int64(991)), maybe(c, int64(1), int64(2))
	},
	func(c *choices, tr *trio, s *Snapshot) {
		f := &tr.oldX.Followed
		f.ReplID, f.Offset, f.Writes.RunID = pick(c, f.ReplID, histE), pick(c, f.Offset, fullTo-1, fullTo+1), pick(c, f.Writes.RunID, "another", "")
	},
	func(c *choices, tr *trio, s *Snapshot) {
		w := &tr.oldX.Followed.Writes
		w.Changes, w.LastSave, w.Settled = maybe(c, int64(7), int64(0)), maybe(c, int64(100), int64(989)), pick(c, time.Minute, time.Second, 0)
	},
	func(c *choices, tr *trio, s *Snapshot) {
		tr.oldX.Alone = Alone{ReplID: pick(c, histX, histM, noHist), Writes: tr.oldX.Followed.Writes}
	},
	func(c *choices, tr *trio, s *Snapshot) { *s = Snapshot{Node: s.Node, At: s.At, Reach: ReachRefused} },
	func(c *choices, tr *trio, s *Snapshot) { *s = Snapshot{Node: s.Node, At: s.At, Reach: ReachUp} },
}

func drawMemory(c *choices) NodeMemory {
	at := noon.Add(-time.Minute)
	return NodeMemory{
		Instance: "dcs-1", At: at, Role: pick(c, RoleReplica, RoleMaster), ReplID: pick(c, poolIDs...), ReplID2: noHist,
		Offset: pick(c, poolOffsets...), Keys: pick(c, int64(500), int64(1), int64(0), int64(5000)),
		Followed: Followed{ReplID: pick(c, poolIDs...), Offset: pick(c, poolOffsets...), At: at},
	}
}

// silentTrio has X with a link to M that is half open.
func silentTrio() *trio {
	tr := newTrio()
	tr.x.Replication.LastIOSecondsAgo = Known(int64(25))
	return tr
}

// drawTrio starts from a fault that is known to be repaired and disturbs it, or from a healthy group.
func drawTrio(c *choices) *trio {
	tr := pick(c, promotedTrio, strayTrio, copyTrio, newTrio, newPromoted(95), forkedTrio(0), forkedTrio(95), grownTrio, silentTrio)()
	for range c.below(7) {
		s := pick(c, &tr.x, &tr.m, &tr.x, &tr.m, &tr.y)
		disturbances[c.below(len(disturbances))](c, tr, s)
	}
	return tr
}

// Whenever every guard permits a reattachment, a model that knows nothing of the guards calls it safe. The common facts
// all allow, so that nothing but the judgement of X and M stands between the fault and the write.
func TestNoReattachmentIsPermittedThatLosesData(t *testing.T) {
	kinds := map[string]int{}
	manyChecks(t, 100_000, func(rt *rapid.T) {
		c := &choices{t: rt}
		tr := drawTrio(c)
		f := reattachOf(tr)
		f.Target.Cluster, f.Target.CommandsKnown = Known(false), true // what the guards say of X they say by X
		if c.below(4) == 3 {
			f.OldX = drawMemory(c)
		}
		if c.below(3) == 2 {
			f.OldM = drawMemory(c)
		}
		if c.below(8) == 7 {
			f.Peer = Snapshot{Reach: pick(c, poolReach...), RunID: pick(c, "run-of-node-m", "another", "")}
		}
		plan := PlanReattach(f, pick(c, CausePromoted, CauseStuckLink))
		f.Kill = plan.Commands[0][0] == "CLIENT"
		if got, want := plan.Expect.Resync, modelResync(f.X.Replication, f.M.Replication); got != want {
			rt.Fatalf("predicted %s, the formula says %s\nx %s\nm %s", got, want, brief(f.X), brief(f.M))
		}
		rs := plan.Guards
		if !plan.Permitted {
			kinds["denied"]++
			return
		}
		if why := modelDanger(f); why != "" {
			rt.Fatalf("permitted, and %s\nx %s\nm %s\nrecord of x %+v\nrecord of m %+v\n%s", why, brief(f.X), brief(f.M), f.OldX, f.OldM, listing(rs))
		}
		grown := ""
		if f.X.Replication.Role == RoleMaster && f.X.Replication.Offset.V >= f.X.Replication.SecondOffset.V {
			grown = ", grown"
		}
		kinds[strings.ToLower(plan.Commands[0][0])+" "+string(f.X.Replication.Role)+" "+string(plan.Expect.Resync)+grown]++
	})
	if t.Failed() {
		return
	}
	for _, kind := range []string{"denied", "replicaof master full", "replicaof master full, grown", "replicaof replica full", "replicaof replica partial", "client replica partial"} {
		if kinds[kind] < 100 {
			t.Errorf("%d cases were %q, too few to prove anything: %v", kinds[kind], kind, kinds)
		}
	}
}

// brief is what of a snapshot decides.
func brief(s Snapshot) string {
	r := s.Replication
	return fmt.Sprintf("%s %s %s %s run %s loading %s cluster %s keys %v (known %t) auth %s/%s\n  %s %.4s %.4s offset %s/%s second %s backlog %s %s+%s follows %s:%d %v link %s %s last io %s syncing %s read-only %s replicas %v",
		s.Node, s.Reach, s.Product, s.Version, s.RunID, s.Loading, s.Cluster, s.DBs, s.KeyspaceKnown, s.AuthRequired, s.MasterAuthSet,
		r.Role, r.ReplID, r.ReplID2, r.Offset, r.ReplicaOffset, r.SecondOffset, r.BacklogActive, r.BacklogFirst, r.BacklogLength,
		r.MasterHost, r.MasterPort, s.MasterIPs, r.LinkUp, r.LinkState, r.LastIOSecondsAgo, r.SyncInProgress, r.ReadOnly, r.Replicas)
}

// modelDanger says what REPLICAOF M on X could destroy or break; empty: nothing. It is written from what servers do, with
// no function of the guards, and takes all that is not known for the worst.
func modelDanger(f ReattachFacts) string {
	x, m := f.X, f.M
	switch {
	case m.Reach != ReachUp || m.Replication.Role != "master" || m.Loading != Known(false) || m.Cluster != Known(false):
		return "M is not a master that is up and has loaded"
	case x.Reach != ReachUp || x.Loading != Known(false):
		return "X is not up and loaded: what it holds is not known"
	case !f.Kill && f.Peer.RunID == "another":
		return "the address that X is given leads to another server"
	case x.RunID == "" || m.RunID == "" || x.RunID == m.RunID:
		return "X and M are not two processes for sure"
	case !x.KeyspaceKnown || !m.KeyspaceKnown || modelKeys(m) == 0 && modelKeys(x) > 0:
		return "M may be empty while X is not"
	case modelForgot(f):
		return "M lost its history and holds clearly fewer keys"
	case !modelReads[x.Product+" "+modelLine(x.Version)][m.Product+" "+modelLine(m.Version)]:
		return "X cannot read the data set of M for sure"
	case m.AuthRequired != Known(false) && (m.AuthRequired != Known(true) || x.MasterAuthSet != Known(true)):
		return "X may be refused by M and try again without end"
	case x.Replication.Role == "replica" && x.Replication.SyncInProgress != Known(false):
		return "X may be in the middle of a copy"
	case !f.Kill && x.Replication.Role == "replica" && modelHost(x) == "10.0.0.1:6379":
		return "X points at M already"
	case f.Kill && (x.Replication.Role != "replica" || modelHost(x) != "10.0.0.1:6379" || x.Replication.ReplID != m.Replication.ReplID):
		return "the link that is closed is not one to M"
	}
	if modelResync(x.Replication, m.Replication) == ResyncFull {
		if why := modelFullCopy(x, m); why != "" {
			return why
		}
	}
	return modelOnlyOnX(f)
}

func modelFullCopy(x, m Snapshot) string {
	if x.Replication.ReadOnly != Known(true) {
		return "X may hold keys of its own that a full copy deletes"
	}
	if x.Replication.Role == "master" && modelKeys(m)*10 < modelKeys(x)*9 {
		return "X holds keys that M no longer has"
	}
	for _, l := range m.Replication.Replicas {
		if l.State != "online" {
			return "M is copying already"
		}
	}
	if m.Persistence.BgsaveRunning != Known(false) || m.Persistence.AOFRewriteRunning != Known(false) {
		return "M is forking already"
	}
	return ""
}

// modelOnlyOnX: all that X holds is on M too, or on another live master of which X is but a copy.
func modelOnlyOnX(f ReattachFacts) string {
	x, m := f.X, f.M
	r := x.Replication
	var at Opt[int64] // the last byte of its current history that X holds
	switch r.Role {
	case "replica":
		live := r.LinkUp == Known(true) && r.LastIOSecondsAgo.Known && r.LastIOSecondsAgo.V <= 3
		inside := strings.HasPrefix(modelHost(x), "10.0.0.") && strings.HasSuffix(modelHost(x), ":6379")
		if live && !inside && len(r.Replicas) == 0 {
			return ""
		}
		at = r.ReplicaOffset
	case "master":
		at = r.Offset
		for _, s := range f.Group.Snapshots {
			if s.Node != x.Node && s.Replication.Role == "replica" && modelHost(s) == "10.0.0.2:6379" {
				return "X, a master, is followed by a node of the group: it is in use"
			}
		}
		if r.BacklogActive == Known(true) && at.Known && r.ReplID != m.Replication.ReplID && modelHolds(m, r.ReplID, at.V) && len(r.Replicas) == 0 {
			return "" // a former master, all of whose history M has
		}
		if at.Known && r.SecondOffset == Known(at.V+1) && modelHidden(x, f.OldX, at.V) {
			return "X took writes that its history does not show"
		}
		if at.Known && r.SecondOffset == Known(at.V+1) && r.ReplID2 == m.Replication.ReplID && m.Replication.Offset == at && m.Replication.BacklogActive == Known(true) && modelKeys(x) > modelKeys(m) {
			return "X holds keys that the same history did not give M"
		}
		left := r.SecondOffset.V - 1 // the last byte of the history that it left; 0 for who left right after the first copy that a master gave (seen on 7.0.15)
		if modelNone(r.ReplID2) || r.BacklogActive != Known(true) || !at.Known || !r.SecondOffset.Known || at.V != left && !modelQuiet(x, f.OldX, left) {
			return "X, a master, may have taken writes"
		}
		if at.V >= left && left >= 0 && modelHolds(m, r.ReplID2, left) && len(r.Replicas) == 0 {
			return ""
		}
		if len(r.Replicas) > 0 {
			return "X, a master, has replicas: it is in use"
		}
	default:
		return "the role of X is not known"
	}
	if !at.Known {
		return "how far X has come is not known"
	}
	if modelHolds(m, r.ReplID, at.V) {
		return ""
	}
	if r.SecondOffset == Known(at.V+1) && modelHolds(m, r.ReplID2, at.V) {
		return "" // X has a new history and nothing on it yet
	}
	return "X holds bytes of a history that M does not hold"
}

// modelQuiet: no client wrote to X since it left. Its count of changes is what it was, in one run, with no save in between to set it back,
// and our reading of then was not after the byte at which it left.
func modelQuiet(x Snapshot, old NodeMemory, left int64) bool {
	is := x.Persistence
	still := func(w WriteCount) bool {
		return w.RunID != "" && w.RunID == x.RunID && is.ChangesSinceLastSave.Known && is.ChangesSinceLastSave == w.Changes &&
			is.LastSaveTime.Known && is.LastSaveTime == w.LastSave && is.Saves == w.Saves && w.Settled > time.Second
	}
	followed := old.Followed.ReplID == x.Replication.ReplID2 && old.Followed.Offset <= left && still(old.Followed.Writes)
	alone := !modelNone(old.Alone.ReplID) && old.Alone.ReplID == x.Replication.ReplID && still(old.Alone.Writes)
	return followed || alone
}

// modelHidden: X counts other changes than it did at the very byte at which it stands, in one run and without a save in between.
func modelHidden(x Snapshot, old NodeMemory, at int64) bool {
	is := x.Persistence
	other := func(w WriteCount) bool {
		return w.RunID == x.RunID && is.ChangesSinceLastSave.Known && w.Changes.Known && is.ChangesSinceLastSave.V != w.Changes.V &&
			is.LastSaveTime.Known && is.LastSaveTime == w.LastSave && is.Saves == w.Saves
	}
	return old.Followed.ReplID == x.Replication.ReplID2 && old.Followed.Offset == at && other(old.Followed.Writes) ||
		old.Alone.ReplID == x.Replication.ReplID && other(old.Alone.Writes)
}

// modelHolds: M has the history id up to its byte v.
func modelHolds(m Snapshot, id ReplID, v int64) bool {
	r := m.Replication
	if modelNone(id) {
		return false
	}
	return id == r.ReplID && r.Offset.Known && v <= r.Offset.V || id == r.ReplID2 && r.SecondOffset.Known && v < r.SecondOffset.V
}

func modelForgot(f ReattachFacts) bool {
	old, r := f.OldM, f.M.Replication
	if old.Role != "master" || modelNone(old.ReplID) {
		return false
	}
	goesOn := old.ReplID == r.ReplID && r.Offset.Known && r.Offset.V >= old.Offset ||
		old.ReplID == r.ReplID2 && r.SecondOffset.Known && r.SecondOffset.V > old.Offset
	keys := modelKeys(f.M)
	return !goesOn && (keys*10 < old.Keys*9 || keys*10 < modelKeys(f.X)*9)
}

// modelReads is the replica's release, then those whose data sets it reads.
var modelReads = map[string]map[string]bool{
	"redis 6.0":  {"redis 6.0": true},
	"redis 7.0":  {"redis 6.0": true, "redis 7.0": true},
	"redis 8.0":  {"redis 6.0": true, "redis 7.0": true, "redis 8.0": true},
	"valkey 8.1": {"valkey 8.1": true, "valkey 9.1": true},
	"valkey 9.1": {"valkey 8.1": true, "valkey 9.1": true, "redis 7.0": true},
}

func modelLine(version string) string {
	i := strings.LastIndexByte(version, '.')
	if i < 0 {
		return version
	}
	return version[:i]
}

func modelKeys(s Snapshot) (keys int64) {
	for _, d := range s.DBs {
		keys += d.Keys
	}
	return keys
}

func modelNone(id ReplID) bool { return id == "" || id == noHist }

// modelHost is where X points, the one host name of the pool resolved.
func modelHost(x Snapshot) string {
	host := x.Replication.MasterHost
	if len(x.MasterIPs) > 0 {
		host = x.MasterIPs[0]
	}
	return host + ":" + strconv.Itoa(x.Replication.MasterPort)
}

// modelResync is the formula as it was measured.
func modelResync(x, m Replication) Resync {
	last := x.Offset
	if x.Role == "replica" {
		last = x.ReplicaOffset
	}
	if modelNone(x.ReplID) || !last.Known || m.BacklogActive != Known(true) || !m.BacklogFirst.Known || !m.BacklogLength.Known {
		return ResyncFull
	}
	ask := last.V + 1
	shared := x.ReplID == m.ReplID || x.ReplID == m.ReplID2 && m.SecondOffset.Known && ask <= m.SecondOffset.V
	kept := m.BacklogFirst.V <= ask && ask <= m.BacklogFirst.V+m.BacklogLength.V
	if shared && kept {
		return ResyncPartial
	}
	return ResyncFull
}

// A remedy is proposed only where a repair is thinkable; what does not answer is never repaired towards.
func TestTriageProposesNothingUnseen(t *testing.T) {
	seen := map[Cause]int{}
	manyChecks(t, 20_000, func(rt *rapid.T) {
		c := &choices{t: rt}
		tr := drawTrio(c)
		for range c.below(5) {
			s := pick(c, &tr.x, &tr.m, &tr.y)
			disturbances[c.below(len(disturbances))](c, tr, s)
		}
		g := tr.group()
		if c.below(10) == 9 {
			g.Snapshots = g.Snapshots[:c.below(3)]
		}
		last := -1
		for _, tg := range TriageReplication(g, noon) {
			seen[tg.Cause]++
			i := map[string]int{"node-x": 1, "node-y": 2}[tg.Node]
			if i <= last || tg.Cause == "" || tg.Msg == "" || tg.Severity < Warning || strings.Contains(tg.Msg, "%!") {
				rt.Fatalf("not one whole entry for each replica in config order: %+v", tg)
			}
			last = i
			checkRemedy(rt, g, tg)
		}
	})
	if len(seen) < 14 {
		t.Errorf("only %d causes were met: %v", len(seen), seen)
	}
}

func checkRemedy(rt *rapid.T, g Group, tg Triage) {
	if tg.Remedy == "" {
		return
	}
	x, _ := g.Of(tg.Node)
	m, _ := g.Of("node-m")
	r := x.Replication
	switch {
	case tg.Remedy != ReattachReplica:
		rt.Fatalf("remedy %q", tg.Remedy)
	case tg.Severity != Critical:
		rt.Fatalf("a remedy for what mends itself: %+v", tg)
	case x.Reach != ReachUp || x.Loading.Or(false):
		rt.Fatalf("a remedy for a node that cannot take it: %+v\nx %s", tg, brief(x))
	case m.Reach != ReachUp && m.Reach != ReachLoading && r.Role != RoleMaster:
		rt.Fatalf("a remedy towards a master unseen: %+v\nm %s", tg, brief(m))
	case m.Reach.Answers() && m.RunID != "" && m.RunID == x.RunID:
		rt.Fatalf("a remedy towards itself: %+v", tg)
	case r.Role == RoleReplica && m.Replication.Role != RoleMaster:
		rt.Fatalf("a remedy towards a node that is no master: %+v", tg)
	case tg.Cause == CauseStuckLink:
		if r.Role != RoleReplica || r.MasterPort != 6379 || !r.LinkUp.Or(false) || r.ReplID == "" {
			rt.Fatalf("a link is closed that is not half open: %+v\nx %s", tg, brief(x))
		}
	case r.Role == RoleReplica && r.MasterHost == "10.0.0.1" && r.MasterPort == 6379:
		rt.Fatalf("REPLICAOF to where it points already does nothing: %+v", tg)
	}
}

// However a healthy group is shaped, nothing is proposed and nothing is said.
func TestTriageLeavesAHealthyGroupAlone(t *testing.T) {
	manyChecks(t, 20_000, func(rt *rapid.T) {
		c := &choices{t: rt}
		tr := newTrio()
		if c.below(2) == 1 {
			mapped(tr)
		}
		switch c.below(4) {
		case 1:
			tr.follow(&tr.x, tr.yNode())
		case 2:
			tr.follow(&tr.y, tr.xNode())
		case 3:
			tr.x.Replication.MasterHost, tr.x.MasterIPs = "redis-m.internal", []string{tr.mNode().Host}
		}
		id := pick(c, histM, histX, histE)
		for _, s := range []*Snapshot{&tr.m, &tr.x, &tr.y} {
			r := &s.Replication
			r.ReplID, r.ReplID2 = id, pick(c, noHist, "", histX)
			r.Offset, r.ReplicaOffset = maybe(c, poolOffsets...), maybe(c, poolOffsets...)
			r.SecondOffset, r.ReadOnly = maybe(c, poolSeconds...), maybe(c, true, false)
			if r.Role == RoleReplica {
				r.LastIOSecondsAgo = Known(int64(c.below(21)))
			}
			s.DBs = pick(c, nil, []DB{{0, 1, 0}}, []DB{{0, 500, 0}})
			s.Product, s.Version, _ = strings.Cut(pick(c, poolVersions...), " ")
			s.AuthRequired, s.MasterAuthSet = maybe(c, true, false), maybe(c, true, false)
			s.RunID = pick(c, s.RunID, "")
		}
		g := tr.group()
		if got := TriageReplication(g, noon); len(got) > 0 {
			rt.Fatalf("found %+v in\n%s\n%s\n%s", got, brief(tr.m), brief(tr.x), brief(tr.y))
		}
	})
}
