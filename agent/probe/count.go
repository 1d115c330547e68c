package probe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// ErrNotReplica stops a count: on a master SCAN deletes expired keys.
var ErrNotReplica = errors.New("the node is not a replica: SCAN would delete expired keys there")

// How many live keys are measured: of each kind (with a TTL, without) in each database sampleMost, or from sampleLeast on as many
// as tell their mean to a hundredth; sampleStep of one batch; sampleAll of all databases together.
const (
	sampleLeast = 300
	sampleMost  = 2000
	sampleStep  = 100
	sampleAll   = 8000
)

// CountOptions pace a count.
type CountOptions struct {
	Batch  int           // the most keys that one SCAN is asked to visit; it begins with few and follows the time that a call takes. 0: 1000
	Budget time.Duration // for all databases together, each by its keys; 0: 10 s. No command begins after it; one under way may end by budgetGrace
}

// budgetGrace is what a command that began within the budget may take beyond it before the count fails.
const budgetGrace = 250 * time.Millisecond

// LiveCount is what a replica holds alive.
type LiveCount struct {
	RunID    string
	PerDB    map[int]DBCount
	Sampled  int                   // live keys whose size was read, with and without a TTL
	MeanSize policies.Opt[float64] // bytes that one expired key holds, about: Bytes over Expired, or of a live key with a TTL where none is expired
	Method   string                // how the bytes were told; "" where they are unknown
	Complete bool                  // every database with volatile keys was scanned to its end
	Took     time.Duration
	Longest  time.Duration // of one SCAN, round trip included
}

// DBCount is one database of a LiveCount.
type DBCount struct {
	DBSize   int64               // keys, the expired ones included: the mean of before and after the scan
	Volatile int64               // keys with a TTL, the expired ones included
	Returned int64               // names that SCAN returned: keys alive, some twice when the table was resized meanwhile
	Share    float64             // of the table that was visited: 1 is all of it
	Bytes    policies.Opt[int64] // what comes free when its expired keys are deleted and the tables have settled: about
}

// Expired is the number of expired keys in the database: exact when Share is 1 and nothing was written meanwhile,
// else estimated from the part that was visited. Unknown when less than a hundredth of the table was.
func (c DBCount) Expired() policies.Opt[int64] {
	if c.Share < 0.01 {
		return policies.Opt[int64]{}
	}
	live := math.Round(float64(c.Returned) / c.Share)
	return policies.Known(min(max(c.DBSize-int64(live), 0), c.Volatile))
}

// Expired is the sum over all databases; unknown when one of them is.
func (l LiveCount) Expired() policies.Opt[int64] { return l.sum(DBCount.Expired) }

// Bytes is what the deletion of all expired keys gives back of used_memory, about; unknown when one database is.
func (l LiveCount) Bytes() policies.Opt[int64] {
	return l.sum(func(c DBCount) policies.Opt[int64] { return c.Bytes })
}

func (l LiveCount) sum(of func(DBCount) policies.Opt[int64]) policies.Opt[int64] {
	var sum int64
	for _, db := range l.PerDB {
		n := of(db)
		if !n.Known {
			return n
		}
		sum += n.V
	}
	return policies.Known(sum)
}

// CountLive counts the keys alive in every database that holds volatile ones: DBSIZE less that is the number of
// expired keys, which a replica does not show and does not delete. It runs on a connection of its own, asks ROLE there
// right before each batch, rests so that the replica spends a quarter of its time on it at most, and fails with
// ErrNotReplica when the node is a master or becomes one. Names are counted, some of them measured, and dropped. It is
// safe for concurrent use.
func (p *Prober) CountLive(ctx context.Context, o CountOptions) (LiveCount, error) {
	if o.Batch <= 0 {
		o.Batch = mostBatch
	}
	if o.Budget <= 0 {
		o.Budget = 10 * time.Second
	}
	start := time.Now()
	until := start.Add(o.Budget)
	c := &liveCounter{counter: counter{p: p, s: p.open(true), until: until, cut: until.Add(budgetGrace)}, pace: newPace(o.Batch), measure: true}
	defer c.s.close()
	err := c.all(ctx)
	c.out.Took, c.out.Longest = time.Since(start), c.longest
	if err != nil {
		return LiveCount{}, fmt.Errorf("count live keys on %s/%s: %w", p.opt.Instance, p.opt.Node.Name, err)
	}
	return c.out, nil
}

