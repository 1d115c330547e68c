package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"dcshealer/policies"
)

// sayer takes one finding.
type sayer func(h policies.Health, cure, format string, args ...any)

const grantBus = "grant the rights of the bus: dcshealer acl"

// Checkup tries the bus: it publishes the canary, which wakes nobody, and receives it by the pattern that the archiver reads; it subscribes to every
// channel, and asks whether the stream may be written without writing it. It ends within about 20 s.
func (b *Bus) Checkup(ctx context.Context, canary policies.Alarm) (out []policies.CheckResult) {
	say := func(h policies.Health, cure, format string, args ...any) {
		out = append(out, policies.CheckResult{Severity: h, Check: policies.CheckBus, Seen: fmt.Sprintf(format, args...), Cure: cure})
	}
	if err := b.Ping(ctx); err != nil {
		say(policies.HealthError, busCure(err), "%s", err)
		return out
	}
	took, err := b.canary(ctx, canary)
	switch {
	case errorIs(err, "NOPERM"):
		say(policies.HealthError, grantBus, "the canary: %s", err)
	case err != nil:
		say(policies.HealthError, "see to the bus server: it answers, and passes nothing on", "the canary: %s", err)
	default:
		say(policies.HealthOK, "", "%s passes the canary on in %s", b.Addr(), took.Round(time.Microsecond))
	}
	if err := b.subscribes(ctx, policies.Topics{Severities: policies.Severities[:]}); err != nil {
		say(policies.HealthError, grantBus, "subscribe to its channels: %s", err)
	}
	b.mayStream(ctx, say)
	b.mayPublish(ctx, say)
	b.room(ctx, say)
	return out
}

func busCure(err error) string {
	switch errorKind(err) {
	case "NOAUTH", "WRONGPASS":
		return "correct user and password in bus.url"
	case "NOPERM":
		return grantBus
	case "tls":
		return "correct the setting under bus.tls"
	}
	return "start the bus server, or correct bus.url"
}

const checkupTimeout = 5 * time.Second

// listen runs a subscription until f returns or the time is over.
func (b *Bus) listen(ctx context.Context, t policies.Topics, f func(ctx context.Context, s *Subscription) error) error {
	ctx, cancel := context.WithTimeout(ctx, checkupTimeout)
	defer cancel()
	s := b.Subscribe(t)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	select {
	case <-s.Ready():
		return f(ctx, s)
	case <-ctx.Done():
		return errors.Join(errors.New("not subscribed in time"), s.state.last())
	}
}

// canary is how long it takes from Send to the reader.
func (b *Bus) canary(ctx context.Context, a policies.Alarm) (took time.Duration, err error) {
	err = b.listen(ctx, policies.Topics{All: true}, func(ctx context.Context, s *Subscription) error {
		start := time.Now()
		if _, err := b.Send(ctx, a); err != nil {
			return err
		}
		for ctx.Err() == nil {
			for _, m := range s.Batch(ctx, 100, 0) {
				if got, err := policies.DecodeAlarm(m.Payload); err == nil && got.ID == a.ID {
					took = time.Since(start)
					return nil
				}
			}
		}
		return errors.New("published, and not received in time")
	})
	return took, err
}

func (b *Bus) subscribes(ctx context.Context, t policies.Topics) error {
	return b.listen(ctx, t, func(context.Context, *Subscription) error { return nil })
}

// mayStream sends an XADD with an id that no entry can have: what is refused for that alone would be allowed. An embedded bus takes
// another form only, and refuses nobody.
func (b *Bus) mayStream(ctx context.Context, say sayer) {
	ctx, cancel := context.WithTimeout(ctx, checkupTimeout)
	defer cancel()
	key := policies.StreamKey(b.prefix)
	err := b.client.Do(ctx, "XADD", key, "0-0", fieldChannel, "", fieldPayload, "").Err()
	switch {
	case errorKind(err) == "ERR":
		say(policies.HealthOK, "", "the stream %s may be written", key)
	case errorIs(err, "OOM"):
		say(policies.HealthWarning, "raise maxmemory of the bus server", "it is full: alarms go out, and a reader that is away misses them")
	default:
		say(policies.HealthWarning, grantBus, "the stream %s cannot be written, and a reader that is away misses alarms: %v", key, err)
	}
}

// mayPublish asks for each channel where the server has ACL DRYRUN; to publish on them would wake people.
func (b *Bus) mayPublish(ctx context.Context, say sayer) {
	ctx, cancel := context.WithTimeout(ctx, checkupTimeout)
	defer cancel()
	told, denied := 0, 0
	for _, s := range policies.Severities {
		channel := policies.Channel(b.prefix, s)
		answer, err := b.dryRun(ctx, "PUBLISH", channel, "x")
		if err != nil {
			continue
		}
		if told++; answer != "OK" {
			denied++
			say(policies.HealthError, grantBus, "publish to %s: %s", channel, answer)
		}
	}
	if told == len(policies.Severities) && denied == 0 {
		say(policies.HealthOK, "", "every channel may be published to")
	}
}

// dryRun asks whether this user may send a command: OK, or what stands against it.
func (b *Bus) dryRun(ctx context.Context, command ...any) (string, error) {
	user := cmp.Or(b.opt.Username, "default")
	return b.client.Do(ctx, append([]any{"ACL", "DRYRUN", user}, command...)...).Text()
}

// room looks at the memory of the bus, where INFO is allowed.
func (b *Bus) room(ctx context.Context, say sayer) {
	ctx, cancel := context.WithTimeout(ctx, checkupTimeout)
	defer cancel()
	if answer, err := b.dryRun(ctx, "INFO", "memory"); err == nil && answer != "OK" {
		return
	}
	text, err := b.client.Info(ctx, "memory").Result()
	if err != nil {
		return
	}
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[k] = v
		}
	}
	if limit := fields["maxmemory"]; limit != "" && limit != "0" && strings.HasPrefix(fields["maxmemory_policy"], "allkeys") {
		say(policies.HealthWarning, "use a volatile-* policy, noeviction, or a server of its own", "its maxmemory-policy %s may evict the stream of alarms", fields["maxmemory_policy"])
	}
}

// last is the newest fault of a link that does not work.
func (l *link) last() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
