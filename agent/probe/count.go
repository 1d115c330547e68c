package probe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// ErrNotReplica stops a count: on a master SCAN deletes expired keys.
var ErrNotReplica = errors.New("the node is not a replica: SCAN would delete expired keys there")

// sampleSize is how many live volatile keys are measured for their size, sampleStep how many names of a batch are looked at for them.
const (
	sampleSize = 100
	sampleStep = 20
)

// CountOptions pace a count.
type CountOptions struct {
	Batch  int           // keys that one SCAN visits, about; 0: 500
	Budget time.Duration // for all databases together; 0: 10 s
}

// LiveCount is what a replica holds alive.
type LiveCount struct {
	RunID    string
	PerDB    map[int]DBCount
	Sampled  int                   // live volatile keys whose size was read
	MeanSize policies.Opt[float64] // bytes of one of them by MEMORY USAGE; unknown where that is refused or none was met
	Complete bool                  // every database with volatile keys was scanned to its end
	Took     time.Duration
	Longest  time.Duration // of one SCAN, round trip included
}

// DBCount is one database of a LiveCount.
type DBCount struct {
	DBSize   int64   // keys at the end of the scan, the expired ones included
	Returned int64   // names that SCAN returned: keys alive, some twice when the table was resized meanwhile
	Share    float64 // of the table that was visited: 1 is all of it
}

// Expired is the number of expired keys in the database: exact when Share is 1 and nothing was written meanwhile,
// else estimated from the part that was visited. Unknown when less than a hundredth of the table was.
func (c DBCount) Expired() policies.Opt[int64] {
	if c.Share < 0.01 {
		return policies.Opt[int64]{}
	}
	live := math.Round(float64(c.Returned) / c.Share)
	return policies.Known(max(c.DBSize-int64(live), 0))
}

// Expired is the sum over all databases; unknown when one of them is.
func (l LiveCount) Expired() policies.Opt[int64] {
	var sum int64
	for _, db := range l.PerDB {
		n := db.Expired()
		if !n.Known {
			return n
		}
		sum += n.V
	}
	return policies.Known(sum)
}

// CountLive counts the keys alive in every database that holds volatile ones: DBSIZE less that is the number of
// expired keys, which a replica does not show and does not delete. It runs on a connection of its own, asks ROLE there
// right before each batch, and fails with ErrNotReplica when the node is a master or becomes one. Names are counted
// and dropped. It is safe for concurrent use.
func (p *Prober) CountLive(ctx context.Context, o CountOptions) (LiveCount, error) {
	if o.Batch <= 0 {
		o.Batch = 500
	}
	if o.Budget <= 0 {
		o.Budget = 10 * time.Second
	}
	start := time.Now()
	c := &counter{p: p, s: p.open(true), batch: o.Batch, until: start.Add(o.Budget), measure: true}
	defer c.s.close()
	err := c.all(ctx)
	c.out.Took = time.Since(start)
	if err != nil {
		return LiveCount{}, fmt.Errorf("count live keys on %s/%s: %w", p.opt.Instance, p.opt.Node.Name, err)
	}
	if c.out.Sampled > 0 {
		c.out.MeanSize = policies.Known(float64(c.bytes) / float64(c.out.Sampled))
	}
	return c.out, nil
}

// A counter is one count under way.
type counter struct {
	p       *Prober
	s       *session
	batch   int
	until   time.Time
	measure bool // MEMORY USAGE and PTTL are allowed, as far as known
	bytes   int64
	out     LiveCount
}

func (c *counter) all(ctx context.Context) error {
	if err := c.askRole(ctx); err != nil {
		return err
	}
	in, err := c.keyspace(ctx)
	if err != nil {
		return err
	}
	c.out.RunID, c.out.PerDB, c.out.Complete = in.fields["run_id"], map[int]DBCount{}, true
	for _, db := range in.keyspace() {
		if db.Expires == 0 {
			continue
		}
		if err := c.db(ctx, db.Index); err != nil {
			return fmt.Errorf("db%d: %w", db.Index, err)
		}
	}
	return nil
}

// bounded gives one command the timeout of a probe.
func (c *counter) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.p.opt.Timeout)
}

