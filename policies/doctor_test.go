package policies

import (
	"strings"
	"testing"
	"time"
)

// checkedTrio is what doctor reads of a healthy trio.
func checkedTrio() (*trio, *Doctor) {
	tr := newTrio()
	tr.in.ManagedBy = ManagedByNone
	d := &Doctor{Config: DefaultConfig(), Live: []Action{ReattachReplica, ReclaimExpired}, Now: noon}
	for _, s := range []*Snapshot{&tr.m, &tr.x, &tr.y} {
		s.Memory.Max, s.Memory.Used, s.Memory.NotCounted, s.Memory.Dataset = Known(int64(1<<30)), Known(int64(1<<20)), Known(int64(0)), Known(int64(1<<20))
		s.Clients.Max, s.Slowlog = Known(int64(1000)), Slowlog{Known: true, LimitKnown: true}
		s.ServerTime = Known(s.At.Unix())
		s.Replication.ReadOnly = Known(true)
	}
	return tr, d
}

// examine is every finding that is not ok, a line each: "severity node check".
func examine(tr *trio, d *Doctor, change func(c []Checkup)) (lines []string, cures string) {
	d.Instance = tr.in
	allowed := map[string]bool{}
	for _, c := range AllCommands() {
		allowed[c] = true
	}
	for _, s := range []Snapshot{tr.m, tr.x, tr.y} {
		own := map[string]bool{}
		for k := range allowed {
			own[k] = true
		}
		d.Nodes = append(d.Nodes, Checkup{Snapshot: s, Pings: []time.Duration{time.Millisecond}, User: "healer", Commands: true,
			Permission: Permission{By: "ACL DRYRUN", Allowed: own}, ReplTimeout: Known(int64(60)), MinReplicas: Known(int64(0))})
	}
	if change != nil {
		change(d.Nodes)
	}
	for _, r := range d.Diagnose() {
		if r.Severity != HealthOK {
			lines = append(lines, strings.TrimSpace(strings.Join([]string{string(r.Severity), r.Node, string(r.Check)}, " ")))
			cures += r.Seen + " -> " + r.Cure + "\n"
		}
		if r.Severity != HealthOK && r.Cure == "" || r.Seen == "" || r.Instance != "dcs-1" || r.Node == "" {
			lines = append(lines, "a finding without cure, sight, instance or node: "+r.Seen)
		}
	}
	return lines, cures
}

