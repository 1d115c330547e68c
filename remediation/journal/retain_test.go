package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

// aged is a journal with one decision a day, n of them from t0 on, in records R0, R1, ...
func aged(t *testing.T, n int) *Journal {
	t.Helper()
	j := open(t, t.TempDir())
	for i := range n {
		r := decision("dcs-1", day(i))
		r.ID = fmt.Sprintf("R%d", i)
		_, err := j.Begin(t.Context(), r)
		must(t, err)
	}
	return j
}

func day(i int) time.Time { return t0.Add(time.Duration(i) * 24 * time.Hour) }

func whole(t *testing.T, j *Journal) VerifyResult {
	t.Helper()
	v, err := j.Verify(t.Context())
	if err != nil || !v.OK {
		t.Errorf("verify %+v (%+v), %v", v, v.FirstBad, err)
	}
	return v
}

func TestRetentionDropsAWholePrefixThatStaysProven(t *testing.T) {
	t.Parallel()
	j, ctx := aged(t, 6), t.Context()
	c, err := j.retain(ctx, day(2), day(9), 0)
	must(t, err)
	if c.Dropped.Seq != 2 || c.Entries != 2 || c.Operator != oper {
		t.Errorf("dropped %+v, want 2 entries up to 2", c)
	}
	if v := whole(t, j); v.Entries != 5 || v.Dropped != 2 || v.Records != 4 {
		t.Errorf("verify %+v", v)
	}
	must(t, j.Pulse(ctx, day(9), 1))
	must(t, j.Check(ctx))
	if again, err := j.retain(ctx, day(2), day(9), 0); err != nil || again.Entries != 0 {
		t.Errorf("again: %+v, %v, want nothing to drop and no entry", again, err)
	}
	c, err = j.retain(ctx, day(4), day(9), 0) // the second cut follows from the first
	must(t, err)
	if c.Dropped.Seq != 4 || c.Entries != 2 {
		t.Errorf("second: %+v", c)
	}
	if c, err = j.retain(ctx, day(20), day(9), 0); err != nil || c.Dropped.Seq != 8 {
		t.Errorf("all but the new checkpoint: %+v, %v", c, err)
	}
	if v := whole(t, j); v.Entries != 1 || v.Dropped != 8 {
		t.Errorf("verify %+v", v)
	}
	all, err := j.List(ctx, Filter{})
	if err != nil || len(all) != 0 {
		t.Errorf("records %+v, %v", all, err)
	}
	_, err = j.Begin(ctx, decision("dcs-1", day(10)))
	must(t, err)
	whole(t, j)
}

