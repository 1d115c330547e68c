package policies

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func twoInstances() Config {
	c := DefaultConfig()
	c.Instances = []Instance{
		{Name: "one", ManagedBy: ManagedByNone, Password: "bait-one", TLS: &TLS{CAFile: "/ca.pem", Digest: "d1"}, Renamed: Renames{"config": "conf7"}, Live: []Action{ReattachReplica},
			Ladder: []Action{PurgeMemory}, Nodes: []Node{{Name: "one-m", Address: Address{"10.0.0.1", 6379}, Role: RoleMaster}}},
		{Name: "two", ManagedBy: ManagedByNone, Policy: "strict", Nodes: []Node{{Name: "two-m", Address: Address{"10.0.0.2", 6379}, Role: RoleMaster}}},
	}
	c.Policies["strict"] = PresetDCS()
	c.Notify.Receivers = []Receiver{{Name: "oncall", URL: "smtp://bait@h", Events: []NoticeKind{NoticeAlarm}}}
	return c
}

// policyOf changes one policy.
func policyOf(c *Config, name string, change func(*Policy)) {
	p := c.Policies[name]
	change(&p)
	c.Policies[name] = p
}

func TestConfigDiff(t *testing.T) {
	for name, tt := range map[string]struct {
		change                    func(*Config)
		want                      []string
		added, removed, changed   []string
		reconnect, needsAnRestart []string
	}{
		"nothing":                {change: func(*Config) {}},
		"the order of instances": {change: func(c *Config) { slices.Reverse(c.Instances) }},
		"a live list": {change: func(c *Config) { c.Instances[1].Live = []Action{ReclaimExpired} },
			want: []string{"instances.two.live: [] -> [reclaim-expired]"}, changed: []string{"two"}},
		"a threshold touches who uses the policy": {change: func(c *Config) { policyOf(c, "strict", func(p *Policy) { p.UsedMemory.Critical = 75 }) },
			want: []string{"policies.strict.thresholds.used_memory: {warning: 60%, critical: 70%, clear: 5%, for: 2} -> {warning: 60%, critical: 75%, clear: 5%, for: 2}"}, changed: []string{"two"}},
		"another policy":            {change: func(c *Config) { c.Instances[1].Policy = "" }, want: []string{"instances.two.policy: strict -> default"}, changed: []string{"two"}},
		"a policy that nobody uses": {change: func(c *Config) { c.Policies["new"] = PresetDefault() }, want: []string{"policies.new: added"}},
		"a policy that goes": {change: func(c *Config) { delete(c.Policies, "strict"); c.Instances[1].Policy = "" },
			want: []string{"instances.two.policy: strict -> default", "policies.strict: removed"}, changed: []string{"two"}},
		"a password shows nothing": {change: func(c *Config) { c.Instances[0].Password = "bait-new" },
			want: []string{"instances.one.password: changed"}, changed: []string{"one"}, reconnect: []string{"one"}},
		"a renewed certificate": {change: func(c *Config) { c.Instances[0].TLS = &TLS{CAFile: "/ca.pem", Digest: "d2"} },
			want: []string{"instances.one.tls.files: changed"}, changed: []string{"one"}, reconnect: []string{"one"}},
		"TLS given up": {change: func(c *Config) { c.Instances[0].TLS = nil },
			want: []string{"instances.one.tls.ca_file: removed, was /ca.pem", "instances.one.tls.cert_file: removed", "instances.one.tls.key_file: removed",
				"instances.one.tls.server_name: removed", "instances.one.tls.files: removed"}, changed: []string{"one"}, reconnect: []string{"one"}},
		"a node": {change: func(c *Config) {
			c.Instances[1].Nodes = append(c.Instances[1].Nodes, Node{Name: "two-r", Address: Address{"10.0.0.3", 6379}, Role: RoleReplica, PeerAddress: Address{"172.16.0.3", 6379}})
		}, want: []string{"instances.two.nodes.two-r: added, 10.0.0.3:6379 replica, for its peers 172.16.0.3:6379"}, changed: []string{"two"}, reconnect: []string{"two"}},
		"instances come and go": {change: func(c *Config) {
			c.Instances = []Instance{c.Instances[1], {Name: "three", Nodes: []Node{{Name: "three-m", Address: Address{"10.0.0.9", 6379}}}}}
		}, want: []string{"instances.one: removed, was one-m at 10.0.0.1:6379", "instances.three: added, three-m at 10.0.0.9:6379"}, added: []string{"three"}, removed: []string{"one"}},
		"the pace touches all": {change: func(c *Config) { c.Agent.Interval = 2 * time.Minute }, want: []string{"agent.interval: 5s -> 2m"}, changed: []string{"one", "two"}},
		"the timeout reconnects all": {change: func(c *Config) { c.Agent.Timeout = time.Hour }, want: []string{"agent.timeout: 2s -> 1h"},
			changed: []string{"one", "two"}, reconnect: []string{"one", "two"}},
		"a receiver shows no secret": {change: func(c *Config) {
			c.Notify.Receivers = []Receiver{{Name: "oncall", URL: "smtp://bait2@h", HMACKeys: []Secret{"bait-key"}, Events: []NoticeKind{NoticeAlarm, NoticeRepair}}}
		}, want: []string{"notify.receivers.oncall.url: changed", "notify.receivers.oncall.hmac_keys: added", "notify.receivers.oncall.events: [alarm] -> [alarm, repair]"}},
		"the budget touches no machine": {change: func(c *Config) { c.Budget.Storm = 40 }, want: []string{"budget.storm: 30% -> 40%"}},
		"what is taken at the start": {change: func(c *Config) {
			c.Bus.URL, c.Bus.Prefix, c.StateDir, c.Listen = "redis://u:bait@h:1", "p", "/else", ""
		},
			want:           []string{"bus.url: changed", "bus.prefix: redis:monitor -> p", "state_dir: ./state -> /else", `listen: 127.0.0.1:9470 -> ""`},
			needsAnRestart: []string{"bus.url", "bus.prefix", "state_dir", "listen"}},
	} {
		t.Run(name, func(t *testing.T) {
			after := twoInstances()
			tt.change(&after)
			d := ConfigDiffOf(twoInstances(), after)
			var got, reconnect, restart []string
			for _, c := range d.Changes {
				got = append(got, c.String())
			}
			for _, f := range d.NeedRestart("f.yaml") {
				restart = append(restart, f.Path)
				if !strings.Contains(f.Error(), "restart dcshealer run") {
					t.Errorf("%s: does not say what to do", f.Error())
				}
			}
			for _, name := range d.Changed {
				if d.Reconnect[name] {
					reconnect = append(reconnect, name)
				}
			}
			for _, x := range [][2][]string{{got, tt.want}, {d.Added, tt.added}, {d.Removed, tt.removed}, {d.Changed, tt.changed}, {reconnect, tt.reconnect}, {restart, tt.needsAnRestart}} {
				if !slices.Equal(x[0], x[1]) {
					t.Errorf("got\n%q, want\n%q", x[0], x[1])
				}
			}
			if all := strings.Join(got, " "); strings.Contains(all, "bait") {
				t.Errorf("a secret is shown: %s", all)
			}
		})
	}
}

