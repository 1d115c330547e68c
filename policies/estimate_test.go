package policies

import (
	"strings"
	"testing"
)

func TestBoundExpired(t *testing.T) {
	mem := func(used, overhead, startup int64) Memory {
		return Memory{Used: Known(used), NotCounted: Known[int64](0), Overhead: Known(overhead), Startup: Known(startup), Dataset: Known(used - overhead)}
	}
	held := func(keys, volatile int64) []DB { return []DB{{0, keys, volatile}} }
	unknown := Opt[int64]{}
	for _, tt := range []struct {
		what        string
		s           Snapshot
		keys, bytes Opt[int64] // the most
		least       Opt[int64] // of both
		method      string
	}{
		{"nothing is known", Snapshot{}, unknown, unknown, unknown, "not known without acting: INFO shows no keyspace"},
		{"no key", Snapshot{KeyspaceKnown: true}, Known[int64](0), Known[int64](0), Known[int64](0), "no key has a TTL"},
		{"no key with a TTL", Snapshot{KeyspaceKnown: true, DBs: held(1000, 0), Memory: mem(100<<20, 2<<20, 1<<20)},
			Known[int64](0), Known[int64](0), Known[int64](0), "no key has a TTL"},
		{"all have a TTL", Snapshot{KeyspaceKnown: true, DBs: held(1000, 1000), Memory: mem(100<<20, 2<<20, 1<<20)},
			Known[int64](1000), Known[int64](99 << 20), Known[int64](0), "not known without acting: none to all of the 1000 keys with a TTL, 0 to 99 MiB"},
		{"others hold at least something", Snapshot{KeyspaceKnown: true, DBs: []DB{{0, 1 << 20, 1000}, {3, 1000, 1000}}, Memory: mem(100<<20, 2<<20, 1<<20)},
			Known[int64](2000), Known[int64](99<<20 - (1<<20-1000)*leastKeyBytes), Known[int64](0), "not known without acting: none to all of the 2000 keys with a TTL, 0 to 83 MiB"},
		{"the memory is not known", Snapshot{KeyspaceKnown: true, DBs: held(1000, 500)},
			Known[int64](500), unknown, Known[int64](0), "not known without acting: none to all of the 500 keys with a TTL"},
		{"less memory than that of an empty server", Snapshot{KeyspaceKnown: true, DBs: held(1000, 10), Memory: mem(1<<20, 1<<20, 1<<20)},
			Known[int64](10), Known[int64](0), Known[int64](0), "not known without acting: none to all of the 10 keys with a TTL, 0 to 0 MiB"},
	} {
		b := BoundExpired(tt.s)
		if b.MostKeys != tt.keys || b.MostBytes != tt.bytes || b.LeastKeys != tt.least || b.LeastBytes != tt.least || b.Method != tt.method {
			t.Errorf("%s: got %+v, want at most %v keys, %v bytes: %q", tt.what, b, tt.keys, tt.bytes, tt.method)
		}
		if strings.Contains(b.Method, NotKnownWithoutActing) == (b.MostKeys.Known && b.MostKeys.V == 0) {
			t.Errorf("%s: %q", tt.what, b.Method)
		}
	}
}
