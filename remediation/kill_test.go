package remediation

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dcshealer/agent/probe"
	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

const clients = policies.MetricClients

var killLive = []policies.Action{policies.KillIdleClients}

// A guest is one raw connection to a server.
type guest struct {
	t  testing.TB
	c  net.Conn
	r  *bufio.Reader
	id int64
}

// visit connects from an address of this machine and sends commands, whose answers are left unread.
func visit(t testing.TB, s *server, from string, commands ...string) *guest {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", s.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	g := &guest{t: t, c: c, r: bufio.NewReader(c)}
	if g.id, err = strconv.ParseInt(strings.TrimPrefix(g.ask("CLIENT ID"), ":"), 10, 64); err != nil {
		t.Fatalf("CLIENT ID: %v", err)
	}
	for _, command := range commands {
		g.say(command + "\r\n")
	}
	return g
}

func (g *guest) say(text string) {
	g.t.Helper()
	if _, err := g.c.Write([]byte(text)); err != nil {
		g.t.Fatal(err)
	}
}

// ask returns the first line of the answer.
func (g *guest) ask(command string) string {
	g.t.Helper()
	g.say(command + "\r\n")
	_ = g.c.SetReadDeadline(time.Now().Add(10 * time.Second))
	line, err := g.r.ReadString('\n')
	if err != nil {
		g.t.Fatalf("%s: %v", command, err)
	}
	return strings.TrimSpace(line)
}

// visitors are n ordinary clients.
func visitors(t testing.TB, s *server, n int) (out []*guest) {
	t.Helper()
	for range n {
		out = append(out, visit(t, s, "127.0.0.1"))
	}
	return out
}

// listed is CLIENT LIST by id.
func (s *server) listed() map[int64]policies.Client {
	s.t.Helper()
	out := map[int64]policies.Client{}
	for _, c := range policies.ParseClients(fmt.Sprint(s.do("CLIENT", "LIST"))) {
		out[c.ID] = c
	}
	return out
}

// connected is how many of the guests are still connected.
func (s *server) connected(guests []*guest) (n int) {
	s.t.Helper()
	all := s.listed()
	for _, g := range guests {
		if _, ok := all[g.id]; ok {
			n++
		}
	}
	return n
}

// wantClosed checks that exactly these are gone, and that their peers see it.
func (s *server) wantClosed(guests []*guest) {
	s.t.Helper()
	if n := s.connected(guests); n != 0 {
		s.t.Errorf("%d of %d that should be closed are connected", n, len(guests))
	}
	for _, g := range guests {
		_ = g.c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := g.r.ReadByte(); err == nil || errors.Is(err, context.DeadlineExceeded) {
			s.t.Errorf("client %d: %v, want its connection closed", g.id, err)
		}
	}
}

func (s *server) wantConnected(guests []*guest) {
	s.t.Helper()
	if n := s.connected(guests); n != len(guests) {
		s.t.Errorf("%d of %d that should stay are connected", n, len(guests))
	}
}

// idle waits until all of them count as idle.
func (s *server) idle(guests []*guest) {
	s.t.Helper()
	eventually(s.t, "they are idle", func() bool {
		all := s.listed()
		return !slices.ContainsFunc(guests, func(g *guest) bool { return time.Duration(all[g.id].Idle)*time.Second <= killIdleFor })
	})
}

// killIdleFor is long enough for a client that pings all the time never to look idle on a busy machine.
const killIdleFor = 3 * time.Second

// crowded is a server of 100 connections at most; the test's own has a name.
func crowded(t testing.TB, args ...string) *server {
	t.Helper()
	s := startServer(t, append([]string{"--maxclients", "100", "--protected-mode", "no"}, args...)...)
	s.do("CLIENT", "SETNAME", "test")
	return s
}

// ladderOf opts the instance into the step.
func ladderOf(i policies.Instance, a policies.Action) policies.Instance {
	i.Ladder = []policies.Action{a}
	return i
}

