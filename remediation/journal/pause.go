package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Pause is a person's stop to all actions, on one instance or everywhere.
type Pause struct {
	Instance string    `json:"instance"`       // empty: all
	Until    time.Time `json:"until,omitzero"` // zero: until resumed
	Reason   string    `json:"reason"`
	By       string    `json:"by"`
	At       time.Time `json:"at"`

	// Ended is when its end was written down. The pause is kept all the same: by a clock that is put right later it may stand again.
	Ended time.Time `json:"ended,omitzero"`
}

// over reports whether its end is to be written down at now.
func (p Pause) over(now time.Time) bool {
	return !p.Standing(now) && (p.Ended.IsZero() || p.Ended.After(now))
}

// Standing reports whether the pause still holds at now.
func (p Pause) Standing(now time.Time) bool { return p.Until.IsZero() || now.Before(p.Until) }

// SetPause replaces the pause of p's instance, or of all, and writes the change into the chain, in one transaction.
func (j *Journal) SetPause(ctx context.Context, p Pause) error {
	doing := "pause " + scope(p.Instance)
	p.At = orNow(p.At).UTC()
	if p.Reason == "" || p.By == "" {
		return fmt.Errorf("%s: want who does it and a reason", doing)
	}
	if !p.Standing(p.At) {
		return fmt.Errorf("%s: it would end at %s, before it begins", doing, p.Until.UTC().Format(time.RFC3339))
	}
	body, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return j.commit(ctx, j.write, doing, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO pauses (instance, body) VALUES (?, ?)", p.Instance, string(body)); err != nil {
			return err
		}
		_, err := appendEntry(ctx, tx, "", KindControl, p.At, control{Control: "pause", Pause: &p, Operator: j.op})
		return err
	})
}

// ClearPause ends the pause of an instance, or with "" the one of all, and writes that into the chain; false when there was none. One whose
// time is over is left to EndOver.
func (j *Journal) ClearPause(ctx context.Context, instance, by, reason string, at time.Time) (cleared bool, err error) {
	at = orNow(at).UTC()
	err = j.commit(ctx, j.write, "resume "+scope(instance), func(tx *sql.Tx) error {
		found, err := query(ctx, tx, scanJSON[Pause], "SELECT body FROM pauses WHERE instance = ?", instance)
		if cleared = len(found) > 0 && found[0].Standing(at); err != nil || !cleared {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM pauses WHERE instance = ?", instance); err != nil {
			return err
		}
		p := Pause{Instance: instance, Reason: reason, By: by, At: at}
		_, err = appendEntry(ctx, tx, "", KindControl, at, control{Control: "resume", Pause: &p, Operator: j.op})
		return err
	})
	return cleared && err == nil, err
}

// Paused returns the pause that holds for the instance at now, its own before the one of all; false when there is none.
func (j *Journal) Paused(ctx context.Context, instance string, now time.Time) (Pause, bool, error) {
	var found []Pause
	err := j.view(ctx, "read the pauses of "+instance, func(tx *sql.Tx) (err error) {
		found, err = query(ctx, tx, scanJSON[Pause], "SELECT body FROM pauses WHERE instance IN (?, '') ORDER BY instance DESC", instance)
		return err
	})
	i := slices.IndexFunc(found, func(p Pause) bool { return p.Standing(now) })
	if err != nil || i < 0 {
		return Pause{}, false, err
	}
	return found[i], true, nil
}

func scope(instance string) string {
	if instance == "" {
		return "all instances"
	}
	return instance
}
