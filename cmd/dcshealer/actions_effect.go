package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"dcshealer/policies"
)

// recordView is one decision as actions show and the page have it: the record, what it comes to in words, and what lifts a denial.
type recordView struct {
	policies.Record
	Guards     []whyRuling `json:"guards"`
	Conclusion string      `json:"conclusion"`
	Brought    []string    `json:"effect_text"` // the effect, in words
}

func viewOf(r policies.Record) recordView {
	return recordView{r, lifted(r.Guards, r.Instance, r.Action), conclusionOf(r), effectText(r)}
}

// conclusionOf answers whether it acted, and why.
func conclusionOf(r policies.Record) string {
	what := fmt.Sprintf("%s on %s", r.Action, r.Node)
	switch {
	case r.Outcome == policies.OutcomeRunning:
		return what + " is under way"
	case len(r.Commands) > 0:
		return fmt.Sprintf("it acted: %s %s%s", what, r.Outcome, outcomeText(r))
	case r.Action == "" && r.Error != "":
		return "it did not act: " + r.Error
	case r.Action == "":
		return "it did not act: no action cures this"
	case r.Outcome == policies.OutcomePlanned:
		return "it did not act, for this is a dry run; to let it act: " + policies.Lift(policies.GuardMode, r.Instance, r.Action)
	case len(r.DeniedBy) > 0:
		return fmt.Sprintf("it did not act: %s is denied by %s", what, join(r.DeniedBy))
	case r.Error != "":
		return fmt.Sprintf("it did not act: %s", r.Error)
	}
	return fmt.Sprintf("%s: %s", what, r.Outcome)
}

// effectNames are those of fields whose own names say little.
var effectNames = map[string]string{
	"db": "by database", "visited": "keys visited", "p99_call": "of the calls 99 % took at most", "slowed": "what made it slower",
	"rtt_before": "round trip before", "rtt_during": "round trip meanwhile", "rtt_during_most": "the longest round trip meanwhile",
	"by_pattern": "by pattern", "found_in_part": "found by looking at a part", "call": "the call took",
}

// effects tells the fields of an effect in words, and knows which it has told.
type effects struct {
	of    map[string]any
	lines []string
}

// effectText is what an action brought, one thing a line. A field that has no words here is told by its name.
func effectText(r policies.Record) []string {
	e := effects{maps.Clone(r.Effect), []string{}}
	e.replication()
	e.cleaning()
	e.clients()
	e.flag("solved", "the alarm is solved", "the alarm is not solved")
	if by, ok := e.take("bypassed"); ok {
		e.say("a person let a denial pass: %s", effectValue("", by))
	}
	for _, name := range slices.Sorted(maps.Keys(e.of)) {
		v, _ := e.take(name)
		if text := effectValue(name, v); text != "" {
			e.say("%s: %s", cmp.Or(effectNames[name], strings.ReplaceAll(name, "_", " ")), text)
		}
	}
	return e.lines
}

func (e *effects) say(format string, args ...any) {
	e.lines = append(e.lines, fmt.Sprintf(format, args...))
}

func (e *effects) take(name string) (v any, ok bool) {
	v, ok = e.of[name]
	delete(e.of, name)
	return v, ok && v != nil
}

func (e *effects) number(name string) (float64, bool) {
	v, _ := e.take(name)
	n, ok := v.(float64)
	return n, ok
}

func (e *effects) text(name string) string {
	s, ok := e.of[name].(string)
	if ok {
		delete(e.of, name)
	}
	return s
}

func (e *effects) flag(name, yes, no string) {
	if v, ok := e.take(name); ok && v == true {
		e.say("%s", yes)
	} else if ok && no != "" {
		e.say("%s", no)
	}
}

// change tells two numbers as before and after; both are taken.
func (e *effects) change(what, before, after string, unit func(float64) string) {
	b, ok := e.number(before)
	a, ok2 := e.number(after)
	if ok && ok2 {
		e.say("%s: %s, was %s", what, unit(a), unit(b))
	}
}

