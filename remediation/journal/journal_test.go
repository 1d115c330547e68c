package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

var (
	t0   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	oper = policies.Operator{Host: "ops-1", PID: 42, Version: "test"}
)

func open(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := Open(t.Context(), dir, oper)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func decision(instance string, at time.Time) policies.Record {
	return policies.Record{Instance: instance, Node: "n1", Action: policies.ReattachReplica, Mode: policies.Live, Trigger: policies.TriggerAlarm,
		At: at, Outcome: policies.OutcomeDenied, Cause: policies.CausePromoted,
		Guards:   []policies.Ruling{{Guard: policies.GuardPause, Verdict: "deny", Reason: "paused by ann"}},
		DeniedBy: []policies.Guard{policies.GuardPause}, Before: map[string]any{"offset": 12.0}}
}

// start locks the instance and begins a running live record.
func start(t *testing.T, j *Journal, instance string, at time.Time) (id string, unlock func()) {
	t.Helper()
	unlock, err := j.Lock(t.Context(), instance)
	if err != nil {
		t.Fatal(err)
	}
	r := decision(instance, at)
	r.Outcome, r.DeniedBy, r.Guards = "", nil, nil
	if id, err = j.Begin(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return id, unlock
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("got no error")
	}
	if want != nil && !errors.Is(err, want) {
		t.Errorf("got error %v, want one that is %v", err, want)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func TestNewJournalIsPrivateAndDurable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state 100%?#") // SQLite reads its name as a URI
	j := open(t, dir)
	id, err := j.Begin(t.Context(), decision("dcs-1", t0))
	must(t, err)
	for name, want := range map[string]os.FileMode{"": 0o700, "healer.db": 0o600, "healer.db-wal": 0o600, "healer.db-shm": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: mode %v, error %v, want mode %v", name, info.Mode().Perm(), err, want)
		}
	}
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "busy_timeout": "5000", "user_version": strconv.Itoa(len(migrations))} {
		var got string
		must(t, j.write.QueryRow("PRAGMA "+pragma).Scan(&got))
		if got != want {
			t.Errorf("%s is %s, want %s", pragma, got, want)
		}
	}
	must(t, j.Close())
	if r, _, err := open(t, dir).Show(t.Context(), id); err != nil || r.ID != id {
		t.Errorf("after reopening: record %q, error %v, want %q", r.ID, err, id)
	}
}

func TestOpeningTightensALooseFile(t *testing.T) {
	dir := t.TempDir()
	must(t, open(t, dir).Close())
	must(t, os.Chmod(filepath.Join(dir, fileName), 0o644))
	open(t, dir)
	if info, err := os.Stat(filepath.Join(dir, fileName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v, want 0600", info.Mode().Perm(), err)
	}
}

func TestOpenErrorsNameTheCure(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "file")
	must(t, os.WriteFile(file, []byte("x"), 0o600))
	_, err := Open(t.Context(), filepath.Join(file, "state"), oper)
	wantErr(t, err, nil, "state_dir", "writable", file)

	garbage := filepath.Join(root, "garbage")
	must(t, os.MkdirAll(garbage, 0o700))
	must(t, os.WriteFile(filepath.Join(garbage, fileName), []byte(strings.Repeat("no database ", 500)), 0o600))
	_, err = Open(t.Context(), garbage, oper)
	wantErr(t, err, ErrDamaged, "move it away", "-wal", "backup", garbage)
	_, err = OpenReadOnly(t.Context(), garbage)
	wantErr(t, err, ErrDamaged, "actions verify", "move it away")

	newer := open(t, filepath.Join(root, "newer"))
	_, err = newer.write.Exec("PRAGMA user_version = 99")
	must(t, err)
	_, err = Open(t.Context(), newer.dir, oper)
	wantErr(t, err, nil, "format 99", "newer dcshealer")
}

func TestReadOnlyNeverCreates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	_, err := OpenReadOnly(t.Context(), dir)
	wantErr(t, err, ErrNoJournal)
	if _, err := os.Stat(dir); err == nil {
		t.Error("it created the state_dir")
	}
	must(t, os.MkdirAll(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, fileName), nil, 0o600)) // created by another process, not filled yet
	_, err = OpenReadOnly(t.Context(), dir)
	wantErr(t, err, ErrNoJournal)

	w := open(t, dir)
	_, err = w.Begin(t.Context(), decision("dcs-1", t0))
	must(t, err)
	for _, beside := range []bool{true, false} { // a writing process, and without one
		if !beside {
			must(t, w.Close())
		}
		r, err := OpenReadOnly(t.Context(), dir)
		must(t, err)
		if got, err := r.List(t.Context(), Filter{}); err != nil || len(got) != 1 {
			t.Errorf("writer there %t: %d records, error %v, want 1", beside, len(got), err)
		}
		_, err = r.Begin(t.Context(), decision("dcs-1", t0))
		wantErr(t, err, ErrReadOnly)
		wantErr(t, r.SaveStatus(t.Context(), policies.MachineStatus{Instance: "dcs-1"}), ErrReadOnly)
		unlock, err := r.Lock(t.Context(), "dcs-1")
		must(t, err)
		unlock()
		must(t, r.Close())
	}
}

func TestFullDiskAndReadOnlyFileAreSaid(t *testing.T) {
	j := open(t, t.TempDir())
	_, err := j.write.Exec("PRAGMA max_page_count = 1") // becomes the present size: the next page meets SQLITE_FULL, as on a full disk
	must(t, err)
	big := decision("dcs-1", t0)
	big.Error = strings.Repeat("x", 1<<20)
	_, err = j.Begin(t.Context(), big)
	wantErr(t, err, nil, "journal the intent", "disk", "is full", j.path())
	if got, err := j.List(t.Context(), Filter{}); err != nil || len(got) != 0 {
		t.Errorf("after the failed write: %d records, error %v, want none", len(got), err)
	}
	_, err = j.write.Exec("PRAGMA query_only = 1")
	must(t, err)
	_, err = j.Begin(t.Context(), decision("dcs-1", t0))
	wantErr(t, err, nil, "cannot be opened or written", "rights", j.path())
}

func TestEndedContextStopsAnIntentButNoResult(t *testing.T) {
	j := open(t, t.TempDir())
	id, unlock := start(t, j, "dcs-1", t0)
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := j.Begin(ctx, decision("dcs-2", t0))
	wantErr(t, err, context.Canceled)
	must(t, j.Command(ctx, id, policies.CommandRecord{Args: []string{"REPLICAOF", "10.0.0.1", "6379"}, Reply: "OK"}))
	must(t, j.Finish(ctx, id, Result{Outcome: policies.OutcomeSucceeded}))
	if r, _, err := j.Show(t.Context(), id); err != nil || r.Outcome != policies.OutcomeSucceeded || len(r.Commands) != 1 {
		t.Errorf("got %s with %d commands, error %v", r.Outcome, len(r.Commands), err)
	}
}
