package remediation

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dcshealer/policies"
)

const replica1 = "replica-" + prod1 + "-1"

// observe has the Healer see every node once, as the agent's probes do all the time.
func (r *rig) observe() {
	r.t.Helper()
	for _, p := range r.h.opt.Probers[prod1] {
		r.h.Observe(p.Probe(context.Background()))
	}
}

// clear sets the counters of the servers back.
func clearStats(servers ...*server) {
	for _, s := range servers {
		s.do("CONFIG", "RESETSTAT")
	}
}

// expiring puts 50 keys that expire in a while beside the 100 of a pair, once the Healer has known the replica's last save for long enough:
// another one in the same second would not show.
func (r *rig) expiring(m, x *server) {
	r.t.Helper()
	eventually(r.t, "the last save has settled", func() bool {
		r.observe()
		return r.h.remembered(prod1, replica1).Followed.Writes.Settled >= 2*time.Second
	})
	m.fill(0, 50, 10, 1500*time.Millisecond)
	eventually(r.t, "the replica has them", func() bool { return x.keys(0) == 150 })
	r.observe()
}

func TestGrowthByExpiredKeysAloneIsNoWrite(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), "").start()
	r.expiring(m, x)
	x.promote()
	eventually(t, "the promoted node has expired them and says so in its history", func() bool {
		return x.keys(0) == 100 && x.number("replication", "master_repl_offset") >= x.number("replication", "second_repl_offset")
	})
	clearStats(m, x)
	r.alarm(prod1, replication)
	rec := r.healed(policies.CausePromoted, m, x)
	i := slices.IndexFunc(rec.Guards, func(g policies.Ruling) bool { return g.Guard == policies.GuardNoLostWrites })
	if i < 0 || !strings.Contains(rec.Guards[i].Reason, "none of them a write") {
		t.Errorf("guards %+v, want the growth explained", rec.Guards)
	}
	r.whole()
}

func TestOneWriteAmongExpiredKeysIsKept(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), "").start()
	r.expiring(m, x)
	x.promote()
	x.do("SET", "only", "here")
	eventually(t, "both have expired them", func() bool { return x.keys(0) == 101 && m.keys(0) == 100 })
	check := untouched(t, m, x)
	r.alarm(prod1, replication)
	r.refuses(prod1, replication, policies.CausePromotedWithWrites, policies.GuardNoLostWrites)
	check()
	r.whole()
}

func TestAReplicaThatWasWritableOnceIsKept(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	c, dir := fleet(instance(prod1, reattachLive, m, x)), t.TempDir()
	r := newRig(t, c, dir).start()
	x.do("CONFIG", "SET", "replica-read-only", "no")
	x.do("SET", "only", "here")
	r.observe()
	x.do("CONFIG", "SET", "replica-read-only", "yes")
	r.observe()
	x.promote()
	check := untouched(t, m, x)
	r.alarm(prod1, replication)
	rec := r.refuses(prod1, replication, policies.CausePromoted, policies.GuardNoLostWrites)
	if !strings.Contains(fmt.Sprint(rec.Guards), "was seen as a writable replica") {
		t.Errorf("guards %+v", rec.Guards)
	}
	check()
	r.whole()

	again, healed := byHand(t, c, dir, ByHand{Live: true, AllowLost: replica1})
	if healed.Outcome != policies.OutcomeSucceeded {
		t.Fatalf("by hand: %+v", healed)
	}
	if mem := again.h.remembered(prod1, replica1); !mem.Writable.IsZero() {
		t.Errorf("after a full copy it is still remembered as writable at %s", mem.Writable)
	}
	again.whole()
}

