package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

const (
	journalTick  = 500 * time.Millisecond
	journalAgain = 10 * time.Second // without a change too: pauses end and breakers half-open by time alone
	recordTail   = time.Minute      // decisions of so long ago are looked at again
)

// journalWatch follows the journal of the state_dir, whichever process writes it: what the machines are, and what was decided.
type journalWatch struct {
	config  func() policies.Config
	decided func(policies.Record)    // one that has come to its outcome after the watch began
	publish func(kind string, v any) // what has changed

	// only run's goroutine uses these
	j       *journal.Journal
	version int64
	at      time.Time
	shown   map[string][]byte          // what was published, by instance; "" the fleet
	records map[string]policies.Record // of the tail
	from    time.Time                  // where the tail begins; zero: it has not been looked at

	mu   sync.Mutex // guards what follows
	last fleetStatus
	read bool
}

func newJournalWatch(config func() policies.Config, decided func(policies.Record), publish func(string, any)) *journalWatch {
	return &journalWatch{config: config, decided: decided, publish: publish, shown: map[string][]byte{}, records: map[string]policies.Record{}}
}

// status is what was last read; empty before the first look.
func (w *journalWatch) status() fleetStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// seen reports whether anything was read.
func (w *journalWatch) seen() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.read
}

func (w *journalWatch) run(ctx context.Context) error {
	defer w.close()
	tick := time.NewTicker(journalTick)
	defer tick.Stop()
	for {
		if err := w.look(ctx, time.Now()); err != nil && ctx.Err() == nil {
			w.close() // a journal that was replaced is opened anew; the healer itself tells of one that is broken
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *journalWatch) close() {
	if w.j != nil {
		_ = w.j.Close() // it was only read
		w.j = nil
	}
}

// look reads the journal where it has changed.
func (w *journalWatch) look(ctx context.Context, now time.Time) error {
	cfg := w.config()
	if w.j == nil {
		j, err := journal.OpenReadOnly(ctx, cfg.StateDir)
		if err != nil && !errors.Is(err, journal.ErrNoJournal) {
			return err
		}
		if err == nil {
			w.j, w.at = j, time.Time{}
		}
	}
	version := int64(0)
	if w.j != nil {
		var err error
		if version, err = w.j.Version(ctx); err != nil {
			return err
		}
	}
	if since := now.Sub(w.at); version == w.version && since >= 0 && since < journalAgain {
		return nil
	}
	if err := w.readStatus(ctx, cfg, now); err != nil {
		return err
	}
	if err := w.readRecords(ctx, now); err != nil {
		return err
	}
	w.version, w.at = version, now
	return nil
}

func (w *journalWatch) readStatus(ctx context.Context, cfg policies.Config, now time.Time) error {
	s, err := statusOfFleet(ctx, w.j, cfg, now)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.last, w.read = s, true
	w.mu.Unlock()
	w.show("", "fleet", map[string]any{"running": s.Running, "journal": s.Journal, "bus": s.Bus, "bus_counts": s.BusCounts, "bus_note": s.BusNote,
		"notifications": s.Notifications, "notify_note": s.NotifyNote})
	for _, i := range s.Instances {
		w.show(i.Instance, "state", i)
	}
	return nil
}

// show publishes what is not as it was.
func (w *journalWatch) show(name, kind string, v any) {
	data, err := json.Marshal(v)
	if err != nil || bytes.Equal(data, w.shown[name]) {
		return
	}
	w.shown[name] = data
	w.publish(kind, json.RawMessage(data))
}

// readRecords finds decisions that are new, or have come to their outcome. Those from before the watch began are not counted.
func (w *journalWatch) readRecords(ctx context.Context, now time.Time) error {
	if w.j == nil {
		w.from = now.Add(-recordTail) // all that comes is new
		return nil
	}
	first := w.from.IsZero()
	if first {
		w.from = now.Add(-time.Hour)
	}
	list, err := w.j.List(ctx, journal.Filter{Since: w.from})
	if err != nil {
		return err
	}
	from := now.Add(-recordTail)
	tail := map[string]policies.Record{}
	for i := len(list) - 1; i >= 0; i-- { // oldest first
		r := list[i]
		was, known := w.records[r.ID]
		if !first && (!known || was.Outcome != r.Outcome) {
			w.tell(r)
		}
		if r.Outcome == policies.OutcomeRunning && r.At.Before(from) {
			from = r.At
		}
		tail[r.ID] = policies.Record{At: r.At, Outcome: r.Outcome}
	}
	w.records, w.from = tail, from
	return nil
}

func (w *journalWatch) tell(r policies.Record) {
	if r.Outcome != policies.OutcomeRunning {
		w.decided(r)
	}
	w.publish("action", map[string]any{"id": r.ID, "incident": r.Incident, "instance": r.Instance, "node": r.Node, "action": r.Action, "mode": r.Mode,
		"outcome": r.Outcome, "cause": r.Cause, "at": r.At, "denied_by": r.DeniedBy})
}
