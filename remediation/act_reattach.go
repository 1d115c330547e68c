package remediation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/reattach"
)

// reattach makes the replica follow its master again, by the one command of the plan, and waits for the proof.
func (m *Machine) reattach(ctx context.Context, l look, p *policies.Plan, req request, rc *recorder) result {
	xn, _ := m.in.Node(p.Node)
	// Connected beforehand: little but a round trip lies between the last look and the command.
	permit := []string{"info"}
	for _, command := range p.Commands {
		permit = append(permit, strings.ToLower(m.in.Renamed.Own(command[0])))
	}
	c, r := m.connect(ctx, l, xn, permit, rc)
	if r.outcome != "" {
		return r
	}
	defer c.Close()
	m.h.step("connected")
	fresh, denied := m.lastLook(ctx, l, p, req)
	if denied.outcome != "" {
		return denied
	}
	m.h.step("looked")
	before, err := m.stillTheSame(ctx, c, fresh, xn, req)
	if err != nil {
		return result{outcome: policies.OutcomeDenied, err: err, denied: []policies.Guard{policies.GuardIdentity}}
	}
	settings := m.h.remembered(m.in.Name, xn.Name).Followed.Settings
	m.h.step("asked")
	may := m.permission(fresh, req, policies.ReattachReplica)
	if off := may.off(ctx); off.outcome != "" {
		return off
	}
	// Once it is on its way the command is not called off by our own end: its effect is read back whatever happens.
	rc.hold()
	defer rc.release()
	at, err := m.sendReattach(context.WithoutCancel(ctx), c, p)
	switch {
	case unsupported(err):
		return result{outcome: policies.OutcomeUnsupported, err: fmt.Errorf("%s does not allow it; grant +%s to the user %q: %w", xn.Name, right(p), m.in.Username, err)}
	case errors.Is(err, reattach.ErrNothingHappened), errors.Is(err, reattach.ErrNoLink), refused(err):
		return result{outcome: policies.OutcomeFailed, err: err, sent: true}
	}
	m.h.step("sent")
	if !kills(p) {
		if off := m.secondThoughts(context.WithoutCancel(ctx), c, fresh, xn, before, at, req, permit, rc); off.outcome != "" {
			return off
		}
	}
	rc.release()
	m.h.step("recorded")
	r = m.verifyReattach(ctx, fresh, p, xn)
	if r.outcome != policies.OutcomeSucceeded && err != nil {
		r.err = errors.Join(err, r.err)
	}
	m.h.step("verified")
	if r.outcome == policies.OutcomeSucceeded {
		m.afterReattach(context.WithoutCancel(ctx), c, p, settings, may, &r)
	}
	return r
}

// secondThoughts looks right after the command at what nothing could be known of before it: what the replica was at that very moment, and
// whether the master still is one. Where somebody else acted or wrote in that instant, the command is called off.
func (m *Machine) secondThoughts(ctx context.Context, c *conn, fresh look, xn policies.Node, before, at policies.Snapshot, req request, permit []string, rc *recorder) result {
	if at.RunID == "" { // the answer was lost: whether the command was carried out is not known
		again, r := m.connect(ctx, fresh, xn, permit, rc)
		if r.outcome != "" {
			return result{}
		}
		defer again.Close()
		now, err := again.Info(ctx)
		if err != nil || now.Replication.Role != policies.RoleReplica || now.Replication.LinkUp.Or(false) || now.Loading.Or(false) {
			return result{}
		}
		// Until a copy has been loaded the counters are those of the moment of the command.
		c, at = again, now
		at.Replication.Role, at.Replication.MasterHost, at.Replication.MasterPort = before.Replication.Role, before.Replication.MasterHost, before.Replication.MasterPort
	}
	if why := policies.Moved(before, at); why != "" {
		return m.callOff(ctx, c, xn, before, at, why)
	}
	if req.allowLost != xn.Name && policies.Wrote(before, at) {
		return m.callOff(ctx, c, xn, before, at, "it took a write")
	}
	mn := m.in.Master()
	was, _ := fresh.group.Of(mn.Name)
	if now := m.probers[mn.Name].Probe(ctx); now.Reach.Answers() && (now.RunID != was.RunID || now.Replication.Role != policies.RoleMaster) {
		return m.callOff(ctx, c, xn, before, at, fmt.Sprintf("the master %s is no longer what it was (run id %.8s, %s)", mn.Name, now.RunID, following(now.Replication)))
	}
	return result{}
}

