package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// KeyName is the name of a key of a server's data. It prints as [key] in every format; string(k) is the one way to the name.
type KeyName string

func (KeyName) String() string { return "[key]" }

// GoString keeps %#v from showing the name.
func (KeyName) GoString() string { return `"[key]"` }

// MarshalText keeps JSON and slog from showing it.
func (KeyName) MarshalText() ([]byte, error) { return []byte("[key]"), nil }

// NearKey is a live key that a policy allows to go.
type NearKey struct {
	DB      int
	Name    KeyName
	Pattern int       // of the policy's Allow, by index: the first that it matches
	Read    time.Time // when its TTL was read, by our clock
	Expires time.Time // by our clock
	Size    int64     // bytes by MEMORY USAGE; 0: not measured
}

// Nearest keeps, of the keys that come in, those nearest to their expiry that a policy allows to go. It is not safe for concurrent use.
type Nearest struct {
	Near      []int64 // keys that may go, by pattern of Allow; one that SCAN returned twice counts twice
	Protected int64   // names of Allow that Protect has too

	policy policies.Evict
	keep   int
	kept   []NearKey
}

// NewNearest keeps at most so many keys.
func NewNearest(p policies.Evict, keep int64) *Nearest {
	return &Nearest{policy: p, keep: int(min(max(keep, 0), 1<<30)), Near: make([]int64, len(p.Allow))}
}

// Wanted are the names that the patterns allow to go, whatever their TTL.
func (n *Nearest) Wanted(db int, names []KeyName) (keys []NearKey) {
	for _, name := range names {
		switch allowed, protected := n.policy.Match(string(name)); {
		case protected:
			n.Protected++
		case allowed >= 0:
			keys = append(keys, NearKey{DB: db, Name: name, Pattern: allowed})
		}
	}
	return keys
}

// Take takes a wanted key whose PTTL was pttl at a time, and reports whether it may go: it has a TTL, and it is within the horizon.
func (n *Nearest) Take(k NearKey, pttl int64, at time.Time) bool {
	if pttl <= 0 || pttl > n.policy.Horizon.Milliseconds() {
		return false
	}
	n.Near[k.Pattern]++
	if n.keep > 0 {
		n.kept = append(n.kept, k.Timed(pttl, at))
	}
	if len(n.kept) >= 2*n.keep+1000 {
		n.cut()
	}
	return true
}

// Timed is the key with a TTL, in milliseconds, that was read at a time.
func (k NearKey) Timed(pttl int64, at time.Time) NearKey {
	k.Read, k.Expires = at, at.Add(time.Duration(pttl)*time.Millisecond)
	return k
}

func (n *Nearest) cut() {
	slices.SortFunc(n.kept, Nearer)
	type name struct {
		db   int
		name KeyName
	}
	seen := map[name]bool{} // SCAN may return a name twice
	n.kept = slices.DeleteFunc(n.kept, func(k NearKey) bool {
		twice := seen[name{k.DB, k.Name}]
		seen[name{k.DB, k.Name}] = true
		return twice
	})
	n.kept = n.kept[:min(len(n.kept), n.keep)]
}

// Keys are those kept, the nearest to expiry first.
func (n *Nearest) Keys() []NearKey {
	n.cut()
	return n.kept
}

// Nearer orders keys by expiry.
func Nearer(a, b NearKey) int {
	return cmp.Or(a.Expires.Compare(b.Expires), cmp.Compare(a.DB, b.DB), cmp.Compare(a.Name, b.Name))
}

// NearOptions say which keys are looked for, and how.
type NearOptions struct {
	Policy  policies.Evict
	Keep    int64         // so many of the nearest are handed over by name; 0: the numbers alone
	Measure int           // so many are measured in each database for the mean size; 0: none
	Batch   int           // keys that one SCAN visits, about; 0: 500
	Budget  time.Duration // for all databases together; 0: 10 s
}

// NearSample is what a look at the keys of a replica found.
type NearSample struct {
	Keys      []NearKey             // the nearest to expiry first
	About     []int64               // keys that may go, by pattern of Allow: where not all were visited, about
	Protected int64                 // names of Allow that Protect has too, of those visited
	MeanSize  policies.Opt[float64] // bytes of one; unknown where none was measured
	Complete  bool                  // every database with volatile keys was visited to its end
	Took      time.Duration
}

// Sum is all keys that may go, of whatever pattern.
func (s NearSample) Sum() (n int64) {
	for _, of := range s.About {
		n += of
	}
	return n
}

// SampleNear looks for live keys that a policy allows to go. Like CountLive it reads only: it asks ROLE right before each batch, and fails
// with ErrNotReplica where the node is a master or becomes one. No error of it holds the name of a key. It is safe for concurrent use.
func (p *Prober) SampleNear(ctx context.Context, o NearOptions) (NearSample, error) {
	if o.Batch <= 0 {
		o.Batch = 500
	}
	if o.Budget <= 0 {
		o.Budget = 10 * time.Second
	}
	start := time.Now()
	s := &nearSampler{s: p.open(true), timeout: p.opt.Timeout, o: o, near: NewNearest(o.Policy, o.Keep)}
	defer s.s.close()
	err := s.all(ctx, start.Add(o.Budget))
	if err != nil {
		return NearSample{}, fmt.Errorf("look for keys near their expiry on %s/%s: %w", p.opt.Instance, p.opt.Node.Name, withoutNames(err))
	}
	s.out.Keys, s.out.Protected, s.out.Took = s.near.Keys(), s.near.Protected, time.Since(start)
	if s.measured > 0 {
		s.out.MeanSize = policies.Known(float64(s.bytes) / float64(s.measured))
	}
	return s.out, nil
}

