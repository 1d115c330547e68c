// Package observer shows alarms to people and keeps them: the on-duty DBA's console, the dashboard's, the archiver, and
// the healer's first lines for who runs it elsewhere. It changes nothing outside the archive.
package observer

import (
	"context"
	"io"
	"log/slog"
	"time"

	"dcshealer/policies"
)

// Feed is where a role's messages come from; a bus subscription, which somebody else runs, is one.
type Feed interface {
	// Ready is closed once the subscription stands for the first time.
	Ready() <-chan struct{}
	// Batch waits for a message, and then up to linger for more. It returns none once the feed has ended and all was
	// handed over, or where ctx has ended and nothing waits.
	Batch(ctx context.Context, max int, linger time.Duration) []policies.Message
}

// Decoder turns a message into an alarm. A message that is none to show (malformed, a duplicate, a canary) is an error,
// which the decoder has dealt with. A decoder is one role's: it knows what that role has had.
type Decoder interface {
	Decode(m policies.Message) (policies.Alarm, error)
}

// Options are what every role needs.
type Options struct {
	Feed   Feed
	Decode Decoder
	Out    io.Writer    // the console; shared by roles it should be a LineWriter
	Prefix string       // of the channels, for the archiver's start line
	Log    *slog.Logger // nil: no logs
}

// DBATopics, and the healer's.
func DBATopics() policies.Topics {
	return policies.Topics{Severities: []policies.Severity{policies.Critical}}
}

// DashboardTopics are critical and warning.
func DashboardTopics() policies.Topics {
	return policies.Topics{Severities: []policies.Severity{policies.Critical, policies.Warning}}
}

// ArchiverTopics are everything under the prefix, and what the stream holds from before: what was published while no
// archiver ran is kept then, and what was kept already is left out by its id.
func ArchiverTopics() policies.Topics { return policies.Topics{All: true, History: true} }

// console is a role that prints a line for each alarm that has one.
type console struct {
	feed   Feed
	decode Decoder
	lines  lines
	start  string
	line   func(policies.Alarm) (string, bool)
}

func newConsole(o Options, role, start string, line func(policies.Alarm) (string, bool)) console {
	return console{feed: o.Feed, decode: o.Decode, lines: newLines(o, role), start: start, line: line}
}

// Run prints its start line once the feed is ready, and then until the feed or the context ends and nothing waits. It
// returns nil.
func (c *console) Run(ctx context.Context) error {
	if !ready(ctx, c.feed) {
		return nil
	}
	c.lines.print(c.start)
	for {
		batch := c.feed.Batch(ctx, 100, 0)
		if len(batch) == 0 {
			return nil
		}
		for _, m := range batch {
			c.show(m)
		}
	}
}

func (c *console) show(m policies.Message) {
	a, err := c.decode.Decode(m)
	if err != nil {
		return
	}
	if line, ok := c.line(a); ok {
		c.lines.print(line)
	}
}

func ready(ctx context.Context, feed Feed) bool {
	select {
	case <-feed.Ready():
		return true
	case <-ctx.Done():
		return false
	}
}

func always(line func(policies.Alarm) string) func(policies.Alarm) (string, bool) {
	return func(a policies.Alarm) (string, bool) { return line(a), true }
}

// DBA prints critical alarms and their end, for the person on duty.
type DBA struct{ console }

// NewDBA wants a feed of DBATopics.
func NewDBA(o Options) *DBA {
	return &DBA{newConsole(o, "dba", policies.DBAStartLine, always(policies.DBALine))}
}

// Dashboard prints critical and warning alarms, for the O&M team.
type Dashboard struct{ console }

// NewDashboard wants a feed of DashboardTopics.
func NewDashboard(o Options) *Dashboard {
	return &Dashboard{newConsole(o, "dashboard", policies.DashboardStartLine, always(policies.DashboardLine))}
}

// HealerConsole prints what a healer says first to each critical alarm. It heals nothing.
type HealerConsole struct{ console }

// NewHealerConsole wants a feed of DBATopics.
func NewHealerConsole(o Options) *HealerConsole {
	return &HealerConsole{newConsole(o, "healer-console", policies.HealerStartLine, policies.HealerLine)}
}
