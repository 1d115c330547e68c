package remediation

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// errDenied is a guard's denial right before a command.
var errDenied = errors.New("denied right before the command")

// result is what came of an action.
type result struct {
	outcome policies.Outcome
	err     error
	guards  []policies.Ruling // of the last asking, when it denied
	denied  []policies.Guard
	effect  map[string]any
	after   map[string]any
	sent    bool // a command that changes something went out
	held    bool // denied for reasons that time or a setting lifts
	said    string
}

// act carries out a permitted plan: the intent is durable before the first command, the guards are asked again right
// before it, and the result is written after. again asks for another plan.
func (m *Machine) act(ctx context.Context, l look, inc *incident, p *policies.Plan, req request) (again bool, err error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	unlock, err := m.h.opt.Journal.Lock(ctx, m.in.Name)
	if err != nil {
		return false, m.holdFor(ctx, l, inc, p, policies.GuardBusy, "busy: "+err.Error())
	}
	defer unlock()
	rec := m.record(l, inc, p)
	rec.Outcome = policies.OutcomeRunning
	m.h.step("decided")
	if m.retired() {
		return false, nil // by another config now, which decides anew
	}
	id, err := m.h.opt.Journal.Begin(ctx, rec)
	if err != nil {
		return false, m.holdFor(ctx, l, inc, p, "journal", "the journal cannot be written, and nothing is done without a record: "+err.Error())
	}
	m.h.step("intended")
	inc.record, req.record, inc.signature = id, id, ""
	if err := errors.Join(m.toPlanning(ctx), m.life.to(ctx, eventPermit)); err != nil {
		return false, errors.Join(err, m.finish(ctx, inc, id, p, result{outcome: policies.OutcomeFailed, err: err}, nil))
	}
	m.sayDiagnosis(inc)
	m.h.say(m.in.Name, "plan (%s): %s", p.Mode, describe(p))
	r, commands := m.carryOut(ctx, l, p, req)
	if err := m.finish(ctx, inc, id, p, r, commands); err != nil {
		return false, errors.Join(err, m.life.to(ctx, eventEscalate))
	}
	return m.conclude(ctx, inc, r)
}

// carryOut runs the plan's action. It returns the commands that are not in the record yet.
func (m *Machine) carryOut(ctx context.Context, l look, p *policies.Plan, req request) (result, []policies.CommandRecord) {
	req.planned, _ = l.group.Of(p.Node)
	req.plannedMaster, _ = l.group.Of(m.in.Master().Name)
	rc := &recorder{each: func(c policies.CommandRecord) { m.recordCommand(ctx, req.record, c) }}
	switch p.Action {
	case policies.ReclaimExpired:
		return m.reclaim(ctx, l, p, req, rc), rc.summed()
	case policies.PurgeMemory:
		return m.purge(ctx, l, p, req, rc), nil
	case policies.EvictNearExpiry:
		return m.evict(ctx, l, p, req, rc), nil
	case policies.KillIdleClients:
		return m.killIdle(ctx, l, p, req, rc), nil
	}
	r := m.reattach(ctx, l, p, req, rc)
	r.addLoss(req, l, p)
	return r, nil
}

// recordCommand writes a command down as soon as its reply is here.
func (m *Machine) recordCommand(ctx context.Context, id string, c policies.CommandRecord) {
	if err := m.h.opt.Journal.Command(ctx, id, c); err != nil {
		m.log.Error("command could not be journalled", "record", id, "err", err)
	}
}

// holdFor keeps a plan waiting for what no guard could see beforehand. It is said and written down once, and tried again at
// each round.
func (m *Machine) holdFor(ctx context.Context, l look, inc *incident, p *policies.Plan, by policies.Guard, text string) error {
	reason := "waits for " + string(by)
	if inc.signature == reason {
		return nil
	}
	inc.signature = reason
	if err := m.toPlanning(ctx); err != nil {
		return err
	}
	m.sayDiagnosis(inc)
	m.h.say(m.in.Name, "held: %s", text)
	m.log.Warn("plan is held", "guard", by, "reason", text)
	rec := m.record(l, inc, p)
	rec.Outcome, rec.DeniedBy, rec.Error = policies.OutcomeDenied, []policies.Guard{by}, text
	m.write(ctx, inc, rec)
	m.rest(inc, policies.StateHeld)
	return m.life.to(ctx, eventHold)
}

// finish writes the result down, counts it with the breakers and says it.
func (m *Machine) finish(ctx context.Context, inc *incident, id string, p *policies.Plan, r result, commands []policies.CommandRecord) error {
	res := journal.Result{Outcome: r.outcome, Finished: time.Now(), After: r.after, Effect: r.effect, Commands: commands, Guards: r.guards, DeniedBy: r.denied}
	if r.err != nil {
		res.Error = r.err.Error()
	}
	m.h.rested.since(id, res.Finished, res.Finished)
	m.h.step("finishing")
	err := m.h.opt.Journal.Finish(ctx, id, res)
	m.h.step("finished")
	if err != nil {
		m.log.Error("result could not be journalled", "record", id, "outcome", r.outcome, "err", err)
	}
	// A record without its result is closed as interrupted later, and counted then; one that our own end called off before
	// anything was sent says nothing of the repair.
	if err == nil && (r.sent || r.outcome != policies.OutcomeInterrupted) {
		if berr := m.h.breakers.report(context.WithoutCancel(ctx), m.in.Name, p.Action, r.outcome); berr != nil {
			m.log.Error("breaker did not count", "action", p.Action, "err", berr)
		}
	}
	text := r.said
	if r.err != nil {
		text = r.err.Error()
	}
	m.h.say(m.in.Name, "result: %s: %s on %s: %s (record %s)", r.outcome, p.Action, p.Node, text, id)
	m.log.Info("action ended", "action", p.Action, "node", p.Node, "outcome", r.outcome, "record", id, "incident", inc.id)
	return err
}

