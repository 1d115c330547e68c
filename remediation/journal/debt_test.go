package journal

import (
	"context"
	"testing"
	"time"
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
