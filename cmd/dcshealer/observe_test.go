package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"dcshealer/agent/archive"
	"dcshealer/agent/bus"
	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

// busServer is the URL of a real redis-server that ends with the test.
func busServer(t *testing.T) (url string) {
	t.Helper()
	return "redis://" + redistest.Start(t).Addr.String()
}

// textBuffer is an output that is read while it is written.
type textBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *textBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *textBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// busCommand runs one of observe, publish and alarms in an empty folder, without a config.
func busCommand(ctx context.Context, stdout, stderr *textBuffer, args ...string) error {
	a := &app{stdout: stdout, stderr: stderr}
	root := &cobra.Command{Use: "dcshealer", SilenceUsage: true, SilenceErrors: true}
	root.PersistentFlags().StringVarP(&a.configFile, "config", "c", "", "")
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "text", "")
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(a.newObserveCommand(), a.newPublishCommand(), a.newAlarmsCommand())
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

// okCommand runs one that has to succeed and returns its output.
func okCommand(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errOut textBuffer
	if err := busCommand(t.Context(), &out, &errOut, args...); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out.String(), errOut.String()
}

// observing runs an observer in the background; stop ends it as Ctrl-C does.
func observing(t *testing.T, args ...string) (out *textBuffer, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var stdout, stderr textBuffer
	done := make(chan error, 1)
	go func() { done <- busCommand(ctx, &stdout, &stderr, append([]string{"observe"}, args...)...) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("observe %v: %v\n%s", args, err, stderr.String())
		}
	})
	t.Cleanup(stop)
	return &stdout, stop
}

// The seven alarms of one cycle as another producer sends them, with the basic fields alone.
var sampleCycle = [][2]string{
	{"notice", `{"instance":"dcs-prod-01","metric":"connected_clients","value":128,"threshold":500,"msg":"m1"}`},
	{"warning", `{"instance":"dcs-prod-02","metric":"used_memory_mb","value":7680,"threshold":8192,"pct":"93.7%","msg":"m2"}`},
	{"warning", `{"instance":"dcs-prod-01","metric":"slowlog_count","value":15,"threshold":10,"window":"Last 5 minutes","msg":"m3"}`},
	{"critical", `{"instance":"dcs-prod-01","metric":"replication_status","value":"down","slave":"dcs-slave-01","msg":"m4"}`},
	{"notice", `{"instance":"dcs-prod-03","metric":"evicted_keys","value":320,"msg":"m5"}`},
	{"critical", `{"instance":"dcs-prod-02","metric":"used_memory_mb","value":8190,"threshold":8192,"pct":"99.97%","msg":"m6"}`},
	{"warning", `{"instance":"dcs-prod-03","metric":"connected_clients","value":460,"threshold":500,"pct":"92.0%","msg":"m7"}`},
}

var sampleLines = map[string]string{
	"dba": `[On-duty DBA] The critical channel has been subscribed to.
[On-duty DBA] !!! Critical alarm !!! dcs-prod-01 | m4
[On-duty DBA] !!! Critical alarm !!! dcs-prod-02 | m6
`,
	"dashboard": `[O&M dashboard] The critical and warning channels have been subscribed to.
[O&M dashboard] [WARNING] dcs-prod-02 | used_memory_mb | m2
[O&M dashboard] [WARNING] dcs-prod-01 | slowlog_count | m3
[O&M dashboard] [CRITICAL] dcs-prod-01 | replication_status | m4
[O&M dashboard] [CRITICAL] dcs-prod-02 | used_memory_mb | m6
[O&M dashboard] [WARNING] dcs-prod-03 | connected_clients | m7
`,
	"healer": `[Self-healing service] The critical channel has been subscribed to.
[Self-healing service] Replication interruption detected -> Attempting to reconnect to the replica: dcs-slave-01
[Self-healing service] Full memory detected -> Automatic cleanup triggered: dcs-prod-02
`,
	"archiver": `[Log archiving] The redis:monitor:* channel has been subscribed to via pattern matching.
[Log archiving] [NOTICE  ] dcs-prod-01 | m1
[Log archiving] [WARNING ] dcs-prod-02 | m2
[Log archiving] [WARNING ] dcs-prod-01 | m3
[Log archiving] [CRITICAL] dcs-prod-01 | m4
[Log archiving] [NOTICE  ] dcs-prod-03 | m5
[Log archiving] [CRITICAL] dcs-prod-02 | m6
[Log archiving] [WARNING ] dcs-prod-03 | m7
`,
}

