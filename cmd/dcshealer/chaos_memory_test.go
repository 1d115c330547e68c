package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
	"dcshealer/remediation/reclaim"
)

// The ways in which memory and connections can be full. The backlog is that of Redis on Valkey, too.
var chaosMemoryScenarios = []chaosScenario{
	{name: "full of what no sweep frees", args: chaosSmallBacklog, config: "policy: memory", policy: fmt.Sprintf(chaosMemoryPolicy, "0"), run: chaosFullOfElse},
	{name: "full, step by step", alone: true, args: chaosHoarder, config: "policy: memory", policy: fmt.Sprintf(chaosMemoryPolicy, "3") + chaosLadderPolicy,
		ladder: "evict-near-expiry, kill-idle-clients, purge-memory", run: chaosLadder},
	{name: "full of expired keys", args: chaosSmallBacklog, config: "policy: memory", policy: fmt.Sprintf(chaosMemoryPolicy, "0"), run: chaosFullOfExpired},
}

var (
	chaosSmallBacklog = map[string][]string{chaosMaster: {"--repl-backlog-size", "1mb"}}
	chaosHoarder      = map[string][]string{chaosMaster: {"--jemalloc-bg-thread", "no", "--maxclients", "65"}} // gives nothing back by itself, once it is told so
)

// chaosMemoryPolicy sweeps at the default pace and does not stop half way.
const chaosMemoryPolicy = `memory:
  thresholds:
    slowlog: {warning: 1000000}
    used_memory: {for: 1}
    connected_clients: {warning: 70%%, critical: 80%%}
    fragmentation: {critical: %s, least_mb: 16}
  remediation:
    reclaim-expired: {target: 5%%, cooldown: 1s}
`

// chaosLadderPolicy is what its further steps may do.
const chaosLadderPolicy = `    evict-near-expiry: {allow: ["cache:*"], protect: ["*:keep:*"], max_keys: 90}
    kill-idle-clients: {idle: 3s, target: 50%, max_clients: 30, protect: ["worker-*"]}
`

// unlogged fills the servers beside the slow log, which would keep the start of each value, those of a script too, and pass for data.
func (f *chaosFleet) unlogged(t *testing.T, fill func()) {
	t.Helper()
	log := func(from int) {
		for _, n := range f.watched() {
			n.do(t, "CONFIG", "SET", "slowlog-log-slower-than", from)
		}
	}
	log(-1)
	fill()
	if !f.scenario.alone {
		f.awaitInStep(t)
	}
	log(0)
}

// unlog switches its slow log off: looking at thousands of keys would fill it, and pass for data at the next look.
func (n *chaosNode) unlog(t *testing.T) {
	t.Helper()
	n.do(t, "CONFIG", "SET", "slowlog-log-slower-than", -1)
	n.unlogged = true
}

// limit makes what the master holds now so many percent of its maxmemory.
func (f *chaosFleet) limit(t *testing.T, percent int64) {
	t.Helper()
	f.nodes[chaosMaster].do(t, "CONFIG", "SET", "maxmemory", strconv.FormatInt(f.counted(t)*100/percent, 10))
}

// counted is what the master compares with maxmemory.
func (f *chaosFleet) counted(t *testing.T) int64 {
	t.Helper()
	return f.counter(t, "used_memory") - f.counter(t, "mem_not_counted_for_evict")
}

// overfull makes it refuse writes.
func (f *chaosFleet) overfull(t *testing.T, percent int64) {
	t.Helper()
	f.limit(t, percent)
	if err := f.nodes[chaosMaster].db.Set(t.Context(), "refused", "x", 0).Err(); err == nil || !strings.HasPrefix(err.Error(), "OOM") {
		t.Fatalf("SET on a full master: %v, want OOM", err)
	}
}

