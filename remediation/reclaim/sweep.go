// Package reclaim deletes expired keys by visiting them: a plain SCAN on a master deletes each expired key that it
// meets (Redis 6.0 to 8.0, Valkey 8.1 and 9.1, also when memory is full). It paces itself by the length of one call.
package reclaim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"dcshealer/policies"
)

// ErrNotMaster is the answer of a Scan that met a replica.
var ErrNotMaster = errors.New("the node is no longer a master")

// Conn is the connection that a sweep writes through.
type Conn interface {
	Select(ctx context.Context, db int) error
	// Scan is ErrNotMaster where the node is a replica by then: the sweep ends before the next one.
	Scan(ctx context.Context, cursor uint64, count int64) (next uint64, err error)
	Ping(ctx context.Context) error
	// ScanTime is the time that the server itself has spent in SCAN since its start.
	ScanTime(ctx context.Context) (time.Duration, error)
}

// Sweep is one pass over every DB of a master that holds keys with a TTL.
type Sweep struct {
	Conn   Conn
	Pace   policies.Reclaim
	Target int64 // bytes counted against maxmemory at which to stop
	From   Place // where an earlier sweep of the same server left; the zero value: at the beginning
	// Look reads the master on a connection of its own.
	Look func(ctx context.Context) policies.Snapshot
	// Permit is asked right before each SCAN, and has to be cheap; an error stops the sweep as denied and says why.
	Permit func(ctx context.Context) error
	// Progress is told about once a second; may be nil.
	Progress func(Result)
	// Nap sleeps for less than timerGrain; nil: by the system, to the microsecond. Tests in false time give their own.
	Nap func(time.Duration)
}

// Place is where a sweep stands. Any number is a valid cursor of one run of a server; a restart voids it.
type Place struct {
	RunID  string
	DB     int
	Cursor uint64
}

// Stop says why a sweep ended.
type Stop string

// The ends of a sweep.
const (
	StopDone     Stop = "done"     // every DB was visited once
	StopTarget   Stop = "target"   // memory is at the target
	StopDeadline Stop = "deadline" // max_duration is over
	StopSlowCall Stop = "slow-call"
	StopNothing  Stop = "nothing" // the first pass brought nothing
	StopChanged  Stop = "changed" // no longer the same server, or no longer a master
	StopBusy     Stop = "busy"    // it saves, rewrites or copies now
	StopDenied   Stop = "denied"  // a guard denies now: pause, revoked live, ...
	StopError    Stop = "error"
	StopCancel   Stop = "cancelled" // our own process ends
)

// Result is what a sweep did.
type Result struct {
	Stop    Stop
	Detail  string
	Calls   int64
	Visited int64         // keys visited, by COUNT: about
	Keys    int64         // rise of expired_keys, what the server's own cycle deleted meanwhile included
	Bytes   int64         // fall of the memory counted against maxmemory; negative: it grew
	Longest time.Duration // one call, without the round trip
	P99     time.Duration // of the calls
	Took    time.Duration
	PerDB   map[int]int64  // visited
	Freed   map[int]int64  // keys that each DB lost, by INFO keyspace: what the foreground wrote and deleted meanwhile included
	Slowed  map[string]int // how often it slowed down, by reason
	RTT     time.Duration  // median round trip of INFO while it ran; 0: not measured
	MostRTT time.Duration
	At      Place // where it left
	Before  policies.Snapshot
	After   policies.Snapshot
}

const (
	firstCount = 100 // COUNT of the first call
	leastCount = 10
	mostCount  = 10000
	leastPause = 200 * time.Microsecond
	lookEvery  = 250 * time.Millisecond
	tellEach   = time.Second
	// A first pass over this many keys, or a tenth of all, that deletes nothing ends the sweep.
	firstPass = 100_000
)

// run is the state of a sweep under way.
type run struct {
	*Sweep
	r        Result
	start    time.Time
	looked   time.Time
	told     time.Time
	count    int64
	floor    time.Duration // the round trip, to be taken off a call
	spent    time.Duration // ScanTime when it was last read
	unread   time.Duration // length of the calls since then
	share    float64       // of what a call takes from here, what the server spent in it when it last told
	most     int64         // bound on COUNT
	slow     int           // calls over abort_call
	rest     time.Duration // owed after a slow call
	slowdown int64         // factor on the pause while the server or its replicas are under pressure
	last     policies.Snapshot
	calm     policies.Snapshot // what the server was without the sweep
	less     int               // looks in a row at which it served less
	calls    []time.Duration
	rtts     []time.Duration
}

// errStop ends the loops; the reason is in the Result.
var errStop = errors.New("stop")

