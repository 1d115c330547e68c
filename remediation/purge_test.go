package remediation

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

const fragmentation = policies.MetricFragmentation

var purgeLive = []policies.Action{policies.PurgeMemory}

// bloated holds 60,000 values, of which all but one in ten are deleted again: the last ones, so that whole pages are free, or those
// between the ones that stay.
func bloated(t testing.TB, between bool) *server {
	t.Helper()
	s := hoarder(t)
	s.bloat(between)
	return s
}

// hoarder is a server whose allocator gives nothing back by itself.
func hoarder(t testing.TB) *server {
	t.Helper()
	s := startServer(t, "--jemalloc-bg-thread", "no")
	s.do("DEBUG", "MALLCTL", "arena.0.dirty_decay_ms", "-1")
	return s
}

func (s *server) bloat(between bool) {
	s.t.Helper()
	s.fill(0, 60_000, 1000, 0)
	goes := "i > 6000"
	if between {
		goes = "i % 10 > 0"
	}
	s.do("EVAL", "for i = 1, 60000 do if "+goes+" then redis.call('DEL', 'key:0:' .. i) end end", 0)
}

// waitBloated waits until the server's own reading, ten times a second, shows it; a replica first lets go of what it was sent.
func (s *server) waitBloated() {
	s.t.Helper()
	eventually(s.t, "the server says that it holds too much", func() bool {
		ratio, err := strconv.ParseFloat(s.info("memory")["mem_fragmentation_ratio"], 64)
		return err == nil && ratio > 4 && s.number("memory", "mem_fragmentation_bytes") > 25<<20
	})
}

func bloatedFleet(live []policies.Action, m *server, replicas ...*server) policies.Config {
	c := fleet(ladderOf(instance(prod1, live, m, replicas...), policies.PurgeMemory))
	adjust(&c, func(p *policies.Policy) {
		p.Fragmentation = policies.Fragmentation{Warning: 1.5, Critical: 3.5, LeastMB: 20}
		p.Purge.Cooldown = time.Hour
	})
	return c
}

func (r *rig) purged(s *server, node string) {
	r.t.Helper()
	r.alarm(prod1, fragmentation)
	rec := r.record(prod1, fragmentation, policies.OutcomeSucceeded)
	s.wantWrites(map[string]int{"memory|purge": 1})
	if len(rec.Commands) != 1 || fmt.Sprint(rec.Commands[0].Args) != "[MEMORY PURGE]" || rec.Commands[0].Reply != "OK" || rec.Commands[0].Node != node {
		r.t.Errorf("commands %+v", rec.Commands)
	}
	after := float64(s.number("memory", "used_memory_rss"))
	fell, expected := rec.Effect["bytes"].(float64), float64(rec.Expect.Bytes.V)
	if rec.Action != policies.PurgeMemory || rec.Node != node || rec.Mode != policies.Live || rec.Cause != policies.CauseFragmentation || rec.Effect["solved"] != true {
		r.t.Errorf("record %+v", rec)
	}
	if said := rec.Effect["rss_after"].(float64); fell < expected*0.7 || fell > expected*1.3 || said < after*0.8 || said > after*1.2 {
		r.t.Errorf("%.0f bytes reported and %.0f left, %.0f expected, the server shows %.0f", fell, said, expected, after)
	}
	if rec.Effect["ratio_after"].(float64) >= rec.Effect["ratio_before"].(float64) || rec.Effect["used_after"] == nil {
		r.t.Errorf("effect %v", rec.Effect)
	}
	r.waitLine("result: succeeded: purge-memory on "+node, "MiB resident, were")
}

func TestFreePagesAreGivenBack(t *testing.T) {
	t.Parallel()
	s := bloated(t, false)
	s.waitBloated()
	r := newRig(t, bloatedFleet(purgeLive, s), "").start()
	digest := s.do("DEBUG", "DIGEST")
	s.do("CONFIG", "RESETSTAT")
	r.purged(s, "master-"+prod1)
	if now := s.do("DEBUG", "DIGEST"); now != digest || s.keys(0) != 6000 {
		t.Errorf("the data changed: %d keys", s.keys(0))
	}
	r.sent(prod1, 1)
	r.whole()
}

func TestFreePagesOfAReplicaAreGivenBack(t *testing.T) {
	t.Parallel()
	m, x := startServer(t), hoarder(t)
	x.follow(m)
	m.bloat(false)
	eventually(t, "the replica holds what its master does", func() bool { return x.keys(0) == 6000 })
	m.do("MEMORY", "PURGE")
	x.waitBloated()
	r := newRig(t, bloatedFleet(purgeLive, m, x), "").start()
	check := untouched(t, m)
	x.do("CONFIG", "RESETSTAT")
	r.purged(x, replica1)
	if !x.linkUp() {
		t.Error("the link is down")
	}
	check()
	r.whole()
}

