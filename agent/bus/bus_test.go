package bus

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

func TestAFullServerTakesTheAlarmButNotTheStreamEntry(t *testing.T) {
	server := startServer(t, "--maxmemory", "1", "--maxmemory-policy", "noeviction")
	var log logBuffer
	b := newBus(t, server.url(), log.logger())
	reader := startReader(t, b, critical, nil)
	reader.awaitReady(t)
	for i := 1; i <= 3; i++ {
		if n, err := b.Send(t.Context(), testAlarm(i)); err != nil || n != 1 {
			t.Fatalf("%d receivers, %v; want 1 and no error", n, err)
		}
	}
	redistest.Eventually(t, "all arrive", func() bool { return len(reader.got()) == 3 })
	if b.StreamFaults()["OOM"] != 3 || log.count("alarm not added to the stream") != 1 {
		t.Errorf("counted %v, want 3 OOM and one log line:\n%s", b.StreamFaults(), &log)
	}
}

func TestABusUserWithoutStreamRightsStillPublishesAndReads(t *testing.T) {
	server := startServer(t)
	admin := server.client()
	defer admin.Close()
	rule := []any{"ACL", "SETUSER", "bus", "on", ">p%w", "resetchannels", "&redis:monitor:*", "+publish", "+subscribe", "+psubscribe"}
	if err := admin.Do(t.Context(), rule...).Err(); err != nil {
		t.Fatal(err)
	}
	var log logBuffer
	b := newBus(t, policies.Secret("redis://bus:p%25w@"+server.addr()), log.logger())
	reader := startReader(t, b, policies.Topics{All: true, History: true}, nil)
	reader.awaitReady(t)
	for i := 1; i <= 2; i++ {
		if err := b.Publish(t.Context(), testAlarm(i)); err != nil {
			t.Fatal(err)
		}
	}
	redistest.Eventually(t, "both arrive", func() bool { return len(reader.got()) == 2 })
	if b.StreamFaults()["NOPERM"] != 3 || log.count("cause=NOPERM") != 2 { // two writes and one read; a line for each sort
		t.Errorf("counted %v:\n%s", b.StreamFaults(), &log)
	}
	denied, err := admin.Do(t.Context(), "ACL", "LOG").Slice()
	for _, entry := range denied {
		if text := fmt.Sprint(entry); !strings.Contains(text, "xadd") && !strings.Contains(text, "xrevrange") {
			t.Errorf("the server refused more than the stream: %s", text)
		}
	}
	if err != nil {
		t.Error(err)
	}
}

func TestTheStreamHoldsWhatWasPublishedButNoCanary(t *testing.T) {
	server := startServer(t)
	b := newBus(t, server.url(), nil)
	canary := policies.Alarm{Instance: "canary", Metric: policies.MetricCanary, ID: "c"}
	if err := b.Publish(t.Context(), canary); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), testAlarm(1)); err != nil {
		t.Fatal(err)
	}
	c := server.client()
	defer c.Close()
	entries, err := c.XRange(t.Context(), "redis:monitor:stream", "-", "+").Result()
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v; want one entry", entries, err)
	}
	want, _ := policies.EncodeAlarm(testAlarm(1))
	if v := entries[0].Values; v["channel"] != "redis:monitor:critical" || v["payload"] != string(want) {
		t.Errorf("entry %v, want the payload as published", v)
	}
}

func TestAURLIsNeverShown(t *testing.T) {
	for _, url := range []string{"", "nonsense", "http://u:secret@h", "redis://u:secret/x@h:1", "redis://u:12#secret@h:1", "redis://u:12?secret@h:1",
		"redis://u:secret@h:port", "redis://h/secret", "redis://:secret@", "%zzsecret"} {
		_, err := New(Options{URL: policies.Secret(url)})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error %v; want one that shows nothing of it", url, err)
		}
	}
	b, err := New(Options{URL: "redis://u:secret@h:6380/0"})
	if err != nil || b.Addr() != "h:6380" || b.Prefix() != "redis:monitor" {
		t.Errorf("%+v, %v", b, err)
	}
	_ = b.Close()
}

