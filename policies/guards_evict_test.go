package policies

import (
	"strings"
	"testing"
	"time"
)

// evictOf are facts that every guard of evict-near-expiry allows.
func evictOf(m Snapshot) EvictFacts {
	f := EvictFacts{ReclaimFacts: reclaimOf(m), Near: Estimate{Keys: Known(int64(1200)), Bytes: Known(12 * mebi), Method: "cache:* 1200 keys, looked at on node-x"}}
	f.Action, f.Commands = EvictNearExpiry, []string{"select"}
	f.Instance.Ladder = []Action{EvictNearExpiry}
	f.Policy.Evict.Allow = []string{"cache:*"}
	return f
}

func TestEvictGuards(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*EvictFacts)
		want   string
		reason string
	}{
		{"all is well", func(*EvictFacts) {}, "", ""},
		{"no replica to look at", func(f *EvictFacts) { f.Near = Estimate{} }, "", ""},

		{"not opted in", func(f *EvictFacts) { f.Instance.Ladder = nil }, "opt-in?", "add evict-near-expiry to ladder"},
		{"opted into another step", func(f *EvictFacts) { f.Instance.Ladder = []Action{PurgeMemory, KillIdleClients} }, "opt-in?", "ladder"},

		{"nothing is allowed", func(f *EvictFacts) { f.Policy.Evict.Allow = nil }, "patterns victims", "remediation.evict-near-expiry.allow"},
		{"everything is protected, nothing allowed", func(f *EvictFacts) { f.Policy.Evict.Allow, f.Policy.Evict.Protect = nil, []string{"*"} }, "patterns victims", "allow"},
		{"a set that is not closed", func(f *EvictFacts) { f.Policy.Evict.Allow = []string{"cache:*", "x[a"} }, "patterns victims", `"x[a"`},
		{"an empty pattern protects", func(f *EvictFacts) { f.Policy.Evict.Protect = []string{""} }, "patterns victims", `""`},
		{"a set that can be read in two ways protects", func(f *EvictFacts) { f.Policy.Evict.Protect = []string{`keep[\]]`} }, "patterns victims", "keep["},
		{"no horizon", func(f *EvictFacts) { f.Policy.Evict.Horizon = 0 }, "patterns victims", "horizon"},
		{"no bound of keys", func(f *EvictFacts) { f.Policy.Evict.MaxKeys = 0 }, "patterns victims", "max_keys"},
		{"no bound of bytes", func(f *EvictFacts) { f.Policy.Evict.MaxMB = -1 }, "patterns victims", "max_mb"},

		{"none qualifies", func(f *EvictFacts) { f.Near = Estimate{Keys: Known(int64(0)), Bytes: Known(int64(0)), Exact: true} }, "victims", "0 keys qualify"},
		{"none in the part that was looked at", func(f *EvictFacts) { f.Near = Estimate{Keys: Known(int64(0)), Bytes: Known(int64(0))} }, "victims", "0 keys qualify"},
		{"too few for the alarm to clear: allowed, and said", func(f *EvictFacts) { f.Near.Keys, f.Near.Bytes = Known(int64(1)), Known(int64(80)) }, "", ""},
		{"their size is not known", func(f *EvictFacts) { f.Near.Bytes = Opt[int64]{} }, "victims", "+memory|usage"},
		{"the replica could not be looked at", func(f *EvictFacts) { f.Near, f.NearErr = Estimate{}, "NOPERM: it takes +pttl" }, "victims", "it takes +pttl"},
		{"no key has a TTL", func(f *EvictFacts) { f.M.DBs = []DB{{Keys: 1000}} }, "victims", "no key of node-m has a TTL"},
		{"the keyspace is not known", func(f *EvictFacts) { f.M.KeyspaceKnown = false }, "victims", "could not be read"},
		{"no diagnosis", func(f *EvictFacts) { f.Diagnosis = MemoryDiagnosis{} }, "victims", "could not be read"},
		{"client buffers hold the memory", func(f *EvictFacts) { f.Diagnosis.Cause = CauseClientBuffers }, "victims", "client buffers hold the memory of node-m"},
		{"replication buffers do", func(f *EvictFacts) { f.Diagnosis.Cause = CauseReplicationBuffers }, "victims", "replication buffers hold the memory of node-m"},

		{"a replica", func(f *EvictFacts) { f.M.Replication.Role = RoleReplica }, "is-master", "node-m"},
		{"saving", func(f *EvictFacts) { f.M.Persistence.BgsaveRunning = Known(true) }, "busy?", "saving"},
		{"clients paused", func(f *EvictFacts) { f.M.Clients.Paused = Known("client_pause") }, "busy?", "client_pause"},
		{"slow", func(f *EvictFacts) { f.M.RTT = time.Second }, "latency?", "too slow"},
		{"dry run", func(f *EvictFacts) { f.Mode, f.ModeReason = DryRun, "" }, "mode?", "dry run"},
		{"in its own cooldown", func(f *EvictFacts) { f.LastFinished = noon.Add(-f.Policy.Evict.Cooldown + 1) }, "cooldown?", "evict-near-expiry"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := evictOf(fullMaster())
			c.change(&f)
			rs := EvictGuards(f)
			checkRulings(t, rs)
			if !deniedAs(rs, c.want) {
				t.Fatalf("denied by %q, want %q\n%s", denied(rs), c.want, listing(rs))
			}
			if r := firstDenial(rs); !strings.Contains(r.Reason, c.reason) {
				t.Errorf("%s: reason %q does not say %q", r.Guard, r.Reason, c.reason)
			}
		})
	}
}

