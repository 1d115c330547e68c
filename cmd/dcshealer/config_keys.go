package main

import (
	"maps"
	"path/filepath"
	"slices"

	"dcshealer/policies"
)

// config reads the whole file over cfg, which holds the defaults.
func (d *configDecoder) config(v fileValue, cfg *policies.Config) {
	m := d.mapping(d.resolve(v), "the sections of a config file: bus, dashboard, agent, instances, policies, budget, journal, archive, notify")
	d.bus(m.section("bus"), &cfg.Bus)
	m.text("state_dir", &cfg.StateDir, "the folder for alarms.db, healer.db and notify.db")
	d.stateDir(m, &cfg.StateDir)
	m.optional("listen", &cfg.Listen, "HOST:PORT such as 127.0.0.1:9470, or \"\" for none")
	d.dashboard(m.section("dashboard"), &cfg.Dashboard)
	d.agent(m.section("agent"), &cfg.Agent)
	m.list("instances", "a list, each instance starting with a dash: - name: dcs-prod-01", func(v fileValue) {
		cfg.Instances = append(cfg.Instances, d.instance(v))
	})
	d.policies(m.section("policies"), cfg.Policies)
	d.budget(m.section("budget"), &cfg.Budget)
	j := m.section("journal")
	j.duration("keep", &cfg.Journal.Keep)
	j.end()
	ar := m.section("archive")
	ar.duration("keep", &cfg.Archive.Keep)
	readNumber(ar, "max_mb", &cfg.Archive.MaxMB)
	ar.end()
	d.notify(m.section("notify"), &cfg.Notify)
	m.end()
}

// optional reads a text that may be empty.
func (m *fileMapping) optional(key string, to *string, want string) {
	v, ok := m.take(key)
	if !ok {
		return
	}
	if got, bare := describeNode(v.node); got == "" && !bare {
		*to = ""
		return
	}
	m.text(key, to, want)
}

func (d *configDecoder) agent(m *fileMapping, a *policies.AgentConfig) {
	m.duration("interval", &a.Interval)
	m.duration("timeout", &a.Timeout)
	m.duration("repeat", &a.Repeat)
	m.end()
}

func (d *configDecoder) budget(m *fileMapping, b *policies.Budget) {
	readNumber(m, "concurrent_actions", &b.ConcurrentActions)
	readNumber(m, "full_resyncs", &b.FullResyncs)
	m.percent("storm", &b.Storm)
	m.end()
}

func (d *configDecoder) instance(v fileValue) policies.Instance {
	m := d.mapping(v, "an instance: a mapping with name and nodes")
	in := policies.Instance{ManagedBy: policies.ManagedByNone}
	m.text("name", &in.Name, policies.NameRule)
	readEnum(m, "managed_by", &in.ManagedBy, policies.ManagedByNone, policies.ManagedBySentinel, policies.ManagedByDCS)
	m.list("live", "a list of actions such as [reattach-replica]; [] for none", func(v fileValue) {
		in.Live = append(in.Live, readWord(d, v, policies.Actions[:]...))
	})
	m.list("ladder", "a list of steps such as [kill-idle-clients]; [] for none", func(v fileValue) {
		in.Ladder = append(in.Ladder, readWord(d, v, policies.LadderSteps[:]...))
	})
	m.text("policy", &in.Policy, "the name of a policy; leave the key out for default")
	m.text("username", &in.Username, "an ACL user name; leave the key out for the default user")
	d.password(m, &in.Password, &in.PasswordFile)
	in.TLS = d.tls(m, "the nodes' certificates", "no TLS")
	d.renames(m.section("renamed_commands"), &in)
	m.list("nodes", "a list, each node starting with a dash: - {name: dcs-master-01, address: 10.0.0.11:6379, role: master}",
		func(v fileValue) { in.Nodes = append(in.Nodes, d.node(v)) })
	m.end()
	return in
}

// renames reads pairs of names. The first is any word here, so that the rules can say which there are.
func (d *configDecoder) renames(m *fileMapping, in *policies.Instance) {
	for _, name := range slices.Sorted(maps.Keys(m.entries)) {
		var to string
		if m.text(name, &to, "the name that the server has for it; leave out a command that is not renamed or that the server forbids"); to != "" {
			if in.Renamed == nil {
				in.Renamed = policies.Renames{}
			}
			in.Renamed[name] = to
		}
	}
}

func (d *configDecoder) node(v fileValue) (n policies.Node) {
	m := d.mapping(v, "a node such as {name: dcs-master-01, address: 10.0.0.11:6379, role: master}")
	m.text("name", &n.Name, policies.NameRule)
	m.address("address", &n.Address)
	readEnum(m, "role", &n.Role, policies.RoleMaster, policies.RoleReplica)
	m.address("peer_address", &n.PeerAddress)
	m.end()
	return n
}

// policies reads every policy over its preset. The names are the operator's own.
func (d *configDecoder) policies(m *fileMapping, to map[string]policies.Policy) {
	for _, name := range slices.Sorted(maps.Keys(m.entries)) {
		to[name] = policies.PresetDefault() // also where it cannot be read: instances may name it
		if v, ok := m.take(name); ok {
			to[name] = d.policy(v)
		}
	}
}

