package probe

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"dcshealer/policies"
)

// What the bytes of expired keys are told from. A replica shows neither the names nor the sizes of its expired keys, but it holds
// them: the memory of its data set less what the live keys hold is theirs. The live keys are known by a sample, and MEMORY USAGE
// leaves out what differs by version and allocator, so that this difference is taken for what it is worth beside the other guess,
// that expired keys are like the live ones with a TTL.

// An engine is what has to be known of a server's tables, measured by used_memory before and after the deletion of keys on
// Redis 6.0.16, 7.0.15, 8.0.2, Valkey 8.1.1 and 9.1.2.
type engine struct {
	// What MEMORY STATS adds to overhead.hashtable.main and .expires for each key, beside the buckets.
	entry, expireEntry float64
	// What MEMORY USAGE leaves out of a key with a TTL and one without, and how far that may be off; share is of the size it tells.
	left, leftPlain, share float64
	leftOff, shareOff      float64
	// Valkey 8.1 leaves out the name too, where the value is not kept beside it.
	name bool
	// Buckets of seven keys, 64 bytes, instead of slots of one, 8 bytes.
	wide bool
	// A table is made smaller at this fill, by this factor at once; factor 0: to what the keys need.
	shrinkAt float64
	factor   float64
	// What a replica without keys tells as its data set, and what each command that ever ran adds to that.
	beside, histogram float64
	// A replica keeps the room that a large command, transaction or script of its master took, up to 4 MB, and tells of none of it.
	room bool
}

// engineOf is the engine of the server's version, of the nearest older one that was measured where that is unknown.
//
// The entry in the table of expires is 24 bytes (32 where the allocator rounds to 16), that in the table of keys is told as 24 and
// may be 32: 24 to 40 a key, 40 in the builds measured. 6.0 also tells strings and lists before rounding.
func engineOf(s policies.Snapshot) engine {
	line := s.Line().Or(policies.Line{})
	redis := engine{entry: 40, expireEntry: 24, left: 32, leftPlain: 4, leftOff: 8, shareOff: 0.06, shrinkAt: 0.1, histogram: histogramBytes}
	switch {
	case s.Product == "valkey" && line.Compare(policies.Line{Major: 9}) >= 0:
		return engine{entry: 16, left: 5, leftPlain: 3, leftOff: 4, shareOff: 0.02, wide: true, shrinkAt: 0.13, factor: 4, histogram: histogramBytes}
	case s.Product == "valkey" && line.Compare(policies.Line{Major: 8, Minor: 1}) >= 0:
		return engine{entry: 16, left: 2, leftOff: 6, shareOff: 0.03, name: true, wide: true, shrinkAt: 0.13, factor: 4, histogram: histogramBytes}
	case s.Product != "valkey" && line.Major < 7:
		redis.left, redis.leftPlain, redis.share, redis.leftOff = 40, 8, 0.06, 10
		redis.beside, redis.histogram, redis.room = 56<<10, 0, true
	case s.Product != "valkey" && line.Major >= 8:
		redis.shrinkAt, redis.factor = 0.125, 8
	}
	return redis
}

// cost is what a live key holds by what MEMORY USAGE tells of it.
func (e engine) cost(name int, usage int64, volatile bool) float64 {
	told := float64(usage)
	left := e.leftPlain
	if volatile {
		left = e.left
	}
	if e.name {
		left += leftName(name, usage, volatile)
	}
	return told + left + e.share*told
}

// leftName is what Valkey 8.1 leaves out of a key whose object holds the name and the time (8 bytes) but not the value: the object is
// told as 16 bytes. A value that fits into 64 bytes with them is in the object and told with it.
func leftName(name int, usage int64, volatile bool) float64 {
	const head, told, most = 16 + 1, 16, 64
	size := head + name + 2
	if name > 31 {
		size += 2
	}
	if volatile {
		size += 8
	}
	if usage <= most && size+5 <= most {
		return 0
	}
	return float64((size+15)/16*16 - told)
}

// off is how far the cost of keys of this mean may be off, for a reason that all of them share.
func (e engine) off(cost float64) float64 { return e.leftOff + e.shareOff*cost }

