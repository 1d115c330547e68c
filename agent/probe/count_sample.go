package probe

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// How many live keys are measured: of each kind (with a TTL, without) in each database sampleMost, or from sampleLeast on as many
// as tell their mean to a hundredth; sampleStep of one batch; sampleAll of all databases together.
const (
	sampleLeast = 300
	sampleMost  = 2000
	sampleStep  = 100
	sampleAll   = 8000
)

// sample measures some of a batch's keys, where that tells more, and returns the rest that is owed for it.
func (c *counter) sample(ctx context.Context, d *dbSize, names []string) (time.Duration, error) {
	if !d.wanted() {
		return 0, nil
	}
	return c.read(ctx, d, pick(names, min(sampleStep, sampleAll-c.out.Sampled)))
}

// pick moves so many of the names, chosen at random, to the front and returns these.
func pick(names []string, n int) []string {
	n = max(min(n, len(names)), 0)
	for i := range n {
		j := i + rand.IntN(len(names)-i)
		names[i], names[j] = names[j], names[i]
	}
	return names[:n]
}

// stroll measures keys from a random place on, until their mean is known.
func (c *counter) stroll(ctx context.Context, d *dbSize, until time.Time) error {
	for _, from := range []uint64{rand.Uint64(), 0} {
		if !d.wanted() {
			break
		}
		err := c.walk(ctx, from, until, func(names []string, _ uint64) (time.Duration, bool, error) {
			owed, err := c.sample(ctx, d, names)
			return owed, c.measure && d.wanted(), err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// survey measures all live keys, where the time is enough for that, when the expired keys were told to hold more than the live ones
// like them: it may as well be a few large live keys that no sample met.
func (c *counter) survey(ctx context.Context) error {
	if !c.measure || c.sizes.own <= c.sizes.sum(func(d *dbSize) float64 { return d.bytes })/10 {
		return nil
	}
	live := int(c.sizes.sum((*dbSize).live))
	if need := (1 + restFactor) * (c.pace.scans.cost(live) + c.pace.reads.cost(live)); need > time.Until(c.until) {
		return nil
	}
	for i, d := range c.sizes.dbs {
		if err := c.surveyDB(ctx, d, c.share(c.sizes.dbs[i:], (*dbSize).live)); err != nil {
			return err
		}
	}
	c.weigh()
	return nil
}

// surveyDB replaces the sample of a database by all its live keys, if it comes to the end.
func (c *counter) surveyDB(ctx context.Context, d *dbSize, until time.Time) error {
	if err := c.simple(ctx, redis.NewCmd(ctx, "select", d.index)); err != nil {
		return err
	}
	all, done := *d, false
	all.withTTL, all.plain = stratum{}, stratum{}
	err := c.walk(ctx, 0, until, func(names []string, next uint64) (time.Duration, bool, error) {
		for chunk := range slices.Chunk(names, sampleStep) {
			owed, err := c.read(ctx, &all, chunk)
			if err != nil || !c.measure {
				return 0, false, err
			}
			if err := c.pause(ctx, owed); err != nil {
				return 0, false, err
			}
		}
		done = next == 0 && time.Now().Before(c.until)
		return 0, true, nil
	})
	if done {
		*d = all
		d.all = true
	}
	return err
}

// read measures keys and returns the rest that is owed for it. A server that refuses ends the sampling, not the count.
func (c *counter) read(ctx context.Context, d *dbSize, names []string) (time.Duration, error) {
	if !c.measure || len(names) == 0 || time.Now().After(c.until) {
		return 0, nil
	}
	if err := c.askRole(ctx); err != nil {
		return 0, err
	}
	cmds := make([]redis.Cmder, 0, 2*len(names))
	for _, name := range names {
		cmds = append(cmds, redis.NewCmd(ctx, "pttl", name), redis.NewCmd(ctx, "memory", "usage", name))
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	start := time.Now()
	if err := c.s.pipeline(ctx, cmds...); err != nil {
		return 0, err
	}
	owed := c.pace.read(len(names), time.Since(start)-c.trip)
	for i, name := range names {
		c.take(d, len(name), cmds[2*i].(*redis.Cmd), cmds[2*i+1].(*redis.Cmd))
	}
	return owed, nil
}

// take counts one measured key in. left is -1 for one without a TTL, and what is not alive any more says nothing.
func (c *counter) take(d *dbSize, name int, pttl, usage *redis.Cmd) {
	left, err := pttl.Int64()
	size, err2 := usage.Int64()
	if denied := errors.Join(err, err2); denied != nil {
		c.measure = errors.Is(denied, redis.Nil) && c.measure // nil: the key is gone, which refuses nothing
		return
	}
	if left == 0 || left < -1 {
		return
	}
	c.out.Sampled++
	d.add(c.sizes.engine, name, size, left > 0)
}
