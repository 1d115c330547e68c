package policies

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// rightConfig keeps every rule.
func rightConfig() Config {
	c := DefaultConfig()
	c.Instances = []Instance{
		{Name: "a", Nodes: []Node{{Name: "a1", Address: Address{"10.0.0.1", 6379}, Role: RoleMaster}, {Name: "a2", Address: Address{"10.0.0.2", 6379}, Role: RoleReplica}}},
		{Name: "b", Nodes: []Node{{Name: "b1", Address: Address{"10.0.0.3", 6379}, Role: RoleMaster}}},
	}
	return c
}

func TestRightConfigsHaveNoFaults(t *testing.T) {
	for name, preset := range Presets() {
		c := rightConfig()
		c.Policies["default"] = preset
		c.Instances[0].Nodes[0].PeerAddress = Address{"172.16.0.1", 6379}
		c.Instances[0].Live, c.Instances[0].Ladder = Actions[:], LadderSteps[:]
		c.Listen = "127.0.0.1:0"
		if faults := c.Check(); len(faults) > 0 {
			t.Errorf("preset %s: %v", name, faults)
		}
	}
}

// Each change breaks one rule, by as little as possible where it is a bound; want lists the paths of the faults.
func TestEachRuleHasItsFault(t *testing.T) {
	policy := func(change func(*Policy)) func(*Config) {
		return func(c *Config) {
			p := c.Policies["default"]
			change(&p)
			c.Policies["default"] = p
		}
	}
	const th, rem = "policies.default.thresholds.", "policies.default.remediation."
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no instances", func(c *Config) { c.Instances = nil }, "instances"},
		{"prefix with a glob", func(c *Config) { c.Bus.Prefix = "redis:?" }, "bus.prefix"},
		{"listen without a port", func(c *Config) { c.Listen = "127.0.0.1" }, "listen"},
		{"every interface without a token", func(c *Config) { c.Listen = "0.0.0.0:9470" }, "listen"},
		{"beyond loopback with a token alone", func(c *Config) { c.Listen = "10.0.0.1:9470"; c.Dashboard.Token = "0123456789abcdef" }, "listen"},
		{"beyond loopback with TLS alone", func(c *Config) { c.Listen = "[::]:0"; c.Dashboard.CertFile = "/c" }, "listen"},
		{"a token that can be guessed", func(c *Config) { c.Dashboard.Token = "0123456789abcde" }, "dashboard.token_file"},
		{"interval below its bound", func(c *Config) { c.Agent.Interval = MinInterval - 1 }, "agent.interval"},
		{"timeout below its bound", func(c *Config) { c.Agent.Timeout = MinTimeout - 1 }, "agent.timeout"},
		{"repeat below the interval", func(c *Config) { c.Agent.Repeat = c.Agent.Interval - 1 }, "agent.repeat"},
		{"no actions", func(c *Config) { c.Budget.ConcurrentActions = 0 }, "budget.concurrent_actions"},
		{"no resyncs", func(c *Config) { c.Budget.FullResyncs = 0 }, "budget.full_resyncs"},
		{"storm over 100", func(c *Config) { c.Budget.Storm = 100.1 }, "budget.storm"},
		{"storm below 1", func(c *Config) { c.Budget.Storm = 0.9 }, "budget.storm"},
		{"instance without a name", func(c *Config) { c.Instances[1].Name = "" }, "instances[1].name"},
		{"instance name too long", func(c *Config) { c.Instances[1].Name = strings.Repeat("x", 65) }, "instances[1].name"},
		{"instance name twice", func(c *Config) { c.Instances[1].Name = "a" }, "instances[1].name"},
		{"no nodes", func(c *Config) { c.Instances[1].Nodes = nil }, "instances[1].nodes"},
		{"no master", func(c *Config) { c.Instances[1].Nodes[0].Role = RoleReplica }, "instances[1].nodes"},
		{"two masters", func(c *Config) { c.Instances[0].Nodes[1].Role = RoleMaster }, "instances[0].nodes[1].role"},
		{"no role", func(c *Config) { c.Instances[0].Nodes[0].Role = "" }, "instances[0].nodes[0].role"},
		{"node name with a slash", func(c *Config) { c.Instances[0].Nodes[0].Name = "a/1" }, "instances[0].nodes[0].name"},
		{"node name in two instances", func(c *Config) { c.Instances[1].Nodes[0].Name = "a2" }, "instances[1].nodes[0].name"},
		{"no address", func(c *Config) { c.Instances[1].Nodes[0].Address = Address{} }, "instances[1].nodes[0].address"},
		{"address twice", func(c *Config) { c.Instances[1].Nodes[0].Address = Address{"10.0.0.1", 6379} }, "instances[1].nodes[0].address"},
		{"peer address is another's address", func(c *Config) { c.Instances[0].Nodes[1].PeerAddress = Address{"10.0.0.1", 6379} }, "instances[0].nodes[1].peer_address"},
		{"address is another's peer address", func(c *Config) { c.Instances[0].Nodes[0].PeerAddress = Address{"10.0.0.2", 6379} }, "instances[0].nodes[1].address"},
		{"unknown action", func(c *Config) { c.Instances[0].Live = []Action{"flush"} }, "instances[0].live[0]"},
		{"action twice", func(c *Config) { c.Instances[0].Live = []Action{ReclaimExpired, ReclaimExpired} }, "instances[0].live[1]"},
		{"unknown policy", func(c *Config) { c.Instances[0].Policy = "prod" }, "instances[0].policy"},
		{"policy name", func(c *Config) { c.Policies["my policy"] = PresetDefault() }, `policies."my policy"`},
		{"memory warning at critical", policy(func(p *Policy) { p.UsedMemory.Warning = p.UsedMemory.Critical }), th + "used_memory.warning"},
		{"clients warning at critical", policy(func(p *Policy) { p.Clients.Warning = p.Clients.Critical }), th + "connected_clients.warning"},
		{"clients critical over 100", policy(func(p *Policy) { p.Clients.Critical = 101 }), th + "connected_clients.critical"},
		{"warning of nothing", policy(func(p *Policy) { p.Clients.Warning = 0 }), th + "connected_clients.warning"},
		{"clear at warning", policy(func(p *Policy) { p.Clients.Clear = p.Clients.Warning }), th + "connected_clients.clear"},
		{"negative clear", policy(func(p *Policy) { p.Clients.Clear = -1 }), th + "connected_clients.clear"},
		{"for of 0", policy(func(p *Policy) { p.UsedMemory.For = 0 }), th + "used_memory.for"},
		{"for of 101", policy(func(p *Policy) { p.Clients.For = MaxFor + 1 }), th + "connected_clients.for"},
		{"slowlog of 0", policy(func(p *Policy) { p.Slowlog.Bound = 0 }), th + "slowlog.warning"},
		{"slowlog window", policy(func(p *Policy) { p.Slowlog.Window = 0 }), th + "slowlog.window"},
		{"evictions of 0", policy(func(p *Policy) { p.EvictedKeys.Bound = 0 }), th + "evicted_keys.notice"},
		{"evictions window", policy(func(p *Policy) { p.EvictedKeys.Window = 0 }), th + "evicted_keys.window"},
		{"critical_after below 0", policy(func(p *Policy) { p.Replication.CriticalAfter = -1 }), th + "replication.critical_after"},
		{"target above the clear level", policy(func(p *Policy) { p.Reclaim.Target = p.UsedMemory.CriticalClear() + 0.1 }), rem + "reclaim-expired.target"},
		{"target of 0", policy(func(p *Policy) { p.Reclaim.Target = 0 }), rem + "reclaim-expired.target"},
		{"max_duration of 0", policy(func(p *Policy) { p.Reclaim.MaxDuration = 0 }), rem + "reclaim-expired.max_duration"},
		{"call_p99 of 0", policy(func(p *Policy) { p.Reclaim.CallP99 = 0 }), rem + "reclaim-expired.call_p99"},
		{"duty below 1", policy(func(p *Policy) { p.Reclaim.Duty = 0.9 }), rem + "reclaim-expired.duty"},
		{"abort_call at call_p99", policy(func(p *Policy) { p.Reclaim.AbortCall = p.Reclaim.CallP99 }), rem + "reclaim-expired.abort_call"},
		{"reclaim cooldown below 0", policy(func(p *Policy) { p.Reclaim.Cooldown = -1 }), rem + "reclaim-expired.cooldown"},
		{"grace below 0", policy(func(p *Policy) { p.Reattach.Grace = -1 }), rem + "reattach-replica.grace"},
		{"reattach cooldown below 0", policy(func(p *Policy) { p.Reattach.Cooldown = -1 }), rem + "reattach-replica.cooldown"},
		{"undone below 0", policy(func(p *Policy) { p.Reattach.Undone = -1 }), rem + "reattach-replica.undone"},
		{"window without a duration", policy(func(p *Policy) { p.Windows = []Window{{Duration: time.Hour}, {}} }), "policies.default.windows[1].duration"},
	} {
		cfg := rightConfig()
		c.change(&cfg)
		var got []string
		for _, f := range cfg.Check() {
			got = append(got, f.Path)
		}
		if !slices.Equal(got, []string{c.want}) {
			t.Errorf("%s: faults at %q, want one at %s", c.name, got, c.want)
		}
	}
}

