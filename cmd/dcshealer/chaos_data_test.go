package main

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// The master comes back with a snapshot of an early moment, and the promoted replica holds what came after it.
func chaosMasterOlder(t *testing.T, f *chaosFleet) {
	m, n := f.nodes[chaosMaster], f.nodes[chaosReplica]
	m.do(t, "SAVE")
	m.do(t, "EVAL", "for i = 1, 500 do redis.call('SET', 'later:' .. i, i) end return 1", 0)
	f.awaitInStep(t)
	f.awaitReadings(t, 2)
	f.kill(t, chaosMaster)
	n.promote(t)
	data := n.standing(t)
	f.refused(t, chaosReplica, policies.CauseMasterDown, policies.GuardMasterSafe)
	f.startAgain(t, chaosMaster)
	f.awaitSame(t, chaosOther) // which follows it and loses the later keys
	if keys := m.do(t, "DBSIZE"); keys != int64(250) {
		t.Fatalf("the master is back with %v keys, want the 250 of its snapshot", keys)
	}
	r := f.refused(t, chaosReplica, policies.CausePromoted, policies.GuardMasterSafe)
	f.op.awaitLine(t, "lost its history since")
	if f.live {
		f.healByHand(t, exitDenied, "--allow-lost-writes", chaosReplica)
	}
	if now := n.standing(t); now != data {
		t.Errorf("the last copy of the data was %+v and is %+v", data, now)
	}
	f.restoreFrom(t, chaosReplica)
	f.backWithoutUs(t, r)
}

// A master that was flushed goes on with the same history: only the keys tell that the replica holds the last copy.
func chaosMasterFlushed(t *testing.T, f *chaosFleet) {
	n := f.nodes[chaosReplica]
	n.promote(t)
	data := n.standing(t)
	_, err := f.nodes[chaosMaster].db.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
		p.FlushAll(t.Context())
		p.MSet(t.Context(), "new:1", "a", "new:2", "b", "new:3", "c")
		return nil
	})
	if err != nil {
		t.Fatalf("flush the master: %v", err)
	}
	f.awaitSame(t, chaosOther)
	r := f.refused(t, chaosReplica, policies.CausePromoted, policies.GuardNoLostWrites)
	f.because(t, chaosReplica, policies.GuardNoLostWrites, "holds 250 keys and the master master only 3")
	if now := n.standing(t); now != data {
		t.Errorf("the last copy of the data was %+v and is %+v", data, now)
	}
	f.restoreFrom(t, chaosReplica)
	f.backWithoutUs(t, r)
}

// chaosKnown is how many readings of a replica let the operator tell later whether it took a write: it believes a count of changes when the
// last save before it is 2 s old.
const chaosKnown = 6

// chaosMortal is how many keys expire in the moment of the promotion.
const chaosMortal = 50

// expireThere gives the instance keys that have expired and stay in memory: a replica does not delete by itself, and the master is
// told not to. A promoted replica deletes them at once.
func (f *chaosFleet) expireThere(t *testing.T) {
	t.Helper()
	m := f.nodes[chaosMaster]
	m.do(t, "DEBUG", "SET-ACTIVE-EXPIRE", "0")
	_, err := m.db.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := range chaosMortal {
			p.Set(t.Context(), "mortal:"+strconv.Itoa(i), "soon gone", 100*time.Millisecond)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("write mortal keys: %v", err)
	}
	f.awaitInStep(t)
	f.awaitReadings(t, chaosKnown) // by then they have expired
	if keys := f.nodes[chaosReplica].do(t, "DBSIZE"); keys != int64(250+chaosMortal) {
		t.Fatalf("the replica holds %v keys before the promotion, want the %d expired ones, too", keys, chaosMortal)
	}
}

// grown reads what a promoted node added to its history, in bytes.
func (n *chaosNode) grown(t *testing.T) int64 {
	t.Helper()
	return n.number(t, "master_repl_offset") - (n.number(t, "second_repl_offset") - 1)
}

