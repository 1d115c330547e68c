package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"dcshealer/agent"
	"dcshealer/agent/archive"
	"dcshealer/agent/bus"
	"dcshealer/agent/observer"
	"dcshealer/agent/probe"
	"dcshealer/policies"
	"dcshealer/remediation"
	"dcshealer/remediation/journal"
)

// healing is what the healer needs, opened before anything runs.
type healing struct {
	healer  *remediation.Healer
	journal *journal.Journal
	probers *healerProbers
	pub     *bus.Publisher              // for what the healer says of itself; set before it runs
	agent   atomic.Pointer[agent.Agent] // of this process; nil without that role, and until it starts
}

func (s *service) openHealer(ctx context.Context) error {
	op := operator("")
	j, err := journal.Open(ctx, s.cfg.StateDir, op)
	if err != nil {
		return err
	}
	s.parts.onStop("journal", j.Close)
	if err := j.Check(ctx); err != nil {
		return err
	}
	unlock, err := j.LockHealer(ctx)
	if err != nil {
		return err
	}
	s.parts.onStop("healer lock", func() error { unlock(); return nil })
	open, probers, err := openProbers(s.cfg, s.log)
	if err != nil {
		return err
	}
	s.parts.onStop("healer probers", func() error { open.Close(); return nil })
	s.heal = &healing{journal: j, probers: open}
	o := remediation.Options{
		Config: s.cfg, Probers: probers, Release: open.release, Journal: j, DryRun: s.flags.dryRun, Lines: s.lines, Log: s.log,
		Operator: op, Trigger: policies.TriggerAlarm, NewID: newID, Raise: s.raise,
		Trouble: func(now time.Time) map[string]bool {
			if a := s.heal.agent.Load(); a != nil {
				return a.Critical(now)
			}
			return nil // nobody has been seen yet
		},
	}
	if !s.has("agent") {
		o.Trouble = nil // nobody watches the fleet for us
	}
	s.heal.healer = remediation.New(o)
	return nil
}

// raise publishes what the healer says of itself. It does not wait for the bus, which gets it when it is there.
func (s *service) raise(a policies.Alarm) {
	if err := s.heal.pub.Publish(context.Background(), a); err != nil {
		s.log.Error("alarm of the healer could not be published", "alarm", a.ID, "metric", string(a.Metric), "err", err)
	}
}

// startRoles starts the readers of the bus before the agent that publishes: the first alarm is not lost on them.
func (s *service) startRoles(ctx context.Context) error {
	var ready []<-chan struct{}
	if s.has("archiver") {
		r, err := s.startArchiver(ctx)
		if err != nil {
			return err
		}
		ready = append(ready, r)
	}
	if s.has("dba") {
		sub := s.bus.Subscribe(observer.DBATopics())
		ready = append(ready, s.startSubscription("dba", sub))
		s.parts.start("dba", observer.NewDBA(s.observing("dba", sub)).Run)
		r, err := s.startNotify(ctx)
		if err != nil {
			return err
		}
		ready = append(ready, r)
	}
	if s.has("dashboard") {
		sub := s.bus.Subscribe(observer.DashboardTopics())
		ready = append(ready, s.startSubscription("dashboard", sub))
		s.parts.start("dashboard", observer.NewDashboard(s.observing("dashboard", sub)).Run)
	}
	if s.has("healer") {
		r, err := s.startHealer()
		if err != nil {
			return err
		}
		ready = append(ready, r)
	}
	if !s.has("agent") {
		return nil
	}
	await(ctx, ready)
	return s.startAgent()
}

