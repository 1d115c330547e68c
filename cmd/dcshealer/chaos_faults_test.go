package main

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	tc "github.com/testcontainers/testcontainers-go"
	tcexec "github.com/testcontainers/testcontainers-go/exec"

	"dcshealer/agent/probe/redistest"
)

// What is done to a fleet. A node that is away cannot be asked until it is back.

func (f *chaosFleet) kill(t *testing.T, name string) {
	t.Helper()
	n := f.nodes[name]
	n.away = true
	f.killContainer(t, name, n.c)
}

// killContainer sends SIGKILL and waits until the engine knows that it is dead: a start before would do nothing.
func (f *chaosFleet) killContainer(t *testing.T, name string, c *tc.DockerContainer) {
	t.Helper()
	if _, err := f.lab.cli.ContainerKill(t.Context(), c.GetContainerID(), client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		t.Fatalf("kill %s: %v", name, err)
	}
	chaosAwait(t, name+" to be dead", func(ctx context.Context) error {
		s, err := c.State(ctx)
		if err == nil && s.Running {
			err = fmt.Errorf("it runs: %+v", s)
		}
		return err
	})
}

// startAgain starts a killed server with the options that it had; what it held is gone.
func (f *chaosFleet) startAgain(t *testing.T, name string) {
	t.Helper()
	n := f.nodes[name]
	if _, err := f.lab.cli.ContainerStart(t.Context(), n.c.GetContainerID(), client.ContainerStartOptions{}); err != nil {
		t.Fatalf("start %s again: %v", name, err)
	}
	f.awaitBack(t, n)
}

func (f *chaosFleet) awaitBack(t *testing.T, n *chaosNode) {
	t.Helper()
	chaosAwait(t, n.name+" to answer again", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // a connection from before may be dead
		defer cancel()
		return n.db.Ping(ctx).Err()
	})
	n.away = false
}

// pause freezes the process: its kernel goes on accepting connections, and nothing answers.
func (f *chaosFleet) pause(t *testing.T, name string) {
	t.Helper()
	f.nodes[name].away = true
	if _, err := f.lab.cli.ContainerPause(t.Context(), f.nodes[name].c.GetContainerID(), client.ContainerPauseOptions{}); err != nil {
		t.Fatalf("pause %s: %v", name, err)
	}
}

func (f *chaosFleet) unpause(t *testing.T, name string) {
	t.Helper()
	if _, err := f.lab.cli.ContainerUnpause(t.Context(), f.nodes[name].c.GetContainerID(), client.ContainerUnpauseOptions{}); err != nil {
		t.Fatalf("unpause %s: %v", name, err)
	}
	f.awaitBack(t, f.nodes[name])
}

// unplug takes a node off the network; nobody tells its peers.
func (f *chaosFleet) unplug(t *testing.T, name string) {
	t.Helper()
	f.nodes[name].away = true
	if _, err := f.lab.cli.NetworkDisconnect(t.Context(), f.nw.ID, client.NetworkDisconnectOptions{Container: f.nodes[name].c.GetContainerID()}); err != nil {
		t.Fatalf("unplug %s: %v", name, err)
	}
}

func (f *chaosFleet) plugIn(t *testing.T, name string) {
	t.Helper()
	o := client.NetworkConnectOptions{Container: f.nodes[name].c.GetContainerID(), EndpointConfig: f.endpoint(name)}
	if _, err := f.lab.cli.NetworkConnect(t.Context(), f.nw.ID, o); err != nil {
		t.Fatalf("plug %s in again: %v", name, err)
	}
	f.awaitBack(t, f.nodes[name])
}

// cut drops all packets between two nodes that everyone else goes on reaching, until the returned function is called.
func (f *chaosFleet) cut(t *testing.T, name, peer string) (mend func()) {
	t.Helper()
	side := f.beside(t, name)
	ip := f.ip(peer).String()
	chaosShell(t, side, "iptables -A INPUT -s "+ip+" -j DROP; iptables -A OUTPUT -d "+ip+" -j DROP")
	return func() { chaosShell(t, side, "iptables -F") }
}

// beside starts the net tools in the network namespace of a node.
func (f *chaosFleet) beside(t *testing.T, name string) *tc.DockerContainer {
	t.Helper()
	f.needNetTools(t)
	side, err := tc.Run(t.Context(), chaosNetTools, tc.WithCmd("sleep", "3600"), tc.WithLabels(chaosLabels),
		tc.WithHostConfigModifier(func(hc *container.HostConfig) {
			hc.NetworkMode = container.NetworkMode("container:" + f.nodes[name].c.GetContainerID())
			hc.CapAdd = []string{"NET_ADMIN"}
		}))
	tc.CleanupContainer(t, side, tc.StopTimeout(0))
	if err != nil {
		t.Fatalf("start the net tools beside %s: %v", name, err)
	}
	return side
}

// needNetTools skips where the image is missing and nobody promised it: no registry has it.
func (f *chaosFleet) needNetTools(t *testing.T) {
	t.Helper()
	if _, err := f.lab.cli.ImageInspect(t.Context(), chaosNetTools); err != nil {
		redistest.Missing(t, fmt.Sprintf("no image %s (%v): run .ci/setup image", chaosNetTools, err))
	}
}

func chaosShell(t *testing.T, c *tc.DockerContainer, script string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	code, r, err := c.Exec(ctx, []string{"sh", "-ec", script}, tcexec.Multiplexed())
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	if out, err := io.ReadAll(r); code != 0 || err != nil {
		t.Fatalf("%s: exit %d, %v: %s", script, code, err, out)
	}
}
