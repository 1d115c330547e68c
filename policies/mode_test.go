package policies

import (
	"strings"
	"testing"
	"time"
)

func TestModeOf(t *testing.T) {
	grant := func(enabled bool, until time.Time) LiveGrant {
		return LiveGrant{Instance: "dcs-1", Action: ReattachReplica, Enabled: enabled, Until: until, Reason: "trial week", By: "ann", At: noon.Add(-time.Hour)}
	}
	var forever time.Time
	live := []Action{ReattachReplica}
	for _, c := range []struct {
		name   string
		config []Action
		grants []LiveGrant
		dryRun bool
		want   Mode
		reason string
	}{
		{"dry run is the default", nil, nil, false, DryRun, "dcshealer live enable dcs-1 --action reattach-replica"},
		{"live in the config", live, nil, false, Live, "config"},
		{"the config's live is for the action that it names", []Action{ReclaimExpired}, nil, false, DryRun, "dcshealer live enable"},
		{"a grant beats a config that says nothing", nil, []LiveGrant{grant(true, forever)}, false, Live, "ann"},
		{"a grant says until when", nil, []LiveGrant{grant(true, noon.Add(time.Hour))}, false, Live, "2026-03-04T13:00:00Z"},
		{"a revocation beats the config's live", live, []LiveGrant{grant(false, forever)}, false, DryRun, "trial week"},
		{"a revocation with an end beats it until then", live, []LiveGrant{grant(false, noon.Add(time.Second))}, false, DryRun, "ann"},
		{"a grant ends at its end, not after", nil, []LiveGrant{grant(true, noon)}, false, DryRun, "dcshealer live enable"},
		{"a nanosecond before its end it stands", nil, []LiveGrant{grant(true, noon.Add(1))}, false, Live, "ann"},
		{"after a revocation's end the config decides", live, []LiveGrant{grant(false, noon)}, false, Live, "config"},
		{"an ended grant leaves the config's live", live, []LiveGrant{grant(true, noon.Add(-time.Hour))}, false, Live, "config"},
		{"a grant of another instance", nil, []LiveGrant{with(grant(true, forever), func(g *LiveGrant) { g.Instance = "dcs-2" })}, false, DryRun, "dry run"},
		{"a grant of another action", nil, []LiveGrant{with(grant(true, forever), func(g *LiveGrant) { g.Action = ReclaimExpired })}, false, DryRun, "dry run"},
		{"a grant from a time that has not come: the clock was set back", nil, []LiveGrant{{Instance: "dcs-1", Action: ReattachReplica, Enabled: true, By: "ann",
			At: noon.Add(time.Hour), Until: noon.Add(3 * time.Hour)}}, false, DryRun, ""},
		{"one without an end stands whatever the clock says", nil, []LiveGrant{{Instance: "dcs-1", Action: ReattachReplica, Enabled: true, By: "ann", At: noon.Add(time.Hour)}}, false, Live, "ann"},
		{"an ended grant does not hide a standing one", nil, []LiveGrant{grant(false, noon.Add(-1)), grant(true, forever)}, false, Live, "ann"},
		{"--dry-run beats the config", live, nil, true, DryRun, "--dry-run"},
		{"--dry-run beats a grant", nil, []LiveGrant{grant(true, forever)}, true, DryRun, "--dry-run"},
	} {
		got, reason := ModeOf(Instance{Name: "dcs-1", Live: c.config}, ReattachReplica, c.grants, c.dryRun, noon)
		if got != c.want || !strings.Contains(reason, c.reason) {
			t.Errorf("%s: got %s (%s), want %s with %q", c.name, got, reason, c.want, c.reason)
		}
	}
}

// Nothing that is not exactly live may run live.
func TestTheZeroModeIsDryRun(t *testing.T) {
	for _, m := range []Mode{"", DryRun, "LIVE", "live "} {
		f := healthyFacts()
		f.Mode = m
		if v := rulingOf(CommonGuards(f), GuardMode); !v.Denied() || !v.Temporary {
			t.Errorf("mode %q: %+v, want a denial that a setting lifts", m, v)
		}
	}
}

func TestDecideAndHeld(t *testing.T) {
	allowed := Ruling{Guard: GuardPause, Verdict: "allow", Reason: "not paused"}
	denied := Ruling{Guard: GuardLineage, Verdict: "deny", Reason: "unrelated"}
	held := Ruling{Guard: GuardMode, Verdict: "deny", Reason: "dry run", Temporary: true}
	for _, c := range []struct {
		name            string
		guards          []Ruling
		permitted, held bool
		deniedBy        int
	}{
		{"no rulings permit nothing", nil, false, false, 0},
		{"all allow", []Ruling{allowed, allowed}, true, false, 0},
		{"one denies for good", []Ruling{allowed, denied}, false, false, 1},
		{"one denies for a while", []Ruling{allowed, held}, false, true, 1},
		{"for good beats for a while", []Ruling{held, denied}, false, false, 2},
		{"the zero ruling denies", []Ruling{allowed, {}}, false, false, 1},
		{"any other word denies", []Ruling{{Verdict: "Allow"}}, false, false, 1},
	} {
		p := Plan{Guards: c.guards, Permitted: true, DeniedBy: []Guard{"left over"}}
		p.Decide()
		if p.Permitted != c.permitted || p.Held() != c.held || len(p.DeniedBy) != c.deniedBy || p.DeniedBy == nil {
			t.Errorf("%s: permitted %t, held %t, denied by %v; want %t, %t, %d", c.name, p.Permitted, p.Held(), p.DeniedBy, c.permitted, c.held, c.deniedBy)
		}
	}
}

func TestRule(t *testing.T) {
	for _, c := range []struct {
		v    Verdict
		want Ruling
	}{
		{Verdict{}, Ruling{Guard: GuardMode, Verdict: "deny", Reason: "the guard gave no reason"}},
		{Verdict{Allow: true, Reason: "live"}, Ruling{Guard: GuardMode, Verdict: "allow", Reason: "live"}},
		{Verdict{Temporary: true, Reason: "dry run"}, Ruling{Guard: GuardMode, Verdict: "deny", Reason: "dry run", Temporary: true}},
		{Verdict{Allow: true, Temporary: true, Reason: "live"}, Ruling{Guard: GuardMode, Verdict: "allow", Reason: "live"}},
	} {
		if got := Rule(GuardMode, c.v); got != c.want {
			t.Errorf("Rule(%+v) = %+v, want %+v", c.v, got, c.want)
		}
	}
}