func TestAnAlarmThatTheServerDidNotTakeIsNotPublished(t *testing.T) {
	server := startServer(t, "--requirepass", "right")
	for name, url := range map[string]string{"wrong password": "redis://:wrong@" + server.addr(), "no password": "redis://" + server.addr()} {
		b := newBus(t, policies.Secret(url), nil)
		if n, err := b.Send(t.Context(), testAlarm(1)); err == nil || n != 0 || strings.Contains(err.Error(), "wrong@") {
			t.Errorf("%s: %d receivers, error %v; want an error", name, n, err)
		}
	}
	canary := testAlarm(2)
	canary.Metric = policies.MetricCanary
	if err := newBus(t, policies.Secret("redis://:wrong@"+server.addr()), nil).Publish(t.Context(), canary); err == nil {
		t.Error("a canary over a refused connection counts as published")
	}
	if err := newBus(t, policies.Secret("redis://:right@"+server.addr()), nil).Publish(t.Context(), testAlarm(3)); err != nil {
		t.Errorf("with the right password: %v", err)
	}
}

func TestADeadBusFailsInTime(t *testing.T) {
	b := newBus(t, policies.Secret(fmt.Sprintf("redis://127.0.0.1:%d", redistest.FreePort(t))), nil)
	started := time.Now()
	if err := b.Publish(t.Context(), testAlarm(1)); err == nil || !strings.Contains(err.Error(), b.Addr()) {
		t.Errorf("%v, want an error that names the bus", err)
	}
	if err := b.Ping(t.Context()); err == nil || errorKind(err) != "network" {
		t.Errorf("%v (%s), want network", err, errorKind(err))
	}
	if took := time.Since(started); took > time.Second {
		t.Errorf("took %v", took)
	}
}

func TestDecoderKnowsDuplicatesByIDOnly(t *testing.T) {
	d := NewDecoder("p", nil)
	msg := func(payload string) policies.Message {
		return policies.Message{Channel: "p:warning", Payload: []byte(payload)}
	}
	for i, c := range []struct {
		payload string
		want    error
	}{
		{`{"instance":"a","id":"1"}`, nil}, {`{"instance":"a","id":"1"}`, ErrDuplicate}, {`{"instance":"a"}`, nil},
		{`{"instance":"a"}`, nil}, {`{"instance":"a","id":""}`, nil}, {`{"instance":"a","id":""}`, nil}, {`{"instance":"b","id":"2"}`, nil},
	} {
		a, err := d.Decode(msg(c.payload))
		if err != c.want || err == nil && a.Severity != policies.Warning {
			t.Errorf("step %d: %+v, %v, want %v", i, a, err, c.want)
		}
	}
	for i := range rememberedIDs + 10 {
		_, _ = d.Decode(msg(fmt.Sprintf(`{"instance":"a","id":"n%d"}`, i)))
	}
	if len(d.known) != rememberedIDs || len(d.ring) != rememberedIDs {
		t.Errorf("remembers %d and %d ids, want %d", len(d.known), len(d.ring), rememberedIDs)
	}
	if _, err := d.Decode(policies.Message{Channel: "p:canary", Payload: []byte("{")}); err != ErrCanary {
		t.Errorf("canary: %v", err)
	}
}

func TestStreamIDs(t *testing.T) {
	for s, next := range map[string]string{"0-0": "0-1", "5-3": "5-4", "5-18446744073709551615": "6-0"} {
		id, err := parseStreamID(s)
		if err != nil || id.String() != s || id.next().String() != next || !id.less(id.next()) {
			t.Errorf("%s: %v, next %v (%v), want %s", s, id, id.next(), err, next)
		}
	}
	if _, err := parseStreamID("x"); err == nil {
		t.Error("x is no stream id")
	}
}
