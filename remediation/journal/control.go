package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/sony/gobreaker/v2"

	"dcshealer/policies"
)

// control is the body of a control entry: who changed what may run.
type control struct {
	Control  string              `json:"control"` // live, pause, resume, breaker-reset; live-ended and pause-ended: it came to its end
	Live     *policies.LiveGrant `json:"live,omitempty"`
	Pause    *Pause              `json:"pause,omitempty"`
	Breaker  *BreakerReset       `json:"breaker,omitempty"`
	Operator policies.Operator   `json:"operator"`
}

// BreakerReset is a person's word that an action may be tried again.
type BreakerReset struct {
	Instance string          `json:"instance"` // empty: the breaker of the fleet
	Action   policies.Action `json:"action"`
	Was      string          `json:"was"` // the breaker's state before
	Reason   string          `json:"reason"`
	By       string          `json:"by"`
}

// Control is one control entry as it was written.
type Control struct {
	Seq int64     `json:"seq"`
	At  time.Time `json:"at"`
	control
}

// Instance is the one that the control is about; empty: all.
func (c Control) Instance() string {
	switch {
	case c.Live != nil:
		return c.Live.Instance
	case c.Pause != nil:
		return c.Pause.Instance
	case c.Breaker != nil:
		return c.Breaker.Instance
	}
	return ""
}

// By is the person, and Reason why; what came to its end has those of its beginning.
func (c Control) By() (by, reason string) {
	switch {
	case c.Live != nil:
		return c.Live.By, c.Live.Reason
	case c.Pause != nil:
		return c.Pause.By, c.Pause.Reason
	case c.Breaker != nil:
		return c.Breaker.By, c.Breaker.Reason
	}
	return "", ""
}

// Controls lists the changes of an instance, those of all included, from since on, oldest first; until zero: up to now; instance empty:
// of every instance.
func (j *Journal) Controls(ctx context.Context, instance string, since, until time.Time) (out []Control, err error) {
	err = j.view(ctx, "read the controls", func(tx *sql.Tx) (err error) {
		out, err = controlsIn(ctx, tx, instance, since, until)
		return err
	})
	return out, err
}

func controlsIn(ctx context.Context, tx *sql.Tx, instance string, since, until time.Time) ([]Control, error) {
	end := stamp(until)
	if end == "" {
		end = "~" // after every time
	}
	entries, err := query(ctx, tx, scanEntry, "SELECT "+entryColumns+" FROM entries WHERE kind = 'control' AND at >= ? AND at <= ? ORDER BY at, seq", stamp(since), end)
	if err != nil {
		return nil, err
	}
	out := []Control{}
	for _, e := range entries {
		c := Control{Seq: e.Seq, At: unstamp(e.At)}
		if err := json.Unmarshal(e.Body, &c.control); err != nil {
			return nil, fmt.Errorf("journal entry %d (%s) cannot be read: %w; run: dcshealer actions verify", e.Seq, e.Kind, err)
		}
		if on := c.Instance(); instance == "" || on == "" || on == instance {
			out = append(out, c)
		}
	}
	return out, nil
}

// Pauses lists those that stand at now, that of all first.
func (j *Journal) Pauses(ctx context.Context, now time.Time) ([]Pause, error) {
	var all []Pause
	err := j.view(ctx, "read the pauses", func(tx *sql.Tx) (err error) {
		all, err = query(ctx, tx, scanJSON[Pause], "SELECT body FROM pauses ORDER BY instance")
		return err
	})
	return slices.DeleteFunc(all, func(p Pause) bool { return !p.Standing(now) }), err
}

// EndOver takes away the live settings whose time is over at now, and writes into the chain that each of them, and each pause, has ended, once
// among all processes. It returns what it ended.
func (j *Journal) EndOver(ctx context.Context, now time.Time) (ended []Control, err error) {
	const doing = "end the pauses and live settings whose time is over"
	over := false
	err = j.view(ctx, doing, func(tx *sql.Tx) error {
		ps, gs, err := controlsOver(ctx, tx, now)
		over = len(ps)+len(gs) > 0
		return err
	})
	if err != nil || !over {
		return nil, err
	}
	err = j.commit(ctx, j.write, doing, func(tx *sql.Tx) error {
		ps, gs, err := controlsOver(ctx, tx, now) // again, now that nobody else can
		if err != nil {
			return err
		}
		for _, p := range ps {
			ended = append(ended, Control{control: control{Control: "pause-ended", Pause: &p, Operator: j.op}})
		}
		for _, g := range gs {
			ended = append(ended, Control{control: control{Control: "live-ended", Live: &g, Operator: j.op}})
		}
		return endAll(ctx, tx, ended, now)
	})
	if err != nil {
		return nil, err
	}
	return ended, nil
}

