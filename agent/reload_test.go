package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dcshealer/agent/probe"
	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

// reload takes a changed copy of the config in effect.
func (f *fleet) reload(t *testing.T, change func(*policies.Config)) {
	t.Helper()
	next := f.cfg
	next.Instances, next.Policies = slices.Clone(f.cfg.Instances), map[string]policies.Policy{"default": f.cfg.Policies["default"]}
	change(&next)
	for _, i := range next.Instances {
		for _, n := range i.Nodes {
			if key := i.Name + "/" + n.Name; f.probers[key] == nil {
				f.probers[key] = &fakeProber{instance: i.Name, node: n.Name, reply: func(int) policies.Snapshot { return master(99) }}
			}
		}
	}
	r, err := f.Prepare(next, policies.ConfigDiffOf(f.cfg, next))
	if err != nil {
		t.Fatal(err)
	}
	r.Commit()
}

// Instances come, go and change while the agent runs; one that stays as it is keeps its beat.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, instance("stays", "m"), instance("goes", "m"), instance("changes", "m"))
		for _, name := range []string{"stays/m", "goes/m", "changes/m"} {
			f.probers[name].reply = func(int) policies.Snapshot { return master(97) }
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		start := time.Now()
		time.Sleep(12 * time.Second)
		f.reload(t, func(c *policies.Config) {
			p := c.Policies["default"]
			p.UsedMemory.Critical, p.UsedMemory.Clear = 99, 1
			c.Policies["high"] = p
			c.Instances[2].Policy = "high"
			c.Instances = []policies.Instance{c.Instances[2], c.Instances[0], instance("comes", "m")}
		})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for _, want := range []string{"goes/m used_memory_mb critical resolved", "comes/m used_memory_mb critical firing", "changes/m used_memory_mb critical resolved",
			"changes/m used_memory_mb warning firing"} {
			if !slices.Contains(f.texts(), want) {
				t.Errorf("%s is not among %q", want, f.texts())
			}
		}
		if n := strings.Count(strings.Join(f.texts(), "\n"), "stays/m"); n != 1 {
			t.Errorf("%d publications about the one that stays, want 1", n)
		}
		var at []time.Duration
		for _, s := range f.probers["stays/m"].starts {
			at = append(at, s.Sub(start))
		}
		if want := []time.Duration{0, 5 * time.Second, 10 * time.Second, 15 * time.Second, 20 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("the one that stays was probed at %v, want %v", at, want)
		}
		if p := f.probers["goes/m"]; len(p.starts) != 3 || !p.closed {
			t.Errorf("the one that is gone was probed %d times (closed %v), want 3 and closed", len(p.starts), p.closed)
		}
		if f.probers["changes/m"].closed || f.Late() != 0 {
			t.Errorf("the connection of one whose threshold changed was closed (%v), or %d probes count as late", f.probers["changes/m"].closed, f.Late())
		}
		if f.Latest("goes").Instance.Name != "" || len(f.Latest("comes").Snapshots) != 1 {
			t.Error("Latest does not go by the new config")
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		for name, p := range f.probers {
			if !p.closed {
				t.Errorf("%s is not closed", name)
			}
		}
	})
}

