package redistest

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestServerLivesHangsAndDies(t *testing.T) {
	s := Start(t, "--requirepass", "pw", "--maxclients", "77")
	if n := s.Number("clients", "connected_clients"); n != 1 {
		t.Errorf("%d clients, want the test's own only", n)
	}
	if n := s.Number("clients", "maxclients"); n != 77 {
		t.Errorf("maxclients is %d, want 77", n)
	}
	s.Do("SET", "k", "v")
	s.C.Do(t.Context(), "SET", "k") // refused: it lacks the value
	if n := s.CommandCalls()["set"]; n != 2 {
		t.Errorf("SET was counted %d times, want 2", n)
	}
	hasty := s.Client(func(o *redis.Options) { o.ReadTimeout = 50 * time.Millisecond })
	s.Hang()
	if err := hasty.Ping(t.Context()).Err(); err == nil {
		t.Error("a server that hangs answers")
	}
	s.Resume()
	Eventually(t, "it answers again", func() bool { return hasty.Ping(t.Context()).Err() == nil })
	before := s.Info("server")["run_id"]
	s.Do("SAVE")
	s.Hang()
	s.Restart()
	if now := s.Info("server")["run_id"]; now == "" || now == before || s.Do("DBSIZE") != int64(0) {
		t.Errorf("run_id %q and %v keys after the restart, %q before it", now, s.Do("DBSIZE"), before)
	}
	s.Kill()
	s.Kill()
	if c, err := net.Dial("tcp", s.Addr.String()); err == nil {
		c.Close()
		t.Error("a killed server takes connections")
	}
	if got := s.Info("server"); len(got) != 0 {
		t.Errorf("a killed server answers %v", got)
	}
}

// What answers on the port has to be the process that was started.
func TestAnotherServersPortIsNotOurs(t *testing.T) {
	first := Start(t)
	s := &Server{Addr: first.Addr, t: t}
	if s.launch() {
		t.Error("a server on a port that is taken is said to be up")
	}
	if second := Start(t, "--replicaof", fmt.Sprint(first.Addr.Host, " ", first.Addr.Port)); second.Addr != first.Addr {
		Eventually(t, "the replica is in step", second.LinkUp)
	}
}
