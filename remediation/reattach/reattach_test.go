package reattach

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dcshealer/policies"
)

type conn func(ctx context.Context, master policies.Address) (string, policies.Snapshot, error)

var _ Conn = conn(nil)

func (c conn) ReplicaOf(ctx context.Context, m policies.Address) (string, policies.Snapshot, error) {
	return c(ctx, m)
}

var at = policies.Address{Host: "10.0.0.11", Port: 6379}

func TestSend(t *testing.T) {
	t.Parallel()
	refused := errors.New("NOPERM this user has no permissions")
	for name, c := range map[string]struct {
		reply string
		err   error
		is    error
		says  string
	}{
		"a plain OK":             {reply: "OK"},
		"it follows it already":  {reply: "OK Already connected to specified master", is: ErrNothingHappened},
		"an error":               {err: refused, is: refused, says: "REPLICAOF 10.0.0.11:6379"},
		"an OK beside an error":  {reply: "OK", err: context.DeadlineExceeded, is: context.DeadlineExceeded},
		"an answer of a proxy":   {reply: "QUEUED", says: `"QUEUED", want OK`},
		"an empty answer":        {says: "want OK"},
		"OK with something else": {reply: "OK but not really", says: "want OK"},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			_, err := Send(t.Context(), conn(func(_ context.Context, m policies.Address) (string, policies.Snapshot, error) {
				calls++
				if m != at {
					t.Errorf("sent for %s", m)
				}
				return c.reply, policies.Snapshot{}, c.err
			}), at)
			if calls != 1 {
				t.Errorf("sent %d times, want once", calls)
			}
			if good := c.is == nil && c.says == ""; good != (err == nil) || c.is != nil && !errors.Is(err, c.is) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want %v %q", err, c.is, c.says)
			}
		})
	}
}

type link func() (int64, error)

func (l link) KillMasterLink(context.Context) (int64, error) { return l() }

func TestReconnect(t *testing.T) {
	t.Parallel()
	refused := errors.New("NOPERM this user has no permissions")
	for name, c := range map[string]struct {
		closed int64
		err    error
		is     error
	}{
		"one link closed": {closed: 1}, "no link": {is: ErrNoLink}, "an error": {err: refused, is: refused}, "an error beside a count": {closed: 1, err: refused, is: refused},
	} {
		if err := Reconnect(t.Context(), link(func() (int64, error) { return c.closed, c.err })); !errors.Is(err, c.is) {
			t.Errorf("%s: error %v, want %v", name, err, c.is)
		}
	}
}

const id = policies.ReplID("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")

var masterNode = policies.Node{Name: "dcs-master-01", Address: policies.Address{Host: "10.0.0.11", Port: 6379}}

// step is a replica in step and its master.
func step() (x, m policies.Snapshot) {
	x = policies.Snapshot{Node: "x", Reach: policies.ReachUp, Replication: policies.Replication{Role: policies.RoleReplica, ReplID: id,
		MasterHost: masterNode.Address.Host, MasterPort: masterNode.Address.Port, LinkUp: policies.Known(true), LinkState: "connected", SyncInProgress: policies.Known(false)}}
	m = policies.Snapshot{Node: "m", Reach: policies.ReachUp, Replication: policies.Replication{Role: policies.RoleMaster, ReplID: id,
		Replicas: []policies.ReplicaLine{{Host: "10.0.0.12", Port: 6379, State: "online"}}}}
	return x, m
}

