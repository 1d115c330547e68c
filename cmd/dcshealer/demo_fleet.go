package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/redis/go-redis/v9"
)

// demoFleet is three instances, four nodes, and the server that carries the alarms.
type demoFleet struct{ bus, master01, slave01, master02, master03 *demoNode }

func (f demoFleet) nodes() []*demoNode {
	return []*demoNode{f.master01, f.slave01, f.master02, f.master03}
}

// The data of the demo. Orders and accounts have no TTL: they must survive every repair.
const (
	demoOrders   = 5000
	demoAccounts = 20000
	demoPages    = 800
	pageSize     = 10_000
)

// Limits of the instances that are to run full.
const (
	memoryLimit02 = "64mb"
	memoryLimit03 = "16mb"
	clientLimit03 = 100
)

// startFleet starts the servers and fills them.
func (d *demo) startFleet(ctx context.Context) (err error) {
	d.tell.step("Start a fleet: three instances, each of real %s processes on this machine", d.server)
	f := &d.fleet
	if f.bus, err = d.startNode(ctx, "bus"); err != nil {
		return err
	}
	if f.master01, err = d.startNode(ctx, "dcs-master-01"); err != nil {
		return err
	}
	if f.slave01, err = d.startNode(ctx, "dcs-slave-01", "--replicaof", "127.0.0.1", strconv.Itoa(f.master01.port)); err != nil {
		return err
	}
	if f.master02, err = d.startNode(ctx, "dcs-master-02", "--maxmemory", memoryLimit02, "--maxmemory-policy", "noeviction"); err != nil {
		return err
	}
	f.master03, err = d.startNode(ctx, "dcs-master-03", "--maxmemory", memoryLimit03, "--maxmemory-policy", "allkeys-lru", "--maxclients", strconv.Itoa(clientLimit03))
	if err != nil {
		return err
	}
	if err := d.fill(ctx); err != nil {
		return err
	}
	d.tell.say("dcs-prod-01  %s  dcs-master-01, with %s keys", f.master01.address(), humanize.Comma(demoOrders))
	d.tell.say("             %s  dcs-slave-01, its replica", f.slave01.address())
	d.tell.say("dcs-prod-02  %s  dcs-master-02: maxmemory %s, and refuses writes when full (noeviction)", f.master02.address(), memoryLimit02)
	d.tell.say("dcs-prod-03  %s  dcs-master-03: maxclients %d, and throws out keys when full (allkeys-lru)", f.master03.address(), clientLimit03)
	d.tell.say("bus          %s  carries the alarms, by Redis Pub/Sub", f.bus.address())
	return nil
}

// fill loads the data and waits until the replica has all of it.
func (d *demo) fill(ctx context.Context) error {
	f := d.fleet
	if err := f.master01.load(ctx, "order", 0, demoOrders, 100); err != nil {
		return err
	}
	if err := f.master02.load(ctx, "account", 0, demoAccounts, 100); err != nil {
		return err
	}
	if err := f.master03.load(ctx, "page", 0, demoPages, pageSize); err != nil {
		return err
	}
	return d.await(ctx, "copy dcs-master-01 to dcs-slave-01", 10*time.Second, 20*time.Millisecond, func(ctx context.Context) string {
		_, missing := d.attached(ctx)
		return missing
	})
}

// load sets the keys kind:from to kind:to-1, without a TTL.
func (n *demoNode) load(ctx context.Context, kind string, from, to, size int) error {
	value := strings.Repeat("x", size)
	_, err := n.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := from; i < to; i++ {
			p.Set(ctx, demoKey(kind, i), value, 0)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("load %s: %w", n.name, err)
	}
	return nil
}

func demoKey(kind string, i int) string { return fmt.Sprintf("%s:%06d", kind, i) }

// watch runs every role on the fleet, in dry run, and waits until the agent has read each node.
func (d *demo) watch(ctx context.Context) error {
	d.tell.step("Watch it with every role of dcshealer, in dry run: it may plan, and it may change nothing")
	if err := d.writeConfig(); err != nil {
		return err
	}
	d.tell.command("dcshealer run -c " + shellWord(d.config))
	cmd := exec.Command(d.self, "run", "-c", d.config)
	cmd.Stdout = d.tell.lines()
	var err error
	if d.roles, err = d.start("run", cmd); err != nil {
		return err
	}
	// Probes read the slow log, and nobody else does.
	return d.await(ctx, "watch every node", 15*time.Second, 50*time.Millisecond, func(ctx context.Context) string {
		for _, n := range d.fleet.nodes() {
			text, err := n.client.Info(ctx, "commandstats").Result()
			if err != nil {
				return err.Error()
			}
			if !strings.Contains(text, "cmdstat_slowlog") {
				return n.name + " has not been probed"
			}
		}
		return ""
	})
}

func (d *demo) writeConfig() error {
	port, err := freeDemoPort()
	if err != nil {
		return fmt.Errorf("find a free port for the dashboard: %w", err)
	}
	d.listen = "127.0.0.1:" + strconv.Itoa(port)
	d.config = filepath.Join(d.dir, "dcshealer.yaml")
	f := d.fleet
	text := fmt.Sprintf(`# Made by dcshealer demo. Nothing is live here: live repair is enabled by command, for a while.
bus: {url: "redis://%s/0"}
state_dir: ./state
listen: %s
agent: {interval: 1s}
instances:
  - name: dcs-prod-01
    nodes:
      - {name: dcs-master-01, address: "%s", role: master}
      - {name: dcs-slave-01, address: "%s", role: replica}
  - name: dcs-prod-02
    nodes:
      - {name: dcs-master-02, address: "%s", role: master}
  - name: dcs-prod-03
    nodes:
      - {name: dcs-master-03, address: "%s", role: master}
policies:
  default:
    remediation:
      # This machine may be busy with other things: one long call shall not end the sweep for a quarter of an hour.
      reclaim-expired: {abort_call: 1s, cooldown: 5s}
`, f.bus.address(), d.listen, f.master01.address(), f.slave01.address(), f.master02.address(), f.master03.address())
	if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the config: %w", err)
	}
	return nil
}
