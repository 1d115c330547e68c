package remediation

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"dcshealer/agent/probe"
	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

func TestMain(m *testing.M) {
	probe.QuietLibrary()
	if os.Getenv(childEnv) != "" {
		os.Exit(beChild())
	}
	_ = flag.Set("test.parallel", "4") // most of these wait for servers; -parallel still wins
	os.Exit(m.Run())
}

// a text that many goroutines write and the test reads.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *text) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *text) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// count is the number of lines that hold all the parts.
func (l *text) count(parts ...string) (n int) {
	for line := range strings.Lines(l.String()) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			n++
		}
	}
	return n
}

// A rig is a Healer on real probers and a real journal.
type rig struct {
	t      testing.TB
	h      *Healer
	j      *journal.Journal
	dir    string
	lines  *text
	log    *text
	stop   func() error // ends Run and returns what it returned
	starts sync.Once
}

const (
	prod1 = "dcs-prod-01"
	prod2 = "dcs-prod-02"
)

// instance is a master and its replicas by configuration: master-NAME, replica-NAME-1, ...
func instance(name string, live []policies.Action, m *server, replicas ...*server) policies.Instance {
	i := policies.Instance{Name: name, ManagedBy: policies.ManagedByNone, Live: live,
		Nodes: []policies.Node{{Name: "master-" + name, Address: m.addr, Role: policies.RoleMaster}}}
	for n, x := range replicas {
		i.Nodes = append(i.Nodes, policies.Node{Name: fmt.Sprintf("replica-%s-%d", name, n+1), Address: x.addr, Role: policies.RoleReplica})
	}
	return i
}

var (
	reattachLive = []policies.Action{policies.ReattachReplica}
	reclaimLive  = []policies.Action{policies.ReclaimExpired}
	dry          []policies.Action
)

// fleet is a config at its defaults, but for the bounds that a busy test machine would break by itself.
func fleet(instances ...policies.Instance) policies.Config {
	c := policies.DefaultConfig()
	c.Instances, c.Agent.Interval = instances, time.Second
	adjust(&c, func(p *policies.Policy) {
		p.Reclaim.CallP99, p.Reclaim.Duty, p.Reclaim.AbortCall = 20*time.Millisecond, 80, 5*time.Second
	})
	return c
}

// adjust changes the default policy.
func adjust(c *policies.Config, change func(*policies.Policy)) {
	p := c.PolicyOf(policies.Instance{})
	change(&p)
	c.Policies = map[string]policies.Policy{"default": p}
}

// slowly makes a sweep of 200,000 keys take a minute: ten keys a call.
func slowly(p *policies.Policy) { p.Reclaim.CallP99, p.Reclaim.Duty = time.Nanosecond, 5 }

// newRig builds everything and starts nothing. dir empty: a new one.
func newRig(t testing.TB, c policies.Config, dir string) *rig {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	op := policies.Operator{Host: "test", PID: os.Getpid(), Version: "test"}
	j, err := journal.Open(context.Background(), dir, op)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, j: j, dir: dir, lines: &text{}, log: &text{}}
	probers, closeAll, err := probersOf(c)
	if err != nil {
		t.Fatal(err)
	}
	r.h = New(Options{Config: c, Probers: probers, Journal: j, Lines: r.lines, Operator: op, Trigger: policies.TriggerAlarm,
		Log: slog.New(slog.NewTextHandler(r.log, nil)), NewID: func() string { return ulid.Make().String() }})
	r.h.leastCalm = 400 * time.Millisecond
	r.stop = func() error { return nil }
	t.Cleanup(func() {
		_ = r.stop()
		if t.Failed() {
			t.Logf("lines:\n%s\nlog:\n%s", r.lines, r.log)
		}
		closeAll()
		_ = j.Close() // closed already where the test is about that
	})
	return r
}

func probersOf(c policies.Config) (probers map[string]map[string]Prober, closeAll func(), err error) {
	probers = map[string]map[string]Prober{}
	var all []*probe.Prober
	for _, i := range c.Instances {
		probers[i.Name] = map[string]Prober{}
		for _, n := range i.Nodes {
			o, err := probe.For(i, n, c.Agent.Timeout, nil)
			if err != nil {
				return nil, nil, err
			}
			p := probe.New(o)
			all, probers[i.Name][n.Name] = append(all, p), p
		}
	}
	return probers, func() {
		for _, p := range all {
			_ = p.Close()
		}
	}, nil
}

// start runs the Healer until the test ends or stop is called, and waits until all Machines are up; stop fails the test when Run takes longer than 5 s to return.
func (r *rig) start() *rig {
	r.t.Helper()
	r.starts.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- r.h.Run(ctx) }()
		r.stop = sync.OnceValue(func() error {
			cancel()
			select {
			case err := <-done:
				return err
			case <-time.After(5 * time.Second):
				r.t.Error("Run did not return within 5 s after its context ended")
				return <-done
			}
		})
	})
	eventually(r.t, "the Healer is up", func() bool {
		up, _ := r.j.Statuses(context.Background())
		return len(up) == len(r.h.machines())
	})
	return r
}