func TestRetentionKeepsWhatIsNotOver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do    func(ctx context.Context, t *testing.T, j *Journal) // after two decisions, before three more
		least int64
		last  int64 // the last entry that may go
	}{
		"all is over": {func(context.Context, *testing.T, *Journal) {}, 0, 5},
		"the newest":  {func(context.Context, *testing.T, *Journal) {}, 2, 3},
		"a pause": {func(ctx context.Context, t *testing.T, j *Journal) {
			must(t, j.SetPause(ctx, Pause{Reason: "r", By: "ann", At: t0}))
		}, 0, 2},
		"a pause ended": {func(ctx context.Context, t *testing.T, j *Journal) {
			must(t, j.SetPause(ctx, Pause{Reason: "r", By: "ann", At: t0}))
			_, err := j.ClearPause(ctx, "", "ann", "r", t0)
			must(t, err)
		}, 0, 7},
		"live": {func(ctx context.Context, t *testing.T, j *Journal) {
			must(t, j.SetLive(ctx, policies.LiveGrant{Instance: "dcs-1", Action: policies.ReattachReplica, Reason: "r", By: "ann", At: t0}))
		}, 0, 2},
		"the newest of two live": {func(ctx context.Context, t *testing.T, j *Journal) {
			for range 2 {
				must(t, j.SetLive(ctx, policies.LiveGrant{Instance: "dcs-1", Action: policies.ReattachReplica, Reason: "r", By: "ann", At: t0}))
			}
		}, 0, 3},
		"a running record": {func(ctx context.Context, t *testing.T, j *Journal) {
			unlock, err := j.Lock(ctx, "dcs-1")
			must(t, err)
			defer unlock()
			r := decision("dcs-1", t0)
			r.Outcome = ""
			_, err = j.Begin(ctx, r)
			must(t, err)
		}, 0, 2},
		"an open incident": {func(ctx context.Context, t *testing.T, j *Journal) {
			must(t, j.OpenIncident(ctx, policies.Incident{ID: "i", Instance: "dcs-1", Opened: t0}))
		}, 0, 2},
		"a debt of a record": {func(ctx context.Context, t *testing.T, j *Journal) {
			must(t, j.Owe(ctx, Debt{Record: "R1", Instance: "dcs-1", Node: "n", Setting: "s", At: t0}))
		}, 0, 1},
		"a record that a young entry belongs to, and the one that it overlaps": {func(ctx context.Context, t *testing.T, j *Journal) {
			must(t, j.Note(ctx, "R0", policies.Note{At: t0, Text: "n"}))
			must(t, j.Note(ctx, "R1", policies.Note{At: day(99), Text: "n"}))
		}, 0, 0},
		"all behind a clock that was ahead": {func(ctx context.Context, t *testing.T, j *Journal) {
			_, err := j.Begin(ctx, decision("dcs-1", day(99)))
			must(t, err)
		}, 0, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, ctx := aged(t, 2), t.Context()
			c.do(ctx, t, j)
			for range 3 {
				_, err := j.Begin(ctx, decision("dcs-1", t0))
				must(t, err)
			}
			got, err := j.retain(ctx, day(50), day(60), c.least)
			if err != nil || got.Dropped.Seq != c.last {
				t.Errorf("dropped %+v, %v, want up to %d", got, err, c.last)
			}
			whole(t, j)
		})
	}
}

func TestOnlyRetentionMayDelete(t *testing.T) {
	t.Parallel()
	j, ctx := aged(t, 4), t.Context()
	_, err := j.retain(ctx, day(2), day(9), 0)
	must(t, err)
	for _, s := range []string{"DELETE FROM entries", "DELETE FROM entries WHERE seq = 3", "DELETE FROM cut; DELETE FROM entries WHERE seq = 3"} {
		_, err := j.write.ExecContext(ctx, s)
		wantErr(t, err, nil, "append-only")
	}
	for name, s := range map[string]string{
		"a prefix that no checkpoint tells of": "DELETE FROM entries WHERE seq = 3; UPDATE cut SET seq = 3, hash = (SELECT prev FROM entries WHERE seq = 4)",
		"a prefix, without more":               "DELETE FROM entries WHERE seq = 3",
		"the note of the cut":                  "DELETE FROM cut",
		"the hash of the cut":                  "UPDATE cut SET hash = (SELECT hash FROM entries WHERE seq = 4)",
	} {
		t.Run(name, func(t *testing.T) {
			j := aged(t, 4)
			_, err := j.retain(t.Context(), day(2), day(9), 0)
			must(t, err)
			tamper(t, j, s)
			if v, err := j.Verify(t.Context()); err != nil || v.OK || v.FirstBad == nil || v.FirstBad.Seq > 4 {
				t.Errorf("verify %+v, %v, want the damage", v, err)
			}
		})
	}
}

func export(t *testing.T, j *Journal, since time.Time) string {
	t.Helper()
	var b bytes.Buffer
	v, err := j.Export(t.Context(), &b, since, day(9))
	if err != nil || !v.OK {
		t.Fatalf("export %+v (%+v), %v", v, v.FirstBad, err)
	}
	return b.String()
}

