package policies

import (
	"strings"
	"testing"
	"time"
)

const mebi = int64(1 << 20)

// fullMaster is a master at 100 of 100 MiB, half of whose 1,000,000 keys have a TTL.
func fullMaster() Snapshot {
	s := newTrio().m
	s.DBs = []DB{{Index: 0, Keys: 600_000, Expires: 500_000}, {Index: 3, Keys: 400_000}}
	s.Memory = Memory{Used: Known(101 * mebi), NotCounted: Known(mebi), Max: Known(100 * mebi), Dataset: Known(80 * mebi), ClientsNormal: Known(2 * mebi)}
	return s
}

func reclaimOf(m Snapshot) ReclaimFacts {
	f := ReclaimFacts{Facts: healthyFacts(), M: m, CalmRTT: 10 * time.Millisecond, Diagnosis: DiagnoseMemory(m, PresetDefault(), Estimate{})}
	f.Action, f.Target, f.Planned, f.Evidence, f.SentinelNodes, f.Commands = ReclaimExpired, m, m, []Snapshot{m}, nil, []string{"scan", "select"}
	return f
}

func TestReclaimGuards(t *testing.T) {
	exact := func(keys, bytes int64) func(*ReclaimFacts) {
		return func(f *ReclaimFacts) {
			f.Diagnosis = DiagnoseMemory(f.M, f.Policy, Estimate{Keys: Known(keys), Bytes: Known(bytes), Exact: true})
		}
	}
	for _, c := range []struct {
		name   string
		change func(*Snapshot)
		facts  func(*ReclaimFacts)
		want   string
		reason string
	}{
		{"how many have expired is not known: allowed, the sweep ends itself", nil, nil, "", ""},
		{"an exact estimate that is enough", nil, exact(200_000, 20*mebi), "", ""},

		// worthwhile
		{"too little, even if the expired keys were four times as big as the live ones", nil, exact(10_000, 10*mebi/4-1), "worthwhile", "10000 expired keys"},
		{"enough, if they were", nil, exact(10_000, 10*mebi/4), "", ""},
		{"an estimate from a part of the keys denies nothing", nil, func(f *ReclaimFacts) {
			f.Diagnosis = DiagnoseMemory(f.M, f.Policy, Estimate{Keys: Known(int64(1000)), Bytes: Known(mebi)})
		}, "", ""},
		{"an exact count of none", nil, exact(0, 0), "worthwhile", "0 expired keys"},
		{"an exact count of none, bytes not known", nil, func(f *ReclaimFacts) { f.Diagnosis.Expired, f.Diagnosis.Exact = Known(int64(0)), true }, "worthwhile", "expired"},
		{"no key has a TTL", func(s *Snapshot) { s.DBs = []DB{{Keys: 1_000_000}} }, nil, "worthwhile", "no key of node-m has a TTL"},
		{"no key at all", func(s *Snapshot) { s.DBs = nil }, nil, "worthwhile", "no key of node-m has a TTL"},
		{"too few with a TTL, even if they were the biggest", func(s *Snapshot) { s.DBs = []DB{{Keys: 1_000_000, Expires: 10_000}} }, nil, "worthwhile", "10000 keys with a TTL"},
		{"few with a TTL, enough if they are the bigger ones", func(s *Snapshot) { s.DBs = []DB{{Keys: 1_000_000, Expires: 30_000}} }, nil, "", ""},
		{"client buffers hold the memory", func(s *Snapshot) {
			s.Memory.Dataset, s.ClientOutput = Known(40*mebi), Known(55*mebi)
		}, nil, "worthwhile", "client buffers hold the memory of node-m"},
		{"keyspace not known", func(s *Snapshot) { s.KeyspaceKnown = false }, nil, "worthwhile", "node-m"},
		{"memory not known", func(s *Snapshot) { s.Memory.NotCounted = Opt[int64]{} }, nil, "worthwhile", "node-m"},
		{"no diagnosis", nil, func(f *ReclaimFacts) { f.Diagnosis = MemoryDiagnosis{} }, "worthwhile", "node-m"},

		// is-master
		{"a replica", func(s *Snapshot) { s.Replication.Role = RoleReplica }, nil, "is-master", "node-m"},
		{"role not known", func(s *Snapshot) { s.Replication.Role = "" }, nil, "identity is-master", "node-m"},
		{"not reachable", func(s *Snapshot) { s.Reach = ReachHung }, nil, "is-master", "node-m"},

		// busy
		{"saving", func(s *Snapshot) { s.Persistence.BgsaveRunning = Known(true) }, nil, "busy?", "node-m is saving"},
		{"rewriting its AOF", func(s *Snapshot) { s.Persistence.AOFRewriteRunning = Known(true) }, nil, "busy?", "node-m is saving"},
		{"saving not known", func(s *Snapshot) { s.Persistence.BgsaveRunning = Opt[bool]{} }, nil, "busy", "node-m"},
		{"rewriting not known", func(s *Snapshot) { s.Persistence.AOFRewriteRunning = Opt[bool]{} }, nil, "busy", "node-m"},
		{"loading not known", func(s *Snapshot) { s.Loading = Opt[bool]{} }, nil, "busy", "node-m"},
		{"loading: it will be done", func(s *Snapshot) { s.Reach, s.Loading = ReachLoading, Known(true) }, nil, "busy?|is-master?", "node-m is loading"},
		{"clients paused: SCAN deletes nothing", func(s *Snapshot) { s.Clients.Paused = Known("client_pause") }, nil, "busy?", "client_pause"},
		{"copying to a replica", func(s *Snapshot) { s.Replication.Replicas[1].State = "wait_bgsave" }, nil, "busy?", "10.0.0.3:6379"},

		// latency
		{"round trip not measured", func(s *Snapshot) { s.RTT = 0 }, nil, "latency", "node-m"},
		{"five times the calm round trip", func(s *Snapshot) { s.RTT = 50 * time.Millisecond }, nil, "", ""},
		{"more than that", func(s *Snapshot) { s.RTT = 50*time.Millisecond + 1 }, nil, "latency?", "node-m"},
		{"a calm time too quick to multiply: the floor", func(s *Snapshot) { s.RTT = 20 * time.Millisecond }, func(f *ReclaimFacts) { f.CalmRTT = time.Microsecond }, "", ""},
		{"over the floor", func(s *Snapshot) { s.RTT = 20*time.Millisecond + 1 }, func(f *ReclaimFacts) { f.CalmRTT = time.Microsecond }, "latency?", "node-m"},
		{"no calm time known, answers within 100 ms", func(s *Snapshot) { s.RTT = 100 * time.Millisecond }, func(f *ReclaimFacts) { f.CalmRTT = 0 }, "", ""},
		{"no calm time known, slower", func(s *Snapshot) { s.RTT = 101 * time.Millisecond }, func(f *ReclaimFacts) { f.CalmRTT = 0 }, "latency?", "node-m"},

		// common
		{"SCAN is renamed", func(s *Snapshot) { s.Renamed = []string{"scan"} }, nil, "capability", "SCAN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := fullMaster()
			if c.change != nil {
				c.change(&m)
			}
			f := reclaimOf(m)
			if c.facts != nil {
				c.facts(&f)
			}
			rs := ReclaimGuards(f)
			checkRulings(t, rs)
			if !deniedAs(rs, c.want) {
				t.Fatalf("denied by %q, want %q\n%s", denied(rs), c.want, listing(rs))
			}
			if r := firstDenial(rs); !strings.Contains(r.Reason, c.reason) {
				t.Errorf("%s: reason %q does not say %q", r.Guard, r.Reason, c.reason)
			}
		})
	}
}

