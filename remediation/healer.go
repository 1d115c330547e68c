// Package remediation drives one state machine per instance from a critical alarm to a proven repair or a refusal with
// its reason. Alarms are hints: it acts on what its own probes confirm, and never imports the collecting side.
package remediation

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dcshealer/agent/probe"
	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// Prober is what the healer reads a node with. Its connections refuse every command that writes.
type Prober interface {
	Probe(ctx context.Context) policies.Snapshot
	ProbeDeep(ctx context.Context) policies.Snapshot
	CountLive(ctx context.Context, o probe.CountOptions) (probe.LiveCount, error)
}

// Options are what a Healer works with.
type Options struct {
	Config  policies.Config
	Probers map[string]map[string]Prober // by instance and node name; the caller closes them
	Release func(map[string]Prober)      // told of the probers of an instance that a Reload has left without use, by node; nil: nobody
	// Journal is nil where it could not be opened; JournalErr says why. Nothing acts without a journal.
	Journal    *journal.Journal
	JournalErr error
	DryRun     bool // beats every live setting
	LookOnly   bool // the journal is open for reading: nothing is remembered in it
	Lines      io.Writer
	Log        *slog.Logger
	// Trouble says which instances are in critical trouble or unreachable by another observer's own probes (the agent's); one
	// without an entry was not seen yet. Nil where there is no such observer: then the healer looks around by itself.
	Trouble  func(now time.Time) map[string]bool
	Operator policies.Operator
	Trigger  policies.Trigger // what leads to the decisions: alarms, or a person
	NewID    func() string
	Raise    func(policies.Alarm)    // publishes an alarm about the healer itself, without waiting for the bus; nil: nobody
	Progress func(policies.Progress) // told about once a second how far an action under way has come; nil: nobody
}

// Healer hands alarms to the Machines and keeps what they share: budgets, breakers, the view of the fleet.
type Healer struct {
	opt       Options
	log       *slog.Logger
	crew      crew
	breakers  *breakers
	tilt      tilt
	keeper    keeper
	rested    rested
	seen      *recent
	leastCalm time.Duration      // the least that a calm round trip counts as; tests beside others on a busy machine raise it
	step      func(point string) // told of each step of an action; tests make crash and race points of it

	around sync.Mutex // one look around at a time

	mu     sync.Mutex
	view   map[string]bool // what the newest look around saw: in trouble or not
	viewed time.Time
	memory map[string]policies.NodeMemory // by instance/node: the durable record, kept here too
	saved  map[string]time.Time
}

// New returns a Healer; it starts nothing.
func New(o Options) *Healer {
	h := &Healer{
		opt: o, log: o.Log.With("component", "healer"), seen: newRecent(10_000),
		crew:   crew{cfg: o.Config, machines: map[string]*Machine{}, seats: map[string]*seat{}},
		memory: map[string]policies.NodeMemory{}, saved: map[string]time.Time{}, step: func(string) {},
	}
	if o.Journal != nil {
		h.breakers = newBreakers(o.Journal)
	}
	for _, i := range o.Config.Instances {
		h.seat(newMachine(h, o.Config, i, o.Probers[i.Name]))
	}
	return h
}

// Run closes what a crash left open, then works until ctx ends. It returns nil after a clean stop.
func (h *Healer) Run(ctx context.Context) error {
	if h.opt.Journal == nil {
		return fmt.Errorf("healer: no journal, so nothing may act: %w", h.opt.JournalErr)
	}
	if err := h.recover(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("healer: %w", err)
	}
	h.loadMemory(ctx)
	h.carryPauses(ctx, h.config())
	h.abandon(ctx)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { h.tilt.run(ctx); return nil })
	g.Go(func() error { h.sweepInterrupted(ctx); return nil })
	g.Go(func() error { h.keepJournal(ctx, pulseEvery); return nil })
	g.Go(func() error { h.watchEndings(ctx); return nil })
	h.runCrew(ctx, g.Go)
	return g.Wait()
}

// recover closes the records of processes that are gone as interrupted, which counts as a failure.
func (h *Healer) recover(ctx context.Context) error {
	closed, err := h.opt.Journal.RecoverInterrupted(ctx, time.Now())
	h.step("closed")
	for _, r := range closed {
		h.log.Warn("action was interrupted", "instance", r.Instance, "node", r.Node, "action", r.Action, "record", r.ID)
		h.say(r.Instance, "interrupted: %s on %s was under way when its process ended (%s); it will be diagnosed anew", r.Action, r.Node, r.ID)
		if err := h.breakers.report(ctx, r.Instance, r.Action, policies.OutcomeInterrupted); err != nil {
			h.log.Error("breaker did not count", "instance", r.Instance, "action", r.Action, "err", err)
		}
	}
	if err := h.settleDebts(ctx); err != nil && ctx.Err() == nil {
		h.log.Error("a setting that an interrupted action changed could not be put back yet, it is tried again", "err", err)
	}
	return err
}