// slots is the number of slots or buckets of a table of n keys: by the bytes that MEMORY STATS tells of it, or as many as they need
// where those are unknown or make no sense. A table under way to another size is told with both; the larger one counts.
func (e engine) slots(n int64, told policies.Opt[float64], entry float64) float64 {
	keys, width := float64(max(n, 1)), e.width()
	if e.wide {
		keys /= 5.4 // filled to 77 % at most
	}
	if buckets := told.V - float64(n)*entry; told.Known && buckets >= width*keys/2 {
		return math.Exp2(math.Floor(math.Log2(buckets / width)))
	}
	return math.Exp2(math.Ceil(math.Log2(keys)))
}

// entries is what a table holds beside its slots: on Valkey also the buckets that hang on full ones, which go with their keys.
func (e engine) entries(n int64, told policies.Opt[float64], entry float64) float64 {
	least := float64(n) * entry
	if !told.Known {
		return least
	}
	return max(told.V-e.width()*e.slots(n, told, entry), least)
}

// width is the bytes of a slot or bucket.
func (e engine) width() float64 {
	if e.wide {
		return 64
	}
	return 8
}

// shrunk is what a table gives back, some time after the deletion, when so many of its keys are left. One still filled to a tenth stays.
func (e engine) shrunk(slots float64, left int64) float64 {
	keys := 1.0
	if e.wide {
		keys = 7
	}
	small := slots
	for small > 4/keys && float64(left) < e.shrinkAt*small*keys {
		if e.factor == 0 {
			small = math.Exp2(math.Ceil(math.Log2(float64(max(left, 4)))))
			break
		}
		small /= e.factor
	}
	return e.width() * max(slots-small, 0)
}

// A stratum is the sampled live keys of one kind, by what they hold.
type stratum struct {
	n          int
	mean, dev2 float64 // Welford's
}

func (s *stratum) add(cost float64) {
	s.n++
	d := cost - s.mean
	s.mean += d / float64(s.n)
	s.dev2 += d * (cost - s.mean)
}

// variance is that of the mean over a sample of so many keys; all of a mean that only one key tells.
func (s stratum) variance(of float64) float64 {
	if s.n < 2 {
		return s.mean * s.mean
	}
	return s.dev2 / float64(s.n-1) / float64(s.n) * max(0, 1-float64(s.n)/max(of, 1))
}

// enough reports whether more keys would tell little more.
func (s stratum) enough() bool {
	return s.n >= sampleMost || s.n >= sampleLeast && math.Sqrt(s.variance(math.Inf(1))) <= s.mean/100
}

// dbSize is what is known of the memory of one database.
type dbSize struct {
	index                   int
	keys, volatile, expired int64
	mainTable, expiresTable policies.Opt[float64] // MEMORY STATS, the entries included
	withTTL, plain          stratum

	cost, plainCost float64 // of an expired or live key with a TTL, and of one without
	var1, var2      float64 // their variances
	alike           bool    // cost is that of live keys with a TTL of this database
	all             bool    // every live key was measured
	bytes           float64
}

// add takes one live key that was measured.
func (d *dbSize) add(e engine, name int, usage int64, volatile bool) {
	cost := e.cost(name, usage, volatile)
	if volatile {
		d.withTTL.add(cost)
	} else {
		d.plain.add(cost)
	}
}

// wanted reports whether more samples would tell more.
func (d *dbSize) wanted() bool {
	plain := d.keys > d.volatile && !d.plain.enough()
	withTTL := d.volatile > 0 && !d.withTTL.enough()
	return (plain || withTTL) && d.plain.n+d.withTTL.n < 2*sampleMost
}

// visits is about how many keys have to be visited: all where some may be expired.
func (d *dbSize) visits() float64 {
	if d.volatile == 0 {
		return float64(min(d.keys, sampleMost))
	}
	return float64(d.keys)
}

// liveVolatile is the number of live keys with a TTL, live that of all.
func (d *dbSize) liveVolatile() float64 { return float64(max(d.volatile-d.expired, 0)) }
func (d *dbSize) live() float64         { return float64(max(d.keys-d.expired, 0)) }
func (d *dbSize) livePlain() float64    { return max(d.live()-d.liveVolatile(), 0) }

// sizes are the databases of one node.
type sizes struct {
	engine
	dbs     []*dbSize
	dataset policies.Opt[float64] // dataset.bytes of MEMORY STATS
	own     float64               // what the memory of the data set adds to the guess for the expired keys alone
}

// besideOff is how far the memory beside the keys may be off: from 7.0 on the buffers of the link to the master are told a second late.
func (z *sizes) besideOff() float64 {
	if z.room {
		return 4 << 20
	}
	return 256 << 10
}

