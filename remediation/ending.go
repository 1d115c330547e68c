package remediation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

const (
	endingEvery = 500 * time.Millisecond
	mostAhead   = 5 * time.Minute
	leastAhead  = 2 * time.Second
)

// aheadOf is how long before its end something that lasts so long is announced: a tenth of it, at most five minutes before.
func aheadOf(lasts time.Duration) time.Duration { return min(mostAhead, max(leastAhead, lasts/10)) }

// ending is a pause or a live setting that ends by itself.
type ending struct {
	pause     bool
	instance  string          // empty: all
	action    policies.Action // of a live setting
	enabled   bool
	at, until time.Time
	by        string
}

func endingOfPause(p journal.Pause) ending {
	return ending{pause: true, instance: p.Instance, at: p.At, until: p.Until, by: signed(p.By, p.Reason)}
}

func endingOfLive(g policies.LiveGrant) ending {
	return ending{instance: g.Instance, action: g.Action, enabled: g.Enabled, at: g.At, until: g.Until, by: signed(g.By, g.Reason)}
}

func signed(by, reason string) string { return " (by " + by + ": " + reason + ")" }

// near reports whether it has to be announced at now.
func (e ending) near(now time.Time) bool {
	return !e.until.IsZero() && !now.Before(e.until.Add(-aheadOf(e.until.Sub(e.at))))
}

func (e ending) what() string {
	switch {
	case e.pause:
		return "pause"
	case e.enabled:
		return "live setting of " + string(e.action)
	}
	return "switch-off of " + string(e.action)
}

// next is when something is to be said of it, after now; zero: never.
func (e ending) next(now time.Time) time.Time {
	if e.until.IsZero() || e.near(now) {
		return e.until
	}
	return e.until.Add(-aheadOf(e.until.Sub(e.at)))
}

// announced are the endings that were said to be near, each with the alarm that says so.
type announced map[ending]policies.Alarm

// watchEndings says before and at the end of each pause and live setting that it is so, until ctx ends: nothing begins to act, or ceases
// to, without a word. What ended while no healer ran is said at the start.
func (h *Healer) watchEndings(ctx context.Context) {
	tick := time.NewTicker(endingEvery)
	defer tick.Stop()
	said, fault := announced{}, ""
	var version int64 // of the journal when it was read
	var due time.Time // when something is to be said, if nobody writes to it before
	for {
		now := time.Now()
		// By a clock that has just been set nothing ends.
		if v, err := h.opt.Journal.Version(ctx); h.tilt.reason(now) == "" && (err != nil || v != version || !now.Before(due)) {
			version = v
			due, err = h.sayEndings(ctx, said, now)
			if ctx.Err() != nil {
				return
			}
			if text := fmt.Sprint(err); err == nil {
				fault = ""
			} else if text != fault {
				fault = text
				h.log.Error("the ends of pauses and live settings cannot be written down", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sayEndings says what is near its end and what has ended, and returns when there is more to say. An end is said once among all processes,
// when the journal has it.
func (h *Healer) sayEndings(ctx context.Context, said announced, now time.Time) (due time.Time, err error) {
	pauses, err := h.opt.Journal.Pauses(ctx, now)
	if err != nil {
		return now, err
	}
	grants, err := h.opt.Journal.Live(ctx, now)
	if err != nil {
		return now, err
	}
	ended, err := h.opt.Journal.EndOver(ctx, now)
	for _, c := range ended {
		e, still := endingOf(c), ""
		if e.pause {
			still = stillPaused(e, pauses)
		}
		h.sayEnd(said, e, h.endText(e, grants, now)+still, now)
	}
	if err != nil {
		return now, err
	}
	due = now.Add(365 * 24 * time.Hour)
	standing := standingOf(pauses, grants)
	for _, e := range standing {
		if _, known := said[e]; !known && e.near(now) {
			said[e] = h.sayNear(e, now)
		}
		if next := e.next(now); !next.IsZero() && next.Before(due) {
			due = next
		}
	}
	for _, e := range slices.Collect(maps.Keys(said)) {
		if !slices.Contains(standing, e) {
			h.sayEnd(said, e, e.what()+" was lifted or changed before its end", now)
		}
	}
	return due, nil
}

func standingOf(pauses []journal.Pause, grants []policies.LiveGrant) (out []ending) {
	for _, p := range pauses {
		out = append(out, endingOfPause(p))
	}
	for _, g := range grants {
		out = append(out, endingOfLive(g))
	}
	return out
}

func endingOf(c journal.Control) ending {
	if c.Pause != nil {
		return endingOfPause(*c.Pause)
	}
	return endingOfLive(*c.Live)
}

func (h *Healer) sayNear(e ending, now time.Time) policies.Alarm {
	then := "live actions may run again then"
	if !e.pause {
		then = h.modeText(e, nil, now) + " then"
	}
	text := fmt.Sprintf("%s ends in %s, at %s UTC%s: %s", e.what(), e.until.Sub(now).Round(time.Second), e.until.UTC().Format("15:04:05"), e.by, then)
	return h.sayEnding(e, text, policies.Firing, now, now)
}

func (h *Healer) sayEnd(said announced, e ending, text string, now time.Time) {
	since := e.at
	if a, ok := said[e]; ok {
		since = a.Since
	}
	delete(said, e)
	h.sayEnding(e, text, policies.Resolved, since, now)
}

// endText says what holds from now on.
func (h *Healer) endText(e ending, grants []policies.LiveGrant, now time.Time) string {
	if e.pause {
		return "pause has ended" + e.by + ": live actions may run again"
	}
	return e.what() + " has ended" + e.by + ": " + h.modeText(e, grants, now)
}

// modeText is what holds for the action of a live setting without it.
func (h *Healer) modeText(e ending, grants []policies.LiveGrant, now time.Time) string {
	m := h.machine(e.instance)
	if m == nil {
		return "its instance is not in the config"
	}
	mode, why := policies.ModeOf(m.in, e.action, grants, h.opt.DryRun, now)
	if mode == policies.Live {
		return "it may run for real (" + why + ")"
	}
	return "it runs dry"
}

// stillPaused names the other pauses that keep what one had paused from acting.
func stillPaused(e ending, pauses []journal.Pause) string {
	var names []string
	for _, p := range pauses {
		if e.instance == "" || p.Instance == "" {
			names = append(names, scopeText(p.Instance))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "; still paused: " + strings.Join(names, ", ")
}

func scopeText(instance string) string {
	if instance == "" {
		return "all instances"
	}
	return instance
}

// sayEnding says it on the console, in the log and as a notice on the bus; of all instances it is about the healer itself.
func (h *Healer) sayEnding(e ending, text string, status policies.Status, since, now time.Time) policies.Alarm {
	h.say(scopeText(e.instance), "%s", text)
	h.log.Warn("a control ends", "instance", e.instance, "action", e.action, "until", e.until.UTC().Format(time.RFC3339), "reason", text)
	a := policies.Alarm{Severity: policies.Notice, Instance: e.instance, Metric: policies.MetricPause, Value: policies.Text("ends"), Msg: policies.Printable(text, 2000),
		At: now, Since: since, Status: status, Source: "healer@" + h.opt.Operator.Host}
	if !e.pause {
		a.Metric = policies.MetricLive(e.action)
	}
	if e.instance == "" {
		a.Instance, a.Msg = policies.SelfInstance, scopeText("")+": "+a.Msg
	}
	if status == policies.Resolved {
		a.Value, a.Msg = policies.Text("ended"), policies.ResolvedPrefix+a.Msg
	}
	h.publish(a)
	return a
}
