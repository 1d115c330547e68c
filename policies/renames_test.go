package policies

import (
	"reflect"
	"testing"
)

func TestRenames(t *testing.T) {
	t.Parallel()
	r := Renames{"SCAN": "XSCAN", "replicaof": "b840"}
	for own, sent := range map[string]string{"scan": "XSCAN", "Scan": "XSCAN", "REPLICAOF": "b840", "INFO": "INFO", "": ""} {
		if got := r.Sent(own); got != sent {
			t.Errorf("%q goes out as %q, want %q", own, got, sent)
		}
	}
	for sent, own := range map[string]string{"xscan": "SCAN", "B840": "replicaof", "SCAN": "SCAN"} {
		if got := r.Own(sent); got != own {
			t.Errorf("%q is %q, want %q", sent, got, own)
		}
	}
	plan := [][]string{{"SCAN", "cursor"}, {"CONFIG", "SET"}, {}}
	if got := r.All(plan); !reflect.DeepEqual(got, [][]string{{"XSCAN", "cursor"}, {"CONFIG", "SET"}, {}}) || plan[0][0] != "SCAN" {
		t.Errorf("goes out as %v, the plan is %v", got, plan)
	}
	if got := r.Shown("scan") + ", " + r.Shown("config"); got != "XSCAN (SCAN by renamed_commands), CONFIG" {
		t.Error(got)
	}
	if got := Renames(nil).Shown("scan") + Renames(nil).Sent("x"); got != "SCANx" {
		t.Error(got)
	}
}
