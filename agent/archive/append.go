package archive

import (
	"context"
	"database/sql"
	"slices"
	"strings"
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

// appendRows is how many entries one statement inserts: it costs as much as a few of one entry.
const appendRows = 50

const (
	insertInto = `INSERT INTO alarms (received, channel, severity, instance, metric, resolved, id, payload, size, malformed) VALUES `
	insertRow  = `(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	insertNew  = ` ON CONFLICT DO NOTHING`
)

func (a *Archive) append(ctx context.Context, entries []Entry) ([]bool, error) {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	one, err := tx.PrepareContext(ctx, insertInto+insertRow+insertNew)
	if err != nil {
		return nil, err
	}
	defer one.Close()
	added := make([]bool, 0, len(entries))
	if len(entries) >= appendRows {
		if added, err = appendMany(ctx, tx, entries, added); err != nil {
			return nil, err
		}
	}
	if added, err = appendEach(ctx, one, entries[len(added):], added); err != nil {
		return nil, err
	}
	return added, tx.Commit()
}

// appendMany inserts as many entries as fill whole statements. Nobody else writes meanwhile: of a statement that did not take all of its
// rows, those above the newest row before it tell which are new.
func appendMany(ctx context.Context, tx *sql.Tx, entries []Entry, added []bool) ([]bool, error) {
	many, err := tx.PrepareContext(ctx, insertInto+insertRow+strings.Repeat(", "+insertRow, appendRows-1)+insertNew)
	if err != nil {
		return nil, err
	}
	defer many.Close()
	var newest int64
	if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(n), 0) FROM alarms").Scan(&newest); err != nil {
		return nil, err
	}
	values := make([]any, 0, appendRows*strings.Count(insertRow, "?"))
	for ; len(entries) >= appendRows; entries = entries[appendRows:] {
		values = values[:0]
		for _, e := range entries[:appendRows] {
			values = appendValues(values, e)
		}
		r, err := many.ExecContext(ctx, values...)
		n, err := rowsOf(r, err)
		if err != nil {
			return nil, err
		}
		if n == appendRows {
			added = append(added, slices.Repeat([]bool{true}, appendRows)...)
		} else if added, err = appendNew(ctx, tx, newest, entries[:appendRows], added); err != nil {
			return nil, err
		}
		if n == 0 {
			continue
		}
		if newest, err = r.LastInsertId(); err != nil {
			return nil, err
		}
	}
	return added, nil
}

// appendNew reports which of the entries went into the rows above newest.
func appendNew(ctx context.Context, tx *sql.Tx, newest int64, entries []Entry, added []bool) ([]bool, error) {
	rows, err := tx.QueryContext(ctx, "SELECT id FROM alarms WHERE n > ? AND id IS NOT NULL", newest)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	fresh := map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		fresh[id] = true
	}
	for _, e := range entries {
		id := cut(e.Alarm.ID)
		added = append(added, id == "" || fresh[id])
		delete(fresh, id) // the same id again is the first's
	}
	return added, rows.Err()
}

func appendEach(ctx context.Context, one *sql.Stmt, entries []Entry, added []bool) ([]bool, error) {
	for _, e := range entries {
		n, err := rowsOf(one.ExecContext(ctx, appendValues(nil, e)...))
		if err != nil {
			return nil, err
		}
		added = append(added, n == 1)
	}
	return added, nil
}

func rowsOf(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// appendValues adds the columns of insertInto.
func appendValues(to []any, e Entry) []any {
	payload := e.Payload[:min(len(e.Payload), MaxStored)]
	if payload == nil {
		payload = []byte{} // nil would be NULL
	}
	return append(to, e.Received.UnixMilli(), cut(e.Channel), int(e.Alarm.Severity), cut(e.Alarm.Instance), cut(string(e.Alarm.Metric)),
		e.Alarm.IsResolved(), orNull(e.Alarm.ID), payload, len(e.Payload), orNull(e.Malformed))
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
