package journal

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

// controls returns the bodies of the control entries, oldest first.
func controls(t *testing.T, j *Journal) (cs []control) {
	t.Helper()
	rows, err := j.read.Query("SELECT body FROM entries WHERE kind = 'control' AND record = '' ORDER BY seq")
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var body string
		must(t, rows.Scan(&body))
		var c control
		must(t, json.Unmarshal([]byte(body), &c))
		cs = append(cs, c)
	}
	must(t, rows.Err())
	return cs
}

// A pause whose end was written down by a clock that ran ahead stands again when the clock is right.
func TestAPauseOutlivesAClockThatWasAhead(t *testing.T) {
	j, ctx := open(t, t.TempDir()), t.Context()
	must(t, j.SetPause(ctx, Pause{Instance: "dcs-1", Until: t0.Add(2 * time.Hour), Reason: "disk", By: "ann", At: t0}))
	end := func(now time.Time, want int) {
		t.Helper()
		ended, err := j.EndOver(ctx, now)
		must(t, err)
		if len(ended) != want {
			t.Errorf("at %s %d ends were written down, want %d", now, len(ended), want)
		}
	}
	paused := func(now time.Time, want bool) {
		t.Helper()
		_, is, err := j.Paused(ctx, "dcs-1", now)
		must(t, err)
		all, err := j.Pauses(ctx, now)
		must(t, err)
		if is != want || (len(all) == 1) != want {
			t.Errorf("at %s paused %v, listed %v; want %v", now, is, all, want)
		}
	}
	end(t0.Add(24*time.Hour), 1)
	end(t0.Add(24*time.Hour+time.Second), 0)
	paused(t0.Add(24*time.Hour), false)
	paused(t0.Add(time.Minute), true)
	end(t0.Add(time.Minute), 0)
	end(t0.Add(2*time.Hour), 1)
	end(t0.Add(3*time.Hour), 0)
	paused(t0.Add(3*time.Hour), false)
	if cleared, err := j.ClearPause(ctx, "dcs-1", "bob", "late", t0.Add(3*time.Hour)); err != nil || cleared {
		t.Errorf("resumed after its end: %v, %v", cleared, err)
	}
	v, err := j.Verify(ctx)
	must(t, err)
	if !v.OK {
		t.Errorf("the chain: %+v", v)
	}
}

func TestLiveGrants(t *testing.T) {
	j := open(t, t.TempDir())
	ctx := t.Context()
	grant := policies.LiveGrant{Instance: "dcs-1", Action: policies.ReattachReplica, Enabled: true, Until: t0.Add(2 * time.Hour), Reason: "trial", By: "ann", At: t0}
	must(t, j.SetLive(ctx, grant))
	standing := func(now time.Time) []policies.LiveGrant {
		gs, err := j.Live(ctx, now)
		must(t, err)
		return gs
	}
	if gs := standing(t0.Add(time.Hour)); !slices.Equal(gs, []policies.LiveGrant{grant}) {
		t.Errorf("standing %+v, want %+v", gs, grant)
	}
	if gs := standing(t0.Add(2 * time.Hour)); len(gs) != 0 {
		t.Errorf("standing at its end: %+v", gs)
	}
	off := policies.LiveGrant{Instance: "dcs-1", Action: policies.ReattachReplica, Reason: "incident", By: "bob", At: t0.Add(time.Minute)}
	must(t, j.SetLive(ctx, off))
	if gs := standing(t0.Add(time.Hour)); !slices.Equal(gs, []policies.LiveGrant{off}) {
		t.Errorf("a revocation replaces the grant: %+v", gs)
	}
	cs := controls(t, j)
	if len(cs) != 2 || *cs[0].Live != grant || *cs[1].Live != off || cs[0].Control != "live" || cs[0].Operator != oper {
		t.Errorf("the chain holds %+v", cs)
	}
	for words, mod := range map[string]func(*policies.LiveGrant){
		"instance": func(g *policies.LiveGrant) { g.Instance = "" },
		"actions":  func(g *policies.LiveGrant) { g.Action = "reboot" },
		"reason":   func(g *policies.LiveGrant) { g.Reason = "" },
		"who":      func(g *policies.LiveGrant) { g.By = "" },
		"end":      func(g *policies.LiveGrant) { g.Until = g.At },
	} {
		g := grant
		mod(&g)
		wantErr(t, j.SetLive(ctx, g), nil, words)
	}
	if n := len(controls(t, j)); n != 2 {
		t.Errorf("refused grants left %d entries", n-2)
	}
	if rs, err := j.List(ctx, Filter{}); err != nil || len(rs) != 0 {
		t.Errorf("controls are listed as actions: %v, error %v", rs, err)
	}
}

