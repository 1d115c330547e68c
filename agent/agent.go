// Package agent is the collection loop: it probes every node at the interval, keeps the newest snapshots, and raises,
// repeats and resolves alarms. It changes nothing on a node; what it publishes is a hint for others, never evidence.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"dcshealer/policies"
)

// A Prober reads one node. Probe never fails and returns within the configured timeout, or soon after ctx ends. Where
// it is also an io.Closer, Run closes it at its end.
type Prober interface {
	Probe(ctx context.Context) policies.Snapshot
}

// Options say what is watched and where alarms go. The functions are called from several goroutines, one call at a
// time for Publish, Direct and Lines together; none of them may block.
type Options struct {
	Config  policies.Config
	Probers func(policies.Instance, policies.Node, policies.AgentConfig) (Prober, error) // called once a node by New, and by Prepare for others

	Publish    func(policies.Alarm)                       // to the bus
	Direct     func(policies.Alarm)                       // to the healer of this process, critical alarms only; nil: none
	Hint       func(instance string)                      // to the healer of this process: a fault is back whose alarm stands; nil: none
	OnSnapshot func(policies.Snapshot, policies.Instance) // each new snapshot, in order a node; nil: none
	Lines      io.Writer                                  // console lines; nil: none
	Log        *slog.Logger                               // nil: nothing is logged
	NewID      func() string                              // a new id for each publication
	Source     string                                     // who publishes; seq counts from 1 for each source
}

// An Agent watches a fleet. Its methods are safe for concurrent use.
type Agent struct {
	opt    Options
	out    *outbox
	cycles *cycles
	stall  *stall

	turn  sync.Mutex     // held by who starts and ends watchers
	begin func(*watcher) // starts one; nil: Run is not running

	mu       sync.RWMutex // guards what follows
	cfg      policies.Config
	watchers []*watcher // in the order of the config
	byName   map[string]*watcher
}

// New makes an Agent and its probers; nothing is probed before Run. The error names each node whose prober could not be made.
func New(o Options) (*Agent, error) {
	if o.Publish == nil || o.Probers == nil || o.NewID == nil {
		return nil, errors.New("agent: Publish, Probers and NewID are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	out := &outbox{opt: o}
	a := &Agent{opt: o, cfg: o.Config, byName: map[string]*watcher{}, out: out, stall: newStall(o.Config.Agent.Interval)}
	a.cycles = &cycles{out: out, rounds: map[string]int{}}
	var errs []error
	for _, i := range o.Config.Instances {
		w, err := a.watch(o.Config, i, nil)
		errs = append(errs, err)
		a.watchers, a.byName[i.Name] = append(a.watchers, w), w
		w.base = a.cycles.join(i.Name)
	}
	if err := errors.Join(errs...); err != nil {
		closeAll(a.watchers)
		return nil, err
	}
	return a, nil
}

// watch makes the watcher of an instance, with the probers of another one where that is given.
func (a *Agent) watch(cfg policies.Config, i policies.Instance, like *watcher) (*watcher, error) {
	w := newWatcher(i, cfg.PolicyOf(i), cfg.Agent.Repeat)
	w.out, w.cycles, w.log, w.onSnapshot = a.out, a.cycles, a.opt.Log, a.opt.OnSnapshot
	var errs []error
	for k, n := range i.Nodes {
		var p Prober
		var err error
		if like != nil {
			p = like.loops[k].prober
		} else if p, err = a.opt.Probers(i, n, cfg.Agent); err != nil {
			errs = append(errs, fmt.Errorf("make the prober of %s/%s: %w", i.Name, n.Name, err))
			continue
		}
		w.loops = append(w.loops, &loop{node: n.Name, prober: p, pace: cfg.Agent, stall: a.stall})
	}
	return w, errors.Join(errs...)
}

// Run probes until ctx ends, and returns its error. Each node has a goroutine and a ticker of its own, so that one
// that is dead, hung or slow delays no other. It must be called once.
func (a *Agent) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	a.turn.Lock()
	a.begin = func(w *watcher) {
		own, end := context.WithCancel(ctx)
		w.end, w.ended = end, make(chan struct{})
		wg.Go(func() {
			defer close(w.ended)
			defer end()
			w.watch(own)
		})
	}
	for _, w := range a.watchers {
		a.begin(w)
	}
	a.turn.Unlock()
	<-ctx.Done()
	a.turn.Lock()
	a.begin = nil
	a.turn.Unlock()
	wg.Wait()
	closeAll(a.watchers)
	return ctx.Err()
}

// closeAll closes the probers of watchers. Their errors change nothing: the connections are gone either way.
func closeAll(watchers []*watcher) {
	for _, w := range watchers {
		for _, l := range w.loops {
			if c, ok := l.prober.(io.Closer); ok {
				_ = c.Close()
			}
		}
	}
}

func (a *Agent) watcher(instance string) *watcher {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.byName[instance]
}

// Latest is the newest snapshot of each node of an instance, in config order. A node that was not probed yet is
// missing; an unknown instance gives a Group without an instance name.
func (a *Agent) Latest(instance string) policies.Group {
	w := a.watcher(instance)
	if w == nil {
		return policies.Group{}
	}
	return w.group()
}

// Critical says of each instance whether it is in trouble at now: a critical alarm stands, or a node's newest snapshot
// could not be read, or is older than three intervals and a timeout, which leaves the node unseen. An instance that was not
// probed in full yet has no entry.
func (a *Agent) Critical(now time.Time) map[string]bool {
	out := map[string]bool{}
	a.mu.RLock()
	pace, watchers := a.cfg.Agent, slices.Clone(a.watchers)
	a.mu.RUnlock()
	oldest := now.Add(-3*pace.Interval - pace.Timeout)
	for _, w := range watchers {
		if bad, seen := w.trouble(oldest); seen || bad {
			out[w.instance.Name] = bad
		}
	}
	return out
}

// Alarms is the standing alarms of an instance as they were last published, without id and seq.
func (a *Agent) Alarms(instance string) []policies.Alarm {
	w := a.watcher(instance)
	if w == nil {
		return nil
	}
	return w.standing()
}

// Late is how often a probe began late because this process was stalled, since the start.
func (a *Agent) Late() int64 { return a.stall.count() }

// Tilt says why the own loop or clock is not to be trusted at now; empty: it is. A stall or a step of the clock counts for TiltHold.
func (a *Agent) Tilt(now time.Time) string { return a.stall.tilt(now) }