// withoutNames cuts the arguments off an error of the server, which repeats them when it does not know the command.
func withoutNames(err error) error {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return err
	}
	text, _, _ := strings.Cut(reply.Error(), ", with args beginning with")
	return errors.New(text)
}

// A nearSampler is one look under way.
type nearSampler struct {
	s        *session
	timeout  time.Duration // of one command
	o        NearOptions
	near     *Nearest
	measured int   // keys whose size was read
	bytes    int64 // of those
	limit    int   // of measured, in the database under way
	until    time.Time
	out      NearSample
}

func (s *nearSampler) all(ctx context.Context, until time.Time) error {
	if err := s.askRole(ctx); err != nil {
		return err
	}
	text := redis.NewStringCmd(ctx, "info", "keyspace")
	if err := s.send(ctx, text); err != nil {
		return err
	}
	in := parseInfo(text.Val())
	if !in.sections["keyspace"] {
		return oddity("INFO shows no keyspace")
	}
	dbs := slices.DeleteFunc(in.keyspace(), func(db policies.DB) bool { return db.Expires == 0 })
	s.out.About, s.out.Complete = make([]int64, len(s.o.Policy.Allow)), true
	var left int64
	for _, db := range dbs {
		left += db.Keys
	}
	for _, db := range dbs {
		s.until = time.Now().Add(time.Duration(float64(time.Until(until)) * float64(db.Keys) / float64(left))) // its part of what is left
		left -= db.Keys
		s.limit = s.measured + s.o.Measure
		before := slices.Clone(s.near.Near)
		share, err := s.walk(ctx, db.Index)
		if err != nil {
			return fmt.Errorf("db%d: %w", db.Index, err)
		}
		s.out.Complete = s.out.Complete && share == 1
		for p := range before {
			if share > 0 {
				s.out.About[p] += int64(float64(s.near.Near[p]-before[p]) / share)
			}
		}
	}
	return nil
}

// walk visits one database, to its end or until its time is up, and returns the share of it that was visited.
func (s *nearSampler) walk(ctx context.Context, db int) (share float64, err error) {
	if err := s.send(ctx, redis.NewCmd(ctx, "select", db)); err != nil {
		return 0, err
	}
	var cursor uint64
	for time.Now().Before(s.until) {
		start := time.Now()
		names, next, err := s.scan(ctx, cursor)
		if err != nil {
			return 0, err
		}
		if err := s.look(ctx, db, names); err != nil {
			return 0, err
		}
		if cursor, share = next, visited(next); cursor == 0 {
			break
		}
		if err := rest(ctx, time.Since(start)); err != nil { // as much time for others as this took
			return 0, err
		}
	}
	return share, nil
}

// send gives one command the timeout of a probe.
func (s *nearSampler) send(ctx context.Context, cmd redis.Cmder) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.s.client.Process(ctx, cmd)
}

// askRole opens the guard for one more read that only a replica may be asked.
func (s *nearSampler) askRole(ctx context.Context) error {
	cmd := redis.NewCmd(ctx, "role")
	if err := s.send(ctx, cmd); err != nil {
		return err
	}
	r, _, err := roleOf(cmd)
	if err == nil && r != policies.RoleReplica {
		err = ErrNotReplica
	}
	return err
}

func (s *nearSampler) scan(ctx context.Context, cursor uint64) (names []KeyName, next uint64, err error) {
	if err := s.askRole(ctx); err != nil {
		return nil, 0, err
	}
	cmd := redis.NewScanCmd(ctx, nil, "scan", cursor, "count", s.o.Batch)
	if err := s.send(ctx, cmd); err != nil {
		return nil, 0, err
	}
	found, next := cmd.Val()
	for _, name := range found {
		names = append(names, KeyName(name))
	}
	return names, next, nil
}

// nearChunk is how many keys are looked at in one go.
const nearChunk = 100

// look reads the TTL of the wanted ones of some names.
func (s *nearSampler) look(ctx context.Context, db int, names []KeyName) error {
	for keys := range slices.Chunk(s.near.Wanted(db, names), nearChunk) {
		cmds, err := s.each(ctx, keys, "pttl")
		if err != nil {
			return err
		}
		at := time.Now()
		var near []NearKey
		for i, cmd := range cmds {
			pttl, err := cmd.(*redis.Cmd).Int64()
			if err != nil {
				return err
			}
			if s.near.Take(keys[i], pttl, at) {
				near = append(near, keys[i])
			}
		}
		if err := s.size(ctx, near); err != nil {
			return err
		}
	}
	return nil
}

// size measures keys as long as the mean needs more. A server that refuses leaves it unknown.
func (s *nearSampler) size(ctx context.Context, keys []NearKey) error {
	keys = keys[:min(len(keys), max(0, s.limit-s.measured))]
	if len(keys) == 0 {
		return nil
	}
	cmds, err := s.each(ctx, keys, "memory", "usage")
	if err != nil {
		return err
	}
	for _, cmd := range cmds {
		if size, err := cmd.(*redis.Cmd).Int64(); err == nil { // an error: gone since, or refused
			s.measured++
			s.bytes += size
		}
	}
	return nil
}

// each sends one command for each key, right after the node said that it is a replica.
func (s *nearSampler) each(ctx context.Context, keys []NearKey, command ...any) ([]redis.Cmder, error) {
	if err := s.askRole(ctx); err != nil {
		return nil, err
	}
	cmds := make([]redis.Cmder, len(keys))
	for i, k := range keys {
		cmds[i] = redis.NewCmd(ctx, append(command[:len(command):len(command)], string(k.Name))...)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return cmds, s.s.pipeline(ctx, cmds...)
}
