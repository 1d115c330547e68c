package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/oklog/ulid/v2"
	"golang.org/x/term"

	"dcshealer/agent/probe"
	"dcshealer/policies"
	"dcshealer/remediation"
	"dcshealer/remediation/journal"
)

// healerProbers opens the healer's own probers, one a node; its evidence is never the agent's.
func healerProbers(cfg policies.Config, log *slog.Logger) (map[string]map[string]remediation.Prober, func(), error) {
	all := map[string]map[string]remediation.Prober{}
	var closers []io.Closer
	closeAll := func() {
		for _, c := range closers {
			_ = c.Close()
		}
	}
	for _, i := range cfg.Instances {
		all[i.Name] = map[string]remediation.Prober{}
		for _, n := range i.Nodes {
			o, err := probe.For(i, n, cfg.Agent.Timeout, log)
			if err != nil {
				closeAll()
				return nil, nil, err
			}
			p := probe.New(o)
			closers = append(closers, p)
			all[i.Name][n.Name] = p
		}
	}
	return all, closeAll, nil
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
	probers, closeProbers, err := healerProbers(cfg, log)
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
		closeProbers()
		if j != nil {
			if err := j.Close(); err != nil && !errors.Is(err, context.Canceled) {
				log.Warn("journal was not closed well", "err", err)
			}
		}
	}, nil
}
