package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// parcel is one alarm on its way, with what is to be done with it and what came of that.
type parcel struct {
	alarm        policies.Alarm
	publish, add bool

	receivers int64
	pubErr    error // a *policies.MalformedAlarm can never be published
	addErr    error
}

// carry publishes and adds to the stream in one round trip, in the order of the batch, within 5 s.
func (b *Bus) carry(ctx context.Context, batch []parcel) {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	pipe := b.client.Pipeline()
	pubs, adds := make([]*redis.IntCmd, len(batch)), make([]*redis.StringCmd, len(batch))
	for i := range batch {
		p := &batch[i]
		payload, err := b.Encode(p.alarm)
		if err != nil {
			p.pubErr, p.addErr = err, err
			continue
		}
		channel := p.alarm.Channel(b.prefix)
		if p.publish {
			pubs[i] = pipe.Publish(ctx, channel, payload)
		}
		if p.add && p.alarm.Metric != policies.MetricCanary {
			adds[i] = b.addToStream(ctx, pipe, channel, payload)
		}
	}
	cmds, err := pipe.Exec(ctx)
	whole := err != nil && !anyFailed(cmds) // of the connection (a wrong password, no more clients): nothing was sent
	for i := range batch {
		p := &batch[i]
		switch {
		case pubs[i] == nil:
		case whole:
			p.pubErr = b.publishError(ctx, p, err)
		case pubs[i].Err() != nil:
			p.pubErr = b.publishError(ctx, p, pubs[i].Err())
		default:
			p.receivers = pubs[i].Val()
		}
		switch {
		case adds[i] == nil:
		case whole:
			p.addErr = err
		default:
			p.addErr = adds[i].Err()
		}
	}
}

func (b *Bus) publishError(ctx context.Context, p *parcel, err error) error {
	return fmt.Errorf("publish to %s on bus %s: %w", p.alarm.Channel(b.prefix), b.Addr(), errors.Join(err, ctx.Err()))
}

func anyFailed(cmds []redis.Cmder) bool {
	for _, c := range cmds {
		if c.Err() != nil {
			return true
		}
	}
	return false
}

// isForGood reports a refusal that no later try will change: to be tried again it takes other rights, or another server.
func isForGood(err error) bool {
	for _, kind := range []string{"NOPERM", "WRONGTYPE", "ERR"} {
		if errorIs(err, kind) {
			return true
		}
	}
	return errorIs(err, "unknown-command")
}
