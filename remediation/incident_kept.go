package remediation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// due is an entry about an incident that is still to be written.
type due struct {
	id    string
	at    time.Time
	write func(ctx context.Context, j *journal.Journal, at time.Time) error
}

// maxDues bounds what waits for a journal that cannot be written.
const maxDues = 1000

// tell has the journal take an entry about an incident, in order. A journal that cannot be written stops nothing: it gets the entry when it
// can, with the time at which it was due.
func (m *Machine) tell(ctx context.Context, id string, write func(ctx context.Context, j *journal.Journal, at time.Time) error) {
	if m.h.opt.Journal == nil || m.h.opt.LookOnly {
		return
	}
	if len(m.dues) >= maxDues {
		m.log.Error("what happened in an incident is lost to the journal: it has not been written for too long", "incident", m.dues[0].id)
		m.dues = m.dues[1:]
	}
	m.dues = append(m.dues, due{id, time.Now(), write})
	m.keep(ctx)
}

// keep writes what is due.
func (m *Machine) keep(ctx context.Context) {
	for len(m.dues) > 0 && m.h.keeper.reason() == "" {
		d := m.dues[0]
		err := d.write(ctx, m.h.opt.Journal, d.at)
		switch {
		case err == nil, errors.Is(err, journal.ErrClosed), errors.Is(err, journal.ErrTaken): // done before, by another process or a try whose answer was lost
		case errors.Is(err, journal.ErrStands):
			m.disown(d.id)
		case errors.Is(err, journal.ErrUnknownIncident):
			m.log.Error("incident is not in the journal", "incident", d.id, "err", err)
		case ctx.Err() != nil:
			return
		default:
			if !m.unwritten {
				m.log.Error("incident could not be journalled yet", "incident", d.id, "err", err)
			}
			m.unwritten = true
			return
		}
		m.dues, m.unwritten = m.dues[1:], false
	}
}

// owes reports whether the journal still lacks something about an incident.
func (m *Machine) owes(id string) bool {
	return slices.ContainsFunc(m.dues, func(d due) bool { return d.id == id })
}

// begin goes on with what an earlier run left open.
func (m *Machine) begin(ctx context.Context) {
	m.takeUp(ctx)
	if !m.begun {
		var err error
		if m.nudged, err = m.h.opt.Journal.Nudged(ctx, m.in.Name); err != nil && ctx.Err() == nil {
			m.log.Warn("what persons asked for is not known", "err", err)
		}
		m.begun = err == nil
	}
	if m.open() == 0 {
		m.save()
		return
	}
	if err := m.settle(ctx); err != nil {
		m.log.Error("what an earlier run left open could not be taken up", "err", err)
	}
}

// takeUp goes on with the open incidents of the journal that this Machine does not have: of an earlier run, or of a command given by hand.
// It returns how many. The journal is read when it was written to since.
func (m *Machine) takeUp(ctx context.Context) (n int) {
	j := m.h.opt.Journal
	if j == nil {
		return 0
	}
	version, err := j.Version(ctx)
	if err == nil && m.read && version == m.version {
		return 0
	}
	open, err := j.Incidents(ctx, journal.IncidentFilter{Instance: m.in.Name, Open: true})
	if err != nil {
		if ctx.Err() == nil && m.read {
			m.log.Warn("open incidents could not be read", "err", err)
		}
		m.read = false
		return 0
	}
	m.version, m.read = version, true
	for _, in := range slices.Backward(open) { // the oldest first
		if _, ok := m.in.Node(in.Node); !ok || m.isOpen(keyOf(in)) || m.owes(in.ID) {
			continue
		}
		inc := m.recall(ctx, in)
		m.mu.Lock()
		m.incidents[keyOf(in)] = inc
		if in.Alarm != "" && m.alarms[in.Metric] == "" {
			m.alarms[in.Metric] = in.Alarm
		}
		m.mu.Unlock()
		if m.h.opt.Trigger == policies.TriggerAlarm { // a command by hand tells of what it does
			m.h.say(m.in.Name, "taken up: incident %s, %s on %s (%s), open since %s", in.ID, in.Metric, in.Node, in.Cause, in.Opened.UTC().Format(time.RFC3339))
		}
		n++
	}
	return n
}

