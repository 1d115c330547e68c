package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"dcshealer/policies"
)

// What callers can ask an error about an incident, with errors.Is.
var (
	ErrUnknownIncident = errors.New("no such incident")
	ErrClosed          = errors.New("the incident is already closed")
	ErrTaken           = errors.New("the id is taken")
	ErrStands          = errors.New("an incident of this fault is open")
)

// incidentEvent is the body of an incident entry.
type incidentEvent struct {
	Event    string             `json:"event"`             // opened, changed, acknowledged or closed
	Opened   *policies.Incident `json:"opened,omitempty"`  // as it was then
	Cause    policies.Cause     `json:"cause,omitempty"`   // changed: what it is diagnosed as now
	Msg      string             `json:"msg,omitempty"`     // changed
	Text     string             `json:"text,omitempty"`    // changed: why
	Ack      *policies.Ack      `json:"ack,omitempty"`     // acknowledged
	Closing  *Closing           `json:"closing,omitempty"` // closed
	Operator policies.Operator  `json:"operator"`
}

// Closing says how an incident ended.
type Closing struct {
	Resolution policies.Resolution `json:"resolution"`
	Text       string              `json:"text"`
}

// incidentRow is an incident's line in the derived table, which can always be made again from the entries, by after.
type incidentRow struct {
	Seq      int64 // of its first entry
	Incident policies.Incident
}

// after is the row once one more entry of its incident was written. Pure.
func (w incidentRow) after(e Entry) (incidentRow, error) {
	var b incidentEvent
	if err := json.Unmarshal(e.Body, &b); err != nil {
		return w, err
	}
	in := &w.Incident
	switch {
	case b.Event == "opened" && b.Opened != nil:
		w.Seq, w.Incident = e.Seq, *b.Opened
	case b.Event == "changed":
		in.Cause, in.Msg = b.Cause, b.Msg
	case b.Event == "acknowledged" && b.Ack != nil:
		in.Ack = b.Ack
	case b.Event == "closed" && b.Closing != nil:
		in.Closed, in.Resolution, in.Text = unstamp(e.At), b.Closing.Resolution, b.Closing.Text
	default:
		return w, fmt.Errorf("unknown event %q", b.Event)
	}
	return w, nil
}

func (w incidentRow) save(ctx context.Context, tx *sql.Tx) error {
	body, err := json.Marshal(w.Incident)
	if err != nil {
		return err
	}
	in := w.Incident
	_, err = tx.ExecContext(ctx, "INSERT OR REPLACE INTO incidents (id, seq, instance, opened, closed, body) VALUES (?, ?, ?, ?, ?, ?)",
		in.ID, w.Seq, in.Instance, stamp(in.Opened), stamp(in.Closed), string(body))
	return err
}

func scanIncident(rows *sql.Rows) (w incidentRow, err error) {
	var body string
	if err := rows.Scan(&w.Seq, &body); err != nil {
		return w, err
	}
	if err := json.Unmarshal([]byte(body), &w.Incident); err != nil {
		return w, errors.Join(ErrDamaged, err)
	}
	return w, nil
}

// OpenIncident writes down that an incident began. It needs an id that no incident has (ErrTaken), an instance and a time.
// What another process has opened about the same metric of the same node, and not closed, is gone on with (ErrStands).
func (j *Journal) OpenIncident(ctx context.Context, in policies.Incident) error {
	doing := fmt.Sprintf("open the incident %s of %s", in.ID, in.Instance)
	if in.ID == "" || in.Instance == "" || in.Opened.IsZero() {
		return fmt.Errorf("%s: want an id, an instance and a time", doing)
	}
	in.Opened, in.Alarmed, in.Seen = in.Opened.UTC(), utc(in.Alarmed), utc(in.Seen)
	return j.commit(ctx, j.write, doing, func(tx *sql.Tx) error {
		switch _, err := incidentOf(ctx, tx, in.ID); {
		case err == nil:
			return ErrTaken
		case !errors.Is(err, ErrUnknownIncident):
			return err
		}
		open, err := query(ctx, tx, scanIncident, "SELECT seq, body FROM incidents WHERE instance = ? AND closed = ''", in.Instance)
		if err != nil {
			return err
		}
		for _, w := range open {
			if o := w.Incident; o.Node == in.Node && o.Metric == in.Metric {
				return fmt.Errorf("%w: %s", ErrStands, o.ID)
			}
		}
		return addToIncident(ctx, tx, incidentRow{Incident: in}, in.Opened, incidentEvent{Event: "opened", Opened: &in, Operator: j.op})
	})
}

// utc leaves the zero time as it is, which UTC() would not keep comparable.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

