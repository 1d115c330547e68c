package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"dcshealer/agent/bus"
	"dcshealer/agent/observer"
	"dcshealer/agent/observer/notify"
	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

func outboxPath(stateDir string) string { return filepath.Join(stateDir, notify.FileName) }

// notifying tells the receivers of the config what the role dba shows on its console, and what the healer did about it.
type notifying struct {
	s       *service
	id      string // of the state_dir on the bus
	log     *slog.Logger
	changed chan policies.Config // another config is in effect
	sub     atomic.Pointer[bus.Subscription]
	ready   chan struct{} // closed once it hears alarms, or has no need to
	once    sync.Once
}

const (
	notifyAgain = 5 * time.Second // after a fault, and where another process has the work
	decisions   = 500             // read from the journal at a time
)

// startNotify starts it, also without receivers: a reload may bring some.
func (s *service) startNotify(ctx context.Context) (<-chan struct{}, error) {
	id, err := busID(s.cfg.StateDir)
	if err != nil {
		return nil, err
	}
	n := &notifying{s: s, id: id, log: s.log.With("component", "notify"), changed: make(chan policies.Config, 1), ready: make(chan struct{})}
	if len(s.cfg.Notify.Receivers) > 0 { // one that cannot be used is told now
		o, err := notify.OpenOutbox(ctx, outboxPath(s.cfg.StateDir))
		if err != nil {
			return nil, err
		}
		if err := o.Close(); err != nil {
			return nil, fmt.Errorf("close the outbox of notifications: %w", err)
		}
	}
	cfg := s.cfg // a copy of its own: reloads change that of the service
	s.notify = n
	s.parts.start("notifications", func(ctx context.Context) error { return n.run(ctx, cfg) })
	return n.ready, nil
}

// reloaded takes another config into effect where it says something else of whom to tell.
func (n *notifying) reloaded(before, after policies.Config) {
	if n == nil || reflect.DeepEqual(before.Notify, after.Notify) {
		return
	}
	select { // the newest is the one to take
	case <-n.changed:
	default:
	}
	n.changed <- after
}

func (n *notifying) isReady() { n.once.Do(func() { close(n.ready) }) }

// run tells by one config after another until ctx ends.
func (n *notifying) run(ctx context.Context, cfg policies.Config) error {
	for ctx.Err() == nil {
		now, end := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			n.by(now, cfg)
		}()
		select {
		case cfg = <-n.changed:
		case <-ctx.Done():
		}
		end()
		<-ended
	}
	return ctx.Err()
}

