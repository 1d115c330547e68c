package journal

import (
	"context"
	"errors"
	"time"

	"dcshealer/policies"
)

// RecoverInterrupted closes, as interrupted, each running record whose owner is gone, and returns those it closed. An
// owner is gone when its instance's action lock can be had: the kernel frees it with the process, also after kill -9.
func (j *Journal) RecoverInterrupted(ctx context.Context, now time.Time) ([]policies.Record, error) {
	left, err := j.records(ctx, "look for interrupted actions", "WHERE outcome = 'running' ORDER BY seq")
	if err != nil {
		return nil, err
	}
	var closed []policies.Record
	var errs []error
	for _, r := range left {
		switch err := j.recoverOne(ctx, r, now); {
		case errors.Is(err, ErrLocked), errors.Is(err, ErrFinished): // alive, or somebody was quicker
		case err != nil:
			errs = append(errs, err)
		default:
			r, _, err = j.Show(ctx, r.ID)
			closed, errs = append(closed, r), append(errs, err)
		}
	}
	return closed, errors.Join(errs...)
}

func (j *Journal) recoverOne(ctx context.Context, r policies.Record, now time.Time) error {
	unlock, err := j.Lock(ctx, r.Instance)
	if err != nil {
		return err
	}
	defer unlock()
	return j.Interrupted(ctx, r.ID, now)
}
