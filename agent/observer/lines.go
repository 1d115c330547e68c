package observer

import (
	"io"
	"log/slog"
	"sync"
)

// LineWriter lets several roles share one console: each Write, of whole lines, goes out in one piece. It is safe for
// concurrent use.
type LineWriter struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

// NewLineWriter writes to w.
func NewLineWriter(w io.Writer) *LineWriter { return &LineWriter{w: w} }

// Write hands p on, alone.
func (l *LineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// lines prints for one role. A console that is gone stops no role: it is logged once until lines go out again.
type lines struct {
	out    io.Writer
	log    *slog.Logger
	failed bool
}

func newLines(o Options, role string) lines {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return lines{out: o.Out, log: log.With("component", role)}
}

// print writes one line and its break in one Write.
func (l *lines) print(s string) {
	_, err := io.WriteString(l.out, s+"\n")
	if err != nil && !l.failed {
		l.log.Error("console lines are lost", "err", err)
	}
	l.failed = err != nil
}
