package probe

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// settingNames are asked one by one: before 7.0 CONFIG GET takes one pattern.
var settingNames = []string{"maxclients", "slowlog-log-slower-than", "masterauth", "masteruser", "lazyfree-lazy-expire", "replica-read-only",
	"replica-priority", "tls-port", "tls-replication", "client-output-buffer-limit", "repl-ping-replica-period"}

// settings are the answers of CONFIG GET for one run of a server. The password of masterauth is never kept: only whether it is set.
type settings struct {
	runID          string
	at             time.Time
	denied         bool
	maxClients     policies.Opt[int64]
	slowerThan     policies.Opt[int64] // microseconds; -1: nothing is logged
	masterAuthSet  policies.Opt[bool]
	masterUser     policies.Opt[string]
	lazyfreeExpire policies.Opt[string]
	replicaRO      policies.Opt[bool]
	priority       policies.Opt[int64]
	tlsPort        policies.Opt[int]
	tlsReplication policies.Opt[bool]
	replicaBuffer  policies.Opt[policies.BufferLimit]
	pingPeriod     policies.Opt[int64]
}

func (s settings) stale(runID string, now time.Time) bool {
	return s.runID != runID || now.Sub(s.at) >= settingsTTL
}

func settingsCommands(ctx context.Context) []*redis.Cmd {
	cmds := make([]*redis.Cmd, len(settingNames))
	for i, name := range settingNames {
		cmds[i] = redis.NewCmd(ctx, "config", "get", name)
	}
	return cmds
}

func readSettings(cmds []*redis.Cmd, runID string, now time.Time) settings {
	s := settings{runID: runID, at: now}
	for i, cmd := range cmds {
		reply, err := cmd.Slice()
		if err != nil {
			s.denied = true
			continue
		}
		switch len(reply) {
		case 2:
			name, _ := reply[0].(string)
			value, _ := reply[1].(string)
			s.take(name, value)
		case 0:
			s.lacks(settingNames[i])
		}
		cmd.SetVal(nil)
	}
	return s
}

// lacks takes the answer of a server that does not have the setting. One built without TLS has none of tls-*.
func (s *settings) lacks(name string) {
	switch name {
	case "tls-port":
		s.tlsPort = policies.Known(0)
	case "tls-replication":
		s.tlsReplication = policies.Known(false)
	}
}

func (s *settings) take(name, value string) {
	switch name {
	case "maxclients":
		s.maxClients = number(value)
	case "slowlog-log-slower-than":
		s.slowerThan = number(value)
	case "masterauth":
		s.masterAuthSet = policies.Known(value != "")
	case "masteruser":
		s.masterUser = policies.Known(value)
	case "lazyfree-lazy-expire":
		s.lazyfreeExpire = policies.Known(value)
	case "replica-read-only":
		s.replicaRO = policies.Known(value == "yes")
	case "repl-ping-replica-period":
		s.pingPeriod = number(value)
	case "replica-priority":
		s.priority = number(value)
	case "tls-port":
		port := number(value)
		s.tlsPort = policies.Opt[int]{V: int(port.V), Known: port.Known}
	case "tls-replication":
		s.tlsReplication = policies.Known(value == "yes")
	case "client-output-buffer-limit":
		s.replicaBuffer = replicaBuffer(value)
	}
}

// replicaBuffer finds the class of replicas among "CLASS HARD SOFT SECONDS ...". All versions up to Valkey 9.1 print it as slave.
func replicaBuffer(value string) policies.Opt[policies.BufferLimit] {
	for class := range slices.Chunk(strings.Fields(value), 4) {
		if len(class) < 4 || role(class[0]) != policies.RoleReplica {
			continue
		}
		hard, soft, seconds := number(class[1]), number(class[2]), number(class[3])
		if hard.Known && soft.Known && seconds.Known {
			return policies.Known(policies.BufferLimit{Hard: hard.V, Soft: soft.V, SoftSeconds: seconds.V})
		}
	}
	return policies.Opt[policies.BufferLimit]{}
}

func number(value string) policies.Opt[int64] {
	n, err := strconv.ParseInt(value, 10, 64)
	return policies.Opt[int64]{V: n, Known: err == nil}
}

// fill writes the settings into the snapshot; INFO's maxclients is fresher where there is one.
func (s settings) fill(snap *policies.Snapshot) {
	snap.ConfigDenied = s.denied
	if !snap.Clients.Max.Known {
		snap.Clients.Max = s.maxClients
	}
	snap.MasterAuthSet, snap.MasterUser, snap.LazyfreeExpire = s.masterAuthSet, s.masterUser, s.lazyfreeExpire
	snap.Priority, snap.ReplicaBuffer, snap.PingPeriod = s.priority, s.replicaBuffer, s.pingPeriod
	snap.TLSPort, snap.TLSReplication = s.tlsPort, s.tlsReplication
	if !snap.Replication.ReadOnly.Known {
		snap.Replication.ReadOnly = s.replicaRO // INFO of a master does not say what it was as a replica
	}
	snap.Slowlog.LimitKnown = s.slowerThan.Known
	snap.Slowlog.Blind = s.slowerThan.Known && s.slowerThan.V < 0
}