// The history of the promoted replica grows by deletions, which are no client's writes.
func chaosExpiredThere(t *testing.T, f *chaosFleet) {
	n := f.nodes[chaosReplica]
	f.expireThere(t)
	changes := n.number(t, "rdb_changes_since_last_save")
	n.promote(t)
	if !f.live { // the twin has the time to see all of them gone
		n.awaitKeys(t, 250)
		if grown, now := n.grown(t), n.number(t, "rdb_changes_since_last_save"); grown < chaosMortal || now != changes {
			t.Errorf("the history grew by %d bytes, and the count of changes went from %d to %d: want growth without a change", grown, changes, now)
		}
	}
	f.repaired(t, chaosReplica, policies.CausePromoted)
	f.putRightExpired(t)
}

// putRightExpired ends a scenario with expired keys: the master deletes them, and so its replicas.
func (f *chaosFleet) putRightExpired(t *testing.T) {
	t.Helper()
	f.nodes[chaosMaster].do(t, "DEBUG", "SET-ACTIVE-EXPIRE", "1")
	f.putRight(t, chaosReplica)
	f.nodes[chaosMaster].awaitKeys(t, 250)
	f.awaitInStep(t)
}

func (n *chaosNode) awaitKeys(t *testing.T, want int64) {
	t.Helper()
	chaosAwait(t, fmt.Sprintf("%s to hold %d keys", n.name, want), func(ctx context.Context) error {
		if keys, err := n.db.DBSize(ctx).Result(); err != nil || keys != want {
			return fmt.Errorf("it holds %d, %v", keys, err)
		}
		return nil
	})
}

// One write among the deletions: the number of keys is the same, and the write is not hidden by them.
func chaosExpiredAndWritten(t *testing.T, f *chaosFleet) {
	n := f.nodes[chaosReplica]
	f.expireThere(t)
	n.promote(t, []any{"SET", "key:0", "another value"})
	n.awaitKeys(t, 250)
	r := f.refused(t, chaosReplica, policies.CausePromotedWithWrites, policies.GuardNoLostWrites)
	if got := n.do(t, "GET", "key:0"); got != "another value" {
		t.Errorf("the write on the promoted replica is %v now", got)
	}
	f.follow(t, chaosReplica, chaosMaster)
	f.nodes[chaosMaster].do(t, "DEBUG", "SET-ACTIVE-EXPIRE", "1")
	f.backByPerson(t, r)
}

// What a writable replica took shows in no offset. A person carries it over before giving it up.
func chaosWritablePromoted(t *testing.T, f *chaosFleet) {
	n := f.nodes[chaosReplica]
	n.do(t, "CONFIG", "SET", "replica-read-only", "no")
	n.do(t, "SET", "own", "key")
	n.promote(t)
	if grown := n.grown(t); grown != 0 {
		t.Fatalf("the history grew by %d bytes: the write shows, and something else is tested", grown)
	}
	r := f.refused(t, chaosReplica, policies.CausePromoted, policies.GuardNoLostWrites)
	f.because(t, chaosReplica, policies.GuardNoLostWrites, "replica-read-only no")
	if got := n.do(t, "GET", "own"); got != "key" {
		t.Errorf("the own key of the replica is %v now", got)
	}
	f.nodes[chaosMaster].do(t, "SET", "own", "key")
	if f.live {
		f.healByHand(t, exitDone, "--allow-lost-writes", chaosReplica)
		f.wrote[chaosReplica] = []string{"REPLICAOF master 6379"}
	}
	f.putRight(t, chaosReplica)
	if !f.live {
		f.backByPerson(t, r)
	}
}

// chaosLoad is a client that writes without a pause until it is told to stop.
type chaosLoad struct {
	cancel        context.CancelFunc
	done          chan struct{}
	writes, incrs atomic.Int64
	mortal        atomic.Bool // EXPIRE gives half of the keys a second, else an hour
	failed        []error     // to be read after stop, and took
	took          time.Duration
}