// by tells by one config until ctx ends. What fails is begun anew: it stops neither the console nor the healer.
func (n *notifying) by(ctx context.Context, cfg policies.Config) {
	if len(cfg.Notify.Receivers) == 0 {
		n.isReady()
		return
	}
	said := ""
	for ctx.Err() == nil {
		err := n.tell(ctx, cfg)
		if ctx.Err() != nil {
			return
		}
		n.isReady()
		if text := fmt.Sprint(err); text != said {
			said = text
			if errors.Is(err, notify.ErrLed) {
				n.log.Info("another process on this state_dir tells the receivers of notifications: this one waits", "err", err)
			} else {
				n.log.Error("notifications are not told", "err", err)
			}
		}
		pause(ctx, notifyAgain)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// tell returns at the first fault.
func (n *notifying) tell(ctx context.Context, cfg policies.Config) (err error) {
	free, err := notify.Lead(cfg.StateDir)
	if err != nil {
		return err
	}
	defer free()
	o, err := notify.OpenOutbox(ctx, outboxPath(cfg.StateDir))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	dropped, err := o.Keep(ctx, cfg.Notify.Receivers)
	if err != nil {
		return err
	}
	if dropped > 0 {
		n.log.Warn("what waited for receivers that are not in the config any longer is dropped", "count", dropped)
	}
	receivers := make([]*notify.Receiver, len(cfg.Notify.Receivers))
	for i, r := range cfg.Notify.Receivers {
		if receivers[i], err = n.receiver(r, o, cfg.Notify); err != nil {
			return err // the config was checked, so there is none
		}
	}
	sub := n.s.bus.SubscribeGroup(observer.DBATopics(), bus.Group{Name: "notify-" + n.id, Consumer: operator("").Host})
	n.sub.Store(sub)
	g, ctx := errgroup.WithContext(ctx)
	w := &notifyWatch{stateDir: cfg.StateDir, outbox: o}
	w.notifier = &notify.Notifier{Outbox: o, Receivers: cfg.Notify.Receivers, Remind: cfg.Notify.Remind, Log: n.log,
		Taken: func(e notify.Event) (string, bool) { return w.taken(ctx, e) }}
	for _, r := range receivers {
		g.Go(func() error { return r.Run(ctx) })
	}
	g.Go(func() error {
		if err := sub.Run(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		return errors.New("the subscription ended by itself")
	})
	g.Go(func() error {
		select {
		case <-sub.Ready():
			n.log.Info("notifications are told", "receivers", len(cfg.Notify.Receivers))
			n.isReady()
		case <-ctx.Done():
		}
		return nil
	})
	g.Go(func() error { return n.alarms(ctx, sub, w.notifier) })
	g.Go(func() error { return w.run(ctx) })
	return g.Wait()
}

func (n *notifying) receiver(r policies.Receiver, o *notify.Outbox, cfg policies.NotifyConfig) (*notify.Receiver, error) {
	sender, err := notify.NewSender(r)
	if err != nil {
		return nil, fmt.Errorf("receiver %s: %w", r.Name, err)
	}
	template, err := notify.ParseTemplate(r.Title, r.Template)
	if err != nil {
		return nil, fmt.Errorf("receiver %s: %w", r.Name, err)
	}
	pace := notify.DefaultPace()
	pace.Group, pace.Gap, pace.GiveUp = cfg.Group, cfg.Gap, cfg.GiveUp
	return &notify.Receiver{Name: r.Name, Sender: sender, Template: template, Outbox: o, Pace: pace, Source: operator("").Host, NewID: newID, Log: n.log}, nil
}

// alarms hands critical alarms over. They are acknowledged once the outbox has what is told of them.
func (n *notifying) alarms(ctx context.Context, sub *bus.Subscription, to *notify.Notifier) error {
	prefix := n.s.bus.Prefix()
	decoder, gate := bus.NewDecoder(prefix, n.log), bus.NewGate(n.s.keys, prefix, n.log)
	for {
		batch := sub.Batch(ctx, 500, 50*time.Millisecond)
		if len(batch) == 0 {
			return ctx.Err()
		}
		now := time.Now()
		var alarms []policies.Alarm
		for _, m := range batch {
			if n.s.mustSign.Load() && !gate.Pass(m, now) {
				continue
			}
			if a, err := decoder.Decode(m); err == nil {
				alarms = append(alarms, a)
			}
		}
		if err := to.Alarms(ctx, alarms, now); err != nil {
			return err // they were not acknowledged, and come again
		}
		sub.Ack(batch)
	}
}

// notifyWatch follows the journal of the state_dir, whichever process writes it, and reminds of what nobody has taken.
type notifyWatch struct {
	stateDir string
	outbox   *notify.Outbox
	notifier *notify.Notifier

	j       *journal.Journal // nil: there is none yet
	version int64
	fresh   bool // version is that of what was read
}

func (w *notifyWatch) run(ctx context.Context) error {
	defer w.close()
	tick := time.NewTicker(journalTick)
	defer tick.Stop()
	for {
		if err := w.follow(ctx); err != nil {
			return err
		}
		if err := w.notifier.RemindNow(ctx, time.Now()); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *notifyWatch) close() {
	if w.j != nil {
		_ = w.j.Close() // it was only read
		w.j, w.fresh = nil, false
	}
}

// follow tells what was decided since it last did. Of a journal that is older than the first receiver nothing is told that was before it.
// One that cannot be read is opened anew at the next look: the healer itself tells of one that is broken.
func (w *notifyWatch) follow(ctx context.Context) error {
	place, begun, err := w.outbox.Place(ctx)
	if err != nil {
		return err
	}
	if w.j == nil {
		j, err := journal.OpenReadOnly(ctx, w.stateDir)
		switch {
		case errors.Is(err, journal.ErrNoJournal) && !begun:
			return w.notifier.Decisions(ctx, nil, 0, time.Now()) // all that comes is new
		case err != nil:
			return nil
		}
		w.j = j
	}
	version, err := w.j.Version(ctx)
	if err != nil {
		w.close()
		return nil
	}
	if w.fresh && version == w.version {
		return nil
	}
	if !begun {
		place = math.MaxInt64
	}
	for {
		records, upTo, err := w.j.Settled(ctx, place, decisions)
		if err != nil {
			w.close()
			return nil
		}
		if upTo == place {
			break
		}
		if err := w.notifier.Decisions(ctx, records, upTo, time.Now()); err != nil {
			return err
		}
		place = upTo
	}
	w.version, w.fresh = version, true
	return nil
}

// taken finds the open incident that an alarm belongs to, and whether a person has taken it.
func (w *notifyWatch) taken(ctx context.Context, e notify.Event) (incident string, taken bool) {
	if w.j == nil {
		return "", false
	}
	open, err := w.j.Incidents(ctx, journal.IncidentFilter{Instance: e.Instance, Open: true})
	if err != nil {
		return "", false // better one reminder too many
	}
	return incidentOf(e, open)
}

// incidentOf is the open incident that an alarm belongs to: its own, of its metric and node, and where there is none that of either. Who has
// taken one of two replicas has not taken the other.
func incidentOf(e notify.Event, open []policies.Incident) (incident string, taken bool) {
	own := func(i policies.Incident) bool { return i.Metric == e.Metric && i.Node == e.Node }
	near := func(i policies.Incident) bool { return i.Metric == e.Metric || e.Node != "" && i.Node == e.Node }
	if slices.ContainsFunc(open, own) {
		near = own
	}
	for _, i := range open {
		switch {
		case !near(i):
		case i.Ack != nil:
			return i.ID, true
		case incident == "":
			incident = i.ID
		}
	}
	return incident, false
}
