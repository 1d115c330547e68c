package bus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dcshealer/agent/archive"
	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

// lossAlarms makes the test a longer one: DCSHEALER_LOSS_ALARMS=100000.
const lossAlarms = "DCSHEALER_LOSS_ALARMS"

// lossMost is what a role may take of the machine's memory at its peak, in MiB; the race detector takes several times as much.
const lossMost = 256

// buildProgram builds dcshealer, with the race detector where the test has it.
func buildProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dcshealer")
	args := []string{"build", "-buildvcs=false", "-o", path}
	if raceDetector {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "dcshealer/cmd/dcshealer")...).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

const lossConfig = `bus: {url: %q}
state_dir: %s
listen: ""
instances:
  - name: dcs-prod-01
    nodes:
      - {name: dcs-master-01, address: %q, role: master}
`

// lossProcess is dcshealer in one role, which is started and killed.
type lossProcess struct {
	t                       *testing.T
	role, program, file, in string // in: the folder of its log and of what it prints
	cmd                     *exec.Cmd
	peak                    int // MiB, of all that were killed
}

func newLossProcess(t *testing.T, role, program, dir string, bus policies.Secret, node string) *lossProcess {
	t.Helper()
	p := &lossProcess{t: t, role: role, program: program, file: filepath.Join(dir, role+".yaml"), in: dir}
	if err := os.WriteFile(p.file, fmt.Appendf(nil, lossConfig, bus.Reveal(), filepath.Join(dir, role), node), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start()
	t.Cleanup(p.kill)
	return p
}

func (p *lossProcess) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.program, "run", "--roles", p.role, "-c", p.file)
	p.cmd.Stderr = p.output("log")
	p.cmd.Stdout = p.output("lines")
	defer p.cmd.Stderr.(*os.File).Close()
	defer p.cmd.Stdout.(*os.File).Close()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *lossProcess) output(kind string) *os.File {
	p.t.Helper()
	f, err := os.OpenFile(p.path(kind), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}

func (p *lossProcess) path(kind string) string { return filepath.Join(p.in, p.role+"."+kind) }

// measure reads the peak of its resident memory.
func (p *lossProcess) measure() {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if _, after, ok := strings.Cut(string(status), "VmHWM:"); ok {
		kib, _ := strconv.Atoi(strings.Fields(after)[0])
		p.peak = max(p.peak, kib>>10)
	}
}

// kill is kill -9.
func (p *lossProcess) kill() {
	p.measure()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *lossProcess) log() string {
	data, _ := os.ReadFile(p.path("log"))
	return string(data[max(0, len(data)-20_000):])
}

func TestNoAlarmIsLostWhateverIsKilled(t *testing.T) {
	total, pace := 5000, 700*time.Microsecond
	if s := os.Getenv(lossAlarms); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("%s=%q: want a number", lossAlarms, s)
		}
		total = n
	}
	server := startServer(t, "--dir", t.TempDir(), "--appendonly", "yes", "--appendfsync", "always")
	way := startProxy(t, server.addr())
	dir, program, node := t.TempDir(), buildProgram(t), startServer(t)
	archiver := newLossProcess(t, "archiver", program, dir, way.url(), node.addr())
	healer := newLossProcess(t, "healer", program, dir, way.url(), node.addr())
	redistest.Eventually(t, "both have their group", func() bool {
		groups, err := server.C.XInfoGroups(t.Context(), "redis:monitor:stream").Result()
		return err == nil && len(groups) == 2
	})
	b := newBus(t, way.url(), nil)
	p := b.NewSpoolingPublisher(filepath.Join(dir, "spool"))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	published := make(chan struct{})
	started := time.Now()
	wg.Go(func() {
		defer close(published)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for i := 1; i <= total; {
			for until := min(total, int(time.Since(started)/pace)); i <= until; i++ {
				_ = p.Publish(ctx, lossAlarm(i))
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	})
	faults := breakThings(t, published, server, way, archiver, healer)
	missing := lossMissing(t, archiver, healer, total)
	for deadline := time.Now().Add(2 * redistest.Patience); len(missing) > 0 && time.Now().Before(deadline); missing = lossMissing(t, archiver, healer, total) {
		time.Sleep(200 * time.Millisecond)
	}
	took := time.Since(started)
	archiver.kill()
	healer.kill()
	archived := archivedIDs(t, archiver, nil)
	if len(missing) > 0 || archived != total {
		t.Errorf("archived %d of %d; missing: %.300s", archived, total, strings.Join(missing, ", "))
	}
	if s := p.Stats(); s.Dropped+s.NotAdded+s.Refused != 0 || s.Delivered != int64(total) {
		t.Errorf("publisher: %+v", s)
	}
	if !raceDetector && max(archiver.peak, healer.peak) > lossMost {
		t.Errorf("memory at its peak: archiver %d MiB, healer %d MiB, want %d at most", archiver.peak, healer.peak, lossMost)
	}
	t.Logf("%d alarms in %s (%.0f/s) through %v: %d in the archive once, %d missing; memory at its peak: archiver %d MiB, healer %d MiB", total,
		took.Round(time.Millisecond), float64(total)/took.Seconds(), faults, archived, len(missing), archiver.peak, healer.peak)
	if t.Failed() {
		t.Logf("archiver:\n%s\nhealer:\n%s", archiver.log(), healer.log())
	}
}

func lossAlarm(i int) policies.Alarm {
	a := testAlarm(i)
	a.Severity, a.Source, a.At = policies.Severities[i%len(policies.Severities)], lossSource, time.Now()
	a.Metric, a.Msg = policies.MetricClients, a.ID // the healer prints the text of such an alarm
	return a
}

const lossSource = "agent@test"

// breakThings does so at random until all is published, each fault once at least, and leaves all up.
func breakThings(t *testing.T, published <-chan struct{}, server testServer, way *proxy, archiver, healer *lossProcess) map[string]int {
	t.Helper()
	faults := []struct {
		name string
		do   func()
	}{
		{"archiver killed", func() { archiver.kill(); archiver.start() }},
		{"archiver away", func() { archiver.kill(); time.Sleep(300 * time.Millisecond); archiver.start() }},
		{"healer killed", func() { healer.kill(); healer.start() }},
		{"bus killed", func() { server.Restart() }},
		{"bus away", func() { server.Kill(); time.Sleep(300 * time.Millisecond); server.Restart() }},
		{"connections cut", func() { way.cut(false) }},
		{"network away", func() { way.cut(true); time.Sleep(300 * time.Millisecond); way.cut(false) }},
		{"subscriptions killed", func() { _ = server.C.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err() }},
		{"bus full", func() {
			_ = server.C.Do(t.Context(), "CONFIG", "SET", "maxmemory", "1").Err()
			time.Sleep(200 * time.Millisecond)
			_ = server.C.Do(t.Context(), "CONFIG", "SET", "maxmemory", "0").Err()
		}},
		{"everything at once", func() { archiver.kill(); healer.kill(); server.Restart(); archiver.start(); healer.start() }},
	}
	done := map[string]int{}
	for _, i := range rand.Perm(len(faults)) {
		faults[i].do()
		done[faults[i].name]++
		time.Sleep(rand.N(200 * time.Millisecond))
	}
	for {
		select {
		case <-published:
			return done
		case <-time.After(rand.N(300 * time.Millisecond)):
			f := faults[rand.IntN(len(faults))]
			f.do()
			done[f.name]++
		}
	}
}

// lossMissing names what has not arrived yet.
func lossMissing(t *testing.T, archiver, healer *lossProcess, total int) (missing []string) {
	t.Helper()
	archived, taken := map[string]bool{}, map[string]bool{}
	archivedIDs(t, archiver, archived)
	f, err := os.Open(healer.path("lines"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if _, id, ok := strings.Cut(lines.Text(), "Alarms received: dcs-prod-01 | "); ok {
			taken[id] = true
		}
	}
	for i := 1; i <= total; i++ {
		a := lossAlarm(i)
		if !archived[a.ID] {
			missing = append(missing, a.ID+" in the archive")
		}
		if a.Severity == policies.Critical && !taken[a.ID] {
			missing = append(missing, a.ID+" at the healer")
		}
	}
	return missing
}

// archivedIDs fills ids, where there are any, and counts the rows of the test's alarms.
func archivedIDs(t *testing.T, archiver *lossProcess, ids map[string]bool) (rows int) {
	t.Helper()
	store, err := archive.OpenReadOnly(t.Context(), filepath.Join(archiver.in, archiver.role, archive.FileName))
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	list, err := store.List(t.Context(), archive.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.Alarm.Source != lossSource {
			continue // the healer's own
		}
		rows++
		if ids != nil {
			ids[s.Alarm.ID] = true
		}
	}
	return rows
}