// Another pace takes effect, a node that is gone takes its alarm with it, and what cannot be made changes nothing.
func TestReloadOfPaceAndNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, instance("a", "m", "x"))
		f.probers["a/m"].reply = func(int) policies.Snapshot { return master(10) }
		f.probers["a/x"].reply = func(int) policies.Snapshot { return hung() }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		time.Sleep(time.Second)
		synctest.Wait()
		before := len(f.probers["a/m"].starts)
		probers := f.opt.Probers
		f.opt.Probers = func(policies.Instance, policies.Node, policies.AgentConfig) (Prober, error) {
			return nil, errors.New("bad TLS file")
		}
		next := f.cfg
		next.Instances = []policies.Instance{instance("a", "m", "y"), instance("b", "m")}
		if _, err := f.Prepare(next, policies.ConfigDiffOf(f.cfg, next)); err == nil || !strings.Contains(err.Error(), "a/y: bad TLS file") {
			t.Errorf("error %v, want that of a/y", err)
		}
		if f.probers["a/m"].closed || f.Latest("b").Instance.Name != "" {
			t.Error("something has changed")
		}
		f.opt.Probers = probers
		f.reload(t, func(c *policies.Config) {
			c.Agent.Interval = time.Second
			c.Instances[0].Nodes = c.Instances[0].Nodes[:1]
		})
		time.Sleep(9500 * time.Millisecond)
		synctest.Wait()
		if n := len(f.probers["a/m"].starts) - before; n != 10 {
			t.Errorf("%d probes in 9.5 s at an interval of 1 s, want 10", n)
		}
		if got := f.texts(); !slices.Contains(got, "a/x instance_up critical resolved") || f.Late() != 0 {
			t.Errorf("the alarm of the node that is gone stands, or %d probes are late: %q", f.Late(), got)
		}
		if bad := f.Critical(time.Now()); bad["a"] {
			t.Error("the instance is in trouble by a node that is gone")
		}
		cancel()
		<-done
	})
}

// On real servers: an instance comes under watch and one leaves it, and a threshold changes, without a new connection to those that stay.
func TestReloadOnRealServers(t *testing.T) {
	t.Parallel()
	one, two := redistest.Start(t, "--maxmemory", "100mb"), redistest.Start(t, "--maxmemory", "100mb")
	cfg := policies.DefaultConfig()
	cfg.Agent = policies.AgentConfig{Interval: 50 * time.Millisecond, Timeout: 2 * time.Second, Repeat: time.Minute}
	of := func(name string, s *redistest.Server) policies.Instance {
		return policies.Instance{Name: name, Nodes: []policies.Node{{Name: name, Address: s.Addr, Role: policies.RoleMaster}}}
	}
	cfg.Instances = []policies.Instance{of("one", one)}
	var got seen
	a, err := New(Options{Config: cfg, Publish: got.publish, NewID: func() string { return "id" }, Log: slog.New(slog.DiscardHandler),
		Probers: func(i policies.Instance, n policies.Node, pace policies.AgentConfig) (Prober, error) {
			o, err := probe.For(i, n, pace.Timeout, nil)
			return probe.New(o), err
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	reload := func(next policies.Config) {
		t.Helper()
		r, err := a.Prepare(next, policies.ConfigDiffOf(cfg, next))
		if err != nil {
			t.Fatal(err)
		}
		r.Commit()
		cfg = next
	}
	redistest.Eventually(t, "the first is read", func() bool { return len(a.Latest("one").Snapshots) == 1 })
	connections := func() string { return one.Info("stats")["total_connections_received"] }
	before := connections()

	next := cfg
	low := policies.PresetDefault()
	low.UsedMemory = policies.UsedMemory{Warning: 0.1, Critical: 0.2, Clear: 0.1, For: 1}
	next.Policies = map[string]policies.Policy{"default": low}
	next.Instances = []policies.Instance{of("one", one), of("two", two)}
	reload(next)
	for _, name := range []string{"one", "two"} {
		redistest.Eventually(t, "a critical alarm of "+name, func() bool { return got.has(policies.MetricUsedMemory, name, policies.Critical, policies.Firing) })
	}
	if after := connections(); after != before {
		t.Errorf("%s connections after the reload, %s before: want none for a threshold", after, before)
	}
	next.Instances = []policies.Instance{of("one", one)}
	reload(next)
	if !got.has(policies.MetricUsedMemory, "two", policies.Critical, policies.Resolved) {
		t.Error("what stood on the instance that is gone was not resolved")
	}
	redistest.Eventually(t, "nobody is connected to it", func() bool { return fmt.Sprint(two.Info("clients")["connected_clients"]) == "1" })
	cancel()
	<-done
}
