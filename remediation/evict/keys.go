package evict

import (
	"context"
	"fmt"
	"slices"
	"time"

	"dcshealer/agent/probe"
)

// collect takes what a replica told, or looks for keys on the master itself: for half of the time at most, the other half is for the
// deletions.
func (r *run) collect(ctx context.Context) error {
	if s := r.Sample; s != nil {
		r.queue, r.r.Part = slices.Clone(s.Keys), !s.Complete
		r.r.Skipped.Protected, r.r.Skipped.Capped = s.Protected, max(0, s.Sum()-int64(len(s.Keys)))
		return nil
	}
	near := probe.NewNearest(r.Policy, r.Policy.MaxKeys)
	for _, db := range r.r.Before.DBs {
		if db.Expires == 0 {
			continue
		}
		if err := r.use(ctx, db.Index); err != nil {
			return err
		}
		if err := r.walk(ctx, db.Index, near); err != nil {
			return fmt.Errorf("DB %d: %w", db.Index, err)
		}
	}
	r.queue = near.Keys()
	r.r.Skipped.Protected, r.r.Skipped.Capped = near.Protected, max(0, sum(near.Near)-int64(len(r.queue)))
	return nil
}

func sum(all []int64) (n int64) {
	for _, one := range all {
		n += one
	}
	return n
}

// walk visits one DB.
func (r *run) walk(ctx context.Context, db int, near *probe.Nearest) error {
	var cursor uint64
	for {
		if r.r.Part = time.Since(r.start) > r.Pace.MaxDuration/2; r.r.Part {
			return nil
		}
		var names []probe.KeyName
		took, err := r.call(ctx, func() (err error) {
			r.r.Reads++
			names, cursor, err = r.Conn.ScanNames(ctx, cursor, r.count)
			return err
		})
		if err != nil {
			return err
		}
		r.count = Next(r.count, mostCount, took, r.Pace.CallP99)
		for keys := range slices.Chunk(near.Wanted(db, names), mostBatch) {
			ttls, err := r.ttls(ctx, keys)
			if err != nil {
				return err
			}
			for i, k := range keys {
				near.Take(k, ttls.of[i], ttls.told)
			}
		}
		if cursor == 0 {
			return nil
		}
	}
}

func namesOf(keys []probe.NearKey) []probe.KeyName {
	names := make([]probe.KeyName, len(keys))
	for i, k := range keys {
		names[i] = k.Name
	}
	return names
}

// ttls are the TTLs of some keys, read at some moment between two of our clock.
type ttls struct {
	asked, told time.Time
	of          []int64 // milliseconds
}

// ttls reads those of keys of the selected DB.
func (r *run) ttls(ctx context.Context, keys []probe.NearKey) (t ttls, err error) {
	_, err = r.call(ctx, func() (err error) {
		r.r.Reads++
		t.asked = time.Now()
		t.of, err = r.Conn.TTLs(ctx, namesOf(keys))
		t.told = time.Now()
		return err
	})
	if err == nil && len(t.of) != len(keys) {
		err = fmt.Errorf("PTTL: %d answers for %d keys", len(t.of), len(keys))
	}
	return t, err
}

// read asks the master for TTL and size of every key in the queue. What counts is the master's word: a replica may lag, and has a clock
// of its own.
func (r *run) read(ctx context.Context) error {
	own := r.Sample == nil // the expiry of each key was read on the master before
	var queue []probe.NearKey
	for keys := range slices.Chunk(r.queue, mostBatch) {
		for _, keys := range byDB(keys) {
			kept, err := r.readBatch(ctx, keys, own)
			if err != nil {
				return err
			}
			queue = append(queue, kept...)
		}
	}
	slices.SortFunc(queue, probe.Nearer)
	r.queue = queue
	return nil
}

func (r *run) readBatch(ctx context.Context, keys []probe.NearKey, own bool) (kept []probe.NearKey, err error) {
	if err := r.use(ctx, keys[0].DB); err != nil {
		return nil, err
	}
	ttls, err := r.ttls(ctx, keys)
	if err != nil {
		return nil, err
	}
	for i, k := range keys {
		if fate := Judge(k, ttls.of[i], ttls.asked, r.Policy.Horizon, own); fate != Deleted {
			r.skip(fate)
			continue
		}
		kept = append(kept, k.Timed(ttls.of[i], ttls.told))
	}
	if len(kept) == 0 {
		return nil, nil
	}
	var sizes []int64
	_, err = r.call(ctx, func() (err error) {
		r.r.Reads++
		sizes, err = r.Conn.Sizes(ctx, namesOf(kept))
		return err
	})
	if err == nil && len(sizes) != len(kept) {
		err = fmt.Errorf("MEMORY USAGE: %d answers for %d keys", len(sizes), len(kept))
	}
	if err != nil {
		return nil, err
	}
	for i := range kept {
		kept[i].Size = sizes[i]
	}
	return slices.DeleteFunc(kept, func(k probe.NearKey) bool {
		if k.Size <= 0 {
			r.skip(Gone)
		}
		return k.Size <= 0
	}), nil
}

// Judge says what a PTTL, asked for at a time, makes of a key: Deleted is that it may go. own: the expiry that it is compared with was
// read on the same server.
func Judge(k probe.NearKey, pttl int64, at time.Time, horizon time.Duration, own bool) Fate {
	left := time.Duration(pttl) * time.Millisecond
	switch {
	case pttl == -1:
		return NoTTL
	case pttl <= 0:
		return Gone
	case left > horizon || own && left > Most(k, at, horizon):
		return Raised
	}
	return Deleted
}

