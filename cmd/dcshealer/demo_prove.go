package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"dcshealer/policies"
)

// demoCase is a fault that is made, and repaired.
type demoCase struct {
	demoRepair
	broken time.Time // when the fault stood
	live   time.Time // when its repair was enabled
	healed bool
	// untouched is an error when anything was changed about the fault.
	untouched func(ctx context.Context) error
	// proof reads the servers themselves: what proves the repair, or what is missing.
	proof func(ctx context.Context) (proof []string, missing string)
	// measure takes from the journal what the repair did.
	measure func(r policies.Record)
}

func (d *demo) replicaCase() *demoCase {
	c := &demoCase{demoRepair: demoRepair{Instance: "dcs-prod-01", Node: "dcs-slave-01", Metric: policies.MetricReplication, Action: policies.ReattachReplica}}
	c.untouched = func(ctx context.Context) error { return d.stillDetached(ctx, c) }
	c.proof = d.inStep
	c.measure = func(r policies.Record) {
		after, _ := r.Effect["link_up_after"].(float64)
		resync, _ := r.Effect["resync"].(string)
		c.Took, c.Resync = seconds(time.Duration(after*float64(time.Second))), policies.Resync(resync)
	}
	return c
}

func (d *demo) memoryCase() *demoCase {
	c := &demoCase{demoRepair: demoRepair{Instance: "dcs-prod-02", Node: "dcs-master-02", Metric: policies.MetricUsedMemory, Action: policies.ReclaimExpired}}
	c.untouched = func(ctx context.Context) error { return d.stillFull(ctx, c) }
	c.proof = d.writable
	c.measure = func(r policies.Record) {
		took, _ := r.Effect["took"].(float64)
		keys, _ := r.Effect["keys"].(float64)
		bytes, _ := r.Effect["bytes"].(float64)
		c.Took, c.Keys, c.Bytes = seconds(time.Duration(took*float64(time.Second))), int64(keys), int64(bytes)
	}
	return c
}

// attached asks both servers whether the replica is in step; missing is "" when it is.
func (d *demo) attached(ctx context.Context) (keys int64, missing string) {
	m, s := d.fleet.master01, d.fleet.slave01
	x, err := s.info(ctx, "replication")
	if err != nil {
		return 0, err.Error()
	}
	y, err := m.info(ctx, "replication")
	if err != nil {
		return 0, err.Error()
	}
	switch {
	case x["role"] != "slave":
		return 0, s.name + " is a " + x["role"]
	case x["master_port"] != strconv.Itoa(m.port) || x["master_link_status"] != "up":
		return 0, fmt.Sprintf("%s follows port %s, link %s", s.name, x["master_port"], x["master_link_status"])
	case x["master_replid"] == "" || x["master_replid"] != y["master_replid"]:
		return 0, s.name + " is of another replication history than " + m.name
	}
	have, err := s.client.DBSize(ctx).Result()
	if err != nil {
		return 0, err.Error()
	}
	want, err := m.client.DBSize(ctx).Result()
	if err != nil {
		return 0, err.Error()
	}
	if have != want {
		return 0, fmt.Sprintf("%s holds %d keys, %s %d", s.name, have, m.name, want)
	}
	return have, ""
}

// inStep proves that the replica follows its master again and holds the same data.
func (d *demo) inStep(ctx context.Context) (proof []string, missing string) {
	keys, missing := d.attached(ctx)
	if missing != "" {
		return nil, missing
	}
	if keys != demoOrders+demoLate {
		return nil, fmt.Sprintf("both hold %d keys, want %d", keys, demoOrders+demoLate)
	}
	a, err := d.fleet.master01.client.Do(ctx, "DEBUG", "DIGEST").Text()
	if err != nil {
		return nil, err.Error()
	}
	b, err := d.fleet.slave01.client.Do(ctx, "DEBUG", "DIGEST").Text()
	if err != nil {
		return nil, err.Error()
	}
	if a != b {
		return nil, "the data differs by DEBUG DIGEST"
	}
	return []string{"link up, same replid", humanize.Comma(keys) + " keys on both, equal by DEBUG DIGEST"}, ""
}