// startLoad writes up to 500 times a second, for four minutes at the most.
func (f *chaosFleet) startLoad(t *testing.T) *chaosLoad {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*chaosLimit)
	l := &chaosLoad{cancel: cancel, done: make(chan struct{})}
	db := newChaosNode(t, "load", f.nodes[chaosMaster].c).db
	go l.run(ctx, db)
	t.Cleanup(func() { cancel(); <-l.done })
	return l
}

func (l *chaosLoad) run(ctx context.Context, db *redis.Client) {
	defer close(l.done)
	defer func(start time.Time) { l.took = time.Since(start) }(time.Now())
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := l.write(context.WithoutCancel(ctx), db, i); err != nil {
			l.failed = append(l.failed, err)
		}
	}
}

// write does the next of four kinds of writes.
func (l *chaosLoad) write(ctx context.Context, db *redis.Client, i int) error {
	key := "load:" + strconv.Itoa(i/4%500)
	defer l.writes.Add(1)
	switch i % 4 {
	case 0:
		l.incrs.Add(1)
		return db.Incr(ctx, "load:counter").Err()
	case 1:
		return db.Set(ctx, key, i, 0).Err()
	case 2:
		ttl := time.Hour
		if l.mortal.Load() && i/4%2 == 0 {
			ttl = time.Second
		}
		return db.Expire(ctx, key, ttl).Err()
	}
	return db.Del(ctx, "load:"+strconv.Itoa((i/4+250)%500)).Err()
}

// awaitMore waits until the client has written n times more.
func (l *chaosLoad) awaitMore(t *testing.T, n int64) {
	t.Helper()
	start := l.writes.Load()
	chaosAwait(t, "the load to go on", func(context.Context) error {
		if now := l.writes.Load(); now < start+n {
			return fmt.Errorf("%d writes more, want %d", now-start, n)
		}
		return nil
	})
}

// stop ends the load; none of its writes may have failed.
func (l *chaosLoad) stop(t *testing.T) {
	t.Helper()
	l.cancel()
	<-l.done
	if len(l.failed) > 0 {
		t.Errorf("%d of %d writes failed, the first with: %v", len(l.failed), l.writes.Load(), l.failed[0])
	}
}

// The master is written to while a replica is taken back by a full copy, and another by a partial one. No write fails or is lost. What
// expires on a promoted replica cannot be told from a write while the count of changes moves, so nothing does until it is back.
func chaosWritesUnderWay(t *testing.T, f *chaosFleet) {
	load := f.startLoad(t)
	load.awaitMore(t, 200)
	f.nodes[chaosReplica].promote(t)
	if f.live {
		f.repaired(t, chaosReplica, policies.CausePromoted)
		load.mortal.Store(true)
		load.awaitMore(t, 200)
		f.nodes[chaosOther].do(t, "REPLICAOF", chaosMaster, "6390")
		f.repaired(t, chaosOther, policies.CauseWrongMaster)
		load.awaitMore(t, 200)
	} else {
		off := f.nodes[chaosReplica].standing(t)
		f.op.awaitRecord(t, "the plan under load", func(r policies.Record) bool { return r.Node == chaosReplica && r.Outcome == policies.OutcomePlanned })
		load.awaitMore(t, 200)
		if now := f.nodes[chaosReplica].standing(t); now != off {
			t.Errorf("the replica that is off was %+v and is %+v", off, now)
		}
	}
	load.stop(t)
	if !f.live {
		f.awaitSame(t, chaosOther)
		f.repaired(t, chaosReplica, policies.CausePromoted)
	}
	f.putRight(t, chaosReplica)
	t.Logf("%d writes, %.0f a second", load.writes.Load(), float64(load.writes.Load())/load.took.Seconds())
	for _, name := range []string{chaosMaster, chaosReplica, chaosOther} {
		if got := f.nodes[name].do(t, "GET", "load:counter"); got != strconv.FormatInt(load.incrs.Load(), 10) {
			t.Errorf("%s counted %v of %d", name, got, load.incrs.Load())
		}
	}
}
