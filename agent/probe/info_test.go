package probe

import (
	"encoding/json"
	"strings"
	"testing"

	"dcshealer/policies"
)

var versions = []struct {
	file, product, version string
	modern                 bool // 7.0 and later
	kills                  bool // reports client_output_buffer_limit_disconnections
}{
	{"redis-6.0", "redis", "6.0.16", false, false},
	{"redis-7.0", "redis", "7.0.15", true, false},
	{"redis-8.0", "redis", "8.0.2", true, true},
	{"valkey-8.1", "valkey", "8.1.1", true, true},
	{"valkey-9.1", "valkey", "9.1.2", true, true},
}

func snapshotOf(t *testing.T, file string) policies.Snapshot {
	t.Helper()
	in := parseInfo(testdata(t, file))
	if !in.isNode() {
		t.Fatalf("%s: not taken for a node", file)
	}
	var s policies.Snapshot
	in.fill(&s)
	return s
}

func TestInfoOfMasters(t *testing.T) {
	for _, v := range versions {
		t.Run(v.file, func(t *testing.T) {
			s := snapshotOf(t, v.file+"-master.info")
			if s.Product != v.product || s.Version != v.version {
				t.Errorf("got %s %s, want %s %s", s.Product, s.Version, v.product, v.version)
			}
			if s.Replication.Role != policies.RoleMaster || s.Memory.ReplicaIgnoresMax || s.Cluster != policies.Known(false) || s.Loading != policies.Known(false) {
				t.Errorf("role %q, ignores max %v, cluster %v, loading %v", s.Replication.Role, s.Memory.ReplicaIgnoresMax, s.Cluster, s.Loading)
			}
			if s.Memory.Max != policies.Known[int64](64<<20) || s.Memory.Policy != "noeviction" || !s.Memory.Counted().Known || s.Memory.Share().Or(1) > 0.2 {
				t.Errorf("memory: %+v", s.Memory)
			}
			if len(s.DBs) != 2 || s.DBs[0] != (policies.DB{Index: 0, Keys: 2, Expires: 1}) || s.DBs[1] != (policies.DB{Index: 3, Keys: 1, Expires: 1}) {
				t.Errorf("DBs: %+v", s.DBs)
			}
			if s.Keys() != policies.Known[int64](3) || s.Volatile() != policies.Known[int64](2) {
				t.Errorf("keys %v, volatile %v", s.Keys(), s.Volatile())
			}
			r := s.Replication
			if len(r.Replicas) != 1 || r.Replicas[0].Host != "172.17.0.3" || r.Replicas[0].Port != 6379 || r.Replicas[0].State != "online" || !r.Replicas[0].Lag.Known {
				t.Errorf("replicas: %+v", r.Replicas)
			}
			if r.ReplID.None() || !r.ReplID2.None() || r.BacklogActive != policies.Known(true) || !r.BacklogLength.Known {
				t.Errorf("replication: %+v", r)
			}
			for name, known := range map[string]bool{
				"maxclients": s.Clients.Max.Known, "errorstat_OOM": s.Stats.OOMErrors.Known, "rdb_saves": s.Persistence.Saves.Known,
				"current_eviction_exceeded_time": s.Memory.EvictionExceeded.Known, "server time": s.ServerTime.Known,
				"errorstat_NOAUTH": s.Stats.NoAuthErrors.Known, "errorstat_WRONGPASS": s.Stats.WrongPassErrors.Known, "errorstat_NOPERM": s.Stats.NoPermErrors.Known,
			} {
				if known != v.modern {
					t.Errorf("%s known: got %v, want %v", name, known, v.modern)
				}
			}
			if s.ConfigFile != policies.Known(false) || s.Stats.ConnectionsReceived.Or(0) < 1 {
				t.Errorf("config file %v, want none; connections %v, want some", s.ConfigFile, s.Stats.ConnectionsReceived)
			}
			if s.Stats.OutputBufferKills.Known != v.kills {
				t.Errorf("output buffer kills known: got %v, want %v", s.Stats.OutputBufferKills.Known, v.kills)
			}
		})
	}
}

func TestInfoOfReplicas(t *testing.T) {
	for _, v := range versions {
		t.Run(v.file, func(t *testing.T) {
			s := snapshotOf(t, v.file+"-replica.info")
			r, m := s.Replication, snapshotOf(t, v.file+"-master.info").Replication
			if r.Role != policies.RoleReplica || !s.Memory.ReplicaIgnoresMax || r.LinkUp != policies.Known(true) || r.ReplID != m.ReplID {
				t.Errorf("replication: %+v", r)
			}
			if r.MasterHost != "172.17.0.2" || r.MasterPort != 6379 || !r.LastIOSecondsAgo.Known || r.SyncInProgress != policies.Known(false) || !r.ReplicaOffset.Known || r.ReadOnly != policies.Known(true) {
				t.Errorf("link: %+v", r)
			}
		})
	}
}

