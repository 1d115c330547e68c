package remediation

import (
	"context"
	"fmt"
	"time"

	"dcshealer/policies"
)

// laterAfter is when memory is looked at again after a sweep: does it come back?
const laterAfter = 30 * time.Second

// lateLook is a look that is due some time after an action.
type lateLook struct {
	node, record string
	after        policies.Snapshot // right after the action
	due          time.Time
}

// lookLater has the memory of a node looked at again, and noted in the record.
func (m *Machine) lookLater(node, record string, after policies.Snapshot) {
	m.late = append(m.late, lateLook{node, record, after, time.Now().Add(laterAfter)})
}

// lookAgainLater takes the looks that are due. A node that cannot be read, or restarted, is noted as such.
func (m *Machine) lookAgainLater(ctx context.Context) {
	for len(m.late) > 0 && !time.Now().Before(m.late[0].due) {
		l := m.late[0]
		m.late = m.late[1:]
		s := m.probers[l.node].Probe(ctx)
		if ctx.Err() != nil {
			return
		}
		text, data := laterText(l.after, s)
		if err := m.h.opt.Journal.Note(ctx, l.record, policies.Note{At: time.Now(), Text: text, Data: data}); err != nil {
			m.log.Warn("the later look could not be journalled", "record", l.record, "err", err)
		}
	}
}

// laterText compares the memory of a while after an action with that right after it.
func laterText(after, now policies.Snapshot) (string, map[string]any) {
	a, b, share := after.Memory.Counted(), now.Memory.Counted(), now.Memory.Share()
	if now.Reach != policies.ReachUp || now.RunID != after.RunID || !a.Known || !b.Known || !share.Known {
		return fmt.Sprintf("%s later the node cannot be compared (%s)", laterAfter, now.Reach), nil
	}
	how := "it stays"
	if grown := b.V - a.V; grown > now.Memory.Max.V/100 {
		how = fmt.Sprintf("it comes back: %.1f MiB more", mebibytes(grown))
	}
	return fmt.Sprintf("%s later memory is at %.1f %% of maxmemory: %s", laterAfter, share.V*100, how),
		map[string]any{"counted_bytes": b.V, "used_bytes": now.Memory.Used, "rss_bytes": now.Memory.RSS}
}

// progress keeps how far the action under way has come, for status; nil: there is none.
func (m *Machine) progress(p *policies.Progress) {
	m.mu.Lock()
	m.underWay = p
	m.mu.Unlock()
	if p != nil && m.h.opt.Progress != nil {
		m.h.opt.Progress(*p)
	}
	m.save()
}
