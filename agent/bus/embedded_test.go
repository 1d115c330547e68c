package bus

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

func startEmbedded(t *testing.T) *Embedded {
	t.Helper()
	e, err := StartEmbedded(EmbeddedOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func TestEmbeddedBusCarriesABurst(t *testing.T) {
	e := startEmbedded(t)
	b := newBus(t, e.URL(), nil)
	people := startReader(t, b, critical, nil)
	archive := startReader(t, b, policies.Topics{All: true, History: true}, nil)
	people.awaitReady(t)
	archive.awaitReady(t)
	const n = 10_000
	for i := 1; i <= n; i++ {
		if got, err := b.Send(t.Context(), testAlarm(i)); err != nil || got != 2 {
			t.Fatalf("alarm %d: %d receivers, %v", i, got, err)
		}
	}
	for name, r := range map[string]*reader{"people": people, "archive": archive} {
		redistest.Eventually(t, name+" gets all", func() bool { return len(r.got()) == n })
		if !slices.Equal(r.seqs(), upTo(n)) {
			t.Errorf("%s: out of order", name)
		}
	}
	late := startReader(t, b, policies.Topics{All: true, History: true}, nil)
	redistest.Eventually(t, "a late archive gets all from the stream", func() bool { return len(late.got()) == n })
}

func TestEmbeddedBusServesOutsideClients(t *testing.T) {
	e := startEmbedded(t)
	for _, protocol := range []int{2, 3} { // 3 greets with HELLO
		c := redis.NewClient(&redis.Options{Addr: e.Addr(), Protocol: protocol})
		sub := c.PSubscribe(t.Context(), "redis:monitor:*")
		if _, err := sub.Receive(t.Context()); err != nil {
			t.Fatalf("RESP%d: %v", protocol, err)
		}
		if n, err := c.Publish(t.Context(), "redis:monitor:warning", "hello").Result(); err != nil || n != 1 {
			t.Fatalf("RESP%d: %d receivers, %v", protocol, n, err)
		}
		if m, err := sub.ReceiveMessage(t.Context()); err != nil || m.Payload != "hello" {
			t.Errorf("RESP%d: %v, %v", protocol, m, err)
		}
		if err := sub.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if pong, err := sub.ReceiveTimeout(t.Context(), 5*time.Second); err != nil {
			t.Errorf("RESP%d: ping while subscribed: %v, %v", protocol, pong, err)
		}
		_ = sub.Close()
		_ = c.Close()
	}
}

func TestRedisCLIPublishesOnAnEmbeddedBus(t *testing.T) {
	if _, err := exec.LookPath("redis-cli"); err != nil {
		t.Skip("SKIPPED, NOT TESTED: no redis-cli on PATH")
	}
	e := startEmbedded(t)
	reader := startReader(t, newBus(t, e.URL(), nil), critical, nil)
	reader.awaitReady(t)
	_, port, _ := net.SplitHostPort(e.Addr())
	out, err := exec.Command("redis-cli", "-p", port, "PUBLISH", "redis:monitor:critical", `{"instance":"a","msg":"from outside"}`).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "1" {
		t.Fatalf("redis-cli: %s, %v", out, err)
	}
	redistest.Eventually(t, "the alarm arrives", func() bool { g := reader.got(); return len(g) == 1 && g[0].Msg == "from outside" })
}

// A subscriber that stops reading must neither stop the others nor stay for ever.
func TestASubscriberThatStopsReadingIsCutOff(t *testing.T) {
	e := startEmbedded(t)
	b := newBus(t, e.URL(), nil)
	reader := startReader(t, b, critical, nil)
	reader.awaitReady(t)
	stuck, err := net.Dial("tcp", e.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	if _, err := stuck.Write(encodeRequest([]string{"SUBSCRIBE", "redis:monitor:critical"})); err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(&redis.Options{Addr: e.Addr()})
	defer c.Close()
	redistest.Eventually(t, "the stuck client is subscribed", func() bool {
		return c.PubSubNumSub(t.Context(), "redis:monitor:critical").Val()["redis:monitor:critical"] == 2
	})
	payload := bytes.Repeat([]byte("x"), 1<<20)
	sent := 0
	redistest.Eventually(t, "it is cut off", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		sent++
		n, err := c.Publish(ctx, "redis:monitor:critical", payload).Result()
		if err != nil {
			t.Fatalf("message %d: %v", sent, err)
		}
		return n == 1
	})
	if sent < 32 {
		t.Errorf("cut off after %d MiB, want at least 32", sent)
	}
	if _, err := b.Send(t.Context(), testAlarm(1)); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, "the others still get alarms", func() bool { return len(reader.got()) == 1 })
}

// Each of these makes a bare miniredis panic, hang or take gigabytes.
func TestHostileRequestsDoNotHarmAnEmbeddedBus(t *testing.T) {
	e := startEmbedded(t)
	array := func(args ...string) string { return string(encodeRequest(args)) }
	for request, want := range map[string]string{
		"*0\r\nPING\r\n":                                     "+PONG",
		"*-1\r\nPING\r\n":                                    "+PONG",
		"*9999999\r\n":                                       "-ERR Protocol error",
		"*1\r\n$9223372036854775807\r\n":                     "-ERR Protocol error",
		"*1\r\n$-5\r\n":                                      "-ERR Protocol error",
		"*1\r\n:5\r\n":                                       "-ERR Protocol error",
		"*1\r\n$1\r\nabc\r\n":                                "-ERR Protocol error",
		"*" + strings.Repeat("1", 100) + "\r\n":              "-ERR Protocol error",
		strings.Repeat("x", 1<<16):                           "-ERR Protocol error",
		array("EVAL", "while true do end", "0"):              "-ERR unknown command",
		array("MULTI"):                                       "-ERR unknown command",
		array("FLUSHALL"):                                    "-ERR unknown command",
		array("SET", "a", "b"):                               "-ERR unknown command",
		array("XADD", "k", "NOMKSTREAM", "MAXLEN", "~"):      "-ERR an embedded bus takes only",
		array("XADD", "redis:monitor:stream", "*", "a", "b"): "-ERR an embedded bus takes only",
		array("XADD", "redis:monitor:other", "MAXLEN", "~", "10", "*", "channel", "c", "payload", "p"): "-ERR an embedded bus takes only",
		array("PSUBSCRIBE", "[z-a]"):                      "-ERR patterns",
		array("PSUBSCRIBE", `\\E(`):                       "-ERR patterns",
		array("PUBSUB", "CHANNELS", "\xff"):               "-ERR patterns",
		array("XRANGE", "redis:monitor:stream"):           "-ERR wrong number",
		array("XRANGE", "redis:monitor:stream", "x", "+"): "-ERR Invalid stream ID",
		array("PUBLISH", "a"):                             "-ERR wrong number",
		array("HELLO"):                                    "-ERR wrong number",
		"ECHO inline\r\n":                                 "$6",
	} {
		if got := ask(t, e.Addr(), request); !strings.HasPrefix(got, want) {
			t.Errorf("%.60q: got %q, want %q", request, got, want)
		}
	}
	if got := ask(t, e.Addr(), array("PING")); got != "+PONG" {
		t.Errorf("afterwards: %q", got)
	}
}

func ask(t *testing.T, addr, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = c.Write([]byte(request))
	line, _ := bufio.NewReader(c).ReadString('\n')
	return strings.TrimRight(line, "\r\n")
}

func TestEmbeddedBusEndsWithItsClients(t *testing.T) {
	e := startEmbedded(t)
	reader := startReader(t, newBus(t, e.URL(), nil), critical, nil)
	reader.awaitReady(t)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	redistest.Eventually(t, "the reader notices", func() bool { return !reader.sub.Connected() })
	if _, err := net.Dial("tcp", e.Addr()); err == nil {
		t.Error("it still listens")
	}
	if _, err := StartEmbedded(EmbeddedOptions{Addr: "127.0.0.1:99999"}); err == nil || !strings.Contains(err.Error(), "bus.url") {
		t.Errorf("%v, want an error with the cure", err)
	}
	if _, err := StartEmbedded(EmbeddedOptions{Prefix: "a*"}); err == nil {
		t.Error("want an error for a prefix with *")
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte("*2\r\n$4\r\nPING\r\n$1\r\na\r\n"))
	f.Add([]byte("PING\r\n*0\r\n*-1\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bufio.NewReader(bytes.NewReader(data))
		for {
			request, err := readRequest(in)
			if err != nil {
				return
			}
			if len(request) == 0 {
				continue
			}
			again, err := readRequest(bufio.NewReader(bytes.NewReader(request)))
			if err != nil || !bytes.Equal(again, request) {
				t.Fatalf("%q: handed on %q, which reads as %q (%v)", data, request, again, err)
			}
		}
	})
}