func TestAttached(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(x, m *policies.Snapshot)
		want   string // in what is missing; empty: attached
	}{
		"in step":                            {func(_, _ *policies.Snapshot) {}, ""},
		"the replica is gone":                {func(x, _ *policies.Snapshot) { x.Reach = policies.ReachHung }, "replica cannot be read"},
		"the replica loads":                  {func(x, _ *policies.Snapshot) { x.Reach = policies.ReachLoading }, "replica cannot be read"},
		"the master is gone":                 {func(_, m *policies.Snapshot) { m.Reach = policies.ReachRefused }, "master cannot be read"},
		"the master is a replica":            {func(_, m *policies.Snapshot) { m.Replication.Role = policies.RoleReplica }, "no longer a master"},
		"the replica is a master":            {func(x, _ *policies.Snapshot) { x.Replication.Role = policies.RoleMaster }, "still a master"},
		"the role is unknown":                {func(x, _ *policies.Snapshot) { x.Replication.Role = "" }, "still a master"},
		"the link is down":                   {func(x, _ *policies.Snapshot) { x.Replication.LinkUp = policies.Known(false) }, "link is down"},
		"the link is unknown":                {func(x, _ *policies.Snapshot) { x.Replication.LinkUp = policies.Opt[bool]{} }, "link is down"},
		"it follows another":                 {func(x, _ *policies.Snapshot) { x.Replication.MasterPort = 1 }, "it follows 10.0.0.11:1"},
		"another history":                    {func(x, _ *policies.Snapshot) { x.Replication.ReplID = "b" }, "ids differ"},
		"no history":                         {func(x, m *policies.Snapshot) { x.Replication.ReplID, m.Replication.ReplID = "", "" }, "ids differ"},
		"the master lists nobody":            {func(_, m *policies.Snapshot) { m.Replication.Replicas = nil }, "does not list it"},
		"the link is the old, half open one": {func(x, _ *policies.Snapshot) { x.Replication.LastIOSecondsAgo = policies.Known(int64(25)) }, "sent nothing for 25 s"},
		"the master lists it copying":        {func(_, m *policies.Snapshot) { m.Replication.Replicas[0].State = "send_bulk" }, "does not list it"},
	} {
		t.Run(name, func(t *testing.T) {
			x, m := step()
			c.change(&x, &m)
			if got := (Verify{MasterNode: masterNode}).Attached(x, m); c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("missing %q, want %q", got, c.want)
			}
		})
	}
}

// verify is a Verify whose replica is what of says of it after that long.
func verify(of func(since time.Duration, x, m *policies.Snapshot)) Verify {
	start := time.Now()
	return Verify{
		Replica: func(context.Context) policies.Snapshot {
			x, m := step()
			of(time.Since(start), &x, &m)
			x.At = time.Now()
			return x
		},
		Master: func(context.Context) policies.Snapshot {
			x, m := step()
			of(time.Since(start), &x, &m)
			return m
		},
		ReplicaNode: policies.Node{Name: "dcs-slave-01"}, MasterNode: masterNode, Stall: time.Second,
	}
}

func down(x *policies.Snapshot) {
	x.Replication.LinkUp, x.Replication.LinkState = policies.Known(false), "sync"
}

func TestVerifySeesTheReplicaComeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := verify(func(since time.Duration, x, _ *policies.Snapshot) {
			if since < 450*time.Millisecond {
				down(x)
			}
		}).Run(t.Context())
		if err != nil || !p.Attached || p.Why != "" || p.LinkUpAfter != 500*time.Millisecond || p.Replica.Node != "x" || p.Master.Node != "m" {
			t.Errorf("proof %+v, error %v; want it after 500 ms", p, err)
		}
	})
}

func TestVerifyGivesUpWhenNothingMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p, err := verify(func(_ time.Duration, x, _ *policies.Snapshot) { down(x) }).Run(t.Context())
		if err == nil || p.Attached || !strings.Contains(err.Error(), "dcs-slave-01 did not come up under dcs-master-01") || !strings.Contains(err.Error(), "link is down, state sync") {
			t.Errorf("proof %+v, error %v", p, err)
		}
		if took := time.Since(start); took < time.Second || took > 1200*time.Millisecond {
			t.Errorf("gave up after %s, the stall is 1 s", took)
		}
	})
}

