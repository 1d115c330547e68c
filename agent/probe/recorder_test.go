package probe

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/txtar"

	"dcshealer/policies"
)

// TestRecord makes the recordings of TestRecordedFaults anew: RECORD=testdata/cases go test -run TestRecord -timeout 1h ./agent/probe
// It breaks real servers in containers and takes some five minutes a version; -run TestRecord/redis-7.0 makes one file, and RECORD_ONLY=tls
// tries one story without writing a file. It needs docker on this machine and the images of .ci/redis-image all.
func TestRecord(t *testing.T) {
	dir := os.Getenv("RECORD")
	if dir == "" {
		t.Skip("makes recordings only with RECORD=FOLDER")
	}
	for _, v := range versions {
		t.Run(v.file, func(t *testing.T) {
			l := newLab(t, v.file)
			for _, s := range stories {
				if only := os.Getenv("RECORD_ONLY"); only != "" && only != s.name || s.without(v.file) {
					continue
				}
				t.Log(s.name, time.Since(l.start).Round(time.Second))
				s.tell(l)
				l.clear()
			}
			if os.Getenv("RECORD_ONLY") == "" {
				l.write(filepath.Join(dir, v.file+".txtar"))
			}
		})
	}
}

// labLabel marks all that a lab leaves if it is interrupted: docker ps -aq --filter label=dcs-test=1
const labLabel = "dcs-test=1"

// notSwept takes back the label of the images, by which the end of a test run would sweep a lab away.
const notSwept = "dcshealer-test=0"

// labImages are the images by the name of the recordings, in the order of their age.
var labImages = map[string]string{
	"redis-6.0": "dcshealer-test/redis:6.0", "redis-7.0": "dcshealer-test/redis:7.0", "redis-8.0": "dcshealer-test/redis:8.0",
	"valkey-8.1": "dcshealer-test/valkey:8.1", "valkey-9.1": "dcshealer-test/valkey:9",
}

const labTools = "dcshealer-test/nettools:1"

// A lab is the servers of one version in containers on a network of their own, and what was recorded of them.
type lab struct {
	t       *testing.T
	version string
	network string
	start   time.Time
	boxes   map[string]*box
	records []record
}

// A box is a container in which one server after the other runs, at an address that stays.
type box struct {
	l        *lab
	name     string // of the node: m the master, x the replica, y another, f a foreign server, n a newer master
	version  string
	id       string
	tools    string // the id of the container with iptables in its network namespace; empty: none yet
	password string
	c        *redis.Client // held open, so that a server at maxclients can be read
}

// A record is what one node showed at one moment of a story.
type record struct {
	name, node string
	at         time.Duration
	reach      policies.Reach
	foreign    bool // of another version than the file's
	info       []string
	role       string // of a replica
	config     map[string]string
	acl        string
	stranger   string
}

// isReplica reports what ROLE said. Of a master it says nothing that INFO does not, so that only a replica's is kept.
func (r record) isReplica() bool { return r.role != "" }

func (r record) replicaInfo() []string {
	if !r.isReplica() {
		return nil
	}
	return r.info
}

func newLab(t *testing.T, version string) *lab {
	l := &lab{t: t, version: version, network: fmt.Sprintf("dcs-record-%d-%s", os.Getpid(), version), start: time.Now(), boxes: map[string]*box{}}
	l.docker("network", "create", "--label", labLabel, "--subnet", recordedSubnet+"0/24", l.network)
	t.Cleanup(func() {
		for _, b := range l.boxes {
			l.remove(b.tools)
			l.remove(b.id)
		}
		l.tidy("network", "rm", l.network)
	})
	return l
}

