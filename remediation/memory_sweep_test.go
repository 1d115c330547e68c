package remediation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// fullOfOneValue is a full master whose memory is one sorted set of a million members that has expired.
func fullOfOneValue(t *testing.T) *server {
	t.Helper()
	s := startServer(t, "--slowlog-log-slower-than", "1000", "--slowlog-max-len", "10000")
	s.stale(2000, 0)
	s.do("EVAL", `for i = 1, 1000000, 500 do
  local a = {}
  for k = i, i + 499 do a[#a + 1] = k; a[#a + 1] = 'm' .. k end
  redis.call('ZADD', 'big', unpack(a))
end
redis.call('PEXPIRE', 'big', 1)`, 0)
	s.limit(100)
	return s
}

// longestScan is by the server's own slow log.
func (s *server) longestScan() (longest time.Duration) {
	s.t.Helper()
	all, _ := s.do("SLOWLOG", "GET", -1).([]any)
	for _, e := range all {
		if entry := e.([]any); strings.EqualFold(fmt.Sprint(entry[3].([]any)[0]), "scan") {
			longest = max(longest, time.Duration(entry[2].(int64))*time.Microsecond)
		}
	}
	return longest
}

// sweepOneValue sweeps it and returns the record and the longest SCAN.
func sweepOneValue(t *testing.T, acl bool, change func(*policies.Reclaim)) (policies.Record, time.Duration) {
	t.Helper()
	s := fullOfOneValue(t)
	in := instance(prod1, reclaimLive, s)
	if acl {
		s.do("ACL", "SETUSER", "healer", "on", ">secret", "~*", "+@all", "-config|set")
		in.Username, in.Password = "healer", "secret"
	}
	c := fleet(in)
	adjust(&c, func(p *policies.Policy) {
		p.Reclaim.AbortCall = 80 * time.Millisecond
		change(&p.Reclaim)
	})
	r := newRig(t, c, "").start()
	r.alarm(prod1, memory)
	rec := r.record(prod1, memory, policies.OutcomeSucceeded)
	if got := s.setting(lazyExpire); got != "no" {
		t.Errorf("%s is %s after the sweep, it was no", lazyExpire, got)
	}
	longest := s.longestScan()
	if said := rec.Effect["longest_call"].(float64); said > 2*longest.Seconds()+0.05 {
		t.Errorf("a longest call of %.3f s is on record, the server's own is %s", said, longest)
	}
	t.Logf("longest SCAN %s; %v, slowed %v: %v", longest, rec.Effect["stop"], rec.Effect["slowed"], rec.Effect["detail"])
	s.takesWrites()
	r.whole()
	return rec, longest
}

// A value of a million members is freed beside the commands of others where that may be set, and else holds the server up once: then
// on_slow_call decides.
func TestAnExpiredMillionHoldsTheServerUpOnlyWhereItCannotBeFreedLazily(t *testing.T) {
	t.Parallel()
	var lazy, stopped, slowed time.Duration
	t.Run("each", func(t *testing.T) {
		t.Run("lazily", func(t *testing.T) {
			t.Parallel()
			var rec policies.Record
			rec, lazy = sweepOneValue(t, false, func(p *policies.Reclaim) { p.OnSlowCall = policies.SlowCallSlows })
			if rec.Effect["stop"] == "slow-call" {
				t.Errorf("effect %v", rec.Effect)
			}
		})
		t.Run("forbidden, and stop", func(t *testing.T) {
			t.Parallel()
			var rec policies.Record
			rec, stopped = sweepOneValue(t, true, func(p *policies.Reclaim) {})
			if rec.Effect["stop"] != "slow-call" || !strings.Contains(fmt.Sprint(rec.Effect["detail"]), "abort_call is 80ms") || rec.Effect["longest_call"].(float64) < 0.08 {
				t.Errorf("effect %v, want the end by a slow call", rec.Effect)
			}
			if len(rec.Commands) == 0 || !strings.HasPrefix(rec.Commands[0].Reply, "NOPERM") {
				t.Errorf("commands %+v, want the refusal of CONFIG SET on record", rec.Commands)
			}
		})
		t.Run("not lazily, and slow", func(t *testing.T) {
			t.Parallel()
			var rec policies.Record
			rec, slowed = sweepOneValue(t, false, func(p *policies.Reclaim) { p.LazyFree, p.OnSlowCall = false, policies.SlowCallSlows })
			if how, _ := rec.Effect["slowed"].(map[string]any); how["a slow call"] != float64(1) || rec.Effect["stop"] == "slow-call" {
				t.Errorf("effect %v, want that it went on after one slow call", rec.Effect)
			}
		})
	})
	if least := min(stopped, slowed); lazy > least/4 || least < 80*time.Millisecond {
		t.Errorf("the longest SCAN took %s with lazy freeing, %s and %s without: want a fourth at the most", lazy, stopped, slowed)
	}
}