func TestEachRolePrintsTheSampleCycleByteForByte(t *testing.T) {
	t.Chdir(t.TempDir())
	url := busServer(t)
	outs, stops := map[string]*textBuffer{}, map[string]func(){}
	for role := range sampleLines {
		outs[role], stops[role] = observing(t, role, "--bus", url)
		redistest.Eventually(t, role+" is subscribed", func() bool { return strings.Count(outs[role].String(), "\n") == 1 })
	}
	for _, a := range sampleCycle {
		out, err := exec.Command("redis-cli", "-u", url, "PUBLISH", "redis:monitor:"+a[0], a[1]).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) == "0" {
			t.Fatalf("redis-cli: %s, %v", out, err)
		}
	}
	for role, want := range sampleLines {
		redistest.Eventually(t, role+" prints all", func() bool { return strings.Count(outs[role].String(), "\n") >= strings.Count(want, "\n") })
		stops[role]()
		if got := outs[role].String(); got != want {
			t.Errorf("%s printed\n%s\nwant\n%s", role, got, want)
		}
	}
	checkSampleArchive(t)
}

// checkSampleArchive reads back what the archiver kept.
func checkSampleArchive(t *testing.T) {
	t.Helper()
	out, stderr := okCommand(t, "alarms", "list", "-o", "json")
	var list []map[string]any
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 7 || stderr != "" {
		t.Fatalf("%s\n%v, stderr %q, want 7 alarms", out, err, stderr)
	}
	slices.Reverse(list)
	for i, got := range list {
		if _, err := time.Parse(time.RFC3339, got["received"].(string)); err != nil || got["severity"] != sampleCycle[i][0] {
			t.Errorf("alarm %d: %v, %v", i, got, err)
		}
		delete(got, "received")
		delete(got, "severity")
		var want map[string]any
		_ = json.Unmarshal([]byte(sampleCycle[i][1]), &want)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("alarm %d: %v, want %v", i, got, want)
		}
	}
	table, _ := okCommand(t, "alarms", "list", "--severity", "critical", "--metric", "used_memory_mb")
	if lines := strings.Split(strings.TrimSpace(table), "\n"); len(lines) != 2 || !strings.Contains(lines[1], "dcs-prod-02  used_memory_mb  8190   8192       99.97%  m6") {
		t.Errorf("table:\n%s", table)
	}
	trend, _ := okCommand(t, "alarms", "trend", "--by", "instance", "-o", "json")
	var points []trendPoint
	if err := json.Unmarshal([]byte(trend), &points); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	for _, p := range points {
		counts[p.Key] += p.Count
	}
	if want := map[string]int64{"dcs-prod-01": 3, "dcs-prod-02": 2, "dcs-prod-03": 2}; !reflect.DeepEqual(counts, want) {
		t.Errorf("trend %v, want %v", counts, want)
	}
	drawn, _ := okCommand(t, "alarms", "trend")
	if !strings.Contains(drawn, "CRITICAL") && !strings.Contains(drawn, "critical") || !strings.Contains(drawn, "####") {
		t.Errorf("trend:\n%s", drawn)
	}
}