// setting is a node's CONFIG GET.
func (n *chaosNode) setting(t *testing.T, name string) string {
	t.Helper()
	v, err := n.db.ConfigGet(t.Context(), name).Result()
	if err != nil {
		t.Fatalf("CONFIG GET %s on %s: %v", name, n.name, err)
	}
	return v[name]
}

// put writes n keys PREFIX:1, PREFIX:2, ... of size bytes that expire in ms; 0: never.
func (n *chaosNode) put(t *testing.T, prefix string, keys, size, ms int) {
	t.Helper()
	n.do(t, "EVAL", `local v = string.rep('x', tonumber(ARGV[3]))
for i = 1, tonumber(ARGV[2]) do
  if ARGV[4] == '0' then redis.call('SET', ARGV[1] .. ':' .. i, v) else redis.call('SET', ARGV[1] .. ':' .. i, v, 'PX', ARGV[4]) end
end
return 1`, 0, prefix, keys, size, ms)
}

// left is how many of the keys PREFIX:1, PREFIX:2, ... there are, by KEYS, which deletes none.
func (n *chaosNode) left(t *testing.T, prefix string) int {
	t.Helper()
	all, err := n.db.Keys(t.Context(), prefix+":*").Result()
	if err != nil {
		t.Fatalf("KEYS of %s: %v", n.name, err)
	}
	return len(all)
}

// near fails where got is further than the share from want.
func chaosNear(t *testing.T, what string, got, want, share float64) {
	t.Helper()
	if math.Abs(got-want) > share*want {
		t.Errorf("%s: %.0f, want %.0f within %.0f %%", what, got, want, share*100)
	}
}

const (
	chaosExpired  = 20_000
	chaosVolatile = 6_000
	chaosLazy     = "lazyfree-lazy-expire"
)

// A replica tells what a sweep would bring, and the sweep brings it. In dry run nobody but the test sweeps.
func chaosFullOfExpired(t *testing.T, f *chaosFleet) {
	m := f.nodes[chaosMaster]
	f.counts = map[string]bool{chaosReplica: true, chaosOther: true}
	m.do(t, "DEBUG", "SET-ACTIVE-EXPIRE", "0")
	f.unlogged(t, func() {
		m.put(t, "stale", chaosExpired, 400, 1)
		m.put(t, "session", chaosVolatile, 400, 3_600_000)
	})
	for _, name := range []string{chaosReplica, chaosOther} {
		f.nodes[name].unlog(t)
		redistest.Accounted(t, func() string { return f.nodes[name].db.Info(t.Context(), "server").Val() })
	}
	lazy := m.setting(t, chaosLazy)
	f.overfull(t, 101)
	if f.live {
		f.sweptLive(t, lazy)
	} else {
		f.sweptDry(t)
	}
	if got := m.setting(t, chaosLazy); got != lazy {
		t.Errorf("%s is %s, it was %s", chaosLazy, got, lazy)
	}
	if a, b := m.left(t, "session"), m.left(t, "key"); a != chaosVolatile || b != 250 {
		t.Errorf("%d keys with a TTL and %d without are left, want %d and 250", a, b, chaosVolatile)
	}
}