// stopped waits for the record of a sweep that ended so. On a busy machine guards may have denied others before it.
func (r *rig) stopped(how string) (rec policies.Record) {
	r.t.Helper()
	eventually(r.t, "a sweep that ended as "+how, func() bool {
		all := r.records(prod1)
		i := slices.IndexFunc(all, func(o policies.Record) bool { return o.Effect["stop"] == how })
		if i >= 0 {
			rec = all[i]
		}
		return i >= 0
	})
	return rec
}

func TestAFailoverStopsASweepAtOnce(t *testing.T) {
	t.Parallel()
	s, x := fullOfStale(t, 30_000), startServer(t)
	x.follow(s)
	r := sweepSlowly(t, s, fleet(instance(prod1, reclaimLive, s, x)), "")
	x.promote()
	var scans int
	pipe := s.c.Pipeline() // in one packet: what was sent before it, by the server's own count
	pipe.Do(context.Background(), "REPLICAOF", x.addr.Host, x.addr.Port)
	stats := pipe.Info(context.Background(), "commandstats")
	if _, err := pipe.Exec(context.Background()); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(stats.Val()) {
		_, _ = fmt.Sscanf(line, "cmdstat_scan:calls=%d,", &scans)
	}
	rec := r.stopped("changed")
	if rec.Outcome != policies.OutcomeDenied || !slices.Equal(rec.DeniedBy, []policies.Guard{policies.GuardIdentity}) || rec.Effect["solved"] != false || !strings.Contains(rec.Error, "became a replica of") {
		t.Errorf("effect %v, denied by %v, error %q: want the change of role", rec.Effect, rec.DeniedBy, rec.Error)
	}
	// Its replica counts the expired keys no more: it is none.
	if now := s.calls()["scan"]; scans < 20 || now > scans+1 {
		t.Errorf("%d SCANs after the failover, %d before: want the one on its way at the most", now-scans, scans)
	}
	eventually(t, "the setting is put back", func() bool { return s.setting(lazyExpire) == "no" })
	if debts, err := r.j.Debts(context.Background()); err != nil || len(debts) > 0 {
		t.Errorf("debts %+v, %v", debts, err)
	}
	r.noFailure(policies.ReclaimExpired)
	r.whole()
}

func TestASaveHoldsASweepUntilItsEnd(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.do("DEBUG", "SET-ACTIVE-EXPIRE", "0")
	s.fill(0, 6000, 1000, time.Millisecond)
	s.limit(100)
	c := fleet(instance(prod1, reclaimLive, s))
	adjust(&c, func(p *policies.Policy) { p.UsedMemory.Clear, p.Reclaim.Target = 35, 55 })
	r := sweepSlowly(t, s, c, "")
	eventually(t, "a part is swept", func() bool { return s.number("stats", "expired_keys") > 1200 })
	s.do("CONFIG", "SET", "rdb-key-save-delay", 500)
	s.do("BGSAVE")
	saving := func() bool { return s.number("persistence", "rdb_bgsave_in_progress") == 1 }
	if !saving() {
		t.Fatal("the save is over: nothing is tested")
	}
	busy := r.stopped("busy")
	n := s.calls()["scan"]
	if busy.Outcome != policies.OutcomeDenied || !slices.Equal(busy.DeniedBy, []policies.Guard{policies.GuardBusy}) || busy.Effect["solved"] != false {
		t.Errorf("effect %v, denied by %v: want the save", busy.Effect, busy.DeniedBy)
	}
	for saving() {
		if now := s.calls()["scan"]; now != n && saving() {
			t.Fatalf("%d SCANs while it saves", now-n)
		}
		time.Sleep(20 * time.Millisecond)
	}
	rec := r.record(prod1, memory, policies.OutcomeSucceeded)
	// From the beginning it would meet what the first sweep has emptied, a fifth and more, first.
	if keys, visited := rec.Effect["keys"].(float64), rec.Effect["visited"].(float64); keys < visited*0.6 || rec.Effect["solved"] != true {
		t.Errorf("effect %v, want that it went on where it was stopped after %v keys", rec.Effect, busy.Effect["keys"])
	}
	r.noFailure(policies.ReclaimExpired)
	s.takesWrites()
	r.whole()
}