// A replica that never had a link shows the Unix time (6.0) or -1 as the age of its loss: neither is an age.
func TestInfoOfReplicasNeverLinked(t *testing.T) {
	for _, v := range versions {
		r := snapshotOf(t, v.file+"-unlinked.info").Replication
		if r.LinkUp != policies.Known(false) || r.LinkDownSeconds.Known || r.LastIOSecondsAgo.Known {
			t.Errorf("%s: link up %v, down for %v, last byte %v ago; want false and twice unknown", v.file, r.LinkUp, r.LinkDownSeconds, r.LastIOSecondsAgo)
		}
	}
}

func TestErrorCounters(t *testing.T) {
	unknown := policies.Opt[int64]{}
	tests := []struct {
		name, text               string
		noAuth, wrongPass, noPrm policies.Opt[int64]
	}{
		{"6.0 keeps none", "# Stats\ntotal_connections_received:1\n", unknown, unknown, unknown},
		{"none of them yet", "# Errorstats\nerrorstat_ERR:count=1\n", policies.Known[int64](0), policies.Known[int64](0), policies.Known[int64](0)},
		{"each its own", "# Errorstats\nerrorstat_NOAUTH:count=3\nerrorstat_WRONGPASS:count=4\nerrorstat_NOPERM:count=5\n",
			policies.Known[int64](3), policies.Known[int64](4), policies.Known[int64](5)},
		{"not a number", "# Errorstats\nerrorstat_NOAUTH:count=many\n", unknown, policies.Known[int64](0), policies.Known[int64](0)},
		{"8.0 with too many kinds", "# Errorstats\nerrorstat_ERRORSTATS_DISABLED:count=1\n", unknown, unknown, unknown},
		{"Valkey with too many kinds", "# Errorstats\nerrorstat_ERRORSTATS_OVERFLOW:count=14\nerrorstat_WRONGPASS:count=2\n",
			unknown, policies.Known[int64](2), unknown},
	}
	for _, tt := range tests {
		s := parseInfo(tt.text).stats()
		if s.NoAuthErrors != tt.noAuth || s.WrongPassErrors != tt.wrongPass || s.NoPermErrors != tt.noPrm {
			t.Errorf("%s: got %v %v %v, want %v %v %v", tt.name, s.NoAuthErrors, s.WrongPassErrors, s.NoPermErrors, tt.noAuth, tt.wrongPass, tt.noPrm)
		}
	}
}

func TestConfigFile(t *testing.T) {
	for text, want := range map[string]policies.Opt[bool]{
		"config_file:/etc/redis.conf": policies.Known(true),
		"config_file:":                policies.Known(false),
		"tcp_port:6379":               {},
	} {
		var s policies.Snapshot
		parseInfo(text).server(&s)
		if s.ConfigFile != want {
			t.Errorf("%q: got %v, want %v", text, s.ConfigFile, want)
		}
	}
}

func TestRole(t *testing.T) {
	want := map[string]struct {
		role  policies.Role
		state string
	}{
		"master":   {policies.RoleMaster, ""},
		"replica":  {policies.RoleReplica, "connected"},
		"unlinked": {policies.RoleReplica, "connect"},
	}
	for _, v := range versions {
		for node, w := range want {
			var reply []any
			if err := json.Unmarshal([]byte(testdata(t, v.file+"-"+node+".role.json")), &reply); err != nil {
				t.Fatal(err)
			}
			role, state, err := parseRole(reply)
			if err != nil || role != w.role || state != w.state {
				t.Errorf("%s %s: got %q %q %v, want %q %q", v.file, node, role, state, err, w.role, w.state)
			}
		}
	}
	for _, reply := range [][]any{nil, {}, {1}, {"sentinel", []any{}}} {
		if _, _, err := parseRole(reply); err == nil {
			t.Errorf("%v: want an error", reply)
		}
	}
}

