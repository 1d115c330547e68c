package remediation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"dcshealer/policies"
)

// listTimeout bounds what a plan does to learn who is connected; a slot that is free for a moment is waited for.
const listTimeout = 1500 * time.Millisecond

// planKill reads who is connected, over a connection that refuses all but reads and is closed again.
func (m *Machine) planKill(ctx context.Context, l look, r request) *policies.Plan {
	s, _ := l.group.Of(r.fault.Node)
	clients, own, err := m.listClients(ctx, r.fault.Node)
	f := policies.KillFacts{Facts: m.facts(ctx, l, r, policies.KillIdleClients, s), S: s, Clients: clients, Own: own, ListErr: err, Full: noSlot(err)}
	f.Evidence = []policies.Snapshot{s}
	p := policies.PlanKill(f, r.fault.Cause)
	return &p
}

// listClients tries again while every connection of the node is taken: clients come and go.
func (m *Machine) listClients(ctx context.Context, node string) (clients []policies.Client, own policies.OwnClients, err error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	n, _ := m.in.Node(node)
	for {
		taken := err
		clients, own, err = m.listOnce(ctx, n)
		if err != nil && taken != nil && ctx.Err() != nil {
			return nil, own, taken // the time was over before a slot was free
		}
		if !noSlot(err) || wait(ctx, 100*time.Millisecond) != nil {
			return clients, own, err
		}
	}
}

func (m *Machine) listOnce(ctx context.Context, n policies.Node) ([]policies.Client, policies.OwnClients, error) {
	c, err := open(m.in, n, m.pass, []string{"client"}, &recorder{each: func(policies.CommandRecord) {}})
	if err != nil {
		return nil, policies.OwnClients{}, err
	}
	defer c.Close()
	c.readOnly()
	own, err := m.own(ctx, c)
	if err != nil {
		return nil, own, err
	}
	clients, err := c.ClientList(ctx)
	return clients, own, err
}

// own is how our connections to a node are told.
func (m *Machine) own(ctx context.Context, c *conn) (policies.OwnClients, error) {
	id, err := c.ClientID(ctx)
	return policies.OwnClients{ID: id, User: m.in.Username}, err
}

// killIdle closes idle clients one by one until the target, the most at a time, or until none is left that may be closed. The guards are
// asked before the action's own connection is opened: on a node whose connections are nearly all taken two at once may not be had. What
// they were asked about is asked again on it, client by client.
func (m *Machine) killIdle(ctx context.Context, l look, p *policies.Plan, req request, rc *recorder) result {
	n, _ := m.in.Node(p.Node)
	fresh, denied := m.lastLook(ctx, l, p, req)
	if denied.outcome != "" {
		return denied
	}
	m.h.step("looked")
	c, off := m.connect(ctx, fresh, n, []string{"client", "info"}, rc)
	if noSlot(off.err) {
		return result{outcome: policies.OutcomeDenied, denied: []policies.Guard{policies.GuardVictims}, held: true,
			err: fmt.Errorf("%w: no connection of %s is left to close others by; it is tried again: %w", errDenied, n.Name, off.err)}
	}
	if off.outcome != "" {
		return off
	}
	defer c.Close()
	before, _ := fresh.group.Of(p.Node)
	own, err := m.own(ctx, c)
	if err != nil {
		return result{outcome: policies.OutcomeFailed, err: err}
	}
	k := &killing{c: c, m: m, l: fresh, req: req, own: own, before: before, spared: map[policies.Spared]int{}, tried: map[int64]bool{}, started: time.Now(),
		may: m.permission(fresh, req, policies.KillIdleClients)}
	err = k.run(ctx)
	for _, sum := range rc.summed() {
		rc.each(sum)
	}
	_ = c.Close() // it would count as connected
	if len(k.tried) == 0 {
		return k.nothing(ctx, n, err)
	}
	if err := m.life.to(ctx, eventSent); err != nil {
		return result{outcome: policies.OutcomeFailed, err: err, sent: true}
	}
	return k.judge(ctx, p, err)
}

// killing is one kill-idle-clients under way.
type killing struct {
	c       *conn
	m       *Machine
	l       look
	req     request
	own     policies.OwnClients
	before  policies.Snapshot
	started time.Time

	first  policies.Victims // of the first list
	listed time.Time        // when the newest list was asked for
	rest   time.Duration    // between two whole lists
	spared map[policies.Spared]int
	may    *permission
	stop   killStop
	tried  map[int64]bool   // ids that CLIENT KILL was sent for: none is sent twice
	closed []map[string]any // the first few of them
	killed int64
	gone   int64 // were no longer there
}

