package main

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// touch makes files, and folders where the name ends in /, with the rights given whatever the umask.
func touch(t *testing.T, mode fs.FileMode, names ...string) {
	t.Helper()
	for _, name := range names {
		var err error
		if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(name, mode)
		} else {
			err = os.WriteFile(name, nil, mode)
		}
		if err == nil {
			err = os.Chmod(name, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestStateDirIsClosedToOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "st[a]te")
	touch(t, 0o755, dir+"/", filepath.Join(dir, "locks")+"/")
	ours := []string{"healer.db", "healer.db-wal", "healer.head", "alarms.db", "alarms.db-shm", "run.json", "counts-healer.json", "healer.lock", "locks/one.lock", "locks/.open.lock"}
	for _, name := range ours {
		touch(t, 0o644, filepath.Join(dir, name))
	}
	touch(t, 0o644, filepath.Join(dir, "fleet.yaml"))
	var log strings.Builder
	if err := secureStateDir(dir, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{".": 0o700, "locks": 0o700, "fleet.yaml": 0o644} {
		wantMode(t, filepath.Join(dir, name), want)
	}
	for _, name := range ours {
		wantMode(t, filepath.Join(dir, name), 0o600)
	}
	if n := strings.Count(log.String(), "not any longer"); n != len(ours)+2 {
		t.Errorf("%d warnings, want one for each thing that was open:\n%s", n, log.String())
	}
	log.Reset()
	if err := secureStateDir(dir, slog.New(slog.NewTextHandler(&log, nil))); err != nil || log.Len() > 0 {
		t.Errorf("a second time: %v\n%s", err, log.String())
	}
}

func wantMode(t *testing.T, name string, want fs.FileMode) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != want {
		t.Errorf("%s: %v (%v), want %v", name, info.Mode(), err, want)
	}
}

func TestASharedFolderIsNoStateDir(t *testing.T) {
	dir := t.TempDir()
	touch(t, 0o777|fs.ModeSticky, dir+"/")
	err := secureStateDir(dir, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "a folder of its own") {
		t.Errorf("error %v, want a refusal that says what to do", err)
	}
	wantMode(t, dir, 0o777)
}

// What a run leaves behind is for its user alone.
func TestARunLeavesNothingOpenToOthers(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.addPair("one", "", newPair(t))
	touch(t, 0o777, f.state+"/")
	p := running(t, "-c", f.write())
	until(t, "both databases are there", func() bool {
		_, errA := os.Stat(filepath.Join(f.state, "alarms.db"))
		_, errH := os.Stat(filepath.Join(f.state, "healer.db-wal"))
		return errA == nil && errH == nil
	})
	seen := 0
	err := filepath.WalkDir(f.state, func(name string, d fs.DirEntry, err error) error {
		info, infoErr := os.Stat(name)
		if err == nil && infoErr == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v", name, info.Mode())
		}
		seen++
		return err
	})
	if err != nil || seen < 6 {
		t.Errorf("%d files, %v", seen, err)
	}
	p.stopsWell(sigterm)
}
