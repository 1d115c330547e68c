// Package evict deletes live keys that expire soon anyway, the nearest first, as far as a policy allows it and no further. A script checks
// and deletes on the server in one step, so that no key goes whose TTL was raised or removed since it was read.
package evict

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"dcshealer/agent/probe"
	"dcshealer/policies"
)

// Conn is the connection to the master that an eviction writes through. No error of it holds the name of a key.
type Conn interface {
	Select(ctx context.Context, db int) error
	Ping(ctx context.Context) error
	// ScanNames is one SCAN, which deletes the expired keys that it visits.
	ScanNames(ctx context.Context, cursor uint64, count int64) (names []probe.KeyName, next uint64, err error)
	// TTLs is PTTL of each name, in milliseconds: -1 without a TTL, -2 without a key.
	TTLs(ctx context.Context, names []probe.KeyName) ([]int64, error)
	// Sizes is MEMORY USAGE of each name, in bytes: 0 without a key.
	Sizes(ctx context.Context, names []probe.KeyName) ([]int64, error)
	// UnlinkNear deletes those of the names that have a TTL of at most so many milliseconds, and says what came of each.
	UnlinkNear(ctx context.Context, names []probe.KeyName, most []int64) ([]Fate, error)
	// Served is the time that the server itself has spent in these commands since its start.
	Served(ctx context.Context) (time.Duration, error)
}

// Fate is what came of one key.
type Fate int64

// What the script answers for a key.
const (
	Deleted Fate = 1
	Raised  Fate = 0 // its TTL is longer than it may be
	NoTTL   Fate = -1
	Gone    Fate = -2
)

// Script deletes each of KEYS whose TTL is at most that of ARGV, in milliseconds. It needs +eval, +pttl, +unlink and the keys, runs when
// memory is full, and replicates as UNLINK. A script has to use the names that the server has for the commands.
func Script(names policies.Renames) string {
	return strings.NewReplacer("PTTL", names.Sent("PTTL"), "UNLINK", names.Sent("UNLINK")).Replace(script)
}

const script = `local out = {}
for i, key in ipairs(KEYS) do
  local left = redis.call('PTTL', key)
  if left > 0 and left <= tonumber(ARGV[i]) then
    redis.call('UNLINK', key)
    out[i] = 1
  elseif left > 0 then
    out[i] = 0
  elseif left == -1 then
    out[i] = -1
  else
    out[i] = -2
  end
end
return out`

// Eviction deletes keys of one master.
type Eviction struct {
	Conn   Conn
	Policy policies.Evict
	Pace   policies.Reclaim
	Target int64 // bytes counted against maxmemory at which to stop
	// Sample is what a replica told of the keys that may go; nil: they are looked for on the master.
	Sample *probe.NearSample
	// Look reads the master on a connection of its own.
	Look func(ctx context.Context) policies.Snapshot
	// Permit is asked right before each deletion and after each call, and has to be cheap; an error stops the eviction as denied and says why.
	Permit func(ctx context.Context) error
	// Ready is told when every key was read, right before the first deletion. Progress is told about once a second. Both may be nil.
	Ready    func()
	Progress func(Result)
}

// Stop says why an eviction ended.
type Stop string

// The ends of an eviction.
const (
	StopDone     Stop = "done"   // every key that was found was tried
	StopTarget   Stop = "target" // memory is at the target
	StopCapped   Stop = "capped" // max_keys or max_mb
	StopDeadline Stop = "deadline"
	StopSlowCall Stop = "slow-call"
	StopNothing  Stop = "nothing" // no key qualifies
	StopChanged  Stop = "changed" // no longer the same server, or no longer a master
	StopBusy     Stop = "busy"    // it saves, rewrites or is paused now
	StopDenied   Stop = "denied"  // a guard denies now
	StopError    Stop = "error"
	StopCancel   Stop = "cancelled" // our own process ends
)

// Result is what an eviction did.
type Result struct {
	Stop    Stop
	Detail  string
	Calls   int64 // of the script
	Reads   int64 // SCAN, PTTL and MEMORY USAGE calls
	Found   int64 // keys that qualified when they were read
	Keys    int64 // deleted
	Bytes   int64 // of those, by MEMORY USAGE
	Unknown int64 // keys of a batch that was not answered
	By      []Taken
	Skipped Skipped
	Longest time.Duration // one call, without the round trip
	Took    time.Duration
	Part    bool // not every key of the master was looked at
	Before  policies.Snapshot
	After   policies.Snapshot
}

