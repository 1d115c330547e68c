package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	tc "github.com/testcontainers/testcontainers-go"
)

const chaosPort = "6379/tcp"

// chaosLimit is how long a condition may take to come true, and chaosPatience how long a server may take to answer the test; with
// many containers on few CPUs most of it is waiting.
const (
	chaosLimit    = 120 * time.Second
	chaosPatience = 20 * time.Second
)

// chaosAwait asks until try returns nil and fails with its last error.
func chaosAwait(t *testing.T, what string, try func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), chaosLimit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil || last == nil { // else it may only say that its time was over
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited %s for %s: %v", chaosLimit, what, last)
		}
	}
}

// chaosNode is one server, as the test sees it through the port that is published on the loopback.
type chaosNode struct {
	name string
	c    *tc.DockerContainer
	db   *redis.Client
	away bool // killed, paused or unplugged: it cannot be asked

	unlogged bool // it does not tell what it was sent
}

// newChaosNode dials anew for the port each time: it changes with each start, and a stale one may be anybody's.
func newChaosNode(t *testing.T, name string, c *tc.DockerContainer) *chaosNode {
	n := &chaosNode{name: name, c: c}
	n.db = redis.NewClient(&redis.Options{
		Addr: name, Password: chaosPassword, Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true, PoolSize: 2,
		DialerRetries: 1, DialTimeout: 2 * time.Second, ReadTimeout: chaosPatience, WriteTimeout: chaosPatience,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer: func(ctx context.Context, nw, _ string) (net.Conn, error) {
			ep, err := c.PortEndpoint(ctx, chaosPort, "")
			if err != nil {
				return nil, err
			}
			return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, nw, ep)
		},
	})
	t.Cleanup(func() { _ = n.db.Close() })
	return n
}

// do sends one command and returns its reply.
func (n *chaosNode) do(t *testing.T, args ...any) any {
	t.Helper()
	reply, err := n.db.Do(t.Context(), args...).Result()
	if err != nil {
		t.Fatalf("%v on %s: %v", args[0], n.name, err)
	}
	return reply
}

// promote makes a master of a replica, and whatever else follows reaches it in the same packet: nobody gets in between.
func (n *chaosNode) promote(t *testing.T, then ...[]any) {
	t.Helper()
	_, err := n.db.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		p.Do(t.Context(), "REPLICAOF", "NO", "ONE")
		for _, args := range then {
			p.Do(t.Context(), args...)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("promote %s: %v", n.name, err)
	}
}

func (n *chaosNode) info(ctx context.Context) (map[string]string, error) {
	text, err := n.db.Info(ctx, "all").Result()
	if err != nil {
		return nil, fmt.Errorf("INFO of %s: %w", n.name, err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[k] = v
		}
	}
	return fields, nil
}

// chaosView is what a node is and holds.
type chaosView struct {
	role, master, link, replid, digest string
}

func (n *chaosNode) look(ctx context.Context) (chaosView, error) {
	i, err := n.info(ctx)
	if err != nil {
		return chaosView{}, err
	}
	digest, err := n.db.Do(ctx, "DEBUG", "DIGEST").Text()
	if err != nil {
		return chaosView{}, fmt.Errorf("DEBUG DIGEST of %s: %w", n.name, err)
	}
	v := chaosView{role: i["role"], replid: i["master_replid"], digest: digest}
	if v.role == "slave" {
		v.master, v.link = i["master_host"]+":"+i["master_port"], i["master_link_status"]
	}
	return v, nil
}

// standing is what no one but a repair or a person changes: the role, whom it follows, the history and the data.
func (n *chaosNode) standing(t *testing.T) chaosView {
	t.Helper()
	v, err := n.look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v.link = ""
	return v
}

// from lists the commands that came from ip, oldest first.
func (n *chaosNode) from(ctx context.Context, ip string) ([][]string, error) {
	entries, err := n.db.SlowLogGet(ctx, 100000).Result()
	if err != nil {
		return nil, fmt.Errorf("SLOWLOG GET of %s: %w", n.name, err)
	}
	var out [][]string
	for _, e := range slices.Backward(entries) {
		if host, _, _ := net.SplitHostPort(e.ClientAddr); host == ip && len(e.Args) > 0 {
			out = append(out, e.Args)
		}
	}
	return out, nil
}

// chaosReads are the commands that change nothing on a master, by name or name and subcommand. A SCAN is not one of them: it
// deletes the expired keys that it meets.
var chaosReads = []string{"info", "role", "dbsize", "ping", "hello", "auth", "select", "config get", "client list", "client id", "client info",
	"client setname", "slowlog get", "slowlog len", "latency latest", "command info", "command count", "memory usage", "memory stats"}

func chaosReadOnly(args []string) bool {
	name := strings.ToLower(args[0])
	if name == "acl" { // LOG takes a number or RESET
		return len(args) == 3 && strings.EqualFold(args[1], "log") && !strings.EqualFold(args[2], "reset")
	}
	return slices.Contains(chaosReads, name) || len(args) > 1 && slices.Contains(chaosReads, name+" "+strings.ToLower(args[1]))
}

// chaosCounts are the commands that look at keys and delete none of a replica's.
func chaosCounts(args []string) bool {
	return slices.Contains([]string{"scan", "pttl"}, strings.ToLower(args[0]))
}
