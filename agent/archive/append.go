package archive

import (
	"context"
	"database/sql"
	"time"

	"dcshealer/policies"
)

// MaxStored is how many bytes of a payload are kept.
const MaxStored = 64 << 10

const maxName = 256 // bytes of a name in an index; the payload holds it whole

// Entry is one message to keep. Alarm is what was decoded of it; of a malformed one it is zero.
type Entry struct {
	Received  time.Time
	Channel   string
	Payload   []byte
	Alarm     policies.Alarm
	Malformed string // kind; empty: an alarm
}

// Append keeps entries, all or none, and reports for each whether it is new: an alarm whose id is in the archive
// already is left out. A payload without id is always new.
func (a *Archive) Append(ctx context.Context, entries []Entry) (added []bool, err error) {
	if added, err = a.append(ctx, entries); err != nil {
		return nil, a.explain("write to", err)
	}
	return added, nil
}

func (a *Archive) append(ctx context.Context, entries []Entry) ([]bool, error) {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	insert, err := tx.PrepareContext(ctx, `INSERT INTO alarms (received, channel, severity, instance, metric, resolved, id, payload, size, malformed)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`)
	if err != nil {
		return nil, err
	}
	defer insert.Close()
	added := make([]bool, len(entries))
	for i, e := range entries {
		if added[i], err = insertEntry(ctx, insert, e); err != nil {
			return nil, err
		}
	}
	return added, tx.Commit()
}

func insertEntry(ctx context.Context, insert *sql.Stmt, e Entry) (bool, error) {
	payload := e.Payload[:min(len(e.Payload), MaxStored)]
	if payload == nil {
		payload = []byte{} // nil would be NULL
	}
	result, err := insert.ExecContext(ctx, e.Received.UnixMilli(), cut(e.Channel), int(e.Alarm.Severity), cut(e.Alarm.Instance), cut(string(e.Alarm.Metric)),
		e.Alarm.IsResolved(), orNull(e.Alarm.ID), payload, len(e.Payload), orNull(e.Malformed))
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

func cut(s string) string { return s[:min(len(s), maxName)] }

func orNull(s string) sql.NullString { return sql.NullString{String: cut(s), Valid: s != ""} }

// Counts is what the archive holds.
type Counts struct {
	Alarms    int64
	Malformed map[string]int64 // by kind
}

// Count reads the sums.
func (a *Archive) Count(ctx context.Context) (Counts, error) {
	c := Counts{Malformed: map[string]int64{}}
	rows, err := a.db.QueryContext(ctx, "SELECT coalesce(malformed, ''), count(*) FROM alarms GROUP BY 1")
	if err != nil {
		return c, a.explain("read", err)
	}
	defer rows.Close()
	for rows.Next() {
		var kind string
		var n int64
		if err := rows.Scan(&kind, &n); err != nil {
			return c, a.explain("read", err)
		}
		if kind == "" {
			c.Alarms = n
		} else {
			c.Malformed[kind] = n
		}
	}
	return c, a.explain("read", rows.Err())
}