// Most is the longest TTL that the key can have at a time or later, if nobody has raised it since it was read. Two clocks that run at a
// slightly different rate are borne with.
func Most(k probe.NearKey, at time.Time, horizon time.Duration) time.Duration {
	const rate = 1000 // a clock that is being set right runs wrong by half a thousandth
	return min(horizon, k.Expires.Sub(at)+at.Sub(k.Read)/rate+time.Millisecond)
}

func (r *run) skip(f Fate) {
	switch f {
	case NoTTL:
		r.r.Skipped.NoTTL++
	case Raised:
		r.r.Skipped.Raised++
	default:
		r.r.Skipped.Gone++
	}
}

// byDB groups keys by DB and keeps their order in each.
func byDB(keys []probe.NearKey) (groups [][]probe.NearKey) {
	for _, k := range keys {
		i := slices.IndexFunc(groups, func(g []probe.NearKey) bool { return g[0].DB == k.DB })
		if i < 0 {
			groups = append(groups, []probe.NearKey{k})
			continue
		}
		groups[i] = append(groups[i], k)
	}
	return groups
}

// deleteAll works the queue off, the nearest to expiry first.
func (r *run) deleteAll(ctx context.Context) error {
	for {
		if err := r.check(ctx); err != nil {
			return err
		}
		if r.counted-2*r.freed <= r.Target { // perhaps enough is free: look before going on
			if err := r.settle(ctx); err != nil {
				return err
			}
		}
		window, err := r.window()
		if err != nil {
			return err
		}
		for _, keys := range byDB(window) {
			if err := r.unlink(ctx, keys); err != nil {
				return err
			}
		}
	}
}

// settle looks when the server has freed what it deletes in the background, or after a second.
func (r *run) settle(ctx context.Context) error {
	for until := time.Now().Add(settleFor); ; {
		if err := r.look(ctx); err != nil {
			return err
		}
		if r.r.After.Memory.LazyfreePending.Or(0) == 0 {
			return nil
		}
		if time.Now().After(until) {
			r.counted, r.freed = r.r.After.Memory.Counted().V, 0
			return nil
		}
		if err := wait(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// window takes the next keys off the queue: no more than a step, than the policy allows, and than have to go if they free twice as much
// as MEMORY USAGE says.
func (r *run) window() (keys []probe.NearKey, err error) {
	var bytes int64
	need, room := (r.counted-r.Target)/2-r.freed, r.Policy.MaxMB<<20-r.r.Bytes
	for len(r.queue) > 0 && len(keys) < r.batch && (len(keys) == 0 || bytes < need) {
		if r.r.Keys+int64(len(keys)) >= r.Policy.MaxKeys {
			break
		}
		k := r.queue[0]
		r.queue = r.queue[1:]
		if k.Size > room-bytes {
			r.r.Skipped.Capped++ // a smaller one may still fit
			continue
		}
		keys, bytes = append(keys, k), bytes+k.Size
	}
	switch {
	case len(keys) > 0:
		return keys, nil
	case r.r.Keys >= r.Policy.MaxKeys:
		r.r.Skipped.Capped += int64(len(r.queue))
		return nil, r.end(StopCapped, "remediation.evict-near-expiry.max_keys of %d is reached", r.Policy.MaxKeys)
	case r.r.Skipped.Capped > 0:
		return nil, r.end(StopCapped, "remediation.evict-near-expiry.max_mb of %d MiB is reached, or max_keys of %d", r.Policy.MaxMB, r.Policy.MaxKeys)
	}
	return nil, r.end(StopDone, "every key that qualified was tried")
}

// unlink deletes keys of one DB.
func (r *run) unlink(ctx context.Context, keys []probe.NearKey) error {
	if err := r.use(ctx, keys[0].DB); err != nil {
		return err
	}
	now, most := time.Now(), make([]int64, len(keys))
	for i, k := range keys {
		most[i] = Most(k, now, r.Policy.Horizon).Milliseconds() // not above 0: it has expired by now, and nothing is deleted
	}
	if err := r.permit(ctx); err != nil {
		return err
	}
	took, err := r.call(ctx, func() error {
		fates, err := r.Conn.UnlinkNear(ctx, namesOf(keys), most)
		r.r.Calls++
		if err == nil && len(fates) != len(keys) {
			err = fmt.Errorf("%d answers for %d keys", len(fates), len(keys))
		}
		if err != nil {
			r.r.Unknown = int64(len(keys))
			return fmt.Errorf("delete keys near their expiry in DB %d: %w", keys[0].DB, err)
		}
		for i, k := range keys {
			r.tally(k, fates[i])
		}
		return nil
	})
	if err == nil {
		r.batch = int(Next(int64(r.batch), mostBatch, took, r.Pace.CallP99))
	}
	return err
}

func (r *run) tally(k probe.NearKey, f Fate) {
	if f != Deleted {
		r.skip(f)
		return
	}
	r.r.Keys++
	r.r.Bytes += k.Size
	r.freed += k.Size
	by := &r.r.By[k.Pattern]
	by.Keys++
	by.Bytes += k.Size
}
