package journal

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dcshealer/policies"
)

// tamper opens the file behind the journal's back, takes the triggers away and runs the statements.
func tamper(t interface {
	Helper()
	Fatal(...any)
}, j *Journal, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+j.path()+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range append([]string{"DROP TRIGGER IF EXISTS entries_no_update", "DROP TRIGGER IF EXISTS entries_no_delete", "DROP TRIGGER IF EXISTS entries_no_replace"}, statements...) {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(s, err)
		}
	}
}

func TestTriggersRefuseChanges(t *testing.T) {
	j := open(t, t.TempDir())
	_, err := j.Begin(t.Context(), decision("dcs-1", t0))
	must(t, err)
	for _, s := range []string{"UPDATE entries SET at = ''", "DELETE FROM entries",
		"INSERT OR REPLACE INTO entries SELECT seq, record, kind, '', body, prev, hash FROM entries"} {
		_, err := j.write.Exec(s)
		wantErr(t, err, nil, "append-only")
	}
}

func TestVerifyFindsTampering(t *testing.T) {
	for _, tc := range []struct {
		name string
		sql  []string
		seq  int64 // of the first bad entry
		why  string
	}{
		{"seq", []string{"UPDATE entries SET seq = 100 WHERE seq = 3"}, 4, "missing"},
		{"record", []string{"UPDATE entries SET record = 'B' WHERE seq = 3"}, 3, "changed"},
		{"kind", []string{"UPDATE entries SET kind = 'note' WHERE seq = 3"}, 3, "changed"},
		{"at", []string{"UPDATE entries SET at = '2020-01-01T00:00:00.000000000Z' WHERE seq = 3"}, 3, "changed"},
		{"body", []string{"UPDATE entries SET body = replace(body, 'failed', 'succeeded') WHERE seq = 3"}, 3, "changed"},
		{"body, by a space", []string{"UPDATE entries SET body = body || ' ' WHERE seq = 3"}, 3, "changed"},
		{"prev", []string{"UPDATE entries SET prev = hash WHERE seq = 3"}, 3, "prev"},
		{"hash", []string{"UPDATE entries SET hash = prev WHERE seq = 3"}, 3, "changed"},
		{"deleted in the middle", []string{"DELETE FROM entries WHERE seq = 3"}, 4, "missing"},
		{"first deleted", []string{"DELETE FROM entries WHERE seq = 1"}, 2, "missing"},
		{"deleted and closed up", []string{"DELETE FROM entries WHERE seq = 3", "UPDATE entries SET seq = 3 WHERE seq = 4", "UPDATE entries SET seq = 4 WHERE seq = 5",
			"UPDATE entries SET seq = 5 WHERE seq = 6"}, 3, "prev"},
		{"reordered", []string{"UPDATE entries SET seq = 100 WHERE seq = 3", "UPDATE entries SET seq = 3 WHERE seq = 4", "UPDATE entries SET seq = 4 WHERE seq = 100"}, 3, "prev"},
		{"tail cut off", []string{"DELETE FROM entries WHERE seq >= 5"}, 5, "cut off"},
		{"all cut off", []string{"DELETE FROM entries"}, 1, "cut off"},
		{"head gone", []string{"DELETE FROM entries WHERE seq = 6", "DELETE FROM head"}, 6, "cut off"},
		{"head changed", []string{"UPDATE head SET seq = 5"}, 6, "noted"},
		{"added without the chain", []string{"INSERT INTO entries SELECT 7, record, kind, at, body, prev, hash FROM entries WHERE seq = 6"}, 7, "prev"},
		{"hidden from the list", []string{"DELETE FROM records WHERE id = 'A'"}, 1, "leaves this record out"},
		{"outcome of the list", []string{"UPDATE records SET outcome = 'succeeded' WHERE id = 'A'"}, 1, "outcome failed, not succeeded"},
		{"added to the list", []string{"INSERT INTO records SELECT 'C', 9, instance, node, action, mode, outcome, metric, at, finished, sent FROM records WHERE id = 'A'"}, 9, "no entries"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j := tampered(t)
			if v, err := j.Verify(t.Context()); err != nil || !v.OK || v.Entries != 6 || v.Records != 2 || v.FirstBad != nil || len(v.Head) != 64 {
				t.Fatalf("before: %+v, error %v", v, err)
			}
			tamper(t, j, tc.sql...)
			v, err := j.Verify(t.Context())
			must(t, err)
			if v.OK || v.FirstBad == nil || v.FirstBad.Seq != tc.seq || !strings.Contains(v.FirstBad.Why, tc.why) {
				t.Errorf("verify %+v (%+v), want entry %d: %s", v, v.FirstBad, tc.seq, tc.why)
			}
		})
	}
}

// tampered is a journal of six entries: record A (1, 2, 3, 5), a control (4), record B (6).
func tampered(t *testing.T) *Journal {
	j := open(t, t.TempDir())
	ctx := t.Context()
	unlock, err := j.Lock(ctx, "dcs-1")
	must(t, err)
	defer unlock()
	a, b := decision("dcs-1", t0), decision("dcs-2", t0)
	a.ID, a.Outcome, b.ID = "A", "", "B"
	_, err = j.Begin(ctx, a)
	must(t, err)
	must(t, j.Command(ctx, "A", policies.CommandRecord{Args: []string{"REPLICAOF"}, At: t0}))
	must(t, j.Finish(ctx, "A", Result{Outcome: policies.OutcomeFailed, Finished: t0}))
	must(t, j.SetPause(ctx, Pause{Reason: "r", By: "ann", At: t0}))
	must(t, j.Note(ctx, "A", policies.Note{At: t0, Text: "n"}))
	_, err = j.Begin(ctx, b)
	must(t, err)
	return j
}

