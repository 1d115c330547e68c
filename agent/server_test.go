package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/agent/probe"
	"dcshealer/policies"
)

func TestMain(m *testing.M) {
	probe.QuietLibrary()
	os.Exit(m.Run())
}

// startServer starts a redis-server on a free port. A machine without one skips, loudly; DCSHEALER_TEST_REQUIRE=1 makes that an error.
func startServer(t *testing.T, args ...string) (policies.Address, *exec.Cmd) {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("DCSHEALER_TEST_REQUIRE") == "1" {
			t.Fatal("redis-server is not on PATH: install it (apt-get install redis-server)")
		}
		t.Skip("NOT TESTED: redis-server is not on PATH; install it (apt-get install redis-server)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := policies.Address{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}
	l.Close()
	cmd := exec.Command(bin, append([]string{"--port", fmt.Sprint(addr.Port), "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "",
		"--repl-diskless-sync-delay", "0"}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	eventually(t, "redis-server listens", func() bool {
		c, err := net.Dial("tcp", addr.String())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return addr, cmd
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func admin(t *testing.T, a policies.Address) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: a.String(), Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() { c.Close() })
	return c
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
	m, _ := startServer(t, "--maxmemory", "100mb")
	x, xProcess := startServer(t, "--replicaof", fmt.Sprintf("127.0.0.1 %d", m.Port))
	other, _ := startServer(t)
	eventually(t, "the replica is linked", func() bool {
		return strings.Contains(admin(t, x).Info(ctx, "replication").Val(), "master_link_status:up")
	})
	cfg := policies.DefaultConfig()
	cfg.Agent = policies.AgentConfig{Interval: 50 * time.Millisecond, Timeout: 400 * time.Millisecond, Repeat: time.Minute}
	cfg.Instances = []policies.Instance{
		{Name: "dcs-test-01", Nodes: []policies.Node{{Name: "m", Address: m, Role: policies.RoleMaster}, {Name: "x", Address: x, Role: policies.RoleReplica}}},
		{Name: "dcs-test-02", Nodes: []policies.Node{{Name: "other", Address: other, Role: policies.RoleMaster}}},
	}
	var got seen
	var mu sync.Mutex
	probes := map[string]int{}
	a, err := New(Options{Config: cfg, Publish: got.publish, NewID: func() string { return "id" }, Log: slog.New(slog.DiscardHandler),
		OnSnapshot: func(s policies.Snapshot, _ policies.Instance) { mu.Lock(); probes[s.Node]++; mu.Unlock() },
		Probers: func(i policies.Instance, n policies.Node) (Prober, error) {
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

	eventually(t, "both nodes are known", func() bool { return len(a.Latest("dcs-test-01").Snapshots) == 2 })
	c := admin(t, m)
	if err := c.Do(ctx, "set", "big", strings.Repeat("x", 19<<20)).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a critical memory alarm", func() bool {
		g := a.Latest("dcs-test-01") // the limit follows what is in use, until it is close enough
		if err := c.ConfigSet(ctx, "maxmemory", fmt.Sprint(g.Snapshots[0].Memory.Used.V*101/100)).Err(); err != nil {
			t.Fatal(err)
		}
		return got.has(policies.MetricUsedMemory, "m", policies.Critical, policies.Firing)
	})
	c.ConfigSet(ctx, "maxmemory", "100mb")
	eventually(t, "it is resolved", func() bool { return got.has(policies.MetricUsedMemory, "m", policies.Critical, policies.Resolved) })

	if err := admin(t, x).Do(ctx, "replicaof", "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a replication alarm", func() bool { return got.has(policies.MetricReplication, "x", policies.Critical, policies.Firing) })
	if trouble := a.Critical(time.Now()); !trouble["dcs-test-01"] || trouble["dcs-test-02"] {
		t.Errorf("in trouble: %v", trouble)
	}
	if err := xProcess.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stopped process is down", func() bool { return got.has(policies.MetricInstanceUp, "x", policies.Critical, policies.Firing) })
	from, fromOther, fromX := count("m"), count("other"), count("x")
	eventually(t, "20 more probes of the master", func() bool { return count("m") >= from+20 })
	if n, nx := count("other")-fromOther, count("x")-fromX; n < 15 || nx > 5 {
		t.Errorf("while the master was probed 20 times: the other instance %d times, the stopped process %d times", n, nx)
	}
	cancel()
	<-done
	if out, err := c.ClientList(ctx).Result(); err != nil || strings.Contains(out, "dcshealer-probe") {
		t.Errorf("connections left open: %v %s", err, out)
	}
}
