package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"dcshealer/policies"
)

// row is a record's line in the derived table. It is kept in the transaction of each entry and can always be made again
// from the entries, by after.
type row struct {
	ID       string
	Seq      int64 // of the intent: the order in which decisions were made
	Instance string
	Node     string
	Action   policies.Action
	Mode     policies.Mode
	Outcome  policies.Outcome
	Metric   policies.Metric
	At       string // as entries carry times
	Finished string
	Sent     bool // at least one command was sent
}

// after is the row once one more entry of its record was written. Pure; an unreadable body changes nothing but is told.
func (w row) after(e Entry) (row, error) {
	switch e.Kind {
	case KindIntent:
		var r policies.Record
		err := json.Unmarshal(e.Body, &r)
		return row{ID: e.Record, Seq: e.Seq, Instance: r.Instance, Node: r.Node, Action: r.Action, Mode: r.Mode, Outcome: r.Outcome,
			Metric: r.Metric, At: stamp(r.At), Finished: stamp(r.Finished), Sent: len(r.Commands) > 0}, err
	case KindCommand:
		w.Sent = true
	case KindResult:
		return w, decode(e.Body, func(res Result) {
			w.Outcome, w.Finished, w.Sent = res.Outcome, stamp(res.Finished), w.Sent || len(res.Commands) > 0
		})
	case KindInterrupted:
		return w, decode(e.Body, func(end ended) { w.Outcome, w.Finished = policies.OutcomeInterrupted, stamp(end.Finished) })
	}
	return w, nil
}

const rowColumns = "id, seq, instance, node, action, mode, outcome, metric, at, finished, sent"

func (w row) save(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO records ("+rowColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		w.ID, w.Seq, w.Instance, w.Node, string(w.Action), string(w.Mode), string(w.Outcome), string(w.Metric), w.At, w.Finished, w.Sent)
	return err
}

func scanRow(rows *sql.Rows) (w row, err error) {
	err = rows.Scan(&w.ID, &w.Seq, &w.Instance, &w.Node, &w.Action, &w.Mode, &w.Outcome, &w.Metric, &w.At, &w.Finished, &w.Sent)
	return w, err
}

// LastFinished is the newest finished record, by the order of the journal and not by a clock that may have been set back, of the instance, action and node that sent commands, live; false when there is none.
// An interrupted record is not finished, one that a guard stopped on its way is not done with, and one that the server does not support changed nothing: they start no cooldown.
func (j *Journal) LastFinished(ctx context.Context, instance string, action policies.Action, node string) (policies.Record, bool, error) {
	found, err := j.records(ctx, "read the last "+string(action)+" of "+instance,
		`WHERE instance = ? AND action = ? AND sent = 1 AND mode = 'live' AND outcome NOT IN ('running', 'interrupted', 'denied', 'unsupported') AND node = ?
		 ORDER BY seq DESC LIMIT 1`, instance, string(action), node)
	if err != nil || len(found) == 0 {
		return policies.Record{}, false, err
	}
	return found[0], true, nil
}

// LastAction is the newest record of the instance that sent commands, whatever came of it; nil when there is none.
func (j *Journal) LastAction(ctx context.Context, instance string) (*policies.LastAction, error) {
	found, err := j.records(ctx, "read the last action on "+instance, "WHERE instance = ? AND sent = 1 ORDER BY seq DESC LIMIT 1", instance)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	r := found[0]
	return &policies.LastAction{ID: r.ID, Action: r.Action, Node: r.Node, Outcome: r.Outcome, At: r.At}, nil
}

// SucceededSince counts the live actions on one node that succeeded and finished from since to until. An end that lies ahead of the caller's
// clock is one by a clock that was set back since: until says how far ahead still counts.
func (j *Journal) SucceededSince(ctx context.Context, instance string, action policies.Action, node string, since, until time.Time) (n int, err error) {
	doing := "count the repairs of " + instance + " " + node
	err = j.view(ctx, doing, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT count(*) FROM records WHERE instance = ? AND action = ? AND sent = 1 AND mode = 'live'
			AND finished >= ? AND finished <= ? AND outcome = 'succeeded' AND node = ?`, instance, string(action), stamp(since), stamp(until), node).Scan(&n)
	})
	return n, err
}

// RunningLive lists the live records that have no result yet, of all processes, newest first.
func (j *Journal) RunningLive(ctx context.Context) ([]policies.Record, error) {
	return j.records(ctx, "read the running actions", "WHERE outcome = 'running' AND mode = 'live' ORDER BY seq DESC")
}
