package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/oklog/ulid/v2"
	"golang.org/x/term"

	"dcshealer/agent/probe"
	"dcshealer/policies"
	"dcshealer/remediation"
	"dcshealer/remediation/journal"
)

// healerProbers are the healer's own probers, one a node; its evidence is never the agent's.
type healerProbers struct {
	log *slog.Logger

	mu   sync.Mutex // guards what follows
	open map[io.Closer]bool
}

// openProbers opens those of a config, by instance and node.
func openProbers(cfg policies.Config, log *slog.Logger) (*healerProbers, map[string]map[string]remediation.Prober, error) {
	p := &healerProbers{log: log, open: map[io.Closer]bool{}}
	all, err := p.of(cfg, cfg.Instances)
	return p, all, err
}

// forDiff opens those of the instances that come or are connected to in another way.
func (p *healerProbers) forDiff(cfg policies.Config, d policies.ConfigDiff) (map[string]map[string]remediation.Prober, error) {
	return p.of(cfg, slices.DeleteFunc(slices.Clone(cfg.Instances), func(i policies.Instance) bool {
		return !d.Reconnect[i.Name] && !slices.Contains(d.Added, i.Name)
	}))
}

// of opens those of some instances, or none where one of them cannot be made.
func (p *healerProbers) of(cfg policies.Config, instances []policies.Instance) (map[string]map[string]remediation.Prober, error) {
	all := map[string]map[string]remediation.Prober{}
	for _, i := range instances {
		all[i.Name] = map[string]remediation.Prober{}
		for _, n := range i.Nodes {
			o, err := probe.For(i, n, cfg.Agent.Timeout, p.log)
			if err != nil {
				for _, probers := range all {
					p.release(probers)
				}
				return nil, fmt.Errorf("make the prober of %s/%s: %w", i.Name, n.Name, err)
			}
			made := probe.New(o)
			all[i.Name][n.Name] = made
			p.mu.Lock()
			p.open[made] = true
			p.mu.Unlock()
		}
	}
	return all, nil
}

// release closes the probers of an instance that nobody uses any longer.
func (p *healerProbers) release(probers map[string]remediation.Prober) {
	for _, each := range probers {
		c, ok := each.(io.Closer)
		if !ok {
			continue
		}
		_ = c.Close() // it only reads
		p.mu.Lock()
		delete(p.open, c)
		p.mu.Unlock()
	}
}

// Close closes all that are open.
func (p *healerProbers) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
	clear(p.open)
}

// operator names this process, and the person when a command was given by hand.
func operator(by string) policies.Operator {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return policies.Operator{Host: host, PID: os.Getpid(), Version: version, By: by}
}

func newID() string { return ulid.Make().String() }

// progressLine shows on a terminal how far an action has come, on one line that is written over; nil where there is no terminal.
func (a *app) progressLine() func(policies.Progress) {
	f, ok := a.stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return func(p policies.Progress) { fmt.Fprintf(f, "\r\x1b[K%s\r", printable(p.String())) }
}

// handHealer makes a Healer for one command given by hand. A journal that cannot be opened is not an error here: the guards deny then.
// With lookOnly it is opened for reading and not made.
func (a *app) handHealer(ctx context.Context, cfg policies.Config, lines io.Writer, lookOnly bool) (*remediation.Healer, func(), error) {
	log, err := logFlags{level: "warn"}.newLogger(a.stderr)
	if err != nil {
		return nil, nil, err
	}
	open, probers, err := openProbers(cfg, log)
	if err != nil {
		return nil, nil, err
	}
	op := operator(sessionUser())
	var j *journal.Journal
	var jerr error
	if lookOnly {
		j, jerr = journal.OpenReadOnly(ctx, cfg.StateDir)
	} else {
		j, jerr = journal.Open(ctx, cfg.StateDir, op)
	}
	h := remediation.New(remediation.Options{
		Config: cfg, Probers: probers, Journal: j, JournalErr: jerr, Lines: lines, Log: log,
		Operator: op, Trigger: policies.TriggerManual, NewID: newID, LookOnly: lookOnly, Progress: a.progressLine(),
	})
	return h, func() {
		open.Close()
		if j != nil {
			if err := j.Close(); err != nil && !errors.Is(err, context.Canceled) {
				log.Warn("journal was not closed well", "err", err)
			}
		}
	}, nil
}
