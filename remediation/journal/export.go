package journal

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// exportFormat names what an export's lines are.
const exportFormat = "dcshealer journal export 1"

// ExportHeader is the first line of an export: what it takes to prove the lines after it, which are entries in their order.
type ExportHeader struct {
	Format   string    `json:"format"`
	Exported time.Time `json:"exported"`
	From     int64     `json:"from"` // seq of the first entry; one more than To: there is none
	To       int64     `json:"to"`
	Prev     string    `json:"prev"`    // hash of the entry before From
	Head     string    `json:"head"`    // hash of entry To
	Dropped  Head      `json:"dropped"` // how far retention had cut; seq 0: nothing
}

// exportLine is an Entry whose body is text: JSON in JSON would be written anew, and its hash is over each of its bytes.
type exportLine struct {
	Entry
	Body string `json:"body"`
}

// Export writes the journal, from the first entry at since or later on, as lines of JSON that VerifyExport proves without the journal.
// Damage goes out as it is and is told in the result, as Verify tells it of the chain.
func (j *Journal) Export(ctx context.Context, w io.Writer, since, now time.Time) (res VerifyResult, err error) {
	err = j.view(ctx, "export the journal", func(tx *sql.Tx) error {
		h, err := exportHeader(ctx, tx, since, now)
		if err != nil {
			return err
		}
		out := bufio.NewWriter(w)
		lines := json.NewEncoder(out)
		if err := lines.Encode(h); err != nil {
			return err
		}
		a := h.audit()
		rows, err := tx.QueryContext(ctx, "SELECT "+entryColumns+" FROM entries WHERE seq >= ? ORDER BY seq", h.From)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			e, err := scanEntry(rows)
			if err == nil {
				err = lines.Encode(exportLine{e, string(e.Body)})
			}
			if err != nil {
				return err
			}
			if a.bad == nil {
				a.next(e)
			}
		}
		a.end(h)
		res = a.result(h.before())
		return errors.Join(rows.Err(), out.Flush())
	})
	return res, err
}

func exportHeader(ctx context.Context, tx *sql.Tx, since, now time.Time) (h ExportHeader, err error) {
	h = ExportHeader{Format: exportFormat, Exported: now.UTC()}
	if h.Dropped, err = cutOf(ctx, tx); err != nil {
		return h, err
	}
	if err := tx.QueryRowContext(ctx, "SELECT seq, hash FROM head").Scan(&h.To, &h.Head); err != nil {
		return h, err
	}
	if err := tx.QueryRowContext(ctx, "SELECT coalesce(min(seq), ?) FROM entries WHERE at >= ?", h.To+1, stamp(since)).Scan(&h.From); err != nil {
		return h, err
	}
	before, err := query(ctx, tx, scanHead, "SELECT seq, hash FROM entries WHERE seq = ?", h.From-1)
	if h.Prev = h.Dropped.Hash; len(before) > 0 {
		h.Prev = before[0].Hash
	}
	return h, err
}

// before is the entry that the first one follows.
func (h ExportHeader) before() Head { return Head{Seq: h.From - 1, Hash: h.Prev} }

func (h ExportHeader) audit() *audit {
	a := newAudit(h.before())
	a.partial = h.From > h.Dropped.Seq+1
	return a
}

// end compares the last entry with what the header says.
func (a *audit) end(h ExportHeader) {
	switch {
	case a.bad != nil:
	case a.seq < h.To:
		a.bad = &BadEntry{Seq: a.seq + 1, Why: fmt.Sprintf("it ends at entry %d and had %d: its end was cut off", a.seq, h.To)}
	case a.seq != h.To || a.prev != h.Head:
		a.bad = &BadEntry{Seq: a.seq, Why: fmt.Sprintf("the newest entry is %d (%.12s) and was noted as %d (%.12s): one of them was changed", a.seq, a.prev, h.To, h.Head)}
	case !a.partial && a.told != h.Dropped:
		a.bad = &BadEntry{Seq: h.From, Why: fmt.Sprintf("the header says that retention dropped the entries up to %d (%.12s), and the newest checkpoint those up to %d (%.12s)",
			h.Dropped.Seq, h.Dropped.Hash, a.told.Seq, a.told.Hash)}
	}
}

// VerifyExport proves an export by itself: each entry's hash, the chain through all of them and its end. An error means that it is no
// export or could not be read; what was changed is in the result.
func VerifyExport(r io.Reader) (VerifyResult, error) {
	in := bufio.NewReader(r)
	var h ExportHeader
	first, err := in.ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return VerifyResult{}, err
	}
	if err := json.Unmarshal(first, &h); err != nil || h.Format != exportFormat {
		return VerifyResult{}, fmt.Errorf("its first line is no header of a journal's export (want format %q): make one with: dcshealer actions export --out FILE", exportFormat)
	}
	a := h.audit()
	for n := 2; a.bad == nil; n++ {
		text, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			break
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return VerifyResult{}, err
		}
		var l exportLine
		if err := json.Unmarshal(text, &l); err != nil {
			a.bad = &BadEntry{Seq: a.seq + 1, Why: fmt.Sprintf("line %d is no entry: %v", n, err)}
			break
		}
		l.Entry.Body = json.RawMessage(l.Body)
		a.next(l.Entry)
	}
	a.end(h)
	return a.result(h.before()), nil
}
