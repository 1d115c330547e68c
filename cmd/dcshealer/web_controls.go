package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

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

func (o webOrder) flags() wordFlags { return wordFlags{period: o.For, reason: o.Reason, by: o.By} }

func (w *webSide) setLive(ctx context.Context, r web.Request) (any, error) {
	o, err := readOrder(r.Body, "instance, action, enabled, for, reason, by")
	if err != nil {
		return nil, err
	}
	if o.Enabled == nil {
		return nil, badOrder("want enabled: true or false")
	}
	cfg, f := w.config(), liveFlags{wordFlags: o.flags(), action: string(o.Action)}
	if _, err := f.grant(cfg, o.Instance, *o.Enabled, moment()); err != nil {
		return nil, wrongParam(err)
	}
	return switchLive(ctx, cfg, o.Instance, f, *o.Enabled)
}

// scope is the instance that an order is about, "" for all of them: nobody means all by leaving a name out.
func (o webOrder) scope(cfg policies.Config) (string, error) {
	switch _, ok := cfg.Instance(o.Instance); {
	case o.All == (o.Instance != ""):
		return "", badOrder("want either instance, or all: true")
	case !o.All && !ok:
		return "", unknownInstance(cfg, o.Instance)
	}
	return o.Instance, nil
}

// scoped is what pause and resume take.
func (w *webSide) scoped(r web.Request, fields string) (o webOrder, instance string, err error) {
	if o, err = readOrder(r.Body, fields); err != nil {
		return o, "", err
	}
	if instance, err = o.scope(w.config()); err != nil {
		return o, "", err
	}
	if _, err := o.flags().word("order", moment()); err != nil {
		return o, "", wrongParam(err)
	}
	return o, instance, nil
}

func (w *webSide) pause(ctx context.Context, r web.Request) (any, error) {
	o, instance, err := w.scoped(r, "instance or all, for, reason, by")
	if err != nil {
		return nil, err
	}
	p, running, err := setPause(ctx, w.config(), instance, o.flags())
	return pauseRowOf(p, running), asFault(err)
}

func (w *webSide) resume(ctx context.Context, r web.Request) (any, error) {
	o, instance, err := w.scoped(r, "instance or all, reason, by")
	if err != nil {
		return nil, err
	}
	return lift(ctx, w.config(), instance, o.flags())
}

func (w *webSide) acknowledge(ctx context.Context, r web.Request) (any, error) {
	o, err := readOrder(r.Body, "by, note")
	if err != nil {
		return nil, err
	}
	in, err := acknowledge(ctx, w.config(), r.ID, o.By, o.Note)
	return in, asFault(err)
}

func (w *webSide) resetBreaker(ctx context.Context, r web.Request) (any, error) {
	o, instance, err := w.scoped(r, "instance or all, action, reason, by")
	if err != nil {
		return nil, err
	}
	if !slices.Contains(policies.Actions[:], o.Action) {
		return nil, badOrder("action %q: want %s", policies.Printable(string(o.Action), 50), oneOf(policies.Actions[:]))
	}
	reset, err := resetBreaker(ctx, w.config(), journal.BreakerReset{Instance: instance, Action: o.Action}, o.flags())
	return reset, asFault(err)
}
