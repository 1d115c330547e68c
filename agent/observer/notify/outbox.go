package notify

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver
)

// FileName is the outbox's name in a state folder.
const FileName = "notify.db"

// Bounds of the outbox.
const (
	maxWaiting = 10_000 // events of a receiver that are in no notice yet; the oldest go
	maxDead    = 1_000  // dead letters of a receiver; the oldest go
)

const outboxSchema = `
CREATE TABLE IF NOT EXISTS waiting (
	n INTEGER PRIMARY KEY AUTOINCREMENT, receiver TEXT NOT NULL, at INTEGER NOT NULL, event TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS waiting_receiver ON waiting (receiver, n);
CREATE TABLE IF NOT EXISTS notices (
	id TEXT NOT NULL, receiver TEXT NOT NULL, made INTEGER NOT NULL, notice TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
	error TEXT NOT NULL DEFAULT '', dead INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (receiver, id)
);
`

// Outbox keeps, durably, what receivers have yet to get. A receiver has one notice on its way at most: what happens meanwhile waits, and is
// one notice after it. It is safe for concurrent use, also by several processes.
type Outbox struct{ db *sql.DB }

// OpenOutbox opens the file, and makes it (mode 0600) where there is none.
func OpenOutbox(ctx context.Context, path string) (*Outbox, error) {
	doing := "open the outbox of notifications " + path
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; give the folder to this user, or name another state_dir", doing, err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: "_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate"}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, outboxSchema); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w; move a damaged file away: a new one is made", doing, err), db.Close())
	}
	return &Outbox{db: db}, nil
}

// Close ends it.
func (o *Outbox) Close() error { return o.db.Close() }

func (o *Outbox) change(ctx context.Context, doing string, fn func(*sql.Tx) error) error {
	tx, err := o.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it is a no-op
	if err := fn(tx); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// Add has an event wait for each receiver, all or none. Of too many the oldest are dropped, and counted.
func (o *Outbox) Add(ctx context.Context, receivers []string, events []Event) (dropped int64, err error) {
	err = o.change(ctx, "keep events for the receivers of notifications", func(tx *sql.Tx) error {
		for _, r := range receivers {
			for _, e := range events {
				body, err := json.Marshal(e)
				if err != nil {
					return err
				}
				if _, err := tx.ExecContext(ctx, "INSERT INTO waiting (receiver, at, event) VALUES (?, ?, ?)", r, e.At.UnixMilli(), string(body)); err != nil {
					return err
				}
			}
			res, err := tx.ExecContext(ctx, "DELETE FROM waiting WHERE receiver = ? AND n <= (SELECT n FROM waiting WHERE receiver = ? ORDER BY n DESC LIMIT 1 OFFSET ?)", r, r, maxWaiting)
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			if err != nil {
				return err
			}
			dropped += n
		}
		return nil
	})
	return dropped, err
}

// Oldest is when the oldest event that waits for the receiver happened; zero: none waits.
func (o *Outbox) Oldest(ctx context.Context, receiver string) (at time.Time, err error) {
	var ms sql.NullInt64
	if err := o.db.QueryRowContext(ctx, "SELECT min(at) FROM waiting WHERE receiver = ?", receiver).Scan(&ms); err != nil {
		return at, fmt.Errorf("look what waits for the receiver %s: %w", receiver, err)
	}
	if ms.Valid {
		at = time.UnixMilli(ms.Int64)
	}
	return at, nil
}

// Next is the notice on its way to the receiver, and how often it was tried: the one that is there, else one that make puts together from
// all that waits. Nothing waits: ok is false.
func (o *Outbox) Next(ctx context.Context, receiver string, make func([]Event) Notice) (n Notice, attempts int, ok bool, err error) {
	err = o.change(ctx, "take the next notice for the receiver "+receiver, func(tx *sql.Tx) error {
		var body string
		err := tx.QueryRowContext(ctx, "SELECT notice, attempts FROM notices WHERE receiver = ? AND dead = 0 ORDER BY made LIMIT 1", receiver).Scan(&body, &attempts)
		switch {
		case err == nil:
			ok = true
			return json.Unmarshal([]byte(body), &n)
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		events, err := waiting(ctx, tx, receiver)
		if err != nil || len(events) == 0 {
			return err
		}
		n, ok = make(events), true
		made, err := json.Marshal(n)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO notices (id, receiver, made, notice) VALUES (?, ?, ?, ?)", n.ID, receiver, n.At.UnixMilli(), string(made)); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM waiting WHERE receiver = ?", receiver)
		return err
	})
	return n, attempts, ok && err == nil, err
}

func waiting(ctx context.Context, tx *sql.Tx, receiver string) (events []Event, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT event FROM waiting WHERE receiver = ? ORDER BY n", receiver)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var body string
		var e Event
		if err := rows.Scan(&body); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

// Delivered forgets a notice that its receiver has.
func (o *Outbox) Delivered(ctx context.Context, receiver, id string) error {
	return o.change(ctx, "note that "+receiver+" has the notice "+id, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM notices WHERE receiver = ? AND id = ?", receiver, id)
		return err
	})
}

// Failed notes why a try failed. A dead notice is not tried again until somebody asks for it.
func (o *Outbox) Failed(ctx context.Context, receiver, id, why string, dead bool) error {
	return o.change(ctx, "note that "+receiver+" has not got the notice "+id, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE notices SET attempts = attempts + 1, error = ?, dead = ? WHERE receiver = ? AND id = ?", why, dead, receiver, id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM notices WHERE dead = 1 AND receiver = ? AND rowid NOT IN (SELECT rowid FROM notices WHERE dead = 1 AND receiver = ? ORDER BY made DESC, rowid DESC LIMIT ?)", receiver, receiver, maxDead)
		return err
	})
}

// Letter is a notice that has not reached its receiver.
type Letter struct {
	Receiver string `json:"receiver"`
	Notice   Notice `json:"notice"`
	Attempts int    `json:"attempts"`
	Error    string `json:"error"` // of the last try; empty: none failed yet
	Dead     bool   `json:"dead"`
}

// Letters lists what is on its way, and the dead ones, oldest first.
func (o *Outbox) Letters(ctx context.Context) (letters []Letter, err error) {
	rows, err := o.db.QueryContext(ctx, "SELECT receiver, notice, attempts, error, dead FROM notices ORDER BY made, rowid")
	if err != nil {
		return nil, fmt.Errorf("list the notices: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var l Letter
		var body string
		if err := rows.Scan(&l.Receiver, &body, &l.Attempts, &l.Error, &l.Dead); err != nil {
			return nil, fmt.Errorf("list the notices: %w", err)
		}
		if err := json.Unmarshal([]byte(body), &l.Notice); err != nil {
			return nil, fmt.Errorf("list the notices: %w", err)
		}
		letters = append(letters, l)
	}
	return letters, rows.Err()
}

// Revive has the dead notices tried again, of one receiver or with "" of all, and says how many there are.
func (o *Outbox) Revive(ctx context.Context, receiver string) (n int64, err error) {
	err = o.change(ctx, "have dead notices tried again", func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "UPDATE notices SET dead = 0, attempts = 0 WHERE dead = 1 AND ? IN ('', receiver)", receiver)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	return n, err
}