func TestPublishReachesEveryRoleAndALateArchiver(t *testing.T) {
	t.Chdir(t.TempDir())
	url := busServer(t)
	dba, _ := observing(t, "dba", "--bus", url)
	redistest.Eventually(t, "the dba is subscribed", func() bool { return strings.Contains(dba.String(), "subscribed") })
	out, _ := okCommand(t, "publish", "--bus", url, "--severity", "critical", "--instance", "dcs-prod-01", "--metric", "replication_status",
		"--value", "down", "--slave", "dcs-slave-01", "--msg", "link \x1b[31mdown", "-o", "json")
	var p published
	if err := json.Unmarshal([]byte(out), &p); err != nil || p.Subscribers != 1 || p.Channel != "redis:monitor:critical" {
		t.Fatalf("%s: %v", out, err)
	}
	a, err := policies.DecodeAlarm(p.Alarm)
	if err != nil || a.ID != p.ID || a.Value != policies.Text("down") || a.At.IsZero() || !strings.HasPrefix(a.Source, "publish@") || a.Slave != "dcs-slave-01" {
		t.Errorf("%+v, %v", a, err)
	}
	redistest.Eventually(t, "the dba prints it", func() bool { return strings.Contains(dba.String(), "!!! dcs-prod-01 | link down\n") })
	text, _ := okCommand(t, "publish", "--bus", url, "--severity", "notice", "--instance", "i", "--metric", "m", "--value", "1.50", "--msg", "t")
	if id, tail, _ := strings.Cut(strings.TrimPrefix(text, "published "), " "); len(id) != 26 || tail != "to redis:monitor:notice, 0 subscribers\n" {
		t.Errorf("printed %q", text)
	}
	for range 2 { // the second run finds everything kept
		archiver, stop := observing(t, "archiver", "--bus", url, "--state-dir", "arch")
		redistest.Eventually(t, "the archiver is subscribed", func() bool { return strings.Contains(archiver.String(), "subscribed") })
		stop()
	}
	list, _ := okCommand(t, "alarms", "list", "--state-dir", "arch", "-o", "json")
	var kept []map[string]any
	if err := json.Unmarshal([]byte(list), &kept); err != nil || len(kept) != 2 || kept[0]["value"] != 1.5 || kept[1]["id"] != p.ID {
		t.Errorf("kept %s (%v), want both that were published before", list, err)
	}
}

func TestWithoutAnArchiveThereIsNothingAndANote(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, args := range [][]string{{"alarms", "list", "-o", "json"}, {"alarms", "trend", "-o", "json"}} {
		out, stderr := okCommand(t, args...)
		if strings.TrimSpace(out) != "[]" || !strings.Contains(stderr, "no alarm archive in ./state yet") {
			t.Errorf("%v: %q, %q", args, out, stderr)
		}
	}
	if out, _ := okCommand(t, "alarms", "list"); strings.Count(out, "\n") != 1 {
		t.Errorf("want the header alone, got %q", out)
	}
	if _, err := os.Stat("state"); err == nil {
		t.Error("a query made the state_dir")
	}
}

func TestBusOfARunningProcess(t *testing.T) {
	t.Chdir(t.TempDir())
	var out, errOut textBuffer
	args := []string{"publish", "--severity", "critical", "--instance", "i", "--metric", "m"}
	err := busCommand(t.Context(), &out, &errOut, args...)
	if err == nil || !strings.Contains(err.Error(), "--bus") {
		t.Errorf("nothing runs: %v, want the cure", err)
	}
	e, err := bus.StartEmbedded(bus.EmbeddedOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := os.Mkdir("state", 0o700); err != nil {
		t.Fatal(err)
	}
	info := runInfo{PID: 42, Started: time.Now().UTC().Truncate(time.Second), Bus: maskedURL(e.URL()), Roles: []string{"agent"}, Prefix: "redis:monitor"}
	if err := writeRunInfo("state", info); err != nil {
		t.Fatal(err)
	}
	if got, err := readRunInfo("state"); err != nil || !reflect.DeepEqual(got, info) {
		t.Errorf("read %+v, %v, want %+v", got, err, info)
	}
	if stat, _ := os.Stat(filepath.Join("state", runInfoFile)); stat.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", stat.Mode())
	}
	if text, _ := okCommand(t, args...); !strings.HasSuffix(text, "to redis:monitor:critical, 0 subscribers\n") {
		t.Errorf("published on the embedded bus: %q", text)
	}
	_ = e.Close()
	if err := busCommand(t.Context(), &out, &errOut, args...); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("a bus that is gone: %v", err)
	}
	info.Bus = maskedURL("redis://u:pw@h:1")
	_ = writeRunInfo("state", info)
	if err := busCommand(t.Context(), &out, &errOut, args...); err == nil || !strings.Contains(err.Error(), "-c") || strings.Contains(err.Error(), "pw") {
		t.Errorf("a bus with a password: %v", err)
	}
	if err := removeRunInfo("state", 43); err != nil {
		t.Error(err)
	}
	if _, err := readRunInfo("state"); err != nil {
		t.Error("another's run info was removed")
	}
	if err := errors.Join(removeRunInfo("state", 42), removeRunInfo("state", 42)); err != nil {
		t.Error(err)
	}
}

