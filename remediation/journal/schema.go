package journal

import (
	"context"
	"database/sql"
	"fmt"
)

// migrations bring a file from user_version i to i+1. Released ones are never edited.
var migrations = [...]string{`
CREATE TABLE entries (
	seq    INTEGER PRIMARY KEY,
	record TEXT NOT NULL,
	kind   TEXT NOT NULL,
	at     TEXT NOT NULL,
	body   TEXT NOT NULL,
	prev   TEXT NOT NULL,
	hash   TEXT NOT NULL
) STRICT;
CREATE INDEX entries_record ON entries (record, seq);
CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'journal entries are append-only'); END;
CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'journal entries are append-only'); END;
CREATE TRIGGER entries_no_replace BEFORE INSERT ON entries WHEN EXISTS (SELECT 1 FROM entries WHERE seq = NEW.seq)
	BEGIN SELECT RAISE(ABORT, 'journal entries are append-only'); END;

-- The newest entry's seq and hash: a tail that was cut off shows.
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL) STRICT;
INSERT INTO head VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

-- Derived from entries, for the questions that guards ask often.
CREATE TABLE records (
	id       TEXT PRIMARY KEY,
	seq      INTEGER NOT NULL,
	instance TEXT NOT NULL,
	node     TEXT NOT NULL,
	action   TEXT NOT NULL,
	mode     TEXT NOT NULL,
	outcome  TEXT NOT NULL,
	metric   TEXT NOT NULL,
	at       TEXT NOT NULL,
	finished TEXT NOT NULL,
	sent     INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX records_seq ON records (seq);
CREATE INDEX records_instance ON records (instance, seq);
CREATE INDEX records_sent ON records (instance, action, finished) WHERE sent = 1 AND mode = 'live';
CREATE INDEX records_acted ON records (instance, seq) WHERE sent = 1;
CREATE INDEX records_running ON records (seq) WHERE outcome = 'running';

CREATE TABLE grants (instance TEXT NOT NULL, action TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (instance, action)) STRICT;
CREATE TABLE pauses (instance TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE statuses (instance TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE memory (instance TEXT NOT NULL, node TEXT NOT NULL, at TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (instance, node)) STRICT;
CREATE TABLE breakers (name TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT;
`, `
CREATE TABLE debts (instance TEXT NOT NULL, node TEXT NOT NULL, setting TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (instance, node, setting)) STRICT;
`, `
-- Derived from entries of the kind incident.
CREATE TABLE incidents (
	id       TEXT PRIMARY KEY,
	seq      INTEGER NOT NULL,
	instance TEXT NOT NULL,
	opened   TEXT NOT NULL,
	closed   TEXT NOT NULL,
	body     TEXT NOT NULL
) STRICT;
CREATE INDEX incidents_instance ON incidents (instance, seq);
CREATE INDEX incidents_open ON incidents (seq) WHERE closed = '';
CREATE INDEX entries_incident ON entries (CASE WHEN json_valid(body) THEN json_extract(body, '$.incident') END) WHERE kind = 'intent';
CREATE INDEX entries_control ON entries (at) WHERE kind = 'control';

-- The newest entry by which a person asked for a new look at an instance; '': at all.
CREATE TABLE nudges (instance TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT;
`, `
-- When a healer last proved that it can write.
CREATE TABLE pulse (one INTEGER PRIMARY KEY CHECK (one = 1), at TEXT NOT NULL, room BLOB NOT NULL) STRICT;

-- The last entry that retention dropped. Entries up to cutting may be deleted: it is not 0 within a transaction of retention alone.
CREATE TABLE cut (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL, cutting INTEGER NOT NULL) STRICT;
INSERT INTO cut VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000', 0);
DROP TRIGGER entries_no_delete;
CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries WHEN OLD.seq > coalesce((SELECT cutting FROM cut), 0)
	BEGIN SELECT RAISE(ABORT, 'journal entries are append-only'); END;
`}

// schemaVersion is the file's user_version: 0 for a new file. A file of a newer dcshealer is an error.
func schemaVersion(ctx context.Context, db *sql.DB) (int, error) {
	var v int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&v); err != nil {
		return 0, err
	}
	if v > len(migrations) {
		return v, fmt.Errorf("it has format %d and this dcshealer knows %d: use the newer dcshealer that wrote it", v, len(migrations))
	}
	return v, nil
}

// migrate brings the file to the newest format, in one transaction: when a step fails the file is as it was. The caller holds the
// opening lock.
func migrate(ctx context.Context, db *sql.DB, steps []string) error {
	v, err := schemaVersion(ctx, db)
	if err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, "PRAGMA journal_mode(wal)"); err != nil {
		return err
	}
	if v >= len(steps) {
		return nil
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it is a no-op
	for ; v < len(steps); v++ {
		if _, err := tx.ExecContext(ctx, steps[v]+fmt.Sprintf("PRAGMA user_version = %d;", v+1)); err != nil {
			return fmt.Errorf("bring it from format %d to %d (it stays as it was): %w", v, v+1, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	// Into the file itself: who loses the -wal file must not find an empty journal that looks new.
	_, err = db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}