func (f *chaosFleet) sweptLive(t *testing.T, lazy string) {
	t.Helper()
	m := f.nodes[chaosMaster]
	r := f.op.awaitRecord(t, "the sweep", func(r policies.Record) bool {
		return r.Action == policies.ReclaimExpired && r.Outcome == policies.OutcomeSucceeded
	})
	m.do(t, "SET", "accepted", "x")
	sweeps, keys, bytes := f.sweeps(t)
	f.estimated(t, sweeps[0], bytes)
	if n := f.counter(t, "expired_keys"); n != chaosExpired || keys != float64(n) || r.Effect["solved"] != true || r.Effect["writes_accepted"] != true {
		t.Errorf("%d keys have expired on the master, want %d; %.0f by %d sweeps, effect of the last: %v", n, chaosExpired, keys, len(sweeps), r.Effect)
	}
	f.wrote[chaosMaster] = f.writes(t, m)
	want := []string{"CONFIG SET " + chaosLazy + " yes", "SCAN n COUNT n", "CONFIG SET " + chaosLazy + " " + lazy}
	if lazy == "yes" {
		want = want[1:2]
	}
	plain := regexp.MustCompile(`^SCAN \d+ COUNT \d+$`)
	var sent []string
	for _, w := range f.wrote[chaosMaster] {
		sent = append(sent, plain.ReplaceAllString(strings.ReplaceAll(w, "config set", "CONFIG SET"), "SCAN n COUNT n"))
	}
	if sent = slices.Compact(sent); !slices.Equal(sent, slices.Compact(slices.Repeat(want, len(sweeps)))) {
		t.Errorf("%d sweeps sent %q, want %q each", len(sweeps), sent, want)
	}
}

// sweeps are those that ran, oldest first, and what they freed together: on a starved machine a slow call or a guard may
// end the first of them.
func (f *chaosFleet) sweeps(t *testing.T) (all []policies.Record, keys, bytes float64) {
	t.Helper()
	records, err := f.op.records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range slices.Backward(records) {
		if r.Action != policies.ReclaimExpired || r.Effect["keys"] == nil {
			continue
		}
		stop, _ := r.Effect["stop"].(string)
		if k, _ := r.Effect["keys"].(float64); r.Outcome == policies.OutcomeSucceeded ||
			slices.Contains([]reclaim.Stop{reclaim.StopSlowCall, reclaim.StopDenied, reclaim.StopBusy}, reclaim.Stop(stop)) {
			b, _ := r.Effect["bytes"].(float64)
			all, keys, bytes = append(all, r), keys+k, bytes+b
		} else {
			t.Errorf("a sweep ended as %s: %v", r.Outcome, r.Effect)
		}
	}
	return all, keys, bytes
}

func (f *chaosFleet) sweptDry(t *testing.T) {
	t.Helper()
	m, before := f.nodes[chaosMaster], f.standing(t)
	r := f.op.awaitRecord(t, "the plan of a sweep", func(r policies.Record) bool {
		return r.Action == policies.ReclaimExpired && r.Outcome == policies.OutcomePlanned
	})
	if !slices.Equal(r.DeniedBy, []policies.Guard{policies.GuardMode}) || len(r.Commands) > 0 {
		t.Errorf("the plan was denied by %v, commands %v", r.DeniedBy, r.Commands)
	}
	f.unchanged(t, before)
	if n := f.counter(t, "expired_keys"); n != 0 {
		t.Errorf("%d keys were deleted in dry run", n)
	}
	was := f.counted(t)
	m.sweep(t)
	if n := f.counter(t, "expired_keys"); n != chaosExpired {
		t.Fatalf("the test's own sweep deleted %d keys, want %d", n, chaosExpired)
	}
	f.estimated(t, r, float64(was-f.counted(t)))
}

// sweep is a person's: it waits until what it deleted is freed.
func (n *chaosNode) sweep(t *testing.T) {
	t.Helper()
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		var err error
		if _, cursor, err = n.db.Scan(t.Context(), cursor, "", 1000).Result(); err != nil {
			t.Fatalf("SCAN on %s: %v", n.name, err)
		}
	}
	chaosAwait(t, "the memory to come free", func(ctx context.Context) error {
		i, err := n.info(ctx)
		if err == nil && i["lazyfree_pending_objects"] != "0" {
			err = fmt.Errorf("%s values wait", i["lazyfree_pending_objects"])
		}
		return err
	})
}

