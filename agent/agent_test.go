package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dcshealer/policies"
)

// fakeProber answers with what reply says after its delay, or when its context ends.
type fakeProber struct {
	instance, node string
	reply          func(n int) policies.Snapshot
	delay          func(n int) time.Duration

	mu     sync.Mutex
	starts []time.Time
	active int
	over   int // probes that began while another ran
	closed bool
}

var _ Prober = (*fakeProber)(nil)

func (f *fakeProber) Probe(ctx context.Context) policies.Snapshot {
	f.mu.Lock()
	n := len(f.starts)
	f.starts = append(f.starts, time.Now())
	if f.active++; f.active > 1 {
		f.over++
	}
	f.mu.Unlock()
	defer func() { f.mu.Lock(); f.active--; f.mu.Unlock() }()
	s := policies.Snapshot{Reach: policies.ReachUp}
	if f.reply != nil {
		s = f.reply(n)
	}
	s.Instance, s.Node, s.At = f.instance, f.node, time.Now()
	if f.delay != nil {
		select {
		case <-time.After(f.delay(n)):
		case <-ctx.Done():
		}
	}
	return s
}

func (f *fakeProber) Close() error { f.closed = true; return nil }

// fleet is an Agent over fake probers, with what it published.
type fleet struct {
	*Agent
	probers map[string]*fakeProber
	direct  []policies.Alarm
	lines   bytes.Buffer

	mu     sync.Mutex
	alarms []policies.Alarm
}

func newFleet(t *testing.T, instances ...policies.Instance) *fleet {
	t.Helper()
	f := &fleet{probers: map[string]*fakeProber{}}
	for _, i := range instances {
		for _, n := range i.Nodes {
			f.probers[i.Name+"/"+n.Name] = &fakeProber{instance: i.Name, node: n.Name}
		}
	}
	cfg := policies.DefaultConfig()
	cfg.Instances = instances
	ids := 0
	a, err := New(Options{
		Config: cfg,
		Probers: func(i policies.Instance, n policies.Node, _ policies.AgentConfig) (Prober, error) {
			return f.probers[i.Name+"/"+n.Name], nil
		},
		Publish: func(a policies.Alarm) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.alarms = append(f.alarms, a)
		},
		Direct: func(a policies.Alarm) { f.direct = append(f.direct, a) },
		Lines:  &f.lines,
		NewID:  func() string { ids++; return fmt.Sprintf("id-%d", ids) },
		Source: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Agent = a
	return f
}

func (f *fleet) texts() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, a := range f.alarms {
		out = append(out, fmt.Sprintf("%s/%s %s %s %s", a.Instance, a.Node, a.Metric, a.Severity, a.Status))
	}
	return out
}

// running runs the agent in a bubble for d, and stops it.
func (f *fleet) running(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	time.Sleep(d)
	synctest.Wait()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}

func instance(name string, nodes ...string) policies.Instance {
	i := policies.Instance{Name: name}
	for k, n := range nodes {
		role := policies.RoleMaster
		if k > 0 {
			role = policies.RoleReplica
		}
		i.Nodes = append(i.Nodes, policies.Node{Name: n, Role: role, Address: policies.Address{Host: "10.0.0." + fmt.Sprint(k+1), Port: 6379}})
	}
	return i
}

func master(usedPercent int64) policies.Snapshot {
	return policies.Snapshot{Reach: policies.ReachUp, RunID: "m", Loading: policies.Known(false),
		Memory:      policies.Memory{Used: policies.Known(usedPercent << 20), NotCounted: policies.Known[int64](0), Max: policies.Known[int64](100 << 20)},
		Replication: policies.Replication{Role: policies.RoleMaster, ReplID: "abc"}}
}

func replica() policies.Snapshot {
	return policies.Snapshot{Reach: policies.ReachUp, RunID: "x", Loading: policies.Known(false),
		Replication: policies.Replication{Role: policies.RoleReplica, ReplID: "abc", MasterHost: "10.0.0.1", MasterPort: 6379,
			LinkUp: policies.Known(true), LastIOSecondsAgo: policies.Known[int64](1)}}
}

func hung() policies.Snapshot { return policies.Snapshot{Reach: policies.ReachHung, Err: "no answer"} }

