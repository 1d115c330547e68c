package archive

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"dcshealer/policies"
)

// Filter selects alarms; a zero field selects all.
type Filter struct {
	Severity policies.Severity
	Instance string
	Metric   policies.Metric
	Since    time.Time // received at or after
	Until    time.Time // received before
	Limit    int       // at most so many, the newest; 0: no bound
}

// Stored is one alarm of the archive.
type Stored struct {
	Alarm    policies.Alarm // of a payload that was cut only what the index holds
	Received time.Time
	Channel  string
	Payload  []byte // as received, at most MaxStored bytes
	Size     int    // bytes as received
}

// Cut reports whether only the beginning of the payload was kept.
func (s Stored) Cut() bool { return s.Size > len(s.Payload) }

// List returns alarms, newest first.
func (a *Archive) List(ctx context.Context, f Filter) ([]Stored, error) {
	list := []Stored{}
	err := a.Newest(ctx, f, func(s Stored) bool { list = append(list, s); return true })
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Newest hands over alarms, newest first, until do wants no more.
func (a *Archive) Newest(ctx context.Context, f Filter, do func(Stored) (more bool)) error {
	limit := f.Limit
	if limit <= 0 {
		limit = -1
	}
	rows, err := a.db.QueryContext(ctx, `SELECT received, channel, severity, instance, metric, coalesce(id, ''), payload, size FROM alarms
		WHERE malformed IS NULL AND (?1 = 0 OR severity = ?1) AND (?2 = '' OR instance = ?2) AND (?3 = '' OR metric = ?3) AND received >= ?4 AND (?6 = 0 OR received < ?6)
		ORDER BY received DESC, n DESC LIMIT ?5`, int(f.Severity), cut(f.Instance), cut(string(f.Metric)), unixMilli(f.Since), limit, unixMilli(f.Until))
	if err != nil {
		return a.explain("read", err)
	}
	defer rows.Close()
	for rows.Next() {
		s, err := scanStored(rows)
		if err != nil {
			return a.explain("read", err)
		}
		if !do(s) {
			return nil
		}
	}
	return a.explain("read", rows.Err())
}

// scanStored reads a row; more are columns beyond those of Stored.
func scanStored(rows *sql.Rows, more ...any) (Stored, error) {
	var s Stored
	var ms int64
	var indexed policies.Alarm
	err := rows.Scan(append([]any{&ms, &s.Channel, (*int)(&indexed.Severity), &indexed.Instance, &indexed.Metric, &indexed.ID, &s.Payload, &s.Size}, more...)...)
	if err != nil {
		return s, err
	}
	s.Received = time.UnixMilli(ms).UTC()
	if s.Alarm, err = policies.DecodeAlarm(s.Payload); err != nil { // it was cut
		s.Alarm = indexed
		s.Alarm.Msg = fmt.Sprintf("(payload of %d bytes, of which %d were kept)", s.Size, len(s.Payload))
	}
	s.Alarm.Severity = indexed.Severity
	return s, nil
}

func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// TrendBy is what a trend tells apart.
type TrendBy string

// The three of them.
const (
	BySeverity TrendBy = "severity"
	ByInstance TrendBy = "instance"
	ByMetric   TrendBy = "metric"
)

// MaxBuckets bounds a trend.
const MaxBuckets = 10_000

// TrendQuery asks how many alarms came when. Resolved ones are not counted.
type TrendQuery struct {
	By           TrendBy
	Bucket       time.Duration // at least 1s, in whole ms; buckets begin at its multiples since 1970 UTC
	Since, Until time.Time     // received at or after, and before
}

// Point is one bucket's count of one key: a severity's name, an instance or a metric.
type Point struct {
	Start time.Time
	Key   string
	Count int64
}

// Trend counts alarms by bucket and key, oldest bucket first, keys in order. Buckets without an alarm are left out.
func (a *Archive) Trend(ctx context.Context, q TrendQuery) ([]Point, error) {
	if err := q.Check(); err != nil {
		return nil, err
	}
	bucket := q.Bucket.Milliseconds()
	rows, err := a.db.QueryContext(ctx, `SELECT received / ?1 * ?1 AS start, `+string(q.By)+` AS key, count(*) FROM alarms
		WHERE malformed IS NULL AND resolved = 0 AND received >= ?2 AND received < ?3 GROUP BY 1, 2 ORDER BY 1, 2`,
		bucket, q.Since.UnixMilli(), q.Until.UnixMilli())
	if err != nil {
		return nil, a.explain("read", err)
	}
	defer rows.Close()
	points := []Point{}
	for rows.Next() {
		p, err := scanPoint(rows, q.By)
		if err != nil {
			return nil, a.explain("read", err)
		}
		points = append(points, p)
	}
	return points, a.explain("read", rows.Err())
}

// Check reports what Trend would refuse. It keeps anything but a column's name out of the query.
func (q TrendQuery) Check() error {
	switch {
	case q.By != BySeverity && q.By != ByInstance && q.By != ByMetric:
		return fmt.Errorf("trend by %q: want severity, instance or metric", q.By)
	case q.Bucket < time.Second || q.Bucket%time.Millisecond != 0:
		return fmt.Errorf("trend bucket %s: want at least 1s, in whole milliseconds", q.Bucket)
	case !q.Since.Before(q.Until):
		return fmt.Errorf("trend from %s to %s: want a beginning before its end", q.Since.Format(time.RFC3339), q.Until.Format(time.RFC3339))
	case q.Until.Sub(q.Since)/q.Bucket > MaxBuckets:
		return fmt.Errorf("trend over %s in buckets of %s: want at most %d buckets; make them longer", q.Until.Sub(q.Since).Round(time.Second), q.Bucket, MaxBuckets)
	}
	return nil
}

func scanPoint(rows *sql.Rows, by TrendBy) (Point, error) {
	var p Point
	var ms int64
	if by != BySeverity {
		err := rows.Scan(&ms, &p.Key, &p.Count)
		p.Start = time.UnixMilli(ms).UTC()
		return p, err
	}
	var severity policies.Severity
	err := rows.Scan(&ms, (*int)(&severity), &p.Count)
	p.Start, p.Key = time.UnixMilli(ms).UTC(), severity.String()
	return p, err
}
