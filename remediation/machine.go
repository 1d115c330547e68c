package remediation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"dcshealer/agent/probe"
	"dcshealer/policies"
	"dcshealer/remediation/reclaim"
)

// Machine works the faults of one instance, one after another, from one goroutine. Its states and events are in transitions.
type Machine struct {
	h       *Healer
	in      policies.Instance
	pol     policies.Policy
	probers map[string]Prober
	pass    *probe.Password // of the connections that act
	log     *slog.Logger
	life    *lifecycle
	wake    chan struct{}
	pace    time.Duration // between two looks at what is open

	// How it comes and goes with the config.
	fresh  bool       // its probers are not those of the Machine before it
	after  []*Machine // work on the same nodes, and have to end first
	leaves sync.Once  // closes leave
	leave  chan struct{}
	ended  chan struct{}

	mu        sync.Mutex                 // guards what follows; the goroutine of the Machine is its only writer, but for alarms
	alarms    map[policies.Metric]string // newest alarm id by metric
	firsts    map[string]firstAlarm      // of what may become an incident, by metric and node
	claims    map[policies.Metric]bool   // what alarms said since the last round
	incidents map[string]*incident       // open ones, by fault key
	since     time.Time
	rtts      map[string]time.Duration // calm round trips, by node
	blind     map[string]string        // alarms that cannot fire, by node
	links     policies.LinkWatch
	early     bool // the newest round found a fault whose cause another look may tell better

	underWay *policies.Progress // of the action under way; nil: none

	// For the goroutine of the Machine alone.
	estimates map[string]keptEstimate  // of expired keys, by master
	places    map[string]reclaim.Place // where the newest sweep left, by master
	late      []lateLook               // in the order in which they are due
	sighted   map[string]time.Time     // when our own probe first saw what it sees now, by fault key
	dues      []due                    // what the journal has not taken of incidents
	unwritten bool                     // that it does not take them was logged
	version   int64                    // of the journal when its open incidents were last read
	read      bool                     // they were read
	nudged    int64                    // place in the journal of the newest word of a person that was heard
	begun     bool                     // by this Machine, or the one before it: nudged is known
}

// restPace is how often an open incident is looked at again when nothing else asks for it: two full probes of each node.
const restPace = 3 * time.Second

// hintGap lies between two rounds that alarms asked for.
const hintGap = 500 * time.Millisecond

// watchFor is how long a repair is watched for staying so.
const watchFor = 10 * time.Second

func newMachine(h *Healer, cfg policies.Config, i policies.Instance, probers map[string]Prober) *Machine {
	m := &Machine{
		h: h, in: i, pol: cfg.PolicyOf(i), probers: probers, pass: probe.NewPassword(i.Password, i.PasswordFile), log: h.log.With("instance", i.Name), pace: max(time.Second, cfg.Agent.Interval),
		wake: make(chan struct{}, 1), leave: make(chan struct{}), ended: make(chan struct{}), alarms: map[policies.Metric]string{}, firsts: map[string]firstAlarm{}, sighted: map[string]time.Time{},
		claims: map[policies.Metric]bool{}, incidents: map[string]*incident{},
		since: time.Now(), rtts: map[string]time.Duration{}, blind: map[string]string{}, estimates: map[string]keptEstimate{}, places: map[string]reclaim.Place{},
	}
	m.life = newLifecycle(func(from, to policies.State, e event) {
		m.log.Info("state changed", "from", from, "to", to, "reason", e)
		m.mu.Lock()
		m.since = time.Now()
		m.mu.Unlock()
		m.save()
	})
	return m
}

// hint wakes the Machine; any number of hints before it looks are one.
func (m *Machine) hint(a policies.Alarm) {
	if !a.IsResolved() {
		m.claim(a)
	}
	m.ask()
}

// ask asks for a look.
func (m *Machine) ask() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// maxClaims bounds what strangers can make the Machine remember between two looks.
const maxClaims = 100

