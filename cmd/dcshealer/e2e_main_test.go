package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dcshealer/agent/probe"
)

func TestMain(m *testing.M) {
	probe.QuietLibrary() // as main does; some tests run commands inside this process
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// built is the program, built once for all tests that want it as a process of its own.
var built struct {
	sync.Once
	dir, path string
	err       error
}

// program builds dcshealer, with the race detector where the tests have it, and returns its path.
func program(t *testing.T) string {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "dcshealer-e2e-"); built.err != nil {
			return
		}
		built.path = filepath.Join(built.dir, "dcshealer")
		args := []string{"build", "-buildvcs=false", "-ldflags", "-X main.version=" + testVersion, "-o", built.path}
		if raceDetector {
			args = append(args, "-race")
		}
		out, err := exec.Command("go", append(args, ".")...).CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

const (
	testVersion = "e2e-1.2.3"
	sigint      = syscall.SIGINT
	sigterm     = syscall.SIGTERM
	sigkill     = syscall.SIGKILL
)

// command runs dcshealer to its end, in a folder of its own unless -c names a file.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t), args...)
	cmd.Dir = t.TempDir()
	cmd.Env = environment()
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("dcshealer %s: %v", strings.Join(args, " "), err)
	}
	noRace(t, args, errOut.String())
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
}

// here runs a command inside this process: cheaper where it is asked again and again.
func here(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut textBuffer
	code = run(args, &out, &errOut)
	return code, out.String(), errOut.String()
}

// succeeds runs dcshealer and returns its stdout; it has to exit 0.
func succeeds(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := command(t, args...)
	if code != 0 {
		t.Fatalf("dcshealer %s: exit %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// environment keeps the race detector from sleeping for 1 s at each end, which is not the program's time.
func environment() []string { return append(os.Environ(), "GORACE=atexit_sleep_ms=0") }

func noRace(t *testing.T, args []string, stderr string) {
	t.Helper()
	if strings.Contains(stderr, "WARNING: DATA RACE") {
		t.Errorf("dcshealer %s: data race\n%s", strings.Join(args, " "), stderr)
	}
}

// process is a dcshealer in the background, or what is tried with one.
type process struct {
	t              *testing.T
	name           string
	cmd            *exec.Cmd
	stdout, stderr textBuffer
	ended          chan struct{}
}

// background starts dcshealer.
func background(t *testing.T, args ...string) *process {
	t.Helper()
	return spawn(t, program(t), args...)
}

// spawn starts a program; what is left of it at the test's end is killed, and its output shown where the test failed.
func spawn(t *testing.T, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: filepath.Base(program), cmd: exec.Command(program, args...), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = t.TempDir(), &p.stdout, &p.stderr
	p.cmd.Env = environment()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.kill()
		noRace(t, args, p.stderr.String())
		if t.Failed() {
			t.Logf("%s %s\nstdout:\n%s\nstderr:\n%s", p.name, strings.Join(args, " "), tail(p.stdout.String()), tail(p.stderr.String()))
		}
	})
	return p
}

// running starts `dcshealer run` and waits until it says that it runs.
func running(t *testing.T, args ...string) *process {
	t.Helper()
	p := background(t, append([]string{"run"}, args...)...)
	p.until("it runs", func() bool { return strings.Contains(p.stderr.String(), "running") })
	return p
}

func tail(s string) string {
	const most = 6000
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// kill ends the process as a crash does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// stop sends a signal and returns the exit code and how long the end took.
func (p *process) stop(s syscall.Signal) (code int, took time.Duration) {
	p.t.Helper()
	start := time.Now()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		p.t.Fatalf("not ended 30 s after %v", s)
	}
	return p.cmd.ProcessState.ExitCode(), time.Since(start)
}

// stopsWell checks a clean stop: exit 0 within 5 s.
func (p *process) stopsWell(s syscall.Signal) {
	p.t.Helper()
	code, took := p.stop(s)
	if code != 0 || took > 5*time.Second {
		p.t.Errorf("%v: exit %d after %v, want 0 within 5 s", s, code, took)
	}
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// until waits for a condition, and fails early when the process is gone.
func (p *process) until(what string, ok func() bool) {
	p.t.Helper()
	until(p.t, what, func() bool {
		if ok() {
			return true
		}
		if p.hasEnded() {
			p.t.Fatalf("%s: %s ended instead with %d", what, p.name, p.cmd.ProcessState.ExitCode())
		}
		return false
	})
}

// prints waits for a line on stdout that holds the text.
func (p *process) prints(text string) {
	p.t.Helper()
	p.until("it prints "+text, func() bool { return strings.Contains(p.stdout.String(), text) })
}

// lines are the lines on stdout that start with the prefix.
func (p *process) lines(prefix string) []string {
	var out []string
	for line := range strings.Lines(p.stdout.String()) {
		if strings.HasPrefix(line, prefix) {
			out = append(out, strings.TrimSuffix(line, "\n"))
		}
	}
	return out
}

// patience is long: two cores are shared by many servers. Nothing waits for it where all is well.
const patience = 45 * time.Second

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}