// sweepInterrupted does the same for commands run beside us that were killed.
func (h *Healer) sweepInterrupted(ctx context.Context) {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := h.recover(ctx); err != nil && ctx.Err() == nil {
				h.log.Error("interrupted actions could not be closed", "err", err)
			}
		}
	}
}

// Alarm takes a critical alarm as a hint to look. It never blocks for long, and a publication that came twice (by the bus
// and directly) counts once. Safe for concurrent use.
func (h *Healer) Alarm(a policies.Alarm) {
	a.ID = plainID(a.ID)
	if a.ID != "" && !h.seen.add(a.ID) {
		return
	}
	if line, ok := policies.HealerLine(a); ok {
		h.print(line)
	}
	m := h.machine(a.Instance)
	switch {
	case m != nil:
		m.hint(a)
	case a.Metric == policies.MetricJournal: // about a healer, this one or another
	case !a.IsResolved():
		h.say(a.Instance, "not an instance of this config: nothing is probed")
	}
}

// plainID is an id that may be kept and shown; anything else from the bus is as good as none.
func plainID(id string) string {
	const most = 64
	odd := func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune("-_.:", r)
	}
	if len(id) > most || strings.ContainsFunc(id, odd) {
		return ""
	}
	return id
}

// Hint asks for a look at an instance; it says nothing and claims nothing.
func (h *Healer) Hint(instance string) {
	if m := h.machine(instance); m != nil {
		m.ask()
	}
}

// Observe takes a snapshot that another prober read, for the durable record of what each node followed and held. A
// snapshot is our own reading, never something that an alarm said.
func (h *Healer) Observe(s policies.Snapshot) {
	m := h.machine(s.Instance)
	if m != nil {
		m.followCourse(s)
	}
	if h.opt.Journal == nil || s.Reach != policies.ReachUp {
		return
	}
	if m != nil {
		m.noteBlind(s)
		m.learnCalm(s)
	}
	next, due := h.memorize(s, m)
	if !due || h.opt.LookOnly {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) // a stuck file must not hold up the probes
	defer cancel()
	if err := h.opt.Journal.Remember(ctx, next); err != nil {
		h.log.Warn("node could not be remembered", "instance", s.Instance, "node", s.Node, "err", err)
	}
}

// rememberEvery is how often a node's unchanged lineage is written down again, with its offset and keys.
const rememberEvery = 15 * time.Second

// memorize keeps what is remembered of a node after s was read; due: it is to be written down.
func (h *Healer) memorize(s policies.Snapshot, m *Machine) (next policies.NodeMemory, due bool) {
	var address policies.Address
	if m != nil {
		n, _ := m.in.Node(s.Node)
		address = n.Address
	}
	key := s.Instance + "/" + s.Node
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.memoryOf(key, s.RunID, address)
	old.Instance, old.Node = s.Instance, s.Node
	next = policies.NextMemory(old, s)
	if !address.IsZero() {
		next.Address = address
	}
	late := s.At.Sub(h.saved[key]) >= rememberEvery
	due = h.memory[key].Node == "" || old.RunID != next.RunID || old.Role != next.Role || old.ReplID != next.ReplID || late
	if next.At.Equal(old.At) {
		due = false // nothing believable was read
	}
	if next.Writable.After(old.Writable) && (old.Writable.IsZero() || late) {
		due = true // lost in a crash, it would let the node's own writes be replaced
	}
	if !next.At.IsZero() {
		h.memory[key] = next
	}
	if due {
		h.saved[key] = s.At
	}
	return next, due
}

