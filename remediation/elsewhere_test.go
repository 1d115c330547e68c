package remediation

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dcshealer/policies"
)

// detour listens where a node is configured: the first connection leads to one server and every later one to another, as
// behind a moved address or a service name.
func detour(t *testing.T, first, later *server) policies.Address {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		to := first
		for {
			in, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			out, err := net.Dial("tcp", to.addr.String())
			to = later
			if err != nil {
				in.Close()
				continue
			}
			wg.Go(func() { defer in.Close(); defer out.Close(); _, _ = io.Copy(in, out) })
			wg.Go(func() { defer in.Close(); defer out.Close(); _, _ = io.Copy(out, in) })
		}
	})
	t.Cleanup(func() { l.Close() })
	a, err := policies.ParseAddress(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestACommandNeverGoesToAnotherServerThanTheOneDiagnosed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		live  []policies.Action
		spoil func(t *testing.T) (m, x, other *server)
		alarm policies.Metric
	}{
		"reattach": {reattachLive, func(t *testing.T) (m, x, other *server) {
			m, x = pair(t)
			x.promote()
			other = startServer(t)
			other.fill(0, 10, 10, 0)
			return m, x, other
		}, replication},
		"reclaim": {reclaimLive, func(t *testing.T) (m, x, other *server) {
			x, other = startServer(t), startServer(t)
			for _, s := range []*server{x, other} {
				s.stale(20_000, 0)
				s.limit(100)
			}
			return nil, x, other
		}, memory},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, x, other := c.spoil(t)
			in := policies.Instance{Name: prod1, ManagedBy: policies.ManagedByNone, Live: c.live}
			moved := policies.Node{Name: "moved", Address: detour(t, x, other), Role: policies.RoleReplica}
			if m == nil {
				moved.Role = policies.RoleMaster
			} else {
				in.Nodes = append(in.Nodes, policies.Node{Name: "m", Address: m.addr, PeerAddress: m.addr, Role: policies.RoleMaster})
			}
			in.Nodes = append(in.Nodes, moved)
			r := newRig(t, fleet(in), "").start()
			check := untouched(t, x, other)
			r.alarm(prod1, c.alarm)
			rec := r.record(prod1, c.alarm, policies.OutcomeDenied)
			if !slices.Equal(rec.DeniedBy, []policies.Guard{policies.GuardIdentity}) || !strings.Contains(rec.Error, "leads to another server") {
				t.Errorf("denied by %v, error %q", rec.DeniedBy, rec.Error)
			}
			check()
			other.wantWrites(map[string]int{})
			r.whole()
		})
	}
}

// The config gives the replicas an address of the master at which another server listens. Its data would replace that of the replica.
func TestAPeerAddressOfAnotherServerIsNotFollowed(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	other := startServer(t)
	other.fill(0, 7, 10, 0)
	x.promote()
	in := instance(prod1, reattachLive, m, x)
	in.Nodes[0].PeerAddress = other.addr
	r := newRig(t, fleet(in), "").start()
	check := untouched(t, m, x, other)
	r.alarm(prod1, replication)
	rec := r.refuses(prod1, replication, policies.CausePromoted, policies.GuardMasterSafe)
	if !strings.Contains(fmt.Sprint(rec.Guards), "leads to another server") {
		t.Errorf("guards %+v", rec.Guards)
	}
	check()
	r.whole()
}

func TestHealWithoutLiveSendsNothingWhereLiveIsEnabled(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	x.promote()
	check := untouched(t, m, x)
	r, rec := byHand(t, fleet(instance(prod1, reattachLive, m, x)), t.TempDir(), ByHand{})
	if rec.Outcome != policies.OutcomePlanned || rec.Mode != policies.DryRun || len(rec.Commands) > 0 {
		t.Errorf("outcome %s, mode %s, commands %v; want it planned only", rec.Outcome, rec.Mode, rec.Commands)
	}
	check()
	r.whole()
}

func TestAStormIsSeenByHandToo(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	x.promote()
	instances := []policies.Instance{instance(prod1, dry, m, x)}
	for _, name := range []string{"b", "c", "d"} {
		hung := startServer(t)
		hung.hang()
		instances = append(instances, instance(name, dry, hung))
	}
	c := fleet(instances...)
	c.Agent.Timeout = 300 * time.Millisecond
	check := untouched(t, m, x)
	r, rec := byHand(t, c, "", ByHand{Live: true})
	if rec.Outcome != policies.OutcomeDenied || !slices.Equal(rec.DeniedBy, []policies.Guard{policies.GuardStorm}) {
		t.Errorf("outcome %s, denied by %v; want the storm guard alone", rec.Outcome, rec.DeniedBy)
	}
	check()
	r.whole()
}

func TestWhoeverWasNotSeenMayBeInTrouble(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	x.promote()
	instances := []policies.Instance{instance(prod1, reattachLive, m, x)}
	for _, name := range []string{"b", "c", "d"} {
		instances = append(instances, instance(name, dry, startServer(t)))
	}
	r := newRig(t, fleet(instances...), "")
	var mu sync.Mutex
	seen := map[string]bool{} // the agent has seen nobody yet
	r.h.opt.Trouble = func(time.Time) map[string]bool { mu.Lock(); defer mu.Unlock(); return seen }
	r.start()
	check := untouched(t, m, x)
	r.alarm(prod1, replication)
	rec := r.record(prod1, replication, policies.OutcomeDenied)
	if !slices.Equal(rec.DeniedBy, []policies.Guard{policies.GuardStorm}) {
		t.Errorf("denied by %v", rec.DeniedBy)
	}
	r.waitState(prod1, policies.StateHeld)
	check()
	mu.Lock()
	seen = map[string]bool{"b": false, "c": false, "d": false}
	mu.Unlock()
	eventually(t, "healed once the others were seen", func() bool { return x.linkUp() })
	r.whole()
}

func TestALongOrOddAlarmIDIsAsGoodAsNone(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"01M826SQQ696M57JSD3E7PZGTB": "01M826SQQ696M57JSD3E7PZGTB", "alarm-7.b:2_x": "alarm-7.b:2_x",
		strings.Repeat("x", 65): "", "\x1b[31mEVIL": "", "a b": "", "": "",
	} {
		if got := plainID(id); got != want {
			t.Errorf("plainID(%.20q): got %q, want %q", id, got, want)
		}
	}
}

func TestTheExpiredKeysAreNotCountedAllTheTime(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	m.stale(20_000, 0)
	m.limit(100)
	eventually(t, "the replica holds what its master holds", func() bool { return x.keys(0) == m.keys(0) && m.keys(0) >= 20_000 })
	r := newRig(t, fleet(instance(prod1, dry, m, x)), "").start()
	r.alarm(prod1, memory)
	r.waitState(prod1, policies.StateHeld)
	before := x.calls()["scan"]
	if before == 0 {
		t.Fatal("the replica was not asked for an estimate")
	}
	rounds(t, m, 3)
	if after := x.calls()["scan"]; after != before {
		t.Errorf("%d SCANs on the replica while nothing changed", after-before)
	}
}
