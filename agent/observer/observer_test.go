package observer

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dcshealer/agent/archive"
	"dcshealer/policies"
)

// fakeFeed hands over what the test puts in.
type fakeFeed struct {
	ready chan struct{}
	in    chan policies.Message
}

var _ Feed = (*fakeFeed)(nil)

func newFeed(messages ...policies.Message) *fakeFeed {
	f := &fakeFeed{ready: make(chan struct{}), in: make(chan policies.Message, 1000)}
	for _, m := range messages {
		f.in <- m
	}
	return f
}

func (f *fakeFeed) Ready() <-chan struct{} { return f.ready }

func (f *fakeFeed) Batch(ctx context.Context, max int, _ time.Duration) []policies.Message {
	var got []policies.Message
	for len(got) < max {
		select {
		case m, ok := <-f.in:
			if !ok {
				return got
			}
			got = append(got, m)
			continue
		default:
		}
		if len(got) > 0 {
			return got
		}
		select {
		case m, ok := <-f.in:
			if !ok {
				return got
			}
			got = append(got, m)
		case <-ctx.Done():
			return got
		}
	}
	return got
}

// fakeDecoder is the bus's, without its memory.
type fakeDecoder struct{}

var errSeen = errors.New("seen")

func (fakeDecoder) Decode(m policies.Message) (policies.Alarm, error) {
	severity, ok := policies.ChannelSeverity("p", m.Channel)
	if !ok {
		return policies.Alarm{}, errSeen
	}
	a, err := policies.DecodeAlarm(m.Payload)
	a.Severity = severity
	return a, err
}

func message(severity policies.Severity, payload string) policies.Message {
	return policies.Message{Channel: policies.Channel("p", severity), Payload: []byte(payload), At: time.Unix(1, 0)}
}

// output keeps each Write apart.
type output struct {
	mu     sync.Mutex
	writes []string
	err    error
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes = append(o.writes, string(p))
	return len(p), o.err
}

func options(f Feed, out *output, log *bytes.Buffer) Options {
	return Options{Feed: f, Decode: fakeDecoder{}, Out: NewLineWriter(out), Prefix: "p", Log: slog.New(slog.NewTextHandler(log, nil))}
}

func TestRolesPrintTheirLinesOnceTheyAreSubscribed(t *testing.T) {
	in := []policies.Message{
		message(policies.Critical, `{"instance":"i","metric":"used_memory_mb","msg":"full\nof \u001b[31mit"}`),
		message(policies.Critical, `junk`),
		{Channel: "p:canary", Payload: []byte(`{"instance":"i","metric":"canary"}`)},
		message(policies.Critical, `{"instance":"i","metric":"used_memory_mb","msg":"Resolved: fine"}`),
	}
	for name, c := range map[string]struct {
		role func(Options) interface{ Run(context.Context) error }
		want []string
	}{
		"dba": {func(o Options) interface{ Run(context.Context) error } { return NewDBA(o) }, []string{
			"[On-duty DBA] The critical channel has been subscribed to.\n",
			"[On-duty DBA] !!! Critical alarm !!! i | full of it\n",
			"[On-duty DBA] Resolved | i | Resolved: fine\n"}},
		"dashboard": {func(o Options) interface{ Run(context.Context) error } { return NewDashboard(o) }, []string{
			"[O&M dashboard] The critical and warning channels have been subscribed to.\n",
			"[O&M dashboard] [CRITICAL] i | used_memory_mb | full of it\n",
			"[O&M dashboard] [CRITICAL] i | used_memory_mb | Resolved: fine\n"}},
		"healer": {func(o Options) interface{ Run(context.Context) error } { return NewHealerConsole(o) }, []string{
			"[Self-healing service] The critical channel has been subscribed to.\n",
			"[Self-healing service] Full memory detected -> Automatic cleanup triggered: i\n"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out output
			feed := newFeed(in...)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- c.role(options(feed, &out, &bytes.Buffer{})).Run(ctx) }()
			synctest.Wait()
			if len(out.writes) != 0 {
				t.Errorf("%s printed %q before it was subscribed", name, out.writes)
			}
			close(feed.ready)
			synctest.Wait()
			cancel()
			if err := <-done; err != nil || !reflect.DeepEqual(out.writes, c.want) {
				t.Errorf("%s: %v\n got %q\nwant %q", name, err, out.writes, c.want)
			}
		})
	}
}

func TestAConsoleThatIsGoneStopsNoRoleAndIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	out := output{err: errors.New("broken pipe")}
	feed := newFeed(message(policies.Critical, `{"instance":"a"}`), message(policies.Critical, `{"instance":"b"}`))
	close(feed.ready)
	close(feed.in)
	if err := NewDBA(options(feed, &out, &log)).Run(t.Context()); err != nil || len(out.writes) != 3 || strings.Count(log.String(), "console lines are lost") != 1 {
		t.Errorf("%v, %d writes, log %s", err, len(out.writes), &log)
	}
}

// fakeStore is an archive that fails as long as the test wants.
type fakeStore struct {
	mu      sync.Mutex
	err     error
	entries []archive.Entry
}

