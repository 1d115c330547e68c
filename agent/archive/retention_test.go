package archive

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

// fill keeps n alarms, a minute apart, the last at end.
func fill(t *testing.T, a *Archive, n int, end time.Time) {
	t.Helper()
	var entries []Entry
	for i := range n {
		alarm := policies.Alarm{Instance: "i", Metric: policies.MetricUsedMemory, ID: fmt.Sprint("id-", i), Msg: strings.Repeat("m", 500)}
		payload, err := policies.EncodeAlarm(alarm)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, Entry{Received: end.Add(-time.Duration(n-1-i) * time.Minute), Channel: "c", Payload: payload, Alarm: alarm})
	}
	if _, err := a.Append(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
}

func openTest(t *testing.T) (*Archive, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), FileName)
	a, err := Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a, file
}

func TestAlarmsAreDroppedByAge(t *testing.T) {
	a, _ := openTest(t)
	now := time.Now()
	fill(t, a, 5000, now)
	dropped, err := a.Prune(t.Context(), Limits{Keep: 60*time.Minute + time.Second}, now)
	if err != nil || dropped != 4939 {
		t.Errorf("dropped %d, %v; want 4939", dropped, err)
	}
	list, err := a.List(t.Context(), Filter{})
	if err != nil || len(list) != 61 || list[0].Alarm.ID != "id-4999" || list[60].Alarm.ID != "id-4939" {
		t.Errorf("%d are left, %v; want the newest 61", len(list), err)
	}
	if dropped, err := a.Prune(t.Context(), Limits{}, now.Add(time.Hour)); err != nil || dropped != 0 {
		t.Errorf("without limits: dropped %d, %v", dropped, err)
	}
}

func TestAlarmsAreDroppedBySizeAndTheDiskHasTheRoomBack(t *testing.T) {
	a, file := openTest(t)
	now := time.Now()
	fill(t, a, 8000, now)
	if _, err := a.db.ExecContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	const limit = 2 << 20
	if _, err := a.Prune(t.Context(), Limits{MaxBytes: limit}, now); err != nil {
		t.Fatal(err)
	}
	if _, err := a.db.ExecContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(file)
	list, err2 := a.List(t.Context(), Filter{})
	if err != nil || err2 != nil || before.Size() < 3*limit/2 || after.Size() > limit || len(list) < 500 || list[0].Alarm.ID != "id-7999" {
		t.Errorf("%d bytes became %d, %d alarms are left (%v, %v)", before.Size(), after.Size(), len(list), err, err2)
	}
}

func TestAnArchiveHasOneNameForGood(t *testing.T) {
	a, file := openTest(t)
	id, err := a.ID(t.Context())
	again, err2 := Open(t.Context(), file)
	if err != nil || err2 != nil || len(id) != 16 {
		t.Fatalf("%q, %v, %v", id, err, err2)
	}
	defer again.Close()
	if other, err := again.ID(t.Context()); err != nil || other != id {
		t.Errorf("%q then %q, %v", id, other, err)
	}
	b, _ := openTest(t)
	if other, err := b.ID(t.Context()); err != nil || other == id {
		t.Errorf("two archives are both %q, %v", id, err)
	}
}

func TestAnArchiveOfTheFirstSchemaIsBroughtOn(t *testing.T) {
	a, file := openTest(t)
	fill(t, a, 3, time.Now())
	if _, err := a.db.ExecContext(t.Context(), "DROP TABLE meta; PRAGMA user_version = 1"); err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
	old, err := OpenReadOnly(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := old.List(t.Context(), Filter{}); err != nil || len(list) != 3 {
		t.Errorf("%d alarms, %v", len(list), err)
	}
	_ = old.Close()
	b, err := Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if id, err := b.ID(t.Context()); err != nil || id == "" {
		t.Errorf("%q, %v", id, err)
	}
	if list, err := b.List(t.Context(), Filter{}); err != nil || len(list) != 3 {
		t.Errorf("%d alarms, %v", len(list), err)
	}
}

func TestOfManyEntriesThoseThatAreKnownAreLeftOut(t *testing.T) {
	a, _ := openTest(t)
	now := time.Now()
	entry := func(i int) Entry {
		alarm := policies.Alarm{Instance: "i", ID: fmt.Sprint("id-", i)}
		if i < 0 {
			alarm.ID = "" // always new
		}
		return Entry{Received: now, Channel: "c", Payload: []byte(`{"instance":"i"}`), Alarm: alarm}
	}
	var first, second []Entry
	for i := range 130 {
		first = append(first, entry(i))
	}
	first = append(first, entry(7)) // twice in one batch
	for i := 120; i < 340; i++ {
		second = append(second, entry(i))
	}
	var third []Entry // a statement of known ones, then one with a few new ones, each of them twice
	for i := range 50 {
		third = append(third, entry(i))
	}
	for i := range 20 {
		third = append(third, entry(i), entry(-1))
	}
	for i := range 5 {
		third = append(third, entry(340+i), entry(340+i))
	}
	for _, c := range []struct {
		entries []Entry
		isNew   func(i int) bool
	}{{first, func(i int) bool { return i < 130 }}, {second, func(i int) bool { return i >= 10 }}, {third, func(i int) bool { return i >= 50 && i < 90 && i%2 == 1 || i >= 90 && i%2 == 0 }}} {
		added, err := a.Append(t.Context(), c.entries)
		if err != nil || len(added) != len(c.entries) {
			t.Fatalf("%d answers for %d entries, %v", len(added), len(c.entries), err)
		}
		for i, got := range added {
			if got != c.isNew(i) {
				t.Errorf("entry %d of %d: new is %v", i, len(added), got)
			}
		}
	}
	if c, err := a.Count(t.Context()); err != nil || c.Alarms != 365 {
		t.Errorf("%d alarms, %v; want 365", c.Alarms, err)
	}
}