// A write that comes after the last look is seen on the action's own connection; one that comes in the very instant of the command is
// seen right after it, and the command is called off.
func TestAWriteInTheLastInstantIsNotLost(t *testing.T) {
	t.Parallel()
	for point, want := range map[string]map[string]int{"looked": {}, "asked": {"replicaof": 2}} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			m, x := pair(t, "--repl-diskless-sync-delay", "2") // the copy is slow enough to be called off
			r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), "")
			var once sync.Once
			r.h.step = func(p string) {
				if p == point {
					once.Do(func() { x.c.Set(context.Background(), "only", "here", 0) })
				}
			}
			r.start()
			x.promote()
			clearStats(m, x)
			r.alarm(prod1, replication)
			rec := r.record(prod1, replication, policies.OutcomeDenied)
			if rec.Mode != policies.Live || !strings.Contains(rec.Error, "took") || len(rec.Commands) != want["replicaof"] {
				t.Errorf("record %+v", rec)
			}
			if point == "asked" && (rec.Effect["called_off"] != true || !slices.Equal(rec.Commands[1].Args, []string{"REPLICAOF", "NO", "ONE"})) {
				t.Errorf("effect %v, commands %v", rec.Effect, rec.Commands)
			}
			r.waitState(prod1, policies.StateEscalated)
			if got := x.do("GET", "only"); got != "here" || x.keys(0) != 101 || x.info("replication")["role"] != "master" {
				t.Errorf("the write is %v now, with %d keys as a %s", got, x.keys(0), x.info("replication")["role"])
			}
			rounds(t, x, 2)
			calls := x.writes()
			delete(calls, "set")
			delete(calls, "get")
			if fmt.Sprint(calls) != fmt.Sprint(want) {
				t.Errorf("the replica was sent %v, want %v", calls, want)
			}
			m.wantWrites(map[string]int{})
			r.whole()
		})
	}
}

// Where the copy is quicker than we are, the write is lost and the record says so.
func TestAWriteThatIsLostIsNotLostSilently(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), "")
	var once sync.Once
	r.h.step = func(point string) {
		switch point {
		case "asked":
			once.Do(func() { x.c.Set(context.Background(), "only", "here", 0) })
		case "sent":
			for deadline := time.Now().Add(10 * time.Second); !x.linkUp() && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
		}
	}
	r.start()
	x.promote()
	r.alarm(prod1, replication)
	rec := r.record(prod1, replication, policies.OutcomeFailed)
	if !strings.Contains(rec.Error, "is lost") || rec.Effect["called_off"] != false || rec.Effect["keys_at_command"] != float64(101) || rec.Effect["keys_after"] != float64(100) {
		t.Errorf("error %q, effect %v: want the loss named", rec.Error, rec.Effect)
	}
	r.waitLine("result: failed", "is lost")
	r.whole()
}

// A relay stands between a replica and its master. While it is silent it passes nothing on the connections that it has, and keeps them
// open; new ones are passed.
type relay struct {
	addr   policies.Address
	to     string
	mu     sync.Mutex
	silent []*atomic.Bool
}

func newRelay(t *testing.T, to policies.Address) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr)
	r := &relay{addr: policies.Address{Host: "127.0.0.1", Port: at.Port}, to: to.String()}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { r.pass(ctx, c) })
		}
	})
	return r
}

func (r *relay) pass(ctx context.Context, c net.Conn) {
	out, err := net.Dial("tcp", r.to)
	if err != nil {
		_ = c.Close()
		return
	}
	quiet := new(atomic.Bool)
	r.mu.Lock()
	r.silent = append(r.silent, quiet)
	r.mu.Unlock()
	var wg sync.WaitGroup
	end := func() { _ = c.Close(); _ = out.Close() }
	stop := context.AfterFunc(ctx, end)
	defer stop()
	carry := func(from, to net.Conn) {
		defer end()
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			if !quiet.Load() {
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
		}
	}
	wg.Go(func() { carry(c, out) })
	wg.Go(func() { carry(out, c) })
	wg.Wait()
}

// hush makes the connections of now half open.
func (r *relay) hush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.silent {
		q.Store(true)
	}
}

