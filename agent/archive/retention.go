package archive

import (
	"context"
	"log/slog"
	"time"
)

const (
	pruneRows  = 2000 // in one transaction: whoever writes waits no longer than that
	pruneEvery = time.Minute
)

// Limits bound an archive. A zero field bounds nothing.
type Limits struct {
	Keep     time.Duration // what was received longer ago is dropped
	MaxBytes int64         // what the file may use; the oldest is dropped
}

// Retain holds the archive within limits until the context ends, and returns its error. A fault is logged when it begins.
func (a *Archive) Retain(ctx context.Context, l Limits, log *slog.Logger) error {
	ticker := time.NewTicker(pruneEvery)
	defer ticker.Stop()
	failed := false
	for now := time.Now(); ; {
		dropped, err := a.Prune(ctx, l, now)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !failed:
			log.Error("old alarms are not dropped", "err", err)
		case dropped > 0:
			log.Info("old alarms were dropped", "count", dropped)
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now = <-ticker.C:
		}
	}
}

// Prune drops what is beyond the limits at now, in small steps, and gives the room back to the disk where the file was begun for
// that; an older file keeps its size and uses the room again. It returns how many alarms it dropped.
func (a *Archive) Prune(ctx context.Context, l Limits, now time.Time) (dropped int64, err error) {
	if l.Keep > 0 {
		dropped, err = a.drop(ctx, `received < ?`, now.Add(-l.Keep).UnixMilli())
		if err != nil {
			return dropped, a.explain("drop old alarms of", err)
		}
	}
	for l.MaxBytes > 0 {
		used, err := a.used(ctx)
		if err != nil {
			return dropped, a.explain("measure", err)
		}
		if used <= l.MaxBytes {
			break
		}
		n, err := a.dropSome(ctx, `1`)
		if dropped += n; err != nil || n == 0 {
			return dropped, a.explain("drop old alarms of", err)
		}
	}
	if dropped == 0 {
		return 0, nil
	}
	_, err = a.db.ExecContext(ctx, "PRAGMA incremental_vacuum")
	return dropped, a.explain("give back the room of", err)
}

func (a *Archive) drop(ctx context.Context, where string, args ...any) (dropped int64, err error) {
	for {
		n, err := a.dropSome(ctx, where, args...)
		if dropped += n; err != nil || n < pruneRows {
			return dropped, err
		}
	}
}

// dropSome drops the oldest of those that the condition holds for.
func (a *Archive) dropSome(ctx context.Context, where string, args ...any) (int64, error) {
	result, err := a.db.ExecContext(ctx, `DELETE FROM alarms WHERE n IN (SELECT n FROM alarms WHERE `+where+` ORDER BY received, n LIMIT ?)`, append(args, pruneRows)...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// used is how many bytes of the file hold something.
func (a *Archive) used(ctx context.Context) (bytes int64, err error) {
	err = a.db.QueryRowContext(ctx, `SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size`).Scan(&bytes)
	return bytes, err
}