// tidy is docker where a failure must not keep the rest from being cleaned up.
func (l *lab) tidy(args ...string) {
	if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil { // the test's context is over by then
		l.t.Errorf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (l *lab) docker(args ...string) string {
	l.t.Helper()
	out, err := exec.CommandContext(l.t.Context(), "docker", args...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (l *lab) remove(id string) {
	if id != "" {
		l.tidy("rm", "-f", "-v", id)
	}
}

// box is the node's container, of the lab's version unless another is named.
func (l *lab) box(node string, version ...string) *box {
	l.t.Helper()
	if b := l.boxes[node]; b != nil {
		return b
	}
	b := &box{l: l, name: node, version: l.version}
	if len(version) > 0 {
		b.version = version[0]
	}
	b.id = l.docker("run", "-d", "--label", labLabel, "--label", notSwept, "--network", l.network, "--ip", recordedIP(node), "--tmpfs", "/small:size=1m,mode=1777",
		labImages[b.version], "sleep", "36000")
	l.boxes[node] = b
	return b
}

// clear ends all servers and heals the network, for the next story.
func (l *lab) clear() {
	for _, b := range l.boxes {
		b.heal()
		b.kill()
		b.sh("rm -rf /data/* /small/*")
		b.password = ""
	}
	if n := l.boxes["n"]; n != nil {
		l.remove(n.tools)
		l.remove(n.id)
		delete(l.boxes, "n") // each story has a version of its own for it
	}
}

// run starts a server in the box and waits until it answers, be it that it loads.
func (b *box) run(args ...string) *box {
	b.l.t.Helper()
	base := []string{"exec", "-d", b.id, "redis-server", "--port", "6379", "--protected-mode", "no", "--save", "", "--dir", "/data",
		"--pidfile", "/tmp/pid", "--logfile", "/tmp/log", "--repl-diskless-sync-delay", "0"}
	if b.version != "redis-6.0" {
		base = append(base, "--enable-debug-command", "yes")
	}
	if b.version == "redis-8.0" {
		base = append(base, "--repl-rdb-channel", "no")
	}
	if i := slices.Index(args, "--requirepass"); i >= 0 {
		b.password = args[i+1]
	}
	b.l.docker(append(base, args...)...)
	b.connect()
	return b
}

func (b *box) connect() {
	b.l.t.Helper()
	if b.c != nil {
		b.c.Close()
	}
	b.c = redis.NewClient(&redis.Options{Addr: b.addr(), Password: b.password, Protocol: 2, DisableIdentity: true, PoolSize: 1, MaxRetries: -1,
		DialerRetries: 1, ReadTimeout: 10 * time.Second})
	b.l.await(b.name+" answers", func() bool { return b.c.Info(context.Background(), "server").Err() == nil })
}

func (b *box) ip() string   { return recordedIP(b.name) }
func (b *box) addr() string { return net.JoinHostPort(b.ip(), "6379") }

// kill ends the server as a crash does, and waits until it is gone.
func (b *box) kill() {
	b.sh("if [ -s /tmp/pid ]; then p=$(cat /tmp/pid); kill -9 $p 2>/dev/null; while kill -0 $p 2>/dev/null; do sleep 0.05; done; fi; rm -f /tmp/pid")
}

func (b *box) sh(script string) string {
	b.l.t.Helper()
	return b.l.docker("exec", b.id, "sh", "-c", script)
}

// iptables adds rules in the network namespace of the box.
func (b *box) iptables(rules ...string) {
	b.l.t.Helper()
	if b.tools == "" {
		b.tools = b.l.docker("run", "-d", "--label", labLabel, "--label", notSwept, "--network", "container:"+b.id, "--cap-add", "NET_ADMIN", labTools, "sleep", "36000")
	}
	for _, r := range rules {
		b.l.docker(append([]string{"exec", b.tools, "iptables"}, strings.Fields(r)...)...)
	}
}

// cutFrom drops all packets between the two, or turns new connections away with a reset.
func (b *box) cutFrom(o *box) {
	b.iptables("-A INPUT -s "+o.ip()+" -j DROP", "-A OUTPUT -d "+o.ip()+" -j DROP")
}

func (b *box) rejectedBy(o *box) {
	o.iptables("-A INPUT -p tcp -s " + b.ip() + " --dport 6379 -j REJECT --reject-with tcp-reset")
}

func (b *box) heal() {
	if b.tools != "" {
		b.l.docker("exec", b.tools, "iptables", "-F")
	}
}

func (b *box) do(args ...any) any {
	b.l.t.Helper()
	v, err := b.c.Do(context.Background(), args...).Result()
	if err != nil && err != redis.Nil {
		b.l.t.Fatalf("%v on %s: %v", args, b.name, err)
	}
	return v
}

func (b *box) field(name string) string {
	return parseInfo(b.c.Info(context.Background(), "all").Val()).fields[name]
}

// state is ROLE's word for the link to the master.
func (b *box) state() string {
	cmd := redis.NewCmd(context.Background(), "role")
	_ = b.c.Process(context.Background(), cmd)
	_, state, _ := roleOf(cmd)
	return state
}

// follow makes the box's server a replica of another, at its own port unless another is named.
func (b *box) follow(o *box, port ...string) *box {
	b.l.t.Helper()
	b.do("replicaof", o.ip(), cmp.Or(append(port, "6379")...))
	return b
}

func (b *box) linkIs(status string) {
	b.l.t.Helper()
	b.l.await("the link of "+b.name+" is "+status, func() bool { return b.field("master_link_status") == status })
}

// await polls until the condition holds. What a server takes a minute for is the longest.
func (l *lab) await(what string, holds func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			for _, b := range l.boxes {
				l.t.Logf("log of %s:\n%s", b.name, b.sh("tail -n 20 /tmp/log || true"))
			}
			l.t.Fatalf("not within 90 s: %s", what)
		}
	}
}

// record reads the nodes now, under the name.
func (l *lab) record(name string, boxes ...*box) {
	l.t.Helper()
	for _, b := range boxes {
		r := b.read()
		r.name, r.node, r.at, r.foreign = name, b.name, time.Since(l.start), b.version != l.version
		l.records = append(l.records, r)
	}
}

// watch records the nodes twice, as a healer sees them that looks for some seconds.
func (l *lab) watch(name string, boxes ...*box) {
	l.t.Helper()
	l.record(name+"-first", boxes...)
	time.Sleep(4 * time.Second) // time itself is the condition
	l.record(name, boxes...)
}

// looks records the nodes four times, as name-1 to name-4: the last one when the master has begun the fourth copy.
func (l *lab) looks(name string, m *box, others ...*box) {
	l.t.Helper()
	for i, each := range looksAt(name) {
		if i == 3 {
			l.await("copies begin again and again", func() bool { n, _ := strconv.Atoi(m.field("sync_full")); return n >= 4 })
		}
		l.record(each, append([]*box{m}, others...)...)
		time.Sleep(1300 * time.Millisecond) // time itself is the condition
	}
}

// recordAt records the nodes at a moment at which ROLE of the last one says the state, which may be there and gone many times a second.
// Where it is not met, nothing is recorded.
func (l *lab) recordAt(name, state string, boxes ...*box) {
	l.t.Helper()
	kept := len(l.records)
	for range 200 {
		l.record(name, boxes...)
		if strings.Contains(l.records[len(l.records)-1].role, `"`+state+`"`) {
			return
		}
		l.records = l.records[:kept]
	}
	l.t.Logf("%s: no moment with the state %s", name, state)
}

// recordAs records one node under the name of another.
func (l *lab) recordAs(name, node string, b *box) {
	l.record(name, b)
	l.records[len(l.records)-1].node = node
}

// read asks what a deep probe asks, in its order. A node that does not answer is met by a probe of its own.
func (b *box) read() record {
	b.l.t.Helper()
	ctx := context.Background()
	wanted := sections
	if b.version == "redis-6.0" {
		wanted = []string{"all"}
	}
	text, err := b.c.Info(ctx, wanted...).Result()
	if err != nil {
		p := New(Options{Node: policies.Node{Name: b.name, Address: policies.Address{Host: b.ip(), Port: 6379}}})
		defer p.Close()
		return record{reach: p.Probe(ctx).Reach}
	}
	r := record{info: keepInfo(text), config: map[string]string{}}
	if role := toJSON(b.l.t, b.do("role")); strings.HasPrefix(role, `["slave"`) {
		r.role = role
	}
	for _, name := range settingNames {
		if reply := b.do("config", "get", name).([]any); len(reply) == 2 {
			r.config[name] = reply[1].(string)
		}
	}
	if r.config["masterauth"] != "" {
		r.config["masterauth"] = "set"
	}
	if !slices.Contains(r.info, "# Errorstats") {
		r.acl = toJSON(b.l.t, b.do("acl", "log", refusalsMax))
	}
	if b.password != "" {
		r.stranger = b.stranger()
	}
	return r
}

// stranger is the answer to somebody who does not log in.
func (b *box) stranger() string {
	b.l.t.Helper()
	conn, err := net.DialTimeout("tcp", b.addr(), time.Second)
	if err != nil {
		b.l.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		b.l.t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		b.l.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// keptInfo is what a Snapshot is made from as far as replication goes; of replication everything is kept.
var keptInfo = regexp.MustCompile(`^(run_id|redis_version|server_name|valkey_version|redis_mode|server_mode|tcp_port|config_file|server_time_usec|loading|` +
	`rdb_changes_since_last_save|rdb_last_save_time|rdb_saves|rdb_bgsave_in_progress|used_memory_dataset|mem_clients_slaves|total_connections_received|` +
	`rejected_connections|total_net_repl_\w+|sync_\w+|client_output_buffer_limit_disconnections|errorstat_\w+|db\d+|cluster_enabled):`)

func keepInfo(text string) (lines []string) {
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "# ") {
			section = line
			if section == "# Keyspace" || section == "# Errorstats" {
				lines = append(lines, line)
			}
			continue
		}
		if line != "" && (section == "# Replication" || keptInfo.MatchString(line)) {
			lines = append(lines, line)
		}
	}
	return lines
}

// toJSON is a reply as text.
func toJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// write makes the file. What is usual in it stands there once.
func (l *lab) write(file string) {
	l.t.Helper()
	info := usual(l.records, func(r record) []string { return r.info })
	replica := usual(l.records, func(r record) []string { return without(r.replicaInfo(), info) })
	config := usual(l.records, func(r record) []string { return configLines(r.config) })
	ar := &txtar.Archive{Comment: []byte("What real servers showed in each fault, made by TestRecord: NAME/NODE.info is what differs from common.info.\n\n")}
	add := func(name, text string) {
		if text != "" {
			ar.Files = append(ar.Files, txtar.File{Name: name, Data: []byte(text + "\n")})
		}
	}
	add("times", l.times())
	add("common.info", strings.Join(info, "\n"))
	add("common.replica.info", strings.Join(replica, "\n"))
	add("common.config", strings.Join(config, "\n"))
	for _, r := range l.records {
		at := r.name + "/" + r.node
		lines, kind := r.info, ".foreign.info"
		if !r.foreign {
			lines, kind = without(r.info, info), ".info"
			if r.isReplica() {
				lines = without(lines, replica)
			}
		}
		add(at+".reach", string(r.reach))
		add(at+kind, strings.Join(lines, "\n"))
		add(at+".role", r.role)
		add(at+".config", strings.Join(without(configLines(r.config), config), "\n"))
		add(at+".acl", strings.TrimSuffix(r.acl, "[]"))
		add(at+".stranger", r.stranger)
	}
	data := txtar.Format(ar)
	if err := os.WriteFile(file, data, 0o644); err != nil {
		l.t.Fatal(err)
	}
	l.t.Logf("%s: %d readings, %d bytes", file, len(l.records), len(data))
}

// usual is the line of each field that most readings of the file's version have, where all have the field. A later line wins over an
// earlier one, so that a node needs only what differs.
func usual(records []record, linesOf func(record) []string) (lines []string) {
	counts, fields, readings := map[string]int{}, map[string]int{}, 0
	for _, r := range records {
		of := linesOf(r)
		if r.foreign || len(of) == 0 {
			continue
		}
		if readings++; readings == 1 {
			lines = slices.Clone(of)
		}
		for _, line := range of {
			counts[line]++
			fields[fieldOf(line)]++
		}
	}
	lines = slices.DeleteFunc(lines, func(line string) bool { return fields[fieldOf(line)] < readings })
	for i := range lines {
		for other, n := range counts {
			if fieldOf(other) == fieldOf(lines[i]) && n > counts[lines[i]] {
				lines[i] = other
			}
		}
	}
	return slices.DeleteFunc(lines, func(line string) bool { return 2*counts[line] < readings })
}

// fieldOf is the name in a line of INFO or of settings.
func fieldOf(line string) string {
	if i := strings.IndexAny(line, ": "); i > 0 && line[0] != '#' {
		return line[:i]
	}
	return line
}

func without(lines, common []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return slices.Contains(common, line) })
}

func configLines(config map[string]string) (lines []string) {
	for _, name := range settingNames {
		if value, ok := config[name]; ok {
			lines = append(lines, name+" "+value)
		}
	}
	return lines
}

// times is when each recording was made, in seconds since the first server was started.
func (l *lab) times() string {
	var lines []string
	for i, r := range l.records {
		if i == 0 || l.records[i-1].name != r.name {
			lines = append(lines, fmt.Sprintf("%s %.3f", r.name, r.at.Seconds()))
		}
	}
	return strings.Join(lines, "\n")
}
