package notify

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	_ "modernc.org/sqlite" // the driver

	"dcshealer/policies"
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
CREATE TABLE IF NOT EXISTS accounts (
	receiver TEXT PRIMARY KEY, delivered INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
	delivered_at INTEGER NOT NULL DEFAULT 0, failed_at INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS standing (alarm TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS told (what TEXT PRIMARY KEY, at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS place (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL);
`

// ErrNoOutbox says that nobody has told anything yet.
var ErrNoOutbox = errors.New("no outbox of notifications yet")

// Outbox keeps, durably, what receivers have yet to get, and what they were told. A receiver has one notice on its way at most: what happens
// meanwhile waits, and is one notice after it. It is safe for concurrent use, also by several processes.
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
	o, err := connect(path, "_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	if _, err := o.db.ExecContext(ctx, outboxSchema); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w; move a damaged file away: a new one is made", doing, err), o.Close())
	}
	return o, nil
}

// ReadOutbox opens the file for reading; ErrNoOutbox where there is none.
func ReadOutbox(ctx context.Context, path string) (*Outbox, error) {
	doing := "read the outbox of notifications " + path
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", doing, ErrNoOutbox)
	}
	o, err := connect(path, "mode=ro")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	var tables int
	err = o.db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = 'place'").Scan(&tables)
	if err == nil && tables == 0 { // made, and not filled yet
		err = ErrNoOutbox
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", doing, err), o.Close())
	}
	return o, nil
}

func connect(path, query string) (*Outbox, error) {
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: "_pragma=busy_timeout(5000)&" + query}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
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

// tell has events wait for the receivers that want them, and keeps with them what was told; all or nothing. Of too many the oldest are
// dropped, and counted.
func (o *Outbox) tell(ctx context.Context, to []policies.Receiver, t telling, now time.Time) (dropped int64, err error) {
	err = o.change(ctx, "keep events for the receivers of notifications", func(tx *sql.Tx) error {
		events, err := t.fresh(ctx, tx, now)
		if err != nil {
			return err
		}
		for _, r := range to {
			n, err := wait(ctx, tx, r, events, now)
			if err != nil {
				return err
			}
			dropped += n
		}
		return t.keep(ctx, tx)
	})
	return dropped, err
}

// keptTold is how long it is known that something was told that is told once.
const keptTold = 30 * 24 * time.Hour

// fresh are the events that were not told before.
func (t telling) fresh(ctx context.Context, tx *sql.Tx, now time.Time) (events []Event, err error) {
	for i, e := range t.events {
		if once := t.once[i]; once != "" {
			res, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO told (what, at) VALUES (?, ?)", once, now.UnixMilli())
			if err != nil {
				return nil, err
			}
			if n, err := res.RowsAffected(); err != nil || n == 0 {
				if err != nil {
					return nil, err
				}
				continue
			}
			if _, err := tx.ExecContext(ctx, "DELETE FROM told WHERE at < ?", now.Add(-keptTold).UnixMilli()); err != nil {
				return nil, err
			}
		}
		events = append(events, e)
	}
	return events, nil
}

func (t telling) keep(ctx context.Context, tx *sql.Tx) error {
	for key, a := range t.saved {
		body, err := json.Marshal(a)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO standing (alarm, body) VALUES (?, ?)", key, string(body)); err != nil {
			return err
		}
	}
	for _, key := range t.gone {
		if _, err := tx.ExecContext(ctx, "DELETE FROM standing WHERE alarm = ?", key); err != nil {
			return err
		}
	}
	if t.place == nil {
		return nil
	}
	_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO place (one, seq) VALUES (1, ?)", *t.place)
	return err
}

func wait(ctx context.Context, tx *sql.Tx, r policies.Receiver, events []Event, now time.Time) (dropped int64, err error) {
	insert, err := tx.PrepareContext(ctx, "INSERT INTO waiting (receiver, at, event) VALUES (?, ?, ?)")
	if err != nil {
		return 0, err
	}
	defer insert.Close()
	reminders, err := waitingReminders(ctx, tx, r.Name, events)
	if err != nil {
		return 0, err
	}
	for _, e := range events {
		row, waits := reminders[e.alarm()]
		if waits && e.Kind == KindResolved { // wanted or not: what it says is no longer so
			if _, err := tx.ExecContext(ctx, "DELETE FROM waiting WHERE n = ?", row); err != nil {
				return 0, err
			}
		}
		if !r.Wants(e.Kind, e.Instance) {
			continue
		}
		body, err := json.Marshal(e)
		if err != nil {
			return 0, err
		}
		if waits && e.Kind == KindReminder { // the newer one in the place of the older
			_, err = tx.ExecContext(ctx, "UPDATE waiting SET event = ? WHERE n = ?", string(body), row)
		} else {
			_, err = insert.ExecContext(ctx, r.Name, now.UnixMilli(), string(body))
		}
		if err != nil {
			return 0, err
		}
	}
	res, err := tx.ExecContext(ctx, "DELETE FROM waiting WHERE receiver = ? AND n <= (SELECT n FROM waiting WHERE receiver = ? ORDER BY n DESC LIMIT 1 OFFSET ?)", r.Name, r.Name, maxWaiting)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// waitingReminders are the rows of the reminders that wait for a receiver, where events may replace or end one: a receiver that is down for
// hours needs to hear once that an alarm still stands.
func waitingReminders(ctx context.Context, tx *sql.Tx, receiver string, events []Event) (map[alarmOf]int64, error) {
	if !slices.ContainsFunc(events, func(e Event) bool { return e.Kind == KindReminder || e.Kind == KindResolved }) {
		return nil, nil
	}
	rows, err := tx.QueryContext(ctx, "SELECT n, event FROM waiting WHERE receiver = ? AND json_extract(event, '$.kind') = ?", receiver, string(KindReminder))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := map[alarmOf]int64{}
	for rows.Next() {
		var n int64
		var body string
		if err := rows.Scan(&n, &body); err != nil {
			return nil, err
		}
		var e Event
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			return nil, err
		}
		found[e.alarm()] = n
	}
	return found, rows.Err()
}

// standing is what was told of alarms.
func (o *Outbox) standing(ctx context.Context) (*Standing, error) {
	s := &Standing{alarms: map[string]*standing{}}
	rows, err := o.db.QueryContext(ctx, "SELECT alarm, body FROM standing")
	if err != nil {
		return nil, fmt.Errorf("read what was told of alarms: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var key, body string
		a := &standing{}
		if err := rows.Scan(&key, &body); err != nil {
			return nil, fmt.Errorf("read what was told of alarms: %w", err)
		}
		if err := json.Unmarshal([]byte(body), a); err != nil {
			return nil, fmt.Errorf("read what was told of alarms: %w", err)
		}
		a.kept = a.Last
		s.alarms[key] = a
	}
	return s, rows.Err()
}

// Place is how far the journal was told; false: nothing of it was.
func (o *Outbox) Place(ctx context.Context) (seq int64, ok bool, err error) {
	err = o.db.QueryRowContext(ctx, "SELECT seq FROM place").Scan(&seq)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return 0, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("read how far the journal was told: %w", err)
	}
	return seq, true, nil
}

// Keep drops what waits for receivers that there are not any longer, and says how many events and notices that is.
func (o *Outbox) Keep(ctx context.Context, receivers []policies.Receiver) (dropped int64, err error) {
	names, err := json.Marshal(namesOf(receivers))
	if err != nil {
		return 0, err
	}
	err = o.change(ctx, "drop what waits for receivers that are gone", func(tx *sql.Tx) error {
		for _, table := range []string{"waiting", "notices", "accounts"} {
			res, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE receiver NOT IN (SELECT value FROM json_each(?))", string(names))
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			if err != nil {
				return err
			}
			if table != "accounts" {
				dropped += n
			}
		}
		return nil
	})
	return dropped, err
}

func namesOf(receivers []policies.Receiver) []string {
	names := []string{}
	for _, r := range receivers {
		names = append(names, r.Name)
	}
	return names
}

// due is when the oldest event that waits for the receiver began to, zero where none waits, and whether a notice is on its way.
func (o *Outbox) due(ctx context.Context, receiver string) (oldest time.Time, begun bool, err error) {
	var ms sql.NullInt64
	err = o.db.QueryRowContext(ctx, "SELECT (SELECT min(at) FROM waiting WHERE receiver = ?), EXISTS (SELECT 1 FROM notices WHERE receiver = ? AND dead = 0)", receiver, receiver).Scan(&ms, &begun)
	if err != nil {
		return oldest, false, fmt.Errorf("look what waits for the receiver %s: %w", receiver, err)
	}
	if ms.Valid {
		oldest = time.UnixMilli(ms.Int64)
	}
	return oldest, begun, nil
}

// next is the notice on its way to the receiver: the one that is there, else one that make puts together from all that waits. Nothing
// waits: ok is false.
func (o *Outbox) next(ctx context.Context, receiver string, make func([]Event) Notice) (l letter, ok bool, err error) {
	err = o.change(ctx, "take the next notice for the receiver "+receiver, func(tx *sql.Tx) error {
		var body string
		var ms int64
		err := tx.QueryRowContext(ctx, "SELECT notice, attempts, made FROM notices WHERE receiver = ? AND dead = 0 ORDER BY made, rowid LIMIT 1", receiver).Scan(&body, &l.attempts, &ms)
		switch {
		case err == nil:
			ok, l.made = true, time.UnixMilli(ms)
			return json.Unmarshal([]byte(body), &l.notice)
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		events, err := waiting(ctx, tx, receiver)
		if err != nil || len(events) == 0 {
			return err
		}
		l.notice, ok = make(events), true
		l.made = l.notice.At
		made, err := json.Marshal(l.notice)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO notices (id, receiver, made, notice) VALUES (?, ?, ?, ?)", l.notice.ID, receiver, l.made.UnixMilli(), string(made)); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM waiting WHERE receiver = ?", receiver)
		return err
	})
	return l, ok && err == nil, err
}

// letter is a notice on its way.
type letter struct {
	notice   Notice
	attempts int       // that failed
	made     time.Time // or asked for again by a person
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

// delivered forgets a notice that its receiver has.
func (o *Outbox) delivered(ctx context.Context, receiver, id string, now time.Time) error {
	return o.change(ctx, "note that "+receiver+" has the notice "+id, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM notices WHERE receiver = ? AND id = ?", receiver, id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO accounts (receiver, delivered, delivered_at) VALUES (?, 1, ?)
			ON CONFLICT (receiver) DO UPDATE SET delivered = delivered + 1, delivered_at = excluded.delivered_at`, receiver, now.UnixMilli())
		return err
	})
}

