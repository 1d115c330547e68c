package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dcshealer/agent/archive"
	"dcshealer/policies"
)

func TestOneStrangeAlarmSpoilsNeitherTheTableNorTheJSON(t *testing.T) {
	d := newStateDir(t)
	store, err := archive.Open(t.Context(), filepath.Join(d.state, archiveFile))
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("I", 250)
	payload := []byte(`{"instance":"` + long + `","metric":"m","value":"` + long + `","msg":"half \ud800 a pair"}`)
	alarm, err := policies.DecodeAlarm(payload)
	if err != nil {
		t.Fatal(err)
	}
	alarm.Severity = policies.Critical
	_, err = store.Append(t.Context(), []archive.Entry{{Received: time.Now(), Channel: "redis:monitor:critical", Payload: payload, Alarm: alarm}})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(d.ok(t, "alarms", "list"), "\n") {
		if len(line) > 200 {
			t.Errorf("a line of %d bytes: %s", len(line), line)
		}
	}
	for _, args := range [][]string{{"alarms", "list", "-o", "json"}, {"alarms", "export"}} {
		if out := d.ok(t, args...); strings.Contains(out, "ud800") || !strings.Contains(out, long) || !json.Valid([]byte(out)) {
			t.Errorf("%v: %s", args, out)
		}
	}
}

func TestAnExportOverAFileNamesOnlyThatFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "there.jsonl")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := writeNew(file, func(io.Writer) error { return nil })
	if err == nil || strings.Contains(err.Error(), ".export-") || !strings.Contains(err.Error(), "file exists; it replaces no file") {
		t.Errorf("%v", err)
	}
	if kept, _ := os.ReadFile(file); string(kept) != "kept" {
		t.Errorf("the file holds %q", kept)
	}
}
