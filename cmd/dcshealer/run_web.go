package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"dcshealer/agent/archive"
	"dcshealer/agent/bus"
	"dcshealer/agent/observer/metrics"
	"dcshealer/agent/observer/web"
	"dcshealer/policies"
)

// webSide is what this process serves at its listen address.
type webSide struct {
	s        *service
	listener net.Listener
	server   *web.Server
	metrics  *metrics.Metrics
	cfg      atomic.Pointer[policies.Config] // in effect
	watch    *journalWatch
	sub      *bus.Subscription // set before it serves
}

// openWeb takes the listen address, so that one that is taken is told before anything else is started. A process without the role
// dashboard goes on without: another of the same config may have it.
func (s *service) openWeb() error {
	if s.cfg.Listen == "" {
		return nil
	}
	w := &webSide{s: s}
	cfg := s.cfg // a copy of its own: reloads change that of the service
	w.cfg.Store(&cfg)
	w.metrics = metrics.New(version, w.facts)
	w.watch = newJournalWatch(w.config, w.metrics.Decision, w.publish)
	server, err := web.New(web.Options{
		Version: version, Dashboard: s.has("dashboard"), Answers: w.answers(), Metrics: w.metrics.Handler(), Ready: w.ready,
		Token: func() policies.Secret { return w.config().Dashboard.Token }, Open: !cfg.ListensBeyond(), Secure: cfg.Dashboard.CertFile != "", Log: s.log,
	})
	if err != nil {
		return err
	}
	w.server = server
	server.Configure(cfg)
	if w.listener, err = listenWeb(cfg); err != nil {
		if !s.has("dashboard") {
			s.log.Warn("metrics and health are not served", "err", err)
			return nil
		}
		return err
	}
	s.parts.onStop("dashboard listener", func() error {
		if err := w.listener.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	s.web = w
	return nil
}

// listenWeb listens, with TLS where the config has it.
func listenWeb(cfg policies.Config) (net.Listener, error) {
	var secure *tls.Config
	if d := cfg.Dashboard; d.CertFile != "" {
		var err error
		if secure, err = web.Certificate(d.CertFile, d.KeyFile); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s for the dashboard: %w; set listen in %s to a free address, or to \"\" for none", cfg.Listen, err, cfg.File)
	}
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	return l, nil
}

// listens is where this process really listens; empty: nowhere.
func (s *service) listens() string {
	if s.web == nil {
		return ""
	}
	return s.web.listener.Addr().String()
}

// startWeb serves, once all that it shows runs.
func (s *service) startWeb() {
	w := s.web
	if w == nil {
		return
	}
	w.sub = s.bus.Subscribe(policies.Topics{Severities: policies.Severities[:]})
	s.startSubscription("page", w.sub)
	s.parts.start("dashboard alarms", w.alarms)
	s.parts.start("dashboard journal", w.watch.run)
	s.parts.start("dashboard server", func(ctx context.Context) error { return w.server.Serve(ctx, w.listener) })
	scheme := "http"
	if w.config().Dashboard.CertFile != "" {
		scheme = "https"
	}
	s.log.Info("dashboard, metrics and health are served", "url", scheme+"://"+s.listens())
}

// config is the one in effect now.
func (w *webSide) config() policies.Config { return *w.cfg.Load() }

// reloaded takes another config into effect.
func (w *webSide) reloaded(cfg policies.Config) {
	if w == nil {
		return
	}
	w.cfg.Store(&cfg)
	w.server.Configure(cfg)
}

// observe keeps what a probe of the agent read.
func (w *webSide) observe(snap policies.Snapshot, in policies.Instance) {
	if w == nil {
		return
	}
	w.server.Observe(snap, in, metrics.Lag(w.s.agent.Latest(in.Name), snap))
}

func (w *webSide) publish(kind string, v any) {
	if err := w.server.Publish(kind, v); err != nil {
		w.s.log.Error("dashboard event lost", "err", err)
	}
}

// maxEventPayload bounds what one alarm of anybody costs every reader of the events; a longer one is shown by its known fields alone.
const maxEventPayload = 16 << 10

// alarms counts what comes on the bus, and shows critical and warning alarms live.
func (w *webSide) alarms(ctx context.Context) error {
	decoder := bus.NewDecoder(w.config().Bus.Prefix, w.s.log.With("component", "dashboard"))
	for {
		batch := w.sub.Batch(ctx, 500, 0)
		if len(batch) == 0 {
			return ctx.Err()
		}
		for _, m := range batch {
			a, err := decoder.Decode(m)
			if err != nil {
				continue // counted and logged there
			}
			w.metrics.Alarm(a)
			if a.Severity >= policies.Warning {
				w.showAlarm(a, m)
			}
		}
	}
}

func (w *webSide) showAlarm(a policies.Alarm, m policies.Message) {
	a.Msg = policies.Printable(a.Msg, 4000)
	stored := archive.Stored{Alarm: a, Received: m.At, Payload: m.Payload, Size: len(m.Payload)}
	if len(m.Payload) > maxEventPayload {
		stored.Payload = nil
	}
	if object, err := wireObject(stored); err == nil {
		w.publish("alarm", object)
	}
}

// facts are what metrics show of the moment.
func (w *webSide) facts() metrics.Facts {
	cfg := w.config()
	f := metrics.Facts{Config: cfg, Bus: w.s.busFacts()}
	f.Bus.Connected = w.sub.Connected()
	status := w.watch.status()
	f.Healer = status.Running
	if w.watch.seen() && status.Running {
		f.Journal = policies.Known(status.Journal == "")
	}
	f.Receivers = receiverFacts(cfg)
	for _, i := range status.Instances {
		f.Machines = append(f.Machines, metrics.Machine{Instance: i.Instance, State: i.State, Modes: i.Modes, Breakers: i.Breakers, Paused: i.Paused, Open: len(i.Open)})
	}
	if a := w.s.agent; a != nil {
		for _, in := range cfg.Instances {
			f.Groups = append(f.Groups, a.Latest(in.Name))
			f.Standing = append(f.Standing, a.Alarms(in.Name)...)
		}
		f.Late, f.Tilted = policies.Known(a.Late()), policies.Known(a.Tilt(time.Now()) != "")
	}
	return f
}

// receiverFacts are read at each scrape; none where they cannot be: status says why.
func receiverFacts(cfg policies.Config) (out []metrics.Receiver) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	told, err := notifyReportOf(ctx, cfg)
	if err != nil {
		return nil
	}
	for _, r := range told.Receivers {
		out = append(out, metrics.Receiver{Name: r.Receiver, Pending: r.Pending, Dead: r.Dead, Delivered: r.Delivered, Failed: r.Failed})
	}
	return out
}

