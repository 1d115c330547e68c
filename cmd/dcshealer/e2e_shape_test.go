package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// What a JSON value must look like: object for an object, list for an array of one form, a function for a leaf. A key that ends
// in "?" may be missing. Further keys are allowed, as outside readers have to allow them.
type (
	object map[string]any
	list   struct{ of any }
	leaf   func(v any) bool
)

var (
	isText    leaf = func(v any) bool { _, ok := v.(string); return ok }
	isNumber  leaf = func(v any) bool { _, ok := v.(float64); return ok }
	isBool    leaf = func(v any) bool { _, ok := v.(bool); return ok }
	isObject  leaf = func(v any) bool { _, ok := v.(map[string]any); return ok }
	isReading leaf = func(v any) bool { return isText(v) || isNumber(v) }
	isTime    leaf = func(v any) bool {
		s, ok := v.(string)
		at, err := time.Parse(time.RFC3339, s)
		return ok && err == nil && at.Location() == time.UTC
	}
)

func oneOfTexts(allowed ...string) leaf {
	return func(v any) bool { s, ok := v.(string); return ok && slices.Contains(allowed, s) }
}

// orNull is a leaf that may be unknown.
func orNull(l leaf) leaf { return func(v any) bool { return v == nil || l(v) } }

func matches(t *testing.T, path string, v, want any) {
	t.Helper()
	switch w := want.(type) {
	case leaf:
		if !w(v) {
			t.Errorf("%s: %v (%T) is not what it should be", path, v, v)
		}
	case list:
		items, ok := v.([]any)
		if !ok {
			t.Errorf("%s: %v is no array", path, v)
		}
		for i, item := range items {
			matches(t, fmt.Sprintf("%s[%d]", path, i), item, w.of)
		}
	case object:
		matchesObject(t, path, v, w)
	default:
		t.Fatalf("%s: no form %T", path, want)
	}
}

func matchesObject(t *testing.T, path string, v any, want object) {
	t.Helper()
	o, ok := v.(map[string]any)
	if !ok {
		t.Errorf("%s: %v is no object", path, v)
		return
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		name, optional := strings.CutSuffix(key, "?")
		item, has := o[name]
		if !has && !optional {
			t.Errorf("%s: no field %q; it has %v", path, name, slices.Sorted(maps.Keys(o)))
		}
		if has {
			matches(t, path+"."+name, item, want[key])
		}
	}
}

// The forms of what plan, actions list, alarms list and status print.
var (
	severityForm = oneOfTexts("notice", "warning", "critical")
	actionForm   = oneOfTexts("reclaim-expired", "reattach-replica")
	modeForm     = oneOfTexts("dry-run", "live")
	stateForm    = oneOfTexts("idle", "confirming", "planning", "held", "acting", "verifying", "cooldown", "escalated", "unknown")
	guardsForm   = list{object{"guard": isText, "verdict": oneOfTexts("allow", "deny"), "reason": isText}}

	planForm = object{"at": isTime, "instances": list{object{
		"instance": isText, "state": stateForm, "errors": list{isText},
		"findings": list{object{"metric": isText, "severity": severityForm, "node": isText, "value": isReading, "threshold?": orNull(isReading), "cause?": isText, "msg": isText}},
		"plans": list{object{"action": actionForm, "node": isText, "mode": modeForm, "commands": list{list{isText}}, "permitted": isBool,
			"denied_by": list{isText}, "guards": guardsForm, "expect": isObject}},
	}}}
	sweepExpectForm    = object{"known": isBool, "expired_keys?": orNull(isNumber), "bytes?": orNull(isNumber)}
	reattachExpectForm = object{"resync": oneOfTexts("partial", "full"), "bytes": orNull(isNumber)}

	recordForm = object{"id": isText, "incident": isText, "alarm": isText, "instance": isText, "node": isText, "action": oneOfTexts("", "reclaim-expired", "reattach-replica"),
		"mode": modeForm, "trigger": oneOfTexts("alarm", "manual"), "at": isTime, "finished?": isTime, "cause": isText, "guards": guardsForm,
		"outcome":  oneOfTexts("running", "planned", "denied", "succeeded", "ineffective", "failed", "interrupted", "unsupported"),
		"commands": list{object{"args": list{isText}, "reply": isText, "at": isTime, "took": isNumber}}, "before": isObject, "after?": isObject, "effect?": isObject,
		"error?": isText, "operator": object{"host": isText, "pid": isNumber, "version": isText}, "prev": isText, "hash": isText}

	alarmForm = object{"instance": isText, "metric": isText, "msg": isText, "value": isReading, "severity": severityForm, "received": isTime}

	statusForm = object{"running": isBool, "bus": isText, "bus_counts": orNull(isObject), "notifications": list{isObject}, "instances": list{object{"instance": isText, "state": stateForm, "since": orNull(isTime),
		"incidents": list{isText}, "open_incidents": list{isObject}, "modes": isObject, "breakers": isObject, "paused": isBool, "last_action": orNull(isObject)}}}
)