// stillDetached is an error when dry run changed something: the one REPLICAOF on the replica was ours.
func (d *demo) stillDetached(ctx context.Context, c *demoCase) error {
	s := d.fleet.slave01
	repl, err := s.info(ctx, "replication")
	if err != nil {
		return err
	}
	commands, err := s.info(ctx, "commandstats")
	if err != nil {
		return err
	}
	keys, err := s.client.DBSize(ctx).Result()
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", s.name, err)
	case repl["role"] != "master" || keys != demoOrders:
		return fmt.Errorf("dry run changed %s: role %s, %d keys", s.name, repl["role"], keys)
	case !strings.HasPrefix(commands["cmdstat_replicaof"], "calls=1,"):
		return fmt.Errorf("dry run sent REPLICAOF to %s: %s", s.name, commands["cmdstat_replicaof"])
	}
	d.tell.say("%s  %s still stands alone with %s of %s keys; nobody sent it a REPLICAOF but we", c.Instance, s.name,
		humanize.Comma(keys), humanize.Comma(demoOrders+demoLate))
	return nil
}

// stillFull is an error when dry run changed something: not one key may have been deleted.
func (d *demo) stillFull(ctx context.Context, c *demoCase) error {
	n := d.fleet.master02
	stats, err := n.info(ctx, "stats")
	if err != nil {
		return err
	}
	if stats["expired_keys"] != "0" {
		return fmt.Errorf("dry run deleted %s expired keys on %s", stats["expired_keys"], n.name)
	}
	if err := n.tryWrite(ctx); !isOOM(err) {
		return fmt.Errorf("dry run changed %s: a write should be refused, the answer is %v", n.name, err)
	}
	d.tell.say("%s  %s still refuses writes, and not one of its keys was deleted", c.Instance, n.name)
	return nil
}

// writable proves that the instance takes writes again with room to spare, and that the live data is all there.
func (d *demo) writable(ctx context.Context) (proof []string, missing string) {
	n := d.fleet.master02
	if err := n.tryWrite(ctx); err != nil {
		return nil, "a write is refused: " + err.Error()
	}
	memory, err := n.info(ctx, "memory")
	if err != nil {
		return nil, err.Error()
	}
	used, err1 := strconv.ParseFloat(memory["used_memory"], 64)
	limit, err2 := strconv.ParseFloat(memory["maxmemory"], 64)
	if err1 != nil || err2 != nil || limit <= 0 {
		return nil, fmt.Sprintf("%s does not tell its memory", n.name)
	}
	if clear := policies.PresetDefault().UsedMemory.CriticalClear(); used/limit*100 > float64(clear) {
		return nil, fmt.Sprintf("memory is at %.1f%% of maxmemory, the alarm clears at %s", used/limit*100, clear)
	}
	if missing := n.allAccounts(ctx); missing != "" {
		return nil, missing
	}
	return []string{fmt.Sprintf("a write is accepted again, memory %.0f%% of maxmemory", used/limit*100),
		"all " + humanize.Comma(demoAccounts) + " keys without a TTL are there"}, ""
}

// allAccounts is "" when every key without a TTL is there.
func (n *demoNode) allAccounts(ctx context.Context) (missing string) {
	var there int64
	for from := 0; from < demoAccounts; from += 1000 {
		keys := make([]string, 1000)
		for i := range keys {
			keys[i] = demoKey("account", from+i)
		}
		found, err := n.client.Exists(ctx, keys...).Result()
		if err != nil {
			return err.Error()
		}
		there += found
	}
	if there != demoAccounts {
		return fmt.Sprintf("%s lost %d keys without a TTL", n.name, demoAccounts-there)
	}
	return ""
}