// crowdedFleet fires at 80 connections and closes down to 50.
func crowdedFleet(live []policies.Action, change func(*policies.Kill), m *server, replicas ...*server) policies.Config {
	c := fleet(ladderOf(instance(prod1, live, m, replicas...), policies.KillIdleClients))
	adjust(&c, func(p *policies.Policy) {
		p.Clients = policies.ClientsThreshold{Warning: 70, Critical: 80, Clear: 5, For: 1}
		p.Kill = policies.Kill{Idle: killIdleFor, Target: 50, MaxClients: 100, Cooldown: time.Hour}
		if change != nil {
			change(&p.Kill)
		}
	})
	return c
}

// newer reports whether a server is of this release line or a later one.
func (s *server) newer(major, minor int) bool {
	line := probe.FromInfo(s.c.Info(context.Background()).Val()).Line()
	return line.V.Compare(policies.Line{Major: major, Minor: minor}) >= 0
}

// special connects one client of each kind that is never closed, by why.
func special(t testing.TB, s *server) map[string]*guest {
	t.Helper()
	const local = "127.0.0.1"
	out := map[string]*guest{
		"named": visit(t, s, local, "CLIENT SETNAME web-1"), "sentinel": visit(t, s, local, "CLIENT SETNAME sentinel-0123abcd-cmd"),
		"protect worker-*": visit(t, s, local, "CLIENT SETNAME worker-7"), "protect 127.0.0.2": visit(t, s, "127.0.0.2"),
		"protect batch":  visit(t, s, local, "AUTH batch secret"),
		"pubsub":         visit(t, s, local, "SUBSCRIBE a"),
		"pubsub pattern": visit(t, s, local, "PSUBSCRIBE a*"),
		"blocked":        visit(t, s, local, "BLPOP empty 0"),
		"transaction":    visit(t, s, local, "MULTI", "GET a"),
		"transaction 2":  visit(t, s, local, "WATCH a"),
		"monitor":        visit(t, s, local, "MONITOR"),
		"output-waiting": visit(t, s, local, "GET big", "GET big", "GET big"),
		"input-waiting":  visit(t, s, local),
		"ours":           visit(t, s, local, "CLIENT SETNAME dcshealer-probe"),
	}
	out["input-waiting"].say("*2\r\n$3\r\nGET\r\n$5\r\nha")
	if s.newer(6, 2) { // where 6.0 sees one that tracks, nobody is closed
		told := visit(t, s, local, "HELLO 3")
		out["tracking told"] = told
		out["tracking"] = visit(t, s, local, "HELLO 3", "CLIENT TRACKING ON")
		out["tracking 2"] = visit(t, s, local, fmt.Sprintf("CLIENT TRACKING ON REDIRECT %d", told.id))
	}
	if s.newer(7, 0) {
		out["no-evict"] = visit(t, s, local, "CLIENT NO-EVICT ON")
		out["pubsub shard"] = visit(t, s, local, "SSUBSCRIBE a")
	}
	return out
}

func values(m map[string]*guest) (out []*guest) {
	for _, g := range m {
		out = append(out, g)
	}
	return out
}

// lively is a client that pings until the test ends.
func lively(t testing.TB, s *server) *guest {
	t.Helper()
	g := visit(t, s, "127.0.0.1")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	wg.Go(func() {
		for wait(ctx, 100*time.Millisecond) == nil {
			_, _ = g.c.Write([]byte("PING\r\n"))
		}
	})
	return g
}

func (s *server) prepare() {
	s.do("SET", "big", strings.Repeat("x", 16<<20))
	s.do("ACL", "SETUSER", "batch", "on", ">secret", "+@all", "~*")
}

