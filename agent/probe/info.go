package probe

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"dcshealer/policies"
)

// info is the answer of INFO, by field.
type info struct {
	fields   map[string]string
	sections map[string]bool // in lower case, as "# Keyspace" shows them
}

// parseInfo reads INFO's text. It never fails: a line that is not name:value is left out.
func parseInfo(text string) info {
	in := info{fields: map[string]string{}, sections: map[string]bool{}}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if section, ok := strings.CutPrefix(line, "# "); ok {
			in.sections[strings.ToLower(section)] = true
			continue
		}
		if name, value, ok := strings.Cut(line, ":"); ok && name != "" {
			in.fields[name] = value
		}
	}
	return in
}

// isNode reports whether the answer is that of a data node at all.
func (in info) isNode() bool {
	return in.fields["run_id"] != "" && (in.fields["redis_version"] != "" || in.fields["valkey_version"] != "")
}

func (in info) isSentinel() bool {
	return in.fields["redis_mode"] == "sentinel" || in.fields["server_mode"] == "sentinel"
}

func (in info) text(name string) policies.Opt[string] {
	v, ok := in.fields[name]
	return policies.Opt[string]{V: v, Known: ok}
}

func (in info) int(name string) policies.Opt[int64] {
	v, err := strconv.ParseInt(in.fields[name], 10, 64)
	return policies.Opt[int64]{V: v, Known: err == nil}
}

func (in info) float(name string) policies.Opt[float64] {
	v, err := strconv.ParseFloat(strings.TrimSuffix(in.fields[name], "%"), 64)
	if err != nil || v != v || v-v != 0 { // NaN and the infinities are no readings
		return policies.Opt[float64]{}
	}
	return policies.Known(v)
}

// flag is a field that has two values: yes is the one that means true.
func (in info) flag(name, yes, no string) policies.Opt[bool] {
	switch in.fields[name] {
	case yes:
		return policies.Known(true)
	case no:
		return policies.Known(false)
	}
	return policies.Opt[bool]{}
}

func (in info) bit(name string) policies.Opt[bool] { return in.flag(name, "1", "0") }
func (in info) ok(name string) policies.Opt[bool]  { return in.flag(name, "ok", "err") }

// fill writes every field that the server reported into the snapshot.
func (in info) fill(s *policies.Snapshot) {
	in.server(s)
	s.Memory = in.memory()
	s.Clients = policies.Clients{Connected: in.int("connected_clients"), Blocked: in.int("blocked_clients"),
		Max: in.int("maxclients"), Paused: in.text("paused_reason")}
	s.Persistence = in.persistence()
	s.Stats = in.stats()
	s.Replication = in.replication()
	s.Memory.ReplicaIgnoresMax = s.Replication.Role == policies.RoleReplica
	s.DBs, s.KeyspaceKnown = in.keyspace(), in.sections["keyspace"]
}

func (in info) server(s *policies.Snapshot) {
	s.RunID = in.fields["run_id"]
	if port := in.int("tcp_port"); port.Known {
		s.TCPPort = policies.Known(int(port.V))
	}
	// Valkey claims redis_version 7.2.4 and says server_mode where Redis says redis_mode.
	s.Product, s.Version = "redis", in.fields["redis_version"]
	if v := in.fields["valkey_version"]; v != "" || in.fields["server_name"] == "valkey" {
		s.Product, s.Version = "valkey", v
	}
	s.Cluster = in.bit("cluster_enabled")
	if mode := cmp.Or(in.fields["redis_mode"], in.fields["server_mode"]); !s.Cluster.Known && mode != "" {
		s.Cluster = policies.Known(mode == "cluster")
	}
	if file := in.text("config_file"); file.Known {
		s.ConfigFile = policies.Known(file.V != "")
	}
	s.UptimeSeconds = in.int("uptime_in_seconds")
	s.Loading = in.bit("loading")
	if usec := in.int("server_time_usec"); usec.Known {
		s.ServerTime = policies.Known(usec.V / 1_000_000)
	}
}