// failed notes why a try failed. A dead notice is not tried again until somebody asks for it.
func (o *Outbox) failed(ctx context.Context, receiver, id, why string, dead bool, now time.Time) error {
	return o.change(ctx, "note that "+receiver+" has not got the notice "+id, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE notices SET attempts = attempts + 1, error = ?, dead = ? WHERE receiver = ? AND id = ?", why, dead, receiver, id); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO accounts (receiver, failed, failed_at, error) VALUES (?, 1, ?, ?)
			ON CONFLICT (receiver) DO UPDATE SET failed = failed + 1, failed_at = excluded.failed_at, error = excluded.error`, receiver, now.UnixMilli(), why); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM notices WHERE dead = 1 AND receiver = ? AND rowid NOT IN (SELECT rowid FROM notices WHERE dead = 1 AND receiver = ? ORDER BY made DESC, rowid DESC LIMIT ?)", receiver, receiver, maxDead)
		return err
	})
}

// Account is what came of a receiver's notices.
type Account struct {
	Receiver      string     `json:"receiver"`
	Pending       int        `json:"pending"`        // events that have not reached it yet
	Dead          int        `json:"dead"`           // notices that were given up
	Failing       bool       `json:"failing"`        // the last try failed
	Delivered     int64      `json:"delivered"`      // notices
	Failed        int64      `json:"failed"`         // tries
	LastDelivered *time.Time `json:"last_delivered"` // null: never
	LastFailed    *time.Time `json:"last_failed"`
	LastError     string     `json:"last_error"`
}

// Accounts are those of the receivers that anything waits for, or was sent to, by name.
func (o *Outbox) Accounts(ctx context.Context) (list []Account, err error) {
	const doing = "read what came of notices"
	rows, err := o.db.QueryContext(ctx, `SELECT r.receiver, coalesce(a.delivered, 0), coalesce(a.failed, 0), coalesce(a.delivered_at, 0), coalesce(a.failed_at, 0), coalesce(a.error, ''),
		(SELECT count(*) FROM waiting w WHERE w.receiver = r.receiver)
			+ (SELECT coalesce(sum(json_array_length(notice, '$.events') + coalesce(json_extract(notice, '$.more'), 0)), 0) FROM notices n WHERE n.receiver = r.receiver AND dead = 0),
		(SELECT count(*) FROM notices n WHERE n.receiver = r.receiver AND dead = 1)
		FROM (SELECT receiver FROM waiting UNION SELECT receiver FROM notices UNION SELECT receiver FROM accounts) r LEFT JOIN accounts a ON a.receiver = r.receiver ORDER BY 1`)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	defer rows.Close()
	for rows.Next() {
		var a Account
		var delivered, failed int64
		if err := rows.Scan(&a.Receiver, &a.Delivered, &a.Failed, &delivered, &failed, &a.LastError, &a.Pending, &a.Dead); err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
		a.Failing = failed > delivered
		a.LastDelivered, a.LastFailed = orNil(delivered), orNil(failed)
		list = append(list, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return list, nil
}

func orNil(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	t := time.UnixMilli(ms).UTC()
	return &t
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
func (o *Outbox) Revive(ctx context.Context, receiver string, now time.Time) (n int64, err error) {
	err = o.change(ctx, "have dead notices tried again", func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "UPDATE notices SET dead = 0, attempts = 0, made = ? WHERE dead = 1 AND ? IN ('', receiver)", now.UnixMilli(), receiver)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	return n, err
}