// conclude moves the Machine on by the outcome.
func (m *Machine) conclude(ctx context.Context, inc *incident, r result) (again bool, err error) {
	if !r.sent {
		// Diagnosed and asked anew at the next round; what time lifts needs no person.
		m.rest(inc, policies.StateEscalated)
		if r.held {
			m.rest(inc, policies.StateHeld)
		}
		if r.outcome == policies.OutcomeUnsupported {
			inc.given = inc.fault.Cause
		}
		return false, m.life.to(ctx, eventEscalate)
	}
	if m.life.state() == policies.StateActing {
		if err := m.life.to(ctx, eventSent); err != nil {
			return false, err
		}
	}
	switch r.outcome {
	case policies.OutcomeSucceeded:
		inc.watch = time.Now().Add(watchFor)
		m.rest(inc, policies.StateCooldown)
		return false, m.life.to(ctx, eventFixed)
	case policies.OutcomeIneffective, policies.OutcomeFailed, policies.OutcomeDenied:
		return ctx.Err() == nil, m.life.to(ctx, eventNext)
	}
	m.rest(inc, policies.StateEscalated)
	return false, m.life.to(ctx, eventEscalate)
}

// lastLook probes the nodes that matter once more and asks every guard again: the last step before a command. A node that hangs
// elsewhere in the instance must not make this evidence old, so the others stay as they were seen.
func (m *Machine) lastLook(ctx context.Context, l look, p *policies.Plan, req request) (look, result) {
	fresh := look{group: policies.Group{Instance: m.in, Snapshots: slices.Clone(l.group.Snapshots), Courses: l.group.Courses, Linked: l.group.Linked, MasterUp: l.group.MasterUp}, earlier: l.group,
		agreed: map[string]bool{}, memory: l.memory}
	target, _ := m.in.Node(p.Node)
	m.probeInto(ctx, fresh.group, Prober.ProbeDeep, target, m.in.Master())
	m.learn(&fresh.group)
	fresh.at = time.Now()
	fresh.findings, fresh.faults = m.judge(fresh.group, slowCommands{}, fresh.at)
	for i, f := range fresh.faults {
		if f.Metric == policies.MetricUsedMemory {
			f.Cause = req.fault.Cause // where the memory is was diagnosed a moment ago, and takes a count
			fresh.faults[i] = f
		}
		if f.same(req.fault) {
			fresh.agreed[f.key()] = true
		}
	}
	now := m.plan(ctx, fresh, req)
	switch {
	case ctx.Err() != nil:
		return fresh, stopping(ctx)
	case now == nil || !reflect.DeepEqual(now.Commands, p.Commands):
		return fresh, result{outcome: policies.OutcomeDenied, err: fmt.Errorf("%w: the plan changed", errDenied), denied: []policies.Guard{policies.GuardConfirmed}}
	case !now.Permitted:
		return fresh, result{outcome: policies.OutcomeDenied, err: fmt.Errorf("%w: %s", errDenied, denials(now)), guards: now.Guards, denied: now.DeniedBy, held: now.Held()}
	}
	return fresh, result{}
}

// stopping is the result of an action that our own end called off before it sent anything.
func stopping(ctx context.Context) result {
	return result{outcome: policies.OutcomeInterrupted, err: fmt.Errorf("the process is stopping, nothing was sent: %w", ctx.Err())}
}

// connect opens the action's own connection and makes sure that it leads to the server that was diagnosed.
func (m *Machine) connect(ctx context.Context, l look, n policies.Node, permit []string, rc *recorder) (*conn, result) {
	c, err := open(m.in, n, m.pass, permit, rc)
	if err != nil {
		return nil, result{outcome: policies.OutcomeFailed, err: err}
	}
	r := m.sameServer(ctx, c, l, n)
	if m.pass.Met(c.pass, r.err) { // the file and the server are changed one after the other
		_ = c.Close()
		if c, err = open(m.in, n, m.pass, permit, rc); err != nil {
			return nil, result{outcome: policies.OutcomeFailed, err: err}
		}
		r = m.sameServer(ctx, c, l, n)
	}
	if r.outcome != "" {
		_ = c.Close()
		return nil, r
	}
	return c, result{}
}

// sameServer compares run ids. A moved address, a load balancer or a service name can lead elsewhere than the probes' connection.
func (m *Machine) sameServer(ctx context.Context, c *conn, l look, n policies.Node) result {
	s, _ := l.group.Of(n.Name)
	now, err := c.Info(ctx)
	switch {
	case ctx.Err() != nil:
		return stopping(ctx)
	case err != nil:
		return result{outcome: policies.OutcomeFailed, err: fmt.Errorf("connect to %s/%s at %s: %w", m.in.Name, n.Name, n.Address, err)}
	case now.RunID != s.RunID:
		return result{outcome: policies.OutcomeDenied, denied: []policies.Guard{policies.GuardIdentity},
			err: fmt.Errorf("%w: %s leads to another server (run id %.8s) than the one diagnosed (%.8s): check the address of %s", errDenied, n.Address, now.RunID, s.RunID, n.Name)}
	}
	return result{}
}
