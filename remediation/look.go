package remediation

import (
	"context"
	"slices"
	"sync"
	"time"

	"dcshealer/agent/probe"
	"dcshealer/policies"
)

// lookGap lies between the two probes that have to agree.
const lookGap = 200 * time.Millisecond

// look is one confirmation: two rounds of probing all nodes of an instance.
type look struct {
	group    policies.Group // the newer round
	earlier  policies.Group
	findings []policies.Finding // of the newer round, all severities, causes filled in
	faults   []fault            // critical, of the newer round
	agreed   map[string]bool    // fault keys on which both rounds agree, cause included
	memory   map[string]policies.MemoryDiagnosis
	began    time.Time // before the first probe
	at       time.Time
}

// lookTimeout bounds one round of probing below what agent.timeout may allow: a hung node must not make the evidence of its
// siblings stale.
const lookTimeout = 2 * time.Second

// probeAll reads every node side by side.
func (m *Machine) probeAll(ctx context.Context) policies.Group {
	g := policies.Group{Instance: m.in, Snapshots: make([]policies.Snapshot, len(m.in.Nodes))}
	m.probeInto(ctx, g, Prober.ProbeDeep, m.in.Nodes...)
	m.learn(&g)
	return g
}

// learn takes a round of probing for what is remembered, the master first, and puts what is remembered beside it.
func (m *Machine) learn(g *policies.Group) {
	master, _ := g.Of(m.in.Master().Name)
	m.h.Observe(master)
	for _, s := range g.Snapshots {
		if s.Node != master.Node {
			m.h.Observe(s)
		}
	}
	g.Memory = m.h.remembers(m.in.Name)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.links.Into(g)
}

// followCourse keeps what the looks add up to, whoever took them.
func (m *Machine) followCourse(s policies.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.links.See(s, m.in.Master().Name)
}

// probeInto reads the named nodes into their places in the group.
func (m *Machine) probeInto(ctx context.Context, g policies.Group, read func(Prober, context.Context) policies.Snapshot, nodes ...policies.Node) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for i, n := range m.in.Nodes {
		if slices.Contains(nodes, n) {
			wg.Go(func() { g.Snapshots[i] = read(m.probers[n.Name], ctx) })
		}
	}
	wg.Wait()
}

// sick reports whether a quick look finds a node that does not answer or a critical fault.
func (m *Machine) sick(ctx context.Context) bool {
	g := policies.Group{Instance: m.in, Snapshots: make([]policies.Snapshot, len(m.in.Nodes))}
	m.probeInto(ctx, g, Prober.Probe, m.in.Nodes...)
	return slices.ContainsFunc(policies.Evaluate(g, m.pol, nil, time.Now()), func(f policies.Finding) bool { return f.Severity == policies.Critical })
}

// judge reads the critical faults off a group; open memory incidents stand until they are under the clear level.
func (m *Machine) judge(g policies.Group, slow slowCommands, now time.Time) ([]policies.Finding, []fault) {
	standing := func(metric policies.Metric, node string) policies.Severity {
		if m.isOpen(string(metric) + "/" + node) {
			return policies.Critical
		}
		return 0
	}
	var findings []policies.Finding
	for _, j := range policies.Judge(g, m.pol, slow.add(g, m.pol), standing, now) {
		if j.Known && j.Severity > 0 {
			findings = append(findings, j.Finding)
		}
	}
	triage := map[string]policies.Triage{}
	for _, t := range policies.TriageReplication(g, now) {
		triage[t.Node] = t
	}
	return findings, faultsOf(g, findings, triage)
}

// slowCommands are the slow commands of each node's window, by id, over the looks of one confirmation: a prober hands out
// each entry once.
type slowCommands map[string]map[int64]int64

// add takes a look and counts.
func (c slowCommands) add(g policies.Group, p policies.Policy) map[string]policies.Counts {
	out := map[string]policies.Counts{}
	for _, s := range g.Snapshots {
		if !s.Slowlog.Known || !s.ServerTime.Known {
			continue
		}
		key := s.Node + " " + s.RunID
		if c[key] == nil {
			c[key] = map[int64]int64{}
		}
		for _, e := range s.Slowlog.Entries {
			c[key][e.ID] = e.Unix
		}
		var n int64
		for _, at := range c[key] {
			if s.ServerTime.V-at <= int64(p.Slowlog.Window/time.Second) {
				n++
			}
		}
		out[s.Node] = policies.Counts{Slowlog: policies.Known(n)}
	}
	return out
}

// confirm looks twice. A first look without a critical fault settles it; two that differ are followed by more, up to five.
func (m *Machine) confirm(ctx context.Context) look {
	slow := slowCommands{}
	began := time.Now()
	first := m.probeAll(ctx)
	findings, faults := m.judge(first, slow, time.Now())
	m.sight(faults, began)
	l := look{began: began, group: first, earlier: first, findings: findings, faults: faults, agreed: map[string]bool{}, at: time.Now()}
	for looks := 1; looks < 5 || m.h.once() && early(l.faults) && looks < 30; looks++ {
		if len(l.faults) == 0 && len(l.agreed) == 0 {
			break
		}
		if wait(ctx, lookGap) != nil {
			break
		}
		asked := time.Now()
		next := m.probeAll(ctx)
		before := l.faults
		l.earlier, l.group, l.at = l.group, next, time.Now()
		l.findings, l.faults = m.judge(next, slow, l.at)
		m.sight(l.faults, asked)
		l.agreed = map[string]bool{}
		for _, f := range l.faults {
			for _, o := range before {
				if f.same(o) {
					l.agreed[f.key()] = true
				}
			}
		}
		if len(l.agreed) == len(l.faults) && !(m.h.once() && early(l.faults)) {
			break
		}
	}
	m.diagnose(ctx, &l)
	return l
}

