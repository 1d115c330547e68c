package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/redis/go-redis/v9"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

const (
	detachments    = 20
	detachInterval = time.Second     // agent.interval
	detachPromise  = 2 * time.Second // at most that long in the median, at that interval

	sentinelPairs = 5
	sentinelInfo  = 10 * time.Second // how often Sentinel asks a healthy node what it is
)

// BenchmarkDetachment measures from a replica's coming off its master to its link being up again with the master's history. The whole
// of run is measured, at its defaults but for the interval, and a median over what it promises fails the benchmark. x-sentinel is how
// many times as long Redis Sentinel takes, in the same run, to bring back a promoted replica. A replica that follows a dead port
// Sentinel leaves alone for its failover-timeout, 3 minutes by default: no ratio is taken there. The servers' own
// repl-diskless-sync-delay is 0; at its default every full copy takes 5 s more, ours and Sentinel's.
//
// Each detachment has a pair of its own and comes at another phase of the interval: what an earlier one leaves behind (the cooldown,
// the watch after the repair, an alarm that flaps) neither hastens nor delays it.
func BenchmarkDetachment(b *testing.B) {
	b.Run("promoted", func(b *testing.B) {
		benchSentinel(b, benchDetach(b, func() []any { return promote }))
	})
	b.Run("dead-port", func(b *testing.B) {
		benchDetach(b, func() []any { return []any{"REPLICAOF", "127.0.0.1", redistest.FreePort(b)} })
	})
}

var promote = []any{"REPLICAOF", "NO", "ONE"}

// benchDetach reports our times and returns their median.
func benchDetach(b *testing.B, command func() []any) time.Duration {
	var took []time.Duration
	for b.Loop() {
		took = append(took, detachEach(b, command)...)
	}
	slices.Sort(took)
	median := quantile(took, 50)
	b.ReportMetric(0, "ns/op") // an operation here is twenty detachments and the pauses between them
	b.ReportMetric(median.Seconds(), "s-median")
	b.ReportMetric(quantile(took, 95).Seconds(), "s-p95")
	b.ReportMetric(quantile(took, 100).Seconds(), "s-max")
	if median > detachPromise {
		b.Errorf("back after %s in the median of %d, want at most %s", median, len(took), detachPromise)
	}
	return median
}

// quantile is the smallest of the sorted times that so many percent do not exceed.
func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[(len(sorted)*percent+99)/100-1]
}

// detachEach detaches the replicas of a fresh fleet one after another, under one run.
func detachEach(b *testing.B, command func() []any) []time.Duration {
	pairs := startPairs(b, detachments)
	defer endPairs(pairs)
	r := startBenchRun(b, pairs)
	defer r.stop()
	random := rand.New(rand.NewPCG(1, 2))
	began, took := make([]time.Time, len(pairs)), make([]time.Duration, len(pairs))
	phases := random.Perm(len(pairs))
	for i, p := range pairs {
		phase := time.Duration((float64(phases[i]) + random.Float64()) / float64(len(pairs)) * float64(detachInterval))
		at := r.since.Add(detachInterval + phase) // the first too was seen in health before
		for at.Before(time.Now()) {
			at = at.Add(detachInterval)
		}
		time.Sleep(time.Until(at))
		var err error
		if began[i], took[i], err = p.detach(command()...); err != nil {
			b.Fatalf("%v\n%s%s", err, tail(r.stdout.String()), tail(r.stderr.String()))
		}
		redistest.Eventually(b, "the repair is recorded", func() bool {
			return strings.Contains(r.stdout.String(), "result: succeeded: reattach-replica on "+p.name+"-r:")
		})
	}
	r.tellStages(began, took)
	return took
}

// benchPair is a master with some keys and its replica.
type benchPair struct {
	name   string
	m, r   *redistest.Server
	replid string // of the master, which takes it when its first replica comes
}

