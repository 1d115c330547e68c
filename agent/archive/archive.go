// Package archive keeps alarms in a SQLite file and answers questions about them. It reads no bus: who has messages
// appends them. Any number of processes may read and write one file.
package archive

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// FileName is the archive's name in a state folder.
const FileName = "alarms.db"

const (
	schemaVersion = 2
	busyTimeout   = 5 * time.Second // for another process's write
)

// A row is one publication. Rows with malformed set are kept for an auditor and shown in no list and no trend.
const schema = `
CREATE TABLE alarms (
	n         INTEGER PRIMARY KEY AUTOINCREMENT,
	received  INTEGER NOT NULL, -- Unix ms
	channel   TEXT NOT NULL,
	severity  INTEGER NOT NULL, -- 1 notice, 2 warning, 3 critical; 0 malformed
	instance  TEXT NOT NULL,
	metric    TEXT NOT NULL,
	resolved  INTEGER NOT NULL,
	id        TEXT,             -- NULL: the payload has none
	payload   BLOB NOT NULL,    -- as received, cut at 64 KiB
	size      INTEGER NOT NULL, -- bytes as received
	malformed TEXT              -- kind; NULL: an alarm
);
CREATE UNIQUE INDEX alarms_id ON alarms (id) WHERE id IS NOT NULL;
CREATE INDEX alarms_received ON alarms (received);
CREATE INDEX alarms_instance ON alarms (instance, received);
`

// steps bring a file from the schema of their index to the next.
var steps = [schemaVersion]string{schema, `
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO meta (key, value) VALUES ('id', lower(hex(randomblob(8))));
`}

// Archive is one open file. It is safe for concurrent use.
type Archive struct {
	db   *sql.DB
	path string
}

// Open opens an archive to write and read, and makes the file (mode 0600) and its folder (0700) where there are none.
func Open(ctx context.Context, path string) (*Archive, error) {
	if err := makeFile(path); err != nil {
		return nil, fmt.Errorf("open alarm archive %s: %w; give the folder to this user, or name another state_dir", path, err)
	}
	a, err := open(path, "")
	if err != nil {
		return nil, err
	}
	if err := a.migrate(ctx); err != nil {
		return nil, errors.Join(a.explain("open", err), a.db.Close())
	}
	return a, nil
}

// OpenReadOnly opens an existing archive for queries, beside a process that writes it or without one. Where there is
// none the error is fs.ErrNotExist.
func OpenReadOnly(ctx context.Context, path string) (*Archive, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open alarm archive: %w", err)
	}
	a, err := open(path, "&_pragma=query_only(1)")
	if err != nil {
		return nil, err
	}
	version, err := a.version(ctx, a.db)
	switch {
	case err != nil:
		return nil, errors.Join(a.explain("open", err), a.db.Close())
	case version == 0: // made this moment, without tables yet
		return nil, errors.Join(fmt.Errorf("open alarm archive %s: it is still empty: %w", path, fs.ErrNotExist), a.db.Close())
	}
	return a, nil
}

// Close ends it.
func (a *Archive) Close() error { return a.db.Close() }

func makeFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func open(path, more string) (*Archive, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open alarm archive %s: %w", path, err)
	}
	file := url.URL{Scheme: "file", Path: abs} // SQLite decodes %xx; a bare name with ? or # would be cut
	dsn := file.String() + fmt.Sprintf("?mode=rw&_txlock=immediate&_pragma=busy_timeout(%d)&_pragma=synchronous(normal)", busyTimeout.Milliseconds()) + more
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("open alarm archive %s: %w", path, err)
	}
	db.SetMaxOpenConns(4)
	return &Archive{db: db, path: path}, nil
}

// migrate brings the file to this schema. Of two processes that start at once one does it: the transaction takes the
// write lock first.
func (a *Archive) migrate(ctx context.Context) error {
	if _, err := a.db.ExecContext(ctx, "PRAGMA auto_vacuum = incremental; PRAGMA journal_mode = wal"); err != nil { // the first: of a new file only
		return err
	}
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	version, err := a.version(ctx, tx)
	if err != nil || version == schemaVersion {
		return err
	}
	step := strings.Join(steps[version:], "") + fmt.Sprintf("PRAGMA user_version = %d;", schemaVersion)
	if _, err := tx.ExecContext(ctx, step); err != nil {
		return err
	}
	return tx.Commit()
}

// ID names this file, wherever it is moved; another file has another.
func (a *Archive) ID(ctx context.Context) (id string, err error) {
	err = a.db.QueryRowContext(ctx, "SELECT value FROM meta WHERE key = 'id'").Scan(&id)
	return id, a.explain("read", err)
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// version is the file's schema, 0 for an empty one.
func (a *Archive) version(ctx context.Context, q querier) (version int, err error) {
	if err := q.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return 0, err
	}
	if version > schemaVersion {
		return 0, fmt.Errorf("it was written by a newer dcshealer (schema %d, this one knows %d): use that one", version, schemaVersion)
	}
	return version, nil
}

// explain names the file and the cure.
func (a *Archive) explain(doing string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	cure := ""
	var fault *sqlite.Error
	if errors.As(err, &fault) {
		switch fault.Code() & 0xff { // the primary code
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			cure = fmt.Sprintf("; the file is damaged: move it away (mv %[1]s %[1]s.bad, its -wal and -shm too), a new archive is begun", a.path)
		case sqlite3.SQLITE_FULL:
			cure = "; make room on the disk"
		case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
			cure = "; this user needs to read and write the file and its folder"
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			cure = fmt.Sprintf("; another process has been writing it for over %s, try again", busyTimeout)
		}
	}
	return fmt.Errorf("%s alarm archive %s: %w%s", doing, a.path, err, cure)
}