func TestAHalfOpenLinkIsClosedAndComesBackByAPartialResync(t *testing.T) {
	t.Parallel()
	m, x := startServer(t, "--repl-timeout", "600"), startServer(t, "--repl-timeout", "600")
	m.fill(0, 100, 10, 0)
	between := newRelay(t, m.addr)
	in := instance(prod1, reattachLive, m, x)
	in.Nodes[0].PeerAddress = between.addr
	x.do("REPLICAOF", between.addr.Host, between.addr.Port)
	eventually(t, "the replica holds all keys", func() bool { return x.linkUp() && x.keys(0) == 100 })
	r := newRig(t, fleet(in), "").start()
	between.hush()
	m.do("SET", "after", "it")
	clearStats(m, x)
	eventually(t, "the replica notices the silence", func() bool { return x.number("replication", "master_last_io_seconds_ago") > 13 })
	if x.info("replication")["master_link_status"] != "up" {
		t.Fatal("the link does not say up: this is not the fault to be tested")
	}
	r.alarm(prod1, replication)
	rec := r.record(prod1, replication, policies.OutcomeSucceeded)
	want := []string{"CLIENT", "KILL", "TYPE", "master"}
	switch {
	case rec.Cause != policies.CauseStuckLink || rec.Action != policies.ReattachReplica:
		t.Errorf("cause %s, action %s", rec.Cause, rec.Action)
	case len(rec.Commands) != 1 || !slices.Equal(rec.Commands[0].Args, want) || rec.Commands[0].Reply != "1":
		t.Errorf("commands %+v, want %v once", rec.Commands, want)
	case rec.Expect.Resync != policies.ResyncPartial || rec.Effect["resync"] != "partial" || rec.Effect["as_predicted"] != true:
		t.Errorf("expected %+v, effect %v", rec.Expect, rec.Effect)
	}
	x.wantWrites(map[string]int{"client|kill": 1, "set": 1}) // the SET is the master's
	m.wantWrites(map[string]int{})
	if a, b := x.do("DEBUG", "DIGEST"), m.do("DEBUG", "DIGEST"); a != b {
		t.Errorf("digest %v on the replica, %v on its master", a, b)
	}
	r.whole()
}

func TestTheCheaperReplicaComesFirst(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	y := startServer(t)
	y.follow(m)
	c := fleet(instance(prod1, reattachLive, m, x, y))
	r := newRig(t, c, "").start()
	r.observe()
	x.promote() // takes a full copy
	y.do("REPLICAOF", m.addr.Host, 1)
	clearStats(m, x, y)
	r.alarm(prod1, replication)
	eventually(t, "both links are up", func() bool { return x.linkUp() && y.linkUp() })
	eventually(t, "two records", func() bool {
		all := r.records(prod1)
		return len(all) == 2 && all[0].Outcome == policies.OutcomeSucceeded && all[1].Outcome == policies.OutcomeSucceeded
	})
	all := r.records(prod1)
	if all[1].Node != "replica-"+prod1+"-2" || all[1].Effect["resync"] != "partial" || all[0].Effect["resync"] != "full" {
		t.Errorf("first %s by %v, then %s by %v; want the partial resync first", all[1].Node, all[1].Effect["resync"], all[0].Node, all[0].Effect["resync"])
	}
	if all[0].At.Before(all[1].Finished) {
		t.Errorf("the second began at %s, the first ended at %s", all[0].At, all[1].Finished)
	}
	if n := m.info("stats")["sync_full"]; n != "1" {
		t.Errorf("the master made %s full copies, want one", n)
	}
	r.whole()
}

func TestConfigRewriteIsOptInAndLasts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file       string
		persistent bool
		says       string
	}{
		"with a config file":    {"redis.conf", true, "written to its config file"},
		"without a config file": {"", false, "a restart undoes the repair"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var args []string
			if c.file != "" {
				c.file = filepath.Join(t.TempDir(), c.file)
				if err := os.WriteFile(c.file, []byte("# the replica's own\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				args = []string{c.file}
			}
			m, x := startServer(t), startServer(t, args...)
			m.fill(0, 100, 10, 0)
			x.follow(m)
			cfg := fleet(instance(prod1, reattachLive, m, x))
			adjust(&cfg, func(p *policies.Policy) { p.Reattach.ConfigRewrite = true })
			r := newRig(t, cfg, "").start()
			x.promote()
			clearStats(m, x)
			r.alarm(prod1, replication)
			rec := r.record(prod1, replication, policies.OutcomeSucceeded)
			if len(rec.Commands) != 2 || !slices.Equal(rec.Commands[1].Args, []string{"CONFIG", "REWRITE"}) || rec.Effect["persistent"] != c.persistent {
				t.Errorf("commands %+v, effect %v", rec.Commands, rec.Effect)
			}
			r.waitLine("result: succeeded", c.says)
			x.wantWrites(map[string]int{"replicaof": 1, "config|rewrite": 1})
			if c.persistent {
				x.kill()
				x.restart()
				eventually(t, "the replica follows its master after a restart", x.linkUp)
			}
			r.whole()
		})
	}
}