// Every field of a config shows in the diff: a setting that did not would be changed without a word, or not at all.
func TestConfigDiffSeesEverySetting(t *testing.T) {
	before := twoInstances()
	before.Bus.TLS = &TLS{}
	before.Instances[0].Policy = "strict"
	policyOf(&before, "strict", func(p *Policy) { p.Windows = []Window{{Cron: "0 2 * * *", Duration: time.Hour}} })
	seen := 0
	for _, path := range leaves(reflect.TypeFor[Config](), nil) {
		if slices.Contains([]string{"File", "Bus.TLS.Digest", "Instances.Name", "Instances.Nodes.Name", "Notify.Receivers.Name", "Policies.Windows.Next"}, path.name) {
			continue
		}
		after := before
		after.Instances, after.Notify.Receivers = slices.Clone(before.Instances), slices.Clone(before.Notify.Receivers)
		after.Instances[0].Nodes = slices.Clone(before.Instances[0].Nodes)
		tls, busTLS := *before.Instances[0].TLS, *before.Bus.TLS
		after.Instances[0].TLS, after.Bus.TLS = &tls, &busTLS
		p := before.Policies["strict"]
		p.Windows = slices.Clone(p.Windows)
		root := reflect.ValueOf(&after).Elem()
		if path.policy {
			root = reflect.ValueOf(&p).Elem()
		}
		mutate(t, path.name, path.find(root))
		after.Policies = map[string]Policy{"default": before.Policies["default"], "strict": p}
		d := ConfigDiffOf(before, after)
		if len(d.Changes) != 1 {
			t.Errorf("%s: %v, want one change", path.name, d.Changes)
		}
		if top, _, _ := strings.Cut(path.name, "."); (top == "Instances" || top == "Policies") && !slices.Contains(d.Changed, "one") {
			t.Errorf("%s: %v, and its instance goes on as it was", path.name, d.Changes)
		}
		seen++
	}
	if seen < 60 {
		t.Errorf("%d settings were tried", seen)
	}
}

// A leaf is a field that holds one setting.
type leaf struct {
	name   string
	steps  []int
	policy bool // the steps start at a policy
}

// find follows the steps, through the first element of each list.
func (l leaf) find(v reflect.Value) reflect.Value {
	for _, s := range l.steps {
		for v.Kind() == reflect.Pointer || v.Kind() == reflect.Slice {
			if v.Kind() == reflect.Slice {
				v = v.Index(0)
			} else {
				v = v.Elem()
			}
		}
		v = v.Field(s)
	}
	return v
}

func leaves(t reflect.Type, at []int) (out []leaf) {
	for i := range t.NumField() {
		f := t.Field(i)
		steps, policy, inner := append(slices.Clone(at), i), false, f.Type
		switch {
		case inner == reflect.TypeFor[Address]():
			inner = nil
		case inner.Kind() == reflect.Map && inner.Elem().Kind() == reflect.Struct:
			inner, steps, policy = inner.Elem(), nil, true
		case inner.Kind() == reflect.Pointer, inner.Kind() == reflect.Slice:
			inner = inner.Elem()
		}
		if inner == nil || inner.Kind() != reflect.Struct {
			out = append(out, leaf{f.Name, steps, false})
			continue
		}
		for _, l := range leaves(inner, steps) {
			out = append(out, leaf{f.Name + "." + l.name, l.steps, l.policy || policy})
		}
	}
	return out
}

func mutate(t *testing.T, name string, v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[Address]():
		v.Set(reflect.ValueOf(Address{"10.9.9.9", 1}))
	case v.Kind() == reflect.String:
		v.SetString(v.String() + "x")
	case v.CanInt():
		v.SetInt(v.Int() + 1)
	case v.CanFloat():
		v.SetFloat(v.Float() + 1)
	case v.Kind() == reflect.Bool:
		v.SetBool(!v.Bool())
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.String:
		v.Set(reflect.Append(v, reflect.ValueOf("x").Convert(v.Type().Elem())))
	case v.Type() == reflect.TypeFor[Renames]():
		v.Set(reflect.ValueOf(Renames{"config": "other"}))
	default:
		t.Fatalf("%s: the test knows no other value of a %v", name, v.Type())
	}
}
