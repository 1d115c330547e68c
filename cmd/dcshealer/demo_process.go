package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A demoProcess is a child of the demo that runs until it is stopped.
type demoProcess struct {
	name string
	log  string // the file that its stderr goes to
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended; read after done
}

// start runs a program in the background, its stderr to a log file of its name. stop of the demo ends it.
func (d *demo) start(name string, cmd *exec.Cmd) (*demoProcess, error) {
	p := &demoProcess{name: name, log: filepath.Join(d.dir, name+".log"), cmd: cmd, done: make(chan struct{})}
	file, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer file.Close() // the child has it then
	cmd.Dir, cmd.Stderr, cmd.SysProcAttr, cmd.WaitDelay = d.dir, file, childAttributes(), time.Second
	if cmd.Stdout == nil {
		cmd.Stdout = file
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	d.started = append(d.started, p)
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// ended reports whether the process is gone.
func (p *demoProcess) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop asks the process to end, and makes it after the grace. The error is an end that was no clean one.
func (p *demoProcess) stop(grace time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error says that it has ended
	if p.within(grace) {
		if p.err != nil {
			return fmt.Errorf("%s ended with %w; its log is %s", p.name, p.err, p.log)
		}
		return nil
	}
	_ = p.cmd.Process.Kill() // as above
	if !p.within(grace) {
		return fmt.Errorf("%s (pid %d) cannot be killed", p.name, p.cmd.Process.Pid)
	}
	return fmt.Errorf("%s did not stop within %s and was killed; its log is %s", p.name, grace, p.log)
}

func (p *demoProcess) within(d time.Duration) bool {
	limit := time.NewTimer(d)
	defer limit.Stop()
	select {
	case <-p.done:
		return true
	case <-limit.C:
		return false
	}
}

// stop ends all that was started: first what runs on the servers, then the servers side by side.
func (d *demo) stop() error {
	var errs []error
	if d.roles != nil {
		d.tell.mute()
		errs = append(errs, d.roles.stop(stopWithin+time.Second))
	}
	for _, c := range slices.Backward(d.closers) {
		_ = c() // connections to servers that end now
	}
	ends := make([]error, len(d.started))
	var wg sync.WaitGroup
	for i, p := range d.started {
		if p != d.roles && !p.ended() {
			wg.Go(func() { ends[i] = p.stop(3 * time.Second) })
		}
	}
	wg.Wait()
	return errors.Join(append(errs, ends...)...)
}

// commandLimit bounds one command of this program.
const commandLimit = 20 * time.Second

// command runs this program with the demo's config and returns what it printed. An exit code other than want is an error.
func (d *demo) command(ctx context.Context, want int, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.self, append(slices.Clone(args), "-c", d.config)...)
	var out, errOut bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = d.dir, &out, &errOut
	cmd.SysProcAttr, cmd.WaitDelay = childAttributes(), time.Second
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	err := cmd.Run()
	var exit *exec.ExitError
	if code := cmd.ProcessState.ExitCode(); err != nil && !errors.As(err, &exit) || code != want {
		return out.String(), fmt.Errorf("dcshealer %s: exit %d, want %d: %s", strings.Join(args, " "), code, want, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

// query runs a command with -o json and reads its answer into v.
func (d *demo) query(ctx context.Context, v any, args ...string) error {
	out, err := d.command(ctx, exitDone, append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		return fmt.Errorf("dcshealer %s -o json: %w", strings.Join(args, " "), err)
	}
	return nil
}

// await asks until the answer is "", which is yes; any other says what is missing. It ends early when the roles do.
func (d *demo) await(ctx context.Context, what string, limit, every time.Duration, ask func(context.Context) string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	var ended <-chan struct{}
	if d.roles != nil {
		ended = d.roles.done
	}
	missing := "nothing was read"
	for {
		last := ask(ctx)
		if last == "" {
			return nil
		}
		if ctx.Err() == nil {
			missing = last // a question cut short says nothing
		}
		select {
		case <-tick.C:
		case <-ended:
			return fmt.Errorf("%s: dcshealer run ended by itself (%v); its log is %s", what, d.roles.err, d.roles.log)
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %s: %s", what, limit, missing)
		}
	}
}
