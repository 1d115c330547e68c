package agent

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"dcshealer/policies"
)

// A watcher judges one instance: what a node says of itself as soon as it was read, replication when all nodes were
// read in the same round, since two snapshots of different age contradict each other.
type watcher struct {
	instance   policies.Instance
	policy     policies.Policy
	loops      []*loop
	out        *outbox
	cycles     *cycles
	log        *slog.Logger
	onSnapshot func(policies.Snapshot, policies.Instance)
	base       int           // the cycle of the fleet in which its first round falls
	end        func()        // has it end; nil: it was not started
	ended      chan struct{} // closed when it has

	ticks   map[string]int // by node: the newest tick read; only run's goroutine uses it
	round   int            // the newest tick that every node has reached
	windows map[string]*Windows

	mu      sync.Mutex // guards what follows
	latest  map[string]policies.Snapshot
	tracker *tracker
	links   policies.LinkWatch
}

func newWatcher(i policies.Instance, p policies.Policy, repeat time.Duration) *watcher {
	w := &watcher{instance: i, policy: p, ticks: map[string]int{}, round: -1, windows: map[string]*Windows{},
		latest: map[string]policies.Snapshot{}, tracker: newTracker(i.Name, p, repeat)}
	for _, n := range i.Nodes {
		w.ticks[n.Name], w.windows[n.Name] = -1, NewWindows()
	}
	return w
}

// watch probes the nodes, each in a goroutine of its own, and judges what they say until ctx ends.
func (w *watcher) watch(ctx context.Context) {
	start := time.Now()
	inbox := make(chan reading, len(w.loops))
	var wg sync.WaitGroup
	wg.Go(func() { w.run(ctx, inbox) })
	for _, l := range w.loops {
		wg.Go(func() { l.run(ctx, start, inbox) })
	}
	wg.Wait()
}

func (w *watcher) run(ctx context.Context, inbox <-chan reading) {
	for {
		select {
		case r := <-inbox:
			w.take(r, time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// take keeps a reading, judges what it tells, and publishes what came of it.
func (w *watcher) take(r reading, now time.Time) {
	s := r.snapshot
	w.noteReach(s)
	if w.onSnapshot != nil {
		w.onSnapshot(s, w.instance)
	}
	counts := w.windows[s.Node].Add(s, w.policy, now)
	w.ticks[s.Node] = r.tick
	round := w.lowestTick()

	w.mu.Lock()
	w.latest[s.Node] = s
	w.links.See(s, w.instance.Master().Name)
	judged := policies.JudgeNode(s, w.policy, counts, w.tracker.severity)
	if round > w.round {
		judged = append(judged, policies.JudgeReplication(w.groupLocked(), now)...)
	}
	alarms := w.tracker.step(judged, now)
	back := w.tracker.back
	w.tracker.back = false
	w.mu.Unlock()
	if back && w.out.opt.Hint != nil {
		w.out.opt.Hint(w.instance.Name)
	}

	w.out.send(alarms, now)
	if round > w.round {
		w.round = round
		w.cycles.done(w.instance.Name, w.base+round)
	}
}

// noteReach logs when what a node says changes, not on every probe.
func (w *watcher) noteReach(s policies.Snapshot) {
	w.mu.Lock()
	old, seen := w.latest[s.Node]
	w.mu.Unlock()
	if seen && old.Reach == s.Reach || !seen && s.Reach == policies.ReachUp {
		return
	}
	w.log.Info("node reach changed", "component", "agent", "instance", s.Instance, "node", s.Node,
		"from", string(old.Reach), "to", string(s.Reach), "err", s.Err)
}

func (w *watcher) lowestTick() int {
	lowest := -1
	for i, n := range w.instance.Nodes {
		if t := w.ticks[n.Name]; i == 0 || t < lowest {
			lowest = t
		}
	}
	return lowest
}

func (w *watcher) group() policies.Group {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.groupLocked()
}

func (w *watcher) groupLocked() policies.Group {
	g := policies.Group{Instance: w.instance}
	for _, n := range w.instance.Nodes {
		if s, ok := w.latest[n.Name]; ok {
			g.Snapshots = append(g.Snapshots, s)
		}
	}
	w.links.Into(&g)
	return g
}

func (w *watcher) trouble(oldest time.Time) (bad, seen bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.latest {
		if !s.Reach.Answers() || s.At.Before(oldest) {
			return true, true
		}
	}
	bad = slices.ContainsFunc(w.tracker.published(), func(a policies.Alarm) bool { return a.Severity == policies.Critical })
	return bad, len(w.latest) == len(w.instance.Nodes)
}

func (w *watcher) standing() []policies.Alarm {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tracker.published()
}
