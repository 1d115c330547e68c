package remediation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// incident is one open fault with what was decided about it.
type incident struct {
	id        string
	fault     fault
	since     time.Time         // when two probes agreed on it
	stands    time.Time         // see Machine.stands; zero: not seen by this process yet
	was       policies.Snapshot // of its node then; zero: not known
	resting   policies.State    // held, escalated or cooldown
	signature string            // what was decided: cause and who denied, or what it waits for
	planned   bool              // a plan that nothing but the dry run stops is on record
	record    string            // newest journal record
	watch     time.Time         // in cooldown: when to look whether it stayed so
	given     policies.Cause    // the cause for which the server does not support the remedy; empty: it was not refused
}

// incidentOf finds the open incident of a fault, or opens one. A fault that is back after its repair is a new incident.
func (m *Machine) incidentOf(ctx context.Context, l look, f fault) *incident {
	m.mu.Lock()
	inc := m.incidents[f.key()]
	m.mu.Unlock()
	if inc != nil && inc.resting == policies.StateCooldown {
		back := journal.Closing{Resolution: policies.CameBack, Text: "the fault came back: " + f.Msg}
		m.note(ctx, inc, back.Text, nil)
		m.end(ctx, inc, back)
		inc = nil
	}
	if inc == nil {
		return m.openIncident(ctx, l, f)
	}
	if was := cmpCause(inc.fault); was != cmpCause(f) {
		m.tell(ctx, inc.id, func(ctx context.Context, j *journal.Journal, at time.Time) error {
			return j.ChangeIncident(ctx, inc.id, cmpCause(f), f.Msg, fmt.Sprintf("%s, was %s: %s", cmpCause(f), was, f.Msg), at)
		})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	inc.fault = f
	return inc
}

// openIncident begins an incident, or goes on with the one that another process, or an earlier one, has in the journal.
func (m *Machine) openIncident(ctx context.Context, l look, f fault) *incident {
	m.read = false // what the journal has open now, not what it had at the last look
	m.takeUp(ctx)
	m.mu.Lock()
	inc := m.incidents[f.key()]
	m.mu.Unlock()
	if inc != nil {
		return m.incidentOf(ctx, l, f)
	}
	inc = &incident{id: m.h.opt.NewID(), fault: f, since: time.Now(), resting: policies.StateHeld}
	inc.stands = inc.since
	inc.was, _ = l.group.Of(f.Node)
	first := m.takeFirst(f)
	m.mu.Lock()
	m.incidents[f.key()] = inc
	m.mu.Unlock()
	in := policies.Incident{ID: inc.id, Instance: m.in.Name, Node: f.Node, Metric: f.Metric, Cause: cmpCause(f), Msg: f.Msg, Trigger: m.h.opt.Trigger,
		Alarm: first.id, Alarmed: first.at, Seen: m.sighted[f.key()], Opened: inc.since}
	m.tell(ctx, inc.id, func(ctx context.Context, j *journal.Journal, _ time.Time) error { return j.OpenIncident(ctx, in) })
	if m.isOpen(f.key()) {
		return inc
	}
	return m.incidentOf(ctx, l, f)
}

// disown gives up an incident that the journal has not taken, as another process was quicker: that one's is read at the next look. By then the
// fault may have another incident here.
func (m *Machine) disown(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.incidents, func(_ string, inc *incident) bool { return inc.id == id })
	m.read = false
}

// closeGone ends the incidents whose fault is gone. A node that cannot be read proves nothing.
func (m *Machine) closeGone(ctx context.Context, l look) {
	for key, inc := range m.openIncidents() {
		if slices.ContainsFunc(l.faults, func(f fault) bool { return f.key() == key }) || !m.provenGone(l, inc) {
			continue
		}
		if inc.resting != policies.StateCooldown && m.underWayBeside(ctx, inc) {
			continue
		}
		if inc.resting == policies.StateCooldown && time.Now().Before(inc.watch) {
			continue
		}
		m.close(ctx, l, inc)
	}
}

func (m *Machine) close(ctx context.Context, l look, inc *incident) {
	c := journal.Closing{Resolution: policies.ResolvedByUs, Text: fmt.Sprintf("still well %s after the repair", watchFor)}
	if inc.resting != policies.StateCooldown {
		now, _ := l.group.Of(inc.fault.Node)
		c = m.endedBy(ctx, inc, now)
	}
	m.closeAs(ctx, inc, "resolved", c)
}

// closeAs ends an incident: what came of it, and how.
func (m *Machine) closeAs(ctx context.Context, inc *incident, what string, c journal.Closing) {
	m.note(ctx, inc, c.Text, nil)
	m.end(ctx, inc, c)
	m.h.say(m.in.Name, "%s: %s on %s (%s): %s", what, inc.fault.Metric, inc.fault.Node, inc.fault.Cause, c.Text)
	m.save()
}

// endedBy is who ended a fault that no proven action of ours did. One of ours that sent something and did not come to its proof may have.
// Of a node that did not answer when the incident was opened nothing but whether it was restarted can be told.
func (m *Machine) endedBy(ctx context.Context, inc *incident, now policies.Snapshot) (c journal.Closing) {
	for _, r := range slices.Backward(m.recordsOf(ctx, inc.id)) {
		if len(r.Commands) > 0 && r.Outcome != policies.OutcomeUnsupported {
			return journal.Closing{Resolution: policies.ResolvedUnknown, Text: fmt.Sprintf("gone after our %s on %s, whose outcome was %s (record %s)", r.Action, r.Node, r.Outcome, r.ID)}
		}
	}
	metric := inc.fault.Metric
	if inc.was.Reach != policies.ReachUp {
		metric = policies.MetricInstanceUp
	}
	c.Resolution, c.Text = policies.ResolvedBy(metric, inc.was, now)
	return c
}

