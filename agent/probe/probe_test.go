package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

func TestProbeOfAMasterAndItsReplica(t *testing.T) {
	m := startServer(t, "--maxmemory", "64mb", "--maxclients", "77")
	x := replicaOf(t, m)
	s := m.prober().Probe(t.Context())
	if s.Reach != policies.ReachUp || s.Err != "" || s.RTT <= 0 || s.Took < s.RTT || s.Replication.Role != policies.RoleMaster {
		t.Errorf("master: reach %s (%s), rtt %v, took %v, role %q", s.Reach, s.Err, s.RTT, s.Took, s.Replication.Role)
	}
	if s.Clients.Max != policies.Known[int64](77) || s.MasterAuthSet != policies.Known(false) || s.ConfigDenied || !s.Slowlog.Known || s.Slowlog.Newest != -1 || !s.Slowlog.LimitKnown {
		t.Errorf("settings: %+v %+v", s.Clients, s.Slowlog)
	}
	if s.SentinelSeen.Known || s.AuthRequired.Known || s.CommandsKnown {
		t.Error("a plain probe tells what only a deep one reads")
	}
	if !slices.Equal(s.OwnIPs, []string{"127.0.0.1"}) {
		t.Errorf("own IPs: %v", s.OwnIPs)
	}
	r := x.prober().Probe(t.Context())
	if r.Replication.Role != policies.RoleReplica || r.Replication.LinkState != "connected" || !slices.Equal(r.MasterIPs, []string{"127.0.0.1"}) {
		t.Errorf("replica: %+v, master IPs %v", r.Replication, r.MasterIPs)
	}
	if r.Replication.ReplID != s.Replication.ReplID || r.RunID == s.RunID {
		t.Error("the two share a run id, or not their history")
	}
}

func TestProbeDeep(t *testing.T) {
	s := startServer(t, "--rename-command", "REPLICAOF", "", "--masterauth", "s3cret-master", "--masteruser", "repl")
	sentinel := redis.NewClient(&redis.Options{Addr: s.addr.String(), ClientName: "sentinel-0123abcd-cmd", Protocol: 2, DisableIdentity: true})
	defer sentinel.Close()
	s.do(sentinel, "ping")
	got := s.prober().ProbeDeep(t.Context())
	if got.Reach != policies.ReachUp || got.SentinelSeen != policies.Known(true) || !got.ClientOutput.Known {
		t.Errorf("reach %s (%s), sentinel %v, output %v", got.Reach, got.Err, got.SentinelSeen, got.ClientOutput)
	}
	if !got.CommandsKnown || !slices.Equal(got.Renamed, []string{"replicaof"}) {
		t.Errorf("renamed: %v", got.Renamed)
	}
	if got.AuthRequired != policies.Known(false) || got.MasterAuthSet != policies.Known(true) || got.MasterUser != policies.Known("repl") {
		t.Errorf("auth required %v, masterauth %v, masteruser %v", got.AuthRequired, got.MasterAuthSet, got.MasterUser)
	}
	limit := policies.BufferLimit{Hard: 256 << 20, Soft: 64 << 20, SoftSeconds: 60}
	if got.Priority != policies.Known[int64](100) || got.ReplicaBuffer != policies.Known(limit) || !got.TLSPort.Known || got.TLSReplication != policies.Known(false) {
		t.Errorf("priority %v, replica buffer %v, tls-port %v, tls-replication %v", got.Priority, got.ReplicaBuffer, got.TLSPort, got.TLSReplication)
	}
	if text := fmt.Sprintf("%+v", got); strings.Contains(text, "s3cret") {
		t.Error("the snapshot holds masterauth")
	}
}

