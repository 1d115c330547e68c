package policies

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestACourseAddsUpWhileTheLinkIsDown(t *testing.T) {
	tr := newTrio()
	tr.followDown(&tr.x, tr.mNode(), "connect")
	tr.m.Stats = Stats{SyncFull: Known(int64(5)), WrongPassErrors: Known(int64(1)), RejectedConnections: Known(int64(0))}
	look := func(c LinkCourse, after time.Duration, change func()) LinkCourse {
		tr.x.At = noon.Add(after)
		change()
		return c.Next(tr.x, tr.m)
	}
	c := look(LinkCourse{}, 0, func() {})
	if c.Since != noon || c.Copies() != Known(int64(0)) || c.Span() != 0 {
		t.Fatalf("first look: %+v", c)
	}
	c = look(c, 2*time.Second, func() {
		tr.m.Stats.SyncFull, tr.m.Stats.WrongPassErrors, tr.m.Replication.Offset = Known(int64(7)), Known(int64(4)), Known(fullTo+4000)
	})
	if c.Copies() != Known(int64(2)) || c.refusals(false) != 1.5 || c.Streamed() != Known(int64(4000)) || c.StreamRate() != Known(int64(2000)) || c.moved(counterKills).Known {
		t.Fatalf("after 2 s: copies %s, refused %.1f a second, streamed %s", c.Copies(), c.refusals(false), c.Streamed())
	}
	for name, change := range map[string]struct {
		change func(x, m *Snapshot)
		same   bool // the course goes on or stands; else it begins anew
	}{
		"another look":                  {func(_, _ *Snapshot) {}, true},
		"the replica does not answer":   {func(x, _ *Snapshot) { x.Reach = ReachHung }, true},
		"the master does not answer":    {func(_, m *Snapshot) { m.Reach = ReachRefused }, true},
		"an older look":                 {func(x, _ *Snapshot) { x.At = noon }, true},
		"the replica restarted":         {func(x, _ *Snapshot) { x.RunID = "another" }, false},
		"the master restarted":          {func(_, m *Snapshot) { m.RunID = "another" }, false},
		"it was given another address":  {func(x, _ *Snapshot) { x.Replication.MasterPort = 1 }, false},
		"the counters were set back":    {func(_, m *Snapshot) { m.Stats.SyncFull = Known(int64(0)) }, false},
		"the link is up":                {func(x, _ *Snapshot) { x.Replication.LinkUp = Known(true) }, false},
		"whether it is up is not known": {func(x, _ *Snapshot) { x.Replication.LinkUp = Opt[bool]{} }, false},
		"it is a master now":            {func(x, _ *Snapshot) { x.Replication.Role = RoleMaster }, false},
	} {
		x, m := tr.x, tr.m
		x.At = noon.Add(3 * time.Second)
		change.change(&x, &m)
		if got := c.Next(x, m); (got.Copies().Or(0) == 2) != change.same {
			t.Errorf("%s: %d copies since %s", name, got.Copies().V, got.Since)
		}
	}
}

func TestACourseNotesThatTheStreamOutgrewTheBuffer(t *testing.T) {
	for name, c := range map[string]struct {
		limit  Opt[BufferLimit]
		copies int64
		grown  int64
		want   bool
	}{
		"by one copy":                     {Known(BufferLimit{Hard: 1 << 20}), 1, 1 << 20, true},
		"not by one copy":                 {Known(BufferLimit{Hard: 1 << 20}), 1, 1<<20 - 1, false},
		"by the soft limit":               {Known(BufferLimit{Hard: 8 << 20, Soft: 1 << 20}), 1, 1 << 20, true},
		"by three copies, each too short": {Known(BufferLimit{Hard: 1 << 20}), 3, 1 << 20, false},
		"without a limit":                 {Known(BufferLimit{}), 1, 1 << 30, false},
		"the limit is not known":          {Opt[BufferLimit]{}, 1, 1 << 30, false},
	} {
		tr := newTrio()
		tr.followDown(&tr.x, tr.mNode(), "sync")
		tr.m.Stats.SyncFull = Known(int64(1))
		tr.x.At = noon
		course := LinkCourse{}.Next(tr.x, tr.m)
		tr.x.At, tr.m.Stats.SyncFull, tr.m.Replication.Offset = noon.Add(time.Second), Known(1+c.copies), Known(fullTo+c.grown)
		course = course.Next(tr.x, tr.m)
		tr.x.At = noon.Add(10 * time.Second)
		if course = course.Next(tr.x, tr.m); course.outgrew(c.limit) != c.want {
			t.Errorf("%s: grown %d", name, course.grown)
		}
	}
}

func TestRoomForCopy(t *testing.T) {
	for _, c := range []struct{ dataset, rate, want int64 }{
		{0, 0, 64 << 20},
		{1 << 20, 1 << 20, 64 << 20},
		{1 << 30, 5 << 20, 1 << 30}, // 51 s and 10 s of 5 MiB, twice
		{100 << 30, 100 << 20, 1 << 40},
	} {
		if got := RoomForCopy(c.dataset, c.rate); got != c.want {
			t.Errorf("RoomForCopy(%d, %d) = %d, want %d", c.dataset, c.rate, got, c.want)
		}
	}
}

