package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"dcshealer/policies"
)

// SetLive replaces the grant of g's instance and action and writes the change into the chain, in one transaction.
// It needs an instance, an action, a reason and a By; a zero At is now.
func (j *Journal) SetLive(ctx context.Context, g policies.LiveGrant) error {
	doing := fmt.Sprintf("set live %s of %s", g.Action, g.Instance)
	g.At = orNow(g.At).UTC()
	if g.Instance == "" || !slices.Contains(policies.Actions[:], g.Action) {
		return fmt.Errorf("%s: want an instance and one of the actions %v", doing, policies.Actions)
	}
	if g.Reason == "" || g.By == "" {
		return fmt.Errorf("%s: want who does it and a reason", doing)
	}
	if !g.Standing(g.At) {
		return fmt.Errorf("%s: it would end at %s, before it begins", doing, g.Until.UTC().Format(time.RFC3339))
	}
	body, err := json.Marshal(g)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return j.commit(ctx, j.write, doing, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO grants (instance, action, body) VALUES (?, ?, ?)", g.Instance, string(g.Action), string(body))
		if err != nil {
			return err
		}
		_, err = appendEntry(ctx, tx, "", KindControl, g.At, control{Control: "live", Live: &g, Operator: j.op})
		return err
	})
}

// Live lists the grants and revocations that stand at now, by instance and action.
func (j *Journal) Live(ctx context.Context, now time.Time) ([]policies.LiveGrant, error) {
	var all []policies.LiveGrant
	err := j.view(ctx, "read the live grants", func(tx *sql.Tx) (err error) {
		all, err = query(ctx, tx, scanJSON[policies.LiveGrant], "SELECT body FROM grants ORDER BY instance, action")
		return err
	})
	return slices.DeleteFunc(all, func(g policies.LiveGrant) bool { return !g.Standing(now) }), err
}

// scanJSON reads a row of one column that holds JSON.
func scanJSON[T any](rows *sql.Rows) (v T, err error) {
	var body string
	if err := rows.Scan(&body); err != nil {
		return v, err
	}
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		return v, errors.Join(ErrDamaged, err)
	}
	return v, nil
}