// sendReattach sends the plan's command and returns what the replica was at that moment, where a write would be lost by it.
func (m *Machine) sendReattach(ctx context.Context, c *conn, p *policies.Plan) (at policies.Snapshot, err error) {
	if kills(p) {
		return at, reattach.Reconnect(ctx, c)
	}
	return reattach.Send(ctx, c, m.in.Master().Peer())
}

// right is the ACL rule that the plan's first command needs.
func right(p *policies.Plan) string {
	if kills(p) {
		return "client|kill"
	}
	return "replicaof"
}

// kills reports a plan that only makes a half-open link connect again.
func kills(p *policies.Plan) bool { return p.Cause == policies.CauseStuckLink }

// stillTheSame reads the master once more, and then the replica on the very connection that the command will take, right before it: a
// restart, a write, a failover or a person's REPLICAOF since the last look shows here.
func (m *Machine) stillTheSame(ctx context.Context, c *conn, l look, xn policies.Node, req request) (policies.Snapshot, error) {
	mn := m.in.Master()
	before, _ := l.group.Of(mn.Name)
	now := m.probers[mn.Name].Probe(ctx)
	b, n := before.Replication, now.Replication
	if now.Reach != policies.ReachUp || now.RunID != before.RunID || n.Role != policies.RoleMaster || n.ReplID != b.ReplID ||
		n.Offset.Or(0) < b.Offset.Or(0) || policies.ClearlyFewer(now.Keys().Or(0), before.Keys().Or(0)) {
		return now, fmt.Errorf("%w: the master %s is not what it was at the last look a moment ago (%s, run id %.8s, role %s, %s keys)", errDenied, mn.Name, now.Reach, now.RunID, n.Role, now.Keys())
	}
	own, err := c.Info(ctx)
	if err != nil {
		return own, fmt.Errorf("%w: %s cannot be asked what it is: %w", errDenied, xn.Name, err)
	}
	x, _ := l.group.Of(xn.Name)
	a, o := x.Replication, own.Replication
	switch {
	case own.RunID != x.RunID:
		return own, fmt.Errorf("%w: %s restarted since the last look", errDenied, xn.Name)
	case o.Role != a.Role || o.MasterHost != a.MasterHost || o.MasterPort != a.MasterPort:
		return own, fmt.Errorf("%w: %s is %s now and was %s at the last look: somebody changed it in between", errDenied, xn.Name, following(o), following(a))
	case policies.Wrote(x, own) && req.allowLost != xn.Name:
		return own, fmt.Errorf("%w: %s took writes since the last look (offset %s, was %s)", errDenied, xn.Name, o.Offset, a.Offset)
	}
	return own, nil
}

func following(r policies.Replication) string {
	if r.Role == policies.RoleReplica {
		return fmt.Sprintf("a replica of %s:%d", r.MasterHost, r.MasterPort)
	}
	return "a " + string(r.Role)
}