func (c *counter) keyspace(ctx context.Context) (info, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	var text string
	for _, section := range []string{"server", "keyspace"} {
		part, err := c.s.client.Info(ctx, section).Result()
		if err != nil {
			return info{}, err
		}
		text += part + "\r\n"
	}
	in := parseInfo(text)
	if !in.isNode() || !in.sections["keyspace"] {
		return info{}, oddity("INFO shows no keyspace")
	}
	return in, nil
}

// askRole opens the guard for one more read that only a replica may be asked.
func (c *counter) askRole(ctx context.Context) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	cmd := redis.NewCmd(ctx, "role")
	if err := c.s.client.Process(ctx, cmd); err != nil {
		return err
	}
	r, _, err := roleOf(cmd)
	if err == nil && r != policies.RoleReplica {
		err = ErrNotReplica
	}
	return err
}

// db scans one database, to its end or until the budget is used up.
func (c *counter) db(ctx context.Context, index int) error {
	if err := c.simple(ctx, redis.NewCmd(ctx, "select", index)); err != nil {
		return err
	}
	n, err := c.walk(ctx)
	if err != nil {
		return err
	}
	size := redis.NewCmd(ctx, "dbsize")
	if err := c.simple(ctx, size); err != nil {
		return err
	}
	if n.DBSize, err = size.Int64(); err != nil {
		return err
	}
	c.out.PerDB[index] = n
	c.out.Complete = c.out.Complete && n.Share == 1
	return nil
}

func (c *counter) walk(ctx context.Context) (n DBCount, err error) {
	var cursor uint64
	for time.Now().Before(c.until) {
		names, next, took, err := c.scan(ctx, cursor)
		if err != nil {
			return n, err
		}
		n.Returned += int64(len(names))
		cursor, n.Share = next, visited(next)
		if err := c.sample(ctx, names); err != nil {
			return n, err
		}
		if cursor == 0 {
			return n, nil
		}
		if err := rest(ctx, took); err != nil {
			return n, err
		}
	}
	return n, nil
}

// visited is the share of the table that lies behind a cursor: SCAN counts it up with its bits reversed, so that a
// cursor read backwards is a binary fraction.
func visited(cursor uint64) float64 {
	if cursor == 0 {
		return 1
	}
	return float64(bits.Reverse64(cursor)) / math.Exp2(64)
}

func (c *counter) scan(ctx context.Context, cursor uint64) ([]string, uint64, time.Duration, error) {
	if err := c.askRole(ctx); err != nil {
		return nil, 0, 0, err
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	start := time.Now()
	names, next, err := c.s.client.Scan(ctx, cursor, "", int64(c.batch)).Result()
	took := time.Since(start)
	c.out.Longest = max(c.out.Longest, took)
	return names, next, took, err
}

func (c *counter) simple(ctx context.Context, cmd *redis.Cmd) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	return c.s.client.Process(ctx, cmd)
}

// sample measures some of a batch's volatile keys. A server that refuses ends the sampling, not the count.
func (c *counter) sample(ctx context.Context, names []string) error {
	if !c.measure || c.out.Sampled >= sampleSize || len(names) == 0 {
		return nil
	}
	if err := c.askRole(ctx); err != nil {
		return err
	}
	names = names[:min(len(names), sampleStep, sampleSize-c.out.Sampled)]
	var cmds []redis.Cmder
	for _, name := range names {
		cmds = append(cmds, redis.NewCmd(ctx, "pttl", name), redis.NewCmd(ctx, "memory", "usage", name))
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	if err := c.s.pipeline(ctx, cmds...); err != nil {
		return err
	}
	for i := 0; i < len(cmds); i += 2 {
		c.take(cmds[i].(*redis.Cmd), cmds[i+1].(*redis.Cmd))
	}
	return nil
}

func (c *counter) take(pttl, usage *redis.Cmd) {
	left, err := pttl.Int64()
	size, err2 := usage.Int64()
	if denied := errors.Join(err, err2); denied != nil {
		c.measure = errors.Is(denied, redis.Nil) && c.measure // nil: the key is gone, which refuses nothing
		return
	}
	if left > 0 {
		c.out.Sampled++
		c.bytes += size
	}
}

// rest gives the replica as much time for others as the last call took.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
