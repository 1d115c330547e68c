package bus

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

func openTestSpool(t *testing.T, dir string, max int64, log *logBuffer) *spool {
	t.Helper()
	s, err := openSpool(dir, max, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func spoolItems(from, to int) (items []item) {
	for i := from; i <= to; i++ {
		items = append(items, item{uint64(i), testAlarm(i)})
	}
	return items
}

func spoolFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, spoolPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func numbers(items []item) (n []int64) {
	for _, it := range items {
		n = append(n, int64(it.n))
	}
	return n
}

func TestTheSpoolOutlivesAProcessKilledInTheMiddleOfALine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	var log logBuffer
	s := openTestSpool(t, dir, spoolBytes, &log)
	if _, err := s.append(spoolItems(1, 5)); err != nil {
		t.Fatal(err)
	}
	if err := s.reached(3, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := openSpool(dir, spoolBytes, log.logger()); err == nil {
		t.Error("a second process has it too")
	}
	_ = s.close()
	file := spoolFiles(t, dir)[0]
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("damaged\n6 critical {\"instance\":\"dcs-pr"); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	s = openTestSpool(t, dir, spoolBytes, &log)
	defer s.close()
	if s.published != 3 || s.added != 2 || s.newest() != 5 || log.count("lines of the spool are damaged") != 1 {
		t.Errorf("published %d, added %d, newest %d:\n%s", s.published, s.added, s.newest(), &log)
	}
	if _, err := s.append(spoolItems(6, 7)); err != nil {
		t.Fatal(err)
	}
	items, lost, err := s.read(2, 100)
	if err != nil || len(lost) != 0 || !slices.Equal(numbers(items), []int64{3, 4, 5, 6, 7}) {
		t.Errorf("%v, %v, %v; want 3 to 7", numbers(items), lost, err)
	}
	if want := testAlarm(7); items[len(items)-1].alarm != want {
		t.Errorf("got %+v, want %+v", items[len(items)-1].alarm, want)
	}
	for _, name := range append(spoolFiles(t, dir), filepath.Join(dir, spoolPlace)) {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", name, info.Mode(), err)
		}
	}
	if err := s.reached(7, 7); err != nil || len(spoolFiles(t, dir)) != 0 || s.size != 0 {
		t.Errorf("%v: %v are left", err, spoolFiles(t, dir))
	}
}

func TestAFullSpoolDropsTheOldest(t *testing.T) {
	dir := t.TempDir()
	s := openTestSpool(t, dir, 16_000, &logBuffer{})
	defer s.close()
	var dropped []uint64
	for i := 1; i <= 500; i++ {
		d, err := s.append(spoolItems(i, i))
		if err != nil {
			t.Fatal(err)
		}
		dropped = append(dropped, d...)
	}
	var bytes int64
	for _, name := range spoolFiles(t, dir) {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		bytes += info.Size()
	}
	items, _, err := s.read(0, 1000)
	if err != nil || bytes > 16_000 || bytes < 14_000 || len(items)+len(dropped) != 500 || items[0].n != uint64(len(dropped)+1) || items[len(items)-1].n != 500 {
		t.Errorf("%d bytes, %d kept from %d, %d dropped, %v", bytes, len(items), items[0].n, len(dropped), err)
	}
}

func TestAFileOfTheSpoolThatIsGoneHoldsUpNothing(t *testing.T) {
	dir := t.TempDir()
	var log logBuffer
	s := openTestSpool(t, dir, 16_000, &log)
	defer s.close()
	for i := 1; i <= 30; i++ {
		if _, err := s.append(spoolItems(i, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(spoolFiles(t, dir)[0]); err != nil {
		t.Fatal(err)
	}
	items, lost, err := s.read(0, 100)
	if err != nil || len(lost) == 0 || len(items)+len(lost) != 30 || log.count("is gone or was cut") != 1 {
		t.Errorf("%d items, %d lost, %v", len(items), len(lost), err)
	}
}

func TestABusThatIsAwayForLongLosesNothingAndNothingChangesPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		bus := &fakeSend{err: errors.New("down")}
		run := func(from, to int, then func(p *Publisher)) {
			p := newTestPublisher(bus, 10, openTestSpool(t, dir, spoolBytes, &logBuffer{}), &logBuffer{})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- p.Run(ctx) }()
			for i := from; i <= to; i++ {
				if err := p.Publish(ctx, testAlarm(i)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			}
			then(p)
			cancel()
			<-done
		}
		run(1, 100, func(p *Publisher) {
			if s := p.Stats(); s.Queued != 100 || s.Dropped != 0 {
				t.Errorf("stats %+v, want 100 queued", s)
			}
		})
		run(101, 150, func(p *Publisher) { // the next process
			if s := p.Stats(); s.Queued != 150 {
				t.Errorf("stats %+v, want 150 queued", s)
			}
			bus.set(nil)
			_ = p.Publish(t.Context(), testAlarm(151))
			if err := p.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			if s := p.Stats(); s.Queued+s.Owed != 0 || s.Delivered != 151 {
				t.Errorf("stats %+v, want 151 delivered", s)
			}
		})
		if !slices.Equal(bus.sent, upTo(151)) || !slices.Equal(bus.added, upTo(151)) {
			t.Errorf("sent %v, added %v; want 1 to 151, each once", bus.sent, bus.added)
		}
		run(152, 152, func(*Publisher) {})
		if !slices.Equal(bus.sent, upTo(152)) || len(spoolFiles(t, dir)) != 0 {
			t.Errorf("sent %v; files left: %v", bus.sent, spoolFiles(t, dir))
		}
	})
}

func TestAdditionsThatAFullBusRefusesAreMadeUpForInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		full := &fakeSend{addErr: testReply("OOM command not allowed")}
		for _, last := range []bool{false, true} { // the additions that are owed survive the first process
			p := newTestPublisher(full, 10, openTestSpool(t, dir, spoolBytes, &logBuffer{}), &logBuffer{})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- p.Run(ctx) }()
			first := 1
			if last {
				first = 51
			}
			for i := first; i < first+50; i++ {
				_ = p.Publish(ctx, testAlarm(i))
				time.Sleep(100 * time.Millisecond)
			}
			if err := p.Flush(ctx); err != nil {
				t.Error(err)
			}
			if s := p.Stats(); s.Owed != first+49 || s.Queued != 0 {
				t.Errorf("stats %+v, want %d owed", s, first+49)
			}
			if last {
				full.mu.Lock()
				full.addErr = nil
				full.mu.Unlock()
				time.Sleep(2 * backoffMax)
				if s := p.Stats(); s.Owed != 0 || s.NotAdded != 0 {
					t.Errorf("stats %+v, want nothing owed", s)
				}
			}
			cancel()
			<-done
		}
		if !slices.Equal(full.sent, upTo(100)) || !slices.Equal(full.added, upTo(100)) {
			t.Errorf("sent %v, added %v; want each once and in order", full.sent, full.added)
		}
	})
}