// Taken is what was deleted by one pattern of Allow, in its order.
type Taken struct {
	Pattern string
	Keys    int64
	Bytes   int64
}

// Skipped counts keys that were left alone, by reason.
type Skipped struct {
	Gone      int64 // expired, or deleted by others
	NoTTL     int64 // their TTL was removed since they were found
	Raised    int64 // their TTL was raised since then
	Protected int64 // allowed by a pattern, and protected
	Capped    int64 // over max_keys or max_mb
}

const (
	firstBatch = 10
	mostBatch  = 50
	firstCount = 100 // COUNT of the first SCAN
	mostCount  = 1000
	leastPause = time.Millisecond
	restFactor = 3 // pause over call
	lookEvery  = 250 * time.Millisecond
	tellEach   = time.Second
	settleFor  = time.Second
)

// run is the state of an eviction under way.
type run struct {
	*Eviction
	r       Result
	start   time.Time
	looked  time.Time
	told    time.Time
	batch   int
	count   int64
	db      int           // selected; -1: none
	floor   time.Duration // the round trip, to be taken off a call
	spent   time.Duration // Served when it was last read
	unread  time.Duration // length of the calls since then
	counted int64         // memory at the newest look
	freed   int64         // by MEMORY USAGE, since then
	queue   []probe.NearKey
	slow    int // factor on the pause while replicas fall behind
}

// errStop ends the loops; the reason is in the Result.
var errStop = errors.New("stop")

