package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"dcshealer/agent/probe"
	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

func TestMain(m *testing.M) {
	probe.QuietLibrary()
	os.Exit(m.Run())
}

// seen collects what an agent publishes.
type seen struct {
	mu     sync.Mutex
	alarms []policies.Alarm
}

func (s *seen) publish(a policies.Alarm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alarms = append(s.alarms, a)
}

func (s *seen) has(m policies.Metric, node string, severity policies.Severity, status policies.Status) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.alarms {
		if a.Metric == m && a.Node == node && a.Severity == severity && a.Status == status {
			return true
		}
	}
	return false
}

// A real master fills up, its replica is promoted behind our back, then stopped; all of it is seen, and the stopped
// process delays no probe of another.
func TestAgentOnRealServers(t *testing.T) {
	ctx := t.Context()
	m := redistest.Start(t, "--maxmemory", "100mb")
	x := redistest.Start(t, "--replicaof", fmt.Sprintf("127.0.0.1 %d", m.Addr.Port))
	other := redistest.Start(t)
	redistest.Eventually(t, "the replica is linked", x.LinkUp)
	cfg := policies.DefaultConfig()
	cfg.Agent = policies.AgentConfig{Interval: 50 * time.Millisecond, Timeout: 400 * time.Millisecond, Repeat: time.Minute}
	cfg.Instances = []policies.Instance{
		{Name: "dcs-test-01", Nodes: []policies.Node{{Name: "m", Address: m.Addr, Role: policies.RoleMaster}, {Name: "x", Address: x.Addr, Role: policies.RoleReplica}}},
		{Name: "dcs-test-02", Nodes: []policies.Node{{Name: "other", Address: other.Addr, Role: policies.RoleMaster}}},
	}
	var got seen
	var mu sync.Mutex
	probes := map[string]int{}
	a, err := New(Options{Config: cfg, Publish: got.publish, NewID: func() string { return "id" }, Log: slog.New(slog.DiscardHandler),
		OnSnapshot: func(s policies.Snapshot, _ policies.Instance) { mu.Lock(); probes[s.Node]++; mu.Unlock() },
		Probers: func(i policies.Instance, n policies.Node, _ policies.AgentConfig) (Prober, error) {
			o, err := probe.For(i, n, cfg.Agent.Timeout, nil)
			return probe.New(o), err
		}})
	if err != nil {
		t.Fatal(err)
	}
	running, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- a.Run(running) }()
	count := func(node string) int { mu.Lock(); defer mu.Unlock(); return probes[node] }

	redistest.Eventually(t, "both nodes are known", func() bool { return len(a.Latest("dcs-test-01").Snapshots) == 2 })
	m.Do("set", "big", strings.Repeat("x", 19<<20))
	redistest.Eventually(t, "a critical memory alarm", func() bool {
		g := a.Latest("dcs-test-01") // the limit follows what is in use, until it is close enough
		m.Do("config", "set", "maxmemory", g.Snapshots[0].Memory.Used.V*101/100)
		return got.has(policies.MetricUsedMemory, "m", policies.Critical, policies.Firing)
	})
	m.Do("config", "set", "maxmemory", "100mb")
	redistest.Eventually(t, "it is resolved", func() bool { return got.has(policies.MetricUsedMemory, "m", policies.Critical, policies.Resolved) })

	x.Do("replicaof", "no", "one")
	redistest.Eventually(t, "a replication alarm", func() bool { return got.has(policies.MetricReplication, "x", policies.Critical, policies.Firing) })
	if trouble := a.Critical(time.Now()); !trouble["dcs-test-01"] || trouble["dcs-test-02"] {
		t.Errorf("in trouble: %v", trouble)
	}
	x.Hang()
	redistest.Eventually(t, "the stopped process is down", func() bool { return got.has(policies.MetricInstanceUp, "x", policies.Critical, policies.Firing) })
	from, fromOther, fromX := count("m"), count("other"), count("x")
	redistest.Eventually(t, "20 more probes of the master", func() bool { return count("m") >= from+20 })
	if n, nx := count("other")-fromOther, count("x")-fromX; n < 15 || nx > 5 {
		t.Errorf("while the master was probed 20 times: the other instance %d times, the stopped process %d times", n, nx)
	}
	cancel()
	<-done
	if out, err := m.C.ClientList(ctx).Result(); err != nil || strings.Contains(out, "dcshealer-probe") {
		t.Errorf("connections left open: %v %s", err, out)
	}
}