func TestBoundsThemselvesAreAllowed(t *testing.T) {
	c := rightConfig()
	c.Agent = AgentConfig{Interval: MinInterval, Timeout: MinTimeout, Repeat: MinInterval}
	c.Budget = Budget{ConcurrentActions: 1, FullResyncs: 1, Storm: 1}
	c.Instances[0].Name = strings.Repeat("x", 64)
	p := PresetDefault()
	p.UsedMemory.For, p.Clients.For, p.Clients.Clear, p.Clients.Critical = 1, MaxFor, 0, 100
	p.Reclaim = Reclaim{Target: p.UsedMemory.CriticalClear(), MaxDuration: 1, CallP99: 1, Duty: 100, AbortCall: 2}
	p.Reattach = Reattach{}
	c.Policies["default"] = p
	if faults := c.Check(); len(faults) > 0 {
		t.Error(faults)
	}
}

func TestTwoSpellingsOfOneAddressAreOnePlace(t *testing.T) {
	for _, c := range []struct {
		a, b Address
		same bool
	}{
		{Address{"Redis.Internal", 1}, Address{"redis.internal.", 1}, true},
		{Address{"localhost", 1}, Address{"127.0.0.1", 1}, true},
		{Address{"LOCALHOST", 1}, Address{"127.0.0.1", 2}, false},
		{Address{"10.0.0.1", 1}, Address{"10.0.0.2", 1}, false},
	} {
		if got := samePlace(c.a) == samePlace(c.b); got != c.same {
			t.Errorf("%v and %v: same place %v, want %v", c.a, c.b, got, c.same)
		}
	}
}

