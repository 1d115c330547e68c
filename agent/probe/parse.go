package probe

import "dcshealer/policies"

// FromInfo is what an INFO text of any sections tells, for a connection that is not a Prober's. It judges nothing: a field that is not
// in the text stays unknown.
func FromInfo(text string) policies.Snapshot {
	var s policies.Snapshot
	parseInfo(text).fill(&s)
	return s
}
