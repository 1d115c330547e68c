package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/agent/archive"
	"dcshealer/policies"
)

type trendFlags struct{ by, bucket, since, stateDir string }

func (a *app) newAlarmsTrendCommand() *cobra.Command {
	var f trendFlags
	cmd := &cobra.Command{
		Use:   "trend",
		Short: "Count archived alarms over time",
		Long: `trend counts the alarms that came in each span of time, repeats of a standing alarm included, resolved ones not. In JSON spans without
an alarm are left out.`,
		Example: "  dcshealer alarms trend\n  dcshealer alarms trend --by instance --bucket 10m --since 6h\n  dcshealer alarms trend --by metric --bucket 1h --since 7d -o json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.trend(cmd.Context(), f) },
	}
	cmd.Flags().StringVar(&f.by, "by", "severity", "severity, instance or metric")
	cmd.Flags().StringVar(&f.bucket, "bucket", "1m", "length of one span, such as 1m, 1h or 1d")
	cmd.Flags().StringVar(&f.since, "since", "1h", "from when: a duration such as 90m, 24h or 30d, or an RFC 3339 time")
	addStateDir(cmd, &f.stateDir)
	return cmd
}

func (f trendFlags) query(now time.Time) (archive.TrendQuery, error) {
	q := archive.TrendQuery{By: archive.TrendBy(f.by), Until: now}
	var err error
	if q.Bucket, err = parseDuration(f.bucket); err != nil {
		return q, fmt.Errorf("--bucket %q: want a duration such as 1m, 1h or 1d", f.bucket)
	}
	if f.since == "" {
		return q, errors.New("--since: want a duration such as 1h, or a time")
	}
	if q.Since, err = parseSince(f.since, now); err != nil {
		return q, fmt.Errorf("--since %w", err)
	}
	return q, q.Check()
}

// trendPoint is one count of alarms trend -o json.
type trendPoint struct {
	At    time.Time `json:"at"` // the span's beginning
	By    string    `json:"by"`
	Key   string    `json:"key"`
	Count int64     `json:"count"`
}

func (a *app) trend(ctx context.Context, f trendFlags) (err error) {
	q, err := f.query(time.Now().Add(time.Millisecond)) // what came in this moment counts too
	if err != nil {
		return err
	}
	store, err := a.openArchive(ctx, f.stateDir)
	if err != nil {
		return err
	}
	var points []archive.Point
	if store != nil {
		defer func() { err = errors.Join(err, store.Close()) }()
		if points, err = store.Trend(ctx, q); err != nil {
			return err
		}
	}
	if !a.json() {
		return a.drawTrend(q, points)
	}
	return a.printJSON(trendPoints(q, points))
}

func trendPoints(q archive.TrendQuery, points []archive.Point) []trendPoint {
	out := make([]trendPoint, 0, len(points))
	for _, p := range points {
		out = append(out, trendPoint{p.Start, string(q.By), p.Key, p.Count})
	}
	return out
}

const (
	trendColumns = 6  // keys with a column of their own; the rest share one
	trendBar     = 40 // characters of the longest bar
	trendRows    = 200
	otherKeys    = "(other)"
)

// drawTrend prints a row for each span, with a bar of its sum. Spans without an alarm are shown unless they are many.
func (a *app) drawTrend(q archive.TrendQuery, points []archive.Point) error {
	keys := trendKeys(q.By, points)
	counts := map[int64]map[string]int64{}
	var longest int64
	for _, p := range points {
		row := counts[p.Start.UnixMilli()]
		if row == nil {
			row = map[string]int64{}
			counts[p.Start.UnixMilli()] = row
		}
		key := p.Key
		if !slices.Contains(keys, key) {
			key = otherKeys
		}
		row[key] += p.Count
		longest = max(longest, sum(row))
	}
	t := plainTable(a.stdout, append(append([]string{"FROM (UTC)"}, keys...), "ALL", "TREND")...)
	for _, start := range trendStarts(q, counts) {
		row := counts[start]
		cells := []string{clock(time.UnixMilli(start))}
		for _, key := range keys {
			cells = append(cells, strconv.FormatInt(row[key], 10))
		}
		tableRow(t, append(cells, strconv.FormatInt(sum(row), 10), bar(sum(row), longest))...)
	}
	return t.Flush()
}

func sum(row map[string]int64) (n int64) {
	for _, c := range row {
		n += c
	}
	return n
}

// bar shows the smallest count too; none shows as a dot.
func bar(n, longest int64) string {
	if n == 0 {
		return "."
	}
	return strings.Repeat("#", max(int(n*trendBar/longest), 1))
}

// trendKeys are the columns: the severities, or the keys with the most alarms.
func trendKeys(by archive.TrendBy, points []archive.Point) []string {
	if by == archive.BySeverity {
		return []string{policies.Critical.String(), policies.Warning.String(), policies.Notice.String()}
	}
	total := map[string]int64{}
	for _, p := range points {
		total[p.Key] += p.Count
	}
	keys := slices.SortedFunc(maps.Keys(total), func(a, b string) int {
		return cmp.Or(cmp.Compare(total[b], total[a]), cmp.Compare(a, b))
	})
	if len(keys) > trendColumns {
		keys = append(keys[:trendColumns], otherKeys)
	}
	return keys
}

// trendStarts are the beginnings of the rows, in Unix ms.
func trendStarts(q archive.TrendQuery, counts map[int64]map[string]int64) []int64 {
	bucket := q.Bucket.Milliseconds()
	first, last := q.Since.UnixMilli()/bucket*bucket, (q.Until.UnixMilli()-1)/bucket*bucket
	if (last-first)/bucket >= trendRows {
		return slices.Sorted(maps.Keys(counts))
	}
	var starts []int64
	for start := first; start <= last; start += bucket {
		starts = append(starts, start)
	}
	return starts
}
