package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dcshealer/agent/observer/metrics"
)

func TestStatusAddsUpWhatTheProcessesCount(t *testing.T) {
	d := newStateDir(t)
	now := time.Now()
	dir := d.state
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	note := func(roles []string, at time.Time, b metrics.Bus) {
		t.Helper()
		if err := writeCounts(countsFile(dir, roles), countsNote{At: at, Counts: countsOf(b)}); err != nil {
			t.Fatal(err)
		}
	}
	if s := decode[fleetStatus](t, d.ok(t, "status", "-o", "json")); s.BusCounts != nil {
		t.Errorf("counts %+v, and nothing runs", s.BusCounts)
	}
	note([]string{"healer", "agent"}, now, metrics.Bus{Queued: 1, Owed: 2, Dropped: 3, NotAdded: 4, Deaf: map[string]int64{"healer": 2, "dba": 0}, Ignored: map[string]int64{"unsigned": 7}})
	note([]string{"archiver"}, now, metrics.Bus{Deaf: map[string]int64{"archiver": 1}, Unread: map[string]int64{"archiver": 5}, Missing: map[string]int64{"host\x1b[2J": 6}})
	note([]string{"dba"}, now.Add(-time.Hour), metrics.Bus{Queued: 1000}) // what a crash has left
	if err := os.WriteFile(filepath.Join(dir, countsPrefix+"broken.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := decode[fleetStatus](t, d.ok(t, "status", "-o", "json")).BusCounts
	want := `{"queued":1,"owed":2,"dropped":3,"refused":0,"not_added":4,"unread":{"archiver":5},"deaf":{"archiver":1,"healer":2},"missing":{"host\u001b[2J":6},"ignored":{"unsigned":7}}`
	if data, err := json.Marshal(got); err != nil || string(data) != want {
		t.Errorf("counts %s (%v), want\n%s", data, err, want)
	}
	wantWords(t, "status", d.ok(t, "status"), "alarms since the start: 1 wait for the bus; 2 wait for the stream; 3 dropped, the queue was full; 4 never in the stream; ",
		"6 of host missing in the archive; 5 lost before the archiver read them; 7 messages ignored by the healer: unsigned; the archiver was deaf 1 time; the healer was deaf 2 times\n")
}

func TestFewSourcesAreNamed(t *testing.T) {
	got := most(map[string]int64{"a": 1, "b": 5, "c": 2, "d": 3}, 2)
	if want := map[string]int64{"b": 5, "d": 3, "others": 3}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
