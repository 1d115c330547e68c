package web

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

func pairOf() policies.Config {
	return policies.Config{Instances: []policies.Instance{
		{Name: "b", Nodes: []policies.Node{{Name: "b-m", Role: policies.RoleMaster}, {Name: "b-r", Role: policies.RoleReplica}}},
		{Name: "a", Nodes: []policies.Node{{Name: "a-m", Role: policies.RoleMaster}}},
	}}
}

func at(seconds int64, node string) policies.Snapshot {
	return policies.Snapshot{Instance: node[:1], Node: node, At: time.Unix(seconds, 0), Reach: policies.ReachUp, Memory: policies.Memory{Used: policies.Known(seconds), NotCounted: policies.Known[int64](0)}}
}

func TestSeriesAreBoundedAndInTheOrderOfTheConfig(t *testing.T) {
	g := newRig(t, nil)
	cfg := pairOf()
	g.Configure(cfg)
	for i := range int64(pointsKept + 100) {
		g.Observe(at(1000+i, "b-r"), cfg.Instances[0], policies.Known[int64](7))
	}
	g.Observe(at(5000, "a-m"), cfg.Instances[1], policies.Opt[int64]{})
	g.Observe(at(5000, "b-m"), cfg.Instances[0], policies.Opt[int64]{})
	g.Observe(at(5000, "b-x"), cfg.Instances[0], policies.Opt[int64]{}) // not in the config
	var list []struct {
		Node   string
		Latest map[string]*float64
		Series *struct {
			At     []int64
			Values map[string][]*float64
		}
	}
	read := func(query string) {
		t.Helper()
		list = nil
		if err := json.Unmarshal(g.send("GET", "/api/v1/nodes"+query, "").Body.Bytes(), &list); err != nil {
			t.Fatal(err)
		}
	}
	read("")
	if len(list) != 3 || list[0].Node != "b-m" || list[1].Node != "b-r" || list[2].Node != "a-m" || list[0].Series != nil {
		t.Fatalf("%+v", list)
	}
	if *list[1].Latest["replication_lag_bytes"] != 7 || list[0].Latest["replication_lag_bytes"] != nil {
		t.Error("the lag is not as it was observed; what is not known is null")
	}
	read("?instance=b&node=b-r")
	s := list[0].Series
	if len(list) != 1 || len(s.At) != pointsKept || len(s.Values["memory_counted_bytes"]) != pointsKept || s.At[0] != 1100_000 || *s.Values["memory_counted_bytes"][0] != 1100 {
		t.Errorf("%d points from %d", len(s.At), s.At[0])
	}
	cfg.Instances = cfg.Instances[1:]
	g.Configure(cfg)
	read("")
	if len(list) != 1 || list[0].Node != "a-m" {
		t.Errorf("after a reload without it: %+v", list)
	}
}

func TestPointsThatAreTooCloseOrFromAClockSetBack(t *testing.T) {
	tr := &track{}
	for _, ms := range []int64{1000, 1500, 2000, 900, 1900} {
		tr.add(policies.Snapshot{At: time.UnixMilli(ms)}, policies.Opt[int64]{})
	}
	got := strings.Trim(strings.Join(strings.Fields(jsonOf(tr.at)), ""), "[]")
	if got != "900,1900" {
		t.Errorf("kept %s, want what the clock says since it was set back", got)
	}
	if tr.last.At.UnixMilli() != 1900 {
		t.Error("the newest snapshot is not the last")
	}
}

func jsonOf(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
