package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// watchEvery is how often --watch looks; the journal is a local file.
const watchEvery = 500 * time.Millisecond

// watchStatus shows the status whenever it has changed, until ctx ends or nobody reads it: on a terminal in place, else one after
// another.
func (a *app) watchStatus(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	screen := isTerminal(a.stdout) && !a.json()
	var shown []byte
	for {
		now := time.Now()
		s, err := a.readStatus(ctx, now)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		// Ages go on by themselves: off a terminal they are no change.
		same, err := json.Marshal(s)
		if err != nil {
			return err
		}
		if screen || !bytes.Equal(same, shown) {
			if err := a.showStatus(s, same, now, screen); err != nil {
				return err
			}
			shown = same
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if unread(a.stdout) {
			return nil
		}
	}
}

func (a *app) showStatus(s fleetStatus, line []byte, now time.Time, screen bool) (err error) {
	if a.json() {
		_, err = fmt.Fprintf(a.stdout, "%s\n", line)
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s UTC\n", clock(now))
	s.write(&b, now, coloured(a.stdout), widthOf(a.stdout))
	out := b.String() + "\n"
	if screen { // over what stands there, clearing what is left of each line and below: without that it would flicker
		const home, endOfLine, below = "\x1b[H", "\x1b[K", "\x1b[J"
		out = home + strings.ReplaceAll(b.String(), "\n", endOfLine+"\n") + below
	}
	_, err = io.WriteString(a.stdout, out)
	return err
}
