package probe

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// settingNames are asked one by one: before 7.0 CONFIG GET takes one pattern.
var settingNames = []string{"maxclients", "slowlog-log-slower-than", "masterauth", "masteruser", "lazyfree-lazy-expire", "replica-read-only"}

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
	for _, cmd := range cmds {
		reply, err := cmd.Slice()
		if err != nil {
			s.denied = true
			continue
		}
		if len(reply) == 2 {
			name, _ := reply[0].(string)
			value, _ := reply[1].(string)
			s.take(name, value)
		}
		cmd.SetVal(nil)
	}
	return s
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
	}
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
	if !snap.Replication.ReadOnly.Known {
		snap.Replication.ReadOnly = s.replicaRO // INFO of a master does not say what it was as a replica
	}
	snap.Slowlog.LimitKnown = s.slowerThan.Known
	snap.Slowlog.Blind = s.slowerThan.Known && s.slowerThan.V < 0
}
