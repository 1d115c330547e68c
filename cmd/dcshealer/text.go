package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dcshealer/policies"
)

// printable makes untrusted text safe for one line of a terminal, whatever its length.
func printable(s string) string { return policies.Printable(s, 0) }

// unread reports whether w is a pipe or a terminal that nobody reads any longer, as after `| head`: who only waits for something to write
// would never learn it.
func unread(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(f.Fd())}}
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}

// shellWord is s as one word of a command line that a person copies.
func shellWord(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-"
	s = printable(s)
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// clock is a time for people, in UTC to the second; "-" for none.
func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// parseSince is parseTime for the begin of a span that ends now: one that holds nothing is refused.
func parseSince(s string, now time.Time) (time.Time, error) {
	t, err := parseTime(s, now)
	if err == nil && !t.Before(now) {
		return time.Time{}, fmt.Errorf("%q: no time has passed since then; want a duration such as 90m, 24h or 30d, or a time in the past", s)
	}
	return t, err
}

// parseTime reads a duration such as 90m or 24h, also in days (30d), as that long ago, or an RFC 3339 time. Empty: the zero time.
func parseTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	d, err := parseDuration(s)
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("%q: want a duration such as 90m, 24h or 30d, or a time such as 2026-01-02T15:04:05Z", s)
	}
	return now.Add(-d), nil
}

// parseDuration reads Go's durations and whole days: 90s, 2h, 30d.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		if _, err := fmt.Sscanf(days, "%d", &n); err != nil || fmt.Sprint(n) != days || n > 36500 {
			return 0, fmt.Errorf("duration %q: want such as 30d, 2h or 90s", s)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	return time.ParseDuration(s)
}