// killStop says why no more clients are closed.
type killStop string

const (
	stopTarget    killStop = "target"
	stopMost      killStop = "max-clients"
	stopNone      killStop = "none-left"
	stopDenied    killStop = "denied"
	stopCancelled killStop = "cancelled"
	stopDeadline  killStop = "deadline"
	stopError     killStop = "error"
)

// A list is believed for so many kills, and for so long. Before each kill its client is asked for once more.
const (
	killsPerList = 20
	listFor      = time.Second
	killFor      = 30 * time.Second
)

// run lists, chooses and closes until there is a reason to stop.
func (k *killing) run(ctx context.Context) error {
	for round := 0; ; round++ {
		k.listed = time.Now()
		all, err := k.c.ClientList(ctx)
		if err != nil {
			return k.ended(ctx, err)
		}
		kill := k.m.pol.Kill
		rules := policies.NewKillRules(kill, k.own, all)
		all = slices.DeleteFunc(all, func(c policies.Client) bool { return k.tried[c.ID] })
		v := rules.Choose(all, k.before.Clients.Max.V, kill.MaxClients-int64(len(k.tried)))
		if round == 0 {
			k.first = v
			maps.Copy(k.spared, v.Spared)
		}
		if k.stop = k.over(v); k.stop != "" {
			return nil
		}
		k.m.h.step("listed")
		if err := k.batch(ctx, rules, v.Close[:min(len(v.Close), killsPerList)]); err != nil {
			return k.ended(ctx, err)
		}
	}
}

// over says why nothing more is to be done with what the newest list shows.
func (k *killing) over(v policies.Victims) killStop {
	switch {
	case v.Connected <= v.Target:
		return stopTarget
	case int64(len(k.tried)) >= k.m.pol.Kill.MaxClients:
		return stopMost
	case v.Qualify == 0:
		return stopNone
	case time.Since(k.started) > killFor:
		return stopDeadline
	}
	return ""
}

func (k *killing) ended(ctx context.Context, err error) error {
	switch k.stop = stopError; {
	case ctx.Err() != nil:
		k.stop, err = stopCancelled, ctx.Err()
	case len(k.may.denied) > 0:
		k.stop = stopDenied
	}
	return err
}

// batch closes clients of one list while it is young.
func (k *killing) batch(ctx context.Context, rules policies.KillRules, victims []policies.Client) error {
	for _, v := range victims {
		if time.Since(k.listed) > listFor {
			return nil
		}
		still, err := k.still(ctx, rules, v)
		if err != nil {
			return err
		}
		if !still {
			continue
		}
		if err := k.may.ask(ctx); err != nil || ctx.Err() != nil {
			return cmpErr(ctx.Err(), err)
		}
		// Once it is on its way it is not called off: its answer tells whether the client is gone.
		n, err := k.c.KillClient(context.WithoutCancel(ctx), v.ID)
		if !unsupported(err) {
			k.tried[v.ID] = true
		}
		if err != nil {
			return err
		}
		k.note(v, n)
	}
	return nil
}

// still asks for the client right before its kill, and reports whether it is the same and may still be closed.
func (k *killing) still(ctx context.Context, rules policies.KillRules, v policies.Client) (bool, error) {
	now, err := k.ask(ctx, v.ID)
	if err != nil {
		return false, err
	}
	if now.ID != v.ID || now.Addr != v.Addr {
		k.gone++
		return false, nil
	}
	if s := rules.Spare(now); s != "" {
		k.spared[s]++
		return false, nil
	}
	return true, nil
}

// restsPerList is how many times the duration of a whole list the server is left in peace before the next one.
const restsPerList = 3

// ask is what the server shows of a client now; the zero Client: nothing. 6.0 lists no single client, so that the whole list is read, at a
// quarter of the time.
func (k *killing) ask(ctx context.Context, id int64) (policies.Client, error) {
	var ids []int64
	if listsOne(k.before) {
		ids = append(ids, id)
	} else if err := wait(ctx, k.rest); err != nil {
		return policies.Client{}, err
	}
	start := time.Now()
	all, err := k.c.ClientList(ctx, ids...)
	k.rest = restsPerList * time.Since(start)
	if i := slices.IndexFunc(all, func(c policies.Client) bool { return c.ID == id }); i >= 0 {
		return all[i], err
	}
	return policies.Client{}, err
}