// estimated checks what the plan expected against what came free.
func (f *chaosFleet) estimated(t *testing.T, r policies.Record, bytes float64) {
	t.Helper()
	e := r.Expect
	if r.Cause != policies.CauseExpiredKeys || e.Known == nil || !*e.Known || !strings.Contains(e.Method, "replica-") {
		t.Errorf("cause %s, expected %+v: want the account of a replica", r.Cause, e)
	}
	keys, size := 0.01, 0.1
	if strings.Contains(e.Method, "from the part") { // on a starved machine the count does not end in its time, and says so
		keys, size = 0.1, 0.2
	}
	chaosNear(t, "expired keys expected", float64(e.ExpiredKeys.V), chaosExpired, keys)
	chaosNear(t, "bytes expected", float64(e.Bytes.V), bytes, size)
	t.Logf("expected %d keys and %d bytes, %.0f came free (%.3f)", e.ExpiredKeys.V, e.Bytes.V, bytes, float64(e.Bytes.V)/bytes)
}

// Nothing of it is swept, although that is live; whoever does what the advice says has no alarm any more.
func chaosFullOfElse(t *testing.T, f *chaosFleet) {
	m := f.nodes[chaosMaster]
	f.counts = map[string]bool{chaosReplica: true, chaosOther: true}
	m.put(t, "session", 20, 100, 3_600_000)
	f.told(t, policies.CauseDataWithoutTTL, `(20250) keys without a TTL hold about .* or delete some`, func() {
		m.put(t, "plain", 20_000, 200, 0)
	}, func(string) { m.do(t, "EVAL", "for i = 1, 20000 do redis.call('DEL', 'plain:' .. i) end return 1", 0) })
	f.told(t, policies.CauseDataWithoutTTL, `271 keys of .* in the mean: .*(--bigkeys).* XTRIM`, func() {
		m.do(t, "EVAL", "local v = string.rep('x', 8000) for i = 1, 3000 do redis.call('XADD', 'stream', '*', 'f', v) end return 1", 0)
	}, func(string) { m.do(t, "XTRIM", "stream", "MAXLEN", 10) })
	f.told(t, policies.CauseClientBuffers, `CLIENT KILL ADDR (\S+) frees it, a smaller client-output-buffer-limit normal `, func() {
		m.deafReader(t, f)
	}, func(addr string) { m.do(t, "CLIENT", "KILL", "ADDR", addr) })
	f.told(t, policies.CauseReplicationBuffers, `CONFIG SET repl-backlog-size (\d+) clears the alarm at once`, func() {
		m.do(t, "CONFIG", "SET", "repl-backlog-size", 24<<20)
		f.awaitInStep(t) // 6.0 forgets the backlog that it had
		m.do(t, "EVAL", "local v = string.rep('x', 20000) for i = 1, 1500 do redis.call('SET', 'again', v) end return 1", 0)
	}, func(size string) { m.do(t, "CONFIG", "SET", "repl-backlog-size", size) })
}

// told fills the master and waits for the refusal to sweep it. Its advice has a group: what a person needs for the cure.
func (f *chaosFleet) told(t *testing.T, cause policies.Cause, advice string, fill func(), cure func(group string)) {
	t.Helper()
	known, err := f.op.records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.unlogged(t, fill)
	f.limit(t, 99)
	r := f.op.awaitRecord(t, fmt.Sprintf("a refusal for %s", cause), func(r policies.Record) bool {
		old := slices.ContainsFunc(known, func(o policies.Record) bool { return o.ID == r.ID })
		return !old && r.Metric == policies.MetricUsedMemory && r.Outcome == policies.OutcomeDenied
	})
	if r.Cause != cause || !slices.Contains(r.DeniedBy, policies.GuardWorthwhile) || len(r.Commands) > 0 {
		t.Errorf("cause %s, want %s; denied by %v, commands %v", r.Cause, cause, r.DeniedBy, r.Commands)
	}
	var report policies.MemoryReport
	if text, err := json.Marshal(r.Before["memory"]); err != nil || json.Unmarshal(text, &report) != nil {
		t.Fatalf("the record holds no report of the memory: %v, %v", err, r.Before)
	}
	found := regexp.MustCompile(advice).FindStringSubmatch(strings.Join(report.Advice, "\n"))
	if found == nil {
		t.Fatalf("advice for %s: %q, want %s; parts %+v", cause, report.Advice, advice, report.Parts)
	}
	cure(found[1])
	f.op.awaitState(t, policies.StateIdle)
	f.nodes[chaosMaster].do(t, "CONFIG", "SET", "maxmemory", 0)
}