func (m *Machine) claim(a policies.Alarm) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.claims) >= maxClaims && !m.claims[a.Metric] {
		return
	}
	m.claims[a.Metric] = true
	if !confirmable(a.Metric) {
		return
	}
	if a.ID != "" {
		m.alarms[a.Metric] = a.ID
	}
	m.keepFirst(a)
}

// confirmable reports whether our own probes can find a critical fault of the metric.
func confirmable(metric policies.Metric) bool {
	switch metric {
	case policies.MetricUsedMemory, policies.MetricClients, policies.MetricReplication, policies.MetricInstanceUp, policies.MetricFragmentation:
		return true
	}
	return false
}

// takeClaims hands over what alarms said since the last round.
func (m *Machine) takeClaims() []policies.Metric {
	m.mu.Lock()
	defer m.mu.Unlock()
	claims := slices.Sorted(maps.Keys(m.claims))
	clear(m.claims)
	return claims
}

// run works until ctx ends or the Machine has been retired and has finished what it was doing.
func (m *Machine) run(ctx context.Context) error {
	m.awaitOthers(ctx)
	m.begin(ctx)
	look := time.NewTicker(m.pace)
	defer look.Stop()
	settings := time.NewTicker(500 * time.Millisecond)
	defer settings.Stop()
	controls := ""
	var hinted, looked time.Time
	for !m.retired() {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-m.leave:
		case <-m.wake:
			// Hints that come thick and fast cost two looks a second at the most.
			if wait(ctx, hintGap-time.Since(hinted)) != nil {
				return nil
			}
			hinted = time.Now()
			err = m.round(ctx)
			looked = time.Now()
		case <-look.C:
			if m.watching() || m.awaitsCause() || m.open() > 0 && time.Since(looked) >= max(restPace, m.pace)-m.pace/2 {
				err = m.round(ctx)
				looked = time.Now()
			}
		case <-settings.C:
			m.lookAgainLater(ctx)
			if m.keep(ctx); m.heard(ctx, &controls) {
				err = m.round(ctx)
			}
		}
		if err != nil && ctx.Err() == nil {
			m.log.Error("round failed", "err", err)
		}
	}
	return nil
}

// heard reports whether what a person did, or a command by hand, asks for a look now.
func (m *Machine) heard(ctx context.Context, controls *string) bool {
	look := m.takeUp(ctx) > 0
	if m.nudge(ctx) {
		look = true
	}
	if now := m.controls(ctx); now != *controls {
		*controls, look = now, true
		m.save()
	}
	return look && m.open() > 0
}

// controls is a text that changes when a person changes a runtime setting of this instance.
func (m *Machine) controls(ctx context.Context) string {
	now := time.Now()
	grants, err := m.h.opt.Journal.Live(ctx, now)
	if err != nil {
		return "unreadable"
	}
	grants = slices.DeleteFunc(grants, func(g policies.LiveGrant) bool { return g.Instance != m.in.Name })
	pause, paused, _ := m.h.opt.Journal.Paused(ctx, m.in.Name, now)
	return fmt.Sprint(grants, paused, pause.At)
}

// open counts the open incidents, the repairs under watch included.
func (m *Machine) open() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.incidents)
}

// watching reports whether a repair is watched for staying so.
func (m *Machine) watching() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range m.incidents {
		if i.resting == policies.StateCooldown {
			return true
		}
	}
	return false
}

// awaitsCause reports whether the newest round left a fault for another look.
func (m *Machine) awaitsCause() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.early
}

// inTrouble reports whether an incident is open that is not repaired.
func (m *Machine) inTrouble() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range m.incidents {
		if i.resting != policies.StateCooldown {
			return true
		}
	}
	return false
}

func (m *Machine) isOpen(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.incidents[key] != nil
}