// A counter walks the keys of a replica over a connection of its own.
type counter struct {
	p       *Prober
	s       *session
	batch   int           // keys that the next SCAN is asked to visit
	until   time.Time     // no batch begins after it
	cut     time.Time     // no command goes on after it; zero: for as long as a probe may take
	trip    time.Duration // the least round trip of ROLE
	longest time.Duration // of one SCAN
	bytes   int64         // of the keys that were measured
}

// keyspace reads INFO server and keyspace, and further sections, one a time: servers before 7.0 take no more.
func (c *counter) keyspace(ctx context.Context, more ...string) (info, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	var text strings.Builder
	for _, section := range append([]string{"server", "keyspace"}, more...) {
		part, err := c.s.client.Info(ctx, section).Result()
		if err != nil {
			return info{}, err
		}
		text.WriteString(part + "\r\n")
	}
	in := parseInfo(text.String())
	if !in.isNode() || !in.sections["keyspace"] {
		return info{}, oddity("INFO shows no keyspace")
	}
	return in, nil
}

// bounded gives one command the timeout of a probe.
func (c *counter) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	end := time.Now().Add(c.p.opt.Timeout)
	if !c.cut.IsZero() && c.cut.Before(end) {
		end = c.cut
	}
	return context.WithDeadline(ctx, end)
}

// askRole opens the guard for one more read that only a replica may be asked.
func (c *counter) askRole(ctx context.Context) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	cmd, start := redis.NewCmd(ctx, "role"), time.Now()
	if err := c.s.client.Process(ctx, cmd); err != nil {
		return err
	}
	if took := time.Since(start); c.trip == 0 || took < c.trip {
		c.trip = took
	}
	r, _, err := roleOf(cmd)
	if err == nil && r != policies.RoleReplica {
		err = ErrNotReplica
	}
	return err
}

// scan asks for the role and visits one batch.
func (c *counter) scan(ctx context.Context, cursor uint64) ([]string, uint64, time.Duration, error) {
	if err := c.askRole(ctx); err != nil {
		return nil, 0, 0, err
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	start := time.Now()
	names, next, err := c.s.client.Scan(ctx, cursor, "", int64(c.batch)).Result()
	took := time.Since(start)
	c.longest = max(c.longest, took)
	return names, next, took, err
}

func (c *counter) simple(ctx context.Context, cmd *redis.Cmd) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	return c.s.client.Process(ctx, cmd)
}

// visited is the share of the table that lies behind a cursor: SCAN counts it up with its bits reversed, so that a
// cursor read backwards is a binary fraction.
func visited(cursor uint64) float64 {
	if cursor == 0 {
		return 1
	}
	return float64(bits.Reverse64(cursor)) / math.Exp2(64)
}

// rest leaves the replica to others.
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

// A liveCounter is one count under way.
type liveCounter struct {
	counter
	pace    *pace
	measure bool // MEMORY USAGE and PTTL are allowed, as far as known
	sizes   sizes
	out     LiveCount
}

func (c *liveCounter) all(ctx context.Context) error {
	if err := c.askRole(ctx); err != nil {
		return err
	}
	if err := c.begin(ctx); err != nil {
		return err
	}
	for i, d := range c.sizes.dbs {
		if d.volatile == 0 && (!c.measure || !c.sizes.dataset.Known) {
			continue // of no use for the sizes
		}
		if err := c.db(ctx, d, c.share(c.sizes.dbs[i:])); err != nil {
			return fmt.Errorf("db%d: %w", d.index, err)
		}
	}
	c.weigh()
	return nil
}

// begin reads the keyspace and what tells of its memory.
func (c *liveCounter) begin(ctx context.Context) error {
	in, err := c.keyspace(ctx, "commandstats", "memory")
	if err != nil {
		return err
	}
	c.out.RunID, c.out.PerDB, c.out.Complete = in.fields["run_id"], map[int]DBCount{}, true
	c.sizes = newSizes(in)
	stats := redis.NewCmd(ctx, "memory", "stats")
	if err := c.simple(ctx, stats); err != nil && !isReply(err) {
		return err
	}
	if reply, err := stats.Slice(); err == nil && in.int("lazyfree_pending_objects").Or(0) == 0 {
		c.sizes.fill(reply)
	}
	return nil
}

// share is when the first of the databases has had its part of the time, which goes by the keys to be visited.
func (c *liveCounter) share(dbs []*dbSize) time.Time {
	var all float64
	for _, d := range dbs {
		all += d.visits()
	}
	left := time.Until(c.until)
	return time.Now().Add(time.Duration(float64(left) * dbs[0].visits() / max(all, 1)))
}

