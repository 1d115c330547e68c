package bus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
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
	"dcshealer/agent/observer"
	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

// What tells a process of this test what it is.
const (
	lossRole = "DCSHEALER_LOSS_ROLE" // archiver or healer
	lossURL  = "DCSHEALER_LOSS_URL"
	lossDir  = "DCSHEALER_LOSS_DIR"
	// lossAlarms makes the test a longer one: DCSHEALER_LOSS_ALARMS=100000.
	lossAlarms = "DCSHEALER_LOSS_ALARMS"
)

// lossReader is a process that reads the bus until it is killed.
func lossReader(role string) error {
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	b, err := New(Options{URL: policies.Secret(os.Getenv(lossURL)), Log: log})
	if err != nil {
		return err
	}
	if role == "healer" {
		return lossHealer(ctx, b)
	}
	store, err := archive.Open(ctx, filepath.Join(os.Getenv(lossDir), archive.FileName))
	if err != nil {
		return err
	}
	sub := b.SubscribeGroup(observer.ArchiverTopics(), Group{Name: "archiver", Consumer: "c"})
	a := observer.NewArchiver(observer.Options{Feed: sub, Decode: NewDecoder(b.Prefix(), log).CountGaps(), Out: io.Discard, Log: log}, store)
	go func() { _ = sub.Run(ctx) }()
	return a.Run(ctx)
}

// lossHealer takes an alarm by writing its id down.
func lossHealer(ctx context.Context, b *Bus) error {
	taken, err := os.OpenFile(filepath.Join(os.Getenv(lossDir), "taken"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	sub := b.SubscribeGroup(observer.DBATopics(), Group{Name: "healer", Consumer: "c"})
	decode := NewDecoder(b.Prefix(), b.log)
	go func() { _ = sub.Run(ctx) }()
	for {
		batch := sub.Batch(ctx, 500, 0)
		for _, m := range batch {
			if a, err := decode.Decode(m); err == nil {
				if _, err := fmt.Fprintln(taken, a.ID); err != nil {
					return err
				}
			}
		}
		sub.Ack(batch)
	}
}

// lossProcess runs and kills one.
type lossProcess struct {
	t         *testing.T
	role, dir string
	url       policies.Secret
	cmd       *exec.Cmd
}

func (p *lossProcess) start() {
	p.t.Helper()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), lossRole+"="+p.role, lossURL+"="+p.url.Reveal(), lossDir+"="+p.dir)
	errs, err := os.OpenFile(filepath.Join(p.dir, p.role+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer errs.Close()
	p.cmd.Stderr = errs
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// kill is kill -9.
func (p *lossProcess) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *lossProcess) log() string {
	data, _ := os.ReadFile(filepath.Join(p.dir, p.role+".log"))
	return string(data)
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
	dir := t.TempDir()
	archiver := &lossProcess{t: t, role: "archiver", dir: dir, url: way.url()}
	healer := &lossProcess{t: t, role: "healer", dir: dir, url: way.url()}
	for _, p := range []*lossProcess{archiver, healer} {
		p.start()
		t.Cleanup(p.kill)
	}
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
	missing := lossMissing(t, dir, total)
	for deadline := time.Now().Add(2 * redistest.Patience); len(missing) > 0 && time.Now().Before(deadline); missing = lossMissing(t, dir, total) {
		time.Sleep(200 * time.Millisecond)
	}
	took := time.Since(started)
	archiver.kill()
	archived := archivedIDs(t, dir, nil)
	if len(missing) > 0 || archived != total {
		t.Errorf("archived %d of %d; missing: %.300s", archived, total, strings.Join(missing, ", "))
	}
	if s := p.Stats(); s.Dropped+s.NotAdded+s.Refused != 0 || s.Delivered != int64(total) {
		t.Errorf("publisher: %+v", s)
	}
	t.Logf("%d alarms in %s through %v: each in the archive once, every critical one taken", total, took.Round(time.Millisecond), faults)
	if t.Failed() {
		t.Logf("archiver:\n%s\nhealer:\n%s", archiver.log(), healer.log())
	}
}

func lossAlarm(i int) policies.Alarm {
	a := testAlarm(i)
	a.Severity, a.Source, a.At = policies.Severities[i%len(policies.Severities)], "agent@test", time.Now()
	return a
}

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
func lossMissing(t *testing.T, dir string, total int) (missing []string) {
	t.Helper()
	archived, taken := map[string]bool{}, map[string]bool{}
	archivedIDs(t, dir, archived)
	f, err := os.Open(filepath.Join(dir, "taken"))
	if err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			taken[lines.Text()] = true
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

// archivedIDs fills ids, where there are any, and counts the rows.
func archivedIDs(t *testing.T, dir string, ids map[string]bool) int {
	t.Helper()
	store, err := archive.OpenReadOnly(t.Context(), filepath.Join(dir, archive.FileName))
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
		if ids != nil {
			ids[s.Alarm.ID] = true
		}
	}
	return len(list)
}