// A node that hangs costs its own probes their timeout, and nobody else anything.
func TestAHungNodeDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, instance("a", "m", "x"), instance("b", "m"))
		f.probers["a/m"].reply = func(int) policies.Snapshot { return master(99) }
		f.probers["b/m"].reply = func(int) policies.Snapshot { return master(99) }
		f.probers["a/x"].reply = func(int) policies.Snapshot { return hung() }
		f.probers["a/x"].delay = func(int) time.Duration { return 2 * time.Second }
		start := time.Now()
		f.running(t, 21*time.Second)
		for _, node := range []string{"a/m", "b/m", "a/x"} {
			p := f.probers[node]
			var at []time.Duration
			for _, s := range p.starts {
				at = append(at, s.Sub(start))
			}
			if want := []time.Duration{0, 5 * time.Second, 10 * time.Second, 15 * time.Second, 20 * time.Second}; !slices.Equal(at, want) || p.over > 0 || !p.closed {
				t.Errorf("%s was probed at %v (%d overlaps, closed %v), want %v", node, at, p.over, p.closed, want)
			}
		}
		for _, a := range f.alarms {
			if a.Metric == policies.MetricUsedMemory && a.At.Sub(start) != 5*time.Second {
				t.Errorf("the memory alarm of %s came at %v, want with the second probe at 5s", a.Instance, a.At.Sub(start))
			}
		}
		want := []string{"a/m used_memory_mb critical firing", "a/x instance_up critical firing", "a/x replication_status critical firing", "b/m used_memory_mb critical firing"}
		got := f.texts()
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if n := f.Late(); n != 0 {
			t.Errorf("%d probes late", n)
		}
	})
}

// A probe that outlasts the interval skips ticks; rounds go on with the others' newest snapshots.
func TestAProbeLongerThanTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, instance("a", "m", "x"))
		f.probers["a/m"].reply = func(int) policies.Snapshot { return master(10) }
		f.probers["a/x"].reply = func(int) policies.Snapshot { return hung() }
		f.probers["a/x"].delay = func(int) time.Duration { return time.Hour } // its context ends after twice the timeout
		for _, w := range f.watchers {
			for _, l := range w.loops {
				l.pace.Timeout = 6 * time.Second
			}
		}
		f.running(t, 61*time.Second)
		if n := len(f.probers["a/m"].starts); n != 13 {
			t.Errorf("the master was probed %d times in 61 s, want 13", n)
		}
		if p := f.probers["a/x"]; p.over > 0 || len(p.starts) < 4 {
			t.Errorf("the hung one was probed %d times with %d overlaps", len(p.starts), p.over)
		}
		if got := f.texts(); !slices.Contains(got, "a/x replication_status critical firing") {
			t.Errorf("replication was not judged: %q", got)
		}
		if n := f.Late(); n != 0 {
			t.Errorf("%d probes count as late", n)
		}
	})
}

func TestPublicationsAreNumberedAndShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, instance("dcs-prod-02", "m"), instance("dcs-prod-01", "m", "dcs-slave-01"))
		f.probers["dcs-prod-02/m"].reply = func(n int) policies.Snapshot {
			if n < 20 {
				return master(99)
			}
			return master(10)
		}
		f.probers["dcs-prod-01/m"].reply = func(int) policies.Snapshot { return master(10) }
		f.probers["dcs-prod-01/dcs-slave-01"].reply = func(n int) policies.Snapshot {
			s := replica()
			if n >= 1 && n < 3 {
				s.Replication.MasterHost, s.Replication.ReplID = "10.9.9.9", "zzz"
			}
			return s
		}
		f.running(t, 121*time.Second)
		want := []string{
			"dcs-prod-02/m used_memory_mb critical firing", "dcs-prod-01/dcs-slave-01 replication_status critical firing",
			"dcs-prod-01/dcs-slave-01 replication_status critical resolved",
			"dcs-prod-02/m used_memory_mb critical firing", // the repeat
			"dcs-prod-02/m used_memory_mb critical resolved",
		}
		got := f.texts()
		if got[0] > got[1] { // both of the second probe, in either order
			want[0], want[1] = want[1], want[0]
		}
		slices.Sort(got[:2])
		slices.Sort(want[:2])
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		for i, a := range f.alarms {
			if a.Seq != int64(i+1) || a.ID != fmt.Sprintf("id-%d", i+1) || a.Source != "test" || a.At.IsZero() {
				t.Errorf("publication %d: seq %d, id %s, source %s", i, a.Seq, a.ID, a.Source)
			}
			if a.Metric == policies.MetricReplication && a.Slave != "dcs-slave-01" {
				t.Errorf("replication alarm without its slave: %+v", a)
			}
		}
		if len(f.direct) != len(f.alarms) {
			t.Errorf("%d of %d critical alarms went to the healer", len(f.direct), len(f.alarms))
		}
		lines := strings.Split(strings.TrimSpace(f.lines.String()), "\n")
		if n := strings.Count(f.lines.String(), policies.AgentCycleLine); n != 4 || len(lines) != 9 || lines[8] != policies.AgentCycleLine {
			t.Errorf("%d ends of a cycle in\n%s", n, f.lines.String())
		}
		if !strings.Contains(f.lines.String(), "[Monitoring agent] CRITICAL | dcs-prod-02 | Memory usage 99.00%") {
			t.Errorf("lines:\n%s", f.lines.String())
		}
	})
}