func TestBadFlagsOfTheBusCommands(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range [][]string{
		{"--severity", "publish", "--severity", "loud", "--instance", "i", "--metric", "m", "--bus", "redis://h:1"},
		{"required flag", "publish", "--severity", "notice"},
		{"no-instance", "publish", "--severity", "notice", "--instance", " ", "--metric", "m", "--bus", "redis://127.0.0.1:1"},
		{"bus url", "publish", "--severity", "notice", "--instance", "i", "--metric", "m", "--bus", "pa/ss@h"},
		{"JSON", "observe", "dba", "-o", "json", "--bus", "redis://127.0.0.1:1"},
		{"--severity", "alarms", "list", "--severity", "x"},
		{"--since", "alarms", "list", "--since", "x"},
		{"--limit", "alarms", "list", "--limit", "-1"},
		{"trend by", "alarms", "trend", "--by", "x"},
		{"--bucket", "alarms", "trend", "--bucket", "x"},
		{"at least 1s", "alarms", "trend", "--bucket", "10ms"},
		{"longer", "alarms", "trend", "--bucket", "1s", "--since", "30d"},
	} {
		var out, errOut textBuffer
		if err := busCommand(t.Context(), &out, &errOut, c[1:]...); err == nil || !strings.Contains(err.Error(), c[0]) {
			t.Errorf("%v: %v, want an error with %q", c[1:], err, c[0])
		}
	}
}

func TestWireValue(t *testing.T) {
	for in, want := range map[string]policies.Value{"": {}, "8190": policies.Int(8190), "-1.5": policies.Num(-1.5), "down": policies.Text("down"),
		"NaN": policies.Text("NaN"), "0x10": policies.Text("0x10"), "007": policies.Text("007"), "null": policies.Text("null"), "1e999": policies.Text("1e999"), "93%": policies.Text("93%")} {
		if got := wireValue(in); got != want {
			t.Errorf("%q: %+v, want %+v", in, got, want)
		}
	}
}

func TestTrendIsDrawn(t *testing.T) {
	start := time.Date(2026, 3, 4, 12, 0, 30, 0, time.UTC)
	q := archive.TrendQuery{By: archive.BySeverity, Bucket: time.Minute, Since: start, Until: start.Add(2 * time.Minute)}
	minute := start.Truncate(time.Minute)
	points := []archive.Point{{Start: minute, Key: "critical", Count: 80}, {Start: minute.Add(2 * time.Minute), Key: "notice", Count: 1}}
	var out textBuffer
	if err := (&app{stdout: &out}).drawTrend(q, points); err != nil {
		t.Fatal(err)
	}
	want := "FROM (UTC)           critical  warning  notice  ALL  TREND\n" +
		"2026-03-04 12:00:00  80        0        0       80   " + strings.Repeat("#", trendBar) + "\n" +
		"2026-03-04 12:01:00  0         0        0       0    .\n" +
		"2026-03-04 12:02:00  0         0        1       1    #\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	var many []archive.Point
	for i := range 10 {
		many = append(many, archive.Point{Start: minute, Key: "i" + strconv.Itoa(i), Count: int64(i + 1)})
	}
	if got, want := trendKeys(archive.ByInstance, many), []string{"i9", "i8", "i7", "i6", "i5", "i4", otherKeys}; !slices.Equal(got, want) {
		t.Errorf("columns %v, want %v", got, want)
	}
}