func TestDoctor(t *testing.T) {
	deny := func(node int, commands ...string) func([]Checkup) {
		return func(c []Checkup) {
			for _, name := range commands {
				c[node].Permission.Allowed[name] = false
			}
		}
	}
	tests := []struct {
		name   string
		tr     func(tr *trio, d *Doctor)
		change func(c []Checkup)
		want   string // of the lines, joined by ", "
		text   string // in what was seen or its cure
	}{
		{"all well", nil, nil, "", ""},
		{"dead", func(tr *trio, _ *Doctor) { tr.lose(&tr.y, ReachRefused) }, nil, "error node-y reach", "start the server"},
		{"no route", func(tr *trio, _ *Doctor) { tr.lose(&tr.y, ReachNoRoute) }, nil, "error node-y reach", "firewall"},
		{"wrong password", func(tr *trio, _ *Doctor) { tr.lose(&tr.y, ReachAuth) }, nil, "error node-y auth", "dcshealer acl"},
		{"foreign certificate", func(tr *trio, _ *Doctor) { tr.lose(&tr.y, ReachTLS) }, nil, "error node-y tls", "under tls"},
		{"loading", func(tr *trio, _ *Doctor) { tr.y.Reach = ReachLoading }, nil, "warning node-y reach", "wait"},
		{"old", func(tr *trio, _ *Doctor) { tr.m.Version, tr.x.Version, tr.y.Version = "5.0.14", "5.0.14", "5.0.14" }, nil, "error node-m version, error node-x version, error node-y version", "upgrade"},
		{"newer than tested", func(tr *trio, _ *Doctor) { tr.y.Version = "9.9.0" }, nil, "warning node-y version", "8.0"},
		{"of no known make", func(tr *trio, _ *Doctor) { tr.y.Product = "dragonfly" }, nil, "warning node-y version, error node-y version", "dragonfly"},
		{"a replica older than its master", func(tr *trio, _ *Doctor) { tr.y.Version = "6.2.14" }, nil, "error node-y version", "upgrade node-y"},
		{"far away", nil, func(c []Checkup) { c[2].Pings = append(c[2].Pings, 700*time.Millisecond) }, "warning node-y latency", "agent.timeout"},
		{"clock ahead", func(tr *trio, _ *Doctor) { tr.y.ServerTime.V += 60 }, nil, "warning node-y clock", "1m0s ahead"},
		{"clock behind", func(tr *trio, _ *Doctor) { tr.y.ServerTime.V -= 60 }, nil, "warning node-y clock", "1m0s behind"},
		{"no right to REPLICAOF, live", nil, deny(1, "replicaof"), "error node-x rights", "ACL SETUSER healer +replicaof"},
		{"no right to REPLICAOF, dry run", func(_ *trio, d *Doctor) { d.Live = nil }, deny(1, "replicaof"), "warning node-x rights", "+replicaof"},
		{"no right to CONFIG SET", nil, deny(0, "config|set"), "warning node-m rights", "lazy_free: false"},
		{"no right to SCAN is said once", nil, deny(0, "scan"), "error node-m rights", "+scan"},
		{"no right to INFO", func(_ *trio, d *Doctor) { d.Live = nil }, deny(0, "info"), "error node-m rights", "+info"},
		{"a step of the ladder", func(tr *trio, d *Doctor) {
			tr.in.Ladder, d.Live = []Action{PurgeMemory}, []Action{PurgeMemory}
		}, deny(0, "memory|purge"), "error node-m rights", "+memory|purge"},
		{"rights not told", nil, func(c []Checkup) { c[1].Permission = Permission{} }, "warning node-x rights", "acl|dryrun"},
		{"rights not told before 7.0", func(tr *trio, _ *Doctor) { tr.m.Version, tr.x.Version, tr.y.Version = "6.0.16", "6.0.16", "6.0.16" },
			func(c []Checkup) { c[1].Permission = Permission{} }, "warning node-x rights", "acl|getuser"},
		{"a renamed command, live", nil, func(c []Checkup) { c[1].Unknown = []string{"replicaof"} }, "error node-x commands", "renamed_commands"},
		{"BGSAVE failed", func(tr *trio, _ *Doctor) { tr.m.Persistence.LastBgsaveOK = Known(false) }, nil, "error node-m persistence", "disk"},
		{"AOF failed, dry run", func(tr *trio, d *Doctor) { d.Live, tr.x.Persistence.LastAOFWriteOK = nil, Known(false) }, nil, "warning node-x persistence", "AOF"},
		{"no masterauth", func(tr *trio, _ *Doctor) {
			tr.m.AuthRequired = Known(true)
			tr.y.MasterAuthSet = Known(true)
		}, nil, "error node-x replication", "masterauth"},
		{"masterauth for nothing", func(tr *trio, _ *Doctor) { tr.y.MasterAuthSet = Known(true) }, nil, "error node-y replication", `masterauth ""`},
		{"writable replica", func(tr *trio, _ *Doctor) { tr.y.Replication.ReadOnly = Known(false) }, nil, "error node-y replication", "replica-read-only"},
		{"small backlog", func(tr *trio, _ *Doctor) {
			tr.m.Memory.Dataset, tr.m.Memory.BacklogSize = Known(int64(1<<30)), Known(int64(1<<20))
		}, nil, "warning node-m replication", "repl-backlog-size"},
		{"small output buffer", func(tr *trio, _ *Doctor) {
			tr.m.Memory.Dataset, tr.m.ReplicaBuffer = Known(int64(20<<30)), Known(BufferLimit{Hard: 256 << 20})
		}, nil, "warning node-m replication", "client-output-buffer-limit"},
		{"min-replicas", nil, func(c []Checkup) { c[0].MinReplicas = Known(int64(2)) }, "warning node-m replication", "min-replicas-to-write"},
		{"repl-timeout", func(tr *trio, _ *Doctor) { tr.y.PingPeriod = Known(int64(60)) }, nil, "error node-y replication", "repl-timeout"},
		{"priority 0 of the only replica", func(tr *trio, _ *Doctor) {
			tr.in.Nodes, tr.in.ManagedBy, tr.x.Priority = tr.in.Nodes[:2], ManagedBySentinel, Known(int64(0))
			tr.m.SentinelSeen, tr.x.SentinelSeen = Known(true), Known(true)
			tr.m.Replication.Replicas = tr.m.Replication.Replicas[:1]
		}, nil, "warning node-x replication", "replica-priority"},
		{"no maxmemory", func(tr *trio, _ *Doctor) { tr.m.Memory.Max = Known(int64(0)) }, nil, "warning node-m alarms", "set maxmemory"},
		{"cluster", func(tr *trio, _ *Doctor) { tr.y.Cluster = Known(true) }, nil, "error node-y cluster", "REPLICAOF"},
		{"a Sentinel unnamed", func(tr *trio, _ *Doctor) { tr.y.SentinelSeen = Known(true) }, nil, "error node-y managed_by", "managed_by: sentinel"},
		{"no Sentinel", func(tr *trio, _ *Doctor) {
			tr.in.ManagedBy, tr.m.SentinelSeen, tr.x.SentinelSeen = ManagedBySentinel, Known(true), Known(true)
		}, nil, "warning node-y managed_by", "no Sentinel"},
		{"clients not shown", func(tr *trio, _ *Doctor) { tr.y.SentinelSeen = Opt[bool]{} }, nil, "error node-y managed_by", "+client|list"},
		{"switched over", func(tr *trio, _ *Doctor) {
			tr.promote(&tr.x, 0)
			tr.follow(&tr.m, tr.xNode())
		}, nil, "error node-m topology, warning node-x topology", "roles"},
		{"promoted", func(tr *trio, _ *Doctor) { tr.promote(&tr.y, 0) }, nil, "warning node-y topology", "dcshealer plan"},
		{"an unknown replica", func(tr *trio, _ *Doctor) {
			tr.m.Replication.Replicas = append(tr.m.Replication.Replicas, ReplicaLine{Host: "10.0.0.9", Port: 6379, State: "online"})
		}, nil, "warning node-m topology", "10.0.0.9:6379"},
		{"the master at another address", func(tr *trio, _ *Doctor) {
			tr.y.Replication.MasterHost, tr.y.MasterIPs = "172.16.0.1", []string{"172.16.0.1"}
		}, nil, "error node-y topology", "peer_address: 172.16.0.1:6379"},
		{"a foreign master", func(tr *trio, _ *Doctor) {
			tr.y.Replication.MasterHost, tr.y.MasterIPs, tr.y.Replication.ReplID = "172.16.0.1", []string{"172.16.0.1"}, histX
		}, nil, "warning node-y topology", "no node of dcs-1"},
		{"behind a port map", func(tr *trio, _ *Doctor) { tr.m.TCPPort = Known(7000) }, nil, "error node-x topology, error node-y topology", "peer_address"},
		{"one server twice", func(tr *trio, _ *Doctor) { tr.y.RunID = tr.x.RunID }, nil, "error node-y topology", "same server as node-x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr, d := checkedTrio()
			if tt.tr != nil {
				tt.tr(tr, d)
			}
			change := func(c []Checkup) {
				if len(tr.in.Nodes) < len(c) {
					d.Nodes = c[:len(tr.in.Nodes)]
				}
				if tt.change != nil {
					tt.change(c)
				}
			}
			lines, text := examine(tr, d, change)
			if got := strings.Join(lines, ", "); got != tt.want || !strings.Contains(text, tt.text) {
				t.Errorf("got %s\n%swant %s with %q", got, text, tt.want, tt.text)
			}
		})
	}
}

func TestAllowedBy(t *testing.T) {
	commands := []string{"info", "config|get", "config|set", "scan"}
	for rules, want := range map[string]string{
		"-@all":                             "info:no config|get:no config|set:no scan:no",
		"+@all":                             "info:yes config|get:yes config|set:yes scan:yes",
		"-@all +info +config|get":           "info:yes config|get:yes config|set:no scan:no",
		"-@all +config -config|set":         "info:no config|get:yes config|set:no scan:no",
		"+@all -@dangerous +info":           "info:yes config|get:? config|set:? scan:?",
		"-@all +@read -scan":                "info:? config|get:? config|set:? scan:no",
		"-@all +INFO":                       "info:yes config|get:no config|set:no scan:no",
		"":                                  "info:no config|get:no config|set:no scan:no",
		"+@all -@all +config|get -@all + -": "info:no config|get:no config|set:no scan:no",
	} {
		got, allowed := []string{}, AllowedBy(rules, commands)
		for _, c := range commands {
			switch is, known := allowed[c]; {
			case !known:
				got = append(got, c+":?")
			case is:
				got = append(got, c+":yes")
			default:
				got = append(got, c+":no")
			}
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%q: got %s, want %s", rules, text, want)
		}
	}
}
