package remediation

import (
	"context"
	"errors"
	"fmt"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// lazyExpire has the server free the values of expired keys in a thread of its own: one expired collection of 500,000 fields held Redis up
// for 330 to 370 ms, and for 2 to 4 ms with it (its default is no; Valkey's is yes).
const lazyExpire = "lazyfree-lazy-expire"

// freeLazily sets lazyfree-lazy-expire for the time of a sweep. That it has to be put back is on disk before it is changed; giveBack does
// it on every way out of this process, and settleDebts after a crash. A server that does not allow it is swept without.
func (m *Machine) freeLazily(ctx context.Context, c *conn, s policies.Snapshot, record string) (giveBack func() string, err error) {
	nothing := func() string { return "" }
	if !m.pol.Reclaim.LazyFree || s.LazyfreeExpire != policies.Known("no") {
		return nothing, nil
	}
	d := journal.Debt{Record: record, Instance: m.in.Name, Node: s.Node, RunID: s.RunID, Setting: lazyExpire, Was: "no", Set: "yes"}
	if err := m.h.opt.Journal.Owe(ctx, d); err != nil {
		return nothing, err
	}
	m.h.step("owed")
	err = c.SetConfig(ctx, d.Setting, d.Set)
	switch {
	case refused(err):
		m.log.Warn("the sweep goes on without lazy freeing: a big expired value may hold the server up", "node", s.Node, "err", err)
		return nothing, m.h.opt.Journal.Settle(ctx, d)
	case err != nil:
		return nothing, fmt.Errorf("set %s on %s: whether it was set is not known, it will be put back: %w", d.Setting, s.Node, err)
	}
	m.h.step("set")
	return func() string { return m.putBack(context.WithoutCancel(ctx), c, d) }, nil
}

// putBack gives a server the setting that it had, unless somebody else has changed it meanwhile, and strikes the debt out. It returns what
// a person has to know; empty: all is as it was.
func (m *Machine) putBack(ctx context.Context, c *conn, d journal.Debt) string {
	now, err := c.Setting(ctx, d.Setting)
	if err == nil && now == d.Set {
		err = c.SetConfig(ctx, d.Setting, d.Was)
	}
	if err == nil {
		m.h.step("given back")
		err = m.h.opt.Journal.Settle(ctx, d)
	}
	if err != nil {
		m.log.Error("a setting could not be put back yet", "node", d.Node, "setting", d.Setting, "was", d.Was, "err", err)
		return fmt.Sprintf("%s of %s is still %s and was %s: it will be put back when the node can be reached (%v)", d.Setting, d.Node, d.Set, d.Was, err)
	}
	return ""
}

// settleDebts puts back what actions of processes that are gone left changed. What cannot be reached now is tried again later.
func (h *Healer) settleDebts(ctx context.Context) error {
	debts, err := h.opt.Journal.Debts(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range debts {
		m := h.machine(d.Instance)
		if m == nil || h.opt.DryRun {
			h.log.Warn("a setting that an interrupted action changed is still to be put back", "instance", d.Instance, "node", d.Node, "setting", d.Setting, "was", d.Was, "is", d.Set)
			continue
		}
		if err := m.settleDebt(ctx, d); err != nil {
			errs = append(errs, fmt.Errorf("put back %s of %s/%s: %w", d.Setting, d.Instance, d.Node, err))
		}
	}
	return errors.Join(errs...)
}

func (m *Machine) settleDebt(ctx context.Context, d journal.Debt) error {
	unlock, err := m.h.opt.Journal.Lock(ctx, m.in.Name)
	if errors.Is(err, journal.ErrLocked) {
		return nil // the action that owes it is under way
	}
	if err != nil {
		return err
	}
	defer unlock()
	n, ok := m.in.Node(d.Node)
	if !ok {
		m.log.Warn("a setting is still to be put back, and its node is no longer in the config", "node", d.Node, "setting", d.Setting, "was", d.Was)
		return nil
	}
	s := m.probers[n.Name].Probe(ctx)
	switch {
	case s.Reach != policies.ReachUp:
		return nil // tried again
	case s.RunID != d.RunID:
		m.noteRecord(ctx, d.Record, fmt.Sprintf("%s restarted since: %s is what its config file says", d.Node, d.Setting))
		return m.h.opt.Journal.Settle(ctx, d)
	}
	rc := &recorder{each: func(c policies.CommandRecord) { m.recordCommand(ctx, d.Record, c) }}
	c, err := open(m.in, n, m.pass, []string{"config", "info"}, rc)
	if err != nil {
		return err
	}
	defer c.Close()
	if own, err := c.Info(ctx); err != nil || own.RunID != d.RunID {
		return err // it leads elsewhere now: tried again
	}
	if left := m.putBack(ctx, c, d); left != "" {
		return errors.New(left)
	}
	m.h.say(m.in.Name, "%s of %s was put back to %s: the action that had changed it was interrupted (record %s)", d.Setting, d.Node, d.Was, d.Record)
	m.noteRecord(ctx, d.Record, fmt.Sprintf("%s of %s was put back to %s after the interruption", d.Setting, d.Node, d.Was))
	return nil
}