func TestPauses(t *testing.T) {
	j := open(t, t.TempDir())
	ctx := t.Context()
	all := Pause{Until: t0.Add(time.Hour), Reason: "maintenance", By: "ann", At: t0}
	one := Pause{Instance: "dcs-1", Reason: "migration", By: "bob", At: t0}
	must(t, j.SetPause(ctx, all))
	must(t, j.SetPause(ctx, one))
	for _, tc := range []struct {
		instance string
		after    time.Duration
		want     string // the reason; empty: not paused
	}{
		{"dcs-1", 0, "migration"}, {"dcs-2", 0, "maintenance"}, {"dcs-2", time.Hour, ""}, {"dcs-1", 1000 * time.Hour, "migration"},
	} {
		p, ok, err := j.Paused(ctx, tc.instance, t0.Add(tc.after))
		if err != nil || ok != (tc.want != "") || p.Reason != tc.want {
			t.Errorf("%s after %s: %+v %t, error %v, want %q", tc.instance, tc.after, p, ok, err, tc.want)
		}
	}
	if cleared, err := j.ClearPause(ctx, "dcs-1", "bob", "done", t0); !cleared || err != nil {
		t.Errorf("cleared %t, error %v", cleared, err)
	}
	if cleared, err := j.ClearPause(ctx, "dcs-1", "bob", "done", t0); cleared || err != nil {
		t.Errorf("cleared twice: %t, error %v", cleared, err)
	}
	if p, ok, err := j.Paused(ctx, "dcs-1", t0); err != nil || !ok || p != all {
		t.Errorf("with its own pause gone the one of all holds: %+v %t, error %v", p, ok, err)
	}
	wantErr(t, j.SetPause(ctx, Pause{By: "x"}), nil, "all instances", "reason")
	wantErr(t, j.SetPause(ctx, Pause{Instance: "dcs-1", By: "x", Reason: "r", At: t0, Until: t0}), nil, "before it begins")
	var names []string
	for _, c := range controls(t, j) {
		names = append(names, c.Control+":"+c.Pause.Instance+":"+c.Pause.By)
	}
	if got := strings.Join(names, " "); got != "pause::ann pause:dcs-1:bob resume:dcs-1:bob" {
		t.Errorf("the chain holds %s", got)
	}
	if v, err := j.Verify(ctx); err != nil || !v.OK || v.Records != 0 || v.Entries != 3 {
		t.Errorf("verify %+v, error %v", v, err)
	}
}

func TestStatusesAndMemory(t *testing.T) {
	j := open(t, t.TempDir())
	ctx := t.Context()
	for _, s := range []policies.MachineStatus{{Instance: "dcs-2", State: policies.StateIdle, Since: t0}, {Instance: "dcs-1", State: policies.StateIdle}, {Instance: "dcs-1", State: policies.StateHeld, Since: t0}} {
		must(t, j.SaveStatus(ctx, s))
	}
	ss, err := j.Statuses(ctx)
	if err != nil || len(ss) != 2 || ss[0].Instance != "dcs-1" || ss[0].State != policies.StateHeld || !ss[0].Since.Equal(t0) {
		t.Errorf("statuses %+v, error %v", ss, err)
	}
	newer := policies.NodeMemory{Instance: "dcs-1", Node: "n1", At: t0.Add(time.Second), RunID: "b", Offset: 9}
	must(t, j.Remember(ctx, policies.NodeMemory{Instance: "dcs-1", Node: "n1", At: t0, RunID: "a"}))
	must(t, j.Remember(ctx, newer))
	must(t, j.Remember(ctx, policies.NodeMemory{Instance: "dcs-1", Node: "n1", At: t0, RunID: "late"}))
	must(t, j.Remember(ctx, policies.NodeMemory{Instance: "dcs-2", Node: "n1", At: t0, RunID: "c"}))
	m, err := j.Memories(ctx)
	if err != nil || len(m) != 2 || !reflect.DeepEqual(m[0], newer) || m[1].RunID != "c" {
		t.Errorf("memory %+v, error %v, want %+v first", m, err, newer)
	}
	if v, err := j.Verify(ctx); err != nil || v.Entries != 0 {
		t.Errorf("they are in the chain: %+v, error %v", v, err)
	}
}
