package remediation

import (
	"context"
	"fmt"
	"sync"
	"time"

	"dcshealer/policies"
)

const (
	pulseEvery  = 5 * time.Second
	pulseRoom   = 16 << 10 // bytes: a record of an action has room where this has
	retainAfter = time.Hour
	retainEvery = 24 * time.Hour
)

// keeper knows whether the journal can be written, and when it was last cut.
type keeper struct {
	mu     sync.Mutex // guards what follows
	fault  string     // why it cannot be written; empty: it can
	raised policies.Alarm
}

// reason is why nothing may be done without a record now; empty: it may.
func (k *keeper) reason() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fault
}

// keepJournal proves again and again, as often as every says, that the journal can be written, and drops once a day what is older than the config keeps.
func (h *Healer) keepJournal(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	retain := time.Now().Add(retainAfter) // a clock that was wrong at the start has been set by then
	for {
		now := time.Now()
		h.pulse(ctx, now)
		if !now.Before(retain) && h.retain(ctx, now) {
			retain = now.Add(retainEvery)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// pulse tries the journal. When it changes whether it can be written, that is said on every channel there is, once.
func (h *Healer) pulse(ctx context.Context, now time.Time) {
	err := h.opt.Journal.Pulse(ctx, now, pulseRoom)
	if err != nil && ctx.Err() != nil {
		return
	}
	fault := ""
	if err != nil {
		fault = err.Error()
	}
	k := &h.keeper
	k.mu.Lock()
	was := k.fault
	k.fault = fault
	k.mu.Unlock()
	switch {
	case was == "" && fault != "":
		h.log.Error("journal cannot be written: nothing is done until it can", "err", err)
		h.raise(policies.Firing, now, "the journal cannot be written, and nothing is done without a record: "+fault)
	case was != "" && fault == "":
		h.log.Info("journal can be written again")
		h.raise(policies.Resolved, now, policies.ResolvedPrefix+"the journal can be written again")
		for _, m := range h.machines() {
			h.Hint(m.in.Name)
		}
	}
}

// raise says something of the healer itself: on its console line and as an alarm.
func (h *Healer) raise(status policies.Status, now time.Time, msg string) {
	h.say(policies.SelfInstance, "%s", msg)
	a := policies.Alarm{Severity: policies.Critical, Instance: policies.SelfInstance, Metric: policies.MetricJournal, Node: h.opt.Operator.Host,
		Value: policies.Text("down"), Msg: policies.Printable(msg, 2000), At: now, Since: now, Status: status, Source: "healer@" + h.opt.Operator.Host}
	k := &h.keeper
	k.mu.Lock()
	if status == policies.Resolved {
		a.Value, a.Since = policies.Text("up"), k.raised.Since
	}
	k.raised = a
	k.mu.Unlock()
	h.publish(a)
}

// publish hands over an alarm of the healer's own.
func (h *Healer) publish(a policies.Alarm) {
	if h.opt.NewID != nil {
		a.ID = h.opt.NewID()
	}
	if h.opt.Raise != nil {
		h.opt.Raise(a)
	}
}

// retain drops what is older than the config keeps; false: not now, as our own clock is not to be trusted or the journal cannot be
// written.
func (h *Healer) retain(ctx context.Context, now time.Time) bool {
	keep := h.config().Journal.Keep
	if keep <= 0 {
		return true
	}
	if h.tilt.reason(now) != "" || h.keeper.reason() != "" {
		return false
	}
	c, err := h.opt.Journal.Retain(ctx, now.Add(-keep), now)
	switch {
	case err != nil && ctx.Err() == nil:
		h.log.Error("journal could not be cut, it is tried again tomorrow", "err", fmt.Errorf("keep %s of it: %w", keep, err))
	case c.Entries > 0:
		h.log.Info("old journal entries were dropped", "entries", c.Entries, "to", c.Dropped.Seq, "hash", c.Dropped.Hash)
	}
	return true
}
