package probe

import (
	"math"
	"testing"

	"dcshealer/policies"
)

var (
	redis6  = engineOf(policies.Snapshot{Product: "redis", Version: "6.0.16"})
	redis7  = engineOf(policies.Snapshot{Product: "redis", Version: "7.0.15"})
	redis8  = engineOf(policies.Snapshot{Product: "redis", Version: "8.0.2"})
	valkey8 = engineOf(policies.Snapshot{Product: "valkey", Version: "8.1.1"})
	valkey9 = engineOf(policies.Snapshot{Product: "valkey", Version: "9.1.2"})
)

// What MEMORY USAGE told of a string and what its deletion gave back in truth, on the versions' own servers.
func TestCostOfAKey(t *testing.T) {
	for _, tt := range []struct {
		what   string
		e      engine
		name   int
		usage  int64
		plain  bool
		freed  float64
		within float64
	}{
		{"6.0, 10 bytes", redis6, 12, 68, false, 112, 1},
		{"6.0, 100 bytes", redis6, 20, 184, false, 224, 12},
		{"6.0, a hash", redis6, 20, 213, false, 272, 12},
		{"7.0, 10 bytes", redis7, 12, 72, false, 112, 8},
		{"7.0, 100 bytes", redis7, 20, 184, false, 224, 8},
		{"7.0, without TTL", redis7, 20, 184, true, 192, 4},
		{"8.0, a hash", redis8, 20, 232, false, 271, 8},
		{"8.1, all in one object", valkey8, 12, 64, false, 65, 2},
		{"8.1, a value of its own", valkey8, 20, 128, false, 162, 2},
		{"8.1, a long name", valkey8, 60, 64, false, 146, 2},
		{"8.1, without TTL", valkey8, 20, 128, true, 160, 2},
		{"9.1, 10 bytes", valkey9, 12, 48, false, 53, 2},
		{"9.1, 100 bytes", valkey9, 20, 160, false, 165, 2},
	} {
		if got := tt.e.cost(tt.name, tt.usage, !tt.plain); math.Abs(got-tt.freed) > tt.within {
			t.Errorf("%s: %.0f bytes, want %.0f", tt.what, got, tt.freed)
		}
	}
}

// The tables as the servers told them before and after a deletion.
func TestTablesShrink(t *testing.T) {
	told := policies.Known[float64]
	for _, tt := range []struct {
		what          string
		e             engine
		n, left       int64
		told          policies.Opt[float64]
		entry         float64
		slots, shrunk float64
	}{
		{"7.0, half of it is left", redis7, 20000, 10000, told(1062144), 40, 32768, 0},
		{"7.0, a twentieth", redis7, 10000, 500, told(531072), 40, 16384, 8 * (16384 - 512)},
		{"7.0, nothing", redis7, 10000, 0, told(531072), 40, 16384, 8 * (16384 - 4)},
		{"7.0, the table of expires", redis7, 10000, 10000, told(371072), 24, 16384, 0},
		{"7.0, not told", redis7, 10000, 10000, policies.Opt[float64]{}, 40, 16384, 0},
		{"7.0, told otherwise than known", redis7, 10000, 10000, told(131072), 40, 16384, 0},
		{"8.0, a twentieth", redis8, 10000, 500, told(533768), 40, 16384, 8 * (16384 - 2048)},
		{"9.1, half of it is left", valkey9, 20000, 10000, told(612432), 16, 4096, 0},
		{"9.1, a twentieth", valkey9, 10000, 500, told(307216), 16, 2048, 64 * (2048 - 512)},
		{"9.1, the table of expires", valkey9, 10000, 0, told(147472), 0, 2048, 64 * 2048},
		{"an empty table", redis7, 0, 0, told(0), 40, 1, 0},
	} {
		slots := tt.e.slots(tt.n, tt.told, tt.entry)
		if got := tt.e.shrunk(slots, tt.left); slots != tt.slots || math.Abs(got-tt.shrunk) > 256 {
			t.Errorf("%s: %v slots, %v bytes less; want %v and %v", tt.what, slots, got, tt.slots, tt.shrunk)
		}
	}
}

// one is a database of 7.0 of which MEMORY STATS is not known.
func one(keys, volatile, expired int64, withTTL, plain float64, sampled int) *dbSize {
	d := &dbSize{keys: keys, volatile: volatile, expired: expired}
	for range sampled {
		if withTTL > 0 {
			d.withTTL.add(withTTL)
		}
		if plain > 0 {
			d.plain.add(plain)
		}
	}
	return d
}

