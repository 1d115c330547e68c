package remediation

import (
	"context"
	"maps"
	"slices"
	"sync"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// crew is the Machines at work and the config by which they are. They come and go with the config; what they share stays.
type crew struct {
	mu       sync.RWMutex // guards what follows
	cfg      policies.Config
	machines map[string]*Machine // those at work, by instance
	seats    map[string]*seat
	begin    func(*seat) // puts a seat to work; nil: Run is not running
}

// seat is where the Machines of one instance work, one after another: a Machine goes when it has finished what it is doing.
type seat struct {
	now  *Machine
	next *Machine // takes over; nil: nobody does
}

// config is the one in effect.
func (h *Healer) config() policies.Config {
	h.crew.mu.RLock()
	defer h.crew.mu.RUnlock()
	return h.crew.cfg
}

// machine is that of an instance; nil: there is no such instance.
func (h *Healer) machine(instance string) *Machine {
	h.crew.mu.RLock()
	defer h.crew.mu.RUnlock()
	return h.crew.machines[instance]
}

// machines is all that are at work, by instance.
func (h *Healer) machines() map[string]*Machine {
	h.crew.mu.RLock()
	defer h.crew.mu.RUnlock()
	return maps.Clone(h.crew.machines)
}

// seat puts a Machine into a seat of its own. The caller holds h.crew.mu, or is New.
func (h *Healer) seat(m *Machine) {
	s := &seat{now: m}
	h.crew.machines[m.in.Name], h.crew.seats[m.in.Name] = m, s
	if h.crew.begin != nil {
		h.crew.begin(s)
	}
}

// Reload takes another config into effect; d is what it changes against the one in effect. probers are those of the instances that d has
// as added or to be reconnected. A Machine that nothing changes for goes on as it is. One that is replaced finishes the action under way
// by the config that it was begun with, and hands over what it knows; busy names those. Reload does not wait for them. It must not be
// called beside itself.
func (h *Healer) Reload(ctx context.Context, cfg policies.Config, d policies.ConfigDiff, probers map[string]map[string]Prober) (busy []string) {
	h.loadMemory(ctx)
	h.carryPauses(ctx, cfg)
	h.crew.mu.Lock()
	defer h.crew.mu.Unlock()
	h.crew.cfg = cfg
	for _, name := range slices.Concat(d.Removed, d.Changed) {
		s := h.crew.seats[name]
		if s.now.underWayNow() {
			busy = append(busy, name)
		}
		s.now.retire()
		if slices.Contains(d.Removed, name) {
			h.unseat(s)
			if h.crew.begin == nil {
				h.succeed(s)
			}
		}
	}
	for _, name := range slices.Concat(d.Added, d.Changed) {
		i, _ := cfg.Instance(name)
		h.replace(i, probers[name])
	}
	return busy
}

// unseat gives up who was to take over and never began. The caller holds h.crew.mu.
func (h *Healer) unseat(s *seat) {
	if s.next != nil && s.next.fresh {
		h.release(s.next.probers)
	}
	s.next = nil
}

// replace has a new Machine take the seat of its instance, with the probers given, or those of the one before it. The caller holds h.crew.mu.
func (h *Healer) replace(i policies.Instance, probers map[string]Prober) {
	s := h.crew.seats[i.Name]
	m := newMachine(h, h.crew.cfg, i, probers)
	m.fresh = probers != nil
	m.after = h.leaving(i)
	if s == nil {
		h.seat(m)
		return
	}
	if probers == nil {
		was := s.now
		if s.next != nil {
			was, m.fresh, s.next.fresh = s.next, s.next.fresh, false
		}
		m.probers = was.probers
	}
	h.unseat(s)
	s.next = m
	if h.crew.begin == nil {
		h.succeed(s)
	}
}

// leaving is the Machines of other instances that have to end before one on the same nodes begins: an instance may have been renamed, or
// given a node of another, and its action is under way.
func (h *Healer) leaving(i policies.Instance) (out []*Machine) {
	for name, s := range h.crew.seats {
		if name != i.Name && s.now.retired() && sharesNode(s.now.in, i) {
			out = append(out, s.now)
		}
	}
	return out
}

func sharesNode(a, b policies.Instance) bool {
	return slices.ContainsFunc(a.Nodes, func(x policies.Node) bool {
		return slices.ContainsFunc(b.Nodes, func(y policies.Node) bool { return x.Address == y.Address || x.Peer() == y.Peer() })
	})
}

// occupy has the Machines of a seat work until ctx ends or nobody takes over.
func (h *Healer) occupy(ctx context.Context, s *seat) error {
	for m := s.now; ; {
		if err := m.run(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		h.crew.mu.Lock()
		next := h.succeed(s)
		h.crew.mu.Unlock()
		if next == nil {
			m.leaveIncidents(ctx, func(string) bool { return false })
			return nil
		}
		m = next
		m.leaveIncidents(ctx, func(node string) bool { _, stays := m.in.Node(node); return stays })
	}
}

// succeed puts the next Machine of a seat, and what the one before it knew, in its place; nil: the seat is given up. The caller holds
// h.crew.mu.
func (h *Healer) succeed(s *seat) *Machine {
	was, next := s.now, s.next
	close(was.ended)
	if next == nil {
		h.release(was.probers)
		delete(h.crew.machines, was.in.Name)
		delete(h.crew.seats, was.in.Name)
		return nil
	}
	next.inherit(was)
	if next.fresh {
		h.release(was.probers)
	}
	s.now, s.next = next, nil
	h.crew.machines[next.in.Name] = next
	return next
}

func (h *Healer) release(probers map[string]Prober) {
	if h.opt.Release != nil {
		h.opt.Release(probers)
	}
}

// retire has the Machine end when it has finished what it is doing.
func (m *Machine) retire() { m.leaves.Do(func() { close(m.leave) }) }

func (m *Machine) retired() bool {
	select {
	case <-m.leave:
		return true
	default:
		return false
	}
}

// awaitOthers waits until the Machines are gone that work on the same nodes.
func (m *Machine) awaitOthers(ctx context.Context) {
	for _, o := range m.after {
		select {
		case <-o.ended:
		case <-m.leave:
			return
		case <-ctx.Done():
			return
		}
	}
}

// underWayNow reports whether an action is under way or its effect is waited for.
func (m *Machine) underWayNow() bool {
	s := m.life.state()
	return s == policies.StateActing || s == policies.StateVerifying
}

// inherit takes over what the Machine before it knew, and has it look at once by its own settings: open incidents with what was decided
// about them, the state, alarms, and what was learnt of nodes that are still the same. The one before has ended.
func (m *Machine) inherit(from *Machine) {
	same := func(node string) bool {
		was, _ := from.in.Node(node)
		is, stays := m.in.Node(node)
		return stays && was.Address == is.Address
	}
	from.mu.Lock()
	defer from.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.life.fsm.SetState(string(from.life.state()))
	m.firsts, m.sighted = maps.Clone(from.firsts), maps.Clone(from.sighted)
	m.dues, m.unwritten, m.nudged, m.begun = slices.Clone(from.dues), from.unwritten, from.nudged, from.begun
	m.alarms, m.claims, m.since, m.early = maps.Clone(from.alarms), maps.Clone(from.claims), from.since, from.early
	for key, was := range from.incidents {
		inc := *was // others may still look at that of the one before
		if m.fresh {
			inc.given = "" // another user or other names: what was refused may be allowed now
		}
		m.incidents[key] = &inc
	}
	inheritSame(m.rtts, from.rtts, same)
	inheritSame(m.blind, from.blind, same)
	inheritSame(m.estimates, from.estimates, same)
	inheritSame(m.places, from.places, same)
	for _, l := range from.late {
		if same(l.node) {
			m.late = append(m.late, l)
		}
	}
	if slices.Equal(from.in.Nodes, m.in.Nodes) {
		m.links = from.links.Clone()
	}
	m.ask()
}

func inheritSame[V any](to, from map[string]V, same func(node string) bool) {
	for node, v := range from {
		if same(node) {
			to[node] = v
		}
	}
}

// leaveIncidents ends the incidents on nodes that are no longer in the config: nobody will see whether they are repaired.
func (m *Machine) leaveIncidents(ctx context.Context, stays func(node string) bool) {
	for _, inc := range m.openIncidents() {
		if !stays(inc.fault.Node) {
			m.closeAs(context.WithoutCancel(ctx), inc, "no longer watched", journal.Closing{Resolution: policies.Abandoned, Text: "the node was removed from the config"})
		}
	}
}

// runCrew has every Machine work until ctx ends.
func (h *Healer) runCrew(ctx context.Context, run func(func() error)) {
	h.crew.mu.Lock()
	h.crew.begin = func(s *seat) { run(func() error { return h.occupy(ctx, s) }) }
	for _, s := range h.crew.seats {
		h.crew.begin(s)
	}
	h.crew.mu.Unlock()
	<-ctx.Done()
	h.crew.mu.Lock()
	h.crew.begin = nil
	h.crew.mu.Unlock()
}
