package main

import (
	"slices"
	"strings"
	"testing"

	"dcshealer/policies"
)

func TestEffectsAreToldInWords(t *testing.T) {
	for _, c := range []struct {
		effect string // as the journal keeps it
		want   []string
	}{
		{`{}`, []string{}},
		{`{"predicted":"partial","resync":"partial","as_predicted":true,"link_up_after":0.4,"attached":true,"lag_bytes":0,"master_keys":5000,"replica_keys":5000,"persistent":false}`,
			[]string{"link up after 400ms", "a partial resync, as predicted", "it follows its master", "0 bytes behind its master", "5,000 keys on the master, 5,000 on the replica",
				"not written to its config file: a restart would undo it"}},
		{`{"predicted":"partial","resync":"full","as_predicted":false,"attached":false}`, []string{"a full resync, predicted was a partial one", "it does not follow its master"}},
		{`{"predicted":"full","resync":"unknown"}`, []string{"the kind of resync is not known, predicted was a full one"}},
		{`{"keys":12000,"predicted_keys":12100,"bytes":52428800,"predicted_bytes":null,"calls":320,"longest_call":0.0012,"took":3.4,"stop":"done","detail":"the target is reached","solved":true,
			"counted_before":62914560,"counted_after":10485760,"writes_accepted":true,"db":{"db0":{"keys":12000,"bytes":52428800}},"rtt_before":0.0002}`,
			[]string{"12,000 keys deleted, predicted were 12,100", "50.0 MiB freed", "memory that counts: 10.0 MiB, was 60.0 MiB", "writes are accepted", "it took 3.4s by 320 calls, the longest 1.2ms",
				"stopped: the target is reached", "the alarm is solved", "by database: db0 (bytes 50.0 MiB, keys 12,000)", "round trip before: 200µs"}},
		{`{"closed":12,"connected_before":98,"connected_after":86,"predicted":12,"solved":false}`, []string{"12 clients closed", "connections: 86, was 98", "the alarm is not solved", "predicted: 12"}},
		{`{"bypassed":["no-lost-writes"],"lost":{"keys_held":3,"own_bytes":null},"foo_bar":"x","slowed":[],"flag":true}`, []string{"a person let a denial pass: no-lost-writes", "flag: yes", "foo bar: x", "lost: keys held 3"}},
	} {
		r := policies.Record{Effect: decode[map[string]any](t, c.effect)}
		if got := effectText(r); !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%s\nwant\n%s", c.effect, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
		if n := len(decode[map[string]any](t, c.effect)); len(r.Effect) != n {
			t.Errorf("%s: the record itself was changed", c.effect)
		}
	}
}

func TestConclusions(t *testing.T) {
	base := policies.Record{Instance: "i", Node: "n", Action: policies.ReattachReplica}
	for want, change := range map[string]func(*policies.Record){
		"reattach-replica on n is under way": func(r *policies.Record) { r.Outcome = policies.OutcomeRunning },
		"it acted: reattach-replica on n failed: timeout": func(r *policies.Record) {
			r.Outcome, r.Error, r.Commands = policies.OutcomeFailed, "timeout", make([]policies.CommandRecord, 1)
		},
		"it did not act: reattach-replica on n is denied by pause, breaker": func(r *policies.Record) {
			r.Outcome, r.DeniedBy = policies.OutcomeDenied, []policies.Guard{policies.GuardPause, policies.GuardBreaker}
		},
		"it did not act: the host is gone":     func(r *policies.Record) { r.Action, r.Error = "", "the host is gone" },
		"it did not act: no action cures this": func(r *policies.Record) { r.Action = "" },
		"it did not act: NOPERM":               func(r *policies.Record) { r.Outcome, r.Error = policies.OutcomeUnsupported, "NOPERM" },
		"it did not act, for this is a dry run; to let it act: " + policies.Lift(policies.GuardMode, "i", policies.ReattachReplica): func(r *policies.Record) { r.Outcome = policies.OutcomePlanned },
	} {
		r := base
		change(&r)
		if got := conclusionOf(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