// memoryOf is what is remembered of the server that a node's snapshot came from. An instance or node may have been renamed, or given the
// server of another: what counts is what that server was, by its run id, else by its address. The caller holds h.mu.
func (h *Healer) memoryOf(key, runID string, address policies.Address) policies.NodeMemory {
	own := h.memory[key]
	if own.RunID == runID {
		return own
	}
	newest := func(same func(policies.NodeMemory) bool) (found policies.NodeMemory) {
		for _, n := range h.memory {
			if same(n) && n.At.After(found.At) {
				found = n
			}
		}
		return found
	}
	if n := newest(func(n policies.NodeMemory) bool { return n.RunID == runID && runID != "" }); n.Node != "" {
		return n
	}
	if address.IsZero() || own.Address == address || own.Node != "" && own.Address.IsZero() {
		return own
	}
	if n := newest(func(n policies.NodeMemory) bool { return n.Address == address }); n.Node != "" {
		return n
	}
	return own
}

// loadMemory reads what is known of every node that ever was: one may have another name now.
func (h *Healer) loadMemory(ctx context.Context) {
	if h.opt.Journal == nil {
		return
	}
	all, err := h.opt.Journal.Memories(ctx)
	if err != nil {
		h.log.Warn("what the nodes were is not known", "err", err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range all {
		if key := n.Instance + "/" + n.Node; !h.memory[key].At.After(n.At) {
			h.memory[key] = n
		}
	}
}

func (h *Healer) remembered(instance, node string) policies.NodeMemory {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.memory[instance+"/"+node]
}

// remembers is all that is remembered of an instance, by node.
func (h *Healer) remembers(instance string) map[string]policies.NodeMemory {
	out := map[string]policies.NodeMemory{}
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, n := range h.memory {
		if name, ok := strings.CutPrefix(key, instance+"/"); ok {
			out[name] = n
		}
	}
	return out
}

// forgetWritable forgets that a node took writes as a replica: a full copy has replaced all that it held.
func (h *Healer) forgetWritable(ctx context.Context, instance, node string) {
	h.mu.Lock()
	n := h.memory[instance+"/"+node]
	was := !n.Writable.IsZero()
	n.Writable = time.Time{}
	h.memory[instance+"/"+node] = n
	h.mu.Unlock()
	if !was || h.opt.Journal == nil {
		return
	}
	if err := h.opt.Journal.Remember(ctx, n); err != nil {
		h.log.Warn("node could not be remembered", "instance", instance, "node", node, "err", err)
	}
}

// trouble counts the other instances that are confirmed critical or unreachable, by the Machines and by the agent's probes
// or our own look around, and those that nobody has seen.
func (h *Healer) trouble(ctx context.Context, instance string, now time.Time) (bad, unseen, others int) {
	var view map[string]bool
	machines := h.machines()
	if h.opt.Trouble != nil {
		view = h.opt.Trouble(now)
	} else if len(machines) > policies.StormFloor {
		view = h.lookAround(ctx)
	}
	for name, m := range machines {
		if name == instance {
			continue
		}
		others++
		sick, seen := view[name]
		switch {
		case sick || m.inTrouble():
			bad++
		case !seen:
			unseen++
		}
	}
	return bad, unseen, others
}

// aroundEvery is how long a look around is believed.
const aroundEvery = 5 * time.Second

// lookAround probes the whole fleet once, side by side, where no agent does that for us.
func (h *Healer) lookAround(ctx context.Context) map[string]bool {
	h.around.Lock()
	defer h.around.Unlock()
	h.mu.Lock()
	view, at := h.view, h.viewed
	h.mu.Unlock()
	if time.Since(at) < aroundEvery {
		return view
	}
	view = map[string]bool{}
	var wg sync.WaitGroup
	for name, m := range h.machines() {
		wg.Go(func() {
			sick := m.sick(ctx)
			h.mu.Lock()
			defer h.mu.Unlock()
			view[name] = sick
		})
	}
	wg.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.view, h.viewed = view, time.Now()
	return view
}

// print writes one console line.
func (h *Healer) print(line string) { fmt.Fprintln(h.opt.Lines, line) }

// say writes one of the healer's own lines about an instance.
func (h *Healer) say(instance, format string, a ...any) {
	h.print(policies.HealerLinePrefix + policies.Printable(instance, 200) + " | " + policies.Printable(fmt.Sprintf(format, a...), 2000))
}

// recent remembers the newest ids.
type recent struct {
	mu   sync.Mutex
	ids  map[string]bool
	ring []string
	next int
}

func newRecent(n int) *recent { return &recent{ids: make(map[string]bool, n), ring: make([]string, n)} }

// add reports whether the id is new.
func (r *recent) add(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ids[id] {
		return false
	}
	delete(r.ids, r.ring[r.next])
	r.ring[r.next], r.ids[id] = id, true
	r.next = (r.next + 1) % len(r.ring)
	return true
}
