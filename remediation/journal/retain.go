package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"dcshealer/policies"
)

// keepEntries is how many of the newest entries are kept whatever their age: a clock that is set wrong must not empty the journal.
const keepEntries = 1000

// Checkpoint is the body of a checkpoint entry: what retention dropped, so that the rest still proves itself.
type Checkpoint struct {
	Dropped  Head              `json:"dropped"` // the last entry that is gone
	Entries  int64             `json:"entries"` // how many this cut dropped
	Before   time.Time         `json:"before"`  // all of them were older
	Operator policies.Operator `json:"operator"`
}

// Retain drops the entries from before a time, as one whole prefix, and writes that into the chain; dropped.Entries 0: nothing to drop.
// It stops before what is not over: an open record or incident, a record that a debt or a later entry belongs to, and the control entry of
// a pause or live setting that stands. What guards ask is not older than a cooldown: the rules of the config keep before below that.
func (j *Journal) Retain(ctx context.Context, before, now time.Time) (dropped Checkpoint, err error) {
	return j.retain(ctx, before, now, keepEntries)
}

func (j *Journal) retain(ctx context.Context, before, now time.Time, least int64) (dropped Checkpoint, err error) {
	doing := "drop the journal's entries from before " + before.UTC().Format(time.RFC3339)
	err = j.commit(ctx, j.write, doing, func(tx *sql.Tx) error {
		last, err := lastDroppable(ctx, tx, before, least)
		if err != nil {
			return err
		}
		cut, err := cutOf(ctx, tx)
		if err != nil || last <= cut.Seq {
			return err
		}
		to := Head{Seq: last}
		if err := tx.QueryRowContext(ctx, "SELECT hash FROM entries WHERE seq = ?", last).Scan(&to.Hash); err != nil {
			return err
		}
		if err := drop(ctx, tx, to); err != nil {
			return err
		}
		dropped = Checkpoint{Dropped: to, Entries: last - cut.Seq, Before: before.UTC(), Operator: j.op}
		_, err = appendEntry(ctx, tx, "", KindCheckpoint, orNow(now).UTC(), dropped)
		return err
	})
	if err != nil {
		return Checkpoint{}, err
	}
	return dropped, nil
}

// drop deletes the entries up to one and what is derived from them.
func drop(ctx context.Context, tx *sql.Tx, to Head) error {
	for _, s := range []string{"UPDATE cut SET cutting = ?", "DELETE FROM entries WHERE seq <= ?", "DELETE FROM records WHERE seq <= ?", "DELETE FROM incidents WHERE seq <= ?"} {
		if _, err := tx.ExecContext(ctx, s, to.Seq); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, "UPDATE cut SET seq = ?, hash = ?, cutting = 0", to.Seq, to.Hash)
	return err
}

// lastDroppable is the newest entry of the prefix that may go. Times may step back, so the prefix ends at the first entry that is young.
func lastDroppable(ctx context.Context, tx *sql.Tx, before time.Time, least int64) (last int64, err error) {
	if err := tx.QueryRowContext(ctx, "SELECT seq - ? FROM head", least).Scan(&last); err != nil {
		return 0, err
	}
	for _, pin := range []struct {
		text string
		args []any
	}{
		{"SELECT min(seq) FROM entries WHERE at >= ?", []any{stamp(before)}},
		{"SELECT min(seq) FROM records WHERE outcome = 'running'", nil},
		{"SELECT min(seq) FROM incidents WHERE closed = ''", nil},
		{"SELECT min(seq) FROM records WHERE id IN (SELECT json_extract(body, '$.record') FROM debts)", nil},
		{standingPauses, nil},
		{standingGrants, nil},
	} {
		var first sql.NullInt64
		if err := tx.QueryRowContext(ctx, pin.text, pin.args...).Scan(&first); err != nil {
			return 0, err
		}
		if first.Valid {
			last = min(last, first.Int64-1)
		}
	}
	for { // a record or an incident goes as a whole
		var first sql.NullInt64
		err := tx.QueryRowContext(ctx, `SELECT min(first) FROM (SELECT min(seq) AS first, max(seq) AS last FROM entries WHERE record <> '' GROUP BY record)
			WHERE first <= ? AND last > ?`, last, last).Scan(&first)
		if err != nil || !first.Valid {
			return last, err
		}
		last = first.Int64 - 1
	}
}

// The oldest of the newest control entries of what stands.
const (
	standingPauses = `SELECT min((SELECT max(e.seq) FROM entries e WHERE e.kind = 'control' AND json_extract(e.body, '$.control') = 'pause'
		AND json_extract(e.body, '$.pause.instance') = p.instance)) FROM pauses p WHERE json_extract(p.body, '$.ended') IS NULL`
	standingGrants = `SELECT min((SELECT max(e.seq) FROM entries e WHERE e.kind = 'control' AND json_extract(e.body, '$.control') = 'live'
		AND json_extract(e.body, '$.live.instance') = g.instance AND json_extract(e.body, '$.live.action') = g.action)) FROM grants g`
)

// checkpoint checks that a checkpoint entry says what was dropped. Empty: it is well.
func (a *audit) checkpoint(e Entry) string {
	var c Checkpoint
	if err := json.Unmarshal(e.Body, &c); err != nil {
		return "its body cannot be read: " + err.Error()
	}
	a.told = c.Dropped
	return ""
}