func TestAppendingAfterACutTailHidesNothing(t *testing.T) {
	j := tampered(t)
	tamper(t, j, "DELETE FROM entries WHERE seq = 6")
	must(t, j.Note(t.Context(), "A", policies.Note{At: t0, Text: "later"}))
	if v, err := j.Verify(t.Context()); err != nil || v.OK || v.FirstBad.Seq != 7 {
		t.Errorf("verify %+v, error %v, want the gap before entry 7", v, err)
	}
	tamper(t, j, "DELETE FROM head")
	wantErr(t, j.Note(t.Context(), "A", policies.Note{At: t0, Text: "later"}), ErrDamaged, "actions verify")
}

// Any history of any number of records: the list is what a plain model says, the chain is whole, the derived table can be made
// again from the entries, and one changed column anywhere is found.
func TestAnyHistoryJoinsAndVerifies(t *testing.T) {
	base := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		j, err := Open(t.Context(), fmt.Sprintf("%s/%d", base, n), oper)
		if err != nil {
			rt.Fatal(err)
		}
		defer j.Close()
		unlock, err := j.Lock(t.Context(), "dcs-1")
		if err != nil {
			rt.Fatal(err)
		}
		defer unlock()
		model := play(rt, t, j)
		checkAgainst(rt, t, j, model)
		v, err := j.Verify(t.Context())
		if err != nil || !v.OK || v.Records != len(model) {
			rt.Fatalf("verify %+v (%+v), error %v, want %d records", v, v.FirstBad, err, len(model))
		}
		if v.Entries == 0 {
			return
		}
		seq := rapid.IntRange(1, v.Entries).Draw(rt, "seq")
		column := rapid.SampledFrom([]string{"record", "kind", "at", "body", "prev", "hash"}).Draw(rt, "column")
		tamper(rt, j, fmt.Sprintf("UPDATE entries SET %s = %s || 'x' WHERE seq = %d", column, column, seq))
		if v, err := j.Verify(t.Context()); err != nil || v.OK || v.FirstBad.Seq != int64(seq) {
			rt.Fatalf("entry %d with another %s: verify %+v, error %v", seq, column, v.FirstBad, err)
		}
	})
}

// play makes a random history and returns the records it should have made, oldest first.
func play(rt *rapid.T, t *testing.T, j *Journal) []policies.Record {
	var model []policies.Record
	ctx := t.Context()
	check := func(err error) {
		if err != nil {
			rt.Fatal(err)
		}
	}
	for step := range rapid.IntRange(0, 12).Draw(rt, "steps") {
		at := t0.Add(time.Duration(step) * time.Second)
		op := rapid.SampledFrom([]string{"begin", "deny", "command", "finish", "note", "interrupt"}).Draw(rt, "op")
		if op == "begin" || op == "deny" || len(model) == 0 {
			r := decision("dcs-1", at)
			if r.Outcome = policies.OutcomeDenied; op == "begin" {
				r.Outcome = policies.OutcomeRunning
			}
			r.Error = rapid.String().Draw(rt, "text")
			id, err := j.Begin(ctx, r)
			check(err)
			r.ID, r.Operator, r.Commands = id, oper, []policies.CommandRecord{}
			model = append(model, r)
			continue
		}
		r := &model[rapid.IntRange(0, len(model)-1).Draw(rt, "record")]
		switch running := r.Outcome == policies.OutcomeRunning; {
		case op == "command":
			c := policies.CommandRecord{Args: []string{"SCAN", rapid.StringN(0, 4, -1).Draw(rt, "arg")}, At: at, Took: time.Duration(step) * time.Millisecond}
			check(j.Command(ctx, r.ID, c))
			c.TookS = c.Took.Seconds()
			r.Commands = append(r.Commands, c)
		case op == "note":
			n := policies.Note{At: at, Text: fmt.Sprint("note ", step)}
			check(j.Note(ctx, r.ID, n))
			r.Notes = append(r.Notes, n)
		case op == "finish" && running:
			check(j.Finish(ctx, r.ID, Result{Outcome: policies.OutcomeIneffective, Finished: at, Error: "e"}))
			r.Outcome, r.Finished, r.Error = policies.OutcomeIneffective, at, "e"
		case op == "interrupt" && running:
			check(j.Interrupted(ctx, r.ID, at))
			r.Outcome, r.Finished = policies.OutcomeInterrupted, at
		}
	}
	return model
}

func checkAgainst(rt *rapid.T, t *testing.T, j *Journal, model []policies.Record) {
	got, err := j.List(t.Context(), Filter{})
	if err != nil || len(got) != len(model) {
		rt.Fatalf("listed %d records, error %v, want %d", len(got), err, len(model))
	}
	for i, want := range model {
		r := got[len(got)-1-i]
		_, entries, err := j.Show(t.Context(), r.ID)
		if err != nil {
			rt.Fatal(err)
		}
		var w row
		for _, e := range entries {
			if w, err = w.after(e); err != nil {
				rt.Fatal(err)
			}
		}
		if w.Outcome != r.Outcome || w.Finished != stamp(r.Finished) || w.Sent != (len(r.Commands) > 0) || w.At != stamp(r.At) || w.Node != r.Node {
			rt.Fatalf("row %+v does not tell record %+v", w, r)
		}
		if rejoined := join(entries); !reflect.DeepEqual(rejoined, r) {
			rt.Fatalf("show says %+v, list %+v", rejoined, r)
		}
		want.Prev, want.Hash = r.Prev, r.Hash
		a, _ := json.Marshal(r)
		b, _ := json.Marshal(want)
		if string(a) != string(b) {
			rt.Fatalf("got  %s\nwant %s", a, b)
		}
	}
}
