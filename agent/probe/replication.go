package probe

import (
	"fmt"
	"slices"
	"strconv"

	"dcshealer/policies"
)

// neverLinked is where a count of seconds cannot be one: Redis 6.0 prints the Unix time as
// master_link_down_since_seconds when the link never was up.
const neverLinked = 1_000_000_000

func (in info) replication() policies.Replication {
	r := policies.Replication{
		Role:          role(in.fields["role"]),
		ReplID:        policies.ReplID(in.fields["master_replid"]),
		ReplID2:       policies.ReplID(in.fields["master_replid2"]),
		Offset:        in.int("master_repl_offset"),
		SecondOffset:  in.int("second_repl_offset"),
		BacklogActive: in.bit("repl_backlog_active"),
		BacklogFirst:  in.int("repl_backlog_first_byte_offset"),
		BacklogLength: in.int("repl_backlog_histlen"),
		Replicas:      in.replicas(),
	}
	if r.Role == policies.RoleReplica {
		in.link(&r)
	}
	return r
}

// link reads the fields that only a replica has.
func (in info) link(r *policies.Replication) {
	r.MasterHost = in.fields["master_host"]
	r.MasterPort = int(in.int("master_port").Or(0))
	r.LinkUp = in.flag("master_link_status", "up", "down")
	r.LastIOSecondsAgo = known(in.int("master_last_io_seconds_ago"), func(v int64) bool { return v >= 0 })
	r.LinkDownSeconds = known(in.int("master_link_down_since_seconds"), func(v int64) bool { return v >= 0 && v < neverLinked })
	r.SyncInProgress = in.bit("master_sync_in_progress")
	r.ReplicaOffset = in.int("slave_repl_offset")
	r.ReadOnly = in.bit("slave_read_only")
	r.SyncLeftBytes = in.int("master_sync_left_bytes")
	r.SyncReadBytes = in.int("master_sync_read_bytes")
	r.SyncLastIOSeconds = known(in.int("master_sync_last_io_seconds_ago"), func(v int64) bool { return v >= 0 })
}

// known keeps a value that holds, and makes any other unknown.
func known(o policies.Opt[int64], holds func(int64) bool) policies.Opt[int64] {
	if o.Known && !holds(o.V) {
		return policies.Opt[int64]{}
	}
	return o
}

// role translates INFO's and ROLE's words.
func role(s string) policies.Role {
	switch s {
	case "master":
		return policies.RoleMaster
	case "slave", "replica":
		return policies.RoleReplica
	}
	return ""
}

// replicas reads the slaveN lines by their number.
func (in info) replicas() []policies.ReplicaLine {
	byIndex := map[int]policies.ReplicaLine{}
	for name, line := range in.fields {
		i, ok := numbered(name, "slave")
		if !ok {
			continue
		}
		kv := pairs(line)
		port, err := strconv.Atoi(kv["port"])
		offset, err2 := strconv.ParseInt(kv["offset"], 10, 64)
		if err != nil || err2 != nil {
			continue
		}
		lag, err := strconv.ParseInt(kv["lag"], 10, 64)
		byIndex[i] = policies.ReplicaLine{Host: kv["ip"], Port: port, State: kv["state"], Offset: offset,
			Lag: policies.Opt[int64]{V: lag, Known: err == nil && lag >= 0}}
	}
	return inOrder(byIndex)
}

func inOrder(byIndex map[int]policies.ReplicaLine) []policies.ReplicaLine {
	var order []int
	for i := range byIndex {
		order = append(order, i)
	}
	slices.Sort(order)
	var lines []policies.ReplicaLine
	for _, i := range order {
		lines = append(lines, byIndex[i])
	}
	return lines
}

// parseRole reads ROLE's answer: the role, and of a replica the state of its link.
func parseRole(reply []any) (policies.Role, string, error) {
	if len(reply) == 0 {
		return "", "", oddity("ROLE answered nothing")
	}
	name, _ := reply[0].(string)
	r := role(name)
	if r == "" {
		return "", "", oddity(fmt.Sprintf("ROLE answered %.32q; a node is master or slave", name))
	}
	state := ""
	if r == policies.RoleReplica && len(reply) > 3 {
		state, _ = reply[3].(string)
	}
	return r, state, nil
}
