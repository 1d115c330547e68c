package policies

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Bounds of the collection loop.
const (
	MinInterval = 100 * time.Millisecond
	MinTimeout  = 50 * time.Millisecond
)

// NameRule is what a name of an instance, a node or a policy must be.
const NameRule = "a name of 1 to 64 of the characters A-Z a-z 0-9 . _ -, not beginning with . or -"

// Check holds the config against every rule that needs no file, no network and no clock, and returns all faults, each
// with the path of its setting, in the order of the file's sections. None: the config may be used.
func (c Config) Check() []FieldError {
	r := &rules{}
	r.bus(c.Bus)
	r.check(validListen(c.Listen), "listen", c.Listen,
		"HOST:PORT such as 127.0.0.1:9470 (0.0.0.0:9470: every interface; port 0: a free one), or \"\" for none")
	r.dashboard(c)
	r.agent(c.Agent)
	r.instances(c)
	for _, name := range slices.Sorted(maps.Keys(c.Policies)) {
		r.policy(JoinPath("policies", name), name, c.Policies[name])
	}
	r.budget(c.Budget)
	r.journal(c)
	r.archive(c.Archive)
	r.notify(c)
	return r.faults
}

// rules collects faults.
type rules struct{ faults []FieldError }

// check notes a fault unless ok. with are the paths of the settings that the rule compares this one with.
func (r *rules) check(ok bool, path string, got any, want string, with ...string) {
	if ok {
		return
	}
	f := FieldError{Path: path, Got: fmt.Sprint(got), Want: want}
	for _, p := range with {
		f.With = append(f.With, Place{Path: p})
	}
	r.faults = append(r.faults, f)
}

func (r *rules) bus(b BusConfig) {
	bad := b.Prefix == "" || strings.ContainsFunc(b.Prefix, func(c rune) bool {
		return c <= ' ' || c == 0x7f || strings.ContainsRune(`*?[]\^`, c)
	})
	r.check(!bad, "bus.prefix", b.Prefix, `the start of the channel names, such as redis:monitor, without spaces and without * ? [ ] \ ^`)
	r.check(!b.RequireSignature || b.HMACKeyFile != "", "bus.require_signature", b.RequireSignature,
		"it with bus.hmac_key_file: without a key no alarm from the bus could be verified")
}

func (r *rules) agent(a AgentConfig) {
	r.check(a.Interval >= MinInterval, "agent.interval", a.Interval, fmt.Sprintf("at least %v", MinInterval))
	r.check(a.Timeout >= MinTimeout, "agent.timeout", a.Timeout, fmt.Sprintf("at least %v", MinTimeout))
	r.check(a.Repeat > 0 && a.Repeat >= a.Interval, "agent.repeat", a.Repeat,
		fmt.Sprintf("at least agent.interval, %v: alarms cannot repeat faster than nodes are probed", a.Interval), "agent.interval")
}

func (r *rules) budget(b Budget) {
	r.check(b.ConcurrentActions >= 1, "budget.concurrent_actions", b.ConcurrentActions, "at least 1 (run --dry-run sends nothing at all)")
	r.check(b.FullResyncs >= 1, "budget.full_resyncs", b.FullResyncs, "at least 1 (full_resync: deny in a policy forbids them)")
	r.check(b.Storm >= 1 && b.Storm <= 100, "budget.storm", b.Storm, "from 1% to 100%")
}

// MinKeep is the least that a journal keeps where it drops anything: what guards count back by is well within it.
const MinKeep = 7 * 24 * time.Hour

func (r *rules) journal(c Config) {
	keep := c.Journal.Keep
	r.check(keep == 0 || keep >= MinKeep, "journal.keep", keep, "at least 7d (or 0: for ever)")
	if keep < MinKeep {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(c.Policies)) {
		for _, a := range Actions {
			rest, path := c.Policies[name].Cooldown(a), JoinPath("policies", name)+".remediation."+string(a)+".cooldown"
			r.check(keep > rest, "journal.keep", keep, fmt.Sprintf("more than the cooldown %v, which is counted from the journal", rest), path)
		}
	}
}

// MinArchive is the least that an archive is bounded to, in MiB: less holds no day of a busy fleet.
const MinArchive = 16

func (r *rules) archive(a ArchiveConfig) {
	r.check(a.Keep == 0 || a.Keep >= time.Hour, "archive.keep", a.Keep, "at least 1h (or 0: for ever)")
	r.check(a.MaxMB == 0 || a.MaxMB >= MinArchive && a.MaxMB <= 1<<20, "archive.max_mb", a.MaxMB, fmt.Sprintf("from %d to %d (or 0: no bound)", MinArchive, 1<<20))
}

// validName holds NameRule: a name is a word of a command line that is no flag, and the start of a file's name that is not hidden.
func validName(s string) bool {
	return len(s) >= 1 && len(s) <= 64 && s[0] != '.' && s[0] != '-' && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-'
	})
}

// validListen takes what ParseAddress takes, port 0 and nothing at all.
func validListen(s string) bool {
	if s == "" {
		return true
	}
	if host, free := strings.CutSuffix(s, ":0"); free {
		s = host + ":1"
	}
	_, err := ParseAddress(s)
	return err == nil
}
