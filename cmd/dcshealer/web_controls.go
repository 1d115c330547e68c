package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"dcshealer/agent/observer/web"
	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// webOrder is what a person asks for on the dashboard.
type webOrder struct {
	Instance string          `json:"instance"`
	All      bool            `json:"all"` // pause, resume: every instance
	Action   policies.Action `json:"action"`
	Enabled  *bool           `json:"enabled"`
	For      string          `json:"for"` // such as 2h; empty: until changed
	Reason   string          `json:"reason"`
	Note     string          `json:"note"`
	By       string          `json:"by"`
}

const (
	viaDashboard = " via dashboard"
	maxByLength  = 100
	maxReason    = 1000
)

func badOrder(format string, args ...any) error {
	return &web.Fault{Status: http.StatusBadRequest, Err: fmt.Errorf(format, args...)}
}

// readOrder reads an order with a name; what it says goes into the journal as text of one line.
func readOrder(body []byte, fields string) (o webOrder, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return o, badOrder("want a JSON object with %s: %w", fields, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return o, badOrder("want one JSON object with %s", fields)
	}
	o.By = strings.TrimSpace(policies.Printable(o.By, maxByLength))
	o.Reason, o.Note = strings.TrimSpace(policies.Printable(o.Reason, maxReason)), strings.TrimSpace(policies.Printable(o.Note, maxReason))
	if o.By == "" {
		return o, badOrder("want by: your name, it goes into the journal")
	}
	o.By += viaDashboard
	return o, nil
}

// writeJournal runs one change of a person.
func (w *webSide) writeJournal(ctx context.Context, by string, change func(*journal.Journal) error) error {
	j, err := journal.Open(ctx, w.config().StateDir, operator(by))
	if err != nil {
		return err
	}
	return asFault(errors.Join(change(j), j.Close()))
}

func (w *webSide) setLive(ctx context.Context, r web.Request) (any, error) {
	const fields = "instance, action, enabled, for, reason, by"
	o, err := readOrder(r.Body, fields)
	if err != nil {
		return nil, err
	}
	if o.Enabled == nil {
		return nil, badOrder("want enabled: true or false")
	}
	cfg, now := w.config(), time.Now().UTC().Truncate(time.Millisecond)
	g, err := liveFlags{action: string(o.Action), period: o.For, reason: o.Reason, by: o.By}.grant(cfg, o.Instance, *o.Enabled, now)
	if err != nil {
		return nil, wrongParam(err)
	}
	if err := w.writeJournal(ctx, o.By, func(j *journal.Journal) error { return j.SetLive(ctx, g) }); err != nil {
		return nil, err
	}
	in, _ := cfg.Instance(o.Instance)
	return liveRowOf(in, g, now), nil
}

// scope is the instance that a pause is about, "" for all of them: nobody means all by leaving a name out.
func (o webOrder) scope(cfg policies.Config) (string, error) {
	switch _, ok := cfg.Instance(o.Instance); {
	case o.All && o.Instance != "", !o.All && o.Instance == "":
		return "", badOrder("want either instance, or all: true")
	case !o.All && !ok:
		return "", unknownInstance(cfg, o.Instance)
	}
	return o.Instance, nil
}

func (w *webSide) pause(ctx context.Context, r web.Request) (any, error) {
	o, err := readOrder(r.Body, "instance or all, for, reason, by")
	if err != nil {
		return nil, err
	}
	p := journal.Pause{Reason: o.Reason, By: o.By, At: time.Now().UTC().Truncate(time.Millisecond)}
	if p.Instance, err = o.scope(w.config()); err != nil {
		return nil, err
	}
	if p.Reason == "" {
		return nil, badOrder("want reason: it goes into the journal")
	}
	if o.For != "" {
		d, err := parseDuration(o.For)
		if err != nil || d <= 0 {
			return nil, badOrder("for %q: want a duration such as 30m, 2h or 3d", policies.Printable(o.For, 20))
		}
		p.Until = p.At.Add(d)
	}
	return p, w.writeJournal(ctx, o.By, func(j *journal.Journal) error { return j.SetPause(ctx, p) })
}

func (w *webSide) resume(ctx context.Context, r web.Request) (any, error) {
	o, err := readOrder(r.Body, "instance or all, reason, by")
	if err != nil {
		return nil, err
	}
	instance, err := o.scope(w.config())
	if err != nil {
		return nil, err
	}
	var cleared bool
	err = w.writeJournal(ctx, o.By, func(j *journal.Journal) (err error) {
		cleared, err = j.ClearPause(ctx, instance, o.By, o.Reason, time.Now())
		return err
	})
	return map[string]any{"instance": instance, "cleared": cleared}, err
}

func (w *webSide) acknowledge(ctx context.Context, r web.Request) (any, error) {
	o, err := readOrder(r.Body, "by, note")
	if err != nil {
		return nil, err
	}
	var in policies.Incident
	err = w.writeJournal(ctx, o.By, func(j *journal.Journal) (err error) {
		in, err = j.Acknowledge(ctx, r.ID, policies.Ack{By: o.By, Note: o.Note})
		return err
	})
	return in, err
}
