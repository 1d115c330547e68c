// Package journal is the durable record of decisions and actions (append-only, hash-chained), the locks that keep two
// processes from acting at once, and the runtime controls (live, pause, acknowledgements). It decides nothing and never talks to Redis.
package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"dcshealer/policies"
)

// fileName is the journal's database in the state_dir.
const fileName = "healer.db"

// busyTimeout is how long a statement waits for another process that is writing.
const busyTimeout = 5 * time.Second

// What callers can ask an error about, with errors.Is.
var (
	ErrNoJournal     = errors.New("no journal yet")
	ErrDamaged       = errors.New("the journal is damaged")
	ErrReadOnly      = errors.New("the journal was opened for reading only")
	ErrUnknown       = errors.New("no such record")
	ErrAmbiguous     = errors.New("more than one id")
	ErrFinished      = errors.New("the record is already finished")
	ErrNotLocked     = errors.New("the action lock is not held")
	ErrLocked        = errors.New("the action lock is held")
	ErrByHand        = errors.New("another command heals it by hand")
	ErrHealerRunning = errors.New("a healer is already running")
)

// Journal is one process's hold on the journal. All methods are safe for concurrent use, also beside other processes.
type Journal struct {
	dir  string
	op   policies.Operator
	read *sql.DB
	// write has one connection, so that writers of this process queue here and not in SQLite's polling. Its commits are
	// on disk (fsync) when they return. Nil: opened for reading only.
	write *sql.DB
	// lax is for what the next probe would tell again: its commits survive kill -9, the last ones not a power cut.
	lax *sql.DB
	// version has one connection that is never exchanged: what Version returns is a number of that connection.
	version *sql.DB
	// file is what was opened for reading only; nil: opened for writing.
	file os.FileInfo

	mu    sync.Mutex
	held  map[string]bool // instances whose action lock this Journal holds
	noted Head            // what this Journal last wrote beside the file
}

// Open opens the journal in stateDir for writing and creates both where they are missing (0700 and 0600). op goes into
// the entries that this process writes. The errors say what to do; ErrDamaged when the file is no journal.
func Open(ctx context.Context, stateDir string, op policies.Operator) (*Journal, error) {
	dir, err := filepath.Abs(stateDir)
	if err == nil {
		err = prepare(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open the journal: state_dir %s: %w; make it writable for this user, or name another state_dir in the config", stateDir, err)
	}
	// Two processes that create the schema at once, or switch a new file to WAL, meet errors that busy_timeout does not cover.
	opening, err := lockFile(ctx, filepath.Join(dir, "locks", ".open.lock"), busyTimeout)
	if err != nil {
		return nil, fmt.Errorf("open the journal in %s: take the lock of those that open it: %w; make state_dir writable for this user, or name another one in the config", dir, err)
	}
	defer opening.Close()
	path := filepath.Join(dir, fileName)
	if err := createPrivate(path); err != nil {
		return nil, fmt.Errorf("open the journal %s: %w; it has to be a file that this user can write", path, err)
	}
	j := &Journal{dir: dir, op: op, held: map[string]bool{},
		write: connect(path, 1, "_txlock=immediate", "_pragma=synchronous(full)"),
		lax:   connect(path, 1, "_txlock=immediate", "_pragma=synchronous(normal)"),
		read:  connect(path, 4, "_pragma=query_only(1)"), version: connect(path, 1, "_pragma=query_only(1)")}
	if err := migrate(ctx, j.write, migrations[:]); err != nil {
		return nil, errors.Join(explain("open the journal", path, err), j.Close())
	}
	return j, nil
}

// OpenReadOnly opens an existing journal for reading: it creates and changes nothing. ErrNoJournal when there is none yet.
func OpenReadOnly(ctx context.Context, stateDir string) (*Journal, error) {
	dir, err := filepath.Abs(stateDir)
	if err != nil {
		return nil, fmt.Errorf("open the journal in %s: %w", stateDir, err)
	}
	path := filepath.Join(dir, fileName)
	file, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrNoJournal)
	} else if err != nil {
		return nil, fmt.Errorf("open the journal: %w; run this as the user that runs dcshealer", err)
	}
	j := &Journal{dir: dir, held: map[string]bool{}, read: connect(path, 4, "mode=ro"), version: connect(path, 1, "mode=ro"), file: file}
	v, err := schemaVersion(ctx, j.read)
	if err == nil && v == 0 { // created, and not filled yet
		err = ErrNoJournal
	}
	if err != nil {
		return nil, errors.Join(explain("open the journal", path, err), j.Close())
	}
	return j, nil
}

// Close ends all connections; held locks stay until they are unlocked.
func (j *Journal) Close() error {
	var errs []error
	for _, db := range []*sql.DB{j.write, j.lax, j.version, j.read} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

func (j *Journal) path() string { return filepath.Join(j.dir, fileName) }

// prepare creates the state_dir and its locks folder.
func prepare(dir string) error { return os.MkdirAll(filepath.Join(dir, "locks"), 0o700) }

// createPrivate makes the file for this user alone before SQLite would make it readable for all; SQLite gives its -wal
// and -shm files the same mode. An existing file is never opened here: closing it would drop SQLite's locks on it.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("it is a %s and no file: move it away", kindOf(info.Mode()))
	case info.Mode().Perm()&0o077 == 0:
		return nil
	}
	return os.Chmod(path, 0o600)
}

func kindOf(m fs.FileMode) string {
	if m.IsDir() {
		return "directory"
	}
	return "special file (" + m.Type().String() + ")"
}
