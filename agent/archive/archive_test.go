package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"dcshealer/policies"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func openNew(t *testing.T) (*Archive, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "st ate#1%20?", FileName)
	a, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a, path
}

func entry(at time.Time, severity policies.Severity, payload string) Entry {
	e := Entry{Received: at, Channel: policies.Channel("redis:monitor", severity), Payload: []byte(payload)}
	a, err := policies.DecodeAlarm(e.Payload)
	if bad := new(policies.MalformedAlarm); errors.As(err, &bad) {
		e.Malformed = bad.Kind
		return e
	}
	a.Severity = severity
	e.Alarm = a
	return e
}

func add(t *testing.T, a *Archive, entries ...Entry) []bool {
	t.Helper()
	added, err := a.Append(t.Context(), entries)
	if err != nil {
		t.Fatal(err)
	}
	return added
}

func TestAlarmsAreKeptOnceByIDAndAsTheyCame(t *testing.T) {
	a, path := openNew(t)
	raw := `{"instance":"dcs-prod-01","id":"A","metric":"m","extra":{"kept":[1]} }`
	got := add(t, a, entry(noon, policies.Critical, raw), entry(noon, policies.Critical, `{"instance":"x","id":"A"}`),
		entry(noon, policies.Notice, `{"instance":"x"}`), entry(noon, policies.Notice, `{"instance":"x"}`), entry(noon, policies.Notice, "\xff not json"), entry(noon, policies.Notice, ""))
	if want := []bool{true, false, true, true, true, true}; !reflect.DeepEqual(got, want) {
		t.Errorf("added %v, want %v", got, want)
	}
	if got := add(t, a, entry(noon, policies.Critical, raw)); got[0] {
		t.Error("the same id was added again later")
	}
	list, err := a.List(t.Context(), Filter{Severity: policies.Critical})
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v, want one", list, err)
	}
	if s := list[0]; string(s.Payload) != raw || s.Cut() || s.Alarm.ID != "A" || s.Alarm.Severity != policies.Critical || !s.Received.Equal(noon) || s.Channel != "redis:monitor:critical" {
		t.Errorf("stored %+v", s)
	}
	c, err := a.Count(t.Context())
	if err != nil || c.Alarms != 3 || c.Malformed[policies.MalformedNotJSON] != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if info, err := os.Stat(path + suffix); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s%s: %v, %v, want mode 0600", FileName, suffix, info.Mode(), err)
		}
	}
}

func TestABigPayloadIsCutAndItsLengthKept(t *testing.T) {
	a, _ := openNew(t)
	add(t, a, entry(noon, policies.Warning, `{"instance":"i","metric":"m","id":"B","msg":"`+strings.Repeat("x", 100_000)+`"}`))
	list, err := a.List(t.Context(), Filter{})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	s := list[0]
	if !s.Cut() || len(s.Payload) != MaxStored || s.Size < 100_000 || s.Alarm.Instance != "i" || s.Alarm.ID != "B" || !strings.Contains(s.Alarm.Msg, fmt.Sprint(s.Size)) {
		t.Errorf("cut %v, %d of %d bytes, %+v", s.Cut(), len(s.Payload), s.Size, s.Alarm)
	}
}