func TestIdleClientsAreClosedAndNoOthers(t *testing.T) {
	t.Parallel()
	m, x, stopped := crowded(t, "--repl-ping-replica-period", "3600"), startServer(t), startServer(t)
	m.prepare()
	x.follow(m)
	stopped.follow(m)
	stopped.hang() // a replica that says nothing looks idle
	kinds := special(t, m)
	active := lively(t, m)
	idle := visitors(t, m, 75)
	resting := maps.Clone(kinds)
	delete(resting, "monitor") // it is told of every command, and never looks idle
	m.idle(append(slices.Clone(idle), values(resting)...))
	m.silent(t, "S")
	c := crowdedFleet(killLive, func(k *policies.Kill) { k.Protect = []string{"worker-*", "127.0.0.2", "batch"} }, m, x)
	r := newRig(t, c, "").start()
	check := untouched(t, x)
	m.do("CONFIG", "RESETSTAT")
	r.alarm(prod1, clients)
	rec := r.record(prod1, clients, policies.OutcomeSucceeded)
	calls := m.writes()

	closed := int(rec.Effect["closed"].(float64))
	if len(calls) != 1 || calls["client|kill"]+calls["client"] != closed {
		t.Errorf("the server was sent %v by its own count, want %d times CLIENT KILL and nothing else", calls, closed)
	}
	if now := m.number("clients", "connected_clients"); now > 51 || now < 48 { // the test's, the probe's and the healer's own come and go
		t.Errorf("%d clients are connected after it, want the target of 50", now)
	}
	m.wantClosed(idle[:closed]) // the longest idle
	m.wantConnected(idle[closed:])
	m.wantConnected(append(values(kinds), active))
	if n := m.number("replication", "connected_slaves"); n != 2 || !x.linkUp() {
		t.Errorf("%d of 2 replicas are left, the link of one is up: %t", n, x.linkUp())
	}
	x.linkStands(t, m)
	checkKillRecord(t, m, rec, closed)
	r.waitLine("result: succeeded: kill-idle-clients", fmt.Sprint(closed, " idle clients closed"))
	check()
	r.sent(prod1, 1)
	r.whole()
}

// silent waits until a client with this flag looks idle.
func (s *server) silent(t *testing.T, flag string) {
	t.Helper()
	eventually(t, "the link looks idle", func() bool {
		for _, c := range s.listed() {
			if strings.Contains(c.Flags, flag) && time.Duration(c.Idle)*time.Second > killIdleFor {
				return true
			}
		}
		return false
	})
}

// linkStands checks that the replica's link was never broken.
func (s *server) linkStands(t *testing.T, m *server) {
	t.Helper()
	if n := m.number("stats", "sync_partial_ok") + m.number("stats", "sync_full"); n > 0 {
		t.Errorf("the replica came back %d times since the counters were reset", n)
	}
}

func checkKillRecord(t *testing.T, m *server, rec policies.Record, closed int) {
	t.Helper()
	if rec.Action != policies.KillIdleClients || rec.Mode != policies.Live || rec.Effect["solved"] != true || rec.Effect["stop"] != "target" || rec.Effect["maxclients"] != 100.0 ||
		rec.Effect["predicted"] != float64(closed) || rec.Expect.Clients != policies.Known(int64(closed)) || rec.Effect["connected_after"].(float64) >= rec.Effect["connected_before"].(float64) {
		t.Errorf("record %+v, %d were closed", rec, closed)
	}
	if fmt.Sprint(rec.Planned) != "[[CLIENT KILL ID id]]" || len(rec.Commands) != killsEach+1 || rec.Commands[killsEach].Count != int64(closed-killsEach) {
		t.Fatalf("planned %v, %d commands, the last %+v: want 20 and a sum", rec.Planned, len(rec.Commands), rec.Commands[len(rec.Commands)-1])
	}
	for i, c := range rec.Commands[:killsEach] {
		shown := rec.Effect["clients"].([]any)[i].(map[string]any)
		if want := fmt.Sprintf("[CLIENT KILL ID %v]", shown["id"]); fmt.Sprint(c.Args) != want || c.Reply != "1" || c.Node != "master-"+prod1 {
			t.Errorf("command %d is %+v, want %s", i, c, want)
		}
	}
	spared := rec.Effect["spared"].(map[string]any)
	want := map[string]float64{"pubsub": 2, "transaction": 2, "blocked": 1, "replication": 1, "sentinel": 1, "output-waiting": 1, "input-waiting": 1,
		"protect worker-*": 1, "protect 127.0.0.2": 1, "protect batch": 1}
	if m.newer(7, 0) {
		want["pubsub"], want["no-evict"], want["tracking"] = 3, 1, 3
	}
	for reason, n := range want {
		if spared[reason] != n {
			t.Errorf("spared %v, want %v of %s", spared, n, reason)
		}
	}
	for text := range map[string]bool{"web-1": true, "worker-7": true, "secret": true} {
		if strings.Contains(fmt.Sprint(rec), text) {
			t.Errorf("the record holds %q", text)
		}
	}
}