// db scans one database, to its end or until its part of the budget is used up. One without volatile keys is only sampled.
func (c *liveCounter) db(ctx context.Context, d *dbSize, until time.Time) error {
	if err := c.simple(ctx, redis.NewCmd(ctx, "select", d.index)); err != nil {
		return err
	}
	if d.volatile == 0 {
		return c.stroll(ctx, d, until)
	}
	before, err := c.dbsize(ctx)
	if err != nil {
		return err
	}
	n, err := c.walk(ctx, d, until)
	if err != nil {
		return err
	}
	after, err := c.dbsize(ctx)
	if err != nil {
		return err
	}
	n.DBSize, n.Volatile = (before+after)/2, d.volatile
	c.out.PerDB[d.index] = n
	c.out.Complete = c.out.Complete && n.Share == 1
	d.keys, d.expired = n.DBSize, n.Expired().V
	return nil
}

// stroll measures keys from a random place on, until their mean is known.
func (c *liveCounter) stroll(ctx context.Context, d *dbSize, until time.Time) error {
	cursor := rand.Uint64()
	for wrapped := false; d.wanted() && c.measure && time.Now().Before(until); {
		names, next, owed, err := c.visit(ctx, cursor)
		if err != nil {
			return err
		}
		more, err := c.sample(ctx, d, names)
		if err != nil {
			return err
		}
		if next == 0 && wrapped {
			return nil
		}
		cursor, wrapped = next, wrapped || next == 0
		if err := c.pause(ctx, owed+more); err != nil {
			return err
		}
	}
	return nil
}

func (c *liveCounter) walk(ctx context.Context, d *dbSize, until time.Time) (n DBCount, err error) {
	var cursor uint64
	for time.Now().Before(until) {
		names, next, owed, err := c.visit(ctx, cursor)
		if err != nil {
			return n, err
		}
		n.Returned += int64(len(names))
		cursor, n.Share = next, visited(next)
		more, err := c.sample(ctx, d, names)
		if err != nil {
			return n, err
		}
		if cursor == 0 {
			return n, nil
		}
		if err := c.pause(ctx, owed+more); err != nil {
			return n, err
		}
	}
	return n, nil
}

// visit scans a batch and returns the rest that is owed for it.
func (c *liveCounter) visit(ctx context.Context, cursor uint64) ([]string, uint64, time.Duration, error) {
	c.batch = c.pace.count
	names, next, took, err := c.scan(ctx, cursor)
	return names, next, c.pace.scanned(took - c.trip), err
}

// pause leaves the replica to others for as long as is owed, but not beyond the budget.
func (c *liveCounter) pause(ctx context.Context, owed time.Duration) error {
	return rest(ctx, min(max(owed, leastRest), max(time.Until(c.until), 0)))
}

func (c *liveCounter) dbsize(ctx context.Context) (int64, error) {
	cmd := redis.NewCmd(ctx, "dbsize")
	if err := c.simple(ctx, cmd); err != nil {
		return 0, err
	}
	return cmd.Int64()
}

// sample measures some of a batch's keys, and returns the rest that is owed for it. A server that refuses ends the
// sampling, not the count.
func (c *liveCounter) sample(ctx context.Context, d *dbSize, names []string) (time.Duration, error) {
	names = pick(names, min(sampleStep, sampleAll-c.out.Sampled))
	if !c.measure || !d.wanted() || len(names) == 0 || time.Now().After(c.until) {
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

// pick moves so many of the names, chosen at random, to the front and returns these.
func pick(names []string, n int) []string {
	n = max(min(n, len(names)), 0)
	for i := range n {
		j := i + rand.IntN(len(names)-i)
		names[i], names[j] = names[j], names[i]
	}
	return names[:n]
}

// take counts one measured key in. left is -1 for one without a TTL, and what is not alive any more says nothing.
func (c *liveCounter) take(d *dbSize, name int, pttl, usage *redis.Cmd) {
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

// weigh tells the bytes of the keys that were counted. The memory of the data set tells nothing while a database is unknown.
func (c *liveCounter) weigh() {
	for _, d := range c.sizes.dbs {
		if d.volatile > 0 && !c.out.PerDB[d.index].Expired().Known {
			c.sizes.dataset = policies.Opt[float64]{}
		}
	}
	method := c.sizes.weigh()
	if method == "" {
		return
	}
	c.out.Method = method
	for _, d := range c.sizes.dbs {
		n, counted := c.out.PerDB[d.index]
		if counted && n.Expired().Known {
			n.Bytes = policies.Known(int64(d.bytes))
			c.out.PerDB[d.index] = n
		}
	}
	c.out.MeanSize = c.sizes.meanSize()
}