// Run sweeps until it is done or has to stop. before is the snapshot on which the plan rests. The error is what went
// wrong with the connection; every other end is in Stop.
func (s *Sweep) Run(ctx context.Context, before policies.Snapshot) (Result, error) {
	r := &run{Sweep: s, count: firstCount, most: mostCount, share: 1, slowdown: 1, start: time.Now(), last: before, calm: before}
	r.looked, r.told = r.start, r.start
	r.r = Result{Before: before, After: before, PerDB: map[int]int64{}, Freed: map[int]int64{}, Slowed: map[string]int{}, At: Place{RunID: before.RunID}}
	err := r.all(ctx)
	if err == nil {
		r.end(StopDone, "every DB was visited once")
	}
	if errors.Is(err, errStop) {
		err = nil
	}
	if err != nil {
		r.end(StopError, "%v", err)
		if ctx.Err() != nil {
			r.end(StopCancel, "the process is stopping")
			err = nil
		}
	}
	r.final(context.WithoutCancel(ctx))
	return r.r, err
}

// end records why the sweep ends.
func (r *run) end(s Stop, format string, a ...any) error {
	r.r.Stop, r.r.Detail = s, fmt.Sprintf(format, a...)
	return errStop
}

func (r *run) all(ctx context.Context) error {
	if err := r.measureRoundTrip(ctx); err != nil {
		return err
	}
	if _, err := r.serverTime(ctx); err != nil {
		return fmt.Errorf("read the server's own time in SCAN: %w", err)
	}
	for _, p := range r.places() {
		if err := r.Conn.Select(ctx, p.DB); err != nil {
			return fmt.Errorf("select DB %d: %w", p.DB, err)
		}
		if err := r.db(ctx, p.DB, p.Cursor); err != nil {
			return err
		}
	}
	r.r.At = Place{RunID: r.r.Before.RunID}
	return nil
}

// places lists where to scan: every DB with keys that have a TTL, from where an earlier sweep left on, and in the end what that one had
// visited already.
func (r *run) places() []Place {
	var before, after []Place
	for _, db := range r.r.Before.DBs {
		switch {
		case db.Expires == 0:
		case db.Index < r.From.DB:
			before = append(before, Place{DB: db.Index})
		case db.Index == r.From.DB && r.From.Cursor != 0 && r.From.RunID == r.r.Before.RunID:
			after = append(after, Place{DB: db.Index, Cursor: r.From.Cursor})
			before = append(before, Place{DB: db.Index})
		default:
			after = append(after, Place{DB: db.Index})
		}
	}
	return append(after, before...)
}

// measureRoundTrip takes the shortest of a few calls that cost the server nothing.
func (r *run) measureRoundTrip(ctx context.Context) error {
	for range 5 {
		t := time.Now()
		if err := r.Conn.Ping(ctx); err != nil {
			return fmt.Errorf("measure the round trip: %w", err)
		}
		if d := time.Since(t); r.floor == 0 || d < r.floor {
			r.floor = d
		}
	}
	return nil
}

func (r *run) db(ctx context.Context, db int, cursor uint64) error {
	for {
		r.r.At.DB, r.r.At.Cursor = db, cursor
		if err := r.permit(ctx); err != nil {
			return err
		}
		t := time.Now()
		next, err := r.Conn.Scan(ctx, cursor, r.count)
		if errors.Is(err, ErrNotMaster) {
			r.r.Calls++
			return r.end(StopChanged, "%v", ErrNotMaster)
		}
		if err != nil {
			return fmt.Errorf("SCAN in DB %d: %w", db, err)
		}
		call := max(0, time.Since(t)-r.floor)
		r.r.Calls++
		r.r.Visited += r.count
		r.r.PerDB[db] += r.count
		if call, err = r.judgeCall(ctx, call); err != nil {
			return err
		}
		if err := r.check(ctx); err != nil {
			return err
		}
		if next == 0 {
			return nil
		}
		cursor = next
		pause := max(r.rest, Pause(call, float64(r.Pace.Duty)/100)*time.Duration(r.slowdown))
		pause, r.rest = min(pause, r.Pace.MaxDuration-time.Since(r.start)), 0
		r.count = min(r.most, NextCount(r.count, call, r.Pace.CallP99))
		if err := r.pause(ctx, pause); err != nil {
			return err
		}
	}
}

