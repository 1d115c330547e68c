package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"dcshealer/policies"
)

// Filter narrows List. Zero fields let everything pass.
type Filter struct {
	Instance string
	Action   policies.Action
	Outcome  policies.Outcome // of the joined record
	Since    time.Time        // decided at this time or later
	Limit    int              // 0: all
}

// List returns the records that pass, newest decision first; an empty list is not nil.
func (j *Journal) List(ctx context.Context, f Filter) ([]policies.Record, error) {
	var where []string
	var args []any
	for column, value := range map[string]string{"instance": f.Instance, "action": string(f.Action), "outcome": string(f.Outcome)} {
		if value != "" {
			where, args = append(where, column+" = ?"), append(args, value)
		}
	}
	if !f.Since.IsZero() {
		where, args = append(where, "at >= ?"), append(args, stamp(f.Since))
	}
	tail := " ORDER BY seq DESC"
	if len(where) > 0 {
		tail = "WHERE " + strings.Join(where, " AND ") + tail
	}
	if f.Limit > 0 {
		tail, args = tail+" LIMIT ?", append(args, f.Limit)
	}
	return j.records(ctx, "list the journal", tail, args...)
}

// Begins is the time of the oldest entry that is kept; zero: there is none.
func (j *Journal) Begins(ctx context.Context) (at time.Time, err error) {
	err = j.view(ctx, "ask when the journal begins", func(tx *sql.Tx) error {
		var text string
		err := tx.QueryRowContext(ctx, "SELECT at FROM entries ORDER BY seq LIMIT 1").Scan(&text)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		at = unstamp(text)
		return err
	})
	return at, err
}

// records joins the records whose rows the tail of a query selects, in its order.
func (j *Journal) records(ctx context.Context, doing, tail string, args ...any) ([]policies.Record, error) {
	out := []policies.Record{}
	err := j.view(ctx, doing, func(tx *sql.Tx) error {
		rows, err := query(ctx, tx, scanRow, "SELECT "+rowColumns+" FROM records "+tail, args...)
		if err != nil {
			return err
		}
		for _, w := range rows {
			entries, err := entriesOf(ctx, tx, w.ID)
			if err != nil {
				return err
			}
			out = append(out, join(entries))
		}
		return nil
	})
	return out, err
}

func entriesOf(ctx context.Context, tx *sql.Tx, id string) ([]Entry, error) {
	return query(ctx, tx, scanEntry, "SELECT "+entryColumns+" FROM entries WHERE record = ? ORDER BY seq", id)
}

// Show returns one record and its entries, by its id or a prefix that only it has, in any case. ErrUnknown or ErrAmbiguous otherwise.
func (j *Journal) Show(ctx context.Context, id string) (r policies.Record, entries []Entry, err error) {
	err = j.view(ctx, "show the record "+id, func(tx *sql.Tx) error {
		full, err := fullID(ctx, tx, id)
		if err != nil {
			return err
		}
		if entries, err = entriesOf(ctx, tx, full); err == nil {
			r = join(entries)
		}
		return err
	})
	return r, entries, err
}

// fullID finds the one id that prefix begins, or that it is.
func fullID(ctx context.Context, tx *sql.Tx, prefix string) (string, error) {
	return onlyID(ctx, tx, prefix, "records", ErrUnknown, "dcshealer actions list")
}

// onlyID finds the one id of a table that prefix begins, or that it is; unknown is the error where there is none.
func onlyID(ctx context.Context, tx *sql.Tx, prefix, table string, unknown error, see string) (string, error) {
	if prefix == "" {
		return "", fmt.Errorf("%w: the id is empty; see: %s", unknown, see)
	}
	const most = 4
	pattern := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(prefix) + "%"
	ids, err := query(ctx, tx, func(rows *sql.Rows) (id string, err error) { return id, rows.Scan(&id) },
		`SELECT id FROM `+table+` WHERE id LIKE ? ESCAPE '\' ORDER BY id <> ?, seq DESC LIMIT ?`, pattern, prefix, most)
	switch {
	case err != nil:
		return "", err
	case len(ids) == 0:
		return "", fmt.Errorf("%w; see: %s", unknown, see)
	case len(ids) == 1 || ids[0] == prefix:
		return ids[0], nil
	case len(ids) == most:
		return "", fmt.Errorf("%w begins so: %s and others; give more of the id", ErrAmbiguous, strings.Join(ids[:most-1], ", "))
	}
	return "", fmt.Errorf("%w begins so: %s; give more of the id", ErrAmbiguous, strings.Join(ids, ", "))
}
