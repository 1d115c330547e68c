package journal

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"

	"dcshealer/policies"
)

// VerifyResult is what Verify found.
type VerifyResult struct {
	Entries  int       `json:"entries"`
	Dropped  int64     `json:"dropped"` // so many before them were dropped by retention
	Records  int       `json:"records"`
	OK       bool      `json:"ok"`
	Head     string    `json:"head"` // hash of the newest entry: noted elsewhere, it proves later that nothing before it was changed
	FirstBad *BadEntry `json:"first_bad"`
}

// BadEntry is the first place where the journal is not what was written.
type BadEntry struct {
	Seq    int64  `json:"seq"`
	Record string `json:"record"` // as far as it can be told
	Why    string `json:"why"`
}

// Verify reads the whole journal and checks each entry's hash, the chain through all of them, that none is missing, also
// at the end, and that the table which lists are made from says what the entries say. It finds every edit that does not
// recompute the rest of the chain; who can rewrite the whole file can forge one that passes, so note Head elsewhere.
func (j *Journal) Verify(ctx context.Context) (res VerifyResult, err error) {
	err = j.view(ctx, "verify the journal", func(tx *sql.Tx) error {
		cut, err := cutOf(ctx, tx)
		if err != nil {
			return err
		}
		a := newAudit(cut)
		if err := a.entries(ctx, tx); err != nil {
			return err
		}
		if a.bad == nil && a.told != cut {
			a.bad = &BadEntry{Seq: cut.Seq + 1, Why: fmt.Sprintf("the entries up to %d (%.12s) are gone, and by the newest checkpoint retention dropped those up to %d (%.12s)", cut.Seq, cut.Hash, a.told.Seq, a.told.Hash)}
		}
		if a.bad == nil {
			if err := a.headAndRows(ctx, tx); err != nil {
				return err
			}
		}
		res = a.result(cut)
		return nil
	})
	return res, err
}

// audit walks the entries in order, up to the first bad one.
type audit struct {
	seq       int64  // of the last good entry
	prev      string // its hash
	rows      map[string]row
	incidents map[string]incidentRow
	told      Head // the last dropped entry by the newest checkpoint
	partial   bool // an export that begins later: its first entries may belong to records from before
	bad       *BadEntry
}

// newAudit begins after the entry from.
func newAudit(from Head) *audit {
	return &audit{seq: from.Seq, prev: from.Hash, rows: map[string]row{}, incidents: map[string]incidentRow{}, told: Head{Hash: genesis}}
}

func (a *audit) result(from Head) VerifyResult {
	return VerifyResult{Entries: int(a.seq - from.Seq), Dropped: from.Seq, Records: len(a.rows), OK: a.bad == nil, Head: a.prev, FirstBad: a.bad}
}

func (a *audit) entries(ctx context.Context, tx *sql.Tx) error {
	err := a.walk(ctx, tx)
	if a.bad == nil && damaged(err) {
		a.bad = &BadEntry{Seq: a.seq + 1, Why: fmt.Sprintf("the file is damaged from here on and cannot be read (%v): %s", err, cure)}
		return nil
	}
	return err
}

func (a *audit) walk(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, "SELECT "+entryColumns+" FROM entries ORDER BY seq")
	if err != nil {
		return err
	}
	defer rows.Close()
	for a.bad == nil && rows.Next() {
		e, err := scanEntry(rows)
		if err != nil {
			return err
		}
		a.next(e)
	}
	return rows.Err()
}

// next checks one entry against the one before it. Pure but for a.
func (a *audit) next(e Entry) {
	if why := a.fault(e); why != "" {
		a.bad = &BadEntry{Seq: e.Seq, Record: e.Record, Why: why}
		return
	}
	a.seq, a.prev = e.Seq, e.Hash
}

func (a *audit) fault(e Entry) string {
	switch {
	case e.Seq != a.seq+1:
		return fmt.Sprintf("entry %d follows entry %d: entries between them are missing", e.Seq, a.seq)
	case e.Prev != a.prev:
		return fmt.Sprintf("prev is %.12s and the entry before it has the hash %.12s: one of them was changed, moved or replaced", e.Prev, a.prev)
	case e.Hash != e.sum():
		return "its hash does not match its content: it was changed after it was written"
	case e.Kind == KindControl:
		return ""
	case e.Kind == KindCheckpoint:
		return a.checkpoint(e)
	case e.Kind == KindIncident:
		return a.incident(e)
	}
	w, known := a.rows[e.Record]
	if !known && a.partial && e.Kind != KindIntent {
		return ""
	}
	if known == (e.Kind == KindIntent) {
		return fmt.Sprintf("a record has exactly one intent, as its first entry; this is a %s", e.Kind)
	}
	w, err := w.after(e)
	if err != nil {
		return "its body cannot be read: " + err.Error()
	}
	a.rows[e.Record] = w
	return ""
}

// headAndRows compares what is kept beside the entries.
func (a *audit) headAndRows(ctx context.Context, tx *sql.Tx) error {
	var seq int64
	var hash string
	if err := tx.QueryRowContext(ctx, "SELECT seq, hash FROM head").Scan(&seq, &hash); err == sql.ErrNoRows {
		a.bad = &BadEntry{Seq: a.seq + 1, Why: "the note of the newest entry is missing: the end may have been cut off"}
		return nil
	} else if err != nil {
		return err
	}
	if seq > a.seq {
		a.bad = &BadEntry{Seq: a.seq + 1, Why: fmt.Sprintf("the journal ends at entry %d and had %d: its end was cut off", a.seq, seq)}
		return nil
	}
	if seq != a.seq || hash != a.prev {
		a.bad = &BadEntry{Seq: a.seq, Why: fmt.Sprintf("the newest entry is %d (%.12s) and was noted as %d (%.12s): one of them was changed", a.seq, a.prev, seq, hash)}
		return nil
	}
	return a.compareRows(ctx, tx)
}

func (a *audit) compareRows(ctx context.Context, tx *sql.Tx) error {
	rows, err := query(ctx, tx, scanRow, "SELECT "+rowColumns+" FROM records")
	if err != nil {
		return err
	}
	seen := make(map[string]row, len(rows))
	for _, w := range rows {
		seen[w.ID] = w
		if _, ok := a.rows[w.ID]; !ok {
			a.bad = &BadEntry{Seq: w.Seq, Record: w.ID, Why: "the list shows a record that has no entries"}
			return nil
		}
	}
	for _, want := range slices.SortedFunc(maps.Values(a.rows), func(x, y row) int { return int(x.Seq - y.Seq) }) {
		if got, ok := seen[want.ID]; !ok {
			a.bad = &BadEntry{Seq: want.Seq, Record: want.ID, Why: "the list leaves this record out; its entries are whole"}
			return nil
		} else if got != want {
			a.bad = &BadEntry{Seq: want.Seq, Record: want.ID, Why: "the list says otherwise than the entries, which are whole: " + want.differs(got)}
			return nil
		}
	}
	return a.compareIncidents(ctx, tx)
}

// differs names what the list says and what the entries say.
func (w row) differs(got row) string {
	if w.Outcome != got.Outcome {
		return fmt.Sprintf("outcome %s, not %s", outcome(w.Outcome), outcome(got.Outcome))
	}
	return fmt.Sprintf("%+v, not %+v", w, got)
}

func outcome(o policies.Outcome) policies.Outcome {
	if o == "" {
		return "none"
	}
	return o
}