func TestIdleClientsOfAReplicaAreClosedAndItsMasterIsNot(t *testing.T) {
	t.Parallel()
	m, x := startServer(t, "--repl-ping-replica-period", "3600"), crowded(t)
	x.follow(m)
	idle := visitors(t, x, 90)
	x.idle(idle)
	x.silent(t, "M")
	r := newRig(t, crowdedFleet(killLive, nil, m, x), "").start()
	check := untouched(t, m)
	x.do("CONFIG", "RESETSTAT")
	r.alarm(prod1, clients)
	rec := r.record(prod1, clients, policies.OutcomeSucceeded)
	if rec.Node != replica1 || !x.linkUp() || rec.Effect["spared"].(map[string]any)["replication"] != 1.0 {
		t.Errorf("record of %s, link up %t, effect %v", rec.Node, x.linkUp(), rec.Effect)
	}
	x.linkStands(t, m)
	check()
	x.wantWrites(map[string]int{"client|kill": int(rec.Effect["closed"].(float64))})
	r.whole()
}

func TestClosingIdleClientsInDryRunIsOnlyPlanned(t *testing.T) {
	t.Parallel()
	s := crowded(t)
	idle := visitors(t, s, 90)
	s.idle(idle)
	r := newRig(t, crowdedFleet(dry, nil, s), "").start()
	check := untouched(t, s)
	r.alarm(prod1, clients)
	rec := r.record(prod1, clients, policies.OutcomePlanned)
	i := slices.IndexFunc(rec.Guards, func(g policies.Ruling) bool { return g.Guard == policies.GuardVictims })
	if n := rec.Expect.Clients; !slices.Equal(rec.DeniedBy, []policies.Guard{policies.GuardMode}) || n.V < 40 || n.V > 44 ||
		!strings.Contains(rec.Guards[i].Reason, fmt.Sprint(n.V, " would be closed now")) || !strings.Contains(rec.Guards[i].Reason, "90 of ") {
		t.Errorf("record %+v, want a plan to close about 42 of 90 that the dry run alone stops", rec)
	}
	rounds(t, s, 2)
	s.wantConnected(idle)
	r.only(prod1, 1)
	check()
	r.whole()
}

func TestWithoutOptInNoClientIsEverPlannedToBeClosed(t *testing.T) {
	t.Parallel()
	s := crowded(t)
	idle := visitors(t, s, 90)
	s.idle(idle)
	c := crowdedFleet(killLive, nil, s)
	c.Instances[0].Ladder = []policies.Action{policies.PurgeMemory, policies.EvictNearExpiry}
	r := newRig(t, c, "").start()
	check := untouched(t, s)
	r.alarm(prod1, clients)
	eventually(t, "the incident is open", func() bool { return r.h.machine(prod1).open() == 1 })
	rounds(t, s, 2)
	for _, rec := range r.records(prod1) {
		if rec.Action != "" || len(rec.Planned) > 0 {
			t.Errorf("record %+v, want none planned", rec)
		}
	}
	s.wantConnected(idle)
	check()
	r.whole()
}

func TestWithNobodyToCloseAPersonIsNeeded(t *testing.T) {
	t.Parallel()
	s := crowded(t)
	guests := visitors(t, s, 90)
	for i, g := range guests {
		g.ask(fmt.Sprint("CLIENT SETNAME worker-", i))
	}
	s.idle(guests)
	r := newRig(t, crowdedFleet(killLive, func(k *policies.Kill) { k.Protect = []string{"worker-*"} }, s), "").start()
	check := untouched(t, s)
	r.alarm(prod1, clients)
	rec := r.refuses(prod1, clients, policies.Cause(clients), policies.GuardVictims)
	if !slices.Equal(steady(rec.DeniedBy), []policies.Guard{policies.GuardVictims}) || !strings.Contains(fmt.Sprint(rec.Guards), "90 protect worker-*") {
		t.Errorf("denied by %v: %+v", rec.DeniedBy, rec.Guards)
	}
	rounds(t, s, 2)
	r.only(prod1, 1)
	s.wantConnected(guests)
	check()
	r.whole()
}