func TestDiagnoseMemory(t *testing.T) {
	none := Opt[int64]{}
	for _, c := range []struct {
		name           string
		change         func(*Snapshot)
		expired, bytes Opt[int64]
		want           Cause // empty: not known
	}{
		{"keys with a TTL: presumed expired until a sweep tells", nil, none, none, CauseExpiredKeys},
		{"enough have expired", nil, Known(int64(200_000)), Known(20 * mebi), CauseExpiredKeys},
		{"too few have expired: live data with a TTL", nil, Known(int64(10)), Known(mebi), CauseDataWithTTL},
		{"none has expired", nil, Known(int64(0)), Known(int64(0)), CauseDataWithTTL},
		{"no TTL", func(s *Snapshot) { s.DBs = []DB{{Keys: 1000}} }, none, none, CauseDataWithoutTTL},
		{"hardly any TTL", func(s *Snapshot) { s.DBs = []DB{{Keys: 1_000_000, Expires: 10}} }, none, none, CauseDataWithoutTTL},
		{"one client that does not read", func(s *Snapshot) { s.Memory.Dataset, s.Memory.ClientsNormal = Known(30*mebi), Known(55*mebi) }, none, none, CauseClientBuffers},
		{"CLIENT LIST shows what INFO lags behind with", func(s *Snapshot) { s.Memory.Dataset, s.ClientOutput = Known(30*mebi), Known(55*mebi) }, none, none, CauseClientBuffers},
		{"big buffers beside a big data set", func(s *Snapshot) { s.Memory.ClientsNormal = Known(30 * mebi) }, none, none, CauseExpiredKeys},
		{"neither data nor clients", func(s *Snapshot) { s.DBs, s.Memory.Dataset = nil, Known(mebi) }, none, none, CauseOverhead},
		{"no maxmemory", func(s *Snapshot) { s.Memory.Max = Known(int64(0)) }, none, none, ""},
		{"maxmemory not known", func(s *Snapshot) { s.Memory.Max = none }, none, none, ""},
		{"not counted memory not known", func(s *Snapshot) { s.Memory.NotCounted = none }, none, none, ""},
		{"data set not known", func(s *Snapshot) { s.Memory.Dataset = none }, none, none, ""},
		{"keyspace not known", func(s *Snapshot) { s.KeyspaceKnown = false }, none, none, ""},
	} {
		s := fullMaster()
		if c.change != nil {
			c.change(&s)
		}
		d := DiagnoseMemory(s, PresetDefault(), Estimate{Keys: c.expired, Bytes: c.bytes, Exact: true})
		if d.Cause != c.want || d.Known != (c.want != "") {
			t.Errorf("%s: got %q (known %t), want %q\n%+v", c.name, d.Cause, d.Known, c.want, d)
		}
	}
}

// The numbers that a person reads: what must come free goes by the level at which the alarm clears, 95 % - 5 %.
func TestDiagnosisInNumbers(t *testing.T) {
	d := DiagnoseMemory(fullMaster(), PresetDefault(), Estimate{})
	if d.Counted != 100*mebi || d.Need != 10*mebi || d.Keys != 1_000_000 || d.Volatile != 500_000 || d.VolatileBytes != 49*mebi {
		t.Errorf("%+v", d)
	}
	want := "of 100 MiB counted against maxmemory the data set holds 80 MiB (1000000 keys, 500000 with a TTL), client buffers 2 MiB"
	if got := d.Where(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	calm := fullMaster()
	calm.Memory.Used = Known(50 * mebi)
	if d := DiagnoseMemory(calm, PresetDefault(), Estimate{}); d.Need != 0 {
		t.Errorf("below the clear level %d bytes must come free, want 0", d.Need)
	}
}
