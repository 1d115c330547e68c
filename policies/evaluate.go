package policies

import (
	"fmt"
	"time"
)

// Counts are the events of one node within the policy's windows. Unknown: fewer than two readings, or refused.
type Counts struct {
	Slowlog        Opt[int64] // within Policy.Slowlog.Window
	SlowlogAtLeast bool       // the server's ring of entries lapped: there were more
	Evicted        Opt[int64] // within Policy.EvictedKeys.Window
}

// Judgement is what a policy says of one metric of one node.
type Judgement struct {
	Finding      // Severity 0: healthy
	Known   bool // false: the node did not tell, which is neither healthy nor a fault; only Metric, Node and Slave are set
}

// Standing tells the severity at which an alarm stands, 0 for none, so that its clearing takes more than its firing.
type Standing func(m Metric, node string) Severity

// Evaluate returns the findings of a group as its snapshots stand, nodes in config order: no dwell, no hysteresis.
// counts is by node name. It reads no clock: the same input always gives the same findings.
func Evaluate(g Group, p Policy, counts map[string]Counts, now time.Time) []Finding {
	none := func(Metric, string) Severity { return 0 }
	var out []Finding
	for _, j := range Judge(g, p, counts, none, now) {
		if j.Known && j.Severity > 0 {
			out = append(out, j.Finding)
		}
	}
	return out
}

// Judge returns one judgement for each metric of each configured node of the group that has a snapshot, the healthy and
// the unknown ones included, with standing's hysteresis. The replication of a replica is judged only beside its master.
func Judge(g Group, p Policy, counts map[string]Counts, standing Standing, now time.Time) []Judgement {
	var out []Judgement
	for _, n := range g.Instance.Nodes {
		if s, ok := g.Of(n.Name); ok {
			out = append(out, JudgeNode(s, p, counts[n.Name], standing)...)
		}
	}
	return append(out, JudgeReplication(g, now)...)
}

// JudgeNode judges what a node says of itself. Of one that does not answer only instance_up is known.
func JudgeNode(s Snapshot, p Policy, c Counts, standing Standing) []Judgement {
	return []Judgement{
		judgeUp(s),
		judgeMemory(s, p, standing(MetricUsedMemory, s.Node)),
		judgeFragmentation(s, p.Fragmentation),
		judgeClients(s, p.Clients, standing(MetricClients, s.Node)),
		judgeSlowlog(s, p.Slowlog, c),
		judgeEvicted(s, p.EvictedKeys, c),
	}
}

func unknown(m Metric, s Snapshot) Judgement {
	return Judgement{Finding: Finding{Metric: m, Node: s.Node}}
}

func judgeUp(s Snapshot) Judgement {
	j := Judgement{Known: true, Finding: Finding{Metric: MetricInstanceUp, Node: s.Node, Value: Int(0), Severity: Critical}}
	switch s.Reach {
	case ReachUp:
		j.Value, j.Severity, j.Msg = Int(1), 0, s.Node+" answers"
	case ReachLoading:
		j.Value, j.Severity, j.Cause, j.Msg = Int(1), Warning, CauseLoading, s.Node+" is loading its data set"
	case ReachHung, ReachBusy:
		j.Cause, j.Msg = CauseNodeHung, fmt.Sprintf("%s does not answer: %s", s.Node, s.Err)
	case ReachAuth:
		j.Cause, j.Msg = CauseAuth, fmt.Sprintf("%s cannot be read: %s", s.Node, s.Err)
	case ReachTLS:
		j.Cause, j.Msg = CauseTLS, fmt.Sprintf("%s cannot be read: %s", s.Node, s.Err)
	case ReachMaxConns:
		j.Cause, j.Msg = CauseNodeDown, fmt.Sprintf("%s takes no more clients: %s", s.Node, s.Err)
	default:
		j.Cause, j.Msg = CauseNodeDown, fmt.Sprintf("%s cannot be reached: %s", s.Node, s.Err)
	}
	return j
}

// judgeMemory judges masters only: a replica ignores maxmemory by default and holds what its master sends.
func judgeMemory(s Snapshot, p Policy, was Severity) Judgement {
	j, m := unknown(MetricUsedMemory, s), s.Memory
	if !s.Reach.Answers() || s.Replication.Role == "" || !m.Max.Known {
		return j
	}
	if s.Replication.Role == RoleReplica || m.Max.V <= 0 {
		j.Known = true
		return j
	}
	share, counted := m.Share(), m.Counted()
	if !share.Known {
		return j
	}
	j.Known, j.Severity = true, p.UsedMemory.Level(share.V, was)
	j.Value, j.Threshold, j.Pct = mib(counted.V), mib(m.Max.V), pct(share.V)
	j.Msg = fmt.Sprintf("Memory usage %s on %s: %s of %s MiB%s", j.Pct, s.Node, j.Value, j.Threshold, refusing(m))
	if j.Severity == Critical {
		d := DiagnoseMemory(s, p, Estimate{})
		j.Cause = d.Cause
		j.Msg += d.Brief()
	}
	return j
}

