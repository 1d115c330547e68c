package probe

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

func TestMain(m *testing.M) {
	QuietLibrary()
	_ = flag.Set("test.parallel", "4") // most of these wait for servers; -parallel still wins
	os.Exit(m.Run())
}

// A server is a redistest.Server with the address and the probers of these tests.
type server struct {
	*redistest.Server
	t    *testing.T
	addr policies.Address
}

func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	s := redistest.Start(t, args...)
	return &server{s, t, s.Addr}
}

// admin is a client of the test's own, which may write.
func (s *server) admin() *redis.Client { return s.Client() }

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

func replicaOf(t *testing.T, m *server, args ...string) *server {
	t.Helper()
	x := startServer(t, append([]string{"--replicaof", fmt.Sprintf("127.0.0.1 %d", m.addr.Port)}, args...)...)
	redistest.Eventually(t, "the replica's link is up", x.LinkUp)
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