func TestListFilters(t *testing.T) {
	a, _ := openNew(t)
	for i := range 10 {
		severity := policies.Severities[i%3]
		add(t, a, entry(noon.Add(time.Duration(i)*time.Minute), severity, fmt.Sprintf(`{"instance":"i%d","metric":"m%d","seq":%d}`, i%2, i%5, i)))
	}
	for name, c := range map[string]struct {
		f    Filter
		want []int64
	}{
		"all":      {Filter{}, []int64{9, 8, 7, 6, 5, 4, 3, 2, 1, 0}},
		"limit":    {Filter{Limit: 2}, []int64{9, 8}},
		"severity": {Filter{Severity: policies.Critical}, []int64{8, 5, 2}},
		"instance": {Filter{Instance: "i1", Limit: 3}, []int64{9, 7, 5}},
		"metric":   {Filter{Metric: "m4"}, []int64{9, 4}},
		"since":    {Filter{Since: noon.Add(8 * time.Minute)}, []int64{9, 8}},
		"together": {Filter{Severity: policies.Notice, Instance: "i1", Since: noon.Add(4 * time.Minute)}, []int64{9}},
		"none":     {Filter{Instance: "' OR 1=1 --"}, nil},
	} {
		list, err := a.List(t.Context(), c.f)
		var got []int64
		for _, s := range list {
			got = append(got, s.Alarm.Seq)
		}
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
}

func TestTrendCountsWhatFiresByBucket(t *testing.T) {
	a, _ := openNew(t)
	add(t, a,
		entry(noon.Add(-time.Millisecond), policies.Critical, `{"instance":"early"}`),
		entry(noon, policies.Critical, `{"instance":"a","metric":"m"}`),
		entry(noon.Add(59*time.Second), policies.Critical, `{"instance":"b","metric":"m"}`),
		entry(noon.Add(59*time.Second), policies.Notice, `{"instance":"b","metric":"n"}`),
		entry(noon.Add(60*time.Second), policies.Critical, `{"instance":"a","metric":"m"}`),
		entry(noon.Add(61*time.Second), policies.Critical, `{"instance":"a","status":"resolved"}`),
		entry(noon.Add(61*time.Second), policies.Critical, `{"instance":"a","msg":"Resolved: gone"}`),
		entry(noon.Add(62*time.Second), policies.Critical, `junk`),
		entry(noon.Add(3*time.Minute), policies.Critical, `{"instance":"late"}`))
	next := noon.Add(time.Minute)
	for by, want := range map[TrendBy][]Point{
		BySeverity: {{noon, "notice", 1}, {noon, "critical", 2}, {next, "critical", 1}},
		ByInstance: {{noon, "a", 1}, {noon, "b", 2}, {next, "a", 1}},
		ByMetric:   {{noon, "m", 2}, {noon, "n", 1}, {next, "m", 1}},
	} {
		got, err := a.Trend(t.Context(), TrendQuery{By: by, Bucket: time.Minute, Since: noon, Until: noon.Add(3 * time.Minute)})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("by %s: %v, %v, want %v", by, got, err, want)
		}
	}
	for name, q := range map[string]TrendQuery{
		"by":     {By: "1; DROP TABLE alarms", Bucket: time.Minute, Since: noon, Until: next},
		"bucket": {By: ByMetric, Bucket: time.Millisecond, Since: noon, Until: next},
		"order":  {By: ByMetric, Bucket: time.Minute, Since: next, Until: noon},
		"many":   {By: ByMetric, Bucket: time.Second, Since: noon, Until: noon.AddDate(1, 0, 0)},
	} {
		if _, err := a.Trend(t.Context(), q); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestReadersAndWritersWorkBesideEachOther(t *testing.T) {
	_, path := openNew(t)
	var wg sync.WaitGroup
	const writers, each = 3, 40
	for w := range writers { // each as a process of its own would
		wg.Go(func() {
			a, err := Open(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			defer a.Close()
			for i := range each {
				own, shared := fmt.Sprintf(`{"instance":"i","id":"w%d-%d"}`, w, i), fmt.Sprintf(`{"instance":"i","id":"%d"}`, i)
				if _, err := a.Append(t.Context(), []Entry{entry(noon, policies.Notice, own), entry(noon, policies.Notice, shared)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		a, err := OpenReadOnly(t.Context(), path)
		if err != nil {
			t.Error(err)
			return
		}
		defer a.Close()
		for last := int64(0); last < (writers+1)*each; {
			c, err := a.Count(t.Context())
			if err != nil || c.Alarms < last {
				t.Errorf("read %d after %d: %v", c.Alarms, last, err)
				return
			}
			last = c.Alarms
		}
		if _, err := a.Append(t.Context(), []Entry{entry(noon, policies.Notice, `{"instance":"i"}`)}); err == nil {
			t.Error("a read-only archive was written to")
		}
	})
	wg.Wait()
}

func TestFilesThatAreNoArchive(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenReadOnly(t.Context(), filepath.Join(dir, "none.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	empty := filepath.Join(dir, "empty.db")
	write(t, empty, "")
	if _, err := OpenReadOnly(t.Context(), empty); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty file: %v", err)
	}
	junk := filepath.Join(dir, "junk.db")
	write(t, junk, strings.Repeat("this is no database ", 100))
	for name, open := range map[string]func() (*Archive, error){
		"Open":         func() (*Archive, error) { return Open(t.Context(), junk) },
		"OpenReadOnly": func() (*Archive, error) { return OpenReadOnly(t.Context(), junk) },
	} {
		if _, err := open(); err == nil || !strings.Contains(err.Error(), "mv "+junk) {
			t.Errorf("%s of junk: %v, want the cure", name, err)
		}
	}
	if _, err := Open(t.Context(), filepath.Join(junk, "x", FileName)); err == nil || !strings.Contains(err.Error(), "state_dir") {
		t.Errorf("a file as a folder: %v, want the cure", err)
	}
	a, path := openNew(t)
	if _, err := a.db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("a newer schema: %v", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReopenedArchiveKeepsItsAlarms(t *testing.T) {
	a, path := openNew(t)
	add(t, a, entry(noon, policies.Notice, `{"instance":"i","id":"1"}`))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if got := add(t, b, entry(noon, policies.Notice, `{"instance":"i","id":"1"}`)); got[0] {
		t.Error("the id is new again")
	}
}
