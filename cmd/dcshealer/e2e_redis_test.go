package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// server is a real redis-server on a free port of 127.0.0.1.
type server struct {
	t    *testing.T
	port int
	dir  string
	args []string
	cmd  *exec.Cmd
	c    *redis.Client // the test's own
}

// startServer starts one with further arguments; it ends with the test.
func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("DCSHEALER_TEST_REQUIRE") == "1" {
			t.Fatal("redis-server is not on PATH: install it (apt-get install redis-server)")
		}
		t.Skip("SKIPPED, NOT TESTED: redis-server is not on PATH; install it (apt-get install redis-server)")
	}
	for range 5 { // another process may take the port before the server does
		s := &server{t: t, port: unusedPort(t), dir: t.TempDir(), args: args}
		if s.launch() {
			t.Cleanup(s.end)
			return s
		}
	}
	t.Fatal("redis-server does not start")
	return nil
}

// startReplica starts a replica of m and waits for the link.
func startReplica(t *testing.T, m *server, args ...string) *server {
	t.Helper()
	r := startServer(t, append([]string{"--replicaof", "127.0.0.1 " + strconv.Itoa(m.port)}, args...)...)
	until(t, "the replica is linked", r.linked)
	return r
}

// unusedPort is a port that nobody listens on now.
func unusedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (s *server) launch() bool {
	s.t.Helper()
	s.cmd = exec.Command("redis-server", append([]string{"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--save", "",
		"--appendonly", "no", "--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes", "--daemonize", "no"}, s.args...)...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.c = redis.NewClient(&redis.Options{Addr: s.addr(), Protocol: 2, DisableIdentity: true, Password: s.password(), ReadTimeout: 30 * time.Second,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	for range 500 {
		switch s.info("process_id") {
		case strconv.Itoa(s.cmd.Process.Pid):
			return true
		case "":
			time.Sleep(10 * time.Millisecond)
		default: // somebody else's server
			s.end()
			return false
		}
	}
	s.end()
	return false
}

func (s *server) password() string {
	for i, a := range s.args {
		if a == "--requirepass" {
			return s.args[i+1]
		}
	}
	return ""
}

func (s *server) addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }
func (s *server) url() string  { return "redis://" + s.addr() }

// end kills the process, also a stopped one; kill -9 is what a crash is.
func (s *server) end() {
	_ = s.c.Close()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// relaunch starts it again on its port, empty.
func (s *server) relaunch() {
	s.t.Helper()
	if !s.launch() {
		s.t.Fatalf("redis-server does not start again on port %d", s.port)
	}
}

// do sends a command that has to succeed.
func (s *server) do(args ...any) any {
	s.t.Helper()
	v, err := s.c.Do(context.Background(), args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		s.t.Fatalf("%v: %v", args, err)
	}
	return v
}

// info is one field of INFO; empty where it is missing or the server does not answer.
func (s *server) info(field string) string {
	text, err := s.c.Info(context.Background(), "everything").Result()
	if err != nil {
		return ""
	}
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
			return v
		}
	}
	return ""
}

func (s *server) number(field string) int64 {
	s.t.Helper()
	n, err := strconv.ParseInt(s.info(field), 10, 64)
	if err != nil {
		s.t.Fatalf("INFO %s of %s: %v", field, s.addr(), err)
	}
	return n
}

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