func (e *effects) replication() {
	if n, ok := e.number("link_up_after"); ok && n > 0 {
		e.say("link up after %s", span(ofSeconds(n)))
	}
	seen, foretold := e.text("resync"), e.text("predicted")
	right, judged := e.take("as_predicted")
	switch {
	case seen != "" && judged && right == true:
		e.say("a %s resync, as predicted", seen)
	case seen != "" && judged:
		e.say("a %s resync, predicted was a %s one", seen, foretold)
	case seen == "unknown":
		e.say("the kind of resync is not known, predicted was a %s one", foretold)
	}
	e.flag("attached", "it follows its master", "it does not follow its master")
	if n, ok := e.number("lag_bytes"); ok {
		e.say("%s behind its master", size(n))
	}
	m, ok := e.number("master_keys")
	if r, ok2 := e.number("replica_keys"); ok && ok2 {
		e.say("%s keys on the master, %s on the replica", whole(m), whole(r))
	}
	e.flag("persistent", "written to its config file", "not written to its config file: a restart would undo it")
}

func (e *effects) cleaning() {
	keys, ok := e.number("keys")
	foretold, known := e.number("predicted_keys")
	switch {
	case ok && known:
		e.say("%s keys deleted, predicted were %s", whole(keys), whole(foretold))
	case ok:
		e.say("%s keys deleted", whole(keys))
	}
	if n, ok := e.number("unknown"); ok && n > 0 {
		e.say("whether %s more were deleted is not known", whole(n))
	}
	freed, ok := e.number("bytes")
	foretold, known = e.number("predicted_bytes")
	switch {
	case ok && known:
		e.say("%s freed, predicted were %s", size(freed), size(foretold))
	case ok:
		e.say("%s freed", size(freed))
	}
	e.change("memory that counts", "counted_before", "counted_after", size)
	e.change("memory in use", "used_before", "used_after", size)
	e.change("resident memory", "rss_before", "rss_after", size)
	e.flag("writes_accepted", "writes are accepted", "writes are still refused")
	took, ok := e.number("took")
	calls, counted := e.number("calls")
	switch longest, _ := e.number("longest_call"); {
	case ok && counted:
		e.say("it took %s by %s calls, the longest %s", span(ofSeconds(took)), whole(calls), secondsText(longest))
	case ok:
		e.say("it took %s", span(ofSeconds(took)))
	}
	why := e.text("stop")
	if detail := e.text("detail"); detail != "" {
		why = detail
	}
	if why != "" {
		e.say("stopped: %s", why)
	}
}

func (e *effects) clients() {
	if n, ok := e.number("closed"); ok {
		e.say("%s clients closed", whole(n))
	}
	e.change("connections", "connected_before", "connected_after", whole)
}

// outcomeText is what an action brought, in short.
func outcomeText(r policies.Record) string {
	e := effects{of: maps.Clone(r.Effect)}
	var parts []string
	if n, ok := e.number("link_up_after"); ok && n > 0 {
		parts = append(parts, "link up after "+span(ofSeconds(n)))
	}
	if kind := e.text("resync"); kind != "" && kind != "unknown" {
		parts = append(parts, "a "+kind+" resync")
	}
	if n, ok := e.number("keys"); ok {
		parts = append(parts, whole(n)+" keys deleted")
	}
	if n, ok := e.number("bytes"); ok {
		parts = append(parts, size(n)+" freed")
	}
	if n, ok := e.number("closed"); ok {
		parts = append(parts, whole(n)+" clients closed")
	}
	if r.Error != "" {
		parts = append(parts, r.Error)
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

func whole(n float64) string { return humanize.Commaf(math.Round(n*100) / 100) }

func size(n float64) string {
	if math.Abs(n) < 1<<20 {
		return whole(n) + " bytes"
	}
	return mebibytes(int64(n)) + " MiB"
}

// effectValue is a value in the unit that its name tells; empty where there is nothing to tell.
func effectValue(name string, v any) string {
	n, ok := v.(float64)
	switch {
	case ok && strings.HasSuffix(name, "bytes"):
		return size(n)
	case ok && (strings.HasPrefix(name, "rtt") || strings.HasSuffix(name, "call")):
		return secondsText(n)
	case ok:
		return whole(n)
	}
	switch v := v.(type) {
	case nil:
		return ""
	case bool:
		return map[bool]string{true: "yes", false: "no"}[v]
	case []any:
		parts := make([]string, len(v))
		for i, x := range v {
			parts[i] = effectValue("", x)
		}
		return strings.Join(parts, ", ")
	case map[string]any:
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			text := effectValue(k, v[k])
			if _, nested := v[k].(map[string]any); nested {
				text = "(" + text + ")"
			}
			if text != "" {
				parts = append(parts, strings.ReplaceAll(k, "_", " ")+" "+text)
			}
		}
		return strings.Join(parts, ", ")
	}
	return fmt.Sprint(v)
}
