package journal

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dcshealer/policies"
)

// smallDisk is a folder on a file system of 1 MiB; false where this user may mount none.
func smallDisk(t *testing.T) (dir string, own bool) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Logf("no file system of its own (%v): the database's own bound stands for the disk's", err)
		return dir, false
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir, true
}

func TestAFullDiskIsNamedAndLosesNothing(t *testing.T) {
	dir, own := smallDisk(t)
	j, ctx := open(t, dir), t.Context()
	must(t, j.Pulse(ctx, t0, 1000))
	junk := filepath.Join(dir, "junk")
	var release func()
	if own {
		for f, part := mustCreate(t, junk), bytes.Repeat([]byte("x"), 4096); ; {
			if _, err := f.Write(part); err != nil {
				must(t, f.Close())
				break
			}
		}
		release = func() { must(t, os.Remove(junk)) }
	} else {
		_, err := j.write.ExecContext(ctx, "PRAGMA max_page_count = 1")
		must(t, err)
		release = func() { _, err := j.write.ExecContext(ctx, "PRAGMA max_page_count = 100000"); must(t, err) }
	}
	wantErr(t, j.Pulse(ctx, t0.Add(time.Minute), 64<<10), nil, "try whether the journal can be written", dir)
	big := decision("dcs-1", t0)
	big.Before = map[string]any{"x": strings.Repeat("x", 200<<10)}
	_, err := j.Begin(ctx, big)
	wantErr(t, err, nil, "journal the intent", dir)
	if at, ever, err := j.Pulsed(ctx); err != nil || !ever || !at.Equal(t0) {
		t.Errorf("pulsed %v %v, %v: want the last that was proven", at, ever, err)
	}
	release()
	must(t, j.Pulse(ctx, t0.Add(2*time.Minute), 64<<10))
	_, err = j.Begin(ctx, decision("dcs-1", t0))
	must(t, err)
	must(t, j.Check(ctx))
	if v := whole(t, j); v.Entries != 1 {
		t.Errorf("verify %+v, want the one entry that could be written", v)
	}
}

func mustCreate(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	return f
}

// A state_dir that cannot be written is refused when it is opened; it can still be read.
func TestAReadOnlyStateDirIsRefused(t *testing.T) {
	dir, own := smallDisk(t)
	j := open(t, dir)
	_, err := j.Begin(t.Context(), decision("dcs-1", t0))
	must(t, err)
	must(t, j.Close())
	if own {
		must(t, unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	} else {
		must(t, os.Chmod(dir, 0o500))
		must(t, os.Chmod(filepath.Join(dir, "locks"), 0o500))
		must(t, os.Chmod(filepath.Join(dir, "locks", ".open.lock"), 0o400))
		defer os.Chmod(dir, 0o700) //nolint:errcheck // for the clean-up
	}
	_, err = Open(t.Context(), dir, oper)
	wantErr(t, err, nil, dir, "writable", "state_dir")
}

// decided is a closed journal of n decisions, with its end noted beside it.
func decided(t *testing.T, n int) (dir string) {
	t.Helper()
	j := aged(t, n)
	must(t, j.Pulse(t.Context(), t0, 10))
	must(t, j.Close())
	return j.dir
}

func TestADamagedFileIsNeverReplaced(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for name, damage := range map[string]func(b []byte) []byte{
		"random bytes in the middle": func(b []byte) []byte {
			for i := len(b) / 4; i < len(b)*3/4; i++ {
				b[i] = byte(random.Uint32())
			}
			return b
		},
		"cut in half":     func(b []byte) []byte { return b[:len(b)/2] },
		"cut in a page":   func(b []byte) []byte { return b[:len(b)/2-100] },
		"only its header": func(b []byte) []byte { return b[:100] },
		"nothing left":    func([]byte) []byte { return nil },
		"random bytes all over": func(b []byte) []byte {
			for i := range b {
				b[i] = byte(random.Uint32())
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, ctx := decided(t, 60), t.Context()
			path := filepath.Join(dir, fileName)
			b, err := os.ReadFile(path)
			must(t, err)
			damaged := damage(b)
			must(t, os.WriteFile(path, damaged, 0o600))
			j, err := Open(ctx, dir, oper)
			if err == nil { // what is left can be opened: the check before a healer acts finds it
				defer j.Close()
				err = j.Check(ctx)
			}
			wantErr(t, err, ErrDamaged, path)
			if text := err.Error(); !strings.Contains(text, "restore") && !strings.Contains(text, "actions verify") {
				t.Errorf("%v: want what to do", err)
			}
			if after, err := os.ReadFile(path); err != nil || len(damaged) > 0 && len(after) < len(damaged) {
				t.Errorf("the file has %d bytes now and had %d: %v", len(after), len(damaged), err)
			}
		})
	}
}

// Verify tells of a file that can only be read in part how far it is whole.
func TestVerifyNamesWhereAFileBeginsToBeUnreadable(t *testing.T) {
	t.Parallel()
	dir, ctx := decided(t, 200), t.Context()
	path := filepath.Join(dir, fileName)
	b, err := os.ReadFile(path)
	must(t, err)
	at := bytes.LastIndex(b, []byte(`"dcs-1"`)) &^ 4095 // a page of late entries
	copy(b[at:], bytes.Repeat([]byte{0xff}, 4096))
	must(t, os.WriteFile(path, b, 0o600))
	j, err := OpenReadOnly(ctx, dir)
	must(t, err)
	defer j.Close()
	v, err := j.Verify(ctx)
	if err != nil || v.OK || v.FirstBad == nil || v.FirstBad.Seq < 2 || v.FirstBad.Why == "" {
		t.Fatalf("verify %+v (%+v), %v, want the first entry that cannot be read", v, v.FirstBad, err)
	}
	t.Logf("entry %d: %s", v.FirstBad.Seq, v.FirstBad.Why)
}

func TestADirectoryInPlaceOfTheJournalIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, fileName), 0o700))
	_, err := Open(t.Context(), dir, oper)
	wantErr(t, err, nil, "directory", "move it away", filepath.Join(dir, fileName))
}