// recordsOf are the decisions and actions of an incident, oldest first; none where the journal cannot tell.
func (m *Machine) recordsOf(ctx context.Context, id string) []policies.Record {
	if m.h.opt.Journal == nil {
		return nil
	}
	file, err := m.h.opt.Journal.Incident(ctx, id)
	if err != nil {
		return nil
	}
	return file.Records
}

// end closes an incident in the journal, and every other one of the same fault that two processes opened at once there.
func (m *Machine) end(ctx context.Context, inc *incident, c journal.Closing) {
	m.mu.Lock()
	delete(m.incidents, inc.fault.key())
	m.mu.Unlock()
	m.tell(ctx, inc.id, func(ctx context.Context, j *journal.Journal, at time.Time) error {
		open, err := j.Incidents(ctx, journal.IncidentFilter{Instance: m.in.Name, Open: true})
		if err != nil {
			return err
		}
		for _, in := range open {
			if keyOf(in) == inc.fault.key() && in.ID != inc.id && !in.Opened.After(at) {
				if err := j.CloseIncident(ctx, in.ID, c, at); err != nil {
					return err
				}
			}
		}
		return j.CloseIncident(ctx, inc.id, c, at)
	})
}

// endProven ends the incident of a fault that a command by hand repaired where no healer runs that would watch it.
func (m *Machine) endProven(ctx context.Context, key string) {
	if inc := m.openIncidents()[key]; inc != nil {
		m.end(ctx, inc, journal.Closing{Resolution: policies.ResolvedByUs, Text: "repaired by hand, its effect proven; no healer ran to watch whether it stays"})
	}
}

// underWayBeside reports whether a command by hand works on the incident. One that has just repaired it is watched as a repair of our own.
// Decisions of ours that sent nothing may stand after its record.
func (m *Machine) underWayBeside(ctx context.Context, inc *incident) bool {
	for _, r := range slices.Backward(m.recordsOf(ctx, inc.id)) {
		switch {
		case r.Outcome == policies.OutcomeRunning:
			return true
		case len(r.Commands) == 0:
			continue
		case r.Outcome == policies.OutcomeSucceeded && time.Since(r.Finished) < 2*watchFor:
			inc.record, inc.watch = r.ID, r.Finished.Add(watchFor)
			m.rest(inc, policies.StateCooldown)
		}
		return false
	}
	return false
}

// provenGone reports whether the node of the incident, and of a replica its master, answered: silence is not health.
func (m *Machine) provenGone(l look, inc *incident) bool {
	s, ok := l.group.Of(inc.fault.Node)
	if !ok || s.Reach != policies.ReachUp {
		return false
	}
	if inc.fault.Metric != policies.MetricReplication {
		return true
	}
	master, _ := l.group.Of(m.in.Master().Name)
	return master.Reach.Answers()
}

// keyOf is the key of the fault that an incident of the journal is about.
func keyOf(in policies.Incident) string { return string(in.Metric) + "/" + in.Node }

// sight keeps since when our own probe sees each fault.
func (m *Machine) sight(faults []fault, at time.Time) {
	seen := map[string]time.Time{}
	for _, f := range faults {
		seen[f.key()] = at
		if was, ok := m.sighted[f.key()]; ok {
			seen[f.key()] = was
		}
	}
	m.sighted = seen
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, inc := range m.incidents {
		inc.stands = m.stands(inc)
	}
}

// stands is since when the fault is known to have been there without a break. While nobody looked, that of an incident taken up may have been
// repaired and have come back: who else repairs this instance then begins anew, and so does the grace for that.
func (m *Machine) stands(inc *incident) time.Time {
	if seen := m.sighted[inc.fault.key()]; seen.After(inc.since) {
		return seen
	}
	return inc.since
}

// firstAlarm is the alarm that began what may become an incident.
type firstAlarm struct {
	id string
	at time.Time // by our own clock
}

// keepFirst keeps the first alarm about a metric and node; an alarm that names no node of ours is about any. The caller holds m.mu.
func (m *Machine) keepFirst(a policies.Alarm) {
	node := a.Slave
	if node == "" {
		node = a.Node
	}
	if _, ok := m.in.Node(node); !ok {
		node = ""
	}
	key := string(a.Metric) + "/" + node
	if _, ok := m.firsts[key]; !ok {
		m.firsts[key] = firstAlarm{a.ID, time.Now()}
	}
}

// takeFirst hands over the alarm that led to a fault; zero: none did.
func (m *Machine) takeFirst(f fault) (first firstAlarm) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range []string{f.key(), string(f.Metric) + "/"} {
		if a, ok := m.firsts[key]; ok && (first.at.IsZero() || a.at.Before(first.at)) {
			first = a
		}
		delete(m.firsts, key)
	}
	return first
}

// forgetFirsts drops the alarms that a look since has not borne out.
func (m *Machine) forgetFirsts(l look) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, a := range m.firsts {
		about := func(f fault) bool { return f.key() == key || string(f.Metric)+"/" == key }
		if a.at.Before(l.began) && !slices.ContainsFunc(l.faults, about) {
			delete(m.firsts, key)
		}
	}
}
