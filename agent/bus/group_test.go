package bus

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

var quickPacing = pacing{tick: 10 * time.Millisecond, retry: 50 * time.Millisecond, claim: 200 * time.Millisecond}

// startMember runs a member of a group that acknowledges what it gets, or not.
func startMember(t *testing.T, b *Bus, topics policies.Topics, consumer string, acks bool) (r *reader, stop func()) {
	t.Helper()
	s := b.SubscribeGroup(topics, Group{Name: "g", Consumer: consumer})
	s.pacing = quickPacing
	r = &reader{sub: s, dec: NewDecoder(b.Prefix(), b.log), acks: acks}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	wg.Go(r.consume)
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	r.awaitReady(t)
	return r, stop
}

func sendAll(t *testing.T, b *Bus, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		if _, err := b.Send(t.Context(), testAlarm(i)); err != nil {
			t.Fatal(err)
		}
	}
}

func sorted(seqs []int64) []int64 { slices.Sort(seqs); return seqs }

// onBothBuses runs a test on a real server, on one without XAUTOCLAIM as 6.0 is, and on an embedded bus.
func onBothBuses(t *testing.T, test func(t *testing.T, b *Bus)) {
	t.Run("server", func(t *testing.T) { test(t, newBus(t, startServer(t).url(), nil)) })
	t.Run("server without XAUTOCLAIM", func(t *testing.T) {
		test(t, newBus(t, startServer(t, "--rename-command", "XAUTOCLAIM", "").url(), nil))
	})
	t.Run("embedded", func(t *testing.T) { test(t, newBus(t, startEmbedded(t).URL(), nil)) })
}

func TestWhatACrashedMemberHadTakenIsHandedOutAgain(t *testing.T) {
	onBothBuses(t, func(t *testing.T, b *Bus) {
		crashed, crash := startMember(t, b, critical, "one", false)
		sendAll(t, b, 1, 20)
		redistest.Eventually(t, "the first has all, by both ways", func() bool { return crashed.entries() >= 20 && len(crashed.got()) == 20 })
		crash()
		sendAll(t, b, 21, 30) // while nobody is there
		other, leave := startMember(t, b, critical, "two", true)
		redistest.Eventually(t, "the second has all, and all is acknowledged", func() bool { return len(other.got()) == 30 && pendingOf(t, b) == 0 })
		if got := sorted(other.seqs()); !slices.Equal(got, upTo(30)) {
			t.Errorf("got %v, want 1 to 30, each once", got)
		}
		leave()
		third, _ := startMember(t, b, critical, "three", true)
		sendAll(t, b, 31, 31)
		redistest.Eventually(t, "the third has the new one", func() bool { return len(third.got()) > 0 })
		if got := third.seqs(); !slices.Equal(got, []int64{31}) {
			t.Errorf("got %v, want 31 alone", got)
		}
	})
}

func TestARestartedMemberGoesOnAtOnceWithWhatItHadNotAcknowledged(t *testing.T) {
	b := newBus(t, startServer(t).url(), nil)
	crashed, crash := startMember(t, b, critical, "one", false)
	sendAll(t, b, 1, 1200) // more than two pages
	redistest.Eventually(t, "it has all from the stream", func() bool { return crashed.entries() >= 1200 })
	crash()
	s := b.SubscribeGroup(critical, Group{Name: "g", Consumer: "one"})
	s.pacing.claim = time.Hour
	again := &reader{sub: s, dec: NewDecoder(b.Prefix(), b.log), acks: true}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	wg.Go(again.consume)
	defer wg.Wait()
	defer cancel()
	redistest.Eventually(t, "it has all again", func() bool { return len(again.got()) == 1200 })
	if !slices.Equal(again.seqs(), upTo(1200)) {
		t.Error("out of order")
	}
}

