package journal

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

func TestRecordIsTheJoinOfItsEntries(t *testing.T) {
	j := open(t, t.TempDir())
	id, unlock := start(t, j, "dcs-1", t0)
	defer unlock()
	sent := policies.CommandRecord{Args: []string{"REPLICAOF", "10.0.0.11", "6379"}, Reply: "OK", At: t0.Add(time.Second), Took: 1500 * time.Microsecond, Node: "n1"}
	must(t, j.Command(t.Context(), id, sent))
	sweep := policies.CommandRecord{Args: []string{"SCAN", "0"}, At: t0.Add(2 * time.Second), Took: time.Second, Count: 900}
	must(t, j.Finish(t.Context(), id, Result{Outcome: policies.OutcomeSucceeded, Finished: t0.Add(3 * time.Second), After: map[string]any{"link": "up"},
		Effect: map[string]any{"solved": true}, Commands: []policies.CommandRecord{sweep}}))
	must(t, j.Note(t.Context(), id, policies.Note{At: t0.Add(33 * time.Second), Text: "still up"}))

	r, entries, err := j.Show(t.Context(), id)
	must(t, err)
	if got := kinds(entries); !slices.Equal(got, []Kind{KindIntent, KindCommand, KindResult, KindNote}) {
		t.Errorf("entries %v", got)
	}
	last := entries[len(entries)-1]
	if r.Hash != last.Hash || r.Prev != last.Prev || r.Prev != entries[2].Hash || entries[0].Prev != genesis {
		t.Errorf("hash %s, prev %s do not chain: %+v", r.Hash, r.Prev, entries)
	}
	if r.Outcome != policies.OutcomeSucceeded || !r.Finished.Equal(t0.Add(3*time.Second)) || r.After["link"] != "up" || r.Effect["solved"] != true ||
		r.Before["offset"] != 12.0 || r.Operator != oper || len(r.Notes) != 1 || r.Notes[0].Text != "still up" {
		t.Errorf("joined record %+v", r)
	}
	if len(r.Commands) != 2 || r.Commands[0].Took != sent.Took || r.Commands[0].TookS != 0.0015 || r.Commands[1].Count != 900 || r.Commands[1].Took != time.Second {
		t.Errorf("commands %+v", r.Commands)
	}
}

func kinds(es []Entry) (ks []Kind) {
	for _, e := range es {
		ks = append(ks, e.Kind)
	}
	return ks
}

func TestListsInJSONAreNeverNull(t *testing.T) {
	j := open(t, t.TempDir())
	_, err := j.Begin(t.Context(), policies.Record{Instance: "dcs-1", At: t0, Outcome: policies.OutcomeUnsupported})
	must(t, err)
	rs, err := j.List(t.Context(), Filter{})
	must(t, err)
	b, err := json.Marshal(rs)
	must(t, err)
	for _, want := range []string{`"guards":[]`, `"denied_by":[]`, `"commands":[]`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s lacks %s", b, want)
		}
	}
	none, err := j.List(t.Context(), Filter{Instance: "other"})
	if b, _ := json.Marshal(none); err != nil || string(b) != "[]" {
		t.Errorf("an empty list is %s, error %v", b, err)
	}
}

func TestWhatARecordRefuses(t *testing.T) {
	j := open(t, t.TempDir())
	ctx := t.Context()
	r := decision("dcs-1", t0)
	r.Outcome = ""
	_, err := j.Begin(ctx, r)
	wantErr(t, err, ErrNotLocked, "dcs-1")
	id, unlock := start(t, j, "dcs-1", t0)
	defer unlock()
	wantErr(t, j.Finish(ctx, id, Result{Outcome: policies.OutcomeRunning}), nil, "no result")
	must(t, j.Finish(ctx, id, Result{Outcome: policies.OutcomeFailed, Error: "link down"}))
	wantErr(t, j.Finish(ctx, id, Result{Outcome: policies.OutcomeSucceeded}), ErrFinished, id, "failed")
	wantErr(t, j.Interrupted(ctx, id, t0), ErrFinished)
	must(t, j.Command(ctx, id, policies.CommandRecord{Args: []string{"CONFIG", "SET"}})) // sent is sent

	again := decision("dcs-1", t0)
	again.ID = id
	_, err = j.Begin(ctx, again)
	wantErr(t, err, nil, "taken", id)
	for _, err := range []error{
		j.Command(ctx, "nosuch", policies.CommandRecord{}), j.Note(ctx, "nosuch", policies.Note{}),
		j.Finish(ctx, "nosuch", Result{Outcome: policies.OutcomeFailed}), j.Interrupted(ctx, "nosuch", t0)} {
		wantErr(t, err, ErrUnknown, "nosuch")
	}
	wantErr(t, j.Note(ctx, id, policies.Note{Data: map[string]any{"x": func() {}}}), nil, "note entry")
	if v, err := j.Verify(ctx); err != nil || !v.OK || v.Entries != 3 {
		t.Errorf("verify %+v, error %v, want 3 good entries", v, err)
	}
}

