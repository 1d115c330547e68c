package policies

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// purgeFacts are of a node that holds 1,000 MiB for 200 MiB in use, 600 of them free pages.
func purgeFacts() PurgeFacts {
	f := PurgeFacts{Facts: healthyFacts(), S: newTrio().m, CalmRTT: 10 * time.Millisecond}
	f.S.Memory = Memory{Used: Known(200 * mebi), RSS: Known(1000 * mebi), FragmentationX: Known(5.0), FragmentationB: Known(800 * mebi),
		Allocator: Allocator{Name: "jemalloc-5.3.0", Free: Known(613 * mebi)}}
	f.Policy.Fragmentation = Fragmentation{Warning: 1.5, Critical: 3, LeastMB: 100}
	f.Action, f.Target, f.Planned, f.Evidence, f.SentinelNodes = PurgeMemory, f.S, f.S, []Snapshot{f.S}, nil
	f.Instance.Ladder = []Action{PurgeMemory}
	return f
}

func TestPurgeGuards(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*PurgeFacts)
		want   string
		reason string
	}{
		{"many free pages", nil, "", "holds 5.00 times the memory that it uses, 800 MiB more, of which about 600 MiB are free pages"},
		{"of a replica", func(f *PurgeFacts) {
			f.S.Replication.Role, f.Target.Replication.Role, f.Planned.Replication.Role = RoleReplica, RoleReplica, RoleReplica
		}, "", "free pages"},
		{"dry run", func(f *PurgeFacts) { f.Mode = DryRun }, "mode?", "free pages"},
		{"not opted in", func(f *PurgeFacts) { f.Instance.Ladder = []Action{KillIdleClients} }, "opt-in?", "add purge-memory to ladder"},
		{"the ratio is not high", func(f *PurgeFacts) { f.S.Memory.FragmentationX = Known(2.9) }, "worthwhile", "not much"},
		{"a small server: the ratio means nothing", func(f *PurgeFacts) { f.S.Memory.FragmentationB = Known(100*mebi - 1) }, "worthwhile", "not much"},
		{"never critical", func(f *PurgeFacts) { f.Policy.Fragmentation.Critical = 0 }, "worthwhile", "not much"},
		{"another allocator", func(f *PurgeFacts) { f.S.Memory.Allocator.Name = "libc" }, "worthwhile", "MEMORY PURGE does nothing"},
		{"allocator not known", func(f *PurgeFacts) { f.S.Memory.Allocator.Name = "" }, "worthwhile", "allocator"},
		{"free pages not known", func(f *PurgeFacts) { f.S.Memory.Allocator.Free = Opt[int64]{} }, "worthwhile", "free pages"},
		{"hardly any free pages: it lies between live values", func(f *PurgeFacts) { f.S.Memory.Allocator.Free = Known(93*mebi - 1) }, "worthwhile", "set activedefrag"},
		{"just enough free pages", func(f *PurgeFacts) { f.S.Memory.Allocator.Free = Known(93 * mebi) }, "", "80 MiB are free pages"},
		{"ratio not known", func(f *PurgeFacts) { f.S.Memory.FragmentationX = Opt[float64]{} }, "worthwhile", "does not tell"},
		{"so much that it stands still", func(f *PurgeFacts) { f.S.Memory.Allocator.Free = Known(5000 * mebi) }, "latency", "holds node-m up for about 1.3s"},
		{"slow already", func(f *PurgeFacts) { f.S.RTT = time.Second }, "latency?", "too slow"},
		{"saving", func(f *PurgeFacts) { f.S.Persistence.BgsaveRunning = Known(true) }, "busy?", "saving"},
		{"rewriting", func(f *PurgeFacts) { f.S.Persistence.AOFRewriteRunning = Known(true) }, "busy?", "saving"},
		{"saving not known", func(f *PurgeFacts) { f.S.Persistence.BgsaveRunning = Opt[bool]{} }, "busy", "whether"},
		{"loading", func(f *PurgeFacts) { f.S.Loading = Known(true) }, "busy?", "loading"},
		{"copying its master", func(f *PurgeFacts) { f.S.Replication.SyncInProgress = Known(true) }, "busy?", "copying"},
		{"still freeing", func(f *PurgeFacts) { f.S.Memory.LazyfreePending = Known(int64(3)) }, "busy?", "freeing"},
		{"MEMORY renamed", func(f *PurgeFacts) { f.Target.Renamed = []string{"memory"} }, "capability", "MEMORY"},
	} {
		f := purgeFacts()
		if c.change != nil {
			c.change(&f)
		}
		p := PlanPurge(f, CauseFragmentation)
		checkRulings(t, p.Guards)
		if got := denied(p.Guards); got != c.want || p.Permitted != (c.want == "") {
			t.Errorf("%s: denied by %q, want %q", c.name, got, c.want)
		}
		if !slices.ContainsFunc(p.Guards, func(r Ruling) bool { return strings.Contains(r.Reason, c.reason) }) {
			t.Errorf("%s: no reason with %q: %+v", c.name, c.reason, p.Guards)
		}
	}
	if v := (PurgeFacts{}).worthwhile(); v.Allow {
		t.Errorf("no facts at all: %+v", v)
	}
}

func TestAPurgeExpectsTheFreePagesLessWhatStays(t *testing.T) {
	if e := PlanPurge(purgeFacts(), CauseFragmentation).Expect; e.Bytes != Known(600*mebi) || e.Method == "" {
		t.Errorf("expects %+v, want 600 MiB", e)
	}
	if got := (Allocator{Free: Known(5 * mebi)}).Purgeable(); got != Known(int64(0)) {
		t.Errorf("5 MiB free: %+v can be purged, want none", got)
	}
}
