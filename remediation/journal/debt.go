package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

// Debt is a setting of a server that an action changed for its own time and has to put back.
type Debt struct {
	Record   string    `json:"record"` // the action's
	Instance string    `json:"instance"`
	Node     string    `json:"node"`
	RunID    string    `json:"run_id"`  // a server that restarted has the setting of its config file again
	Setting  string    `json:"setting"` // as CONFIG SET takes it
	Was      string    `json:"was"`
	Set      string    `json:"set"` // what it was changed to; a value that is neither is somebody else's
	At       time.Time `json:"at"`
}

// Owe writes a debt down and is on disk when it returns: only then may the setting be changed. One that stands already for the same
// node and setting stays, so that the oldest value is what is put back.
func (j *Journal) Owe(ctx context.Context, d Debt) error {
	doing := fmt.Sprintf("write down that %s of %s/%s is owed", d.Setting, d.Instance, d.Node)
	d.At = orNow(d.At).UTC()
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return j.commit(ctx, j.write, doing, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO debts (instance, node, setting, body) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", d.Instance, d.Node, d.Setting, string(body))
		return err
	})
}

// Debts lists what is owed, by instance and node.
func (j *Journal) Debts(ctx context.Context) (all []Debt, err error) {
	err = j.view(ctx, "read the settings that are owed", func(tx *sql.Tx) (err error) {
		all, err = query(ctx, tx, scanJSON[Debt], "SELECT body FROM debts ORDER BY instance, node, setting")
		return err
	})
	return all, err
}

// Settle strikes a debt out. It is written although ctx has ended, within 10 s.
func (j *Journal) Settle(ctx context.Context, d Debt) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishGrace)
	defer cancel()
	return j.commit(ctx, j.write, fmt.Sprintf("strike out %s of %s/%s", d.Setting, d.Instance, d.Node), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM debts WHERE instance = ? AND node = ? AND setting = ?", d.Instance, d.Node, d.Setting)
		return err
	})
}