func (in info) memory() policies.Memory {
	return policies.Memory{
		Used:             in.int("used_memory"),
		NotCounted:       in.int("mem_not_counted_for_evict"),
		Max:              in.int("maxmemory"),
		Policy:           in.fields["maxmemory_policy"],
		Dataset:          in.int("used_memory_dataset"),
		Overhead:         in.int("used_memory_overhead"),
		RSS:              in.int("used_memory_rss"),
		SystemTotal:      in.int("total_system_memory"),
		ClientsNormal:    in.int("mem_clients_normal"),
		ClientsReplicas:  in.int("mem_clients_slaves"),
		Backlog:          in.int("mem_replication_backlog"),
		FragmentationX:   in.float("mem_fragmentation_ratio"),
		FragmentationB:   in.int("mem_fragmentation_bytes"),
		LazyfreePending:  in.int("lazyfree_pending_objects"),
		EvictionExceeded: in.int("current_eviction_exceeded_time"),
		Allocator:        policies.Allocator{Name: in.fields["mem_allocator"], Free: in.int("allocator_rss_bytes")},

		Startup:            in.int("used_memory_startup"),
		BacklogSize:        in.int("repl_backlog_size"),
		ReplicationBuffers: in.int("mem_total_replication_buffers"),
		Scripts:            in.int("used_memory_scripts"),
		ScriptVM:           in.int("used_memory_vm_total"),
		AOFBuffer:          in.int("mem_aof_buffer"),
		ClusterLinks:       in.int("mem_cluster_links"),
	}
}

func (in info) persistence() policies.Persistence {
	return policies.Persistence{
		BgsaveRunning:        in.bit("rdb_bgsave_in_progress"),
		AOFRewriteRunning:    in.bit("aof_rewrite_in_progress"),
		LastBgsaveOK:         in.ok("rdb_last_bgsave_status"),
		LastAOFWriteOK:       in.ok("aof_last_write_status"),
		ChangesSinceLastSave: in.int("rdb_changes_since_last_save"),
		LastSaveTime:         in.int("rdb_last_save_time"),
		Saves:                in.int("rdb_saves"),
	}
}

func (in info) stats() policies.Stats {
	return policies.Stats{
		EvictedKeys:         in.int("evicted_keys"),
		ExpiredKeys:         in.int("expired_keys"),
		ExpiredStalePercent: in.float("expired_stale_perc"),
		RejectedConnections: in.int("rejected_connections"),
		SyncFull:            in.int("sync_full"),
		SyncPartialOK:       in.int("sync_partial_ok"),
		SyncPartialErr:      in.int("sync_partial_err"),
		OOMErrors:           in.errors("OOM"),
		OutputBufferKills:   in.int("client_output_buffer_limit_disconnections"),
		CPUSeconds:          in.cpu(),
		OpsPerSecond:        in.int("instantaneous_ops_per_sec"),
		ConnectionsReceived: in.int("total_connections_received"),
		NoAuthErrors:        in.errors("NOAUTH"),
		WrongPassErrors:     in.errors("WRONGPASS"),
		NoPermErrors:        in.errors("NOPERM"),
	}
}

// errors is how many replies began with the word; 0 where the server keeps error counters and has none of these. Unknown before 7.0, and
// where it stopped keeping them because there were too many kinds: Redis then has no others, Valkey no new ones.
func (in info) errors(word string) policies.Opt[int64] {
	if line, ok := in.fields["errorstat_"+word]; ok {
		n, err := strconv.ParseInt(pairs(line)["count"], 10, 64)
		return policies.Opt[int64]{V: n, Known: err == nil}
	}
	_, disabled := in.fields["errorstat_ERRORSTATS_DISABLED"]
	_, overflow := in.fields["errorstat_ERRORSTATS_OVERFLOW"]
	return policies.Opt[int64]{Known: in.sections["errorstats"] && !disabled && !overflow}
}

// keyspace reads the dbN lines in DB order.
func (in info) keyspace() []policies.DB {
	var dbs []policies.DB
	for name, line := range in.fields {
		index, ok := numbered(name, "db")
		if !ok {
			continue
		}
		kv := pairs(line)
		keys, err := strconv.ParseInt(kv["keys"], 10, 64)
		expires, err2 := strconv.ParseInt(kv["expires"], 10, 64)
		if err == nil && err2 == nil {
			dbs = append(dbs, policies.DB{Index: index, Keys: keys, Expires: expires})
		}
	}
	slices.SortFunc(dbs, func(a, b policies.DB) int { return cmp.Compare(a.Index, b.Index) })
	return dbs
}

// pairs reads k=v,k=v: later versions add pairs, so that positions mean nothing.
func pairs(line string) map[string]string {
	kv := map[string]string{}
	for part := range strings.SplitSeq(line, ",") {
		if k, v, ok := strings.Cut(part, "="); ok {
			kv[k] = v
		}
	}
	return kv
}

// numbered reads the number of names such as db0 and slave12.
func numbered(name, prefix string) (int, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok || digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil
}

// cpu is the time that the main thread spent, which alone serves commands; before 6.2 only the whole process tells.
func (in info) cpu() policies.Opt[float64] {
	for _, of := range []string{"_main_thread", ""} {
		sys, user := in.float("used_cpu_sys"+of), in.float("used_cpu_user"+of)
		if sys.Known && user.Known {
			return policies.Known(sys.V + user.V)
		}
	}
	return policies.Opt[float64]{}
}
