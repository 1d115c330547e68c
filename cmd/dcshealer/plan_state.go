package main

import (
	"context"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// withSavedStates shows the states of a healer that runs now; without one every instance is idle to this command.
func (a *app) withSavedStates(cfg policies.Config, r *planReport) {
	if !journal.HealerRunning(cfg.StateDir) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	j, err := journal.OpenReadOnly(ctx, cfg.StateDir)
	if err != nil {
		return
	}
	defer j.Close()
	saved, err := j.Statuses(ctx)
	if err != nil {
		return
	}
	for i := range r.Instances {
		for _, s := range saved {
			if s.Instance == r.Instances[i].Instance {
				r.Instances[i].State = s.State
			}
		}
	}
}