// Run deletes until it is done or has to stop. before is the snapshot on which the plan rests. The error is what went wrong with the
// connection; every other end is in Stop.
func (e *Eviction) Run(ctx context.Context, before policies.Snapshot) (Result, error) {
	r := &run{Eviction: e, start: time.Now(), batch: firstBatch, count: firstCount, db: -1, slow: 1, counted: before.Memory.Counted().V}
	r.r = Result{Before: before, After: before, By: make([]Taken, len(e.Policy.Allow))}
	for i, p := range e.Policy.Allow {
		r.r.By[i].Pattern = p
	}
	err := r.all(ctx)
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

// end records why the eviction ends.
func (r *run) end(s Stop, format string, a ...any) error {
	r.r.Stop, r.r.Detail = s, fmt.Sprintf(format, a...)
	return errStop
}

func (r *run) all(ctx context.Context) error {
	if err := r.measureServer(ctx); err != nil {
		return err
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	if err := r.collect(ctx); err != nil {
		return err
	}
	if err := r.read(ctx); err != nil {
		return err
	}
	if r.r.Found = int64(len(r.queue)); r.r.Found == 0 {
		return r.end(StopNothing, "no key qualifies")
	}
	if r.Ready != nil {
		r.Ready()
	}
	r.looked = time.Time{} // it looks again right before the first deletion
	return r.deleteAll(ctx)
}

// measureServer learns the round trip, the shortest of a few calls that cost the server nothing, and the server's own account so far.
func (r *run) measureServer(ctx context.Context) error {
	for range 5 {
		t := time.Now()
		if err := r.Conn.Ping(ctx); err != nil {
			return fmt.Errorf("measure the round trip: %w", err)
		}
		if d := time.Since(t); r.floor == 0 || d < r.floor {
			r.floor = d
		}
	}
	_, err := r.served(ctx)
	return err
}

// served is what the server spent in our commands since it was last asked.
func (r *run) served(ctx context.Context) (time.Duration, error) {
	now, err := r.Conn.Served(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the server's own time in calls: %w", err)
	}
	d := now - r.spent
	if d < 0 {
		d = time.Hour // the counter was reset: that says nothing, which counts as long
	}
	r.spent, r.unread = now, 0
	return d, nil
}

// call times one call, ends the eviction after one that held the server up, looks around as often as it is due, and rests.
func (r *run) call(ctx context.Context, do func() error) (took time.Duration, err error) {
	t := time.Now()
	if err := do(); err != nil {
		return 0, err
	}
	took = max(0, time.Since(t)-r.floor)
	r.unread += took
	if long := took > r.Pace.AbortCall; long || r.unread > r.Pace.AbortCall/4 {
		served, err := r.served(ctx)
		if err != nil {
			return 0, err
		}
		if long { // our own scheduling and the network can make a call look long
			took = min(took, served)
		}
	}
	r.r.Longest = max(r.r.Longest, took)
	if took > r.Pace.AbortCall {
		return 0, r.end(StopSlowCall, "one call took %s, remediation.reclaim-expired.abort_call is %s", took.Round(time.Microsecond), r.Pace.AbortCall)
	}
	if err := r.check(ctx); err != nil {
		return 0, err
	}
	return took, wait(ctx, Pause(took, float64(r.Pace.Duty)/100)*time.Duration(r.slow))
}

// Pause is three times the call, or longer where the duty of a sweep (0 to 1) asks for it, and never shorter than leastPause.
func Pause(call time.Duration, duty float64) time.Duration {
	pause := restFactor * call
	if duty > 0 && duty < 1 {
		pause = max(pause, time.Duration(float64(call)*(1-duty)/duty))
	}
	return max(leastPause, pause)
}

// Next doubles the size of a step while a call stays under the target and halves it when over.
func Next(size, most int64, call, target time.Duration) int64 {
	if call > target {
		return max(1, size/2)
	}
	return min(most, size*2)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (r *run) use(ctx context.Context, db int) error {
	if r.db == db {
		return nil
	}
	if err := r.Conn.Select(ctx, db); err != nil {
		return fmt.Errorf("select DB %d: %w", db, err)
	}
	r.db = db
	return nil
}

// permit asks whether the eviction may go on.
func (r *run) permit(ctx context.Context) error {
	if err := r.Permit(ctx); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		return r.end(StopDenied, "%v", err)
	}
	return nil
}

// check looks at the master a few times a second, asks for permission, and tells once a second how far it has come.
func (r *run) check(ctx context.Context) error {
	now := time.Now()
	if now.Sub(r.start) > r.Pace.MaxDuration {
		return r.end(StopDeadline, "remediation.reclaim-expired.max_duration of %s is over", r.Pace.MaxDuration)
	}
	if now.Sub(r.looked) >= lookEvery {
		if err := r.look(ctx); err != nil {
			return err
		}
	}
	if err := r.permit(ctx); err != nil {
		return err
	}
	if now.Sub(r.told) >= tellEach && r.Progress != nil {
		r.told = now
		r.Progress(r.r)
	}
	return nil
}

// look reads the master and stops when there is nothing left to do, or the server is no longer the one that was diagnosed.
func (r *run) look(ctx context.Context) error {
	s := r.Look(ctx)
	r.looked = time.Now()
	if ctx.Err() != nil {
		return ctx.Err() // what it read is no answer of the server's
	}
	if s.Reach != policies.ReachUp {
		return r.end(StopChanged, "the master cannot be read (%s): %s", s.Reach, s.Err)
	}
	p, paused := s.Persistence, s.Clients.Paused.Or("none")
	counted := s.Memory.Counted()
	switch {
	case s.RunID != r.r.Before.RunID:
		return r.end(StopChanged, "the server restarted")
	case s.Replication.Role != policies.RoleMaster:
		return r.end(StopChanged, "the node is no longer a master")
	case p.BgsaveRunning.Or(false) || p.AOFRewriteRunning.Or(false):
		return r.end(StopBusy, "the server saves (BGSAVE or AOF rewrite)")
	case paused != "" && paused != "none":
		return r.end(StopBusy, "clients are paused (%s)", paused)
	case !counted.Known:
		return r.end(StopChanged, "the memory of the master cannot be read")
	}
	if r.slow, r.r.After = 1, s; s.Memory.LazyfreePending.Or(0) == 0 { // else it does not tell yet what was freed
		r.counted, r.freed = counted.V, 0
	}
	if lag(s) > lag(r.r.Before)+maxLagGrowth {
		r.slow = 4
	}
	if counted.V <= r.Target {
		return r.end(StopTarget, "memory is at the target")
	}
	return nil
}

// maxLagGrowth is how many bytes the replicas may fall behind before the eviction slows down.
const maxLagGrowth = 256 << 10

// lag is the largest number of bytes that a replica is behind.
func lag(s policies.Snapshot) (most int64) {
	for _, l := range s.Replication.Replicas {
		if l.State == "online" && l.Offset > 0 {
			most = max(most, s.Replication.Offset.Or(0)-l.Offset)
		}
	}
	return most
}

// final takes the last look, also when the eviction was called off.
func (r *run) final(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if s := r.Look(ctx); s.Reach == policies.ReachUp && s.RunID == r.r.Before.RunID {
		r.r.After = s
	}
	r.r.Took = time.Since(r.start)
}
