package reclaim

import (
	"context"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"dcshealer/policies"
)

// fullPace lets a call be as long as COUNT 10000 takes, without a rest.
func fullPace() policies.Reclaim {
	p := policies.PresetDefault().Reclaim
	p.CallP99, p.Duty, p.AbortCall = 50*time.Millisecond, 100, time.Minute
	return p
}

// timed is how long it takes, on a million expired keys that are written before.
func timed(b *testing.B, s *server, do func()) time.Duration {
	b.Helper()
	s.fill(0, 1_000_000, time.Millisecond)
	start := time.Now()
	do()
	took := time.Since(start)
	if n := s.keys(0); n > 0 {
		b.Fatalf("%d keys are left", n)
	}
	return took
}

func bareScan(b *testing.B, s *server, count int64) {
	w := s.writer()
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		var err error
		if cursor, err = w.Scan(context.Background(), cursor, count); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMillion deletes a million small expired keys at full pace. x-bare is the time over that of SCANs back to back with the same
// COUNT, x-cli over that of redis-cli --scan, in the same run.
func BenchmarkMillion(b *testing.B) {
	s := startServer(b)
	var ours, bare, cli []time.Duration
	for b.Loop() {
		bare = append(bare, timed(b, s, func() { bareScan(b, s, mostCount) }))
		cli = append(cli, timed(b, s, func() {
			if out, err := exec.Command("redis-cli", "-p", strconv.Itoa(s.Addr.Port), "--scan").CombinedOutput(); err != nil {
				b.Fatalf("redis-cli --scan: %v: %.200s", err, out)
			}
		}))
		ours = append(ours, timed(b, s, func() {
			w := sweepOf(s, 0)
			w.Pace = fullPace()
			if r, err := w.Run(context.Background(), s.p.Probe(context.Background())); err != nil || r.Keys != 1_000_000 {
				b.Fatalf("ended by %s (%s) with %d keys, error %v", r.Stop, r.Detail, r.Keys, err)
			}
		}))
	}
	ratio := quantile(ours, 0.5).Seconds() / quantile(bare, 0.5).Seconds()
	b.ReportMetric(ratio, "x-bare")
	b.ReportMetric(quantile(ours, 0.5).Seconds()/quantile(cli, 0.5).Seconds(), "x-cli")
	b.ReportMetric(1e6/quantile(ours, 0.5).Seconds(), "keys/s")
	if ratio > 1.3 {
		b.Errorf("at full pace a sweep takes %.2f times as long as bare SCANs, want 1.3 at most", ratio)
	}
}

// BenchmarkForeground compares the p99 of a foreground load without a sweep and beside one at the default pace, over 200,000 stale among a
// million keys, in the same run. x-p99 is the one over the other. The load is one client that waits between its calls, on loopback: the
// strictest there is, since a server that has more to do and clients that are further away wait longer as it is.
func BenchmarkForeground(b *testing.B) {
	s := startServer(b)
	s.fill(0, 800_000, time.Hour)
	var calm, busy []time.Duration
	var took time.Duration
	for b.Loop() {
		s.fill(0, 200_000, time.Millisecond)
		calm = append(calm, foreground(b, s.Addr.String(), func() { _ = wait(context.Background(), 5*time.Second) })...)
		w := sweepOf(s, 0)
		w.Pace = policies.PresetDefault().Reclaim
		before := s.p.Probe(context.Background())
		var r Result
		var err error
		busy = append(busy, foreground(b, s.Addr.String(), func() { r, err = w.Run(context.Background(), before) })...)
		if err != nil || r.Keys != 200_000 {
			b.Fatalf("ended by %s (%s) with %d keys, error %v", r.Stop, r.Detail, r.Keys, err)
		}
		took += r.Took
		b.ReportMetric(float64(r.P99.Microseconds()), "p99-call-us")
	}
	base, beside := quantile(calm, 0.99), quantile(busy, 0.99)
	ratio := beside.Seconds() / base.Seconds()
	b.ReportMetric(ratio, "x-p99")
	b.ReportMetric(float64(base.Microseconds()), "p99-calm-us")
	b.ReportMetric(float64(beside.Microseconds()), "p99-beside-us")
	b.ReportMetric(float64(200_000*b.N)/took.Seconds(), "keys/s")
	if ratio > 2 || base < time.Millisecond && beside > 2*time.Millisecond {
		b.Errorf("the p99 of the foreground is %s and was %s: want 2 times at most, and under 2 ms from under 1 ms", beside, base)
	}
}

// BenchmarkOwnCycle compares the sweep at the default pace with the server's own expiry cycle on 200,000 stale among a million keys. The
// cycle is watched for three seconds and its rate, which falls as they get fewer, is taken for the rest. x-sooner is its time over ours.
func BenchmarkOwnCycle(b *testing.B) {
	s := startServer(b)
	s.fill(0, 800_000, time.Hour)
	var ours, theirs time.Duration
	for b.Loop() {
		s.fill(0, 200_000, time.Millisecond)
		was := s.keys(0)
		s.do("DEBUG", "SET-ACTIVE-EXPIRE", "1")
		start := time.Now()
		_ = wait(context.Background(), 3*time.Second)
		rate := float64(was-s.keys(0)) / time.Since(start).Seconds()
		s.do("DEBUG", "SET-ACTIVE-EXPIRE", "0")
		theirs += time.Duration(200_000 / max(rate, 1) * float64(time.Second))
		s.fill(0, 200_000, time.Millisecond)
		for s.Number("stats", "instantaneous_ops_per_sec") >= calmOps { // or the end of the filling looks like a server that serves less
			_ = wait(context.Background(), 50*time.Millisecond)
		}
		w := sweepOf(s, 0)
		w.Pace = policies.PresetDefault().Reclaim
		r, err := w.Run(context.Background(), s.p.Probe(context.Background()))
		if err != nil || s.keys(0) != 800_000 {
			b.Fatalf("ended by %s (%s) with %d keys, error %v", r.Stop, r.Detail, r.Keys, err)
		}
		ours += r.Took
		b.ReportMetric(rate, "own-keys/s")
	}
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "x-sooner")
	if theirs < 50*ours {
		b.Errorf("the sweep took %s and the server's own cycle would take %s: want 50 times sooner", ours, theirs)
	}
}
