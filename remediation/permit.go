package remediation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dcshealer/policies"
)

// standing are the guards that can turn while an action runs; the action itself watches the server.
var standing = []policies.Guard{policies.GuardMode, policies.GuardPause, policies.GuardWindow, policies.GuardTilt}

// permission is asked right before each command of an action that is under way: a person may have stopped it since. Asking costs little:
// what was read of the journal is believed for permitFor as long as nobody writes to it.
type permission struct {
	m      *Machine
	l      look
	req    request
	action policies.Action

	version int64
	asked   time.Time
	denied  []policies.Ruling // of the last asking that denied
	began   bool              // it may have sent something
}

// permitFor bounds how long an answer is believed.
const permitFor = time.Second

func (m *Machine) permission(l look, req request, a policies.Action) *permission {
	return &permission{m: m, l: l, req: req, action: a}
}

// ask is an error, with the rulings in denied, when the action may not go on.
func (p *permission) ask(ctx context.Context) (err error) {
	if !p.began && p.m.retired() {
		// What is under way is finished by the settings it began with; what has not begun is decided anew.
		p.denied = []policies.Ruling{policies.Rule(policies.GuardMode, policies.Verdict{Temporary: true, Reason: "the config was changed meanwhile: it is decided anew"})}
		return fmt.Errorf("%s: %s", policies.GuardMode, p.denied[0].Reason)
	}
	if err = p.stands(ctx); err == nil {
		p.began = true
	}
	return err
}

// stands is an error when a guard that can turn while the action runs denies now.
func (p *permission) stands(ctx context.Context) (err error) {
	now := time.Now()
	version, err := p.m.h.opt.Journal.Version(ctx)
	age := now.Sub(p.asked)
	if err == nil && len(p.denied) == 0 && version == p.version && age < permitFor {
		return nil
	}
	p.version, p.asked = version, now // an error is told by what is read next
	p.denied, err = p.m.standingDenials(ctx, p.l, p.req, p.action)
	return err
}

// off is the result of an action that was stopped before it sent anything; its outcome is empty where it may go on.
func (p *permission) off(ctx context.Context) result {
	err := p.ask(ctx)
	switch {
	case ctx.Err() != nil:
		return stopping(ctx)
	case err != nil:
		return result{outcome: policies.OutcomeDenied, err: fmt.Errorf("%w: %w", errDenied, err), guards: p.denied, denied: guardsOf(p.denied), held: true}
	}
	return result{}
}

// standingDenials asks the guards that can turn while an action runs.
func (m *Machine) standingDenials(ctx context.Context, l look, req request, a policies.Action) (denied []policies.Ruling, err error) {
	s, _ := l.group.Of(req.fault.Node)
	now := time.Now()
	f := policies.Facts{Now: now, Instance: m.in, Policy: m.pol, Action: a, Target: s, Planned: s, Tilt: m.h.tilt.reason(now), Mode: policies.DryRun}
	f.ControlErr = m.readControls(ctx, &f, req)
	for _, r := range policies.CommonGuards(f) {
		if slices.Contains(standing, r.Guard) && r.Denied() {
			denied = append(denied, r)
			err = errors.Join(err, fmt.Errorf("%s: %s", r.Guard, r.Reason))
		}
	}
	return denied, err
}

func guardsOf(rulings []policies.Ruling) (out []policies.Guard) {
	for _, r := range rulings {
		out = append(out, r.Guard)
	}
	return out
}
