package remediation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// Examination is what plan shows of one instance.
type Examination struct {
	Instance string             `json:"instance"`
	State    policies.State     `json:"state"`
	Findings []policies.Finding `json:"findings"`
	Plans    []policies.Plan    `json:"plans"`
	Errors   []string           `json:"errors"`
}

// Examine looks at one instance and makes its plans. It changes nothing on any node.
func (h *Healer) Examine(ctx context.Context, instance string) (Examination, error) {
	m := h.machine(instance)
	if m == nil {
		return Examination{}, fmt.Errorf("instance %q is not in the config; there are %s", instance, h.config().InstanceNames())
	}
	h.loadMemory(ctx)
	l := m.confirm(ctx)
	e := Examination{Instance: instance, State: policies.StateIdle, Findings: l.findings, Plans: []policies.Plan{}, Errors: []string{}}
	if e.Findings == nil {
		e.Findings = []policies.Finding{}
	}
	for _, f := range l.faults {
		for _, p := range m.plans(ctx, l, request{fault: f, since: m.sinceByJournal(ctx, f)}, "") {
			e.Plans = append(e.Plans, *p)
		}
	}
	for _, s := range l.group.Snapshots {
		if s.Reach != policies.ReachUp {
			e.Errors = append(e.Errors, fmt.Sprintf("%s: %s: %s", s.Node, s.Reach, s.Err))
		}
	}
	if h.opt.Journal == nil && h.opt.JournalErr != nil && !errors.Is(h.opt.JournalErr, journal.ErrNoJournal) {
		e.Errors = append(e.Errors, h.opt.JournalErr.Error())
	}
	return e, ctx.Err()
}

// ByHand is a person's request to heal one instance.
type ByHand struct {
	Action    policies.Action // empty: whatever the faults need
	Live      bool
	AllowLost string // the node whose own writes are given up
}

// Healed is what came of it, one record a fault.
type Healed struct {
	Instance string             `json:"instance"`
	Findings []policies.Finding `json:"findings"`
	Records  []policies.Record  `json:"records"`
}

// HealByHand takes the same path as an alarm, and waits for the outcome. The mode guard is answered by r.Live; all others stand. While another
// command heals the instance by hand it is journal.ErrByHand.
func (h *Healer) HealByHand(ctx context.Context, instance string, r ByHand) (Healed, error) {
	m := h.machine(instance)
	if m == nil {
		return Healed{}, fmt.Errorf("instance %q is not in the config; there are %s", instance, h.config().InstanceNames())
	}
	if h.opt.Journal == nil {
		return Healed{}, fmt.Errorf("heal %s: nothing is done without a journal: %w", instance, h.opt.JournalErr)
	}
	unlock, err := h.opt.Journal.LockHand(ctx, instance)
	if err != nil {
		return Healed{}, fmt.Errorf("heal %s: %w", instance, err)
	}
	defer unlock()
	if err := h.recover(ctx); err != nil {
		return Healed{}, fmt.Errorf("heal %s: %w", instance, err)
	}
	h.loadMemory(ctx)
	stop := h.watchOwnClock(ctx)
	defer stop()
	out := Healed{Instance: instance, Records: []policies.Record{}}
	if err := m.life.to(ctx, eventSuspect); err != nil {
		return out, err
	}
	alone := !journal.HealerRunning(h.config().StateDir)
	m.takeUp(ctx)
	l := m.confirm(ctx)
	out.Findings = l.findings
	if alone {
		m.closeGone(ctx, l)
	}
	for _, f := range l.faults {
		if r.Action != "" && !slices.Contains(m.remedies(f), r.Action) {
			continue
		}
		rec, err := m.healOne(ctx, l, f, r)
		if err != nil {
			return out, err
		}
		out.Records = append(out.Records, rec)
		if alone && rec.Outcome == policies.OutcomeSucceeded && rec.Incident != "" {
			m.endProven(ctx, f.key())
		}
		if ctx.Err() != nil {
			return out, fmt.Errorf("heal %s: stopped by a signal after record %s (%s): dcshealer actions show %s", instance, rec.ID, rec.Outcome, rec.ID)
		}
	}
	return out, nil
}

// sinceByJournal is since when the running healer knows the fault to be there without a break, while it has it open; zero where it does not
// say so, or when none runs: then nobody knows how long the fault has stood.
func (m *Machine) sinceByJournal(ctx context.Context, f fault) (since time.Time) {
	j := m.h.opt.Journal
	if j == nil || !journal.HealerRunning(m.h.config().StateDir) {
		return since
	}
	open, err := j.Incidents(ctx, journal.IncidentFilter{Instance: m.in.Name, Open: true})
	if err != nil {
		return since
	}
	saved, err := j.Statuses(ctx)
	i := slices.IndexFunc(saved, func(s policies.MachineStatus) bool { return s.Instance == m.in.Name })
	if err != nil || i < 0 {
		return since
	}
	for _, in := range open {
		if stands := saved[i].Stands[in.ID]; keyOf(in) == f.key() && !stands.IsZero() && (since.IsZero() || stands.Before(since)) {
			since = stands
		}
	}
	return since
}

// watchOwnClock watches for a stall of our own until stop, which waits for the watcher to end.
func (h *Healer) watchOwnClock(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { h.tilt.run(ctx) })
	return func() { cancel(); wg.Wait() }
}

// healOne works one fault by hand, once.
func (m *Machine) healOne(ctx context.Context, l look, f fault, r ByHand) (policies.Record, error) {
	inc := m.incidentOf(ctx, l, f)
	if len(m.incidents) > 1 || time.Since(l.at) > policies.MaxEvidenceAge {
		l = m.confirm(ctx) // an earlier repair took its time: look again
		i := slices.IndexFunc(l.faults, func(o fault) bool { return o.key() == f.key() })
		if i < 0 {
			return policies.Record{Instance: m.in.Name, Node: f.Node, Outcome: policies.OutcomeSucceeded, Cause: f.Cause, Error: "gone by itself"}, nil
		}
		f = l.faults[i]
	}
	req := request{fault: f, since: m.sinceByJournal(ctx, f), byHand: true, live: r.Live, allowLost: r.AllowLost}
	p := choose(m.plans(ctx, l, req, r.Action))
	var err error
	if p == nil || !p.Permitted {
		err = m.refuse(ctx, l, inc, p)
	} else {
		req.action = p.Action
		_, err = m.act(ctx, l, inc, p, req)
	}
	if err != nil || inc.record == "" {
		if err == nil {
			err = fmt.Errorf("%s was not begun: see above", m.in.Name)
		}
		return policies.Record{}, err
	}
	rec, _, err := m.h.opt.Journal.Show(context.WithoutCancel(ctx), inc.record)
	return rec, err
}
