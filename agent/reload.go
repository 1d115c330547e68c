package agent

import (
	"errors"
	"maps"
	"slices"
	"time"

	"dcshealer/policies"
)

// A Reload is a new config whose watchers and probers are made and not at work yet: Commit or Discard ends it.
type Reload struct {
	a     *Agent
	cfg   policies.Config
	diff  policies.ConfigDiff
	fresh map[string]*watcher
}

// Prepare makes what a new config needs; d is what it changes against the one in effect. The error names each node whose prober could not
// be made; nothing has changed then. One Reload at a time.
func (a *Agent) Prepare(cfg policies.Config, d policies.ConfigDiff) (*Reload, error) {
	r := &Reload{a: a, cfg: cfg, diff: d, fresh: map[string]*watcher{}}
	var errs []error
	for _, name := range slices.Concat(d.Added, d.Changed) {
		i, _ := cfg.Instance(name)
		like := a.watcher(name)
		if d.Reconnect[name] {
			like = nil
		}
		w, err := a.watch(cfg, i, like)
		r.fresh[name] = w
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		r.Discard()
		return nil, err
	}
	return r, nil
}

// Discard gives up what was made.
func (r *Reload) Discard() {
	for name, w := range r.fresh {
		if r.diff.Reconnect[name] || slices.Contains(r.diff.Added, name) {
			closeAll([]*watcher{w})
		}
	}
}

// Commit ends the watchers of instances that are gone or changed, and starts those in their place with what they knew: alarms that
// stand, counts and snapshots. The others are not touched. What stood on an instance or node that is gone is resolved. It waits for
// the probes under way, which are cut short.
func (r *Reload) Commit() {
	a := r.a
	a.turn.Lock()
	defer a.turn.Unlock()
	a.mu.RLock()
	old := maps.Clone(a.byName)
	a.mu.RUnlock()
	gone := slices.Concat(r.diff.Removed, r.diff.Changed)
	for _, name := range gone {
		old[name].finish()
	}
	var resolved []policies.Alarm
	for _, name := range gone {
		w := old[name]
		w.wait()
		if next := r.fresh[name]; next != nil {
			resolved = append(resolved, next.inherit(w)...)
		} else {
			resolved = append(resolved, w.dropped(func(string) bool { return true }, "the instance was removed from the config")...)
			a.cycles.leave(name)
		}
		if r.fresh[name] == nil || r.diff.Reconnect[name] {
			closeAll([]*watcher{w})
		}
	}
	for name, w := range r.fresh {
		w.base = a.cycles.join(name)
	}
	a.stall.pace(r.cfg.Agent.Interval)
	a.take(r)
	a.out.send(resolved, time.Now())
	for _, w := range r.fresh {
		if a.begin != nil {
			a.begin(w)
		}
	}
}

// take makes the new config the one in effect.
func (a *Agent) take(r *Reload) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.byName
	a.cfg, a.watchers, a.byName = r.cfg, nil, map[string]*watcher{}
	for _, i := range r.cfg.Instances {
		w := r.fresh[i.Name]
		if w == nil {
			w = old[i.Name]
		}
		a.watchers, a.byName[i.Name] = append(a.watchers, w), w
	}
}

// finish has the watcher end, and wait waits for that; one that was never started has.
func (w *watcher) finish() {
	if w.end != nil {
		w.end()
	}
}

func (w *watcher) wait() {
	if w.end != nil {
		<-w.ended
	}
}

// inherit takes over what an earlier watcher of the instance knew, and returns the resolutions of what stood on nodes that are gone. A
// node at another address is another server: nothing is counted on from the old one's numbers.
func (w *watcher) inherit(from *watcher) []policies.Alarm {
	gone := func(node string) bool { _, stays := w.instance.Node(node); return !stays }
	resolved := from.dropped(gone, "the node was removed from the config")
	from.mu.Lock()
	defer from.mu.Unlock()
	for key, a := range from.tracker.alarms {
		if !gone(key.node) {
			w.tracker.alarms[key] = a.clone()
		}
	}
	for _, was := range from.instance.Nodes {
		if is, stays := w.instance.Node(was.Name); !stays || is.Address != was.Address {
			continue
		}
		if s, seen := from.latest[was.Name]; seen {
			w.latest[was.Name] = s
		}
		w.windows[was.Name] = from.windows[was.Name]
	}
	if slices.Equal(from.instance.Nodes, w.instance.Nodes) {
		w.links = from.links.Clone()
	}
	return resolved
}

// dropped ends the alarms on the nodes that are gone and returns their resolutions.
func (w *watcher) dropped(gone func(node string) bool, why string) []policies.Alarm {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tracker.drop(gone, why)
}
