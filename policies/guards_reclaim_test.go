package policies

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const mebi = int64(1 << 20)

// fullMaster is a master at 100 of 100 MiB, half of whose 1,000,000 keys have a TTL.
func fullMaster() Snapshot {
	s := newTrio().m
	s.DBs = []DB{{Index: 0, Keys: 600_000, Expires: 500_000}, {Index: 3, Keys: 400_000}}
	s.Replication.Offset = Known(100 * mebi)
	s.Replication.Replicas = slices.Clone(s.Replication.Replicas)
	for i := range s.Replication.Replicas {
		s.Replication.Replicas[i].Offset = 100 * mebi
	}
	s.Memory = Memory{Used: Known(101 * mebi), NotCounted: Known(mebi), Max: Known(100 * mebi), Policy: "noeviction", Dataset: Known(80 * mebi), Overhead: Known(21 * mebi),
		Startup: Known(mebi), ClientsNormal: Known(2 * mebi), ClientsReplicas: Known(mebi), Backlog: Known(int64(0)), ReplicationBuffers: Known(mebi)}
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
		{"the backlog holds the memory", backlogHolds(60 * mebi), nil, "worthwhile", "replication buffers hold the memory of node-m, no sweep frees them; replication-buffers: of 100 MiB"},
		{"the backlog holds much, and enough keys are known to have expired", backlogHolds(60 * mebi), exact(200_000, 12*mebi), "", ""},
		{"the refusal says what would help", func(s *Snapshot) { s.DBs = []DB{{Keys: 1_000_000}} }, nil, "worthwhile", "; 1000000 keys without a TTL hold about 80.0 MiB"},
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
		{"a replica far behind", func(s *Snapshot) { s.Replication.Replicas[0].Offset = s.Replication.Offset.V - MostBehind - mebi }, nil, "busy?", "33 MiB behind"},
		{"a replica as far behind as it may be", func(s *Snapshot) { s.Replication.Replicas[0].Offset = s.Replication.Offset.V - MostBehind }, nil, "", ""},
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