// judgeCall ends the sweep after one call that held up the server for too long. Our own scheduling and the network can make
// a call look long: then the server's own account of it counts.
func (r *run) judgeCall(ctx context.Context, call time.Duration) (time.Duration, error) {
	r.unread += call
	measured := r.unread
	long := call > r.Pace.AbortCall
	if long || r.unread > r.Pace.AbortCall/4 {
		served, err := r.serverTime(ctx)
		if err != nil {
			return 0, fmt.Errorf("read the server's own time in SCAN: %w", err)
		}
		r.share = min(1, max(leastShare, float64(served)/float64(measured)))
		if long {
			call = min(call, served)
		}
	}
	if !long {
		call = time.Duration(float64(call) * r.share)
	}
	r.calls = append(r.calls, call)
	r.r.Longest = max(r.r.Longest, call)
	if call <= r.Pace.AbortCall {
		return call, nil
	}
	if r.slow++; r.Pace.OnSlowCall == policies.SlowCallSlows && r.slow <= mostSlow {
		r.most, r.count = leastCount, leastCount
		r.r.Slowed["a slow call"]++
		r.rest, r.looked = max(time.Second, 10*call), time.Time{} // after a look: what was freed may be enough
		return call, nil
	}
	return 0, r.end(StopSlowCall, "one call took %s, remediation.reclaim-expired.abort_call is %s: freeing a big expired value holds the server up (lazy_free, on_slow_call)", call.Round(time.Microsecond), r.Pace.AbortCall)
}

// leastShare is the least of a call's length from here that is believed to have been spent in the server. mostSlow is how many slow
// calls a sweep bears where on_slow_call is slow.
const (
	leastShare = 0.05
	mostSlow   = 3
)

// serverTime is what the server spent in SCAN since it was last asked; a counter that was reset in between says nothing,
// which counts as long.
func (r *run) serverTime(ctx context.Context) (time.Duration, error) {
	now, err := r.Conn.ScanTime(ctx)
	if err != nil {
		return 0, err
	}
	served := now - r.spent
	if served < 0 {
		served = math.MaxInt64
	}
	r.spent, r.unread = now, 0
	return served, nil
}

// NextCount halves COUNT when a call is over the target, leaves it from seven tenths of the target on, and grows it below: by a tenth, or
// twofold while a call takes less than half. Doubling up to the target instead had every other call take nearly twice as long as it should,
// and the p99 of a foreground load grow by 4 instead of 2.
func NextCount(count int64, call, target time.Duration) int64 {
	switch {
	case call > target:
		return max(leastCount, count/2)
	case call > target*7/10:
		return count
	case call > target/2:
		return min(mostCount, count+max(1, count/10))
	}
	return min(mostCount, count*2)
}

// Pause keeps the calls to their share of time (0 to 1), and is never shorter than leastPause, but at a share of 1 there is none.
func Pause(call time.Duration, duty float64) time.Duration {
	switch {
	case duty >= 1:
		return 0
	case duty <= 0:
		return leastPause
	}
	return max(leastPause, time.Duration(float64(call)*(1-duty)/duty))
}

// timerGrain is below what a timer of the runtime keeps on Linux, where it sleeps for whole milliseconds when nothing else goes on.
const timerGrain = 2 * time.Millisecond

// pause waits between two calls.
func (r *run) pause(ctx context.Context, d time.Duration) error {
	if d <= 0 || d >= timerGrain {
		return wait(ctx, d)
	}
	if r.Nap != nil {
		r.Nap(d)
	} else {
		nap(d)
	}
	return ctx.Err()
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// permit asks whether the sweep may go on.
func (r *run) permit(ctx context.Context) error {
	if err := r.Permit(ctx); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		return r.end(StopDenied, "%v", err)
	}
	return nil
}

// check looks at the master a few times a second and tells once a second how far it has come.
func (r *run) check(ctx context.Context) error {
	now := time.Now()
	if now.Sub(r.start) > r.Pace.MaxDuration {
		return r.end(StopDeadline, "remediation.reclaim-expired.max_duration of %s is over", r.Pace.MaxDuration)
	}
	if now.Sub(r.looked) >= lookEvery {
		r.looked = now
		if err := r.look(ctx); err != nil {
			return err
		}
	}
	if now.Sub(r.told) >= tellEach && r.Progress != nil {
		r.told = now
		r.Progress(r.r)
	}
	return nil
}

func (r *run) look(ctx context.Context) error {
	s := r.Look(ctx)
	if ctx.Err() != nil {
		return ctx.Err() // what it read is no answer of the server's
	}
	if s.Reach != policies.ReachUp {
		return r.end(StopChanged, "the master cannot be read (%s): %s", s.Reach, s.Err)
	}
	if err := r.judge(s); err != nil {
		return err
	}
	r.r.After = s
	r.tally()
	if counted := s.Memory.Counted(); counted.Known && counted.V <= r.Target {
		return r.end(StopTarget, "memory is at the target")
	}
	pass := max(firstPass, r.r.Before.Keys().Or(0)/10)
	if r.r.Visited >= pass && r.r.Keys == 0 {
		return r.end(StopNothing, "the first %d keys brought nothing", r.r.Visited)
	}
	r.slowdown = 1
	if why := Pressure(r.calm, r.last, s); why != "" {
		r.slowdown = 4
		r.r.Slowed[why]++
		r.unmoved(why, s)
	} else {
		r.less = 0
	}
	r.last, r.rtts = s, append(r.rtts, s.RTT)
	return nil
}

