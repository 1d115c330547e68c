package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// connect names the database and its settings; nothing is opened before the first statement.
func connect(path string, conns int, settings ...string) *sql.DB {
	timeout := fmt.Sprintf("_pragma=busy_timeout(%d)", busyTimeout.Milliseconds())
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: strings.Join(append([]string{timeout}, settings...), "&")}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil { // only for a driver that is not linked in
		panic(err)
	}
	db.SetMaxOpenConns(conns)
	return db
}

// commit runs fn in one write transaction of db (BEGIN IMMEDIATE) and explains what went wrong, doing named first.
func (j *Journal) commit(ctx context.Context, db *sql.DB, doing string, fn func(*sql.Tx) error) error {
	if db == nil {
		return fmt.Errorf("%s: %w", doing, ErrReadOnly)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return explain(doing, j.path(), err)
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it is a no-op
	if err := fn(tx); err != nil {
		return explain(doing, j.path(), err)
	}
	return explain(doing, j.path(), tx.Commit())
}

// view runs fn in one read transaction: all its queries see the same moment.
func (j *Journal) view(ctx context.Context, doing string, fn func(*sql.Tx) error) error {
	tx, err := j.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return explain(doing, j.path(), err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	return explain(doing, j.path(), fn(tx))
}

// cure is what a person does about a damaged file. The healer never replaces one by itself.
const cure = "see how far it is whole with: dcshealer actions verify; then restore it from a backup, or move it away together with its -wal, -shm and .head files and keep them for the auditor: the next start begins a new journal"

// explain says what an SQLite error means for the one who has to mend it. Nil stays nil.
func explain(doing, path string, err error) error {
	if err == nil {
		return nil
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	switch e.Code() & 0xff { // the primary code
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("%s: %w: %s: %s (%w)", doing, ErrDamaged, path, cure, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%s: the disk that holds %s is full: free some space (%w)", doing, path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("%s: %s cannot be opened or written: check the rights of the file and its folder, and that the file system is mounted for writing (%w)", doing, path, err)
	case sqlite3.SQLITE_IOERR:
		return fmt.Errorf("%s: %s: the disk gave an error: see the kernel's log (%w)", doing, path, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%s: another process kept %s locked for over %s: try again (%w)", doing, path, busyTimeout, err)
	}
	return fmt.Errorf("%s: %s: %w", doing, path, err)
}

// damaged reports that SQLite found the file to be none of its own, or not whole.
func damaged(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_NOTADB || e.Code()&0xff == sqlite3.SQLITE_CORRUPT)
}

// query scans each row of a query into a value.
func query[T any](ctx context.Context, tx *sql.Tx, scan func(*sql.Rows) (T, error), text string, args ...any) ([]T, error) {
	rows, err := tx.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}