func TestWeigh(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		what   string
		data   float64 // that all keys hold; 0: unknown
		dbs    []*dbSize
		bytes  float64
		within float64 // in parts of bytes
		method string
	}{
		{"nothing is known", 0, []*dbSize{one(1e6, 1e6, 5e5, 0, 0, 0)}, 0, 0, ""},
		{"the sample alone", 0, []*dbSize{one(1e6, 1e6, 5e5, 200, 0, 300)}, 1e8, 0, "bytes by 300 live keys"},
		{"the data set alone, one key as another", 2e8, []*dbSize{one(1e6, 1e6, 5e5, 0, 0, 0)}, 1e8, 0, "bytes by an even share of the memory of the data set"},
		{"the data set alone, no key alive", 2e8, []*dbSize{one(1e6, 1e6, 1e6, 0, 0, 0)}, 2e8, 0.1, "bytes by the memory of the data set, where no key is alive"},
		{"both agree", 2e8, []*dbSize{one(1e6, 1e6, 5e5, 200, 0, 300)}, 1e8, 0.001, "bytes by 300 live keys and the memory of the data set"},
		{"all keys cost a little more than thought", 2.1e8, []*dbSize{one(1e6, 1e6, 5e5, 200, 0, 300)}, 1.05e8, 0.005, "bytes by 300 live keys and the memory of the data set"},
		{"all keys cost a little less", 1.9e8, []*dbSize{one(1e6, 1e6, 5e5, 200, 0, 300)}, 0.95e8, 0.005, "bytes by 300 live keys and the memory of the data set"},
		{"expired keys are five times as large", 6e8, []*dbSize{one(1e6, 1e6, 5e5, 200, 0, 300)}, 5e8, 0.02,
			"bytes by 300 live keys and the memory of the data set, 381 MiB of it because no live key that was looked at holds them"},
		{"expired keys are a fifth as large", 1.2e8, []*dbSize{one(1e6, 1e6, 5e5, 200, 0, 300)}, 0.2e8, 0.15, "bytes by 300 live keys and the memory of the data set"},
		{"live keys of others are of another size", 1e6*200 + 5e5*1000, []*dbSize{one(1e6, 7.5e5, 2.5e5, 200, 0, 300), one(5e5, 0, 0, 0, 1000, 300)}, 0.5e8, 0.2, ""},
		{"nothing expired", 9e8, []*dbSize{one(1e6, 1e6, 0, 200, 0, 300)}, 0, 0, "bytes by 300 live keys and the memory of the data set"},
		{"no live key with a TTL", 1e6*200 + 1e6*500, []*dbSize{one(2e6, 1e6, 1e6, 0, 200, 300)}, 5e8, 0.05, ""},
		{"less than any key can hold", 1, []*dbSize{one(1e6, 1e6, 5e5, 200, 0, 300)}, 5e5 * leastKey, 0.01, "bytes by 300 live keys and the memory of the data set"},
	} {
		z := sizes{engine: redis7, dbs: tt.dbs}
		if tt.data > 0 {
			z.dataset = policies.Known(tt.data)
			for _, d := range z.dbs {
				z.dataset.V -= float64(d.keys)*z.entry + float64(d.volatile)*z.expireEntry
			}
		}
		method := z.weigh()
		got := z.sum(func(d *dbSize) float64 { return d.bytes })
		if math.Abs(got-tt.bytes) > tt.within*tt.bytes+mib/2 || tt.method != "" && method != tt.method {
			t.Errorf("%s: %.0f bytes (%q), want %.0f (%q)", tt.what, got, method, tt.bytes, tt.method)
		}
	}
}

func TestStatsOfWhatIsNoAnswer(t *testing.T) {
	for _, reply := range [][]any{nil, {}, {"dataset.bytes"}, {1, 2, "dataset.bytes", "x"}, {"dataset.bytes", nil, "db.0", "x"}} {
		z := sizes{dbs: []*dbSize{{}}}
		z.fill(reply)
		if z.dataset.Known || z.dbs[0].mainTable.Known {
			t.Errorf("%v: %+v", reply, z)
		}
	}
}

func TestStratum(t *testing.T) {
	var s stratum
	for _, v := range []float64{100, 200, 300, 400} {
		s.add(v)
	}
	// The variance of these is 16666.7; of the mean of four of many a quarter of it; of all four none.
	if s.mean != 250 || math.Abs(s.variance(math.Inf(1))-4166.7) > 0.1 || s.variance(4) != 0 {
		t.Errorf("mean %v, variance %v and %v", s.mean, s.variance(math.Inf(1)), s.variance(4))
	}
	var single stratum
	single.add(100)
	if single.variance(1000) != 10000 {
		t.Errorf("the variance by one key is %v", single.variance(1000))
	}
}