func TestShowTakesAUniquePrefix(t *testing.T) {
	j := open(t, t.TempDir())
	for _, id := range []string{"01ABC1", "01ABC2", "01ABC", "01X_Y", "01XZY"} {
		r := decision("dcs-1", t0)
		r.ID = id
		_, err := j.Begin(t.Context(), r)
		must(t, err)
	}
	for prefix, want := range map[string]string{"01ABC1": "01ABC1", "01abc2": "01ABC2", "01ABC": "01ABC", "01X_": "01X_Y", "01XZ": "01XZY"} {
		if r, es, err := j.Show(t.Context(), prefix); err != nil || r.ID != want || len(es) != 1 {
			t.Errorf("show %s: %s, error %v, want %s", prefix, r.ID, err, want)
		}
	}
	_, _, err := j.Show(t.Context(), "01A")
	wantErr(t, err, ErrAmbiguous, "01ABC1", "01ABC2", "more of the id")
	_, _, err = j.Show(t.Context(), "01")
	wantErr(t, err, ErrAmbiguous, "and others")
	for _, id := range []string{"", "zz", "%", "01X\\"} {
		_, _, err = j.Show(t.Context(), id)
		wantErr(t, err, ErrUnknown, "actions list")
	}
}

func TestListFilters(t *testing.T) {
	j := open(t, t.TempDir())
	var ids []string
	for i, mod := range []func(*policies.Record){
		func(*policies.Record) {},
		func(r *policies.Record) { r.Instance = "dcs-2" },
		func(r *policies.Record) { r.Action = policies.ReclaimExpired },
		func(r *policies.Record) { r.Outcome = policies.OutcomePlanned },
	} {
		r := decision("dcs-1", t0.Add(time.Duration(i)*time.Minute))
		mod(&r)
		id, err := j.Begin(t.Context(), r)
		must(t, err)
		ids = append(ids, id)
	}
	id, unlock := start(t, j, "dcs-1", t0.Add(4*time.Minute))
	must(t, j.Finish(t.Context(), id, Result{Outcome: policies.OutcomeSucceeded}))
	unlock()
	ids = append(ids, id)
	for _, tc := range []struct {
		name string
		f    Filter
		want []int
	}{
		{"all, newest first", Filter{}, []int{4, 3, 2, 1, 0}},
		{"instance", Filter{Instance: "dcs-2"}, []int{1}},
		{"action", Filter{Action: policies.ReclaimExpired}, []int{2}},
		{"the joined outcome", Filter{Outcome: policies.OutcomeSucceeded}, []int{4}},
		{"not the intent's outcome", Filter{Outcome: policies.OutcomeRunning}, nil},
		{"since includes its moment, in any zone", Filter{Since: t0.Add(3 * time.Minute).In(time.FixedZone("x", 7200))}, []int{4, 3}},
		{"limit", Filter{Limit: 2}, []int{4, 3}},
		{"together", Filter{Instance: "dcs-1", Action: policies.ReattachReplica, Outcome: policies.OutcomeDenied, Since: t0, Limit: 9}, []int{0}},
	} {
		got, err := j.List(t.Context(), tc.f)
		must(t, err)
		var want, have []string
		for _, i := range tc.want {
			want = append(want, ids[i])
		}
		for _, r := range got {
			have = append(have, r.ID)
		}
		if !slices.Equal(have, want) {
			t.Errorf("%s: got %v, want %v", tc.name, have, want)
		}
	}
}

