package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// narrator tells the demo. Lines of the roles come in between, each whole. Safe for concurrent use.
type narrator struct {
	mu     sync.Mutex // guards what follows
	w      io.Writer
	colour bool
	steps  int
	muted  bool // for the roles
}

// newNarrator colours on a terminal, unless NO_COLOR is set.
func newNarrator(w io.Writer) *narrator {
	f, ok := w.(*os.File)
	colour := ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return &narrator{w: w, colour: colour}
}

// The styles of a terminal.
const (
	bold  = "1"
	dim   = "2"
	green = "32"
)

func (n *narrator) print(style, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.write(style, text)
}

// write prints one line; the caller holds mu. A narration that nobody can read changes nothing about the demo.
func (n *narrator) write(style, text string) {
	if n.colour && style != "" {
		text = "\x1b[" + style + "m" + text + "\x1b[0m"
	}
	fmt.Fprintln(n.w, text)
}

func (n *narrator) title(text string) { n.print(bold, text) }

// step begins the next act.
func (n *narrator) step(format string, a ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.steps++
	n.write("", "")
	n.write(bold, fmt.Sprintf("%d. ", n.steps)+fmt.Sprintf(format, a...))
}

func (n *narrator) say(format string, a ...any) { n.print("", "   "+fmt.Sprintf(format, a...)) }

// good tells a success.
func (n *narrator) good(format string, a ...any) { n.print(green, "   "+fmt.Sprintf(format, a...)) }

// command shows a command as a person would type it.
func (n *narrator) command(text string) { n.print(bold, "   $ "+text) }

// block shows the output of a command, whole.
func (n *narrator) block(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for line := range strings.Lines(text) {
		n.write("", "   "+strings.TrimRight(line, "\n"))
	}
}

// mute keeps quiet what the roles say while they stop.
func (n *narrator) mute() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.muted = true
}

// lines takes what a role prints and shows each line as it is complete.
func (n *narrator) lines() io.Writer { return &roleLines{tell: n} }

// roleLines is written to by one goroutine.
type roleLines struct {
	tell *narrator
	rest []byte
}

func (l *roleLines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		l.tell.role(string(line))
		l.rest = rest
	}
}

func (n *narrator) role(line string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.muted {
		n.write(dim, "   | "+line)
	}
}

// foldAllowed makes one line of the guards that allow: the plan of a newcomer is read for what stops it.
func foldAllowed(plan string) string {
	var b strings.Builder
	allowed := 0
	flush := func() {
		if allowed > 0 {
			fmt.Fprintf(&b, "             allow   (%d other guards; dcshealer plan names each with its reason)\n", allowed)
		}
		allowed = 0
	}
	for line := range strings.Lines(plan) {
		word := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(word, "allow "):
			allowed++
			continue
		case !strings.HasPrefix(word, "deny "):
			flush()
		}
		b.WriteString(line)
	}
	flush()
	return b.String()
}
