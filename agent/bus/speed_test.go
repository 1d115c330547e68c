package bus

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dcshealer/agent/archive"
	"dcshealer/agent/observer"
	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

const speedAlarms = 100_000

func speedMessages(n int) []policies.Message {
	messages := make([]policies.Message, n)
	for i := range messages {
		a := testAlarm(i + 1)
		a.Source, a.At, a.Since, a.Status, a.Node, a.Msg = "agent@host-1", time.Now(), time.Now(), policies.Firing, "dcs-master-01", "the link to the replica is down"
		payload, err := policies.EncodeAlarm(a)
		if err != nil {
			panic(err)
		}
		messages[i] = policies.Message{Channel: "redis:monitor:critical", Payload: payload, At: time.Now()}
	}
	return messages
}

// BenchmarkRouteAndDeduplicate has each message come twice, as by Pub/Sub and by the stream.
func BenchmarkRouteAndDeduplicate(b *testing.B) {
	messages := speedMessages(speedAlarms)
	b.ReportAllocs()
	n := 0
	var took, cpu time.Duration
	for b.Loop() {
		d := NewDecoder("redis:monitor", nil).CountGaps()
		q := newQueue(queueMessages, queueBytes)
		started, used := time.Now(), cpuTime()
		for i := range messages {
			q.push(messages[i])
			if i%500 == 499 {
				for _, m := range q.batch(context.Background(), 500, 0) {
					_, _ = d.Decode(m)
					_, _ = d.Decode(m)
				}
			}
		}
		took += time.Since(started)
		cpu += cpuTime() - used
		n += 2 * len(messages)
	}
	b.ReportMetric(float64(n)/took.Seconds(), "messages/s")
	b.ReportMetric(float64(n)/cpu.Seconds(), "messages/cpu-s")
}

// BenchmarkAgainstABareSubscriber publishes the same alarms to a subscriber of go-redis alone, to a subscription with its decoder, and
// to an archiver, one after another, and compares how long they take to have them all, and the processor time (with that of the
// publisher in it), which other work on the machine changes less.
func BenchmarkAgainstABareSubscriber(b *testing.B) {
	messages := speedMessages(speedAlarms)
	for b.Loop() {
		server := redistest.Start(b, "--client-output-buffer-limit", "pubsub 0 0 0")
		url := policies.Secret("redis://" + server.Addr.String())
		bare, bareCPU := timeOf(b, server, messages, bareReader(b, server))
		ours, oursCPU := timeOf(b, server, messages, ourReader(b, url, func(ctx context.Context, s *Subscription, d *Decoder, count func(int)) {
			for {
				batch := s.Batch(ctx, 500, 0)
				n := 0
				for _, m := range batch {
					if _, err := d.Decode(m); err == nil {
						n++
					}
				}
				if len(batch) == 0 {
					return
				}
				count(n)
			}
		}))
		before := heap()
		archived, archivedCPU := timeOf(b, server, messages, ourReader(b, url, func(ctx context.Context, s *Subscription, d *Decoder, count func(int)) {
			store, err := archive.Open(ctx, filepath.Join(b.TempDir(), archive.FileName))
			if err != nil {
				panic(err)
			}
			defer store.Close()
			_ = observer.NewArchiver(observer.Options{Feed: s, Decode: d, Out: counter(count)}, store).Run(ctx)
		}))
		b.ReportMetric(speedAlarms/bare.Seconds(), "bare/s")
		b.ReportMetric(speedAlarms/ours.Seconds(), "routed/s")
		b.ReportMetric(speedAlarms/archived.Seconds(), "archived/s")
		b.ReportMetric(bare.Seconds()/ours.Seconds(), "routed-of-bare")
		b.ReportMetric(bare.Seconds()/archived.Seconds(), "archived-of-bare")
		b.ReportMetric(speedAlarms/bareCPU.Seconds(), "bare/cpu-s")
		b.ReportMetric(speedAlarms/oursCPU.Seconds(), "routed/cpu-s")
		b.ReportMetric(speedAlarms/archivedCPU.Seconds(), "archived/cpu-s")
		b.ReportMetric(float64(max(heap()-before, 0))/(1<<20), "MiB-held")
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// counter counts lines that are printed.
type counter func(int)

func (c counter) Write(p []byte) (int, error) {
	if p[0] == '[' && len(p) > len("[Log archiving] [") && p[len("[Log archiving] ")] == '[' {
		c(1)
	}
	return len(p), nil
}

// timeOf is how long a reader takes from the first publication until it has all.
func timeOf(b *testing.B, server *redistest.Server, messages []policies.Message, start func(ctx context.Context, all func(int)) (stop func())) (took, cpu time.Duration) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	var mu sync.Mutex
	got := 0
	stop := start(ctx, func(n int) {
		mu.Lock()
		defer mu.Unlock()
		if got += n; got == len(messages) {
			close(done)
		}
	})
	defer func() { cancel(); stop() }()
	started, used := time.Now(), cpuTime()
	for from := 0; from < len(messages); from += 500 {
		pipe := server.C.Pipeline()
		for _, m := range messages[from : from+500] {
			pipe.Publish(ctx, m.Channel, m.Payload)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			b.Fatal(err)
		}
	}
	select {
	case <-done:
	case <-time.After(2 * redistest.Patience):
		b.Fatal("not all messages came")
	}
	return time.Since(started), cpuTime() - used
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func bareReader(b *testing.B, server *redistest.Server) func(context.Context, func(int)) func() {
	return func(ctx context.Context, count func(int)) func() {
		ps := server.C.Subscribe(ctx, "redis:monitor:critical")
		if _, err := ps.Receive(ctx); err != nil {
			b.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				if _, err := ps.ReceiveMessage(ctx); err != nil {
					return
				}
				count(1)
			}
		})
		return func() { _ = ps.Close(); wg.Wait() }
	}
}

func ourReader(b *testing.B, url policies.Secret, read func(context.Context, *Subscription, *Decoder, func(int))) func(context.Context, func(int)) func() {
	return func(ctx context.Context, count func(int)) func() {
		bus, err := New(Options{URL: url})
		if err != nil {
			b.Fatal(err)
		}
		s := bus.SubscribeGroup(observer.ArchiverTopics(), Group{Name: "bench-" + strconv.FormatInt(time.Now().UnixNano(), 36), Consumer: "c"})
		var wg sync.WaitGroup
		wg.Go(func() { _ = s.Run(ctx) })
		wg.Go(func() { read(ctx, s, NewDecoder(bus.Prefix(), nil).CountGaps(), count) })
		select {
		case <-s.Ready():
		case <-time.After(redistest.Patience):
			b.Fatal(fmt.Errorf("not subscribed"))
		}
		return func() { wg.Wait(); _ = bus.Close() }
	}
}
