package remediation

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dcshealer/policies"
)

// renaming starts a server with a config file that renames commands.
func renaming(t *testing.T, names policies.Renames, args ...string) *server {
	t.Helper()
	var text strings.Builder
	for own, theirs := range names {
		fmt.Fprintf(&text, "rename-command %s %s\n", own, theirs)
	}
	file := filepath.Join(t.TempDir(), "redis.conf")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return startServer(t, append([]string{file}, args...)...)
}

// scanRenamed is a full master of expired keys that calls SCAN otherwise.
var scanRenamed = policies.Renames{"SCAN": "XSCAN"}

func fullRenamed(t *testing.T) *server {
	t.Helper()
	s := renaming(t, scanRenamed)
	s.fill(0, 500, 40, 0)
	s.stale(50_000, 0)
	s.limit(100)
	return s
}

// noFailure checks that the breaker of an action has counted no failure.
func (r *rig) noFailure(a policies.Action) {
	r.t.Helper()
	data, err := r.h.breakers.store.GetData("gobreaker:state:" + breakerName(prod1, a))
	if err != nil || len(data) > 0 && (!strings.Contains(string(data), `"TotalFailures":0`) || !strings.Contains(string(data), `"state":0`)) {
		r.t.Errorf("breaker %s (%v), want closed and no failure counted", data, err)
	}
}

func TestAFullMasterThatRenamesScanIsSweptUnderItsName(t *testing.T) {
	t.Parallel()
	s := fullRenamed(t)
	in := instance(prod1, reclaimLive, s)
	in.Renamed = scanRenamed
	r := newRig(t, fleet(in), "").start()
	s.do("CONFIG", "RESETSTAT")
	r.alarm(prod1, memory)
	rec := r.record(prod1, memory, policies.OutcomeSucceeded)
	i := slices.IndexFunc(rec.Commands, func(c policies.CommandRecord) bool { return c.Args[0] == "XSCAN" })
	if calls := s.calls()["scan"]; i < 0 || calls == 0 || rec.Commands[i].Count != int64(calls) {
		t.Errorf("commands %+v, the server counted %d SCANs", rec.Commands, calls)
	}
	if rec.Effect["keys"] != float64(s.number("stats", "expired_keys")) || rec.Effect["longest_call"] == float64(0) || rec.Planned[0][0] != "XSCAN" {
		t.Errorf("effect %v, planned %v", rec.Effect, rec.Planned)
	}
	r.waitLine("plan (live): reclaim-expired", "XSCAN cursor COUNT n")
	s.takesWrites()
	r.whole()
}

func TestARenamedScanWithoutItsNameIsRefusedAndNoFailure(t *testing.T) {
	t.Parallel()
	s := fullRenamed(t)
	r := newRig(t, fleet(instance(prod1, reclaimLive, s)), "").start()
	check := untouched(t, s)
	r.alarm(prod1, memory)
	r.refuses(prod1, memory, policies.CauseExpiredKeys, policies.GuardCapability)
	r.waitLine("does not know SCAN", "renamed_commands of "+prod1)
	rounds(t, s, 2)
	r.sent(prod1, 0)
	check()
	r.noFailure(policies.ReclaimExpired)
	r.whole()
}

func TestAScanForbiddenByACLIsUnsupportedAndTriedOnce(t *testing.T) {
	t.Parallel()
	s := fullOfStale(t, 50_000)
	s.do("ACL", "SETUSER", "healer", "on", ">secret", "~*", "+@all", "-scan")
	in := instance(prod1, reclaimLive, s)
	in.Username, in.Password = "healer", "secret"
	r := newRig(t, fleet(in), "").start()
	s.do("CONFIG", "RESETSTAT")
	for range 3 { // three alarms and the rounds between them
		r.alarm(prod1, memory)
		rec := r.record(prod1, memory, policies.OutcomeUnsupported)
		if !strings.Contains(rec.Error, "NOPERM") || !strings.Contains(rec.Error, "grant +scan") {
			t.Errorf("error %q, want the refusal of the server and what lifts it", rec.Error)
		}
		r.waitState(prod1, policies.StateEscalated)
		rounds(t, s, 2)
	}
	if n := s.calls()["scan"]; n != 1 {
		t.Errorf("SCAN was tried %d times by the server's count, want once", n)
	}
	if n := s.number("stats", "expired_keys"); n != 0 {
		t.Errorf("%d keys expired", n)
	}
	if got := s.setting(lazyExpire); got != "no" {
		t.Errorf("%s is %s, it was no", lazyExpire, got)
	}
	r.sent(prod1, 1)
	r.noFailure(policies.ReclaimExpired)
	r.whole()
}

func TestAReplicaThatRenamesReplicaofIsReattachedUnderItsName(t *testing.T) {
	t.Parallel()
	names := policies.Renames{"REPLICAOF": "xfollow", "SLAVEOF": "xslave"}
	m := startServer(t)
	m.fill(0, 100, 10, 0)
	x := renaming(t, names, "--replicaof", m.addr.Host+" "+portOf(m))
	eventually(t, "the link is up", x.linkUp)
	in := instance(prod1, reattachLive, m, x)
	in.Renamed = policies.Renames{"REPLICAOF": "xfollow"}
	// One name for the instance: the master is sent nothing under it.
	r := newRig(t, fleet(in), "").start()
	x.do("xfollow", "NO", "ONE")
	r.alarm(prod1, replication)
	rec := r.record(prod1, replication, policies.OutcomeSucceeded)
	want := []string{"xfollow", m.addr.Host, portOf(m)}
	if len(rec.Commands) != 1 || !slices.Equal(rec.Commands[0].Args, want) || !slices.Equal(rec.Planned[0], want) || rec.Commands[0].Reply != "OK" {
		t.Errorf("sent %+v, planned %v, want %v", rec.Commands, rec.Planned, want)
	}
	if !x.linkUp() {
		t.Error("the link is down")
	}
	r.noFailure(policies.ReattachReplica)
	r.whole()
}

// A script uses the names of its server too; what tells key names from numbers in the journal goes by Redis's.
func TestAnEvictionUnderOtherNamesIsTheSame(t *testing.T) {
	t.Parallel()
	names := policies.Renames{"PTTL": "xpttl", "UNLINK": "xunlink", "MEMORY": "xmem", "SCAN": "xscan"}
	s := fillWithNear(renaming(t, names))
	in := instance(prod1, evictLive, s)
	in.Renamed = names
	r := newRig(t, near(in), "").start()
	r.alarm(prod1, memory)
	rec := r.record(prod1, memory, policies.OutcomeSucceeded)
	var kinds []string
	for _, c := range rec.Commands {
		kinds = append(kinds, c.Args[0])
	}
	for _, want := range []string{"EVAL", "xpttl", "xscan"} {
		if !slices.Contains(kinds, want) {
			t.Errorf("%q on record, want %s among them", kinds, want)
		}
	}
	if n := s.number("stats", "expired_keys") + int64(nearKeys+fewTmp); s.calls()["unlink"] == 0 || rec.Effect["keys"].(float64) > float64(n) {
		t.Errorf("effect %v, the server was sent %v", rec.Effect, s.calls())
	}
	s.takesWrites()
	r.keyless()
	r.whole()
}