// lessLooks in a row at a server that serves less although the sweep has slowed down mean that there is less to serve.
const lessLooks = 8

// unmoved takes what the server serves now for its calm rate, where slowing down does not bring it back.
func (r *run) unmoved(why string, s policies.Snapshot) {
	if why != servesLess {
		return
	}
	if r.less++; r.less >= lessLooks {
		r.calm.Stats.OpsPerSecond, r.less = s.Stats.OpsPerSecond, 0
	}
}

// maxLagGrowth is how many bytes the replicas may fall behind before the sweep slows down: deletions cost about 30 bytes a
// key on the way to replicas, and the backlog is 1 MiB by default.
const maxLagGrowth = 256 << 10

// The server is under pressure when its main thread is busy for more than busyCPU of the time, or serves less than half of the at least
// calmOps commands a second that it served before the sweep, or its replica buffers have grown by bufferGrowth bytes.
const (
	busyCPU      = 0.95
	calmOps      = 1000
	bufferGrowth = 8 << 20
)

const servesLess = "the server serves less"

// Pressure says why the sweep should slow down; empty: nothing speaks for it. before is the server before the sweep, last and now are two
// looks while it runs.
func Pressure(before, last, now policies.Snapshot) string {
	took := now.At.Sub(last.At).Seconds()
	a, b := last.Stats.CPUSeconds, now.Stats.CPUSeconds
	switch {
	case now.Replication.Behind() > before.Replication.Behind()+maxLagGrowth:
		return "replicas fall behind"
	case now.Memory.ClientsReplicas.Or(0) > before.Memory.ClientsReplicas.Or(0)+bufferGrowth:
		return "replica buffers grow"
	case took > 0 && a.Known && b.Known && (b.V-a.V)/took > busyCPU:
		return "the CPU is busy"
	case before.Stats.OpsPerSecond.Or(0) >= calmOps && now.Stats.OpsPerSecond.Known && now.Stats.OpsPerSecond.V < before.Stats.OpsPerSecond.V/2:
		return servesLess
	}
	return ""
}

// judge stops the sweep when the server is no longer the one that was diagnosed, or has something else to do.
func (r *run) judge(s policies.Snapshot) error {
	p := s.Persistence
	switch {
	case s.RunID != r.r.Before.RunID:
		return r.end(StopChanged, "the server restarted: its cursors are void")
	case s.Replication.Role != policies.RoleMaster:
		return r.end(StopChanged, "%v", ErrNotMaster)
	case p.BgsaveRunning.Or(false) || p.AOFRewriteRunning.Or(false):
		return r.end(StopBusy, "the server saves (BGSAVE or AOF rewrite)")
	case s.Replication.Behind() > policies.MostBehind:
		return r.end(StopBusy, "a replica is %d MiB behind, although the sweep slowed down", s.Replication.Behind()>>20)
	case paused(s):
		return r.end(StopBusy, "clients are paused (%s): SCAN deletes nothing then", s.Clients.Paused.V)
	}
	return nil
}

func paused(s policies.Snapshot) bool {
	why := s.Clients.Paused.Or("none")
	return why != "" && why != "none"
}

// tally brings keys and bytes up to the newest look. A counter that fell was reset: count from there.
func (r *run) tally() {
	before, after := r.r.Before, r.r.After
	if a, b := before.Stats.ExpiredKeys, after.Stats.ExpiredKeys; a.Known && b.Known {
		r.r.Keys = b.V - a.V
		if r.r.Keys < 0 {
			r.r.Keys = b.V
		}
	}
	if a, b := before.Memory.Counted(), after.Memory.Counted(); a.Known && b.Known {
		r.r.Bytes = a.V - b.V
	}
	if !after.KeyspaceKnown {
		return
	}
	left := map[int]int64{}
	for _, db := range after.DBs {
		left[db.Index] = db.Keys
	}
	for _, db := range before.DBs {
		if lost := db.Keys - left[db.Index]; db.Expires > 0 && lost > 0 {
			r.r.Freed[db.Index] = lost
		}
	}
}

// final takes the last look, also when the sweep was called off.
func (r *run) final(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if s := r.Look(ctx); s.Reach == policies.ReachUp && s.RunID == r.r.Before.RunID {
		r.r.After = s
		r.tally()
	}
	r.r.Took = time.Since(r.start)
	r.r.P99 = quantile(r.calls, 0.99)
	r.r.RTT, r.r.MostRTT = quantile(r.rtts, 0.5), quantile(r.rtts, 1)
}

// quantile of some lengths; 0 when there are none.
func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