// testReply is an error that a server answers with.
type testReply string

func (r testReply) Error() string { return string(r) }
func (testReply) RedisError()     {}

func TestAFullServerHasItsStreamMadeUpForOnceItHasRoom(t *testing.T) {
	server := startServer(t)
	b := newBus(t, server.url(), nil)
	p := b.NewSpoolingPublisher(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	defer func() { cancel(); <-done }()
	server.Do("CONFIG", "SET", "maxmemory", "1")
	for i := 1; i <= 200; i++ {
		if err := p.Publish(ctx, testAlarm(i)); err != nil {
			t.Fatal(err)
		}
	}
	redistest.Eventually(t, "all are published, none is added", func() bool { s := p.Stats(); return s.Delivered == 200 && s.Owed == 200 })
	server.Do("CONFIG", "SET", "maxmemory", "0")
	redistest.Eventually(t, "all are added", func() bool { return p.Stats().Owed == 0 })
	entries, err := server.C.XRange(t.Context(), policies.StreamKey(b.Prefix()), "-", "+").Result()
	if err != nil || len(entries) != 200 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	var seqs []int64
	for _, e := range entries {
		a, err := policies.DecodeAlarm([]byte(e.Values[fieldPayload].(string)))
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, a.Seq)
	}
	if !slices.Equal(seqs, upTo(200)) {
		t.Errorf("entries %v, want 1 to 200 in order", seqs)
	}
}
