package remediation

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"dcshealer/policies"
)

// Status is what the Machine is, for status.
func (m *Machine) Status(ctx context.Context, now time.Time) policies.MachineStatus {
	j := m.h.opt.Journal
	s := policies.MachineStatus{
		Instance: m.in.Name, State: m.life.state(), Incidents: []string{},
		Modes: map[policies.Action]policies.Mode{}, Breakers: map[policies.Action]string{}, DryRun: m.h.opt.DryRun,
	}
	m.mu.Lock()
	s.Since = m.since.UTC()
	s.Stands = map[string]time.Time{}
	for _, i := range m.incidents {
		s.Incidents = append(s.Incidents, i.id)
		if !i.stands.IsZero() {
			s.Stands[i.id] = i.stands.UTC()
		}
	}
	s.Progress = m.underWay
	s.Blind = strings.Join(slices.Sorted(maps.Values(m.blind)), "; ")
	m.mu.Unlock()
	slices.Sort(s.Incidents)
	grants, _ := j.Live(ctx, now)
	for _, a := range m.in.Actions() {
		s.Modes[a], _ = policies.ModeOf(m.in, a, grants, m.h.opt.DryRun, now)
		s.Breakers[a], _ = m.h.breakers.state(breakerName(m.in.Name, a), now)
	}
	_, s.Paused, _ = j.Paused(ctx, m.in.Name, now)
	s.LastAction, _ = j.LastAction(ctx, m.in.Name)
	return s
}

// save keeps the status of a running healer for the other commands; a command given by hand has none to show. Losing it
// loses nothing but what status shows.
func (m *Machine) save() {
	if m.h.opt.Journal == nil || m.h.opt.Trigger != policies.TriggerAlarm {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := m.h.opt.Journal.SaveStatus(ctx, m.Status(ctx, time.Now())); err != nil {
		m.log.Warn("status could not be saved", "err", err)
	}
}

// noteBlind keeps which alarms cannot fire for a node, and says so once each time it changes.
func (m *Machine) noteBlind(s policies.Snapshot) {
	text := strings.Join(policies.Blind(s), "; ")
	m.mu.Lock()
	changed := m.blind[s.Node] != text
	if text == "" {
		delete(m.blind, s.Node)
	} else {
		m.blind[s.Node] = text
	}
	m.mu.Unlock()
	if changed && text != "" && m.h.opt.Trigger == policies.TriggerAlarm { // status says it at any time
		m.log.Warn("an alarm is blind", "node", s.Node, "reason", text)
	}
}

// evidence is what a record shows of the nodes: no secret, no key name.
func (m *Machine) evidence(l look, f fault) map[string]any {
	out := map[string]any{}
	for _, s := range l.group.Snapshots {
		out[s.Node] = nodeFacts(s)
	}
	if d := l.memory[f.Node]; d.Known {
		out["memory"] = d.Report()
	}
	return out
}

func nodeFacts(s policies.Snapshot) map[string]any {
	if !s.Reach.Answers() {
		return map[string]any{"reach": s.Reach, "error": s.Err}
	}
	r := s.Replication
	f := map[string]any{
		"reach": s.Reach, "run_id": s.RunID, "version": s.Product + " " + s.Version, "role": r.Role, "keys": s.Keys(), "volatile_keys": s.Volatile(),
		"replid": r.ReplID, "replid2": r.ReplID2, "master_repl_offset": r.Offset, "second_repl_offset": r.SecondOffset,
		"counted_bytes": s.Memory.Counted(), "maxmemory_bytes": s.Memory.Max, "expired_keys": s.Stats.ExpiredKeys,
	}
	if r.Role == policies.RoleReplica {
		f["master"] = policies.Address{Host: r.MasterHost, Port: r.MasterPort}.String()
		f["link_up"], f["slave_repl_offset"] = r.LinkUp, r.ReplicaOffset
	} else {
		f["replicas"], f["sync_full"], f["sync_partial_ok"] = len(r.Replicas), s.Stats.SyncFull, s.Stats.SyncPartialOK
	}
	return f
}