// callOff undoes the command: the node becomes again what it was at that very moment, a master or the replica of another. Until the copy
// that begins has been loaded a node still holds all its data. A copy that was quicker has replaced them, and that is said aloud.
func (m *Machine) callOff(ctx context.Context, c *conn, xn policies.Node, before, at policies.Snapshot, why string) result {
	o := at.Replication
	undo := c.Detach
	if o.Role == policies.RoleReplica {
		undo = func(ctx context.Context) error {
			_, _, err := c.ReplicaOf(ctx, policies.Address{Host: o.MasterHost, Port: o.MasterPort})
			return err
		}
	}
	err := undo(ctx)
	after, readErr := c.Info(ctx)
	a := after.Replication
	kept := err == nil && readErr == nil && a.Role == o.Role && a.MasterHost == o.MasterHost && a.MasterPort == o.MasterPort &&
		(o.Role != policies.RoleMaster || a.ReplID2 == o.ReplID)
	r := result{outcome: policies.OutcomeDenied, sent: true, denied: []policies.Guard{policies.GuardNoLostWrites},
		after: map[string]any{xn.Name: nodeFacts(withReach(after, readErr))},
		effect: map[string]any{"called_off": kept, "changes_before": before.Persistence.ChangesSinceLastSave, "changes_at_command": at.Persistence.ChangesSinceLastSave,
			"keys_at_command": at.Keys(), "keys_after": after.Keys(), "master_repl_offset_at_command": o.Offset},
		err: fmt.Errorf("%w: in the very instant of the command for %s %s; it was called off: it is %s again and holds %s keys, it held %s", errDenied, xn.Name, why, following(a), after.Keys(), at.Keys())}
	if policies.Moved(before, at) != "" {
		r.denied = []policies.Guard{policies.GuardIdentity}
	}
	if !kept {
		r.outcome, r.denied = policies.OutcomeFailed, nil
		r.err = errors.Join(fmt.Errorf("in the very instant of REPLICAOF on %s %s, and calling it off came too late or failed: what it took from offset %s to %s is lost; it is %s with %s keys; a person has to look now", xn.Name, why, before.Replication.Offset, o.Offset, following(a), after.Keys()), err, readErr)
	}
	return r
}

// withReach marks what was read over the action's own connection as read.
func withReach(s policies.Snapshot, err error) policies.Snapshot {
	s.Reach = policies.ReachUp
	if err != nil {
		s.Reach, s.Err = policies.ReachOdd, err.Error()
	}
	return s
}

// verifyReattach waits for the proof; a process that is stopping looks once more and leaves the rest to the next start.
func (m *Machine) verifyReattach(ctx context.Context, l look, p *policies.Plan, xn policies.Node) result {
	if err := m.life.to(ctx, eventSent); err != nil {
		return result{outcome: policies.OutcomeFailed, err: err, sent: true}
	}
	mn := m.in.Master()
	before, _ := l.group.Of(mn.Name)
	replica := func(ctx context.Context) policies.Snapshot {
		m.h.step("verifying")
		return m.probers[xn.Name].Probe(ctx)
	}
	v := reattach.Verify{Replica: replica, Master: m.probers[mn.Name].Probe, ReplicaNode: xn, MasterNode: mn, Before: before}
	proof, err := v.Run(ctx)
	if ctx.Err() != nil && !proof.Attached {
		proof = lastProof(ctx, v)
		if proof.Attached {
			err = nil
		}
	}
	r := result{sent: true, after: map[string]any{xn.Name: nodeFacts(proof.Replica), mn.Name: nodeFacts(proof.Master)}, effect: effectOf(p, before, proof)}
	switch {
	case err == nil:
		r.outcome = policies.OutcomeSucceeded
		r.said = fmt.Sprintf("link up after %s by a %v resync (%s predicted), same history as %s, %s keys there and %s here", proof.LinkUpAfter.Round(time.Millisecond), r.effect["resync"], p.Expect.Resync, mn.Name, proof.Master.Keys(), proof.Replica.Keys())
	case ctx.Err() != nil:
		r.outcome, r.err = policies.OutcomeInterrupted, fmt.Errorf("%s was sent and the process is stopping: %s", p.Commands[0][0], proof.Why)
	default:
		r.outcome, r.err = policies.OutcomeFailed, err
	}
	return r
}

