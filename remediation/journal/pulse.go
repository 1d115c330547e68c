package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A Head names one entry of the chain: its place and its hash.
type Head struct {
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
}

// headFile lies beside the journal and says how far it went: a lost -wal file or an older copy shows by it. It is no proof against who
// can write the state_dir.
const headFile = "healer.head"

// Pulse writes to the journal as a record would be written, which proves that it can be; room is how many bytes beyond that have to fit.
// It also notes the newest entry in a file beside the journal.
func (j *Journal) Pulse(ctx context.Context, at time.Time, room int) error {
	const doing = "try whether the journal can be written"
	var head Head
	err := j.commit(ctx, j.write, doing, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO pulse (one, at, room) VALUES (1, ?, zeroblob(?))", stamp(at), room); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, "SELECT seq, hash FROM head").Scan(&head.Seq, &head.Hash)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%s: %w: the note of its newest entry is gone; run: dcshealer actions verify", doing, ErrDamaged)
	}
	if err != nil {
		return err
	}
	if err := j.noteHead(head); err != nil {
		return fmt.Errorf("%s: note its newest entry in %s: %w", doing, j.headPath(), err)
	}
	return nil
}

// Pulsed is when a healer last proved that it can write; false when none ever did.
func (j *Journal) Pulsed(ctx context.Context) (at time.Time, ever bool, err error) {
	err = j.view(ctx, "read when the journal was last written", func(tx *sql.Tx) error {
		if has, err := hasTable(ctx, tx, "pulse"); err != nil || !has {
			return err
		}
		found, err := query(ctx, tx, func(rows *sql.Rows) (s string, err error) { return s, rows.Scan(&s) }, "SELECT at FROM pulse")
		if len(found) > 0 {
			at, ever = unstamp(found[0]), true
		}
		return err
	})
	return at, ever, err
}

// Check is the quick look at the start of a healer: that the file is sound and that its end is the one that was noted. ErrDamaged when
// it is not; Verify tells more.
func (j *Journal) Check(ctx context.Context) error {
	const doing = "check the journal"
	noted, err := j.notedHead()
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return j.view(ctx, doing, func(tx *sql.Tx) error {
		var said string
		if err := tx.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&said); err != nil {
			return err
		}
		if said != "ok" {
			return fmt.Errorf("%w: %s: %s; %s", ErrDamaged, j.path(), said, cure)
		}
		cut, err := cutOf(ctx, tx)
		if err != nil {
			return err
		}
		newest, err := query(ctx, tx, scanHead, "SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1")
		if err == nil && len(newest) == 0 {
			newest = []Head{cut}
		}
		if err != nil {
			return err
		}
		head, err := query(ctx, tx, scanHead, "SELECT seq, hash FROM head")
		switch {
		case err != nil:
			return err
		case len(head) != 1 || head[0] != newest[0]:
			return fmt.Errorf("%w: %s does not end with the entry that it noted as its newest; run: dcshealer actions verify", ErrDamaged, j.path())
		}
		return j.checkNoted(ctx, tx, noted, cut, newest[0])
	})
}

// checkNoted finds the entry that was noted beside the journal in it.
func (j *Journal) checkNoted(ctx context.Context, tx *sql.Tx, noted, cut, newest Head) error {
	if noted.Seq <= cut.Seq {
		return nil
	}
	at, err := query(ctx, tx, scanHead, "SELECT seq, hash FROM entries WHERE seq = ?", noted.Seq)
	switch {
	case err != nil:
		return err
	case len(at) == 0:
		return fmt.Errorf("%w: %s ends at entry %d and had %d by %s: its -wal file was lost, or it is an older copy; restore the newest one, or remove %s where this one is meant",
			ErrDamaged, j.path(), newest.Seq, noted.Seq, j.headPath(), j.headPath())
	case at[0] != noted:
		return fmt.Errorf("%w: entry %d of %s is not the one that %s noted: it is another journal, or it was rewritten; restore the right one, or remove %s where this one is meant",
			ErrDamaged, noted.Seq, j.path(), j.headPath(), j.headPath())
	}
	return nil
}

func scanHead(rows *sql.Rows) (h Head, err error) { return h, rows.Scan(&h.Seq, &h.Hash) }

func (j *Journal) headPath() string { return filepath.Join(j.dir, headFile) }

// notedHead is what noteHead wrote; the zero Head when nothing.
func (j *Journal) notedHead() (h Head, err error) {
	b, err := os.ReadFile(j.headPath())
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	if err != nil {
		return h, fmt.Errorf("read %s: %w; it says how far the journal went: restore it, or remove it, the next healer writes it anew", j.headPath(), err)
	}
	return h, nil
}

// noteHead replaces the file in one step, where it changed.
func (j *Journal) noteHead(h Head) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.noted == h {
		return nil
	}
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	temp := j.headPath() + ".new"
	if err := os.WriteFile(temp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	if err := os.Rename(temp, j.headPath()); err != nil {
		return err
	}
	j.noted = h
	return nil
}

func hasTable(ctx context.Context, tx *sql.Tx, name string) (has bool, err error) {
	err = tx.QueryRowContext(ctx, "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = ?", name).Scan(&has)
	return has, err
}

// cutOf is the last entry that retention dropped; genesis when it dropped none, and in a file of an older format.
func cutOf(ctx context.Context, tx *sql.Tx) (Head, error) {
	none := Head{Hash: genesis}
	if has, err := hasTable(ctx, tx, "cut"); err != nil || !has {
		return none, err
	}
	found, err := query(ctx, tx, scanHead, "SELECT seq, hash FROM cut")
	if err != nil || len(found) == 0 {
		return none, err
	}
	return found[0], nil
}