func TestProbeWithPassword(t *testing.T) {
	s := startServer(t, "--requirepass", "right")
	with := func(user string, password policies.Secret) policies.Snapshot {
		p := s.prober(func(o *Options) { o.Username, o.Password = user, password })
		return p.ProbeDeep(t.Context())
	}
	if got := with("", "right"); got.Reach != policies.ReachUp || got.AuthRequired != policies.Known(true) {
		t.Errorf("right password: %s (%s), auth required %v", got.Reach, got.Err, got.AuthRequired)
	}
	if got := with("", ""); got.Reach != policies.ReachAuth || !strings.Contains(got.Err, "NOAUTH") {
		t.Errorf("no password: %s (%s)", got.Reach, got.Err)
	}
	got := with("", "wrong-s3cret")
	if got.Reach != policies.ReachAuth || !strings.Contains(got.Err, "WRONGPASS") || strings.Contains(got.Err, "s3cret") {
		t.Errorf("wrong password: %s (%s)", got.Reach, got.Err)
	}
	admin := s.admin()
	s.do(admin, "acl", "setuser", "narrow", "on", ">pw", "+ping", "+role")
	if got := with("narrow", "pw"); got.Reach != policies.ReachAuth || !strings.Contains(got.Err, "NOPERM") {
		t.Errorf("no right to INFO: %s (%s)", got.Reach, got.Err)
	}
	s.do(admin, "acl", "setuser", "watcher", "on", ">pw", "+info", "+role")
	got = with("watcher", "pw")
	if got.Reach != policies.ReachUp || !got.ConfigDenied || got.Slowlog.Known || got.MasterAuthSet.Known || got.CommandsKnown || got.SentinelSeen.Known {
		t.Errorf("INFO and ROLE alone: %s (%s), %+v", got.Reach, got.Err, got)
	}
}

