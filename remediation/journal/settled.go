package journal

import (
	"context"
	"database/sql"

	"dcshealer/policies"
)

// Settled returns the records that came to their outcome by an entry after seq, as they were then and in the order of those entries, at
// most limit, and up to which seq that is all. Of a seq that the journal has not come to (it is another one, or an older copy) there are
// none, and that is where it ends now.
func (j *Journal) Settled(ctx context.Context, after int64, limit int) (records []policies.Record, upTo int64, err error) {
	err = j.view(ctx, "read what was decided", func(tx *sql.Tx) error {
		if err := tx.QueryRowContext(ctx, "SELECT seq FROM head").Scan(&upTo); err != nil || after >= upTo {
			return err
		}
		settling, err := query(ctx, tx, scanEntry, "SELECT "+entryColumns+" FROM entries WHERE seq > ? AND kind IN (?, ?, ?) ORDER BY seq LIMIT ?",
			after, string(KindIntent), string(KindResult), string(KindInterrupted), limit)
		if err != nil {
			return err
		}
		if len(settling) > 0 && len(settling) == limit {
			upTo = settling[limit-1].Seq
		}
		for _, e := range settling {
			entries, err := query(ctx, tx, scanEntry, "SELECT "+entryColumns+" FROM entries WHERE record = ? AND seq <= ? ORDER BY seq", e.Record, e.Seq)
			if err != nil {
				return err
			}
			if r := join(entries); r.Outcome != policies.OutcomeRunning {
				records = append(records, r)
			}
		}
		return nil
	})
	return records, upTo, err
}
