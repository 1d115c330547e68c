package redistest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// A Server is a real redis-server on a port of 127.0.0.1. It ends with its test, by its pid.
type Server struct {
	Addr policies.Address
	C    *redis.Client // the test's own, which may write; it knows the password of --requirepass

	t    testing.TB
	args []string
	cmd  *exec.Cmd
	log  *bytes.Buffer // to be read once gone is closed
	gone chan struct{} // closed when the process has ended
}

// Start starts a server without persistence on a free port and returns once it answers. The arguments come after those of
// Start and win over them; a first one that is no option is its config file. A machine without redis-server ends the test as Missing says.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		Missing(t, "redis-server is not on PATH: install it (apt-get install redis-server)")
	}
	var s *Server
	for range 5 { // a free port may be taken before the server has it
		s = &Server{Addr: policies.Address{Host: "127.0.0.1", Port: FreePort(t)}, t: t, args: args}
		if s.launch() {
			t.Cleanup(s.Kill)
			s.C = s.Client()
			return s
		}
	}
	t.Fatalf("redis-server %s does not start; it said:\n%s", strings.Join(args, " "), s.log)
	return nil
}

// launch starts a process in an empty folder and reports whether it answers on the port; if not, it is ended.
func (s *Server) launch() bool {
	s.t.Helper()
	base := []string{"--port", strconv.Itoa(s.Addr.Port), "--bind", s.Addr.Host, "--dir", s.t.TempDir(), "--save", "", "--appendonly", "no",
		"--repl-diskless-sync-delay", "0"}
	s.log, s.gone = &bytes.Buffer{}, make(chan struct{})
	file, args := s.args[:0:0], s.args
	if len(args) > 0 && !strings.HasPrefix(args[0], "--") {
		file, args = args[:1], args[1:]
	}
	s.cmd = exec.Command("redis-server", slices.Concat(file, base, args)...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("start redis-server on %s: %v", s.Addr, err)
	}
	go func(cmd *exec.Cmd, gone chan struct{}) { _ = cmd.Wait(); close(gone) }(s.cmd, s.gone)
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case <-s.gone:
			return false
		default:
		}
		if s.answers() {
			return true
		}
	}
	s.Kill()
	return false
}

// answers reports whether this very process answers on the port, be it while it loads. The connection is closed for writing
// right away and read to its end, so that the server has let go of it too: none of the test's clients comes second to it.
func (s *Server) answers() bool {
	c, err := net.DialTimeout("tcp", s.Addr.String(), time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	ask := "INFO server\r\n"
	if password := s.password(); password != "" {
		ask = "AUTH " + password + "\r\n" + ask
	}
	if _, err := io.WriteString(c, ask); err != nil || c.(*net.TCPConn).CloseWrite() != nil {
		return false
	}
	answer, err := io.ReadAll(c)
	return err == nil && bytes.Contains(answer, fmt.Appendf(nil, "\r\nprocess_id:%d\r\n", s.cmd.Process.Pid))
}

func (s *Server) password() string {
	if i := slices.Index(s.args, "--requirepass"); i >= 0 {
		return s.args[i+1]
	}
	return ""
}

// Kill ends the process as a crash does (SIGKILL), also one that hangs; it is gone when Kill returns. A second time does nothing.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.gone
}

// Restart ends the process, where that is not done yet, and starts another, without data, on the same port.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	if !s.launch() {
		s.t.Fatalf("redis-server does not start again on %s; it said:\n%s", s.Addr, s.log)
	}
	Eventually(s.t, "the restarted server answers", func() bool { return s.C.Ping(s.t.Context()).Err() == nil })
}

// Hang stops the process (SIGSTOP): the kernel goes on accepting connections for it, until Resume.
func (s *Server) Hang() { s.t.Helper(); s.Signal(syscall.SIGSTOP) }

// Resume lets a process that hangs go on.
func (s *Server) Resume() { s.t.Helper(); s.Signal(syscall.SIGCONT) }

// Signal sends the process a signal.
func (s *Server) Signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("%s to redis-server on %s: %v", sig, s.Addr, err)
	}
}
