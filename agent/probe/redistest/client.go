package redistest

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Client is a further client of the test's own, closed with the test; it tries everything once.
func (s *Server) Client(change ...func(*redis.Options)) *redis.Client {
	o := &redis.Options{Addr: s.Addr.String(), Password: s.password(), Protocol: 2, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1,
		ReadTimeout: Patience}
	for _, f := range change {
		f(o)
	}
	c := redis.NewClient(o)
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// Do sends a command that has to succeed; an answer of nil is one too.
func (s *Server) Do(args ...any) any {
	s.t.Helper()
	v, err := s.C.Do(context.Background(), args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		s.t.Fatalf("%v: %v", args, err)
	}
	return v
}

// Info is the fields of one INFO section; empty when the server does not answer.
func (s *Server) Info(section string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(s.C.Info(context.Background(), section).Val()) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			out[k] = v
		}
	}
	return out
}

// Number is one field of an INFO section, which has to be there and to be a whole number.
func (s *Server) Number(section, field string) int64 {
	s.t.Helper()
	n, err := strconv.ParseInt(s.Info(section)[field], 10, 64)
	if err != nil {
		s.t.Fatalf("INFO %s of %s: %s: %v", section, s.Addr, field, err)
	}
	return n
}

// CommandCalls is the server's own count of the commands it was sent since CONFIG RESETSTAT, the refused ones included, by
// the names of INFO commandstats ("get", "config|set"); empty when the server does not answer.
func (s *Server) CommandCalls() map[string]int {
	out := map[string]int{}
	for k, v := range s.Info("commandstats") {
		name, ok := strings.CutPrefix(k, "cmdstat_")
		if !ok {
			continue
		}
		for part := range strings.SplitSeq(v, ",") {
			if field, n, _ := strings.Cut(part, "="); field == "calls" || field == "rejected_calls" {
				i, _ := strconv.Atoi(n)
				out[name] += i
			}
		}
	}
	return out
}

// LinkUp reports a replica that is in step with its master.
func (s *Server) LinkUp() bool { return s.Info("replication")["master_link_status"] == "up" }

// Accounted waits until the server has told its connections' buffers, that of the link to its master included: it looks at all of them
// once a second, and what it has not told yet looks like data. INFO is asked by ask.
func Accounted(t testing.TB, ask func() (info string)) {
	t.Helper()
	uptime := func() (seconds int64) {
		_, rest, _ := strings.Cut(ask(), "uptime_in_seconds:")
		number, _, _ := strings.Cut(rest, "\r")
		seconds, _ = strconv.ParseInt(number, 10, 64)
		return seconds
	}
	until := uptime() + 3
	Eventually(t, "the buffers are accounted for", func() bool { return uptime() >= until })
}

// Accounted is that of the server.
func (s *Server) Accounted() {
	s.t.Helper()
	Accounted(s.t, func() string { return s.C.Info(context.Background(), "server").Val() })
}