func TestPurgingInDryRunIsOnlyPlanned(t *testing.T) {
	t.Parallel()
	s := bloated(t, false)
	s.waitBloated()
	r := newRig(t, bloatedFleet(dry, s), "").start()
	check := untouched(t, s)
	r.alarm(prod1, fragmentation)
	rec := r.record(prod1, fragmentation, policies.OutcomePlanned)
	if !slices.Equal(rec.DeniedBy, []policies.Guard{policies.GuardMode}) || fmt.Sprint(rec.Planned) != "[[MEMORY PURGE]]" || rec.Expect.Bytes.V < 20<<20 {
		t.Errorf("record %+v, want a plan that the dry run alone stops", rec)
	}
	r.waitState(prod1, policies.StateHeld)
	rounds(t, s, 2)
	r.only(prod1, 1)
	check()
	r.whole()
}

func TestWhatIsNotPurged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ladder []policies.Action
		spoil  func(s *server)
		by     policies.Guard
		reason string
	}{
		"not opted in": {ladder: []policies.Action{policies.KillIdleClients, policies.EvictNearExpiry}, reason: "no action cures fragmentation"},
		"no free pages: the memory lies between live values": {ladder: purgeLive, by: policies.GuardWorthwhile, reason: "set activedefrag",
			spoil: func(s *server) { s.do("MEMORY", "PURGE"); s.waitBloated() }},
		"saving": {ladder: purgeLive, by: policies.GuardBusy, reason: "is saving", spoil: func(s *server) {
			s.do("CONFIG", "SET", "rdb-key-save-delay", "1000000")
			s.t.Cleanup(func() { s.do("FLUSHALL") }) // ends the child, which would outlive its parent
			s.do("BGSAVE")
			eventually(s.t, "it saves", func() bool { return s.number("persistence", "rdb_bgsave_in_progress") == 1 })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := bloated(t, c.by == policies.GuardWorthwhile)
			s.waitBloated()
			if c.spoil != nil {
				c.spoil(s)
			}
			config := bloatedFleet(purgeLive, s)
			config.Instances[0].Ladder = c.ladder
			r := newRig(t, config, "").start()
			check := untouched(t, s)
			r.alarm(prod1, fragmentation)
			rec := r.record(prod1, fragmentation, policies.OutcomeDenied)
			if c.by == "" && (rec.Action != "" || len(rec.Planned) > 0) || c.by != "" && !slices.Contains(rec.DeniedBy, c.by) || !strings.Contains(fmt.Sprint(rec.Guards, rec.Error), c.reason) {
				t.Errorf("record %+v, want denied by %q: %s", rec, c.by, c.reason)
			}
			rounds(t, s, 2)
			r.only(prod1, 1)
			check()
			r.whole()
		})
	}
}

func TestAUserWithoutTheRightToPurgeIsUnsupported(t *testing.T) {
	t.Parallel()
	s := bloated(t, false)
	s.waitBloated()
	s.do("ACL", "SETUSER", "healer", "on", ">secret", "+@all", "-memory", "~*")
	c := bloatedFleet(purgeLive, s)
	c.Instances[0].Username, c.Instances[0].Password = "healer", "secret"
	r := newRig(t, c, "").start()
	r.alarm(prod1, fragmentation)
	rec := r.record(prod1, fragmentation, policies.OutcomeUnsupported)
	if !strings.Contains(rec.Error, "+memory|purge") {
		t.Errorf("error %q", rec.Error)
	}
	r.whole()
}

func TestWhatCountsAsPurged(t *testing.T) {
	t.Parallel()
	memory := func(rss, used int64) policies.Snapshot {
		return policies.Snapshot{Reach: policies.ReachUp, RunID: "a", Memory: policies.Memory{RSS: policies.Known(rss), Used: policies.Known(used),
			FragmentationX: policies.Known(float64(rss) / float64(used)), FragmentationB: policies.Known(rss - used)}}
	}
	before := memory(1000, 100) // 900 too much
	for name, c := range map[string]struct {
		change func(*policies.Snapshot)
		rss    int64
		want   bool
	}{
		"nothing fell":             {nil, 1000, false},
		"less than a tenth":        {nil, 911, false},
		"a tenth":                  {nil, 910, true},
		"under the critical ratio": {nil, 299, true},
		"it grew":                  {nil, 1100, false},
		"it restarted":             {func(s *policies.Snapshot) { s.RunID = "b" }, 200, false},
		"it does not answer":       {func(s *policies.Snapshot) { s.Reach = policies.ReachHung }, 200, false},
		"it does not tell":         {func(s *policies.Snapshot) { s.Memory.RSS = policies.Opt[int64]{} }, 200, false},
	} {
		after := memory(c.rss, 100)
		if c.change != nil {
			c.change(&after)
		}
		if got := purged(before, after, policies.Fragmentation{Critical: 3}); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