func TestWhatGuardsAsk(t *testing.T) {
	j := open(t, t.TempDir())
	ctx := t.Context()
	finish := func(at time.Duration, outcome policies.Outcome, send bool, node string) string {
		unlock, err := j.Lock(ctx, "dcs-1")
		must(t, err)
		defer unlock()
		r := decision("dcs-1", t0.Add(at))
		r.Outcome, r.Node = "", node
		id, err := j.Begin(ctx, r)
		must(t, err)
		if send {
			must(t, j.Command(ctx, id, policies.CommandRecord{Args: []string{"REPLICAOF"}, At: t0.Add(at)}))
		}
		if outcome == policies.OutcomeInterrupted {
			must(t, j.Interrupted(ctx, id, t0.Add(at)))
		} else {
			must(t, j.Finish(ctx, id, Result{Outcome: outcome, Finished: t0.Add(at)}))
		}
		return id
	}
	if _, ok, err := j.LastFinished(ctx, "dcs-1", policies.ReattachReplica, "n1"); ok || err != nil {
		t.Fatalf("found one in an empty journal, error %v", err)
	}
	if last, err := j.LastAction(ctx, "dcs-1"); last != nil || err != nil {
		t.Fatalf("last action %v in an empty journal, error %v", last, err)
	}
	finish(1*time.Minute, policies.OutcomeSucceeded, true, "n1")
	finish(2*time.Minute, policies.OutcomeSucceeded, true, "n2")
	want := finish(3*time.Minute, policies.OutcomeFailed, true, "n1")
	finish(3*time.Minute+time.Second, policies.OutcomeUnsupported, true, "n1")
	finish(3*time.Minute+time.Second, policies.OutcomeDenied, true, "n1")
	finish(3*time.Minute+time.Second, policies.OutcomeFailed, true, "n2") // a sibling's
	interrupted := finish(4*time.Minute, policies.OutcomeInterrupted, true, "n1")
	finish(5*time.Minute, policies.OutcomeFailed, false, "n1") // nothing was sent
	_, err := j.Begin(ctx, decision("dcs-1", t0.Add(6*time.Minute)))
	must(t, err)

	if r, ok, err := j.LastFinished(ctx, "dcs-1", policies.ReattachReplica, "n1"); err != nil || !ok || r.ID != want {
		t.Errorf("last finished %s %s, error %v, want %s: only what was sent and came to an end starts a cooldown", r.ID, r.Outcome, err, want)
	}
	if _, ok, err := j.LastFinished(ctx, "dcs-1", policies.ReclaimExpired, "n1"); ok || err != nil {
		t.Errorf("the other action has one too, error %v", err)
	}
	if last, err := j.LastAction(ctx, "dcs-1"); err != nil || last == nil || last.ID != interrupted || last.Outcome != policies.OutcomeInterrupted {
		t.Errorf("last action %+v, error %v, want %s", last, err, interrupted)
	}
	for since, want := range map[time.Duration]int{0: 1, time.Minute: 1, 61 * time.Second: 0} {
		if n, err := j.SucceededSince(ctx, "dcs-1", policies.ReattachReplica, "n1", t0.Add(since), t0.Add(time.Hour)); err != nil || n != want {
			t.Errorf("succeeded on n1 since +%s: %d, error %v, want %d", since, n, err, want)
		}
	}
	id, unlock := start(t, j, "dcs-2", t0)
	defer unlock()
	if rs, err := j.RunningLive(ctx); err != nil || len(rs) != 1 || rs[0].ID != id {
		t.Errorf("running %v, error %v, want %s", rs, err, id)
	}
}

func TestGuardsQuestionsUseAnIndex(t *testing.T) {
	j := open(t, t.TempDir())
	for name, q := range map[string]string{
		"last finished": `SELECT id FROM records WHERE instance = 'a' AND action = 'b' AND sent = 1 AND mode = 'live' AND outcome NOT IN ('running', 'interrupted') ORDER BY finished DESC, seq DESC LIMIT 1`,
		"last action":   `SELECT id FROM records WHERE instance = 'a' AND sent = 1 ORDER BY seq DESC LIMIT 1`,
		"running":       `SELECT id FROM records WHERE outcome = 'running' AND mode = 'live' ORDER BY seq DESC`,
		"one record":    `SELECT seq FROM entries WHERE record = 'a' ORDER BY seq`,
	} {
		rows, err := j.read.Query("EXPLAIN QUERY PLAN " + q)
		must(t, err)
		for rows.Next() {
			var a, b, c int
			var step string
			must(t, rows.Scan(&a, &b, &c, &step))
			if strings.HasPrefix(step, "SCAN") && !strings.Contains(step, "records_running") {
				t.Errorf("%s reads the whole table: %s", name, step)
			}
		}
		must(t, rows.Err())
	}
}

func TestUnreadableEntryIsNamedInItsRecord(t *testing.T) {
	body, err := json.Marshal(policies.Record{ID: "forged", Instance: "dcs-1"})
	must(t, err)
	r := join([]Entry{{Seq: 1, Record: "a", Kind: KindIntent, Body: body}, {Seq: 2, Record: "a", Kind: KindCommand, Body: json.RawMessage("{")},
		{Seq: 3, Record: "a", Kind: KindResult, Body: json.RawMessage(`{"outcome":"failed","error":"link down"}`), Hash: "h", Prev: "p"}})
	if r.ID != "a" || r.Hash != "h" || r.Prev != "p" || r.Outcome != policies.OutcomeFailed {
		t.Errorf("joined %+v", r)
	}
	for _, want := range []string{"entry 2", "actions verify", "link down"} {
		if !strings.Contains(r.Error, want) {
			t.Errorf("error %q lacks %q", r.Error, want)
		}
	}
}

func TestAppendsOfManyGoroutinesKeepTheChainWhole(t *testing.T) {
	j, other := open(t, t.TempDir()), (*Journal)(nil)
	other = open(t, j.dir)
	done := make(chan error)
	for g := range 8 {
		go func() {
			w := []*Journal{j, other}[g%2]
			for i := range 10 {
				id, err := w.Begin(t.Context(), decision(fmt.Sprintf("dcs-%d", g), t0.Add(time.Duration(i)*time.Second)))
				if err == nil {
					err = w.Note(t.Context(), id, policies.Note{At: t0, Text: "n"})
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 8 {
		must(t, <-done)
	}
	if v, err := j.Verify(t.Context()); err != nil || !reflect.DeepEqual(v, VerifyResult{Entries: 160, Records: 80, OK: true, Head: v.Head}) {
		t.Errorf("verify %+v, error %v", v, err)
	}
}