var _ Store = (*fakeStore)(nil)

func (s *fakeStore) Append(_ context.Context, entries []archive.Entry) ([]bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	added := make([]bool, len(entries))
	for i, e := range entries {
		added[i] = e.Alarm.ID != "old"
	}
	s.entries = append(s.entries, entries...)
	return added, nil
}

func (s *fakeStore) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func TestArchiverKeepsWhatIsMalformedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out output
		store := &fakeStore{}
		feed := newFeed(message(policies.Notice, `{"instance":"i","msg":"m"}`), message(policies.Notice, `{"instance":"i","id":"old"}`),
			message(policies.Critical, `[]`), policies.Message{Channel: "p:canary", Payload: []byte(`{}`)})
		close(feed.ready)
		close(feed.in)
		if err := NewArchiver(options(feed, &out, &bytes.Buffer{}), store).Run(t.Context()); err != nil {
			t.Error(err)
		}
		want := []string{"[Log archiving] The p:* channel has been subscribed to via pattern matching.\n", "[Log archiving] [NOTICE  ] i | m\n"}
		if !reflect.DeepEqual(out.writes, want) {
			t.Errorf("got %q, want %q", out.writes, want)
		}
		if len(store.entries) != 3 || store.entries[2].Malformed != policies.MalformedNotObject || string(store.entries[2].Payload) != "[]" {
			t.Errorf("kept %+v", store.entries)
		}
	})
}

func TestAFailingArchiveLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out output
		var log bytes.Buffer
		store := &fakeStore{err: errors.New("disk full")}
		feed := newFeed()
		close(feed.ready)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- NewArchiver(options(feed, &out, &log), store).Run(ctx) }()
		for i := range 700 {
			feed.in <- message(policies.Warning, `{"instance":"i`+strconv.Itoa(i)+`"}`)
		}
		time.Sleep(time.Minute) // in the bubble: many tries
		store.set(nil)
		time.Sleep(archiveSlow + time.Second)
		synctest.Wait()
		if len(store.entries) != 700 || len(out.writes) != 701 {
			t.Errorf("%d kept and %d lines, want 700 and 701", len(store.entries), len(out.writes))
		}
		if strings.Count(log.String(), "the archive takes no alarms") != 1 || strings.Count(log.String(), "takes alarms again") != 1 {
			t.Errorf("want one line for the fault and one for its end:\n%s", &log)
		}
		store.set(errors.New("disk full"))
		feed.in <- message(policies.Warning, `{"instance":"x"}`)
		synctest.Wait()
		started := time.Now()
		cancel()
		if err := <-done; err != nil || time.Since(started) > archiveEnd+archiveSlow {
			t.Errorf("%v, ended after %v", err, time.Since(started))
		}
		if !strings.Contains(log.String(), `msg="stopped with messages that the archive has not taken" component=archiver count=1`) {
			t.Errorf("the loss is not told:\n%s", &log)
		}
	})
}

// ackingFeed keeps what was acknowledged.
type ackingFeed struct {
	*fakeFeed
	acked []policies.Message
}

func (f *ackingFeed) Ack(batch []policies.Message) { f.acked = append(f.acked, batch...) }

// onceDecoder gives an alarm out once, as the bus's does.
type onceDecoder struct{ seen map[string]bool }

func (d onceDecoder) Decode(m policies.Message) (policies.Alarm, error) {
	a, err := fakeDecoder{}.Decode(m)
	if err == nil && d.seen[a.ID] {
		return a, errSeen
	}
	d.seen[a.ID] = true
	return a, err
}

// An alarm comes twice, by Pub/Sub and from the stream. Where the archive did not take the first, the second must be handed out again.
func TestTheCopyOfALostAlarmIsNotAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out output
		store := &fakeStore{err: errors.New("disk full")}
		feed := &ackingFeed{fakeFeed: newFeed()}
		close(feed.ready)
		o := options(feed, &out, &bytes.Buffer{})
		o.Decode = onceDecoder{map[string]bool{}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- NewArchiver(o, store).Run(ctx) }()
		m := message(policies.Critical, `{"instance":"i","id":"1"}`)
		feed.in <- m
		synctest.Wait()
		m.Entry = "1-1"
		feed.in <- m
		cancel()
		if err := <-done; err != nil || len(feed.acked) > 0 {
			t.Errorf("acknowledged %+v, %v; the archive has nothing", feed.acked, err)
		}
	})
}

func TestWhatWaitsAtTheEndIsStillKept(t *testing.T) {
	store, err := archive.Open(t.Context(), filepath.Join(t.TempDir(), archive.FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var out output
	feed := newFeed(message(policies.Warning, `{"instance":"i","id":"1"}`))
	close(feed.ready)
	ctx, cancel := context.WithCancel(t.Context())
	a := NewArchiver(options(feed, &out, &bytes.Buffer{}), store)
	cancel()
	for c, stop := (archive.Counts{}), time.Now().Add(5*time.Second); c.Alarms != 1; { // Run may find the context ended before the feed ready
		if time.Now().After(stop) {
			t.Fatal("not kept")
		}
		if err := a.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if c, err = store.Count(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
