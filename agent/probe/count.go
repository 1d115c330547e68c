package probe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// ErrNotReplica stops a count: on a master SCAN deletes expired keys.
var ErrNotReplica = errors.New("the node is not a replica: SCAN would delete expired keys there")

// CountOptions pace a count.
type CountOptions struct {
	Batch  int           // the most keys that one SCAN is asked to visit: it begins with few and goes by what a call takes; 0: 1000
	Budget time.Duration // for all databases together, each by its keys, after which no batch begins; 0: 10 s
}

// budgetGrace is what a command may take beyond the budget before the count fails.
const budgetGrace = time.Second

// LiveCount is what a replica holds alive.
type LiveCount struct {
	RunID    string
	PerDB    map[int]DBCount
	Sampled  int                   // live keys whose size was read, with and without a TTL
	MeanSize policies.Opt[float64] // bytes that one expired key holds, about: Bytes over Expired; LiveSize where none is expired
	LiveSize policies.Opt[float64] // bytes that one live key with a TTL holds, its entries in the tables included
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
	c := &counter{p: p, s: p.open(true), pace: newPace(o.Batch), until: until, measure: true}
	defer c.s.close()
	err := c.all(ctx)
	c.out.Took = time.Since(start)
	if err != nil {
		return LiveCount{}, fmt.Errorf("count live keys on %s/%s: %w", p.opt.Instance, p.opt.Node.Name, err)
	}
	return c.out, nil
}

// A counter is one count under way.
type counter struct {
	p       *Prober
	s       *session
	pace    *pace
	until   time.Time
	trip    time.Duration // the least round trip of ROLE: what a call takes beyond the work of the server
	measure bool          // MEMORY USAGE and PTTL are allowed, as far as known
	sizes   sizes
	out     LiveCount
}

func (c *counter) all(ctx context.Context) error {
	if err := c.askRole(ctx); err != nil {
		return err
	}
	if err := c.begin(ctx); err != nil {
		return err
	}
	for i, d := range c.sizes.dbs {
		if err := c.db(ctx, d, c.share(c.sizes.dbs[i:], (*dbSize).visits)); err != nil {
			return fmt.Errorf("db%d: %w", d.index, err)
		}
	}
	c.weigh()
	if err := c.survey(ctx); errors.Is(err, ErrNotReplica) {
		return err
	}
	return nil // without the survey the count stands
}

// begin reads the keyspace and what tells of its memory.
func (c *counter) begin(ctx context.Context) error {
	in, err := c.info(ctx, "server", "keyspace", "commandstats", "memory")
	if err != nil {
		return err
	}
	if !in.isNode() || !in.sections["keyspace"] {
		return oddity("INFO shows no keyspace")
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

// info reads INFO sections one a time: servers before 7.0 take no more.
func (c *counter) info(ctx context.Context, sections ...string) (info, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	var text strings.Builder
	for _, section := range sections {
		part, err := c.s.client.Info(ctx, section).Result()
		if err != nil {
			return info{}, err
		}
		text.WriteString(part + "\r\n")
	}
	return parseInfo(text.String()), nil
}

// bounded gives one command the timeout of a probe, cut off soon after the end of the budget.
func (c *counter) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	end, last := time.Now().Add(c.p.opt.Timeout), c.until.Add(budgetGrace)
	if last.Before(end) {
		end = last
	}
	return context.WithDeadline(ctx, end)
}

// share is when the first of the databases has had its part of the time, which goes by the keys to be visited.
func (c *counter) share(dbs []*dbSize, visits func(*dbSize) float64) time.Time {
	var all float64
	for _, d := range dbs {
		all += visits(d)
	}
	return time.Now().Add(time.Duration(float64(time.Until(c.until)) * visits(dbs[0]) / max(all, 1)))
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

// db scans one database, to its end or until its part of the budget is used up. One without volatile keys is only sampled.
func (c *counter) db(ctx context.Context, d *dbSize, until time.Time) error {
	if d.volatile == 0 && (!c.measure || !c.sizes.dataset.Known) {
		return nil // of no use for the sizes
	}
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
	n := DBCount{Volatile: d.volatile}
	err = c.walk(ctx, 0, until, func(names []string, next uint64) (time.Duration, bool, error) {
		n.Returned += int64(len(names))
		n.Share = visited(next)
		owed, err := c.sample(ctx, d, names)
		return owed, true, err
	})
	if err != nil {
		return err
	}
	after, err := c.dbsize(ctx)
	if err != nil {
		return err
	}
	n.DBSize = (before + after) / 2
	c.out.PerDB[d.index] = n
	c.out.Complete = c.out.Complete && n.Share == 1
	d.keys, d.expired = n.DBSize, n.Expired().V
	return nil
}

// walk visits the database from a cursor on, to its end, until a time, or while each says so. each returns the rest that it owes.
func (c *counter) walk(ctx context.Context, cursor uint64, until time.Time, each func([]string, uint64) (time.Duration, bool, error)) error {
	for time.Now().Before(until) {
		names, next, took, err := c.scan(ctx, cursor)
		if err != nil {
			return err
		}
		owed, more, err := each(names, next)
		if err != nil || !more || next == 0 {
			return err
		}
		cursor = next
		if err := c.pause(ctx, c.pace.scanned(took)+owed); err != nil {
			return err
		}
	}
	return nil
}

// scan returns some names, the next cursor, and what the call took beside the round trip.
func (c *counter) scan(ctx context.Context, cursor uint64) ([]string, uint64, time.Duration, error) {
	if err := c.askRole(ctx); err != nil {
		return nil, 0, 0, err
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	start := time.Now()
	names, next, err := c.s.client.Scan(ctx, cursor, "", int64(c.pace.count)).Result()
	took := time.Since(start)
	c.out.Longest = max(c.out.Longest, took)
	return names, next, took - c.trip, err
}

// pause leaves the replica to others for as long as is owed, but not beyond the budget.
func (c *counter) pause(ctx context.Context, owed time.Duration) error {
	return rest(ctx, min(max(owed, leastRest), max(time.Until(c.until), 0)))
}

func (c *counter) simple(ctx context.Context, cmd *redis.Cmd) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	return c.s.client.Process(ctx, cmd)
}

func (c *counter) dbsize(ctx context.Context) (int64, error) {
	cmd := redis.NewCmd(ctx, "dbsize")
	if err := c.simple(ctx, cmd); err != nil {
		return 0, err
	}
	return cmd.Int64()
}

// weigh tells the bytes of the keys that were counted. The memory of the data set tells nothing while a database is unknown.
func (c *counter) weigh() {
	for _, d := range c.sizes.dbs {
		if d.volatile > 0 && !c.out.PerDB[d.index].Expired().Known {
			c.sizes.dataset = policies.Opt[float64]{}
		}
	}
	c.out.Method = c.sizes.weigh()
	if c.out.Method == "" {
		return
	}
	for _, d := range c.sizes.dbs {
		n, counted := c.out.PerDB[d.index]
		if counted && n.Expired().Known {
			n.Bytes = policies.Known(int64(d.bytes))
			c.out.PerDB[d.index] = n
		}
	}
	c.out.MeanSize, c.out.LiveSize = c.sizes.meanSize(), c.sizes.liveSize()
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