// round looks, closes what is gone, and works what is open: one fault after another, so that one that is held or
// escalated never keeps another waiting.
func (m *Machine) round(ctx context.Context) error {
	m.keep(ctx) // an action is never on record before its incident, where that can be helped
	claims := m.takeClaims()
	// A repair that goes on being watched from idle is looked at without a change of state.
	if m.life.state() == policies.StateIdle && (len(claims) > 0 || m.open() == 0) {
		if err := m.life.to(ctx, eventSuspect); err != nil {
			return err
		}
	}
	l := m.confirm(ctx)
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), m.settle(ctx))
	}
	m.closeGone(ctx, l)
	m.forgetFirsts(l)
	m.answer(claims, l)
	m.mu.Lock()
	m.early = early(l.faults)
	m.mu.Unlock()
	worked := map[string]bool{}
	for f, ok := next(l, worked); ok && ctx.Err() == nil && !m.retired(); f, ok = next(l, worked) {
		worked[f.key()] = true
		acted, err := m.work(ctx, l, f)
		if err != nil {
			return errors.Join(err, m.settle(ctx))
		}
		if acted { // what was seen before is no evidence for the next fault
			l = m.confirm(ctx)
		}
	}
	return m.settle(ctx)
}

// next is the first fault that two looks agree on, that no later look can tell better, and that was not worked in this round.
func next(l look, worked map[string]bool) (fault, bool) {
	for _, f := range l.faults {
		if l.agreed[f.key()] && !f.early && !worked[f.key()] {
			return f, true
		}
	}
	return fault{}, false
}

// answer says what our own look makes of what alarms claimed, where no incident tells it.
func (m *Machine) answer(claims []policies.Metric, l look) {
	known := 0
	for _, metric := range claims {
		if confirmable(metric) {
			known++
			continue
		}
		m.h.say(m.in.Name, "escalated: our probes cannot confirm %s as critical, and no action cures it: a person should look", metric)
	}
	switch {
	case known == 0 || m.open() > 0:
	case len(l.faults) == 0:
		m.h.say(m.in.Name, "refuted: our own probe finds no critical fault")
	case len(l.agreed) == 0:
		m.h.say(m.in.Name, "not confirmed: probes in a row do not agree on a fault yet")
	}
}

// openIncidents is a copy of the open incidents.
func (m *Machine) openIncidents() map[string]*incident {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.incidents)
}

// work decides about one confirmed fault, and acts when every guard allows; acted reports that it did.
func (m *Machine) work(ctx context.Context, l look, f fault) (acted bool, err error) {
	inc := m.incidentOf(ctx, l, f)
	if inc.given != "" && inc.given == f.Cause {
		return false, nil // the server does not support the remedy: only another cause changes that
	}
	for range 3 { // an action whose effect did not show is planned again; the guards decide how often
		req := request{fault: f, since: m.stands(inc)}
		p := choose(m.plans(ctx, l, req, ""))
		if ctx.Err() != nil {
			return acted, ctx.Err()
		}
		if p == nil || !p.Permitted {
			if inc.signature == signature(f, p) && (inc.planned || p == nil || !onlyMode(p)) {
				return acted, nil // decided before, and nothing has changed
			}
			return acted, m.refuse(ctx, l, inc, p)
		}
		req.action = p.Action
		again, err := m.act(ctx, l, inc, p, req)
		acted = true
		if err != nil || !again || ctx.Err() != nil || m.retired() {
			return acted, err
		}
		if l, f, again = m.lookAgain(ctx, inc); !again {
			return acted, nil
		}
	}
	return acted, nil
}

// lookAgain confirms anew after an action that did not help.
func (m *Machine) lookAgain(ctx context.Context, inc *incident) (look, fault, bool) {
	l := m.confirm(ctx)
	for _, f := range l.faults {
		if f.key() == inc.fault.key() && l.agreed[f.key()] {
			m.mu.Lock()
			inc.fault = f
			m.mu.Unlock()
			return l, f, true
		}
	}
	return l, fault{}, false
}

// transient guards come and go with the load of the moment: beside another denial they make no new decision.
var transient = []policies.Guard{policies.GuardLatency, policies.GuardConfirmed, policies.GuardTilt}

