package journal

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"dcshealer/policies"
)

// join makes the record of its entries, given in their order. An entry that cannot be read (somebody edited it) is
// named in the record's Error; Verify tells more. Pure.
func join(entries []Entry) policies.Record {
	var r policies.Record
	var unread []string
	for _, e := range entries {
		if err := extend(&r, e); err != nil {
			unread = append(unread, fmt.Sprintf("journal entry %d (%s) cannot be read: %v; run: dcshealer actions verify", e.Seq, e.Kind, err))
		}
		r.ID, r.Prev, r.Hash = e.Record, e.Prev, e.Hash
	}
	if unread != nil {
		r.Error = strings.Join(append(unread, r.Error), "; ")
	}
	// Readers of the JSON get lists, never null.
	if r.Guards == nil {
		r.Guards = []policies.Ruling{}
	}
	if r.DeniedBy == nil {
		r.DeniedBy = []policies.Guard{}
	}
	if r.Commands == nil {
		r.Commands = []policies.CommandRecord{}
	}
	return r
}

// extend adds one entry to its record.
func extend(r *policies.Record, e Entry) error {
	switch e.Kind {
	case KindIntent:
		if err := json.Unmarshal(e.Body, r); err != nil {
			*r = policies.Record{At: unstamp(e.At)}
			return err
		}
		for i := range r.Commands {
			r.Commands[i].Took = seconds(r.Commands[i].TookS)
		}
	case KindCommand:
		return decode(e.Body, func(c policies.CommandRecord) {
			c.Took = seconds(c.TookS)
			r.Commands = append(r.Commands, c)
		})
	case KindResult:
		return decode(e.Body, func(res Result) { conclude(r, res) })
	case KindNote:
		return decode(e.Body, func(n policies.Note) { r.Notes = append(r.Notes, n) })
	case KindInterrupted:
		return decode(e.Body, func(end ended) {
			r.Outcome, r.Finished = policies.OutcomeInterrupted, end.Finished
		})
	default:
		return fmt.Errorf("unknown kind %q", e.Kind)
	}
	return nil
}

func conclude(r *policies.Record, res Result) {
	r.Outcome, r.Finished, r.Error = res.Outcome, res.Finished, res.Error
	r.After, r.Effect = res.After, res.Effect
	for _, c := range res.Commands {
		c.Took = seconds(c.TookS)
		r.Commands = append(r.Commands, c)
	}
	if res.Guards != nil {
		r.Guards = res.Guards
	}
	if res.DeniedBy != nil {
		r.DeniedBy = res.DeniedBy
	}
}

// decode reads a body and hands it on only when it could be read.
func decode[T any](body json.RawMessage, use func(T)) error {
	var v T
	if err := json.Unmarshal(body, &v); err != nil {
		return err
	}
	use(v)
	return nil
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s * float64(time.Second))) }