// The zero facts deny by every guard of the step's own.
func TestEvictGuardsDenyWithoutFacts(t *testing.T) {
	for _, g := range []Guard{GuardOptIn, GuardPatterns, GuardVictims, GuardIsMaster, GuardBusy, GuardLatency} {
		if r := rulingOf(EvictGuards(EvictFacts{}), g); !r.Denied() {
			t.Errorf("%s allows where nothing is known: %+v", g, r)
		}
	}
}

func TestPlanEvict(t *testing.T) {
	f := evictOf(fullMaster())
	f.Policy.Evict.Protect = []string{"cache:keep:*", "x"}
	p := PlanEvict(f, CauseDataWithTTL)
	const form = "EVAL near-expiry UNLINK of keys that match cache:* and not cache:keep:* or x, and expire within 5m0s, the nearest first"
	if !p.Permitted || len(p.Commands) != 1 || strings.Join(p.Commands[0], " ") != form {
		t.Errorf("commands %q, want %q\n%s", p.Commands, form, listing(p.Guards))
	}
	if e := p.Expect; e.Known == nil || !*e.Known || e.Bytes != Known(12*mebi) || !strings.Contains(e.Method, "cache:* 1200 keys") {
		t.Errorf("expected %+v", e)
	}
	const victims = "about 1200 keys qualify, 12.0 MiB (cache:* 1200 keys, looked at on node-x); at most 10000 keys and 64 MiB go at a time; 10.0 MiB must come free for the alarm to clear"
	if r := rulingOf(p.Guards, GuardVictims); r.Reason != victims {
		t.Errorf("got  %s\nwant %s", r.Reason, victims)
	}
	f.Near = Estimate{}
	p = PlanEvict(f, CauseDataWithTTL)
	if e := p.Expect; !p.Permitted || len(p.Commands) != 3 || p.Commands[1][0] != "SCAN" || *e.Known || e.Method != NotKnownWithoutActing || e.Bytes.Known {
		t.Errorf("without a replica: %+v", p)
	}
	f.NearErr = "NOPERM"
	if p = PlanEvict(f, CauseDataWithTTL); p.Permitted || len(p.Commands) != 1 || *p.Expect.Known || p.Expect.Method != "NOPERM" {
		t.Errorf("where the replica refuses: %+v", p)
	}
}

func TestProtectWins(t *testing.T) {
	e := Evict{Allow: []string{"cache:*", "tmp:*", "c*"}, Protect: []string{"*:keep", "tmp:[0-9]"}}
	for name, want := range map[string]struct {
		allowed   int
		protected bool
	}{
		"cache:1": {0, false}, "tmp:x": {1, false}, "cat": {2, false}, "cache:keep": {0, true}, "tmp:7": {1, true}, "tmp:77": {1, false},
		"other": {-1, false}, "other:keep": {-1, false}, "": {-1, false}, "Cache:1": {-1, false}, "cache:\n\x00": {0, false},
	} {
		if allowed, protected := e.Match(name); allowed != want.allowed || protected != want.protected {
			t.Errorf("%q: pattern %d, protected %t; want %+v", name, allowed, protected, want)
		}
	}
	if allowed, _ := (Evict{Protect: []string{"x"}}).Match("y"); allowed != -1 {
		t.Error("a key goes that no pattern allows")
	}
}

func TestSetsThatServersReadOtherwiseAreFound(t *testing.T) {
	for pattern, want := range map[string]bool{
		"cache:*": false, "[a-z]*": false, "[^a-z]": false, "[-a]": false, `\[a-]`: false, `a\\b`: false, "?": false,
		`[\]]`: true, `[a\-z]`: true, "[a-]": true, "[^]": true, "[": true, "x[a-z][b-]": true,
	} {
		if got := ambiguous(pattern); got != want {
			t.Errorf("ambiguous(%q) = %t", pattern, got)
		}
	}
}