// signature is what a decision rests on: while it stays the same, nothing new is said, written or done. Of no plan it is the cause alone.
func signature(f fault, p *policies.Plan) string {
	if p == nil {
		return string(cmpCause(f))
	}
	return signatureOf(f.Cause, p.Action, p.Mode, p.DeniedBy)
}

func signatureOf(cause policies.Cause, action policies.Action, mode policies.Mode, by []policies.Guard) string {
	var denied, passing []string
	for _, g := range by {
		if slices.Contains(transient, g) {
			passing = append(passing, string(g))
		} else {
			denied = append(denied, string(g))
		}
	}
	if len(denied) == 0 {
		denied = passing
	}
	slices.Sort(denied)
	step := ""
	if slices.Contains(policies.LadderSteps[:], action) {
		step = string(action) + ":"
	}
	return string(cause) + ":" + step + string(mode) + ":" + strings.Join(denied, ",")
}

// toPlanning takes the path to planning from wherever the Machine rests.
func (m *Machine) toPlanning(ctx context.Context) error {
	var path []event
	switch m.life.state() {
	case policies.StateConfirming:
		path = []event{eventConfirm}
	case policies.StateHeld:
		path = []event{eventAsk}
	case policies.StateIdle, policies.StateCooldown, policies.StateEscalated:
		path = []event{eventSuspect, eventConfirm}
	case policies.StateVerifying:
		path = []event{eventNext}
	}
	return m.drive(ctx, path...)
}