func TestResyncCostPutsPartialResyncsFirst(t *testing.T) {
	near, far, full := strayTrio(), strayTrio(), promotedTrio()
	near.x.Replication.ReplicaOffset, far.x.Replication.ReplicaOffset = Known(fullTo-10), Known(fullTo-900)
	a, b, c := ResyncCost(near.x, near.m), ResyncCost(far.x, far.m), ResyncCost(full.x, full.m)
	if a != 10 || b != 900 || c <= b {
		t.Errorf("costs %d, %d, %d; want 10, 900 and more than any", a, b, c)
	}
}

func TestPlanReattachNamesTheCommands(t *testing.T) {
	plan := func(tr *trio, cause Cause, change func(*ReattachFacts)) Plan {
		f := reattachOf(tr)
		f.Target.Cluster = Known(false)
		change(&f)
		return PlanReattach(f, cause)
	}
	none := func(*ReattachFacts) {}
	for _, c := range []struct {
		name     string
		plan     Plan
		commands string
		resync   Resync
		denied   string
	}{
		{"promoted", plan(promotedTrio(), CausePromoted, none), "[[REPLICAOF 10.0.0.1 6379]]", ResyncFull, ""},
		{"with the config file", plan(promotedTrio(), CausePromoted, func(f *ReattachFacts) { f.Policy.Reattach.ConfigRewrite = true }), "[[REPLICAOF 10.0.0.1 6379] [CONFIG REWRITE]]", ResyncFull, ""},
		{"by the peers' address", plan(promotedTrio(), CausePromoted, func(f *ReattachFacts) { f.MNode.PeerAddress = Address{"172.16.0.1", 6390} }), "[[REPLICAOF 172.16.0.1 6390]]", ResyncFull, ""},
		{"half open", plan(silentTrio(), CauseStuckLink, func(f *ReattachFacts) { f.Policy.Reattach.ConfigRewrite = true }), "[[CLIENT KILL TYPE master]]", ResyncPartial, ""},
		{"half open to another server", plan(copyTrio(), CauseStuckLink, none), "[[CLIENT KILL TYPE master]]", ResyncFull, "lineage no-cycle"},
		{"half open, CLIENT is renamed", plan(silentTrio(), CauseStuckLink, func(f *ReattachFacts) { f.Target.Renamed = []string{"client"} }), "[[CLIENT KILL TYPE master]]", ResyncPartial, "capability"},
		{"where it points already", plan(silentTrio(), CauseWrongMaster, none), "[[REPLICAOF 10.0.0.1 6379]]", ResyncPartial, "no-cycle"},
	} {
		p := c.plan
		if got := deniedNames(p); fmt.Sprint(p.Commands) != c.commands || p.Expect.Resync != c.resync || got != c.denied {
			t.Errorf("%s: %v by a %s resync, denied by %q; want %s, %s, %q", c.name, p.Commands, p.Expect.Resync, got, c.commands, c.resync, c.denied)
		}
	}
}

func deniedNames(p Plan) string {
	names := make([]string, len(p.DeniedBy))
	for i, g := range p.DeniedBy {
		names[i] = string(g)
	}
	return strings.Join(names, " ")
}

func TestACauseThatCountersMayStillTellIsEarly(t *testing.T) {
	tr := newTrio()
	tr.followDown(&tr.x, tr.mNode(), "connecting")
	if got := TriageReplication(tr.group(), noon); len(got) != 1 || !got[0].Early {
		t.Errorf("at the first look: %+v, want it early", got)
	}
	tr.course = moved(courseEnough)
	if got := TriageReplication(tr.group(), noon); len(got) != 1 || got[0].Early || got[0].Cause != CauseNetwork {
		t.Errorf("after %s: %+v, want it settled", courseEnough, got)
	}
}

// The middle of a chain drops its own replicas when it takes another history. They need a moment to come back, which is nobody's fault.
func TestTheEndOfAChainIsGivenTimeOnceTheMiddleIsLinked(t *testing.T) {
	tr := newTrio()
	tr.followDown(&tr.x, tr.yNode(), "connect")
	tr.course = LinkCourse{Since: noon.Add(-time.Minute), Last: noon}
	var w LinkWatch
	look := func(at time.Time, up bool) Group {
		tr.x.At, tr.y.At, tr.y.Replication.LinkUp = at, at, Known(up)
		w.See(tr.y, "node-m")
		g := tr.group()
		courses := g.Courses
		w.Into(&g)
		g.Courses = courses
		return g
	}
	for _, c := range []struct {
		name  string
		after time.Duration
		up    bool
		want  string
	}{
		{"the middle has no link", 0, false, "chained"},
		{"it has one now", time.Second, true, "wrong-master early"},
		{"and had it for a moment", 4 * time.Second, true, "wrong-master early"},
		{"and for long enough", 5 * time.Second, true, "wrong-master"},
		{"it lost it", 6 * time.Second, false, "chained"},
		{"and has it again", 7 * time.Second, true, "wrong-master early"},
		{"nobody looked for a while", time.Minute, true, "wrong-master early"},
	} {
		got := ""
		for _, tg := range TriageReplication(look(noon.Add(c.after), c.up), noon.Add(c.after)) {
			if tg.Node == "node-x" {
				got = string(tg.Cause)
				if tg.Early {
					got += " early"
				}
			}
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