// whole stops the Healer and checks the journal's chain.
func (r *rig) whole() {
	r.t.Helper()
	if err := r.stop(); err != nil {
		r.t.Errorf("Run returned %v, want nil after a clean stop", err)
	}
	v, err := r.j.Verify(context.Background())
	if err != nil || !v.OK {
		r.t.Errorf("the journal does not verify: %+v, %v", v.FirstBad, err)
	}
	if n := r.log.count("state machine"); n > 0 {
		r.t.Errorf("%d events came in a state that does not list them", n)
	}
}

func alarm(instance string, m policies.Metric) policies.Alarm {
	return policies.Alarm{Severity: policies.Critical, Instance: instance, Metric: m, Value: policies.Text("down"), Msg: "test", ID: ulid.Make().String(), At: time.Now()}
}

func (r *rig) alarm(instance string, m policies.Metric) policies.Alarm {
	a := alarm(instance, m)
	r.h.Alarm(a)
	return a
}

func (r *rig) state(instance string) policies.State { return r.h.machine(instance).life.state() }

func (r *rig) waitState(instance string, want policies.State) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("state %s of %s", want, instance), func() bool { return r.state(instance) == want })
}

func (r *rig) waitLine(parts ...string) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("a line with %q", parts), func() bool { return r.lines.count(parts...) > 0 })
}

// records are the journal's of one instance, newest first.
func (r *rig) records(instance string) []policies.Record {
	r.t.Helper()
	all, err := r.j.List(context.Background(), journal.Filter{Instance: instance})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// record waits for the newest record of the instance and metric with this outcome.
func (r *rig) record(instance string, metric policies.Metric, outcome policies.Outcome) policies.Record {
	r.t.Helper()
	var found policies.Record
	eventually(r.t, fmt.Sprintf("a record of %s about %s with the outcome %s", instance, metric, outcome), func() bool {
		all := r.records(instance)
		i := slices.IndexFunc(all, func(o policies.Record) bool { return o.Metric == metric && o.Outcome == outcome })
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	})
	return found
}

// steady leaves out those who deny on a busy machine.
func steady(by []policies.Guard) []policies.Guard {
	return slices.DeleteFunc(slices.Clone(by), func(g policies.Guard) bool { return slices.Contains(transient, g) })
}

// only checks that the instance has exactly this many records. Where a busy machine denied, too, the same decision is made again once it
// does not: the two are one.
func (r *rig) only(instance string, want int) {
	r.t.Helper()
	var got []policies.Record
	for i, o := range r.records(instance) {
		busy := len(o.Commands) == 0 && len(steady(o.DeniedBy)) < len(o.DeniedBy)
		if i > 0 && busy && sameDecision(o, got[len(got)-1]) {
			continue
		}
		got = append(got, o)
	}
	if len(got) != want {
		r.t.Errorf("%d records of %s, want %d: %+v", len(got), instance, want, got)
	}
}

func sameDecision(a, b policies.Record) bool {
	return a.Node == b.Node && a.Action == b.Action && a.Cause == b.Cause && a.Mode == b.Mode && slices.Equal(steady(a.DeniedBy), steady(b.DeniedBy))
}

// sent checks how many records of the instance sent commands. A guard may well have denied others right before the
// command: on a busy machine a node answers slowly.
func (r *rig) sent(instance string, want int) {
	r.t.Helper()
	got := slices.DeleteFunc(r.records(instance), func(o policies.Record) bool { return len(o.Commands) == 0 })
	if len(got) != want {
		r.t.Errorf("%d records of %s sent something, want %d: %+v", len(got), instance, want, got)
	}
}

// refuses checks a refusal: its cause, that these guards are among those that denied, no command, and one line.
func (r *rig) refuses(instance string, metric policies.Metric, cause policies.Cause, by ...policies.Guard) policies.Record {
	r.t.Helper()
	rec := r.record(instance, metric, policies.OutcomeDenied)
	if rec.Cause != cause {
		r.t.Errorf("cause %s, want %s", rec.Cause, cause)
	}
	for _, g := range by {
		if !slices.Contains(rec.DeniedBy, g) {
			r.t.Errorf("denied by %v, want %s among them", rec.DeniedBy, g)
		}
	}
	if len(rec.Commands) > 0 {
		r.t.Errorf("a refusal sent %+v", rec.Commands)
	}
	r.waitLine("| escalated: ")
	r.waitState(instance, policies.StateEscalated)
	return rec
}

func (r *rig) grant(instance string, a policies.Action, at, until time.Time) {
	r.t.Helper()
	g := policies.LiveGrant{Instance: instance, Action: a, Enabled: true, Until: until, Reason: "test", By: "tester", At: at}
	if err := r.j.SetLive(context.Background(), g); err != nil {
		r.t.Fatal(err)
	}
}

// rounds waits until the Machine has looked n times more, by the server's own count of INFO on one of its nodes.
func rounds(t testing.TB, s *server, n int) {
	t.Helper()
	from := s.calls()["config|get"] // eleven a deep probe, none by the test
	eventually(t, fmt.Sprintf("%d more rounds", n), func() bool { return s.calls()["config|get"] >= from+n*22 })
}
