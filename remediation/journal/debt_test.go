package journal

import (
	"context"
	"testing"
	"time"

	"dcshealer/policies"
)

func TestADebtStandsUntilItIsSettled(t *testing.T) {
	t.Parallel()
	dir, ctx := t.TempDir(), t.Context()
	j := open(t, dir)
	d := Debt{Record: "r1", Instance: "dcs-1", Node: "n1", RunID: "a", Setting: "lazyfree-lazy-expire", Was: "no", Set: "yes", At: t0}
	must(t, j.Owe(ctx, d))
	second := d
	second.Record, second.Was, second.At = "r2", "yes", t0.Add(time.Minute)
	must(t, j.Owe(ctx, second)) // the value of before the first change is what is owed
	must(t, j.Close())

	j = open(t, dir)
	all, err := j.Debts(ctx)
	must(t, err)
	if len(all) != 1 || all[0] != d {
		t.Fatalf("debts %+v, want %+v after a restart", all, d)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	must(t, j.Settle(ended, d))
	if all, err = j.Debts(ctx); err != nil || len(all) != 0 {
		t.Errorf("debts %+v, %v after they were settled", all, err)
	}
}

func TestAFileOfTheFirstFormatIsBroughtForward(t *testing.T) {
	t.Parallel()
	dir, ctx := t.TempDir(), t.Context()
	j := open(t, dir)
	id, err := j.Begin(ctx, policies.Record{Instance: "dcs-1", Outcome: policies.OutcomeDenied})
	must(t, err)
	_, err = j.write.ExecContext(ctx, `DROP TABLE debts; DROP TABLE incidents; DROP TABLE nudges; DROP INDEX entries_incident; DROP INDEX entries_control;
		PRAGMA user_version = 1;`)
	must(t, err)
	must(t, j.Close())

	j = open(t, dir)
	must(t, j.Owe(ctx, Debt{Instance: "dcs-1", Node: "n1", Setting: "s"}))
	if r, _, err := j.Show(ctx, id); err != nil || r.Instance != "dcs-1" {
		t.Errorf("record %+v, %v", r, err)
	}
	must(t, j.OpenIncident(ctx, policies.Incident{ID: "i1", Instance: "dcs-1", Opened: t0}))
	if v, err := j.Verify(ctx); err != nil || !v.OK {
		t.Errorf("verify %+v, %v", v, err)
	}
}