// histogramBytes is what the latencies of a command take, from 7.0 on, once it has run. What else a replica without keys tells as its
// data set was -45 to 55 kB there, and 40 to 75 kB on 6.0.
const histogramBytes = 24688

// newSizes reads the databases off INFO, those with keys with a TTL first.
func newSizes(in info) sizes {
	var s policies.Snapshot
	in.server(&s)
	z := sizes{engine: engineOf(s)}
	z.beside += z.histogram * float64(in.commandsRun())
	for _, db := range in.keyspace() {
		z.dbs = append(z.dbs, &dbSize{index: db.Index, keys: db.Keys, volatile: db.Expires})
	}
	slices.SortStableFunc(z.dbs, func(a, b *dbSize) int { return cmp.Compare(min(b.volatile, 1), min(a.volatile, 1)) })
	return z
}

// commandsRun is the number of commands that ran since the start or CONFIG RESETSTAT.
func (in info) commandsRun() (n int) {
	for field := range in.fields {
		if strings.HasPrefix(field, "cmdstat_") {
			n++
		}
	}
	return n
}

// fill takes the answer of MEMORY STATS. A field that is missing or of another type stays unknown.
func (z *sizes) fill(reply []any) {
	stats := statsOf(reply)
	z.dataset = wholeOf(stats["dataset.bytes"])
	for _, d := range z.dbs {
		db, _ := stats[fmt.Sprintf("db.%d", d.index)].([]any)
		tables := statsOf(db)
		d.mainTable, d.expiresTable = wholeOf(tables["overhead.hashtable.main"]), wholeOf(tables["overhead.hashtable.expires"])
	}
}

// statsOf reads a list of names and values.
func statsOf(reply []any) map[string]any {
	out := map[string]any{}
	for i := 0; i+1 < len(reply); i += 2 {
		if name, ok := reply[i].(string); ok {
			out[name] = reply[i+1]
		}
	}
	return out
}

func wholeOf(v any) policies.Opt[float64] {
	n, ok := v.(int64)
	return policies.Opt[float64]{V: float64(n), Known: ok}
}

// meanSize is the mean of the expired keys; that of a live one with a TTL where none is expired.
func (z *sizes) meanSize() policies.Opt[float64] {
	if expired := z.sum(func(d *dbSize) float64 { return float64(d.expired) }); expired > 0 {
		return policies.Known(z.sum(func(d *dbSize) float64 { return d.bytes }) / expired)
	}
	return z.liveSize()
}

// liveSize is the mean of the live keys with a TTL; unknown where none was measured.
func (z *sizes) liveSize() policies.Opt[float64] {
	var keys, bytes float64
	for _, d := range z.dbs {
		if d.alike {
			keys, bytes = keys+d.liveVolatile(), bytes+d.liveVolatile()*d.cost
		}
	}
	return policies.Opt[float64]{V: bytes / max(keys, 1), Known: keys > 0}
}

// data is what the keys hold with their entries in the tables, of which only the slots are left out. Unknown where MEMORY STATS is.
func (z *sizes) data() policies.Opt[float64] {
	if !z.dataset.Known {
		return policies.Opt[float64]{}
	}
	sum := z.dataset.V - z.beside
	for _, d := range z.dbs {
		sum += z.entries(d.keys, d.mainTable, z.entry) + z.entries(d.volatile, d.expiresTable, z.expireEntry)
	}
	return policies.Known(max(sum, 0))
}

// weigh fills in the bytes of each database's expired keys and says how, for a person. "" when nothing tells.
func (z *sizes) weigh() (method string) {
	sampled, data := z.fillCosts(), z.data()
	z.own = 0
	switch {
	case sampled == 0 && !data.Known:
		return ""
	case sampled == 0:
		method = z.spread(data.V)
	default:
		method = fmt.Sprintf("bytes by %d live keys", sampled)
		for _, d := range z.dbs {
			d.bytes = float64(d.expired) * d.cost
		}
		if data.Known {
			z.own = z.settle(data.V)
			method += " and the memory of the data set"
		}
		if z.own > 1<<20 && slices.ContainsFunc(z.dbs, func(d *dbSize) bool { return !d.all && d.live() > 0 }) {
			method += fmt.Sprintf(", %.0f MiB of it because no live key that was looked at holds them", z.own/(1<<20))
		}
	}
	for _, d := range z.dbs {
		d.bytes += z.tables(d)
	}
	return method
}

