package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// checkState looks at the state_dir without making or changing anything in it.
func checkState(ctx context.Context, cfg policies.Config) []policies.CheckResult {
	out := []policies.CheckResult{checkFolder(cfg.StateDir)}
	if out[0].Severity != policies.HealthOK {
		return out
	}
	if journal.HealerRunning(cfg.StateDir) {
		out = append(out, policies.CheckResult{Severity: policies.HealthOK, Check: policies.CheckState, Seen: "a healer is running on it: another run needs another state_dir"})
	}
	return append(out, checkJournal(ctx, cfg.StateDir))
}

// checkFolder: one that is not there yet is made by run, in the nearest folder that there is.
func checkFolder(dir string) policies.CheckResult {
	r := policies.CheckResult{Severity: policies.HealthOK, Check: policies.CheckState, Seen: dir + " is writable"}
	at := dir
	info, err := statThrough(at)
	for errors.Is(err, fs.ErrNotExist) && filepath.Dir(at) != at {
		at = filepath.Dir(at)
		info, err = statThrough(at)
		r.Seen = dir + " will be made"
	}
	const cure = "make it writable for this user, or name another state_dir"
	switch {
	case err != nil:
		r.Severity, r.Seen, r.Cure = policies.HealthError, fmt.Sprintf("%s: %s", at, plainCause(err)), cure
	case !info.IsDir():
		r.Severity, r.Seen, r.Cure = policies.HealthError, at+" is no folder", cure
	case unix.Access(at, unix.W_OK|unix.X_OK) != nil:
		r.Severity, r.Seen, r.Cure = policies.HealthError, at+" is not writable", cure
	}
	return r
}

func checkJournal(ctx context.Context, dir string) policies.CheckResult {
	r := policies.CheckResult{Severity: policies.HealthOK, Check: policies.CheckJournal}
	fail := func(err error) policies.CheckResult {
		r.Severity, r.Seen, r.Cure = policies.HealthError, err.Error(), "dcshealer actions verify says where; keep a copy of healer.db"
		return r
	}
	j, err := journal.OpenReadOnly(ctx, dir)
	switch {
	case errors.Is(err, journal.ErrNoJournal):
		r.Seen = "there is none yet"
		return r
	case err != nil:
		return fail(err)
	}
	defer j.Close()
	v, err := j.Verify(ctx)
	switch {
	case err != nil:
		return fail(err)
	case !v.OK:
		return fail(fmt.Errorf("it is not what was written: entry %d: %s", v.FirstBad.Seq, v.FirstBad.Why))
	}
	r.Seen = fmt.Sprintf("it is whole: %d entries", v.Entries)
	return r
}

// liveNow is what may run for real on each instance, by the config and by live enable. A journal that cannot be read is told elsewhere.
func liveNow(ctx context.Context, cfg policies.Config) map[string][]policies.Action {
	now := time.Now()
	var grants []policies.LiveGrant
	if j, err := journal.OpenReadOnly(ctx, cfg.StateDir); err == nil {
		grants, _ = grantsOf(ctx, j, now)
	}
	live := map[string][]policies.Action{}
	for _, in := range cfg.Instances {
		for _, action := range policies.Actions {
			if mode, _ := policies.ModeOf(in, action, grants, false, now); mode == policies.Live {
				live[in.Name] = append(live[in.Name], action)
			}
		}
	}
	return live
}
