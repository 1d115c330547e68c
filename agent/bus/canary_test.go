package bus

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

// quickCanaries leaves the finding of silence to the canary.
func quickCanaries(s *Subscription) {
	s.timing = timing{tick: 20 * time.Millisecond, ping: 50 * time.Millisecond, dead: time.Hour, canary: 50 * time.Millisecond, deaf: 500 * time.Millisecond}
}

func TestADeafSubscriptionIsMadeAnewAndMissesNothing(t *testing.T) {
	server := startServer(t)
	for name, mode := range map[string]proxyMode{"answers pings": deaf, "black hole": hole} {
		t.Run(name, func(t *testing.T) {
			way := startProxy(t, server.addr())
			var log logBuffer
			through, direct := newBus(t, way.url(), log.logger()), newBus(t, server.url(), nil)
			reader := startReader(t, through, critical, quickCanaries)
			reader.awaitReady(t)
			redistest.Eventually(t, "canaries come", func() bool { return server.CommandCalls()["publish"] > 3 })
			if reader.sub.Deaf() != 0 || len(reader.got()) != 0 {
				t.Fatalf("deaf %d times, got %v", reader.sub.Deaf(), reader.got())
			}
			way.each(func(c *proxied) { c.set(mode) }) // those that there are; new ones pass
			sendAll(t, direct, 1, 5)
			redistest.Eventually(t, "what was missed comes", func() bool { return len(reader.got()) == 5 })
			sendAll(t, direct, 6, 6)
			redistest.Eventually(t, "it hears again", func() bool { return len(reader.got()) == 6 })
			if !slices.Equal(reader.seqs(), upTo(6)) || reader.sub.Deaf() < 1 || log.count("the subscription is deaf") < 1 {
				t.Errorf("got %v, deaf %d times:\n%s", reader.seqs(), reader.sub.Deaf(), &log)
			}
		})
	}
}

func TestAKilledSubscriptionComesBackAndAPausedServerIsNotTakenForDeaf(t *testing.T) {
	server := startServer(t)
	b := newBus(t, server.url(), nil)
	reader := startReader(t, b, critical, quickCanaries)
	reader.awaitReady(t)
	server.Do("CLIENT", "KILL", "TYPE", "pubsub")
	sendAll(t, b, 1, 3)
	redistest.Eventually(t, "what was published meanwhile comes", func() bool { return len(reader.got()) == 3 })
	server.Do("CLIENT", "PAUSE", "1500", "ALL")
	sent := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), redistest.Patience)
		defer cancel()
		for {
			if err := b.Publish(ctx, testAlarm(4)); err == nil || ctx.Err() != nil {
				sent <- err
				return
			}
		}
	}()
	redistest.Eventually(t, "what was published in the pause comes", func() bool { return len(reader.got()) == 4 })
	if err := <-sent; err != nil || reader.sub.Deaf() != 0 {
		t.Errorf("deaf %d times, want 0; %v", reader.sub.Deaf(), err)
	}
}

func TestACanaryIsACompleteAlarmThatWakesNobody(t *testing.T) {
	server := startServer(t)
	b := newBus(t, server.url(), nil)
	raw := server.C.PSubscribe(t.Context(), "redis:monitor:*")
	defer raw.Close()
	if _, err := raw.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	people := startReader(t, b, critical, quickCanaries)
	all := startReader(t, b, policies.Topics{All: true}, quickCanaries)
	people.awaitReady(t)
	all.awaitReady(t)
	for range 6 {
		m, err := raw.ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a, err := policies.DecodeAlarm([]byte(m.Payload))
		if err != nil || m.Channel != "redis:monitor:canary" || a.Metric != policies.MetricCanary || a.ID == "" || a.Instance == "" || a.Msg == "" || !json.Valid([]byte(m.Payload)) {
			t.Errorf("%s: %s (%v)", m.Channel, m.Payload, err)
		}
	}
	if len(people.got())+len(all.got()) != 0 {
		t.Errorf("alarms came of canaries: %v %v", people.got(), all.got())
	}
	if n := server.C.XLen(t.Context(), policies.StreamKey(b.Prefix())).Val(); n != 0 {
		t.Errorf("%d canaries in the stream", n)
	}
}

func TestAReaderWithoutTheRightToPublishGoesWithoutCanaries(t *testing.T) {
	server := startServer(t)
	server.Do("ACL", "SETUSER", "reader", "on", ">pw", "resetchannels", "&redis:monitor:*", "~redis:monitor:stream", "+subscribe", "+psubscribe", "+xrevrange", "+xrange", "+ping")
	var log logBuffer
	reader := startReader(t, newBus(t, policies.Secret("redis://reader:pw@"+server.addr()), log.logger()), critical, quickCanaries)
	reader.awaitReady(t)
	redistest.Eventually(t, "that is said", func() bool { return log.count("may not publish canaries") == 1 })
	sendAll(t, newBus(t, server.url(), nil), 1, 1)
	redistest.Eventually(t, "alarms come", func() bool { return len(reader.got()) == 1 })
	if reader.sub.Deaf() != 0 || log.count("may not publish canaries") != 1 {
		t.Errorf("deaf %d times:\n%s", reader.sub.Deaf(), &log)
	}
}