func TestAGroupIsMadeWhereItIsAllowedAndSaidOnceWhereNot(t *testing.T) {
	server := startServer(t)
	admin := server.client()
	defer admin.Close()
	if err := admin.Do(t.Context(), "CONFIG", "SET", "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	var log logBuffer
	b := newBus(t, server.url(), log.logger())
	member, _ := startMember(t, b, policies.Topics{All: true, History: true}, "one", true)
	if _, err := b.Send(t.Context(), testAlarm(1)); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, "Pub/Sub brings it without a group", func() bool { return len(member.got()) == 1 })
	redistest.Eventually(t, "the group is asked for again", func() bool { return server.CommandCalls()["xreadgroup"] > 2 })
	if n := log.count("no consumer group on the stream"); n != 1 || log.count("cause=OOM") < 1 {
		t.Errorf("%d lines, want one with its cause:\n%s", n, &log)
	}
	if err := admin.Do(t.Context(), "CONFIG", "SET", "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, "the group is there now", func() bool { return log.count("consumer group is there now") == 1 })
	sendAll(t, b, 2, 3)
	redistest.Eventually(t, "the group brings them too", func() bool { return member.entries() == 2 })
	if err := admin.Do(t.Context(), "CONFIG", "SET", "maxmemory", "1").Err(); err != nil { // a group that is there is read on a full server
		t.Fatal(err)
	}
	calls := server.CommandCalls()["xreadgroup"]
	redistest.Eventually(t, "it is read on", func() bool { return server.CommandCalls()["xreadgroup"] > calls+3 })
	if n := log.count("no consumer group on the stream"); n != 1 {
		t.Errorf("%d lines:\n%s", n, &log)
	}
}

func TestAMemberSurvivesAServerThatLostItsData(t *testing.T) {
	server := startServer(t)
	b := newBus(t, server.url(), nil)
	member, _ := startMember(t, b, critical, "one", true)
	sendAll(t, b, 1, 3)
	redistest.Eventually(t, "the first three", func() bool { return len(member.got()) == 3 })
	server.Restart()
	other := newBus(t, server.url(), nil)
	redistest.Eventually(t, "the new server takes an alarm", func() bool { _, err := other.Send(t.Context(), testAlarm(4)); return err == nil })
	redistest.Eventually(t, "it comes, and from the new group", func() bool { return slices.Contains(member.seqs(), 4) && member.entries() >= 1 })
}

func TestTheEmbeddedBusRefusesOtherFormsOfGroupCommands(t *testing.T) {
	e := startEmbedded(t)
	b := newBus(t, e.URL(), nil)
	key := policies.StreamKey(b.Prefix())
	for _, bad := range [][]any{
		{"XGROUP", "CREATE", key, "g", "nonsense", "MKSTREAM"}, {"XGROUP", "DESTROY", key, "g"}, {"XGROUP", "CREATE", "other", "g", "$", "MKSTREAM"},
		{"XREADGROUP", "GROUP", "g", "c", "BLOCK", "0", "STREAMS", key, ">"}, {"XREADGROUP", "GROUP", "g", "c", "COUNT", "0", "STREAMS", key, ">"},
		{"XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", key, "x"}, {"XACK", key, "g", "x"}, {"XACK", key}, {"XAUTOCLAIM", key, "g", "c", "x", "0-0", "COUNT", "1", "JUSTID"},
	} {
		if err := b.client.Do(t.Context(), bad...).Err(); err == nil || !strings.HasPrefix(err.Error(), "ERR") {
			t.Errorf("%v: %v, want an error", bad, err)
		}
	}
}

// pendingOf is how many entries the members have not acknowledged, asked in a form that an embedded bus knows too.
func pendingOf(t *testing.T, b *Bus) (n int) {
	t.Helper()
	for _, consumer := range []string{"one", "two", "three"} {
		streams, err := b.client.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "g", Consumer: consumer, Count: 10_000, Block: -1,
			Streams: []string{policies.StreamKey(b.Prefix()), "0-0"}}).Result()
		if err != nil {
			t.Fatal(err)
		}
		n += len(streams[0].Messages)
	}
	return n
}
