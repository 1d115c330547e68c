package remediation

import (
	"slices"

	"dcshealer/policies"
)

// fault is a critical problem of one instance, as the healer's own probes show it.
type fault struct {
	policies.Finding
	remedy policies.Action // empty: no action cures it
}

// key tells faults apart: the same fault with another cause is the same incident.
func (f fault) key() string { return string(f.Metric) + "/" + f.Node }

// same reports whether two looks agree.
func (f fault) same(o fault) bool { return f.key() == o.key() && f.Cause == o.Cause }

// faultsOf lists the critical problems of a group in the order in which they are worked: replication before memory, then
// the rest. open names the incidents that stand: their memory alarm has a harder bar for clearing.
func faultsOf(g policies.Group, findings []policies.Finding, remedies map[string]policies.Action) []fault {
	var out []fault
	covered := map[string]bool{} // replicas whose own fault says that they are down
	for _, f := range findings {
		if f.Severity != policies.Critical {
			continue
		}
		item := fault{Finding: f}
		switch f.Metric {
		case policies.MetricReplication:
			item.remedy = remedies[f.Node]
			covered[f.Node] = true
		case policies.MetricUsedMemory:
			item.remedy = policies.ReclaimExpired
		}
		out = append(out, item)
	}
	out = slices.DeleteFunc(out, func(f fault) bool { return f.Metric == policies.MetricInstanceUp && covered[f.Node] })
	slices.SortStableFunc(out, func(a, b fault) int { return rank(a) - rank(b) })
	return out
}

func rank(f fault) int {
	switch f.Metric {
	case policies.MetricReplication:
		return 0
	case policies.MetricUsedMemory:
		return 1
	}
	return 2
}
