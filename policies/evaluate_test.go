package policies

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// sampleNode is a healthy master.
func sampleNode(instance, node string) Snapshot {
	return Snapshot{
		Instance: instance, Node: node, Reach: ReachUp, RunID: "r-" + node,
		Memory:      Memory{Used: Known[int64](100 << 20), NotCounted: Known[int64](0), Max: Known[int64](8192 << 20), Policy: "noeviction"},
		Clients:     Clients{Connected: Known[int64](128), Max: Known[int64](500)},
		Replication: Replication{Role: RoleMaster},
		Slowlog:     Slowlog{Known: true, Newest: -1, LimitKnown: true},
	}
}

func groupOf(snapshots ...Snapshot) Group {
	g := Group{Instance: Instance{Name: snapshots[0].Instance}, Snapshots: snapshots}
	for i, s := range snapshots {
		n := Node{Name: s.Node, Role: RoleMaster, Address: Address{Host: "10.0.0.1", Port: 6379 + i}}
		if i > 0 {
			n.Role = RoleReplica
		}
		g.Instance.Nodes = append(g.Instance.Nodes, n)
	}
	return g
}

// The readings of the published sample, and what is said of them.
func TestEvaluateSample(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	p := PresetDefault()
	memory := func(mb int64) Snapshot {
		s := sampleNode("dcs-prod-02", "m")
		s.Memory.Used = Known(mb << 20)
		return s
	}
	clients := sampleNode("dcs-prod-03", "m")
	clients.Clients.Connected = Known[int64](460)
	full := memory(8190)
	full.Memory.EvictionExceeded = Known[int64](12)
	replica := sampleNode("dcs-prod-01", "dcs-slave-01")
	replica.RunID = "other"
	tests := []struct {
		name   string
		group  Group
		counts map[string]Counts
		want   Finding
		text   string
	}{
		{"memory high", groupOf(memory(7680)), nil, Finding{Metric: MetricUsedMemory, Severity: Warning, Value: Int(7680), Threshold: Int(8192), Pct: "93.7%"}, "93.7%"},
		{"memory full", groupOf(full), nil, Finding{Metric: MetricUsedMemory, Severity: Critical, Value: Int(8190), Threshold: Int(8192), Pct: "99.97%"}, "writes rejected"},
		{"clients", groupOf(clients), nil, Finding{Metric: MetricClients, Severity: Warning, Value: Int(460), Threshold: Int(500), Pct: "92.0%"}, "460 of 500"},
		{"slow commands", groupOf(sampleNode("dcs-prod-01", "m")), map[string]Counts{"m": {Slowlog: Known[int64](15)}}, Finding{Metric: MetricSlowlog, Severity: Warning, Value: Int(15), Threshold: Int(10), Window: "Last 5 minutes"}, "15 slow commands"},
		{"evictions", groupOf(sampleNode("dcs-prod-03", "m")), map[string]Counts{"m": {Evicted: Known[int64](320)}}, Finding{Metric: MetricEvicted, Severity: Notice, Value: Int(320), Window: "Last hour"}, "in the last hour"},
		{"promoted replica", groupOf(sampleNode("dcs-prod-01", "m"), replica), nil, Finding{Metric: MetricReplication, Severity: Critical, Value: Text("down"), Slave: "dcs-slave-01"}, "dcs-slave-01"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found := Evaluate(tt.group, p, tt.counts, now)
			if len(found) != 1 {
				t.Fatalf("got %d findings, want 1: %+v", len(found), found)
			}
			got := found[0]
			if !strings.Contains(got.Msg, tt.text) {
				t.Errorf("msg %q, want %q in it", got.Msg, tt.text)
			}
			got.Msg, got.Cause, got.Node = "", "", ""
			if got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
	if found := Evaluate(groupOf(sampleNode("i", "m")), p, nil, now); len(found) != 0 {
		t.Errorf("a healthy node: %+v", found)
	}
}

func TestMemoryIsJudgedAsTheServerCounts(t *testing.T) {
	p := PresetDefault()
	s := sampleNode("i", "m")
	s.Memory.Used, s.Memory.NotCounted = Known[int64](3*8192<<20), Known[int64](3*8192<<20-100<<20)
	if found := Evaluate(groupOf(s), p, nil, time.Time{}); len(found) != 0 {
		t.Errorf("replica buffers, which the server does not count: %+v", found)
	}
	s = sampleNode("i", "m")
	s.Memory.Used, s.Replication.Role = Known[int64](3*8192<<20), RoleReplica
	if j := judgeMemory(s, p, 0); !j.Known || j.Severity != 0 {
		t.Errorf("a replica over maxmemory: %+v", j)
	}
	s.Replication.Role = ""
	if j := judgeMemory(s, p, 0); j.Known {
		t.Errorf("a node of unknown role: %+v", j)
	}
}

// What a node does not tell is neither a fault nor health.
func TestUnknownIsNotHealthy(t *testing.T) {
	p := PresetDefault()
	bare := Snapshot{Instance: "i", Node: "m", Reach: ReachUp, Replication: Replication{Role: RoleMaster}}
	none := func(Metric, string) Severity { return 0 }
	for _, j := range JudgeNode(bare, p, Counts{}, none) {
		if known := j.Metric == MetricInstanceUp; j.Known != known || j.Severity != 0 {
			t.Errorf("%s: %+v", j.Metric, j)
		}
	}
	bare.Reach, bare.Memory = ReachHung, sampleNode("i", "m").Memory
	for _, j := range JudgeNode(bare, p, Counts{Evicted: Known[int64](9), Slowlog: Known[int64](99)}, none) {
		if known := j.Metric == MetricInstanceUp; j.Known != known {
			t.Errorf("a node that does not answer, %s: %+v", j.Metric, j)
		}
	}
	up, down := sampleNode("i", "x"), sampleNode("i", "m")
	up.Replication = Replication{Role: RoleReplica, MasterHost: "10.0.0.1", MasterPort: 6379, LinkUp: Known(true)}
	down.Reach = ReachRefused
	if js := JudgeReplication(groupOf(down, up), time.Time{}); len(js) != 1 || js[0].Known {
		t.Errorf("a replica that looks well beside a master unread: %+v", js)
	}
}

func TestInstanceUp(t *testing.T) {
	tests := map[Reach]struct {
		severity Severity
		cause    Cause
		value    Value
	}{
		ReachUp:       {0, "", Int(1)},
		ReachLoading:  {Warning, CauseLoading, Int(1)},
		ReachRefused:  {Critical, CauseNodeDown, Int(0)},
		ReachNoRoute:  {Critical, CauseNodeDown, Int(0)},
		ReachReset:    {Critical, CauseNodeDown, Int(0)},
		ReachMaxConns: {Critical, CauseNodeDown, Int(0)},
		ReachOdd:      {Critical, CauseNodeDown, Int(0)},
		ReachHung:     {Critical, CauseNodeHung, Int(0)},
		ReachBusy:     {Critical, CauseNodeHung, Int(0)},
		ReachAuth:     {Critical, CauseAuth, Int(0)},
		ReachTLS:      {Critical, CauseTLS, Int(0)},
		"":            {Critical, CauseNodeDown, Int(0)},
	}
	for reach, want := range tests {
		j := judgeUp(Snapshot{Node: "n", Reach: reach, Err: "why"})
		if !j.Known || j.Severity != want.severity || j.Cause != want.cause || j.Value != want.value || j.Msg == "" {
			t.Errorf("%q: got %+v, want %+v", reach, j, want)
		}
	}
}

func TestLevelHysteresis(t *testing.T) {
	u := PresetDefault().UsedMemory // 80, 95, clear 5
	tests := []struct {
		share float64
		was   Severity
		want  Severity
	}{
		{0.7999, 0, 0}, {0.80, 0, Warning}, {0.9499, 0, Warning}, {0.95, 0, Critical}, {1.2, 0, Critical},
		{0.90, Critical, Critical}, {0.8999, Critical, Warning}, {0.75, Critical, Warning}, {0.7499, Critical, 0},
		{0.75, Warning, Warning}, {0.7499, Warning, 0}, {0.94, Warning, Warning}, {0.95, Warning, Critical},
		{0.79, Notice, 0}, {0, Critical, 0},
	}
	for _, tt := range tests {
		if got := u.Level(tt.share, tt.was); got != tt.want {
			t.Errorf("share %v from %v: got %v, want %v", tt.share, tt.was, got, tt.want)
		}
	}
	off := ClientsThreshold{Warning: 90}
	if got := off.Level(2, 0); got != Warning {
		t.Errorf("no critical threshold: got %v", got)
	}
}

func TestPctCutsAndDoesNotRound(t *testing.T) {
	for share, want := range map[float64]string{
		7680.0 / 8192: "93.7%", 8190.0 / 8192: "99.97%", 460.0 / 500: "92.0%", 0: "0.0%", 0.9999999: "99.99%", 1: "100.0%", 1.254: "125.4%", 0.07: "7.0%", 0.29: "29.0%",
	} {
		if got := pct(share); got != want {
			t.Errorf("%v: got %s, want %s", share, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		5 * time.Minute: "5 minutes", time.Hour: "hour", 24 * time.Hour: "24 hours", 90 * time.Second: "90 seconds", time.Minute: "minute", 1500 * time.Millisecond: "1.5s",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func TestBlind(t *testing.T) {
	well := sampleNode("i", "m")
	change := func(f func(*Snapshot)) Snapshot {
		s := well
		f(&s)
		return s
	}
	tests := map[string]struct {
		s    Snapshot
		want []string
	}{
		"well":          {well, nil},
		"no maxmemory":  {change(func(s *Snapshot) { s.Memory.Max = Known[int64](0) }), []string{"used_memory_mb"}},
		"a replica":     {change(func(s *Snapshot) { s.Memory.Max = Known[int64](0); s.Replication.Role = RoleReplica }), nil},
		"slow log off":  {change(func(s *Snapshot) { s.Slowlog.Blind = true }), []string{"slowlog-log-slower-than"}},
		"no slow log":   {change(func(s *Snapshot) { s.Slowlog = Slowlog{} }), []string{"SLOWLOG GET"}},
		"no CONFIG GET": {change(func(s *Snapshot) { s.ConfigDenied = true }), []string{"CONFIG GET"}},
		"no maxclients": {change(func(s *Snapshot) { s.Clients.Max = Opt[int64]{} }), []string{"maxclients"}},
		"unreachable":   {change(func(s *Snapshot) { s.Reach = ReachRefused; s.Memory.Max = Known[int64](0) }), nil},
	}
	for name, tt := range tests {
		got := Blind(tt.s)
		if !slices.EqualFunc(got, tt.want, func(g, w string) bool { return strings.Contains(g, w) }) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