// The two nodes are read at different moments: what one said a round ago is not held against what the other says now.
func TestReplicationIsJudgedOnSnapshotsOfOneRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, instance("a", "m", "x"))
		id := func(n int) policies.ReplID { return policies.ReplID(fmt.Sprintf("id%d", n)) } // a new history each round
		f.probers["a/m"].reply = func(n int) policies.Snapshot {
			s := master(10)
			s.Replication.ReplID = id(n)
			return s
		}
		f.probers["a/x"].reply = func(n int) policies.Snapshot {
			s := replica()
			s.Replication.ReplID = id(n)
			return s
		}
		f.probers["a/x"].delay = func(int) time.Duration { return time.Second }
		f.running(t, 31*time.Second)
		if got := f.texts(); len(got) != 0 {
			t.Errorf("published %q", got)
		}
	})
}

// A node that cannot be read keeps its other alarms standing and silent.
func TestAnUnreadableNodeIsNotHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, instance("a", "m"))
		f.probers["a/m"].reply = func(n int) policies.Snapshot {
			if n >= 2 {
				return hung()
			}
			return master(99)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if !f.Critical(time.Now())["a"] || len(f.Alarms("a")) != 2 {
			t.Errorf("trouble: %v, standing: %+v", f.Critical(time.Now()), f.Alarms("a"))
		}
		if g := f.Latest("a"); len(g.Snapshots) != 1 || g.Snapshots[0].Reach != policies.ReachHung || g.Instance.Name != "a" {
			t.Errorf("latest: %+v", g)
		}
		cancel()
		<-done
		memory := 0
		for _, text := range f.texts() {
			if strings.Contains(text, "used_memory_mb") {
				memory++
			}
		}
		if memory != 1 {
			t.Errorf("%d publications about memory that nobody can read, want the first alone: %q", memory, f.texts())
		}
		if f.Latest("nosuch").Instance.Name != "" || f.Alarms("nosuch") != nil {
			t.Error("an instance that is not there")
		}
	})
}

// What was not seen for long is not well.
func TestAStaleSnapshotIsTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, instance("a", "m"))
		f.probers["a/m"].reply = func(int) policies.Snapshot { return master(10) }
		if len(f.Critical(time.Now())) != 0 {
			t.Error("trouble before the first probe")
		}
		f.running(t, 11*time.Second)
		now := time.Now()
		if f.Critical(now)["a"] || !f.Critical(now.Add(17 * time.Second))["a"] {
			t.Errorf("got %v now and %v after 17 s without a probe", f.Critical(now), f.Critical(now.Add(17*time.Second)))
		}
	})
}

func TestNewNamesEachProberThatCouldNotBeMade(t *testing.T) {
	cfg := policies.DefaultConfig()
	cfg.Instances = []policies.Instance{instance("a", "m", "x"), instance("b", "m")}
	made := &fakeProber{}
	_, err := New(Options{Config: cfg, Publish: func(policies.Alarm) {}, NewID: func() string { return "" },
		Probers: func(i policies.Instance, n policies.Node, _ policies.AgentConfig) (Prober, error) {
			if i.Name == "b" {
				return made, nil
			}
			return nil, errors.New("no such file")
		}})
	if err == nil || !strings.Contains(err.Error(), "a/m") || !strings.Contains(err.Error(), "a/x") || !made.closed {
		t.Errorf("got %v, closed %v", err, made.closed)
	}
}