// effectOf compares what was predicted with what the servers show.
func effectOf(p *policies.Plan, before policies.Snapshot, proof reattach.Proof) map[string]any {
	seen := resyncSeen(before, proof.Master)
	e := map[string]any{"predicted": p.Expect.Resync, "resync": seen, "link_up_after": proof.LinkUpAfter.Seconds(), "attached": proof.Attached, "persistent": false,
		"master_keys": proof.Master.Keys(), "replica_keys": proof.Replica.Keys()}
	if seen != "unknown" {
		e["as_predicted"] = seen == string(p.Expect.Resync)
	}
	if a, b := proof.Master.Replication.Offset, proof.Replica.Replication.ReplicaOffset; a.Known && b.Known && proof.Attached {
		e["lag_bytes"] = max(0, a.V-b.V)
	}
	return e
}

// afterReattach checks what a repair must not cost the replica, and makes it last where the policy says so. What goes wrong here is said
// and does not make the repair a failure: the replica follows its master.
func (m *Machine) afterReattach(ctx context.Context, c *conn, p *policies.Plan, settings policies.ReplicaSettings, may *permission, r *result) {
	x := m.probers[p.Node].ProbeDeep(ctx)
	if changed := settings.Changed(policies.SettingsOf(x)); len(changed) > 0 {
		r.effect["settings_changed"] = changed
		r.said += "; its settings are not those with which it last followed: " + strings.Join(changed, ", ")
	}
	if r.effect["resync"] == string(policies.ResyncFull) {
		m.h.forgetWritable(ctx, m.in.Name, p.Node)
	}
	switch {
	case kills(p):
		delete(r.effect, "persistent") // nothing changed that a restart could undo
	case !m.pol.Reattach.ConfigRewrite:
		r.said += "; not written to its config file: CONFIG REWRITE is a person's decision (config_rewrite)"
	default:
		if err := may.ask(ctx); err != nil {
			r.effect["config_rewrite"] = clip(err.Error())
			r.said += "; CONFIG REWRITE was not sent, so that a restart undoes the repair: " + clip(err.Error())
			return
		}
		if err := c.Rewrite(ctx); err != nil {
			r.effect["config_rewrite"] = clip(err.Error())
			r.said += "; CONFIG REWRITE was refused, so that a restart undoes the repair: " + clip(err.Error())
			return
		}
		r.effect["persistent"] = true
		r.said += "; written to its config file"
	}
}

// lastProof looks once more, for a second at the most, when the process is stopping.
func lastProof(ctx context.Context, v reattach.Verify) reattach.Proof {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	p := reattach.Proof{Replica: v.Replica(ctx), Master: v.Master(ctx)}
	p.Why = v.Attached(p.Replica, p.Master)
	p.Attached = p.Why == ""
	return p
}

// resyncSeen is the kind of copy that the master counted; a restart in between, or both kinds at once, make it unknown.
func resyncSeen(before, after policies.Snapshot) string {
	a, b := before.Stats, after.Stats
	full, partial := b.SyncFull.V-a.SyncFull.V, b.SyncPartialOK.V-a.SyncPartialOK.V
	switch {
	case before.RunID != after.RunID || !a.SyncFull.Known || !b.SyncFull.Known || !a.SyncPartialOK.Known || !b.SyncPartialOK.Known:
		return "unknown"
	case full > 0 && partial == 0:
		return string(policies.ResyncFull)
	case partial > 0 && full == 0:
		return string(policies.ResyncPartial)
	}
	return "unknown"
}

// addLoss says what a person gave up by hand.
func (r *result) addLoss(req request, l look, p *policies.Plan) {
	if req.allowLost != p.Node || !r.sent {
		return
	}
	x, _ := l.group.Of(p.Node)
	if r.effect == nil {
		r.effect = map[string]any{}
	}
	r.effect["bypassed"] = []policies.Guard{policies.GuardNoLostWrites}
	r.effect["lost"] = map[string]any{"node": p.Node, "keys_held": x.Keys(), "own_bytes": policies.OwnBytes(x.Replication), "master_repl_offset": x.Replication.Offset, "second_repl_offset": x.Replication.SecondOffset}
}