func TestALinkThatIsRefusedAgainAndAgainIsNotProgress(t *testing.T) {
	for name, tries := range map[string]func(since time.Duration, x *policies.Snapshot){
		"a wrong masterauth, or a dead port": func(since time.Duration, x *policies.Snapshot) {
			x.Replication.LinkState = []string{"connect", "connecting", "handshake"}[since/(100*time.Millisecond)%3]
		},
		"a user without +psync, with whom the replica takes itself for copying": func(since time.Duration, x *policies.Snapshot) {
			odd := since/(100*time.Millisecond)%2 == 1
			x.Replication.LinkState = map[bool]string{true: "sync", false: "connect"}[odd]
			x.Replication.SyncInProgress, x.Replication.SyncLastIOSeconds = policies.Known(odd), policies.Known(int64(0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				v := verify(func(since time.Duration, x, m *policies.Snapshot) {
					x.Replication.LinkUp, m.Replication.Replicas, m.Stats.SyncFull = policies.Known(false), nil, policies.Known(int64(3))
					tries(since, x)
				})
				v.Before.Stats.SyncFull = policies.Known(int64(3))
				if _, err := v.Run(ctx); err == nil || ctx.Err() != nil {
					t.Errorf("error %v; want it given up after the stall of 1 s", err)
				}
			})
		})
	}
}

func TestVerifyWaitsAsLongAsACopyMoves(t *testing.T) {
	for name, moves := range map[string]func(since time.Duration, x, m *policies.Snapshot){
		"bytes left": func(since time.Duration, x, _ *policies.Snapshot) {
			x.Replication.SyncLeftBytes = policies.Known(int64(time.Minute - since))
		},
		"a diskless copy, whose bytes left are -1": func(_ time.Duration, x, _ *policies.Snapshot) {
			x.Replication.SyncInProgress, x.Replication.SyncLeftBytes = policies.Known(true), policies.Known(int64(-1))
			x.Replication.SyncLastIOSeconds = policies.Known(int64(0))
		},
		"the master's line": func(since time.Duration, _, m *policies.Snapshot) {
			m.Replication.Replicas[0].State = []string{"wait_bgsave", "send_bulk"}[int(since/(700*time.Millisecond))%2]
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := verify(func(since time.Duration, x, m *policies.Snapshot) {
					if since < 20*time.Second {
						down(x)
						moves(since, x, m)
					}
				})
				v.Stall = 2 * time.Second
				if p, err := v.Run(t.Context()); err != nil || !p.Attached {
					t.Errorf("proof %+v, error %v; want it although it took ten times the stall", p, err)
				}
			})
		})
	}
}

func TestAStuckCopyIsNotProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := verify(func(_ time.Duration, x, _ *policies.Snapshot) {
			down(x)
			x.Replication.SyncInProgress, x.Replication.SyncLastIOSeconds = policies.Known(true), policies.Known(int64(30))
		}).Run(t.Context())
		if err == nil {
			t.Error("a copy that has received nothing for 30 s was waited for")
		}
	})
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		p, err := verify(func(_ time.Duration, x, _ *policies.Snapshot) { down(x) }).Run(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || p.Why == "" || p.Attached {
			t.Errorf("proof %+v, error %v; want the end of the context and what is missing", p, err)
		}
	})
}

func TestVerifyNoticesAnotherServerUnderTheMastersAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p, err := verify(func(since time.Duration, x, _ *policies.Snapshot) {
			x.Replication.ReplID = "b"
			x.Replication.ReplicaOffset = policies.Known(int64(since)) // its pings move the offset
		}).Run(t.Context())
		if err == nil || p.Attached || !strings.Contains(err.Error(), "is not dcs-master-01") || !strings.Contains(err.Error(), "peer_address") {
			t.Errorf("proof %+v, error %v", p, err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestVerifyEndsAFullResyncLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := verify(func(since time.Duration, x, m *policies.Snapshot) {
			down(x)
			x.Replication.SyncLeftBytes = policies.Known(int64(since))           // it moves all the time
			m.Stats.SyncFull = policies.Known(1 + int64(since/(10*time.Second))) // counted before the first byte
		})
		v.Before.Stats.SyncFull = policies.Known(int64(0))
		start := time.Now()
		p, err := v.Run(t.Context())
		if err == nil || p.Attached || !strings.Contains(err.Error(), "full-resync loop") || !strings.Contains(err.Error(), "client-output-buffer-limit replica on dcs-master-01") {
			t.Errorf("proof %+v, error %v", p, err)
		}
		if took := time.Since(start); took < 30*time.Second || took > 31*time.Second {
			t.Errorf("took %s, want it to end with the fourth copy", took)
		}
	})
}