func TestSettingsThatWereLostAreNamed(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	x.do("CONFIG", "SET", "masterauth", "secret-of-old")
	r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), "").start()
	r.observe()
	x.promote()
	x.do("CONFIG", "SET", "masterauth", "")
	x.do("CONFIG", "SET", "replica-priority", 0)
	clearStats(m, x)
	r.alarm(prod1, replication)
	rec := r.healed(policies.CausePromoted, m, x)
	got := fmt.Sprint(rec.Effect["settings_changed"])
	for _, want := range []string{"masterauth set true -> false", "replica-priority 100 -> 0"} {
		if !strings.Contains(got, want) {
			t.Errorf("settings_changed %v does not name %q", got, want)
		}
	}
	if strings.Contains(r.lines.String()+r.log.String()+fmt.Sprint(rec), "secret-of-old") {
		t.Error("a password was shown")
	}
	r.whole()
}

// What a person does in the very instant of our command is put back as it was: a promotion, another master, a switchover.
func TestAPersonInTheLastInstantIsNotOverruled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		astray func(m, x, z *server) // the fault
		person func(m, x, z *server) // in the last instant
		check  func(t *testing.T, m, x, z *server)
	}{
		"the replica is promoted and written to": {
			func(_, x, _ *server) { x.do("REPLICAOF", "127.0.0.1", 1) },
			func(_, x, _ *server) {
				x.c.Do(context.Background(), "REPLICAOF", "NO", "ONE")
				x.c.Set(context.Background(), "only", "here", 0)
			},
			func(t *testing.T, _, x, _ *server) {
				if got := x.do("GET", "only"); got != "here" || x.info("replication")["role"] != "master" {
					t.Errorf("the write is %v on a %s", got, x.info("replication")["role"])
				}
			},
		},
		"the replica is given another master": {
			func(_, x, _ *server) { x.do("REPLICAOF", "127.0.0.1", 1) },
			func(_, x, z *server) { x.c.Do(context.Background(), "REPLICAOF", z.addr.Host, z.addr.Port) },
			func(t *testing.T, _, x, z *server) {
				if got := x.info("replication"); got["master_port"] != portOf(z) {
					t.Errorf("it follows port %s, a person gave it %s", got["master_port"], portOf(z))
				}
			},
		},
		"the master is made a replica of the promoted node": {
			func(_, x, _ *server) { x.promote() },
			func(m, x, _ *server) { m.c.Do(context.Background(), "REPLICAOF", x.addr.Host, x.addr.Port) },
			func(t *testing.T, m, x, _ *server) {
				if a, b := m.info("replication")["role"], x.info("replication")["role"]; a != "slave" || b != "master" {
					t.Errorf("the old master is a %s and the new one a %s", a, b)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, x := pair(t, "--repl-diskless-sync-delay", "2")
			z := startServer(t)
			r := newRig(t, fleet(instance(prod1, reattachLive, m, x)), "")
			var once sync.Once
			r.h.step = func(point string) {
				if point == "asked" {
					once.Do(func() { c.person(m, x, z) })
				}
			}
			r.start()
			c.astray(m, x, z)
			r.alarm(prod1, replication)
			rec := r.record(prod1, replication, policies.OutcomeDenied)
			if rec.Mode != policies.Live || rec.Effect["called_off"] != true || !strings.Contains(rec.Error, "in the very instant") {
				t.Errorf("error %q, effect %v", rec.Error, rec.Effect)
			}
			c.check(t, m, x, z)
			r.whole()
		})
	}
}

func TestAMasterByAnotherNameIsTheSameMaster(t *testing.T) {
	t.Parallel()
	m, x := pair(t)
	in := instance(prod1, reattachLive, m, x)
	in.Nodes[0].PeerAddress = policies.Address{Host: "localhost", Port: m.addr.Port}
	r := newRig(t, fleet(in), "").start()
	x.promote()
	r.alarm(prod1, replication)
	rec := r.record(prod1, replication, policies.OutcomeSucceeded)
	if rec.Commands[0].Args[1] != "localhost" {
		t.Errorf("commands %+v", rec.Commands)
	}
	r.whole()
}