// dial is a connection of a client's, through the published port.
func (n *chaosNode) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	addr, err := n.c.PortEndpoint(t.Context(), chaosPort, "")
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// deafReader asks for 100 MiB, in answers of a mebibyte, and reads none: what the engine's proxy does not take waits in the server.
func (n *chaosNode) deafReader(t *testing.T, f *chaosFleet) {
	t.Helper()
	n.do(t, "EVAL", "local v = string.rep('x', 10000) for i = 1, 100 do redis.call('RPUSH', 'list', v) end return 1", 0)
	c := n.dial(t)
	if err := c.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	was := f.counter(t, "used_memory")
	if _, err := c.Write([]byte(strings.Repeat("LRANGE list 0 -1\r\n", 100))); err != nil {
		t.Fatal(err)
	}
	var last, still int64
	chaosAwait(t, "the answers to wait", func(context.Context) error {
		now := f.counter(t, "used_memory")
		if still++; max(now, last)-min(now, last) > 256<<10 {
			last, still = now, 0
		}
		if now < was+24<<20 || still < 5 { // the proxy takes some on for a while
			return fmt.Errorf("%d bytes wait", now-was)
		}
		return nil
	})
}

// Each further step within its caps: keys near their expiry, idle clients, free pages.
func chaosLadder(t *testing.T, f *chaosFleet) {
	f.evicts(t)
	f.nodes[chaosMaster].do(t, "CONFIG", "SET", "maxmemory", 0)
	f.closes(t) // while the operator still watches the repair: another fault never waits for that
	f.purges(t)
}

// step waits for the record of a step, and in dry run for the plan of it.
func (f *chaosFleet) step(t *testing.T, a policies.Action) policies.Record {
	t.Helper()
	want := policies.OutcomePlanned
	if f.live {
		want = policies.OutcomeSucceeded
	}
	r := f.op.awaitRecord(t, fmt.Sprintf("%s, %s", a, want), func(r policies.Record) bool { return r.Action == a && r.Outcome == want })
	if f.live == (len(r.Commands) == 0) || !f.live && !slices.Equal(r.DeniedBy, []policies.Guard{policies.GuardMode}) || f.live && r.Effect["solved"] != true {
		t.Errorf("%s: denied by %v, commands %+v, effect %v", a, r.DeniedBy, r.Commands, r.Effect)
	}
	return r
}

// sent are the operator's writes since the last call; they are as they should be where each is one of these.
func (f *chaosFleet) sent(t *testing.T, commands ...string) (n int) {
	t.Helper()
	all := f.writes(t, f.nodes[chaosMaster])
	for _, w := range all[len(f.wrote[chaosMaster]):] {
		n++
		if !f.live || !slices.ContainsFunc(commands, func(c string) bool { return strings.HasPrefix(strings.ToUpper(w)+" ", c+" ") }) {
			t.Errorf("the operator sent %.80q, want %v alone", w, commands)
		}
	}
	f.wrote[chaosMaster] = all
	return n
}