func TestEveryDatabaseWithExpiredKeysIsSweptAndNoOther(t *testing.T) {
	t.Parallel()
	const dbs, plain, each = 256, 6, 120
	s := startServer(t, "--databases", fmt.Sprint(dbs))
	s.do("DEBUG", "SET-ACTIVE-EXPIRE", "0")
	for db := range dbs {
		if db < plain {
			s.fill(db, 10, 40, 0)
			continue
		}
		s.fill(db, each, 100, time.Millisecond)
	}
	s.limit(100)
	c := fleet(instance(prod1, reclaimLive, s))
	adjust(&c, func(p *policies.Policy) { p.Reclaim.Target, p.Reclaim.Duty = 1, 100 })
	r := newRig(t, c, "").start()
	s.do("CONFIG", "RESETSTAT")
	r.alarm(prod1, memory)
	for part := range int64(5) { // a call a database: a busy machine needs its time
		eventually(t, "the sweep goes on", func() bool { return s.number("stats", "expired_keys") >= (part+1)*(dbs-plain)*each/5 })
	}
	rec := r.record(prod1, memory, policies.OutcomeSucceeded)
	if n := s.calls()["select"]; n != dbs-plain {
		t.Errorf("%d databases were selected, want the %d with keys that have a TTL", n, dbs-plain)
	}
	if got := s.number("stats", "expired_keys"); got != (dbs-plain)*each || rec.Effect["keys"] != float64(got) || rec.Effect["stop"] != "done" {
		t.Errorf("%d keys deleted, want %d; effect %v", got, (dbs-plain)*each, rec.Effect)
	}
	per, sum := rec.Effect["db"].(map[string]any), 0.0
	for db, of := range per {
		keys, bytes := of.(map[string]any)["keys"].(float64), of.(map[string]any)["bytes"].(float64)
		if keys != each || bytes <= 0 {
			t.Errorf("%s lost %v keys of %v bytes, want %d", db, keys, bytes, each)
		}
		sum += bytes
	}
	if total := rec.Effect["bytes"].(float64); len(per) != dbs-plain || sum > total || sum < total*0.99 {
		t.Errorf("%d databases lost %.0f bytes together, %.0f in all", len(per), sum, total)
	}
	if s.keys(0) != 10 || s.keys(plain) != 0 {
		t.Errorf("%d keys without a TTL are left in DB 0, %d expired ones in DB %d", s.keys(0), s.keys(plain), plain)
	}
	s.takesWrites()
	r.whole()
}

// hammer writes without end, small values over few keys, and tells what is refused.
func hammer(ctx context.Context, c *redis.Client, name string, ok, oom *atomic.Int64) {
	for i := 0; ctx.Err() == nil; i++ {
		switch err := c.Set(context.Background(), fmt.Sprintf("hammer:%s:%d", name, i%50), "x", 0).Err(); {
		case err == nil:
			ok.Add(1)
		case strings.HasPrefix(err.Error(), "OOM"):
			oom.Add(1)
		}
		_ = wait(ctx, 2*time.Millisecond)
	}
}

func TestWritersOfAFullMasterAreServedAgain(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.fill(0, 500, 40, 0)
	s.fill(0, 2000, 40, time.Hour)
	s.stale(60_000, 0)
	s.limit(101)
	digest := s.do("DEBUG", "DIGEST-VALUE", "key:0:1", "key:0:500", "key:3600000:1", "key:3600000:2000")
	ctx, cancel := context.WithCancel(context.Background())
	var ok, oom atomic.Int64
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		wg.Go(func() { hammer(ctx, s.Client(), name, &ok, &oom) })
	}
	defer wg.Wait()
	defer cancel()
	eventually(t, "writes are refused", func() bool { return oom.Load() > 20 })
	if n := ok.Load(); n > 0 {
		t.Fatalf("%d writes went through: it is not full", n)
	}
	r := newRig(t, fleet(instance(prod1, reclaimLive, s)), "").start()
	r.alarm(prod1, memory)
	rec := r.record(prod1, memory, policies.OutcomeSucceeded)
	refused, served := oom.Load(), ok.Load()
	eventually(t, "the writers are served", func() bool { return ok.Load() > served+100 })
	if now := oom.Load(); now != refused || rec.Effect["writes_accepted"] != true {
		t.Errorf("%d writes were refused after the repair; effect %v", now-refused, rec.Effect)
	}
	count := "return {#redis.call('KEYS', 'key:0:*'), #redis.call('KEYS', 'key:3600000:*')}"
	if got := fmt.Sprint(s.do("EVAL", count, 0)); got != "[500 2000]" {
		t.Errorf("%s keys without a TTL and with one are left, want all 500 and 2000", got)
	}
	if now := s.do("DEBUG", "DIGEST-VALUE", "key:0:1", "key:0:500", "key:3600000:1", "key:3600000:2000"); fmt.Sprint(now) != fmt.Sprint(digest) {
		t.Errorf("their values are %v and were %v", now, digest)
	}
	r.whole()
}

func TestThreeSweepsThatDoNotHelpOpenTheBreaker(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.fill(0, 8000, 40, time.Hour) // volatile, and nothing has expired
	s.limit(100)
	c := fleet(instance(prod1, reclaimLive, s))
	adjust(&c, func(p *policies.Policy) { p.Reclaim.Cooldown = 0 })
	r := newRig(t, c, "").start()
	s.do("CONFIG", "RESETSTAT")
	r.alarm(prod1, memory)
	r.waitLine("held: breaker: reclaim-expired on "+prod1, "three times in a row")
	scans := s.calls()["scan"]
	rounds(t, s, 2)
	r.sent(prod1, 3)
	for _, rec := range r.records(prod1) {
		if len(rec.Commands) > 0 && rec.Outcome != policies.OutcomeIneffective {
			t.Errorf("record %+v, want ineffective", rec)
		}
	}
	if now := s.calls()["scan"]; now != scans || scans == 0 {
		t.Errorf("%d SCANs after the breaker opened, %d before", now-scans, scans)
	}
	wantBreaker(t, r.h.breakers, breakerName(prod1, policies.ReclaimExpired), "open")
	r.waitState(prod1, policies.StateHeld)
	r.whole()
}