// early reports whether another look may still tell a nearer cause of a fault.
func early(faults []fault) bool {
	return slices.ContainsFunc(faults, func(f fault) bool { return f.early })
}

// once reports whether this process looks once and ends, as plan and heal do, so that there is no later look.
func (h *Healer) once() bool { return h.opt.LookOnly || h.opt.Trigger == policies.TriggerManual }

// diagnose asks where the memory is, with the estimate of a replica in step where there is one.
func (m *Machine) diagnose(ctx context.Context, l *look) {
	l.memory = map[string]policies.MemoryDiagnosis{}
	for i, f := range l.faults {
		if f.Metric != policies.MetricUsedMemory {
			continue
		}
		s, _ := l.group.Of(f.Node)
		d := policies.DiagnoseMemory(s, m.pol, m.estimate(ctx, l.group, s))
		l.memory[f.Node] = d
		if d.Known {
			l.faults[i].Cause = d.Cause
			for k := range l.findings {
				if l.findings[k].Metric == f.Metric && l.findings[k].Node == f.Node {
					l.findings[k].Cause = d.Cause
				}
			}
		}
	}
}

// countBudget bounds the count on a replica, so that the evidence is still fresh after it.
const countBudget = 1500 * time.Millisecond

// An estimate is believed for estimateLeast at first and twice as long after each renewal, up to estimateMost, unless the
// number of keys with a TTL moved by a tenth: a fault that stands for hours must not scan the replica all the time.
const (
	estimateLeast = time.Minute
	estimateMost  = 10 * time.Minute
)

type keptEstimate struct {
	policies.Estimate
	runID    string
	volatile int64
	until    time.Time
	keep     time.Duration
}

// estimate counts the expired keys of a master on a replica of it that is in step, or takes the count that is kept.
func (m *Machine) estimate(ctx context.Context, g policies.Group, master policies.Snapshot) policies.Estimate {
	vol, now := master.Volatile().Or(0), time.Now()
	if vol == 0 {
		return policies.Estimate{Keys: policies.Known(int64(0)), Bytes: policies.Known(int64(0)), Exact: true, Method: "no key has a TTL"}
	}
	kept := m.estimates[master.Node]
	moved := max(vol-kept.volatile, kept.volatile-vol)
	if kept.runID == master.RunID && now.Before(kept.until) && moved*10 < kept.volatile {
		return kept.Estimate
	}
	e, ok := m.expiredByReplica(ctx, g, master)
	if ok {
		keep := estimateLeast
		if kept.runID == master.RunID {
			keep = min(2*kept.keep, estimateMost)
		}
		m.estimates[master.Node] = keptEstimate{e, master.RunID, vol, now.Add(keep), keep}
	}
	return e
}

// expiredByReplica counts on a replica in step: nothing is deleted there, and DBSIZE less the keys that SCAN returns is exact.
// Unknown without such a replica.
func (m *Machine) expiredByReplica(ctx context.Context, g policies.Group, master policies.Snapshot) (policies.Estimate, bool) {
	for _, s := range g.Snapshots {
		r := s.Replication
		inStep := s.Reach == policies.ReachUp && r.Role == policies.RoleReplica && r.LinkUp.Or(false) &&
			r.ReplID == master.Replication.ReplID && !r.SyncInProgress.Or(true)
		if !inStep {
			continue
		}
		c, err := m.probers[s.Node].CountLive(ctx, probe.CountOptions{Budget: countBudget})
		if err != nil {
			if ctx.Err() == nil {
				m.log.Warn("expired keys could not be counted", "node", s.Node, "err", err)
			}
			continue
		}
		if !holdsAll(master, c) {
			continue // not in step after all: what it lacks would count as alive
		}
		e := policies.Estimate{Keys: c.Expired(), Exact: c.Complete, Method: "DBSIZE less the keys alive on " + s.Node}
		if !c.Complete {
			e.Method += ", from the part that was counted in " + countBudget.String()
		}
		if e.Keys.Known && c.MeanSize.Known {
			e.Bytes = policies.Known(int64(float64(e.Keys.V) * c.MeanSize.V))
		}
		e.Mean = c.MeanSize
		return e, true
	}
	return policies.Estimate{Method: policies.BoundExpired(master).Method + "; no replica in step to count on"}, false
}

// holdsAll reports whether the replica held as many keys as its master, to a hundredth, in every database with volatile ones.
func holdsAll(master policies.Snapshot, c probe.LiveCount) bool {
	for _, db := range master.DBs {
		if off := db.Keys - c.PerDB[db.Index].DBSize; db.Expires > 0 && max(off, -off)*100 > db.Keys {
			return false
		}
	}
	return true
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