func endAll(ctx context.Context, tx *sql.Tx, ended []Control, now time.Time) error {
	for i, c := range ended {
		var err error
		if c.Pause != nil {
			err = endPause(ctx, tx, *c.Pause, now)
		} else {
			_, err = tx.ExecContext(ctx, "DELETE FROM grants WHERE instance = ? AND action = ?", c.Live.Instance, string(c.Live.Action))
		}
		if err != nil {
			return err
		}
		e, err := appendEntry(ctx, tx, "", KindControl, now.UTC(), c.control)
		if err != nil {
			return err
		}
		ended[i].Seq, ended[i].At = e.Seq, now.UTC()
	}
	return nil
}

// endPause notes that the end of a pause is written down.
func endPause(ctx context.Context, tx *sql.Tx, p Pause, now time.Time) error {
	p.Ended = now.UTC()
	body, err := json.Marshal(p)
	if err == nil {
		_, err = tx.ExecContext(ctx, "UPDATE pauses SET body = ? WHERE instance = ?", string(body), p.Instance)
	}
	return err
}

func controlsOver(ctx context.Context, tx *sql.Tx, now time.Time) (ps []Pause, gs []policies.LiveGrant, err error) {
	if ps, err = query(ctx, tx, scanJSON[Pause], "SELECT body FROM pauses ORDER BY instance"); err != nil {
		return nil, nil, err
	}
	gs, err = query(ctx, tx, scanJSON[policies.LiveGrant], "SELECT body FROM grants ORDER BY instance, action")
	return slices.DeleteFunc(ps, func(p Pause) bool { return !p.over(now) }), slices.DeleteFunc(gs, func(g policies.LiveGrant) bool { return g.Standing(now) }), err
}

// ResetBreaker closes the named breaker of r's instance and action, or of the fleet, and writes that into the chain, in one transaction.
// The Machines that it concerns look anew. It needs a reason and a By. One that never counted anything stays as it is.
func (j *Journal) ResetBreaker(ctx context.Context, name string, r BreakerReset, at time.Time) error {
	doing := "reset the breaker " + name
	if r.Reason == "" || r.By == "" {
		return fmt.Errorf("%s: want who does it and a reason", doing)
	}
	at = orNow(at).UTC()
	release, err := j.BreakerStore().Hold(ctx, name) // nobody counts between our reading and our writing
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer release()
	key := "gobreaker:state:" + name
	return j.commit(ctx, j.write, doing, func(tx *sql.Tx) error {
		var data []byte
		var s gobreaker.SharedState
		err := tx.QueryRowContext(ctx, "SELECT data FROM breakers WHERE name = ?", key).Scan(&data)
		if err == nil {
			// One that cannot be read is what a person resets, too.
			_ = json.Unmarshal(data, &s)
			// The next generation: an outcome that was counted towards the old one is not counted towards this.
			// Without a bucket the library panics at the next outcome (v2.4).
			data, err = json.Marshal(gobreaker.SharedState{State: gobreaker.StateClosed, Generation: s.Generation + 1, Buckets: make([]gobreaker.Counts, max(1, len(s.Buckets)))})
			if err == nil {
				_, err = tx.ExecContext(ctx, "UPDATE breakers SET data = ? WHERE name = ?", data, key)
			}
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if _, err := appendEntry(ctx, tx, "", KindControl, at, control{Control: "breaker-reset", Breaker: &r, Operator: j.op}); err != nil {
			return err
		}
		return nudge(ctx, tx, r.Instance)
	})
}

// Version changes when another connection, of this process or another, has written to the journal's file. It costs a fraction of a read, so
// that who waits for a person's word can ask often. Of a journal that was opened for reading only it is an error where another file has its
// place, or none: SQLite would read the one that was moved away for ever.
func (j *Journal) Version(ctx context.Context) (v int64, err error) {
	const doing = "ask whether the journal was written to"
	if j.file != nil {
		now, err := os.Stat(j.path())
		if err == nil && !os.SameFile(now, j.file) {
			err = fmt.Errorf("%s is another file than the one that was opened: open it again", j.path())
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", doing, err)
		}
	}
	if err := j.version.QueryRowContext(ctx, "PRAGMA data_version").Scan(&v); err != nil {
		return 0, explain(doing, j.path(), err)
	}
	return v, nil
}
