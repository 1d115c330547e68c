package policies

import "testing"

// The seven alarms of one collection cycle, and the console lines that each role prints for them.
var cycle = []struct {
	alarm                              Alarm
	agent, dba, dashboard, heal, archi string
}{
	{Alarm{Severity: Notice, Instance: "dcs-prod-01", Metric: MetricClients, Value: Int(128), Threshold: Int(500), Msg: "m1"},
		"[Monitoring agent] NOTICE   | dcs-prod-01 | m1", "", "", "", "[Log archiving] [NOTICE  ] dcs-prod-01 | m1"},
	{Alarm{Severity: Warning, Instance: "dcs-prod-02", Metric: MetricUsedMemory, Value: Int(7680), Threshold: Int(8192), Pct: "93.7%", Msg: "m2"},
		"[Monitoring agent] WARNING  | dcs-prod-02 | m2", "", "[O&M dashboard] [WARNING] dcs-prod-02 | used_memory_mb | m2", "", "[Log archiving] [WARNING ] dcs-prod-02 | m2"},
	{Alarm{Severity: Warning, Instance: "dcs-prod-01", Metric: MetricSlowlog, Value: Int(15), Threshold: Int(10), Window: "Last 5 minutes", Msg: "m3"},
		"[Monitoring agent] WARNING  | dcs-prod-01 | m3", "", "[O&M dashboard] [WARNING] dcs-prod-01 | slowlog_count | m3", "", "[Log archiving] [WARNING ] dcs-prod-01 | m3"},
	{Alarm{Severity: Critical, Instance: "dcs-prod-01", Metric: MetricReplication, Value: Text("down"), Slave: "dcs-slave-01", Msg: "m4"},
		"[Monitoring agent] CRITICAL | dcs-prod-01 | m4", "[On-duty DBA] !!! Critical alarm !!! dcs-prod-01 | m4",
		"[O&M dashboard] [CRITICAL] dcs-prod-01 | replication_status | m4",
		"[Self-healing service] Replication interruption detected -> Attempting to reconnect to the replica: dcs-slave-01",
		"[Log archiving] [CRITICAL] dcs-prod-01 | m4"},
	{Alarm{Severity: Critical, Instance: "dcs-prod-02", Metric: MetricUsedMemory, Value: Int(8190), Threshold: Int(8192), Pct: "99.97%", Msg: "m6"},
		"[Monitoring agent] CRITICAL | dcs-prod-02 | m6", "[On-duty DBA] !!! Critical alarm !!! dcs-prod-02 | m6",
		"[O&M dashboard] [CRITICAL] dcs-prod-02 | used_memory_mb | m6",
		"[Self-healing service] Full memory detected -> Automatic cleanup triggered: dcs-prod-02",
		"[Log archiving] [CRITICAL] dcs-prod-02 | m6"},
	{Alarm{Severity: Critical, Instance: "dcs-prod-03", Metric: MetricClients, Msg: "m8"},
		"[Monitoring agent] CRITICAL | dcs-prod-03 | m8", "[On-duty DBA] !!! Critical alarm !!! dcs-prod-03 | m8",
		"[O&M dashboard] [CRITICAL] dcs-prod-03 | connected_clients | m8",
		"[Self-healing service] Alarms received: dcs-prod-03 | m8", "[Log archiving] [CRITICAL] dcs-prod-03 | m8"},
}

func TestConsoleLines(t *testing.T) {
	for _, c := range cycle {
		same(t, AgentLine(c.alarm), c.agent)
		same(t, ArchiverLine(c.alarm), c.archi)
		if c.dashboard != "" {
			same(t, DashboardLine(c.alarm), c.dashboard)
		}
		if c.alarm.Severity == Critical {
			line, _ := HealerLine(c.alarm)
			same(t, line, c.heal)
			same(t, DBALine(c.alarm), c.dba)
		}
	}
	same(t, ArchiverStartLine("redis:monitor"), "[Log archiving] The redis:monitor:* channel has been subscribed to via pattern matching.")
}

func TestResolvedAlarmGivesTheHealerNoLine(t *testing.T) {
	for _, a := range []Alarm{{Instance: "i", Status: Resolved, Msg: "m"}, {Instance: "i", Msg: "Resolved: m"}} {
		if line, ok := HealerLine(a); ok || line != "" {
			t.Errorf("%+v: healer line %q, want none", a, line)
		}
		same(t, DBALine(a), "[On-duty DBA] Resolved | i | "+a.Msg)
	}
}

func TestReplicaWithoutNameIsUnknown(t *testing.T) {
	line, _ := HealerLine(Alarm{Instance: "i", Metric: MetricReplication, Slave: "\x1b[0m"})
	same(t, line, "[Self-healing service] Replication interruption detected -> Attempting to reconnect to the replica: unknown")
}

func TestPrintable(t *testing.T) {
	for _, c := range []struct {
		in   string
		max  int
		want string
	}{
		{"plain", 0, "plain"},
		{"Größe 已用", 0, "Größe 已用"},
		{"a\x1b[31;1mred\x1b[0m", 0, "ared"},
		{"a\u009b31mb", 0, "ab"},
		{"a\x1b]0;title\x07b", 0, "ab"},
		{"a\x1b]8;;http://x\x1b\\b", 0, "ab"},
		{"a\x1b[31", 0, "a"},
		{"x\x1bcy", 0, "xy"},
		{"a\r\n[On-duty DBA] forged", 0, "a  [On-duty DBA] forged"},
		{"abc\u202edef\u2066\u200f", 0, "abcdef"},
		{"a\x00\x07\x7fb", 0, "ab"},
		{"a\xff\xfeb", 0, "ab"},
		{"zero\u200bwidth\ufeff", 0, "zerowidth"},
		{"abcdef", 4, "abc…"},
		{"abcd", 4, "abcd"},
		{"äöüß", 4, "äöüß"},
	} {
		same(t, Printable(c.in, c.max), c.want)
	}
}

func same(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
