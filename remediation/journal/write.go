package journal

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"dcshealer/policies"
)

// finishGrace bounds a write that has to happen although its caller is being stopped.
const finishGrace = 10 * time.Second

// Begin writes the intent and returns the record's id, a new ULID where r has none. When it returns, the intent is on
// disk (fsync): only then may the first command go out. An empty Outcome means running; a running record needs the
// instance's action lock, held by this Journal (ErrNotLocked), as that lock tells others that its owner is alive.
// Decisions that send nothing come with their outcome (planned, denied, unsupported) and need no Finish.
func (j *Journal) Begin(ctx context.Context, r policies.Record) (string, error) {
	doing := fmt.Sprintf("journal the intent %s on %s", r.Action, r.Instance)
	if r.Outcome == "" {
		r.Outcome = policies.OutcomeRunning
	}
	if r.Outcome == policies.OutcomeRunning && !j.holds(r.Instance) {
		return "", fmt.Errorf("%s: %w: lock %s first", doing, ErrNotLocked, r.Instance)
	}
	r.At = orNow(r.At).UTC()
	if r.Operator == (policies.Operator{}) {
		r.Operator = j.op
	}
	if r.ID == "" {
		id, err := ulid.New(ulid.Timestamp(r.At), rand.Reader)
		if err != nil {
			return "", fmt.Errorf("%s: make an id: %w", doing, err)
		}
		r.ID = id.String()
	}
	r.Prev, r.Hash = "", "" // of the entries, never of a body
	r.Commands = timed(r.Commands)
	return r.ID, j.commit(ctx, j.write, doing, func(tx *sql.Tx) error {
		switch _, err := rowOf(ctx, tx, r.ID); {
		case err == nil:
			return fmt.Errorf("the id %s is taken", r.ID)
		case !errors.Is(err, ErrUnknown):
			return err
		}
		return add(ctx, tx, row{}, r.ID, KindIntent, r.At, r)
	})
}

// Command adds a command that was sent to record id, also to a finished one: what was sent is never left out. It is
// written although ctx has ended, within 10 s.
func (j *Journal) Command(ctx context.Context, id string, c policies.CommandRecord) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishGrace)
	defer cancel()
	c.At = orNow(c.At).UTC()
	c = timed([]policies.CommandRecord{c})[0]
	return j.extendRecord(ctx, "journal a command of "+id, id, KindCommand, c.At, c, nil)
}

// Finish closes the running record id, once: ErrFinished after that, and when another process found it interrupted. Call
// it before unlocking the instance. It is written although ctx has ended, within 10 s.
func (j *Journal) Finish(ctx context.Context, id string, res Result) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishGrace)
	defer cancel()
	doing := "journal the result of " + id
	if res.Outcome == "" || res.Outcome == policies.OutcomeRunning {
		return fmt.Errorf("%s: outcome %q is no result", doing, res.Outcome)
	}
	res.Finished = orNow(res.Finished).UTC()
	res.Commands = timed(res.Commands)
	return j.extendRecord(ctx, doing, id, KindResult, res.Finished, res, running)
}

// Note adds an observation to record id, finished or not.
func (j *Journal) Note(ctx context.Context, id string, n policies.Note) error {
	n.At = orNow(n.At).UTC()
	return j.extendRecord(ctx, "journal a note on "+id, id, KindNote, n.At, n, nil)
}

// Interrupted closes the running record id as one whose process ended without a result, noticed at now. The caller
// knows that the owner is gone; RecoverInterrupted finds out.
func (j *Journal) Interrupted(ctx context.Context, id string, now time.Time) error {
	now = orNow(now).UTC()
	return j.extendRecord(ctx, "journal that "+id+" was interrupted", id, KindInterrupted, now, ended{now, j.op}, running)
}

// running refuses a second result.
func running(w row) error {
	if w.Outcome != policies.OutcomeRunning {
		return fmt.Errorf("%w: %s", ErrFinished, w.Outcome)
	}
	return nil
}

// extendRecord adds one entry to an existing record; check, when given, may refuse it.
func (j *Journal) extendRecord(ctx context.Context, doing, id string, kind Kind, at time.Time, body any, check func(row) error) error {
	return j.commit(ctx, j.write, doing, func(tx *sql.Tx) error {
		w, err := rowOf(ctx, tx, id)
		if err == nil && check != nil {
			err = check(w)
		}
		if err != nil {
			return err
		}
		return add(ctx, tx, w, id, kind, at, body)
	})
}

// add appends an entry and brings its record's row up to date, in one transaction.
func add(ctx context.Context, tx *sql.Tx, w row, id string, kind Kind, at time.Time, body any) error {
	e, err := appendEntry(ctx, tx, id, kind, at, body)
	if err != nil {
		return err
	}
	if w, err = w.after(e); err != nil {
		return err
	}
	return w.save(ctx, tx)
}

// rowOf reads a record's row; ErrUnknown when there is none.
func rowOf(ctx context.Context, tx *sql.Tx, id string) (row, error) {
	found, err := query(ctx, tx, scanRow, "SELECT "+rowColumns+" FROM records WHERE id = ?", id)
	if err == nil && len(found) == 0 {
		err = ErrUnknown
	}
	if err != nil {
		return row{}, err
	}
	return found[0], nil
}

// timed fills the seconds that the JSON carries, in a copy.
func timed(cs []policies.CommandRecord) []policies.CommandRecord {
	cs = slices.Clone(cs)
	for i := range cs {
		if cs[i].TookS == 0 {
			cs[i].TookS = cs[i].Took.Seconds()
		}
	}
	return cs
}

// orNow keeps an entry from having no time; callers pass theirs.
func orNow(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}
