package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"dcshealer/policies"
)

// SaveStatus keeps what the healer says of one instance, for when it is not running. Not part of the chain.
func (j *Journal) SaveStatus(ctx context.Context, s policies.MachineStatus) error {
	doing := "save the state of " + s.Instance
	body, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return j.commit(ctx, j.lax, doing, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO statuses (instance, body) VALUES (?, ?)", s.Instance, string(body))
		return err
	})
}

// Statuses lists what SaveStatus kept, by instance, also of instances that are no longer configured.
func (j *Journal) Statuses(ctx context.Context) (all []policies.MachineStatus, err error) {
	err = j.view(ctx, "read the saved states", func(tx *sql.Tx) (err error) {
		all, err = query(ctx, tx, scanJSON[policies.MachineStatus], "SELECT body FROM statuses ORDER BY instance")
		return err
	})
	return all, err
}

// Remember keeps what a node last was; an older memory (by At) never replaces a newer one. Not part of the chain.
func (j *Journal) Remember(ctx context.Context, m policies.NodeMemory) error {
	doing := "remember " + m.Instance + " " + m.Node
	m.At = orNow(m.At).UTC()
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return j.commit(ctx, j.lax, doing, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO memory (instance, node, at, body) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET at = excluded.at, body = excluded.body WHERE excluded.at >= memory.at`,
			m.Instance, m.Node, stamp(m.At), string(body))
		return err
	})
}

// Memories returns what Remember kept, of every node that ever was.
func (j *Journal) Memories(ctx context.Context) (all []policies.NodeMemory, err error) {
	err = j.view(ctx, "read the memory of all nodes", func(tx *sql.Tx) (err error) {
		all, err = query(ctx, tx, scanJSON[policies.NodeMemory], "SELECT body FROM memory ORDER BY instance, node")
		return err
	})
	return all, err
}