// recall makes of an incident in the journal what it was to the process that had it: what was decided is not decided again, a repair goes
// on being watched. What was under way then is diagnosed anew.
func (m *Machine) recall(ctx context.Context, in policies.Incident) *incident {
	inc := &incident{id: in.ID, since: in.Opened, resting: policies.StateHeld,
		fault: fault{Finding: policies.Finding{Metric: in.Metric, Severity: policies.Critical, Node: in.Node, Cause: in.Cause, Msg: in.Msg}}}
	if string(in.Cause) == string(in.Metric) {
		inc.fault.Cause = "" // see cmpCause
	}
	records := m.recordsOf(ctx, in.ID)
	if len(records) == 0 {
		return inc
	}
	inc.was = seenThen(in, records[0].Before)
	newest := records[len(records)-1]
	inc.record = newest.ID
	switch {
	case newest.Outcome == policies.OutcomeSucceeded:
		inc.resting, inc.watch = policies.StateCooldown, newest.Finished.Add(watchFor)
	case m.askedSince(ctx, newest.ID):
	case len(newest.Commands) == 0 && (newest.Outcome == policies.OutcomePlanned || newest.Outcome == policies.OutcomeDenied):
		inc.planned = newest.Outcome == policies.OutcomePlanned
		inc.resting, inc.signature = decided(newest)
	}
	return inc
}

// decided is how an incident rests after a decision of the journal, and what the decision rested on.
func decided(r policies.Record) (policies.State, string) {
	if r.Action == "" {
		return policies.StateEscalated, string(r.Cause)
	}
	rests := policies.StateHeld
	if slices.ContainsFunc(r.Guards, func(g policies.Ruling) bool { return g.Denied() && !g.Temporary }) {
		rests = policies.StateEscalated
	}
	return rests, signatureOf(r.Cause, r.Action, r.Mode, r.DeniedBy)
}

// askedSince reports whether a person asked for a new look after a decision was written.
func (m *Machine) askedSince(ctx context.Context, record string) bool {
	nudged, err := m.h.opt.Journal.Nudged(ctx, m.in.Name)
	if err != nil {
		return false
	}
	_, entries, err := m.h.opt.Journal.Show(ctx, record)
	return err == nil && len(entries) > 0 && nudged > entries[0].Seq
}

// seenThen is what a record shows of the node of a replication incident when it was opened; zero: nothing that tells who ended it.
func seenThen(in policies.Incident, before map[string]any) (s policies.Snapshot) {
	facts, ok := before[in.Node].(map[string]any)
	if !ok || in.Metric != policies.MetricReplication || facts["reach"] != string(policies.ReachUp) {
		return s
	}
	role, _ := facts["role"].(string)
	s = policies.Snapshot{Node: in.Node, Reach: policies.ReachUp, Replication: policies.Replication{Role: policies.Role(role)}}
	s.RunID, _ = facts["run_id"].(string)
	if at, ok := facts["master"].(string); ok {
		a, err := policies.ParseAddress(at)
		if err != nil {
			return policies.Snapshot{}
		}
		s.Replication.MasterHost, s.Replication.MasterPort = a.Host, a.Port
	}
	return s
}

// nudge hears a person who took an incident or reset a breaker: what was given up is looked at anew. It reports whether there is such a word.
func (m *Machine) nudge(ctx context.Context) bool {
	seq, err := m.h.opt.Journal.Nudged(ctx, m.in.Name)
	if err != nil || seq <= m.nudged {
		return false
	}
	m.nudged = seq
	for _, inc := range m.openIncidents() {
		if inc.resting == policies.StateEscalated {
			inc.given, inc.signature, inc.planned = "", "", false
		}
	}
	if m.open() > 0 && m.life.state() == policies.StateEscalated {
		if err := m.life.to(ctx, eventSuspect); err != nil {
			m.log.Error("round failed", "err", err)
		}
	}
	return true
}

// abandon closes the incidents of instances and nodes that are not in the config: nobody watches those.
func (h *Healer) abandon(ctx context.Context) {
	open, err := h.opt.Journal.Incidents(ctx, journal.IncidentFilter{Open: true})
	if err != nil {
		if ctx.Err() == nil {
			h.log.Error("open incidents could not be read", "err", err)
		}
		return
	}
	for _, in := range open {
		what := "its instance"
		if m := h.machine(in.Instance); m != nil {
			if _, ok := m.in.Node(in.Node); ok {
				continue
			}
			what = "its node " + in.Node
		}
		text := fmt.Sprintf("%s is no longer in the config: nobody watches it", what)
		err := h.opt.Journal.CloseIncident(ctx, in.ID, journal.Closing{Resolution: policies.Abandoned, Text: text}, time.Now())
		if err != nil {
			h.log.Error("incident could not be closed", "incident", in.ID, "instance", in.Instance, "err", err)
			continue
		}
		h.say(in.Instance, "abandoned: incident %s, %s on %s (%s): %s", in.ID, in.Metric, in.Node, in.Cause, text)
	}
}
