package bus

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

var critical = policies.Topics{Severities: []policies.Severity{policies.Critical}}

func testAlarm(n int) policies.Alarm {
	return policies.Alarm{Severity: policies.Critical, Instance: "dcs-prod-01", Metric: policies.MetricReplication, Value: policies.Text("down"),
		Msg: "m", ID: "id-" + strconv.Itoa(n), Seq: int64(n)}
}

func upTo(n int) []int64 {
	var seqs []int64
	for i := 1; i <= n; i++ {
		seqs = append(seqs, int64(i))
	}
	return seqs
}

func TestNothingIsLostOverAKilledServer(t *testing.T) {
	server := startServer(t)
	var log logBuffer
	b := newBus(t, server.url(), log.logger())
	reader := startReader(t, b, critical, nil)
	reader.awaitReady(t)
	p := b.NewPublisher()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	publish := func(from, to int) {
		for i := from; i <= to; i++ {
			if err := p.Publish(ctx, testAlarm(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	publish(1, 300)
	redistest.Eventually(t, "the first alarms arrive", func() bool { return len(reader.got()) == 300 })
	server.Kill()
	started := time.Now()
	publish(301, 600)
	if took := time.Since(started); took > time.Second {
		t.Errorf("publishing to a dead bus took %v", took)
	}
	redistest.Eventually(t, "both notice", func() bool { return p.state.lost() && !reader.sub.Connected() })
	server.Restart()
	redistest.Eventually(t, "the alarms of the outage arrive", func() bool { return len(reader.got()) >= 600 })
	publish(601, 700)
	redistest.Eventually(t, "later alarms arrive", func() bool { return len(reader.got()) >= 700 })
	if got := reader.seqs(); !slices.Equal(got, upTo(700)) {
		t.Errorf("got %v, want 1 to 700 in order, each once", got)
	}
	for _, once := range []string{`msg="bus lost, trying again" component=bus bus=` + server.addr() + " for=publishing cause=network",
		`for=subscription cause=network`, `msg="bus back" component=bus bus=` + server.addr() + " for=publishing", `for=subscription attempt=`} {
		if n := log.count(once); n != 1 {
			t.Errorf("%d log lines with %s, want 1:\n%s", n, once, &log)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if s := p.Stats(); s.Delivered != 700 || s.Dropped+s.Refused != 0 || s.Queued != 0 {
		t.Errorf("stats %+v, want 700 delivered", s)
	}
}

func TestAReaderThatWasAwayCatchesUpFromTheStream(t *testing.T) {
	server := startServer(t)
	b := newBus(t, server.url(), nil)
	send := func(n int) {
		if _, err := b.Send(context.Background(), testAlarm(n)); err != nil {
			t.Fatal(err)
		}
	}
	send(1) // before the reader: not for it
	reader := startReader(t, b, critical, nil)
	reader.awaitReady(t)
	send(2)
	redistest.Eventually(t, "alarm 2", func() bool { return len(reader.got()) == 1 })
	admin := server.client()
	defer admin.Close()
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "default", "resetchannels").Err(); err != nil { // cuts it off, and keeps it off
		t.Fatal(err)
	}
	redistest.Eventually(t, "the reader is off", func() bool { return !reader.sub.Connected() })
	admin2 := server.client()
	defer admin2.Close()
	redistest.Eventually(t, "alarms published meanwhile are refused", func() bool {
		_, err := b.Send(context.Background(), testAlarm(3))
		return errorIs(err, "NOPERM")
	})
	if err := admin2.Do(t.Context(), "ACL", "SETUSER", "default", "&*").Err(); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, "alarm 3 from the stream", func() bool { return len(reader.got()) == 2 })
	send(4)
	redistest.Eventually(t, "alarm 4", func() bool { return len(reader.got()) == 3 })
	if got := reader.seqs(); !slices.Equal(got, []int64{2, 3, 4}) {
		t.Errorf("got %v, want 2, 3, 4", got)
	}
}

// Connections that were left in the pool when the server died fail once each: what was published before the readers were
// back must not hang on them.
func TestWhatWasPublishedRightAfterARestartIsNotMissed(t *testing.T) {
	server := startServer(t)
	b := newBus(t, server.url(), nil)
	reader := startReader(t, b, critical, nil)
	reader.awaitReady(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { _ = b.Ping(context.Background()) })
	}
	wg.Wait()
	server.Restart()
	other := newBus(t, server.url(), nil)
	redistest.Eventually(t, "the new server takes an alarm", func() bool {
		_, err := other.Send(context.Background(), testAlarm(1))
		return err == nil
	})
	redistest.Eventually(t, "the reader has it", func() bool { return slices.Contains(reader.seqs(), 1) })
}

func TestHistoryComesFirstWhereWanted(t *testing.T) {
	server := startServer(t)
	b := newBus(t, server.url(), nil)
	for i := 1; i <= 1200; i++ { // more than two pages
		if _, err := b.Send(t.Context(), testAlarm(i)); err != nil {
			t.Fatal(err)
		}
	}
	reader := startReader(t, b, policies.Topics{All: true, History: true}, nil)
	redistest.Eventually(t, "all of the history", func() bool { return len(reader.got()) == 1200 })
	if got := reader.seqs(); !slices.Equal(got, upTo(1200)) {
		t.Errorf("got %v, want 1 to 1200", got)
	}
}

// A reader that is slower than the server drops nothing of what it catches up on, also where the server permits no group.
func TestALongHistoryWaitsForASlowReader(t *testing.T) {
	server := startServer(t, "--rename-command", "XREADGROUP", "")
	b := newBus(t, server.url(), nil)
	const sent = 5000
	for i := 1; i <= sent; i++ {
		if _, err := b.Send(t.Context(), testAlarm(i)); err != nil {
			t.Fatal(err)
		}
	}
	topics := policies.Topics{All: true, History: true}
	for name, sub := range map[string]*Subscription{"alone": b.Subscribe(topics), "in a group that is refused": b.SubscribeGroup(topics, Group{Name: "g", Consumer: "one"})} {
		t.Run(name, func(t *testing.T) {
			sub.queue, sub.pacing = newQueue(1100, queueBytes), quickPacing
			r := &reader{sub: sub, dec: NewDecoder(b.Prefix(), b.log)}
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { _ = sub.Run(ctx) })
			defer wg.Wait()
			defer cancel()
			r.awaitReady(t)
			wg.Go(r.consume)
			redistest.Eventually(t, "all of the history", func() bool { return len(r.got()) >= sent || sub.Dropped() > 0 })
			if got := r.seqs(); sub.Dropped() > 0 || !slices.Equal(got, upTo(sent)) {
				t.Errorf("%d came and %d were dropped, want 1 to %d", len(got), sub.Dropped(), sent)
			}
		})
	}
}

func TestAStoppedServerIsNoticed(t *testing.T) {
	server := startServer(t)
	b := newBus(t, server.url(), nil)
	reader := startReader(t, b, critical, func(s *Subscription) {
		s.timing = timing{tick: 20 * time.Millisecond, ping: 100 * time.Millisecond, dead: 500 * time.Millisecond, canary: time.Hour, deaf: time.Hour}
	})
	reader.awaitReady(t)
	time.Sleep(700 * time.Millisecond) // silence alone, with a server that answers pings, is no fault
	if !reader.sub.Connected() {
		t.Fatal("a quiet bus was taken for a dead one")
	}
	server.Hang()
	redistest.Eventually(t, "the reader notices", func() bool { return !reader.sub.Connected() })
	server.Resume()
	redistest.Eventually(t, "the reader is back", func() bool { return reader.sub.Connected() })
	if _, err := b.Send(t.Context(), testAlarm(1)); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, "the alarm arrives", func() bool { return len(reader.got()) == 1 })
	if usualTiming.dead+usualTiming.tick > 10*time.Second {
		t.Errorf("%+v notices after more than 10 s", usualTiming)
	}
}

func TestMalformedBurst(t *testing.T) {
	server := startServer(t)
	var log logBuffer
	b := newBus(t, server.url(), log.logger())
	people := startReader(t, b, critical, nil)
	archive := startReader(t, b, policies.Topics{All: true}, nil)
	people.awaitReady(t)
	archive.awaitReady(t)
	bad := []string{"not json", `[1,2]`, `"text"`, `{"metric":"x"}`, `{"instance":7}`, "{\"instance\":\"a\",\"msg\":\"\x01\"}", "\xff\xfe\x00", `{"instance":"a","value":{}}`, `{"INSTANCE":"a"}`}
	c := server.client()
	defer c.Close()
	const real, junk = 500, 10_000
	for i := range junk {
		pipe := c.Pipeline()
		pipe.Publish(t.Context(), "redis:monitor:critical", bad[i%len(bad)])
		if i%2500 == 0 {
			pipe.Publish(t.Context(), "redis:monitor:critical", strings.Repeat("x", 1<<20))
		}
		if i%(junk/real) == 0 {
			pipe.Publish(t.Context(), "redis:monitor:critical", fmt.Sprintf(`{"instance":"dcs-prod-01","metric":"m","value":1,"msg":"a\u001b[31m","seq":%d}`, i/(junk/real)+1))
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.Publish(t.Context(), "redis:monitor:canary", `{"instance":"x","metric":"canary"}`)
	c.Publish(t.Context(), "redis:monitor:elsewhere", `{"instance":"x"}`)
	for name, r := range map[string]*reader{"people": people, "archive": archive} {
		redistest.Eventually(t, name+" gets every real alarm", func() bool { return len(r.got()) == real })
		if got := r.seqs(); !slices.Equal(got, upTo(real)) {
			t.Errorf("%s: got %v", name, got)
		}
		if r.sub.Dropped() != 0 {
			t.Errorf("%s dropped %d", name, r.sub.Dropped())
		}
	}
	redistest.Eventually(t, "the stray channel is counted", func() bool { return archive.dec.Malformed()[policies.MalformedChannel] == 1 })
	var sum int64
	counts := people.dec.Malformed()
	for kind, n := range counts {
		sum += n
		if lines := log.count("kind=" + kind); lines != 2 { // one for each of the two readers
			t.Errorf("%s: %d lines for %d messages, want 2", kind, lines, n)
		}
	}
	if sum != junk+4 || len(counts) != 5 || counts[policies.MalformedOversize] != 4 {
		t.Errorf("counted %v, want %d in 5 kinds", counts, junk+4)
	}
}

func TestASlowConsumerLosesCountedMessagesAndNeverTheConnection(t *testing.T) {
	server := startServer(t)
	var log logBuffer
	b := newBus(t, server.url(), log.logger())
	sub := b.Subscribe(critical)
	sub.queue = newQueue(100, queueBytes)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sub.Run(ctx) }()
	<-sub.Ready()
	const sent = 5000
	for i := 1; i <= sent; i++ {
		if n, err := b.Send(ctx, testAlarm(i)); err != nil || n != 1 {
			t.Fatalf("alarm %d: %d receivers, %v", i, n, err)
		}
	}
	redistest.Eventually(t, "all that does not fit is counted", func() bool { return sub.Dropped() == sent-100 })
	batch := sub.Batch(ctx, sent, 0)
	first, _ := policies.DecodeAlarm(batch[0].Payload)
	if len(batch) != 100 || first.Seq != sent-99 {
		t.Errorf("%d left, from %d; want the newest 100", len(batch), first.Seq)
	}
	if _, err := b.Send(ctx, testAlarm(sent+1)); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, "the end of the spell is logged", func() bool { return log.count(`msg="the queue has room again"`) == 1 })
	if log.count("messages dropped") != 1 || log.count("dropped=4900") != 1 {
		t.Errorf("want one line for the spell and its sum:\n%s", &log)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := sub.Batch(context.Background(), 10, time.Hour); len(got) != 1 {
		t.Errorf("%d messages after the end, want the one that waited", len(got))
	}
	if got := sub.Batch(context.Background(), 10, time.Hour); got != nil {
		t.Errorf("%v after all was handed over", got)
	}
}

func TestARefusedSubscriptionIsTriedAgain(t *testing.T) {
	server := startServer(t)
	admin := server.client()
	defer admin.Close()
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "limited", "on", ">pw", "+@all", "~*", "resetchannels").Err(); err != nil {
		t.Fatal(err)
	}
	var log logBuffer
	b := newBus(t, policies.Secret("redis://limited:pw@"+server.addr()), log.logger())
	reader := startReader(t, b, critical, nil)
	redistest.Eventually(t, "the refusal is logged", func() bool { return log.count("cause=NOPERM") == 1 })
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "limited", "&redis:monitor:*").Err(); err != nil {
		t.Fatal(err)
	}
	reader.awaitReady(t)
	if strings.Contains(log.String(), "pw@") || log.count("cause=NOPERM") != 1 {
		t.Errorf("want one refusal and no password:\n%s", &log)
	}
}
