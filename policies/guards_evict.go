package policies

import (
	"fmt"
	"slices"
	"strings"
)

// EvictFacts is what the guards of evict-near-expiry need: those of the sweep, and what a look at the keys of a replica found.
type EvictFacts struct {
	ReclaimFacts
	Near    Estimate // live keys that may go; Keys unknown: there is no replica in step to look at
	NearErr string   // why the keys of a replica in step could not be looked at; empty: they could, or there is none
}

// PlanEvict makes the plan that deletes keys near their expiry, and asks every guard. It sends nothing.
func PlanEvict(f EvictFacts, cause Cause) Plan {
	e, known := f.Policy.Evict, f.Near.Keys.Known
	p := Plan{Action: EvictNearExpiry, Node: f.M.Node, Mode: f.Mode, Cause: cause, Guards: EvictGuards(f),
		Commands: [][]string{{"EVAL", "near-expiry", "UNLINK of " + e.String()}},
		Expect:   Expect{Bytes: f.Near.Bytes, Known: &known, Method: f.Near.Method}}
	if !known {
		p.Expect.Method = cmpOr(f.NearErr, cmpOr(f.Near.Method, NotKnownWithoutActing))
	}
	if !known && f.NearErr == "" && e.Fault() == "" { // the keys are looked for on the master itself
		p.Commands = append(p.Commands, []string{"SCAN", "cursor", "COUNT", "n"}, []string{"PTTL", "key"})
	}
	p.Decide()
	return p
}

// NotKnownWithoutActing is how an estimate is described that only acting could make.
const NotKnownWithoutActing = "not known without acting"

// EvictGuards asks every guard of evict-near-expiry, the common ones first.
func EvictGuards(f EvictFacts) []Ruling {
	return append(CommonGuards(f.Facts),
		Rule(GuardOptIn, f.optIn()),
		Rule(GuardPatterns, f.patterns()),
		Rule(GuardVictims, f.victims()),
		Rule(GuardIsMaster, f.isMaster()),
		Rule(GuardBusy, f.busy()),
		Rule(GuardLatency, f.latency()),
	)
}

func (f EvictFacts) patterns() Verdict {
	if fault := f.Policy.Evict.Fault(); fault != "" {
		return deny("%s", fault)
	}
	return allow("%s", f.Policy.Evict)
}

// Fault says why no key may go under this policy, and what to set; empty: some may.
func (e Evict) Fault() string {
	const at = "remediation.evict-near-expiry"
	switch {
	case len(e.Allow) == 0:
		return "no key may go: name those that may in " + at + ".allow, such as [\"cache:*\"]"
	case e.Horizon <= 0 || e.MaxKeys <= 0 || e.MaxMB <= 0:
		return at + " has no bounds: set horizon, max_keys and max_mb above 0"
	}
	for _, p := range slices.Concat(e.Allow, e.Protect) {
		if !ValidPattern(p) || ambiguous(p) {
			return fmt.Sprintf("the pattern %q of %s can be read in more than one way: close every [, and write no \\ and no - that is no range inside it", p, at)
		}
	}
	return ""
}

// ambiguous reports a set that a server reads otherwise than MatchPattern: with a \ in it, or a - that stands for no range.
func ambiguous(p string) bool {
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '\\':
			i++
		case '[':
			n := strings.IndexByte(p[i:], ']')
			if n < 2 {
				return true
			}
			if set := p[i+1 : i+n]; strings.Contains(set, `\`) || strings.HasSuffix(set, "-") || set == "^" {
				return true
			}
			i += n
		}
	}
	return false
}

func (f EvictFacts) victims() Verdict {
	d, n, e, node := f.Diagnosis, f.Near, f.Policy.Evict, f.M.Node
	need := fmt.Sprintf("%.1f MiB must come free for the alarm to clear", mebi1(d.Need))
	switch vol := f.M.Volatile(); {
	case !d.Known || !vol.Known:
		return deny("the memory of %s could not be read in full", node)
	case d.Cause == CauseClientBuffers || d.Cause == CauseReplicationBuffers:
		return deny("%s hold the memory of %s: no key that goes would free them", strings.ReplaceAll(string(d.Cause), "-", " "), node)
	case vol.V == 0:
		return deny("no key of %s has a TTL, 0 keys qualify; %s", node, need)
	case e.Fault() != "":
		return deny("0 keys qualify; %s", need)
	case f.NearErr != "":
		return deny("which keys of %s qualify could not be told: %s", node, f.NearErr)
	case !n.Keys.Known:
		return allow("how many keys qualify is %s; at most %d keys and %d MiB go at a time; %s", cmpOr(n.Method, NotKnownWithoutActing), e.MaxKeys, e.MaxMB, need)
	case n.Keys.V == 0:
		return deny("0 keys qualify (%s); %s", n.Method, need)
	case !n.Bytes.Known:
		return deny("about %d keys qualify and their size is not known, so that max_mb could not be kept: grant +memory|usage to the user", n.Keys.V)
	}
	return allow("about %d keys qualify, %.1f MiB (%s); at most %d keys and %d MiB go at a time; %s", n.Keys.V, mebi1(n.Bytes.V), n.Method, e.MaxKeys, e.MaxMB, need)
}

// mebi1 is MiB to a tenth.
func mebi1(n int64) float64 { return float64(n*10>>20) / 10 }

// Match is the index of the first pattern of Allow that the key's name is of; -1 where it is of none. protected reports that one of
// Protect has it too, which wins.
func (e Evict) Match(name string) (allowed int, protected bool) {
	allowed = -1
	for i, p := range e.Allow {
		if MatchPattern(p, name) {
			allowed = i
			break
		}
	}
	if allowed < 0 {
		return -1, false
	}
	for _, p := range e.Protect {
		if MatchPattern(p, name) {
			return allowed, true
		}
	}
	return allowed, false
}

// String says which keys may go, for a person.
func (e Evict) String() string {
	if len(e.Allow) == 0 {
		return "no keys"
	}
	s := "keys that match " + strings.Join(e.Allow, " or ")
	if len(e.Protect) > 0 {
		s += " and not " + strings.Join(e.Protect, " or ")
	}
	return s + fmt.Sprintf(", and expire within %s, the nearest first", e.Horizon)
}