// spread gives each key the same part of the memory of the data set.
func (z *sizes) spread(data float64) (method string) {
	keys := z.sum(func(d *dbSize) float64 { return float64(d.keys) })
	for _, d := range z.dbs {
		d.bytes = data * float64(d.expired) / max(keys, 1)
	}
	if z.sum((*dbSize).live) == 0 {
		return "bytes by the memory of the data set, where no key is alive"
	}
	return "bytes by an even share of the memory of the data set"
}

// tables is what the tables of a database give back.
func (z *sizes) tables(d *dbSize) float64 {
	if d.expired == 0 {
		return 0
	}
	main, expires := z.slots(d.keys, d.mainTable, z.entry), z.slots(d.volatile, d.expiresTable, z.expireEntry)
	return z.shrunk(main, int64(d.live())) + z.shrunk(expires, int64(d.liveVolatile()))
}

func (z *sizes) sum(of func(*dbSize) float64) (sum float64) {
	for _, d := range z.dbs {
		sum += of(d)
	}
	return sum
}

// fillCosts says what a key of each database holds, by its own sample, else by that of its other keys, else by those of the other
// databases. It returns the number of keys sampled.
func (z *sizes) fillCosts() (sampled int) {
	var all stratum // by what a key without TTL of its size would hold
	extra := z.left - z.leftPlain
	pool := func(s stratum, less float64) {
		if s.n > 0 {
			all.mean = (all.mean*float64(all.n) + (s.mean-less)*float64(s.n)) / float64(all.n+s.n)
			all.n += s.n
		}
	}
	for _, d := range z.dbs {
		pool(d.withTTL, extra)
		pool(d.plain, 0)
	}
	for _, d := range z.dbs {
		guess := all.mean
		switch {
		case d.plain.n > 0:
			guess = d.plain.mean
		case d.withTTL.n > 0:
			guess = d.withTTL.mean - extra
		}
		d.cost, d.var1 = guess+extra, guess*guess
		d.plainCost, d.var2 = guess, guess*guess
		if d.alike = d.withTTL.n > 0; d.alike {
			d.cost, d.var1 = d.withTTL.mean, d.withTTL.variance(d.liveVolatile())
		}
		if d.plain.n > 0 {
			d.var2 = d.plain.variance(d.livePlain())
		}
	}
	return all.n
}

// settle brings the guess that expired keys are like the live ones together with the memory of the data set. What this guess leaves
// over or lacks is shared out: as far as the sampling and what MEMORY USAGE leaves out may explain it, over all keys by their part
// in that doubt; what is beyond it is the expired keys' own, and returned.
func (z *sizes) settle(data float64) float64 {
	var told, shared, single, weight float64
	for _, d := range z.dbs {
		withTTL := float64(d.expired) + d.liveVolatile()
		told += withTTL*d.cost + d.livePlain()*d.plainCost
		shared += withTTL*z.off(d.cost) + d.livePlain()*z.off(d.plainCost)
		single += d.livePlain()*d.livePlain()*d.var2 + d.doubt(withTTL)
		weight += d.weight()
	}
	if weight == 0 {
		return 0
	}
	over := data - told
	doubt := shared*shared + single + z.besideOff()*z.besideOff()
	own := max(0, 1-doubt/max(over*over, 1))
	for _, d := range z.dbs {
		x := float64(d.expired)
		part := (x*z.off(d.cost)*shared + d.doubtOfExpired()) / doubt
		d.bytes += over * (own*d.weight()/weight + (1-own)*part)
		d.bytes = max(d.bytes, x*min(d.cost, leastKey))
	}
	return over * own
}

// leastKey is less than any key with a TTL holds.
const leastKey = 32

// doubt is the variance of what the keys with a TTL hold, doubtOfExpired its covariance with what the expired ones do. Where the
// cost is that of other keys it says nothing of the live ones with a TTL, of which there are none or few.
func (d *dbSize) doubt(withTTL float64) float64 { return withTTL * withTTL * d.var1 }
func (d *dbSize) doubtOfExpired() float64 {
	return float64(d.expired) * (float64(d.expired) + d.liveVolatile()) * d.var1
}

// weight is the part that expired keys of a database take of memory that is theirs: by the guess, and four times that where no live
// key backs it.
func (d *dbSize) weight() float64 {
	w := float64(d.expired) * d.cost
	if !d.alike {
		w *= 4
	}
	return w
}