// The connection of before is still there when the server takes no other; a new one is told why it is refused.
func TestProbeAtMaxClients(t *testing.T) {
	s := startServer(t, "--maxclients", "3")
	p := s.prober()
	if got := p.Probe(t.Context()); got.Reach != policies.ReachUp {
		t.Fatalf("%s (%s)", got.Reach, got.Err)
	}
	for range 2 {
		c, err := net.Dial("tcp", s.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	redistest.Eventually(t, "the third client is counted", func() bool {
		return p.Probe(t.Context()).Clients.Connected == policies.Known[int64](3)
	})
	for range 50 {
		if got := s.prober(func(o *Options) { o.Password = "any" }).Probe(t.Context()); got.Reach != policies.ReachMaxConns {
			t.Fatalf("a new connection: %s (%s), want %s", got.Reach, got.Err, policies.ReachMaxConns)
		}
	}
	if got := p.Probe(t.Context()); got.Reach != policies.ReachUp || got.Stats.RejectedConnections.V < 50 {
		t.Errorf("the one held open: %s (%s), rejected %v", got.Reach, got.Err, got.Stats.RejectedConnections)
	}
}

func TestProbeOfAGoneServer(t *testing.T) {
	s := startServer(t)
	p := s.prober()
	if got := p.Probe(t.Context()); got.Reach != policies.ReachUp {
		t.Fatalf("%s (%s)", got.Reach, got.Err)
	}
	s.Kill()
	for range 3 { // the error of an earlier try is not taken for a later one
		if got := p.Probe(t.Context()); got.Reach != policies.ReachRefused || got.Version != "" || got.Replication.Role != "" {
			t.Errorf("%s (%s), version %q", got.Reach, got.Err, got.Version)
		}
	}
	l, err := net.Listen("tcp", s.addr.String())
	if err != nil {
		t.Skip("the port was taken")
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	if got := p.Probe(t.Context()); got.Reach != policies.ReachReset {
		t.Errorf("closed at once: %s (%s)", got.Reach, got.Err)
	}
}

func TestProbeFindsARestartedServer(t *testing.T) {
	s := startServer(t)
	p := s.prober()
	before := p.Probe(t.Context())
	s.do(s.admin(), "client", "kill", "type", "normal", "skipme", "yes")
	if got := p.Probe(t.Context()); got.Reach != policies.ReachUp || got.RunID != before.RunID {
		t.Errorf("after its connection was killed: %s (%s)", got.Reach, got.Err)
	}
}

func TestProbeOfAStoppedProcess(t *testing.T) {
	s := startServer(t)
	p := s.prober(func(o *Options) { o.Timeout = 200 * time.Millisecond })
	if got := p.Probe(t.Context()); got.Reach != policies.ReachUp {
		t.Fatalf("%s (%s)", got.Reach, got.Err)
	}
	s.Hang()
	for range 2 { // over the connection at hand, then over a new one
		start := time.Now()
		got := p.Probe(t.Context())
		if took := time.Since(start); got.Reach != policies.ReachHung || took > time.Second {
			t.Errorf("%s (%s) after %v, want %s after 200ms", got.Reach, got.Err, took, policies.ReachHung)
		}
	}
	s.Resume()
	redistest.Eventually(t, "it is up again", func() bool { return p.Probe(t.Context()).Reach == policies.ReachUp })
}

// One Prober, many callers: they take turns, and one who stops waiting is told so.
func TestProbesTakeTurns(t *testing.T) {
	s := startServer(t)
	p := s.prober(func(o *Options) { o.Timeout = 300 * time.Millisecond })
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			got := p.run(t.Context(), i%2 == 0)
			if got.Reach != policies.ReachUp {
				t.Errorf("%s (%s)", got.Reach, got.Err)
			}
		})
	}
	wg.Wait()
	if n := s.do(s.admin(), "client", "list"); strings.Count(n.(string), "name="+clientName) != 1 {
		t.Errorf("connections of the prober: %v", n)
	}
	s.Hang()
	first := make(chan policies.Snapshot, 1)
	go func() { first <- p.Probe(t.Context()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	redistest.Eventually(t, "the first has its turn", func() bool { return len(p.turn) == 0 })
	if got := p.Probe(ctx); got.Reach.Answers() || !strings.Contains(got.Err, "waiting") {
		t.Errorf("the one who waits: %s (%s)", got.Reach, got.Err)
	}
	if got := <-first; got.Reach != policies.ReachHung {
		t.Errorf("the first: %s (%s)", got.Reach, got.Err)
	}
}

func TestProbeOfABusyServer(t *testing.T) {
	s := startServer(t, "--lua-time-limit", "50")
	p := s.prober()
	p.Probe(t.Context())
	admin := s.admin()
	done := make(chan error, 1)
	go func() { done <- admin.Eval(context.Background(), "while true do end", nil).Err() }()
	redistest.Eventually(t, "BUSY", func() bool { return p.Probe(t.Context()).Reach == policies.ReachBusy })
	s.do(s.admin(), "script", "kill")
	<-done
	if got := p.Probe(t.Context()); got.Reach != policies.ReachUp {
		t.Errorf("after the script: %s (%s)", got.Reach, got.Err)
	}
}

func TestProbeOfALoadingServer(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, "--dir", dir, "--enable-debug-command", "local")
	admin := s.admin()
	s.do(admin, "debug", "populate", 20000, "k", 100)
	s.do(admin, "save")
	s.Kill()
	s = startServer(t, "--dir", dir, "--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024")
	got := s.prober().ProbeDeep(t.Context())
	if got.Reach != policies.ReachLoading || got.Loading != policies.Known(true) || got.RunID == "" || got.Replication.Role != policies.RoleMaster {
		t.Errorf("%s (%s), loading %v, role %q", got.Reach, got.Err, got.Loading, got.Replication.Role)
	}
}

func TestProbeDuringClientPause(t *testing.T) {
	s := startServer(t)
	s.do(s.admin(), "client", "pause", 60000, "write")
	if got := s.prober().ProbeDeep(t.Context()); got.Reach != policies.ReachUp {
		t.Errorf("%s (%s)", got.Reach, got.Err)
	}
}

func TestProbeSlowlog(t *testing.T) {
	s := startServer(t, "--slowlog-log-slower-than", "0", "--slowlog-max-len", "10")
	admin := s.admin()
	p := s.prober()
	first := p.Probe(t.Context())
	for range 4 {
		s.do(admin, "set", "secret-key", "secret-value")
	}
	second := p.Probe(t.Context())
	if !second.Slowlog.Known || second.Slowlog.Newest <= first.Slowlog.Newest+4 || int64(len(second.Slowlog.Entries)) < second.Slowlog.Newest-first.Slowlog.Newest-2 {
		t.Errorf("from %d to %d with %d entries", first.Slowlog.Newest, second.Slowlog.Newest, len(second.Slowlog.Entries))
	}
	if e := second.Slowlog.Entries[0]; e.ID != second.Slowlog.Newest || time.Since(time.Unix(e.Unix, 0)).Abs() > time.Minute {
		t.Errorf("newest entry: %+v", e)
	}
	s.do(admin, "config", "set", "slowlog-log-slower-than", "-1")
	s.do(admin, "slowlog", "reset")
	if got := p.ProbeDeep(t.Context()); got.Slowlog.Newest != -1 || !got.Slowlog.Blind {
		t.Errorf("after RESET, log off: %+v", got.Slowlog)
	}
	s.do(admin, "config", "set", "slowlog-log-slower-than", "0")
	if got := p.ProbeDeep(t.Context()); got.Slowlog.Newest <= second.Slowlog.Newest || got.Slowlog.Blind {
		t.Errorf("ids go on after a RESET: %+v, before %d", got.Slowlog, second.Slowlog.Newest)
	}
}

// A probe leaves an expired key alone and sends nothing but what is listed.
func TestProbesSendOnlyWhatIsListed(t *testing.T) {
	s := startServer(t, "--enable-debug-command", "local", "--requirepass", "pw")
	admin := s.admin()
	s.do(admin, "debug", "set-active-expire", "0")
	s.do(admin, "set", "gone", "v", "px", "1")
	s.do(admin, "config", "resetstat")
	p := s.prober(func(o *Options) { o.Password = "pw" })
	for i := range 30 {
		if got := p.run(t.Context(), i%3 == 0); got.Reach != policies.ReachUp || got.Keys() != policies.Known[int64](1) {
			t.Fatalf("%s (%s), keys %v", got.Reach, got.Err, got.Keys())
		}
	}
	listed := []string{"info", "role", "slowlog|get", "config|get", "client|setname", "client|list", "command|info", "hello", "auth", "ping"}
	for _, name := range commandsOf(t, admin) {
		if name != "config|resetstat" && !slices.Contains(listed, name) {
			t.Errorf("the server has seen %s", name)
		}
	}
	if n := s.do(admin, "dbsize"); n != int64(1) {
		t.Errorf("expired key: %v left, want 1", n)
	}
}

func TestClosedProber(t *testing.T) {
	s := startServer(t)
	p := s.prober()
	p.Probe(t.Context())
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := p.Probe(t.Context()); got.Reach.Answers() || !strings.Contains(got.Err, "closed") {
		t.Errorf("%s (%s)", got.Reach, got.Err)
	}
	redistest.Eventually(t, "the connection is gone", func() bool {
		return !strings.Contains(s.do(s.admin(), "client", "list").(string), clientName)
	})
}

func TestProbeOfAHostThatDoesNotAnswer(t *testing.T) {
	p := New(Options{Node: policies.Node{Name: "n", Address: policies.Address{Host: "192.0.2.1", Port: 6379}}, Timeout: 100 * time.Millisecond,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
		}})
	defer p.Close()
	if got := p.Probe(t.Context()); got.Reach != policies.ReachNoRoute {
		t.Errorf("%s (%s)", got.Reach, got.Err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("over"))
	if got := p.Probe(ctx); got.Reach.Answers() {
		t.Errorf("cancelled: %s", got.Reach)
	}
}

func TestResolver(t *testing.T) {
	calls := 0
	answer := []string{"10.0.0.2", "::ffff:10.0.0.1"}
	r := newResolver()
	r.lookup = func(context.Context, string) ([]string, error) { calls++; return answer, nil }
	now := time.Now()
	want := []string{"10.0.0.1", "10.0.0.2", "::1"}
	for range 2 {
		if got := r.all(t.Context(), now, false, "redis.internal", "::1", "10.0.0.1"); !slices.Equal(got, want) || calls != 1 {
			t.Errorf("got %v in %d lookups, want %v in one", got, calls, want)
		}
	}
	answer = nil
	if got := r.all(t.Context(), now, true, "redis.internal"); got != nil || calls != 2 {
		t.Errorf("a fresh look: got %v in %d lookups", got, calls)
	}
	if r.all(t.Context(), now.Add(failedTTL), false, "redis.internal"); calls != 3 {
		t.Errorf("a failed lookup is not tried again: %d lookups", calls)
	}
}