func (d *configDecoder) policy(v fileValue) policies.Policy {
	m := d.mapping(v, "a policy: a mapping with preset, thresholds, remediation, windows")
	preset, presets := "default", policies.Presets()
	readEnum(m, "preset", &preset, slices.Sorted(maps.Keys(presets))...)
	p, known := presets[preset]
	if !known {
		p = presets["default"] // only to go on looking for faults: the wrong name is one
	}
	d.thresholds(m.section("thresholds"), &p)
	r := m.section("remediation")
	d.reclaim(r.section("reclaim-expired"), &p.Reclaim)
	d.reattach(r.section("reattach-replica"), &p.Reattach)
	d.purge(r.section("purge-memory"), &p.Purge)
	d.evict(r.section("evict-near-expiry"), &p.Evict)
	d.kill(r.section("kill-idle-clients"), &p.Kill)
	r.end()
	m.list("windows", "a list of windows such as {cron: 0 2 * * *, duration: 4h, time_zone: Europe/Berlin}; [] for always", func(v fileValue) {
		p.Windows = append(p.Windows, d.window(v))
	})
	m.end()
	return p
}

func (d *configDecoder) thresholds(m *fileMapping, p *policies.Policy) {
	d.shares(m.section("used_memory"), &p.UsedMemory.Warning, &p.UsedMemory.Critical, &p.UsedMemory.Clear, &p.UsedMemory.For)
	d.shares(m.section("connected_clients"), &p.Clients.Warning, &p.Clients.Critical, &p.Clients.Clear, &p.Clients.For)
	d.bound(m.section("slowlog"), "warning", &p.Slowlog)
	d.bound(m.section("evicted_keys"), "notice", &p.EvictedKeys)
	frag := m.section("fragmentation")
	frag.ratio("warning", &p.Fragmentation.Warning)
	frag.ratio("critical", &p.Fragmentation.Critical)
	readNumber(frag, "least_mb", &p.Fragmentation.LeastMB)
	frag.end()
	replication := m.section("replication")
	replication.duration("critical_after", &p.Replication.CriticalAfter)
	replication.end()
	m.end()
}

func (d *configDecoder) shares(m *fileMapping, warning, critical, clearing *policies.Percent, probes *int) {
	m.percent("warning", warning)
	m.percent("critical", critical)
	m.percent("clear", clearing)
	readNumber(m, "for", probes)
	m.end()
}

func (d *configDecoder) bound(m *fileMapping, severity string, t *policies.CountThreshold) {
	readNumber(m, severity, &t.Bound)
	m.duration("window", &t.Window)
	m.end()
}

func (d *configDecoder) reclaim(m *fileMapping, r *policies.Reclaim) {
	m.percent("target", &r.Target)
	m.duration("max_duration", &r.MaxDuration)
	m.duration("call_p99", &r.CallP99)
	m.percent("duty", &r.Duty)
	m.duration("abort_call", &r.AbortCall)
	readEnum(m, "on_slow_call", &r.OnSlowCall, policies.SlowCallStops, policies.SlowCallSlows)
	m.flag("lazy_free", &r.LazyFree)
	m.duration("cooldown", &r.Cooldown)
	m.end()
}

func (d *configDecoder) reattach(m *fileMapping, r *policies.Reattach) {
	resync := "allow"
	if !r.FullResync {
		resync = "deny"
	}
	m.duration("grace", &r.Grace)
	readEnum(m, "full_resync", &resync, "allow", "deny")
	m.duration("cooldown", &r.Cooldown)
	readNumber(m, "undone", &r.Undone)
	m.flag("config_rewrite", &r.ConfigRewrite)
	m.end()
	r.FullResync = resync == "allow"
}

func (d *configDecoder) purge(m *fileMapping, p *policies.Purge) {
	m.duration("cooldown", &p.Cooldown)
	m.end()
}

const wantPattern = "a pattern such as cache:*, in quotes"

func (d *configDecoder) evict(m *fileMapping, e *policies.Evict) {
	m.duration("horizon", &e.Horizon)
	m.texts("allow", wantPattern, &e.Allow)
	m.texts("protect", wantPattern, &e.Protect)
	readNumber(m, "max_keys", &e.MaxKeys)
	readNumber(m, "max_mb", &e.MaxMB)
	m.duration("cooldown", &e.Cooldown)
	m.end()
}

func (d *configDecoder) kill(m *fileMapping, k *policies.Kill) {
	m.duration("idle", &k.Idle)
	m.percent("target", &k.Target)
	readNumber(m, "max_clients", &k.MaxClients)
	m.texts("protect", "a pattern of a client's name, user or address, such as worker-*, in quotes", &k.Protect)
	m.duration("cooldown", &k.Cooldown)
	m.end()
}

// texts reads a list of non-empty texts.
func (m *fileMapping) texts(key, want string, to *[]string) {
	m.list(key, "a list, each of it "+want+"; [] for none", func(v fileValue) {
		s, ok := v.text()
		if !ok || s == "" {
			m.d.wrong(v, want)
			return
		}
		*to = append(*to, s)
	})
}

// absolute is a file name of the config: a relative one starts at the config file's folder.
func (d *configDecoder) absolute(name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(d.folder, name)
}
