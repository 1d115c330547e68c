package policies

import (
	"strings"
	"time"
)

// Allocator is what INFO memory says of the allocator.
type Allocator struct {
	Name string     // mem_allocator: jemalloc-5.3.0, libc, ...
	Free Opt[int64] // allocator_rss_bytes: pages that it holds and does not use
}

// purgeRest is what stays free in the allocator after MEMORY PURGE: 8 to 13 MiB of all versions.
const purgeRest = 13 << 20

// Purgeable is about how many bytes MEMORY PURGE gives back.
func (a Allocator) Purgeable() Opt[int64] {
	return Opt[int64]{V: max(0, a.Free.V-purgeRest), Known: a.Free.Known}
}

// PurgeFacts is what the guards of purge-memory need: a fresh probe of the node S.
type PurgeFacts struct {
	Facts
	S       Snapshot
	CalmRTT time.Duration // median round trip of INFO in a calm time; 0: not known
}

// PlanPurge makes the plan that has the allocator give its free pages back, and asks every guard. It sends nothing.
func PlanPurge(f PurgeFacts, cause Cause) Plan {
	f.Commands = []string{"memory"}
	p := Plan{Action: PurgeMemory, Node: f.S.Node, Mode: f.Mode, Cause: cause, Commands: [][]string{{"MEMORY", "PURGE"}}, Guards: PurgeGuards(f)}
	if free := f.S.Memory.Allocator.Purgeable(); free.Known {
		p.Expect = Expect{Bytes: free, Method: "allocator_rss_bytes"}
	}
	p.Decide()
	return p
}

// PurgeGuards asks every guard of purge-memory, the common ones first.
func PurgeGuards(f PurgeFacts) []Ruling {
	return append(CommonGuards(f.Facts),
		Rule(GuardOptIn, f.optIn()),
		Rule(GuardBusy, f.busy()),
		Rule(GuardWorthwhile, f.worthwhile()),
		Rule(GuardLatency, f.latency()),
	)
}

func (f PurgeFacts) busy() Verdict {
	p, node := f.S.Persistence, f.S.Node
	switch {
	case !p.BgsaveRunning.Known || !p.AOFRewriteRunning.Known || !f.S.Loading.Known:
		return deny("%s does not say whether it saves or loads", node)
	case f.S.Loading.V:
		return hold("%s is loading its data set", node)
	case p.BgsaveRunning.V || p.AOFRewriteRunning.V:
		return hold("%s is saving (BGSAVE or AOF rewrite)", node)
	case f.S.Replication.SyncInProgress.Or(false):
		return hold("%s is copying its master", node)
	case f.S.Memory.LazyfreePending.Or(0) > 0:
		return hold("%s is still freeing deleted values", node)
	}
	return allow("%s neither saves, loads nor copies", node)
}

// worthwhile: MEMORY PURGE gives back whole free pages and nothing else. What lies between live values only active defragmentation or a
// restart gets back.
func (f PurgeFacts) worthwhile() Verdict {
	m, t, node := f.S.Memory, f.Policy.Fragmentation, f.S.Node
	ratio, bytes, free := m.FragmentationX, m.FragmentationB, m.Allocator.Purgeable()
	switch {
	case !ratio.Known || !bytes.Known || m.Allocator.Name == "":
		return deny("%s does not tell its fragmentation or its allocator", node)
	case !strings.HasPrefix(m.Allocator.Name, "jemalloc"):
		return deny("%s uses the allocator %s: MEMORY PURGE does nothing there, a restart gives the memory back", node, m.Allocator.Name)
	case t.Critical <= 0 || ratio.V < t.Critical || bytes.V < t.LeastMB<<20:
		return deny("%s holds %.2f times the memory that it uses, %d MiB more: that is not much (fragmentation critical %g, least_mb %d)", node, ratio.V, bytes.V>>20, t.Critical, t.LeastMB)
	case !free.Known:
		return deny("%s does not tell how much of it are free pages", node)
	case free.V < bytes.V/PurgeShare:
		return deny("of the %d MiB that %s holds too much only %d MiB are free pages, which is all that MEMORY PURGE gives back: set activedefrag, or restart it", bytes.V>>20, node, free.V>>20)
	}
	return allow("%s holds %.2f times the memory that it uses, %d MiB more, of which about %d MiB are free pages", node, ratio.V, bytes.V>>20, free.V>>20)
}

// PurgeShare is the part of the fragmentation, one in so many bytes, that has to come free for a purge to be worth it.
const PurgeShare = 10

// What a purge costs: the server does nothing else meanwhile. Measured were 0.13 ms of CPU a MiB, and up to 0.7 ms on a busy machine.
const (
	purgePerMiB  = 250 * time.Microsecond
	purgeLongest = time.Second
)

// latency goes by our own round trips, as for a sweep, and by how long the server would stand still.
func (f PurgeFacts) latency() Verdict {
	still := time.Duration(f.S.Memory.Allocator.Free.Or(0)>>20) * purgePerMiB
	if still > purgeLongest {
		return deny("giving back %d MiB holds %s up for about %s, at most %s is taken: a person may do it at a quiet time, or set jemalloc-bg-thread",
			f.S.Memory.Allocator.Free.V>>20, f.S.Node, still.Round(100*time.Millisecond), purgeLongest)
	}
	return ReclaimFacts{M: f.S, CalmRTT: f.CalmRTT}.latency()
}
