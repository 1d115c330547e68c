package archive

import (
	"context"
	"errors"
	"fmt"
)

// eachPage is how many alarms are read at once: a reader that is slow with them holds up no one who writes.
const eachPage = 1000

// Each hands over alarms in the order they were kept, the oldest first, those after the row number after; Limit of the filter is
// not heeded. It returns the number of the last row that it looked at, for the next call, and the error of do.
func (a *Archive) Each(ctx context.Context, f Filter, after int64, do func(Stored) error) (last int64, err error) {
	for {
		page, err := a.page(ctx, f, after)
		if err != nil {
			return after, a.explain("read", err)
		}
		for _, s := range page {
			if err := do(s.Stored); err != nil {
				return after, err
			}
			after = s.n
		}
		if len(page) < eachPage {
			return after, nil
		}
	}
}

type numberedRow struct {
	Stored
	n int64
}

func (a *Archive) page(ctx context.Context, f Filter, after int64) (page []numberedRow, err error) {
	rows, err := a.db.QueryContext(ctx, `SELECT received, channel, severity, instance, metric, coalesce(id, ''), payload, size, n FROM alarms
		WHERE n > ?7 AND malformed IS NULL AND (?1 = 0 OR severity = ?1) AND (?2 = '' OR instance = ?2) AND (?3 = '' OR metric = ?3) AND received >= ?4 AND (?6 = 0 OR received < ?6)
		ORDER BY n LIMIT ?5`, int(f.Severity), cut(f.Instance), cut(string(f.Metric)), unixMilli(f.Since), eachPage, unixMilli(f.Until), after)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r numberedRow
		if r.Stored, err = scanStored(rows, &r.n); err != nil {
			return nil, fmt.Errorf("row after %d: %w", after, err)
		}
		page = append(page, r)
	}
	return page, rows.Err()
}

// Last is the number of the newest row; 0 of an empty archive.
func (a *Archive) Last(ctx context.Context) (n int64, err error) {
	err = a.db.QueryRowContext(ctx, "SELECT coalesce(max(n), 0) FROM alarms").Scan(&n)
	return n, a.explain("read", err)
}