func TestAnExportProvesItselfAndSoDoesAPartOfIt(t *testing.T) {
	t.Parallel()
	j, ctx := tampered(t), t.Context()
	must(t, j.OpenIncident(ctx, policies.Incident{ID: "i", Instance: "dcs-1", Opened: t0}))
	must(t, j.Note(ctx, "A", policies.Note{At: day(3), Text: "<&> \u2028"}))
	must(t, j.ChangeIncident(ctx, "i", "", "m", "w", day(3)))
	all := export(t, j, time.Time{})
	v, err := VerifyExport(strings.NewReader(all))
	if err != nil || !v.OK || v.Entries != 9 || v.Records != 2 || v.Head != whole(t, j).Head {
		t.Errorf("verify %+v (%+v), %v", v, v.FirstBad, err)
	}
	part := export(t, j, day(2))
	if v, err := VerifyExport(strings.NewReader(part)); err != nil || !v.OK || v.Entries != 2 || v.Head != whole(t, j).Head {
		t.Errorf("part: verify %+v (%+v), %v", v, v.FirstBad, err)
	}
	if v, err := VerifyExport(strings.NewReader(export(t, j, day(5)))); err != nil || !v.OK || v.Entries != 0 {
		t.Errorf("none: verify %+v (%+v), %v", v, v.FirstBad, err)
	}
	old := aged(t, 5)
	_, err = old.retain(ctx, day(2), day(9), 0)
	must(t, err)
	cut := export(t, old, time.Time{})
	var h ExportHeader
	must(t, json.Unmarshal([]byte(cut[:strings.Index(cut, "\n")]), &h))
	if h.From != 3 || h.To != 6 || h.Dropped.Seq != 2 || h.Dropped.Hash != h.Prev {
		t.Errorf("header %+v", h)
	}
	if v, err := VerifyExport(strings.NewReader(cut)); err != nil || !v.OK || v.Entries != 4 || v.Dropped != 2 {
		t.Errorf("after a cut: verify %+v (%+v), %v", v, v.FirstBad, err)
	}
	_, err = VerifyExport(strings.NewReader("{}\n"))
	wantErr(t, err, nil, "no header", "actions export")
}

func TestAnExportShowsEachChange(t *testing.T) {
	t.Parallel()
	lines := strings.SplitAfter(strings.TrimSpace(export(t, tampered(t), time.Time{})), "\n")
	lines[len(lines)-1] += "\n"
	for name, c := range map[string]struct {
		change func(l []string) []string
		seq    int64
		why    string
	}{
		"a body":     {func(l []string) []string { l[3] = strings.Replace(l[3], "failed", "succeeded", 1); return l }, 3, "changed"},
		"a missing":  {func(l []string) []string { return append(l[:3], l[4:]...) }, 4, "missing"},
		"two moved":  {func(l []string) []string { l[3], l[4] = l[4], l[3]; return l }, 4, "missing"},
		"its end":    {func(l []string) []string { return l[:5] }, 5, "cut off"},
		"half of it": {func(l []string) []string { l[6] = l[6][:20]; return l }, 6, "no entry"},
		"a hash":     {func(l []string) []string { l[2] = strings.Replace(l[2], `"hash":"`, `"hash":"0`, 1); return l }, 2, "changed"},
		"the head":   {func(l []string) []string { l[0] = strings.Replace(l[0], `"head":"`, `"head":"0`, 1); return l }, 6, "noted"},
		"the start":  {func(l []string) []string { l[0] = strings.Replace(l[0], `"prev":"`, `"prev":"1`, 1); return l }, 1, "prev"},
		"an added":   {func(l []string) []string { return append(l, l[6]) }, 6, "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Join(c.change(append([]string{}, lines...)), "")
			v, err := VerifyExport(strings.NewReader(text))
			if err != nil || v.OK || v.FirstBad == nil || v.FirstBad.Seq != c.seq || !strings.Contains(v.FirstBad.Why, c.why) {
				t.Errorf("verify %+v (%+v), %v, want entry %d: %s", v, v.FirstBad, err, c.seq, c.why)
			}
		})
	}
}

func TestAnExportOfADamagedJournalSaysSo(t *testing.T) {
	t.Parallel()
	j := tampered(t)
	tamper(t, j, "UPDATE entries SET body = body || ' ' WHERE seq = 3")
	var b bytes.Buffer
	v, err := j.Export(t.Context(), &b, time.Time{}, day(9))
	if err != nil || v.OK || v.FirstBad.Seq != 3 {
		t.Errorf("export %+v, %v, want entry 3", v, err)
	}
	if again, err := VerifyExport(&b); err != nil || again.OK || *again.FirstBad != *v.FirstBad {
		t.Errorf("its export: %+v, %v, want the same", again, err)
	}
}