func (m *Machine) drive(ctx context.Context, path ...event) error {
	for _, e := range path {
		if err := m.life.to(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// refuse writes down and says why nothing is done.
func (m *Machine) refuse(ctx context.Context, l look, inc *incident, p *policies.Plan) error {
	if ctx.Err() != nil {
		return ctx.Err() // what the guards could not read then is no denial
	}
	inc.signature = signature(inc.fault, p)
	if err := m.toPlanning(ctx); err != nil {
		return err
	}
	m.sayDiagnosis(inc)
	rec := m.record(l, inc, p)
	held := p != nil && p.Held()
	switch {
	case p == nil:
		rec.Outcome, rec.Error = policies.OutcomeDenied, "no action cures "+string(cmpCause(inc.fault))+": "+inc.fault.Msg
		m.h.say(m.in.Name, "escalated: no action cures %s on %s: a person is needed", cmpCause(inc.fault), inc.fault.Node)
	case onlyMode(p):
		rec.Outcome = policies.OutcomePlanned
		inc.planned = true
		m.h.say(m.in.Name, "plan (%s): %s", p.Mode, describe(p))
	default:
		rec.Outcome = policies.OutcomeDenied
		verb := "escalated"
		if held {
			verb = "held"
		}
		m.h.say(m.in.Name, "plan (%s): %s", p.Mode, describe(p))
		m.h.say(m.in.Name, "%s: %s", verb, denials(p))
	}
	m.write(ctx, inc, rec)
	state, e := policies.StateEscalated, eventEscalate
	if held {
		state, e = policies.StateHeld, eventHold
	}
	m.rest(inc, state)
	return m.life.to(ctx, e)
}

func (m *Machine) sayDiagnosis(inc *incident) {
	m.h.say(m.in.Name, "diagnosis: %s: %s", cmpCause(inc.fault), inc.fault.Msg)
}

// onlyMode reports a plan that nothing but the dry run stops.
func onlyMode(p *policies.Plan) bool {
	return len(p.DeniedBy) == 1 && p.DeniedBy[0] == policies.GuardMode
}

func cmpCause(f fault) policies.Cause {
	if f.Cause == "" {
		return policies.Cause(f.Metric)
	}
	return f.Cause
}

func describe(p *policies.Plan) string {
	s := fmt.Sprintf("%s on %s: %s", p.Action, p.Node, commandText(p.Commands[0]))
	switch {
	case p.Expect.Resync != "":
		s += fmt.Sprintf(", a %s resync", p.Expect.Resync)
	case p.Expect.ExpiredKeys.Known:
		s += fmt.Sprintf(", about %d expired keys", p.Expect.ExpiredKeys.V)
	case p.Action == policies.ReclaimExpired:
		s += ", how many keys have expired is not known without acting"
	}
	return s
}

// record is the journal record of a decision about an incident.
func (m *Machine) record(l look, inc *incident, p *policies.Plan) policies.Record {
	f := inc.fault
	m.mu.Lock()
	alarm := m.alarms[f.Metric]
	m.mu.Unlock()
	r := policies.Record{
		Incident: inc.id, Alarm: alarm, Instance: m.in.Name, Node: f.Node, Trigger: m.h.opt.Trigger, Mode: policies.DryRun,
		At: time.Now().UTC(), Metric: f.Metric, Cause: cmpCause(f), Guards: []policies.Ruling{}, DeniedBy: []policies.Guard{},
		Commands: []policies.CommandRecord{}, Before: m.evidence(l, f), Operator: m.h.opt.Operator,
	}
	if p != nil {
		r.Action, r.Mode, r.Guards, r.DeniedBy, r.Planned, r.Expect = p.Action, p.Mode, p.Guards, p.DeniedBy, p.Commands, p.Expect
	}
	return r
}

// write keeps a decision that sends nothing. Without it nothing is lost but the record, and that is said aloud.
func (m *Machine) write(ctx context.Context, inc *incident, r policies.Record) {
	if m.h.opt.Journal == nil {
		return
	}
	id, err := m.h.opt.Journal.Begin(ctx, r)
	if err != nil {
		m.log.Error("decision could not be journalled", "incident", inc.id, "err", err)
		return
	}
	inc.record = id
}

func (m *Machine) note(ctx context.Context, inc *incident, text string, data map[string]any) {
	if inc.record == "" || m.h.opt.Journal == nil {
		return
	}
	if err := m.h.opt.Journal.Note(ctx, inc.record, policies.Note{At: time.Now(), Text: text, Data: data}); err != nil {
		m.log.Error("note could not be journalled", "incident", inc.id, "err", err)
	}
}

func (m *Machine) rest(inc *incident, s policies.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	inc.resting = s
}

// settle brings the state of the Machine to what its open incidents mean: a person is needed, a plan is held, a repair is
// watched, or nothing is open.
func (m *Machine) settle(ctx context.Context) error {
	defer m.save()
	want := m.resting()
	switch now := m.life.state(); {
	case now == want:
		return nil
	case now == policies.StateConfirming && want == policies.StateIdle:
		return m.life.to(ctx, eventRefute)
	case want == policies.StateIdle:
		return m.life.to(ctx, eventClear)
	case want == policies.StateHeld:
		return errors.Join(m.toPlanning(ctx), m.life.to(ctx, eventHold))
	}
	return errors.Join(m.toPlanning(ctx), m.life.to(ctx, eventEscalate))
}

func (m *Machine) resting() policies.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	states := map[policies.State]bool{}
	for _, i := range m.incidents {
		states[i.resting] = true
	}
	switch now := m.life.state(); {
	case states[policies.StateEscalated]:
		return policies.StateEscalated
	case states[policies.StateHeld]:
		return policies.StateHeld
	case states[policies.StateCooldown] && now == policies.StateCooldown:
		return now
	}
	return policies.StateIdle // a repair may still be under watch: nothing leads back to cooldown but another repair
}

// learnCalm keeps the round trips of a time without incidents.
func (m *Machine) learnCalm(s policies.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.incidents) > 0 || s.RTT <= 0 {
		return
	}
	old := m.rtts[s.Node]
	if old == 0 {
		old = s.RTT
	}
	m.rtts[s.Node] = (old*7 + s.RTT) / 8
}

func (m *Machine) calm(node string) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(m.rtts[node], m.h.leastCalm)
}
