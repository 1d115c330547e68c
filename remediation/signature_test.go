package remediation

import (
	"testing"

	"dcshealer/policies"
)

// A guard that flips with the load makes no new decision beside another denial, and a busy server is a reason of its own.
func TestWhatMakesANewDecision(t *testing.T) {
	t.Parallel()
	f := fault{Finding: policies.Finding{Cause: policies.CauseWrongMaster}}
	denied := func(by ...policies.Guard) *policies.Plan { return &policies.Plan{Mode: policies.DryRun, DeniedBy: by} }
	mode := signature(f, denied(policies.GuardMode))
	if got := signature(f, denied(policies.GuardMode, policies.GuardLatency)); got != mode {
		t.Errorf("latency beside the dry run makes it %q, was %q", got, mode)
	}
	for _, p := range []*policies.Plan{denied(policies.GuardMode, policies.GuardBusy), denied(policies.GuardLatency), denied(policies.GuardLineage), nil} {
		if got := signature(f, p); got == mode {
			t.Errorf("%+v makes no new decision: %q", p, got)
		}
	}
}
