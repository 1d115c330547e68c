package policies

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A setting is one value of a config by its path, as text. The text of a secret is compared and never shown.
type setting struct {
	path, text string
	secret     bool
}

// settings is a config taken apart. The path of an instance is its name, so that one moved up in the file has not changed.
type settings struct {
	path string
	list []setting
}

func (s *settings) under(name string) *settings { return &settings{path: JoinPath(s.path, name)} }

func (s *settings) put(name string, v any) {
	s.list = append(s.list, setting{path: JoinPath(s.path, name), text: settingText(v)})
}

func (s *settings) hide(name string, v Secret) {
	s.list = append(s.list, setting{path: JoinPath(s.path, name), text: v.Reveal(), secret: true})
}

func (s *settings) take(below *settings) { s.list = append(s.list, below.list...) }

// settingText is a value as the config file would say it.
func settingText(v any) string {
	switch v := v.(type) {
	case time.Duration:
		return durationText(v)
	case []Action:
		return listText(v)
	case []string:
		quoted := make([]string, len(v))
		for i, s := range v {
			quoted[i] = fmt.Sprintf("%q", s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	return fmt.Sprint(v)
}

func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}

func listText[T ~string](list []T) string { return "[" + strings.Join(texts(list), ", ") + "]" }

// joined is a list of secrets as one, for comparison.
func joined(keys []Secret) Secret {
	var all strings.Builder
	for _, k := range keys {
		all.WriteString(k.Reveal() + "\n")
	}
	return Secret(all.String())
}

// durationText is a duration without its zeros: 5m, not 5m0s.
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// general is what is neither an instance nor a policy.
func (c Config) general() []setting {
	var s settings
	s.hide("bus.url", c.Bus.URL)
	s.put("bus.prefix", c.Bus.Prefix)
	s.put("bus.password_file", c.Bus.PasswordFile)
	s.hide("bus.password", c.Bus.Password)
	if c.Bus.TLS != nil { // what the files hold is no change: a renewed client certificate is read for each new connection
		s.take(c.Bus.TLS.settings(&settings{path: "bus.tls"}))
	}
	s.put("bus.hmac_key_file", c.Bus.HMACKeyFile)
	s.hide("bus.hmac_keys", joined(c.Bus.HMACKeys))
	s.put("bus.require_signature", c.Bus.RequireSignature)
	s.put("state_dir", c.StateDir)
	s.put("listen", c.Listen)
	s.put("dashboard.token_file", c.Dashboard.TokenFile)
	s.hide("dashboard.token", c.Dashboard.Token)
	s.put("dashboard.tls.cert_file", c.Dashboard.CertFile)
	s.put("dashboard.tls.key_file", c.Dashboard.KeyFile)
	s.put("agent.interval", c.Agent.Interval)
	s.put("agent.timeout", c.Agent.Timeout)
	s.put("agent.repeat", c.Agent.Repeat)
	s.put("budget.concurrent_actions", c.Budget.ConcurrentActions)
	s.put("budget.full_resyncs", c.Budget.FullResyncs)
	s.put("budget.storm", c.Budget.Storm)
	s.put("journal.keep", c.Journal.Keep)
	s.put("archive.keep", c.Archive.Keep)
	s.put("archive.max_mb", c.Archive.MaxMB)
	s.take(c.Notify.settings(&settings{path: "notify"}))
	return s.list
}

// reach is how an instance's nodes are connected to: where it changes, connections are made anew.
func (i Instance) reach() []setting {
	s := &settings{path: instancePath(i.Name)}
	s.put("username", i.Username)
	s.put("password_file", i.PasswordFile)
	s.hide("password", i.Password)
	if i.TLS != nil {
		t := i.TLS.settings(s.under("tls"))
		t.hide("files", Secret(i.TLS.Digest))
		s.take(t)
	}
	r := s.under("renamed_commands")
	for _, name := range slices.Sorted(maps.Keys(i.Renamed)) {
		r.put(name, i.Renamed[name])
	}
	s.take(r)
	nodes := s.under("nodes")
	for _, n := range i.Nodes {
		text := n.Address.String() + " " + string(n.Role)
		if !n.PeerAddress.IsZero() {
			text += ", for its peers " + n.PeerAddress.String()
		}
		nodes.put(n.Name, text)
	}
	s.take(nodes)
	return s.list
}

// settings are what the config says; what the files hold is left out.
func (t TLS) settings(s *settings) *settings {
	s.put("ca_file", t.CAFile)
	s.put("cert_file", t.CertFile)
	s.put("key_file", t.KeyFile)
	s.put("server_name", t.ServerName)
	return s
}

// own is what an instance says beyond that.
func (i Instance) own() []setting {
	s := &settings{path: instancePath(i.Name)}
	s.put("managed_by", i.ManagedBy)
	s.put("live", i.Live)
	s.put("ladder", i.Ladder)
	policy := i.Policy
	if policy == "" {
		policy = "default"
	}
	s.put("policy", policy)
	return s.list
}

func instancePath(name string) string { return JoinPath("instances", name) }

// settings is a policy taken apart, in the order of the config file.
func (p Policy) settings(name string) []setting {
	s := &settings{path: JoinPath("policies", name)}
	s.put("preset", p.Preset)
	t := s.under("thresholds")
	t.put("used_memory", levelText(p.UsedMemory.Warning, p.UsedMemory.Critical, p.UsedMemory.Clear, p.UsedMemory.For))
	t.put("connected_clients", levelText(p.Clients.Warning, p.Clients.Critical, p.Clients.Clear, p.Clients.For))
	t.put("slowlog", fmt.Sprintf("{warning: %d, window: %s}", p.Slowlog.Bound, durationText(p.Slowlog.Window)))
	t.put("evicted_keys", fmt.Sprintf("{notice: %d, window: %s}", p.EvictedKeys.Bound, durationText(p.EvictedKeys.Window)))
	t.put("fragmentation", fmt.Sprintf("{warning: %v, critical: %v, least_mb: %d}", p.Fragmentation.Warning, p.Fragmentation.Critical, p.Fragmentation.LeastMB))
	t.put("replication.critical_after", p.Replication.CriticalAfter)
	s.take(t)
	s.take(p.remediation(s.under("remediation")))
	windows := make([]string, len(p.Windows))
	for i, w := range p.Windows {
		windows[i] = strings.TrimRight(w.Cron+" for "+durationText(w.Duration)+" "+w.Zone, " ")
	}
	s.put("windows", windows)
	return s.list
}

func levelText(warning, critical, clearing Percent, probes int) string {
	return fmt.Sprintf("{warning: %v, critical: %v, clear: %v, for: %d}", warning, critical, clearing, probes)
}

func (p Policy) remediation(s *settings) *settings {
	r := s.under(string(ReclaimExpired))
	r.put("target", p.Reclaim.Target)
	r.put("max_duration", p.Reclaim.MaxDuration)
	r.put("call_p99", p.Reclaim.CallP99)
	r.put("duty", p.Reclaim.Duty)
	r.put("abort_call", p.Reclaim.AbortCall)
	r.put("on_slow_call", p.Reclaim.OnSlowCall)
	r.put("lazy_free", p.Reclaim.LazyFree)
	r.put("cooldown", p.Reclaim.Cooldown)
	a := s.under(string(ReattachReplica))
	a.put("grace", p.Reattach.Grace)
	a.put("full_resync", p.Reattach.FullResync)
	a.put("cooldown", p.Reattach.Cooldown)
	a.put("undone", p.Reattach.Undone)
	a.put("config_rewrite", p.Reattach.ConfigRewrite)
	u := s.under(string(PurgeMemory))
	u.put("cooldown", p.Purge.Cooldown)
	e := s.under(string(EvictNearExpiry))
	e.put("horizon", p.Evict.Horizon)
	e.put("allow", p.Evict.Allow)
	e.put("protect", p.Evict.Protect)
	e.put("max_keys", p.Evict.MaxKeys)
	e.put("max_mb", p.Evict.MaxMB)
	e.put("cooldown", p.Evict.Cooldown)
	k := s.under(string(KillIdleClients))
	k.put("idle", p.Kill.Idle)
	k.put("target", p.Kill.Target)
	k.put("max_clients", p.Kill.MaxClients)
	k.put("protect", p.Kill.Protect)
	k.put("cooldown", p.Kill.Cooldown)
	for _, below := range []*settings{r, a, u, e, k} {
		s.take(below)
	}
	return s
}