// await waits until every reader is subscribed, for 3 s at most: a bus that is down must not keep the agent from watching.
func await(ctx context.Context, ready []<-chan struct{}) {
	limit := time.NewTimer(3 * time.Second)
	defer limit.Stop()
	for _, r := range ready {
		select {
		case <-r:
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// observing is what a role that shows alarms needs; each has a decoder of its own, which knows what that role has had.
func (s *service) observing(role string, sub *bus.Subscription) observer.Options {
	return observer.Options{Feed: sub, Decode: bus.NewDecoder(s.cfg.Bus.Prefix, s.log.With("component", role)), Out: s.lines, Prefix: s.cfg.Bus.Prefix, Log: s.log}
}

// startSubscription starts the one of a reader, whose name it is counted under.
func (s *service) startSubscription(name string, sub *bus.Subscription) <-chan struct{} {
	s.readers = append(s.readers, reader{name, sub})
	s.parts.start(name+" subscription", sub.Run)
	return sub.Ready()
}

func (s *service) startArchiver(ctx context.Context) (<-chan struct{}, error) {
	store, err := archive.Open(ctx, filepath.Join(s.cfg.StateDir, archiveFile))
	if err != nil {
		return nil, err
	}
	s.parts.onStop("archive", store.Close)
	s.parts.start("archive retention", func(ctx context.Context) error {
		return store.Retain(ctx, archiveLimits(s.cfg), s.log.With("component", "archive"))
	})
	sub, err := archiverFeed(ctx, s.bus, store)
	if err != nil {
		return nil, err
	}
	ready := s.startSubscription("archiver", sub)
	o := s.observing("archiver", sub)
	s.archived = bus.NewDecoder(s.cfg.Bus.Prefix, s.log.With("component", "archiver")).CountGaps()
	o.Decode = s.archived
	s.parts.start("archiver", observer.NewArchiver(o, store).Run)
	return ready, nil
}

// startHealer starts the state machines, then the reader that hands them the critical alarms.
func (s *service) startHealer() (<-chan struct{}, error) {
	h := s.heal.healer
	id, err := busID(s.cfg.StateDir)
	if err != nil {
		return nil, err
	}
	s.heal.pub = s.bus.NewSpoolingPublisher(filepath.Join(s.cfg.StateDir, "spool-healer"))
	s.parts.start("healer publisher", s.heal.pub.Run)
	s.parts.start("healer", h.Run)
	sub := s.bus.SubscribeGroup(observer.DBATopics(), bus.Group{Name: "healer-" + id, Consumer: operator("").Host})
	ready := s.startSubscription("healer", sub)
	log := s.log.With("component", "healer")
	decoder, gate := bus.NewDecoder(s.cfg.Bus.Prefix, log), bus.NewGate(s.keys, s.cfg.Bus.Prefix, log)
	s.gate = gate
	s.parts.start("healer alarms", func(ctx context.Context) error {
		select {
		case <-ready:
			fmt.Fprintln(s.lines, policies.HealerStartLine)
		case <-ctx.Done():
			return ctx.Err()
		}
		for {
			batch := sub.Batch(ctx, 500, 0)
			if len(batch) == 0 {
				return ctx.Err()
			}
			for _, m := range batch {
				if s.mustSign.Load() && !gate.Pass(m, time.Now()) {
					continue
				}
				if a, err := decoder.Decode(m); err == nil {
					h.Alarm(a)
				}
			}
			sub.Ack(batch)
		}
	})
	return ready, nil
}

// startAgent starts watching. Critical alarms also go to the healer of this process directly: a dead bus stops nothing.
func (s *service) startAgent() error {
	s.pub = s.bus.NewSpoolingPublisher(filepath.Join(s.cfg.StateDir, "spool-agent"))
	s.parts.start("publisher", s.pub.Run)
	source := operator("").Host
	o := agent.Options{
		Config: s.cfg, Lines: s.lines, Log: s.log, NewID: newID, Source: source,
		Publish: func(a policies.Alarm) { _ = s.pub.Publish(context.Background(), a) },
		Probers: func(i policies.Instance, n policies.Node, pace policies.AgentConfig) (agent.Prober, error) {
			po, err := probe.For(i, n, pace.Timeout, s.log)
			if err != nil {
				return nil, err
			}
			return probe.New(po), nil
		},
	}
	if s.heal != nil {
		o.Direct = s.heal.healer.Alarm
		o.Hint = s.heal.healer.Hint
	}
	o.OnSnapshot = func(snap policies.Snapshot, in policies.Instance) {
		if s.heal != nil {
			s.heal.healer.Observe(snap)
		}
		s.web.observe(snap, in)
	}
	a, err := agent.New(o)
	if err != nil {
		return err
	}
	s.agent = a
	if s.heal != nil {
		s.heal.agent.Store(a)
	}
	s.parts.start("agent", func(ctx context.Context) error {
		err := a.Run(ctx)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	})
	return nil
}