func TestAnOlderCopyOrALostWALShows(t *testing.T) {
	t.Parallel()
	dir, ctx := decided(t, 3), t.Context()
	path := filepath.Join(dir, fileName)
	copyOf, err := os.ReadFile(path)
	must(t, err)
	j := open(t, dir)
	must(t, j.Check(ctx))
	_, err = j.Begin(ctx, decision("dcs-1", day(9)))
	must(t, err)
	must(t, j.Pulse(ctx, day(9), 10))
	must(t, j.Close())
	must(t, os.WriteFile(path, copyOf, 0o600))
	j = open(t, dir)
	wantErr(t, j.Check(ctx), ErrDamaged, "ends at entry 3 and had 4", headFile)
	must(t, os.Remove(filepath.Join(dir, headFile))) // a person means this one
	must(t, j.Check(ctx))

	other := tampered(t) // another journal in its place
	must(t, other.Pulse(ctx, t0, 10))
	must(t, other.Close())
	b, err := os.ReadFile(other.path())
	must(t, err)
	must(t, j.Pulse(ctx, t0, 10))
	must(t, j.Close())
	must(t, os.WriteFile(path, b, 0o600))
	wantErr(t, open(t, dir).Check(ctx), ErrDamaged, "another journal")
}

func TestEntriesKeepTheirOrderWhenTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	j, ctx := open(t, t.TempDir()), t.Context()
	unlock, err := j.Lock(ctx, "dcs-1")
	must(t, err)
	defer unlock()
	var ids []string
	for _, at := range []time.Duration{0, 365 * 24 * time.Hour, time.Minute} { // ahead by a year, for one action
		r := decision("dcs-1", t0.Add(at))
		r.Outcome, r.Node, r.Action, r.Mode = "", "n1", policies.ReattachReplica, policies.Live
		id, err := j.Begin(ctx, r)
		must(t, err)
		must(t, j.Command(ctx, id, policies.CommandRecord{Args: []string{"REPLICAOF"}, At: t0.Add(at)}))
		must(t, j.Finish(ctx, id, Result{Outcome: policies.OutcomeSucceeded, Finished: t0.Add(at)}))
		ids = append(ids, id)
	}
	all, err := j.List(ctx, Filter{})
	if err != nil || len(all) != 3 || all[0].ID != ids[2] || all[1].ID != ids[1] || all[2].ID != ids[0] {
		t.Errorf("list %+v, %v, want the order in which they were written", all, err)
	}
	if r, ok, err := j.LastFinished(ctx, "dcs-1", policies.ReattachReplica, "n1"); err != nil || !ok || r.ID != ids[2] {
		t.Errorf("last finished %s, %v, want the one that was written last", r.ID, err)
	}
	now := t0.Add(2 * time.Minute)
	if n, err := j.SucceededSince(ctx, "dcs-1", policies.ReattachReplica, "n1", now.Add(-time.Hour), now.Add(time.Hour)); err != nil || n != 2 {
		t.Errorf("%d succeeded, %v, want 2: the one of next year is not of the last hour", n, err)
	}
	whole(t, j)
}