func TestNoMoreAreClosedThanAtATime(t *testing.T) {
	t.Parallel()
	s := crowded(t)
	idle := visitors(t, s, 90)
	s.idle(idle)
	const most = killsPerList + 5
	c := crowdedFleet(killLive, func(k *policies.Kill) { k.MaxClients = most }, s)
	adjust(&c, func(p *policies.Policy) { p.Clients.Clear = 15 }) // so many do not solve it
	r := newRig(t, c, "").start()
	s.do("CONFIG", "RESETSTAT")
	r.alarm(prod1, clients)
	rec := r.record(prod1, clients, policies.OutcomeIneffective)
	if rec.Effect["closed"] != float64(most) || rec.Effect["stop"] != "max-clients" || len(rec.Commands) != killsEach+1 {
		t.Errorf("effect %v, %d commands", rec.Effect, len(rec.Commands))
	}
	s.wantClosed(idle[:most])
	s.wantConnected(idle[most:])
	next := r.record(prod1, clients, policies.OutcomeDenied)
	if !slices.Contains(next.DeniedBy, policies.GuardCooldown) {
		t.Errorf("denied by %v after it, want cooldown", next.DeniedBy)
	}
	s.wantWrites(map[string]int{"client|kill": most})
	r.whole()
}

// at runs f at the nth time that an action comes to a point.
func (r *rig) at(point string, nth int, f func()) {
	n := 0
	r.h.step = func(p string) {
		if p == point {
			if n++; n == nth {
				f()
			}
		}
	}
}

func TestAClientThatBecameActiveIsLeft(t *testing.T) {
	t.Parallel()
	s := crowded(t)
	idle := visitors(t, s, 90)
	s.idle(idle)
	r := newRig(t, crowdedFleet(killLive, nil, s), "")
	r.at("listed", 1, func() {
		for _, g := range idle[3:] {
			g.ask("PING")
		}
	})
	r.start()
	s.do("CONFIG", "RESETSTAT")
	r.alarm(prod1, clients)
	rec := r.record(prod1, clients, policies.OutcomeIneffective)
	if rec.Effect["closed"] != 3.0 || rec.Effect["stop"] != "none-left" {
		t.Errorf("effect %v, want the three that stayed idle closed", rec.Effect)
	}
	s.wantClosed(idle[:3])
	s.wantConnected(idle[3:])
	s.wantWrites(map[string]int{"client|kill": 3})
	r.whole()
}

func TestAPauseStopsTheClosingOfClients(t *testing.T) {
	t.Parallel()
	s := crowded(t)
	idle := visitors(t, s, 97)
	s.idle(idle)
	r := newRig(t, crowdedFleet(killLive, nil, s), "")
	r.at("listed", 2, func() {
		if err := r.j.SetPause(context.Background(), journal.Pause{Instance: prod1, Reason: "a look at it first", By: "tester"}); err != nil {
			t.Error(err)
		}
	})
	r.start()
	s.do("CONFIG", "RESETSTAT")
	r.alarm(prod1, clients)
	rec := r.record(prod1, clients, policies.OutcomeDenied)
	n := s.writes()["client|kill"]
	if !slices.Equal(rec.DeniedBy, []policies.Guard{policies.GuardPause}) || n > killsPerList || n == 0 || rec.Effect["closed"] != float64(n) || !strings.Contains(rec.Error, "a look at it first") {
		t.Errorf("record %+v, %d were closed", rec, n)
	}
	r.waitState(prod1, policies.StateHeld)
	rounds(t, s, 2)
	s.wantWrites(map[string]int{"client|kill": n})
	r.whole()
}