func TestClientList(t *testing.T) {
	for _, v := range versions {
		var s policies.Snapshot
		fillClients(&s, testdata(t, v.file+"-master.clients"))
		if s.SentinelSeen != policies.Known(false) || !s.ClientOutput.Known || s.TopClient != "" || s.ClientMemory.Or(0) < 10_000 || s.ClientMemory.V > 100_000 {
			t.Errorf("%s: sentinel %v, output %v, memory %v, top %q", v.file, s.SentinelSeen, s.ClientOutput, s.ClientMemory, s.TopClient)
		}
	}
	var s policies.Snapshot
	fillClients(&s, strings.Join([]string{
		"id=1 addr=10.0.0.1:1 name= flags=N obl=10 omem=100",
		"id=2 addr=10.0.0.2:2 name=big flags=P obl=0 omem=2000000",
		"id=3 addr=10.0.0.3:3 name=replica flags=S obl=0 omem=9000000",
		"id=4 addr=10.0.0.4:4 name=master flags=M obl=0 omem=9000000",
		"id=5 addr=10.0.0.5:5 name=sentinel-0a1b2c3d-pubsub flags=P obl=0 omem=0",
		"garbage", "omem=x flags=",
	}, "\n"))
	if s.SentinelSeen != policies.Known(true) || s.ClientOutput != policies.Known[int64](2000110) || s.TopClient != "10.0.0.2:2" {
		t.Errorf("sentinel %v, output %v, top %q", s.SentinelSeen, s.ClientOutput, s.TopClient)
	}
	if s.ClientMemory.Known || s.TopClientUse != (policies.ClientUse{Kind: policies.ClientPubSub, Memory: 2_000_000, Output: 2_000_000}) {
		t.Errorf("memory %v, want none known where a line has no tot-mem; top %+v", s.ClientMemory, s.TopClientUse)
	}
	fillClients(&s, strings.Join([]string{
		"id=1 addr=10.0.0.1:1 flags=N obl=10 omem=100 tot-mem=3000000 events=r",
		"id=2 addr=10.0.0.2:2 flags=O obl=5 omem=2000000 tot-mem=2500000 events=rw",
		"id=3 addr=10.0.0.3:3 flags=S omem=9000000 tot-mem=9000000",
		"id=4 addr=10.0.0.4:4 flags=xN omem=0 tot-mem=20000 events=r",
	}, "\n"))
	if s.ClientMemory != policies.Known[int64](5_520_000) || s.ClientOutput != policies.Known[int64](2_000_115) || s.TopClient != "10.0.0.1:1" ||
		s.TopClientUse != (policies.ClientUse{Kind: policies.ClientNormal, Memory: 3_000_000, Output: 110}) {
		t.Errorf("memory %v, output %v, top %q %+v", s.ClientMemory, s.ClientOutput, s.TopClient, s.TopClientUse)
	}
	if use := useOf(clientFields("id=2 flags=O obl=5 omem=20 tot-mem=50 events=rw")); use != (policies.ClientUse{Kind: policies.ClientMonitor, Memory: 50, Output: 25, Waiting: true}) {
		t.Errorf("a monitor that does not read: %+v", use)
	}
	for name, want := range map[string]bool{"sentinel-0a-cmd": true, "sentinel-zz-cmd": false, "my-sentinel-0a-cmd": false, "sentinel-0a-other": false} {
		fillClients(&s, "id=1 name="+name+" flags=N")
		if s.SentinelSeen.V != want {
			t.Errorf("%s: got %v, want %v", name, s.SentinelSeen.V, want)
		}
	}
}

func TestRefusesStrangers(t *testing.T) {
	tests := map[string]policies.Opt[bool]{
		"-NOAUTH Authentication required.":           policies.Known(true),
		"-NOPERM this user has no permissions":       policies.Known(true),
		"+PONG":                                      policies.Known(false),
		"-LOADING Redis is loading the dataset":      policies.Known(false),
		"-MASTERDOWN Link with MASTER is down":       policies.Known(false),
		"-MISCONF Redis is configured to save":       policies.Known(false),
		"-BUSY Redis is busy running a script":       policies.Known(false),
		"-ERR max number of clients reached":         {},
		"-DENIED Redis is running in protected mode": {},
		"HTTP/1.1 400 Bad Request":                   {},
		"":                                           {},
	}
	for line, want := range tests {
		if got := refusesStrangers(line); got != want {
			t.Errorf("%q: got %v, want %v", line, got, want)
		}
	}
}

// No text makes the parser fail, and no reading is invented: numbers come out as they went in.
func FuzzParseInfo(f *testing.F) {
	for _, v := range versions {
		for _, node := range []string{"master", "replica", "unlinked"} {
			f.Add(testdata(f, v.file+"-"+node+".info"))
		}
	}
	f.Add("# Keyspace\r\ndb0:keys=1,expires=\r\ndb:keys=1,expires=1\r\ndb99999999999999999999:keys=1,expires=1")
	f.Add("role:slave\nslave0:ip=::1,port=x\nslave1:\nmaster_link_down_since_seconds:99999999999999999999\nmem_fragmentation_ratio:nan")
	f.Fuzz(func(t *testing.T, text string) {
		in := parseInfo(text)
		var s policies.Snapshot
		in.fill(&s)
		if _, err := json.Marshal(s); err != nil {
			t.Fatalf("a snapshot that cannot be written: %v", err)
		}
		if s.Memory.Used.Known && !strings.Contains(text, "used_memory:") {
			t.Fatal("used_memory was invented")
		}
		for i, d := range s.DBs {
			if i > 0 && s.DBs[i-1].Index > d.Index {
				t.Fatalf("DBs out of order: %+v", s.DBs)
			}
		}
		if d := s.Replication.LinkDownSeconds; d.Known && (d.V < 0 || d.V >= neverLinked) {
			t.Fatalf("link down for %d s", d.V)
		}
	})
}