func startPairs(b *testing.B, n int) []benchPair {
	pairs := make([]benchPair, n)
	for i := range pairs {
		m := redistest.Start(b)
		m.Do("EVAL", "for i = 1, 1000 do redis.call('SET', 'k' .. i, i) end", "0")
		r := redistest.Start(b, "--replicaof", fmt.Sprint(m.Addr.Host, " ", m.Addr.Port))
		redistest.Eventually(b, "the replica is linked", r.LinkUp)
		pairs[i] = benchPair{fmt.Sprint("p", i), m, r, m.Info("replication")["master_replid"]}
	}
	return pairs
}

func endPairs(pairs []benchPair) {
	for _, p := range pairs {
		p.r.Kill()
		p.m.Kill()
	}
}

// linked reports the link up, and with the history of this very master.
func (p benchPair) linked() bool {
	in := p.r.Info("replication")
	return in["role"] == "slave" && in["master_link_status"] == "up" && in["master_replid"] == p.replid
}

// detach takes the replica off its master and waits until it is back; when it began, and how long that took.
func (p benchPair) detach(command ...any) (time.Time, time.Duration, error) {
	const limit = time.Minute
	start := time.Now()
	if err := p.r.C.Do(context.Background(), command...).Err(); err != nil {
		return start, 0, fmt.Errorf("detach %s: %w", p.name, err)
	}
	for !p.linked() {
		if time.Since(start) > limit {
			return start, 0, fmt.Errorf("%s is not back within %s: %v", p.name, limit, p.r.Info("replication"))
		}
		time.Sleep(2 * time.Millisecond)
	}
	return start, time.Since(start), nil
}

// benchRun is a run in this process.
type benchRun struct {
	b              *testing.B
	file           string
	since          time.Time // about when the agent's ticks began
	stdout, stderr textBuffer
	stop           func()
}

// startBenchRun runs all roles over the pairs, with nothing but the interval and the permission to repair set.
func startBenchRun(b *testing.B, pairs []benchPair) *benchRun {
	dir := b.TempDir()
	r := &benchRun{b: b, file: filepath.Join(dir, "fleet.yaml")}
	var text strings.Builder
	fmt.Fprintf(&text, "state_dir: state\nlisten: \"\"\nagent: {interval: %s}\ninstances:\n", detachInterval)
	for _, p := range pairs {
		fmt.Fprintf(&text, "  - name: %s\n    managed_by: none\n    live: [reattach-replica]\n    nodes:\n      - {name: %[1]s-m, address: %s, role: master}\n"+
			"      - {name: %[1]s-r, address: %[3]s, role: replica}\n", p.name, p.m.Addr, p.r.Addr)
	}
	if err := os.WriteFile(r.file, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		root := newRoot(&app{stdout: &r.stdout, stderr: &r.stderr})
		root.SetArgs([]string{"run", "-c", r.file})
		ended <- root.ExecuteContext(ctx)
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Errorf("run: %v\n%s", err, tail(r.stderr.String()))
		}
	})
	b.Cleanup(r.stop)
	redistest.Eventually(b, "it runs", func() bool { return strings.Contains(r.stderr.String(), "msg=running") })
	r.since = time.Now()
	return r
}

// tellStages tells, from the journal, where the time went, and makes sure that one alarm and one action brought each replica back.
func (r *benchRun) tellStages(began []time.Time, took []time.Duration) {
	r.b.Helper()
	var stages [4][]time.Duration
	records := r.records()
	for i := range began {
		own := slices.DeleteFunc(slices.Clone(records), func(rec policies.Record) bool { return rec.Instance != fmt.Sprint("p", i) })
		if len(own) != 1 || len(own[0].Commands) != 1 || own[0].Outcome != policies.OutcomeSucceeded {
			r.b.Fatalf("p%d was not brought back by one action at once: %+v", i, own)
		}
		alarm, err := ulid.ParseStrict(own[0].Alarm)
		if err != nil {
			r.b.Fatalf("p%d: the record names the alarm %q: %v", i, own[0].Alarm, err)
		}
		last := began[i]
		for n, at := range []time.Time{alarm.Timestamp(), own[0].At, own[0].Commands[0].At, began[i].Add(took[i])} {
			stages[n] = append(stages[n], at.Sub(last))
			last = at
		}
	}
	var medians [4]time.Duration
	for n, s := range stages {
		slices.Sort(s)
		medians[n] = quantile(s, 50).Round(time.Millisecond)
	}
	r.b.Logf("medians: alarm after %s, confirmed and planned after %s more, REPLICAOF after %s more, link up after %s more", medians[0], medians[1], medians[2], medians[3])
}

