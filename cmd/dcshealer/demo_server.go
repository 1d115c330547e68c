package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// serverProgram is the server that the demo starts.
type serverProgram struct {
	path, product, version string
	major                  int
}

func (s serverProgram) String() string { return s.product + " " + s.version }

// findServerProgram looks for a server on PATH. The error says how to get one.
func findServerProgram(ctx context.Context) (serverProgram, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return inspectServer(ctx, path)
		}
	}
	return serverProgram{}, errors.New("no redis-server or valkey-server on PATH: install one (Debian and Ubuntu: apt-get install redis-server; Fedora: dnf install valkey; " +
		"macOS: brew install redis), or run make demo, which does it on Debian and Ubuntu")
}

// serverVersion reads "Redis server v=7.0.15 sha=..." and "Valkey server v=8.1.1 ...".
var serverVersion = regexp.MustCompile(`(Redis|Valkey) server v=((\d+)\.\d+\S*)`)

func inspectServer(ctx context.Context, path string) (serverProgram, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return serverProgram{}, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	m := serverVersion.FindSubmatch(out)
	if m == nil {
		return serverProgram{}, fmt.Errorf("%s --version says %.80q: want a Redis or Valkey server", path, out)
	}
	major, err := strconv.Atoi(string(m[3]))
	if err != nil {
		return serverProgram{}, fmt.Errorf("%s --version: %w", path, err)
	}
	return serverProgram{path: path, product: string(m[1]), version: string(m[2]), major: major}, nil
}

// args are the options of every server of the demo: nothing is saved, no resync waits, DEBUG is there to make faults with.
func (s serverProgram) args(port int, dir string, own []string) []string {
	args := []string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"}
	if s.major >= 7 { // Redis 6 has DEBUG without it and does not know the option
		args = append(args, "--enable-debug-command", "local")
	}
	return append(args, own...)
}

// demoNode is one server of the demo.
type demoNode struct {
	name    string
	port    int
	process *demoProcess
	client  *redis.Client
}

func (n *demoNode) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.port)) }

// startNode starts a server on a free port. Another process may take the port in between: then it tries another one.
func (d *demo) startNode(ctx context.Context, name string, own ...string) (*demoNode, error) {
	var err error
	for range 5 {
		n := &demoNode{name: name}
		if n.port, err = freeDemoPort(); err != nil {
			return nil, fmt.Errorf("find a free port for %s: %w", name, err)
		}
		if n.process, err = d.start(name, exec.Command(d.server.path, d.server.args(n.port, d.dir, own)...)); err != nil {
			return nil, err
		}
		n.client = demoClient(n.address())
		d.closers = append(d.closers, n.client.Close)
		err = d.await(ctx, "start "+name, 10*time.Second, 10*time.Millisecond, n.ready)
		if err == nil && !n.process.ended() {
			return n, nil
		}
		if !n.process.ended() || ctx.Err() != nil {
			return nil, fmt.Errorf("%w; its log is %s", err, n.process.log)
		}
		err = fmt.Errorf("start %s: it ended at once (%w); its log is %s", name, n.process.err, n.process.log)
	}
	return nil, err
}

// ready is "" once the server answers, and it is the one that was started.
func (n *demoNode) ready(ctx context.Context) string {
	if n.process.ended() {
		return "" // startNode tells
	}
	info, err := n.info(ctx, "server")
	switch {
	case err != nil:
		return err.Error()
	case info["process_id"] != strconv.Itoa(n.process.cmd.Process.Pid):
		return "another process answers on port " + strconv.Itoa(n.port)
	}
	return ""
}

// info reads the fields of one section of INFO.
func (n *demoNode) info(ctx context.Context, section string) (map[string]string, error) {
	text, err := n.client.Info(ctx, section).Result()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", n.name, err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[key] = value
		}
	}
	return fields, nil
}

func freeDemoPort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// demoClient is a connection to a server of the demo. Nothing is sent twice.
func demoClient(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, DisableIdentity: true, MaxRetries: -1, PoolSize: 1, PipelinePoolSize: -1, DialerRetries: 1,
		DialTimeout: 2 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, PoolTimeout: 10 * time.Second, ContextTimeoutEnabled: true})
}
