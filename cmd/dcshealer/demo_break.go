package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// breakAll makes the faults: two that dcshealer repairs, three that it reports.
func (d *demo) breakAll(ctx context.Context) error {
	d.tell.step("Break it, for real")
	for _, fault := range []func(context.Context) error{d.detachReplica, d.slowCommands, d.crowd, d.evict, d.fillMemory} {
		if err := fault(ctx); err != nil {
			return fmt.Errorf("break the fleet: %w", err)
		}
	}
	return nil
}

// demoLate are the keys that the replica misses.
const demoLate = 500

// detachReplica makes the replica a master of its own, and writes on: it falls behind with every write.
func (d *demo) detachReplica(ctx context.Context) error {
	f, c := d.fleet, d.cases[0]
	if err := f.slave01.client.Do(ctx, "REPLICAOF", "NO", "ONE").Err(); err != nil {
		return fmt.Errorf("detach dcs-slave-01: %w", err)
	}
	c.broken = time.Now()
	if err := f.master01.load(ctx, "order", demoOrders, demoOrders+demoLate, 100); err != nil {
		return err
	}
	d.tell.say("dcs-prod-01  REPLICAOF NO ONE takes dcs-slave-01 off its master; it misses the next %d keys", demoLate)
	return nil
}

// demoSlow is how many slow commands are sent; the default policy warns at 10.
const demoSlow = 15

func (d *demo) slowCommands(ctx context.Context) error {
	for range demoSlow {
		if err := d.fleet.master01.client.Do(ctx, "DEBUG", "SLEEP", "0.011").Err(); err != nil {
			return fmt.Errorf("slow commands on dcs-master-01: %w", err)
		}
	}
	d.tell.say("dcs-prod-01  %d slow commands", demoSlow)
	return nil
}

// crowd opens connections to dcs-master-03 up to 92 % of its limit. They stay until the end.
func (d *demo) crowd(ctx context.Context) error {
	n := d.fleet.master03
	info, err := n.info(ctx, "clients")
	if err != nil {
		return err
	}
	now, err := strconv.Atoi(info["connected_clients"])
	if err != nil {
		return fmt.Errorf("read connected_clients of %s: %w", n.name, err)
	}
	want := clientLimit03 * 92 / 100
	for range want - now {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.address())
		if err != nil {
			return fmt.Errorf("open connections to %s: %w", n.name, err)
		}
		d.closers = append(d.closers, conn.Close)
	}
	d.tell.say("dcs-prod-03  clients take %d of its %d connections", want, clientLimit03)
	return nil
}

// evict writes so much for a moment that the server throws out keys for it.
func (d *demo) evict(ctx context.Context) error {
	n := d.fleet.master03
	if err := n.load(ctx, "burst", 0, burstKeys, burstSize); err != nil {
		return err
	}
	for i := range burstKeys {
		if err := n.client.Del(ctx, demoKey("burst", i)).Err(); err != nil {
			return fmt.Errorf("a burst of data on %s: %w", n.name, err)
		}
	}
	info, err := n.info(ctx, "stats")
	if err != nil {
		return err
	}
	if evicted := info["evicted_keys"]; evicted == "0" {
		return fmt.Errorf("a burst of data on %s: no key was evicted", n.name)
	}
	d.tell.say("dcs-prod-03  a burst of data pushes out %s keys", info["evicted_keys"])
	return nil
}

// The burst is 6 MiB on an instance of 16 that is more than half full.
const (
	burstKeys = 24
	burstSize = 256 << 10
)

// mostSessions bounds the fill; some 180,000 take the memory there is.
const mostSessions = 500_000

// fillMemory writes keys that expire at once until the server refuses. Its own expiry is off: so it looks on servers whose
// expired keys are a minority, where that cycle all but stops.
func (d *demo) fillMemory(ctx context.Context) error {
	n, c := d.fleet.master02, d.cases[1]
	if err := n.client.Do(ctx, "DEBUG", "SET-ACTIVE-EXPIRE", "0").Err(); err != nil {
		return fmt.Errorf("keep expired keys in %s: %w", n.name, err)
	}
	written, err := n.fillUp(ctx)
	if err != nil {
		return fmt.Errorf("fill %s: %w", n.name, err)
	}
	c.broken = time.Now()
	refused := n.tryWrite(ctx)
	if !isOOM(refused) {
		return fmt.Errorf("fill %s: a write should be refused with OOM, the answer is %v", n.name, refused)
	}
	d.tell.say("dcs-prod-02  about %s sessions fill the memory and expire, and nothing clears them away: writes are refused", humanize.Comma(int64(written)))
	d.tell.say("             > SET a-write ...    (error) %v", refused)
	return nil
}

// fillUp writes until the server refuses, and goes a little over the limit, so that what the buffers of its clients free
// again lets no write through.
func (n *demoNode) fillUp(ctx context.Context) (written int, err error) {
	for value := strings.Repeat("x", 200); !isOOM(err); written += 1000 {
		if err != nil {
			return written, err
		}
		if written >= mostSessions {
			return written, fmt.Errorf("it took %d keys and is not full", written)
		}
		err = n.setExpiring(ctx, written, written+1000, value)
	}
	if err := n.client.ConfigSet(ctx, "maxmemory", "0").Err(); err != nil {
		return written, err
	}
	for i := range overLimit {
		key := demoKey("session:big", i)
		if err := n.client.Set(ctx, key, strings.Repeat("x", 1<<20), sessionTTL).Err(); err != nil {
			return written, err
		}
	}
	return written, n.client.ConfigSet(ctx, "maxmemory", memoryLimit02).Err()
}

// overLimit is how far over the limit the memory goes, in MiB.
const overLimit = 3

// sessionTTL is over before anyone looks.
const sessionTTL = 500 * time.Millisecond

// setExpiring sets keys that expire soon. The error is that of the first that was refused.
func (n *demoNode) setExpiring(ctx context.Context, from, to int, value string) error {
	_, err := n.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := from; i < to; i++ {
			p.Set(ctx, demoKey("session", i), value, sessionTTL)
		}
		return nil
	})
	return err
}

// tryWrite is what any client of the instance does.
func (n *demoNode) tryWrite(ctx context.Context) error {
	return n.client.Set(ctx, "a-write", time.Now().Format(time.RFC3339), 0).Err()
}

func isOOM(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "OOM") }

// awaited are the alarms that the faults must raise.
var awaited = []struct {
	instance string
	metric   policies.Metric
	severity policies.Severity
}{
	{"dcs-prod-01", policies.MetricReplication, policies.Critical},
	{"dcs-prod-02", policies.MetricUsedMemory, policies.Critical},
	{"dcs-prod-01", policies.MetricSlowlog, policies.Warning},
	{"dcs-prod-03", policies.MetricClients, policies.Warning},
	{"dcs-prod-03", policies.MetricEvicted, policies.Notice},
}