// judgeFragmentation judges what the process holds beyond what it uses. The ratio of a small server means nothing (12 to 19 on an empty
// one), so that the bytes have to be many too.
func judgeFragmentation(s Snapshot, t Fragmentation) Judgement {
	j, m := unknown(MetricFragmentation, s), s.Memory
	if !s.Reach.Answers() || !m.FragmentationX.Known || !m.FragmentationB.Known {
		return j
	}
	j.Known = true
	large := m.FragmentationB.V >= t.LeastMB<<20
	switch {
	case large && t.Critical > 0 && m.FragmentationX.V >= t.Critical:
		j.Severity, j.Cause, j.Threshold = Critical, CauseFragmentation, Num(t.Critical)
	case large && t.Warning > 0 && m.FragmentationX.V >= t.Warning:
		j.Severity, j.Cause, j.Threshold = Warning, CauseFragmentation, Num(t.Warning)
	}
	j.Value = Num(m.FragmentationX.V)
	j.Msg = fmt.Sprintf("%s holds %.2f times the memory that it uses (%d MiB more)", s.Node, m.FragmentationX.V, m.FragmentationB.V>>20)
	return j
}

// refusing says what a full server does to its clients.
func refusing(m Memory) string {
	full := m.EvictionExceeded.Or(0) > 0 || m.Share().Or(0) >= 1
	switch {
	case full && m.Policy == "noeviction":
		return ", writes rejected"
	case full:
		return ", over the limit although it may evict (" + m.Policy + ")"
	}
	return ""
}

func judgeClients(s Snapshot, t ClientsThreshold, was Severity) Judgement {
	j, c := unknown(MetricClients, s), s.Clients
	if !s.Reach.Answers() || !c.Connected.Known || c.Max.Or(0) <= 0 {
		return j
	}
	share := float64(c.Connected.V) / float64(c.Max.V)
	j.Known, j.Severity = true, t.Level(share, was)
	j.Value, j.Threshold, j.Pct = Int(c.Connected.V), Int(c.Max.V), pct(share)
	j.Msg = fmt.Sprintf("%d of %d client connections in use on %s (%s)", c.Connected.V, c.Max.V, s.Node, j.Pct)
	return j
}

func judgeSlowlog(s Snapshot, t CountThreshold, c Counts) Judgement {
	j := unknown(MetricSlowlog, s)
	if !s.Reach.Answers() || !s.Slowlog.Known || !c.Slowlog.Known {
		return j
	}
	j.Known = true
	if t.Bound > 0 && c.Slowlog.V >= t.Bound {
		j.Severity = Warning
	}
	atLeast := ""
	if c.SlowlogAtLeast {
		atLeast = "at least "
	}
	j.Value, j.Threshold, j.Window = Int(c.Slowlog.V), Int(t.Bound), "Last "+span(t.Window)
	j.Msg = fmt.Sprintf("%s%d slow commands on %s in the last %s (bound %d)", atLeast, c.Slowlog.V, s.Node, span(t.Window), t.Bound)
	return j
}

func judgeEvicted(s Snapshot, t CountThreshold, c Counts) Judgement {
	j := unknown(MetricEvicted, s)
	if !s.Reach.Answers() || !c.Evicted.Known {
		return j
	}
	j.Known = true
	if t.Bound > 0 && c.Evicted.V >= t.Bound {
		j.Severity = Notice
	}
	j.Value, j.Window = Int(c.Evicted.V), "Last "+span(t.Window)
	j.Msg = fmt.Sprintf("%d keys evicted on %s in the last %s", c.Evicted.V, s.Node, span(t.Window))
	return j
}

// JudgeReplication judges each configured replica that has a snapshot, beside its master's. One that looks well while
// its master cannot be read is not known to be well.
func JudgeReplication(g Group, now time.Time) []Judgement {
	sick := map[string]Triage{}
	for _, t := range TriageReplication(g, now) {
		sick[t.Node] = t
	}
	m, _ := g.Of(g.Instance.Master().Name)
	var out []Judgement
	for _, n := range g.Instance.Nodes {
		s, ok := g.Of(n.Name)
		if n.Role != RoleReplica || !ok {
			continue
		}
		j := unknown(MetricReplication, s)
		j.Slave = n.Name
		t, is := sick[n.Name]
		switch {
		case is:
			j.Known, j.Severity, j.Cause, j.Msg, j.Value = true, t.Severity, t.Cause, t.Msg, linkValue(t)
		case m.Reach.Answers():
			j.Known, j.Value, j.Msg = true, Text("up"), n.Name+" follows its master"
		}
		out = append(out, j)
	}
	return out
}

func linkValue(t Triage) Value {
	if t.Severity == Critical {
		return Text("down")
	}
	return Text(string(t.Cause))
}

// Blind says which alarms cannot fire for a node as it is configured, and what would change it. A node that does not
// answer has no entry: that is an alarm of its own.
func Blind(s Snapshot) []string {
	if !s.Reach.Answers() {
		return nil
	}
	var out []string
	say := func(holds bool, format string) {
		if holds {
			out = append(out, fmt.Sprintf(format, s.Node))
		}
	}
	say(s.Replication.Role == RoleMaster && s.Memory.Max.Known && s.Memory.Max.V <= 0, "%s has no maxmemory: used_memory_mb cannot fire; set maxmemory")
	say(s.Replication.Role == RoleMaster && !s.Memory.Counted().Known, "%s does not report its memory: used_memory_mb cannot fire")
	say(s.Slowlog.Blind, "%s logs no slow command (slowlog-log-slower-than is negative): slowlog_count cannot fire")
	say(!s.Slowlog.Known, "%s refuses SLOWLOG GET: slowlog_count cannot fire; grant +slowlog|get")
	say(s.Clients.Max.Or(0) <= 0, "%s does not tell its maxclients: connected_clients cannot fire; grant +config|get")
	say(s.ConfigDenied, "%s refuses CONFIG GET: masterauth and lazyfree-lazy-expire are unknown, and repairs that need them are denied; grant +config|get")
	return out
}
