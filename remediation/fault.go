package remediation

import (
	"cmp"
	"slices"

	"dcshealer/policies"
)

// fault is a critical problem of one instance, as the healer's own probes show it.
type fault struct {
	policies.Finding
	remedy policies.Action // empty: no action cures it
	early  bool            // another look may still tell a nearer cause
	cost   int64           // of the way back to the master, by policies.ResyncCost
}

// key tells faults apart: the same fault with another cause is the same incident.
func (f fault) key() string { return string(f.Metric) + "/" + f.Node }

// same reports whether two looks agree.
func (f fault) same(o fault) bool { return f.key() == o.key() && f.Cause == o.Cause }

// faultsOf lists the critical problems of a group in the order in which they are worked: replication before memory, then the rest. Of
// several replicas those that an action can cure come first, the one whose way back costs the master least before the others.
func faultsOf(g policies.Group, findings []policies.Finding, triage map[string]policies.Triage) []fault {
	m, _ := g.Of(g.Instance.Master().Name)
	var out []fault
	covered := map[string]bool{} // replicas whose own fault says that they are down
	for _, f := range findings {
		if f.Severity != policies.Critical {
			continue
		}
		item := fault{Finding: f}
		switch f.Metric {
		case policies.MetricReplication:
			x, _ := g.Of(f.Node)
			item.remedy, item.early, item.cost = triage[f.Node].Remedy, triage[f.Node].Early, policies.ResyncCost(x, m)
			covered[f.Node] = true
		case policies.MetricUsedMemory:
			item.remedy = policies.ReclaimExpired
		}
		out = append(out, item)
	}
	out = slices.DeleteFunc(out, func(f fault) bool { return f.Metric == policies.MetricInstanceUp && covered[f.Node] })
	slices.SortStableFunc(out, func(a, b fault) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.cost, b.cost)) })
	return out
}

func rank(f fault) int {
	switch {
	case f.Metric == policies.MetricReplication && f.remedy != "":
		return 0
	case f.Metric == policies.MetricReplication:
		return 1
	case f.Metric == policies.MetricUsedMemory:
		return 2
	}
	return 3
}