func TestAStopDuringTheClosingOfClientsIsInterrupted(t *testing.T) {
	t.Parallel()
	s := crowded(t)
	idle := visitors(t, s, 97)
	s.idle(idle)
	r := newRig(t, crowdedFleet(killLive, func(k *policies.Kill) { k.Target = 10 }, s), "")
	ctx, cancel := context.WithCancel(context.Background())
	r.at("listed", 2, cancel)
	done := make(chan error, 1)
	go func() { done <- r.h.Run(ctx) }()
	r.stop = sync.OnceValue(func() error { cancel(); return <-done })
	eventually(t, "the Healer is up", func() bool { up, _ := r.j.Statuses(context.Background()); return len(up) == 1 })
	s.do("CONFIG", "RESETSTAT")
	r.alarm(prod1, clients)
	rec := r.record(prod1, clients, policies.OutcomeInterrupted)
	if n := s.writes()["client|kill"]; n == 0 || n > killsPerList || rec.Effect["closed"] != float64(n) || rec.Effect["stop"] != "cancelled" || len(rec.Commands) != n {
		t.Errorf("record %+v, the server counted %d", rec, n)
	}
	r.whole()
}

// Where every connection is taken none is left for the repair: it is held, and goes on as soon as one is free.
func TestWithoutAConnectionLeftTheClosingWaits(t *testing.T) {
	t.Parallel()
	s := crowded(t)
	r := newRig(t, crowdedFleet(killLive, nil, s), "").start()
	r.observe() // the probe holds its connection from now on
	idle := visitors(t, s, 100-int(s.number("clients", "connected_clients")))
	s.idle(idle)
	s.do("CONFIG", "RESETSTAT")
	r.alarm(prod1, clients)
	rec := r.record(prod1, clients, policies.OutcomeDenied)
	if !slices.Equal(steady(rec.DeniedBy), []policies.Guard{policies.GuardVictims}) || !strings.Contains(fmt.Sprint(rec.Guards), "every connection of") {
		t.Errorf("denied by %v: %+v", rec.DeniedBy, rec.Guards)
	}
	r.waitState(prod1, policies.StateHeld)
	s.wantWrites(map[string]int{})
	for _, g := range idle[:2] {
		_ = g.c.Close()
	}
	r.record(prod1, clients, policies.OutcomeSucceeded)
	r.whole()
}

func TestAUserWithoutTheRightToCloseClientsIsUnsupported(t *testing.T) {
	t.Parallel()
	s := crowded(t)
	s.do("ACL", "SETUSER", "healer", "on", ">secret", "+@all", "-client|kill", "~*")
	idle := visitors(t, s, 90)
	s.idle(idle)
	c := crowdedFleet(killLive, nil, s)
	c.Instances[0].Username, c.Instances[0].Password = "healer", "secret"
	r := newRig(t, c, "").start()
	r.alarm(prod1, clients)
	rec := r.record(prod1, clients, policies.OutcomeUnsupported)
	if !strings.Contains(rec.Error, "+client|kill") || !strings.Contains(rec.Error, "NOPERM") {
		t.Errorf("error %q", rec.Error)
	}
	s.wantConnected(idle)
	r.whole()
}

func TestTheConnectionOfAPlanOnlyReads(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	i := instance(prod1, dry, s)
	c, err := open(i, i.Master(), probe.NewPassword("", ""), []string{"client", "memory"}, &recorder{each: func(policies.CommandRecord) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.readOnly()
	check := untouched(t, s)
	if id, err := c.ClientID(context.Background()); err != nil || id == 0 {
		t.Errorf("CLIENT ID: %d, %v", id, err)
	}
	if all, err := c.ClientList(context.Background()); err != nil || len(all) == 0 {
		t.Errorf("CLIENT LIST: %v, %v", all, err)
	}
	for what, send := range map[string]func() error{
		"CLIENT KILL ID":   func() error { _, err := c.KillClient(context.Background(), 1); return err },
		"CLIENT KILL TYPE": func() error { _, err := c.KillMasterLink(context.Background()); return err },
		"MEMORY PURGE":     func() error { return c.Purge(context.Background()) },
	} {
		if err := send(); !errors.Is(err, probe.ErrNotReadOnly) {
			t.Errorf("%s: %v, want it refused", what, err)
		}
	}
	check()
}