func (r *benchRun) records() []policies.Record {
	var stdout, stderr textBuffer
	var out []policies.Record
	code := run([]string{"actions", "list", "-c", r.file, "-o", "json", "--limit", "0"}, &stdout, &stderr)
	if err := json.Unmarshal([]byte(stdout.String()), &out); err != nil || code != exitDone {
		r.b.Fatalf("actions list: exit %d, %v\n%s", code, err, stderr.String())
	}
	return out
}

// benchSentinel reports the median that one Sentinel takes for pairs like ours, all detached within one of its rounds, and its ratio
// to our median.
func benchSentinel(b *testing.B, ours time.Duration) {
	pairs := startPairs(b, sentinelPairs)
	defer endPairs(pairs)
	if err := startSentinel(b, pairs); err != nil {
		b.Log("no comparison with Sentinel:", err)
		return
	}
	random := rand.New(rand.NewPCG(3, 4))
	took, errs := make([]time.Duration, len(pairs)), make([]error, len(pairs))
	var wg sync.WaitGroup
	for i, p := range pairs {
		pause := time.Duration((float64(i) + random.Float64()) / float64(len(pairs)) * float64(sentinelInfo))
		wg.Go(func() {
			time.Sleep(pause)
			_, took[i], errs[i] = p.detach(promote...)
			took[i] = took[i].Round(time.Millisecond)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		b.Fatal("under Sentinel: ", err)
	}
	slices.Sort(took)
	b.Logf("Sentinel, for one detachment each of %d pairs: %v", len(took), took)
	theirs := quantile(took, 50)
	b.ReportMetric(theirs.Seconds(), "s-sentinel")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "x-sentinel")
}

// startSentinel starts a Sentinel that ends with the benchmark and waits until it knows every replica. A machine without one is the
// error; all else ends the benchmark.
func startSentinel(b *testing.B, pairs []benchPair) error {
	port, dir := redistest.FreePort(b), b.TempDir()
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\n", port, dir)
	for _, p := range pairs {
		text += fmt.Sprintf("sentinel monitor %s %s %d 1\nsentinel down-after-milliseconds %[1]s 2000\n", p.name, p.m.Addr.Host, p.m.Addr.Port)
	}
	file := filepath.Join(dir, "sentinel.conf") // Sentinel writes to it
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("redis-sentinel", file)
	if cmd.Err != nil { // it is the same program
		cmd = exec.Command("redis-server", file, "--sentinel")
	}
	var log textBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); close(gone) }()
	b.Cleanup(func() { _ = cmd.Process.Kill(); <-gone })
	c := redis.NewSentinelClient(&redis.Options{Addr: fmt.Sprint("127.0.0.1:", port), MaxRetries: -1, DisableIdentity: true})
	b.Cleanup(func() { _ = c.Close() })
	var ended error
	redistest.Eventually(b, "Sentinel knows every replica", func() bool {
		select {
		case <-gone:
			ended = fmt.Errorf("%s ended: %s", cmd.Path, strings.TrimSpace(tail(log.String())))
			return true
		default:
		}
		return !slices.ContainsFunc(pairs, func(p benchPair) bool { return !knownToSentinel(b.Context(), c, p) })
	})
	return ended
}

// knownToSentinel reports whether Sentinel has seen the replica with its link up.
func knownToSentinel(ctx context.Context, c *redis.SentinelClient, p benchPair) bool {
	replicas, err := c.Replicas(ctx, p.name).Result()
	return err == nil && len(replicas) == 1 && replicas[0]["flags"] == "slave" && replicas[0]["master-link-status"] == "ok"
}
