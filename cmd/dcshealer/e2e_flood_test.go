package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// 10,000 malformed alarms in a burst, 50 real ones among them: none of the real ones is lost, each kind is logged once, and
// nothing of it reaches the terminal raw.
func TestFloodOfMalformedAlarms(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"real bus", "embedded bus"} {
		t.Run(kind, func(t *testing.T) {
			m := startServer(t)
			f := newFleet(t)
			f.add("dcs-prod-01", "", master("m", m))
			if kind == "real bus" {
				f.bus = startServer(t).url()
			}
			p := running(t, "-c", f.write(), "--log-format", "json")
			for _, start := range []string{"[On-duty DBA] ", "[O&M dashboard] ", "[Log archiving] ", "[Self-healing service] "} {
				p.until(start+"is subscribed", func() bool { return len(p.lines(start)) == 1 })
			}
			kinds := flood(t, strings.TrimPrefix(f.status().Bus, "redis://"))
			f.hasAll(p, 50)
			for i, r := range p.stdout.String() {
				if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
					t.Fatalf("stdout holds %U at byte %d", r, i)
				}
			}
			if lines := p.lines("[Self-healing service] Full memory detected"); len(lines) != 50 {
				t.Errorf("the healer has %d first lines, want 50", len(lines))
			}
			p.stopsWell(sigterm)
			checkMalformedLogs(t, p.stderr.String(), kinds)
		})
	}
}

// malformedAlarms by the kind under which they are logged.
var malformedAlarms = map[string][]string{
	"not-json":    {`no JSON at all`, `{"instance":"dcs-prod-01"`, "{\"instance\":\"dcs-prod-01\",\"msg\":\"raw \x1b[31m\x07 control\"}", "\x00\x01\x02", "", "\x1b]0;title\x07"},
	"not-object":  {`[1,2,3]`, `["\u001b[2J"]`, `"text"`, `42`, `null`, `true`},
	"no-instance": {`{}`, `{"metric":"used_memory_mb","value":1,"msg":"m"}`, `{"instance":"","metric":"m"}`, `{"Instance":"dcs-prod-01"}`},
	"wrong-type":  {`{"instance":7}`, `{"instance":"x","metric":[]}`, `{"instance":"x","msg":{"a":1}}`, `{"instance":"x","value":{}}`, `{"instance":["\u001b[31m"]}`},
}

// flood publishes them through one pipe on the three channels and returns the kinds of each.
func flood(t *testing.T, bus string) map[[2]string]bool {
	t.Helper()
	var out bytes.Buffer
	kinds := map[[2]string]bool{}
	n := 0
	publish := func(severity, kind, payload string) {
		channel := "redis:monitor:" + severity
		fmt.Fprintf(&out, "*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(channel), channel, len(payload), payload)
		if kind != "" {
			kinds[[2]string{channel, kind}] = true
		}
		n++
	}
	oversize := `{"instance":"dcs-prod-01","metric":"used_memory_mb","msg":"` + strings.Repeat("x", 1<<20) + `"}`
	for i := 0; n < 10_050; i++ {
		for kind, payloads := range malformedAlarms {
			publish([]string{"critical", "warning", "notice"}[i%3], kind, payloads[i%len(payloads)])
		}
		if i%1000 == 0 {
			publish("critical", "oversize", oversize)
		}
		if i%45 == 0 && i/45 < 50 {
			publish("critical", "", fmt.Sprintf(`{"instance":"dcs-prod-01","metric":"used_memory_mb","value":1,"msg":"\u001b[31m\u0007\u202ereal %d\u0000\r\n\u009b2J end"}`, i/45))
		}
	}
	conn, err := net.Dial("tcp", bus)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sent := make(chan error, 1)
	go func() { _, err := io.Copy(conn, &out); sent <- err }()
	in := bufio.NewReader(conn)
	for range n {
		if line, err := in.ReadString('\n'); err != nil || line[0] != ':' {
			t.Fatalf("the bus answered %q, %v", line, err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	return kinds
}

// hasAll waits until the DBA has printed the real alarms and the archive holds them.
func (f *fleet) hasAll(p *process, n int) {
	f.t.Helper()
	line := func(prefix string, i int) bool {
		re := regexp.MustCompile(fmt.Sprintf(`(?m)^%sdcs-prod-01 \| real %d +end$`, regexp.QuoteMeta(prefix), i))
		return re.MatchString(p.stdout.String())
	}
	for i := range n {
		p.until(fmt.Sprintf("the DBA and the archiver print real alarm %d", i), func() bool {
			return line("[On-duty DBA] !!! Critical alarm !!! ", i) && line("[Log archiving] [CRITICAL] ", i)
		})
	}
	list := parse[[]map[string]any](f.t, succeeds(f.t, "alarms", "list", "-c", f.file, "--limit", "0", "-o", "json"))
	found := 0
	for _, a := range list {
		matches(f.t, "alarm", a, alarmForm)
		if msg, _ := a["msg"].(string); strings.Contains(msg, "real ") && a["severity"] == "critical" {
			found++
		}
	}
	if found != n {
		f.t.Errorf("the archive holds %d real alarms of %d entries, want %d", found, len(list), n)
	}
}

// checkMalformedLogs wants each kind of each channel logged once by each role that hears the channel, and the role named.
func checkMalformedLogs(t *testing.T, stderr string, kinds map[[2]string]bool) {
	t.Helper()
	got := map[malformedLog]int{}
	for line := range strings.Lines(stderr) {
		var entry struct{ Msg, Channel, Kind, Component string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("no JSON on stderr: %.300q", line)
		} else if strings.HasPrefix(entry.Msg, "malformed alarm") {
			got[malformedLog{entry.Component, entry.Channel, entry.Kind}]++
		}
	}
	want := map[malformedLog]int{}
	for k := range kinds {
		want[malformedLog{"archiver", k[0], k[1]}] = 1
		if k[0] != "redis:monitor:notice" {
			want[malformedLog{"dashboard", k[0], k[1]}] = 1
		}
		if k[0] == "redis:monitor:critical" {
			want[malformedLog{"dba", k[0], k[1]}], want[malformedLog{"healer", k[0], k[1]}] = 1, 1
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("malformed alarms were logged as\n%v\nwant each once a role, and the role in component\n%v", got, want)
	}
}

type malformedLog struct{ component, channel, kind string }