func TestFieldErrorText(t *testing.T) {
	for want, f := range map[string]FieldError{
		`f.yaml:14: a.b: got "-5s", want more`:                         {File: "f.yaml", Line: 14, Path: "a.b", Got: "-5s", Want: "more"},
		`f.yaml: got a list, want a mapping`:                           {File: "f.yaml", Got: "a list", Bare: true, Want: "a mapping"},
		`f.yaml:1: a: got nothing, want one`:                           {File: "f.yaml", Line: 1, Path: "a", Want: "one"},
		`f.yaml:1: a: got "1" by default, want two`:                    {File: "f.yaml", Line: 1, Path: "a", Got: "1", Want: "two", Default: true},
		`f.yaml:1: a: got "x\n\x1b", want y`:                           {File: "f.yaml", Line: 1, Path: "a", Got: "x\n\x1b", Want: "y"},
		`f:1: a: got "1", want 2 (b: line 3, c: default)`:              {File: "f", Line: 1, Path: "a", Got: "1", Want: "2", With: []Place{{"b", 3}, {Path: "c"}}},
		`f:1: a: got "` + strings.Repeat("x", MaxGot) + `...", want y`: {File: "f", Line: 1, Path: "a", Got: strings.Repeat("x", 1000), Want: "y"},
	} {
		if got := f.Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestPercentPrintsAsTheFileWritesIt(t *testing.T) {
	want := []string{"80%", "99.97%", "94.97%", "0%", "0.5%"}
	got := []string{}
	for _, p := range []Percent{80, 99.97, Percent(99.97) - 5, 0, 0.5} {
		got = append(got, fmt.Sprint(p))
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