// listsOne reports whether the server knows CLIENT LIST ID, which came with 6.2.
func listsOne(s policies.Snapshot) bool {
	line := s.Line()
	return line.Known && line.V.Compare(policies.Line{Major: 6, Minor: 2}) >= 0
}

// closedShown is how many of the closed clients the record names.
const closedShown = 20

func (k *killing) note(v policies.Client, n int64) {
	if n == 0 {
		k.gone++
		return
	}
	if k.killed += n; len(k.closed) < closedShown {
		k.closed = append(k.closed, map[string]any{"id": v.ID, "addr": v.Addr, "idle": v.Idle})
	}
}

// nothing is the result where no CLIENT KILL was sent.
func (k *killing) nothing(ctx context.Context, n policies.Node, err error) result {
	switch {
	case ctx.Err() != nil:
		return stopping(ctx)
	case unsupported(err):
		return result{outcome: policies.OutcomeUnsupported, err: fmt.Errorf("%s does not allow it; grant +client|list, +client|id and +client|kill to the user %q: %w", n.Name, k.m.in.Username, err)}
	case k.stop == stopDenied:
		return result{outcome: policies.OutcomeDenied, denied: guardsOf(k.may.denied), guards: k.may.denied, held: true, err: fmt.Errorf("%w: %w", errDenied, err)}
	case err != nil:
		return result{outcome: policies.OutcomeFailed, err: err}
	}
	return result{outcome: policies.OutcomeDenied, denied: []policies.Guard{policies.GuardVictims}, held: true,
		err: fmt.Errorf("%w: none of the clients that were to be closed may be closed any more (%s; %d are gone)", errDenied, k.stop, k.gone)}
}

// judge says what came of it: success is a share of maxclients under the level at which the alarm clears.
func (k *killing) judge(ctx context.Context, p *policies.Plan, err error) result {
	t := k.m.pol.Clients
	after := k.m.settledBelow(ctx, p.Node, func(s policies.Snapshot) bool { return clientsClear(s, t) })
	c := after.Clients
	solved := after.RunID == k.before.RunID && clientsClear(after, t)
	r := result{
		sent:  true,
		after: map[string]any{p.Node: nodeFacts(after)},
		effect: map[string]any{
			"closed": k.killed, "gone": k.gone, "qualified": k.first.Qualify, "spared": k.spared, "clients": k.closed,
			"connected_before": k.before.Clients.Connected, "connected_after": c.Connected, "maxclients": c.Max, "target": k.first.Target,
			"predicted": p.Expect.Clients, "stop": k.stop, "took": time.Since(k.started).Seconds(), "solved": solved,
		},
		said: fmt.Sprintf("%d idle clients closed, %s of %s connections in use, were %s; stopped: %s", k.killed, c.Connected, c.Max, k.before.Clients.Connected, k.stop),
	}
	switch {
	case solved:
		r.outcome = policies.OutcomeSucceeded
	case k.stop == stopCancelled:
		r.outcome, r.err = policies.OutcomeInterrupted, errors.New("the process is stopping: "+r.said)
	case k.stop == stopDenied:
		r.outcome, r.denied, r.guards = policies.OutcomeDenied, guardsOf(k.may.denied), k.may.denied
		r.err = fmt.Errorf("stopped on the way: %w; %s", err, r.said)
	case err != nil:
		r.outcome, r.err = policies.OutcomeFailed, err
	default:
		r.outcome = policies.OutcomeIneffective
	}
	return r
}

// clientsClear reports whether the alarm of connected_clients clears.
func clientsClear(s policies.Snapshot, t policies.ClientsThreshold) bool {
	c := s.Clients
	return s.Reach == policies.ReachUp && c.Connected.Known && c.Max.Or(0) > 0 && t.Level(float64(c.Connected.V)/float64(c.Max.V), policies.Critical) < policies.Critical
}

// settleFor bounds the wait for an effect to show.
const settleFor = 5 * time.Second

// settledBelow probes until the effect shows, for settleFor at most, and returns the newest that answered; a process that is stopping
// looks once.
func (m *Machine) settledBelow(ctx context.Context, node string, shows func(policies.Snapshot) bool) policies.Snapshot {
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleFor)
	defer cancel()
	for {
		s := m.probers[node].Probe(within)
		if shows(s) || ctx.Err() != nil || wait(within, 50*time.Millisecond) != nil {
			return s
		}
	}
}