// ChangeIncident writes down that an open incident is diagnosed as something else now, or goes on in another process.
func (j *Journal) ChangeIncident(ctx context.Context, id string, cause policies.Cause, msg, why string, at time.Time) error {
	return j.extendIncident(ctx, "note that the incident "+id+" goes on", id, at, incidentEvent{Event: "changed", Cause: cause, Msg: msg, Text: why, Operator: j.op})
}

// CloseIncident writes down how an incident ended, once: ErrClosed after that.
func (j *Journal) CloseIncident(ctx context.Context, id string, c Closing, at time.Time) error {
	return j.extendIncident(ctx, "close the incident "+id, id, at, incidentEvent{Event: "closed", Closing: &c, Operator: j.op})
}

func (j *Journal) extendIncident(ctx context.Context, doing, id string, at time.Time, b incidentEvent) error {
	return j.commit(ctx, j.write, doing, func(tx *sql.Tx) error {
		w, err := incidentOf(ctx, tx, id)
		if err == nil && !w.Incident.Open() {
			err = ErrClosed
		}
		if err != nil {
			return err
		}
		return addToIncident(ctx, tx, w, orNow(at).UTC(), b)
	})
}

// Acknowledge writes down that a person has taken an incident, open or closed, named by its id or a prefix that only it has. The Machine
// of its instance looks anew. It needs a By.
func (j *Journal) Acknowledge(ctx context.Context, id string, a policies.Ack) (in policies.Incident, err error) {
	doing := "acknowledge the incident " + id
	if a.By == "" {
		return in, fmt.Errorf("%s: want who does it", doing)
	}
	a.At = orNow(a.At).UTC()
	err = j.commit(ctx, j.write, doing, func(tx *sql.Tx) error {
		full, err := fullIncidentID(ctx, tx, id)
		if err != nil {
			return err
		}
		w, err := incidentOf(ctx, tx, full)
		if err != nil {
			return err
		}
		if err := addToIncident(ctx, tx, w, a.At, incidentEvent{Event: "acknowledged", Ack: &a, Operator: j.op}); err != nil {
			return err
		}
		w, err = incidentOf(ctx, tx, full)
		in = w.Incident
		return errors.Join(err, nudge(ctx, tx, in.Instance))
	})
	return in, err
}

// addToIncident appends an entry and brings the incident's row up to date, in one transaction.
func addToIncident(ctx context.Context, tx *sql.Tx, w incidentRow, at time.Time, b incidentEvent) error {
	e, err := appendEntry(ctx, tx, w.Incident.ID, KindIncident, at, b)
	if err != nil {
		return err
	}
	if w, err = w.after(e); err != nil {
		return err
	}
	return w.save(ctx, tx)
}

func incidentOf(ctx context.Context, tx *sql.Tx, id string) (incidentRow, error) {
	found, err := query(ctx, tx, scanIncident, "SELECT seq, body FROM incidents WHERE id = ?", id)
	if err == nil && len(found) == 0 {
		err = ErrUnknownIncident
	}
	if err != nil {
		return incidentRow{}, err
	}
	return found[0], nil
}

// nudge marks that a person wants an instance looked at anew, or with "" all of them.
func nudge(ctx context.Context, tx *sql.Tx, instance string) error {
	_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO nudges (instance, seq) SELECT ?, seq FROM head", instance)
	return err
}

// Nudged is the place in the journal of the newest word by which a person asked for a new look at the instance; 0: none.
func (j *Journal) Nudged(ctx context.Context, instance string) (seq int64, err error) {
	err = j.view(ctx, "read what was asked for "+instance, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM nudges WHERE instance IN (?, '')", instance).Scan(&seq)
	})
	return seq, err
}

// IncidentFilter narrows Incidents. Zero fields let everything pass.
type IncidentFilter struct {
	Instance string
	Since    time.Time // still open then, or opened later
	Open     bool      // only those
	Limit    int       // 0: all
}

// Incidents returns those that pass, newest first; an empty list is not nil.
func (j *Journal) Incidents(ctx context.Context, f IncidentFilter) ([]policies.Incident, error) {
	where, args := []string{"1"}, []any{}
	if f.Instance != "" {
		where, args = append(where, "instance = ?"), append(args, f.Instance)
	}
	if f.Open {
		where = append(where, "closed = ''")
	}
	if !f.Since.IsZero() {
		where, args = append(where, "(closed = '' OR closed >= ?)"), append(args, stamp(f.Since))
	}
	tail := strings.Join(where, " AND ") + " ORDER BY seq DESC"
	if f.Limit > 0 {
		tail, args = tail+" LIMIT ?", append(args, f.Limit)
	}
	out := []policies.Incident{}
	err := j.view(ctx, "read the incidents", func(tx *sql.Tx) error {
		rows, err := query(ctx, tx, scanIncident, "SELECT seq, body FROM incidents WHERE "+tail, args...)
		for _, w := range rows {
			out = append(out, w.Incident)
		}
		return err
	})
	return out, err
}
