package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/agent/probe/redistest"
)

// server is a redistest.Server with what these tests do to it.
type server struct {
	*redistest.Server
	t *testing.T
	c *redis.Client // the test's own
}

func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	s := redistest.Start(t, append([]string{"--enable-debug-command", "yes"}, args...)...)
	return &server{s, t, s.C}
}

// startReplica starts a replica of m and waits for the link.
func startReplica(t *testing.T, m *server, args ...string) *server {
	t.Helper()
	r := startServer(t, append([]string{"--replicaof", m.Addr.Host + " " + strconv.Itoa(m.Addr.Port)}, args...)...)
	until(t, "the replica is linked", r.linked)
	return r
}

func (s *server) addr() string              { return s.Addr.String() }
func (s *server) url() string               { return "redis://" + s.addr() }
func (s *server) end()                      { s.Kill() }
func (s *server) relaunch()                 { s.t.Helper(); s.Restart() }
func (s *server) signal(sig syscall.Signal) { s.t.Helper(); s.Signal(sig) }
func (s *server) do(args ...any) any        { s.t.Helper(); return s.Do(args...) }

// info is one field of INFO; empty where it is missing or the server does not answer.
func (s *server) info(field string) string  { return s.Info("everything")[field] }
func (s *server) number(field string) int64 { s.t.Helper(); return s.Number("everything", field) }

// linked reports a replica in step with its master.
func (s *server) linked() bool {
	return s.info("role") == "slave" && s.info("master_link_status") == "up"
}

// detach makes it a master of its own, as a person by mistake does.
func (s *server) detach() { s.t.Helper(); s.do("REPLICAOF", "NO", "ONE") }

// expire fills it with n keys that expire at once and that nothing deletes, and puts maxmemory below what is in use: writes
// are refused until somebody visits the keys.
func (s *server) expire(n int) {
	s.t.Helper()
	s.do("DEBUG", "SET-ACTIVE-EXPIRE", "0")
	const batch = 5000 // in pieces, or a probe would find the server hung in a script
	for from := 0; from < n; from += batch {
		s.do("EVAL", `local v = string.rep('x', 64)
for i = ARGV[1] + 1, ARGV[2] do redis.call('SET', ARGV[3] .. string.format('%d', i), v, 'PX', 1) end`, "0", from, min(n, from+batch), baitKey)
	}
	until(s.t, "writes are refused", func() bool {
		s.do("CONFIG", "SET", "maxmemory", (s.number("used_memory")-s.number("mem_not_counted_for_evict"))*99/100)
		err := s.c.Set(context.Background(), "probe", "x", 0).Err()
		return err != nil && strings.HasPrefix(err.Error(), "OOM")
	})
}

// baitKey starts the names of the keys that are swept: no output and no file of ours may hold it.
const baitKey = "bait-key-7f3a-"

// takesWrites reports whether the server accepts a write.
func (s *server) takesWrites() bool {
	return s.c.Set(context.Background(), "written", "x", 0).Err() == nil
}

// plainClient speaks the protocol by hand, as any client of the bus may.
type plainClient struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func dialPlain(t *testing.T, addr string) *plainClient {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &plainClient{t: t, conn: conn, in: bufio.NewReader(conn)}
}

// publish sends PUBLISH and returns the number of receivers.
func (c *plainClient) publish(channel, payload string) int {
	c.t.Helper()
	fmt.Fprintf(c.conn, "*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(channel), channel, len(payload), payload)
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	line, err := c.in.ReadString('\n')
	n, bad := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, ":")))
	if err != nil || bad != nil {
		c.t.Fatalf("PUBLISH %s: %q, %v", channel, line, err)
	}
	return n
}

// psubscribe subscribes and hands every message over until the connection ends.
func (c *plainClient) psubscribe(pattern string) <-chan [2]string {
	c.t.Helper()
	fmt.Fprintf(c.conn, "PSUBSCRIBE %s\r\n", pattern)
	if got := c.array(); len(got) != 3 || got[0] != "psubscribe" {
		c.t.Fatalf("PSUBSCRIBE: %q", got)
	}
	out := make(chan [2]string, 10_000)
	go func() {
		defer close(out)
		for {
			m := c.array()
			if len(m) != 4 {
				return
			}
			out <- [2]string{m[2], m[3]}
		}
	}()
	return out
}

// array reads one array of bulk strings and integers; nil at the end.
func (c *plainClient) array() []string {
	head, err := c.in.ReadString('\n')
	if err != nil || head[0] != '*' {
		return nil
	}
	n, _ := strconv.Atoi(strings.TrimSpace(head[1:]))
	out := make([]string, n)
	for i := range out {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return nil
		}
		line = strings.TrimSpace(line)
		if line[0] != '$' {
			out[i] = line[1:]
			continue
		}
		size, _ := strconv.Atoi(line[1:])
		buf := make([]byte, size+2)
		for read := 0; read < len(buf); {
			k, err := c.in.Read(buf[read:])
			if err != nil {
				return nil
			}
			read += k
		}
		out[i] = string(buf[:size])
	}
	return out
}
