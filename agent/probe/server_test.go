package probe

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

func TestMain(m *testing.M) {
	QuietLibrary()
	os.Exit(m.Run())
}

// A server is a real redis-server on a free port, ended with the test.
type server struct {
	t    *testing.T
	addr policies.Address
	cmd  *exec.Cmd
	log  bytes.Buffer
}

// startServer starts redis-server with extra arguments. A machine without one skips, loudly; DCSHEALER_TEST_REQUIRE=1 makes that an error.
func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("DCSHEALER_TEST_REQUIRE") == "1" {
			t.Fatal("redis-server is not on PATH: install it (apt-get install redis-server)")
		}
		t.Skip("NOT TESTED: redis-server is not on PATH; install it (apt-get install redis-server)")
	}
	for range 5 { // a free port may be taken before the server has it
		s := &server{t: t, addr: policies.Address{Host: "127.0.0.1", Port: freePort(t)}}
		base := []string{"--port", fmt.Sprint(s.addr.Port), "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "", "--appendonly", "no",
			"--repl-diskless-sync-delay", "0"}
		s.cmd = exec.Command(bin, append(base, args...)...)
		s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
		if err := s.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if s.listens() {
			t.Cleanup(s.stop)
			return s
		}
		s.stop()
	}
	t.Fatal("no redis-server came up")
	return nil
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func (s *server) listens() bool {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("tcp", s.addr.String()); err == nil {
			c.Close()
			return s.cmd.Process.Signal(syscall.Signal(0)) == nil
		}
	}
	return false
}

// admin is a client of the test's own, which may write.
func (s *server) admin(password ...string) *redis.Client {
	o := &redis.Options{Addr: s.addr.String(), Protocol: 2, DisableIdentity: true, MaxRetries: -1}
	if len(password) > 0 {
		o.Password = password[0]
	}
	c := redis.NewClient(o)
	s.t.Cleanup(func() { c.Close() })
	return c
}

func (s *server) do(c *redis.Client, args ...any) any {
	s.t.Helper()
	v, err := c.Do(context.Background(), args...).Result()
	if err != nil {
		s.t.Fatalf("%v: %v", args, err)
	}
	return v
}

func (s *server) prober(change ...func(*Options)) *Prober {
	o := Options{Instance: "dcs-test-01", Node: policies.Node{Name: "node-01", Address: s.addr}, Timeout: 2 * time.Second}
	for _, f := range change {
		f(&o)
	}
	p := New(o)
	s.t.Cleanup(func() { p.Close() })
	return p
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// eventually polls to a deadline.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func replicaOf(t *testing.T, m *server, args ...string) *server {
	t.Helper()
	x := startServer(t, append([]string{"--replicaof", fmt.Sprintf("127.0.0.1 %d", m.addr.Port)}, args...)...)
	c := x.admin()
	eventually(t, "the replica's link is up", func() bool {
		return strings.Contains(c.Info(context.Background(), "replication").Val(), "master_link_status:up")
	})
	return x
}

func testdata(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