// ready says what of this process works.
func (w *webSide) ready(ctx context.Context) []web.Check {
	checks := []web.Check{{Name: "bus", OK: w.sub.Connected()}}
	if !checks[0].OK {
		checks[0].Text = "not subscribed to the bus at " + w.s.bus.Addr() + ": see the log; alarms wait for it, and the healer of this process gets them directly"
	}
	now := time.Now()
	if w.s.agent != nil {
		checks = append(checks, w.probing(now))
	}
	if w.s.heal != nil {
		checks = append(checks, w.journalWritable(ctx, now))
	}
	return checks
}

// probing reports whether every node was probed a short while ago, well or in vain.
func (w *webSide) probing(now time.Time) web.Check {
	cfg := w.config()
	oldest := now.Add(-3*cfg.Agent.Interval - 2*cfg.Agent.Timeout)
	for _, in := range cfg.Instances {
		g := w.s.agent.Latest(in.Name)
		for _, n := range in.Nodes {
			s, ok := g.Of(n.Name)
			switch {
			case !ok:
				return web.Check{Name: "probing", Text: fmt.Sprintf("%s/%s has not been probed yet", in.Name, n.Name)}
			case s.At.Before(oldest):
				return web.Check{Name: "probing", Text: fmt.Sprintf("%s/%s was last probed %s ago: is this machine starved of CPU?", in.Name, n.Name, s.Age(now).Round(time.Second))}
			}
		}
	}
	return web.Check{Name: "probing", OK: true}
}

func (w *webSide) journalWritable(ctx context.Context, now time.Time) web.Check {
	c := web.Check{Name: "journal"}
	pulsed, ever, err := w.s.heal.journal.Pulsed(ctx)
	switch {
	case err != nil:
		c.Text = err.Error()
	case !ever:
		c.Text = "the healer has not written its journal yet"
	default:
		c.Text = silentJournal(pulsed, ever, now)
	}
	c.OK = c.Text == ""
	return c
}