func (f *chaosFleet) evicts(t *testing.T) {
	t.Helper()
	m := f.nodes[chaosMaster]
	f.unlogged(t, func() {
		m.put(t, "plain", 12_000, 40, 0)
		m.put(t, "cache:hit", 120, 30_000, 120_000)
		m.put(t, "cache:far", 10, 1000, 3_600_000)
		m.put(t, "cache:keep", 10, 1000, 120_000)
		m.put(t, "other", 10, 1000, 120_000)
	})
	f.overfull(t, 103)
	r := f.step(t, policies.EvictNearExpiry)
	gone := 120 - m.left(t, "cache:hit")
	if f.live != (gone > 0) || gone > 90 || f.live && r.Effect["keys"] != float64(gone) {
		t.Errorf("%d keys are gone, 90 at most may go; effect %v", gone, r.Effect)
	}
	for prefix, want := range map[string]int{"plain": 12_000, "cache:far": 10, "cache:keep": 10, "other": 10, "key": 250} {
		if n := m.left(t, prefix); n != want {
			t.Errorf("%d keys %s are left, want all %d", n, prefix, want)
		}
	}
	if f.live {
		m.do(t, "SET", "accepted", "x")
	}
	f.sent(t, "SCAN", "PTTL", "EVAL", "UNLINK")
}

// guests are idle clients; those with a name have it on the server.
func (n *chaosNode) guests(t *testing.T, many int, name string) (out []*net.TCPConn) {
	t.Helper()
	for range many {
		c := n.dial(t)
		command := "PING\r\n"
		if name != "" {
			command = "CLIENT SETNAME " + name + "\r\n"
		}
		_, err := c.Write([]byte(command))
		_, rerr := c.Read(make([]byte, 64))
		if err := errors.Join(err, rerr, c.SetReadDeadline(time.Now().Add(chaosLimit))); err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func (f *chaosFleet) closes(t *testing.T) {
	t.Helper()
	m := f.nodes[chaosMaster]
	idle, workers := m.guests(t, 40, ""), m.guests(t, 4, "worker-1")
	chaosAwait(t, "the clients to look idle", func(ctx context.Context) error {
		text, err := m.db.ClientList(ctx).Result()
		active := 0
		for _, c := range policies.ParseClients(text) {
			if (c.Name == "" || c.Name == "worker-1") && c.Idle <= 4 {
				active++
			}
		}
		if err == nil && active > 6 { // the test's own, the health check's and the operator's
			err = fmt.Errorf("%d do not", active)
		}
		return err
	})
	busy := m.guests(t, 8, "") // too many with them
	r := f.step(t, policies.KillIdleClients)
	text, err := m.db.ClientList(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(text, "name=worker-1 "); n != len(workers) {
		t.Errorf("%d of %d protected clients are left", n, len(workers))
	}
	closed := 0
	if f.live {
		closed = int(r.Effect["closed"].(float64))
	}
	if sent := f.sent(t, "CLIENT KILL ID"); sent != closed || closed > 30 || f.live && closed < 10 {
		t.Errorf("%d clients were closed by %d commands, at most 30 may be", closed, sent)
	}
	for _, c := range idle[:closed] { // the longest idle
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an idle client: %v, want its connection closed", err)
		}
	}
	for _, c := range slices.Concat(idle, busy) {
		_ = c.Close()
	}
}

// purges fills 40 MB and deletes it again.
func (f *chaosFleet) purges(t *testing.T) {
	t.Helper()
	m := f.nodes[chaosMaster]
	m.do(t, "DEBUG", "MALLCTL", "arena.0.dirty_decay_ms", "-1")
	f.unlogged(t, func() {
		m.put(t, "bloat", 40_000, 1000, 0)
		m.do(t, "EVAL", "for i = 1, 40000 do redis.call('DEL', 'bloat:' .. i) end for i = 1, 120 do redis.call('DEL', 'cache:hit:' .. i) end return 1", 0)
	})
	r := f.step(t, policies.PurgeMemory)
	if n := f.sent(t, "MEMORY PURGE"); f.live != (n == 1) || n > 1 {
		t.Errorf("MEMORY PURGE was sent %d times", n)
	}
	if bytes, _ := r.Effect["bytes"].(float64); f.live && bytes < 16<<20 {
		t.Errorf("effect %v, want 16 MiB and more", r.Effect)
	}
}
