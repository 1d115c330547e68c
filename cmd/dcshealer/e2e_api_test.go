package main

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"dcshealer/policies"
)

// request asks the API something; a body makes it a change, as the page sends it.
func request(t *testing.T, client *http.Client, url, body string, headers ...string) (status int, text string) {
	t.Helper()
	method := "GET"
	if body != "" {
		method = "POST"
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Dcshealer", "1")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	data, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.StatusCode, string(data)
}

const dashboardBearer = "Authorization: Bearer " + dashboardToken

// The API shows what the commands print with -o json, changes what they change, and says who did it.
func TestTheAPIIsTheCommandLine(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.tokenFile()
	one := newPair(t)
	f.addPair("dcs-prod-01", "", one)
	p, base := f.served(t)
	one.r.detach()
	record := f.outcome("dcs-prod-01", policies.OutcomePlanned)
	until(t, "the machine holds", func() bool { return f.status().Instances[0].State == policies.StateHeld })

	for path, args := range map[string][]string{
		"/incidents?instance=dcs-prod-01&open=true": {"incidents", "list", "--instance", "dcs-prod-01", "--open"},
		"/incidents/" + record.Incident:             {"incidents", "show", record.Incident},
		"/actions?outcome=planned":                  {"actions", "list", "--outcome", "planned"},
		"/actions/" + record.ID[:20]:                {"actions", "show", record.ID},
		"/live":                                     {"live", "list"},
		"/controls":                                 {"controls", "list"},
		"/controls?since=1h":                        {"controls", "list", "--since", "1h"},
		"/status":                                   {"status"},
	} {
		until(t, path+" is what dcshealer "+strings.Join(args, " ")+" prints", func() bool {
			code, stdout, stderr := here(t, append(args, "-c", f.file, "-o", "json")...)
			status, text := request(t, http.DefaultClient, base+"/api/v1"+path, "")
			if code != 0 || status != 200 {
				t.Fatalf("%s: %d %s; %s", path, status, text, stderr)
			}
			return reflect.DeepEqual(parse[any](t, text), parse[any](t, stdout)) // the two are not read in the same moment
		})
	}
	f.findsAlarmsByText(base)
	f.changesByAPI(base, record)
	f.countsAndIsReady(base)

	f.beside("token", "another-token-0123456789\n")
	succeeds(t, "config", "reload", "-c", f.file)
	if status, _ := request(t, http.DefaultClient, base+"/api/v1/resume", `{"all":true,"reason":"e2e","by":"ann"}`, dashboardBearer); status != 401 {
		t.Errorf("the old token after a reload: %d", status)
	}
	p.stopsWell(sigterm)
	f.verifies()
}

func (f *fleet) changesByAPI(base string, record policies.Record) {
	f.t.Helper()
	for _, c := range []struct {
		path, body string
		want       int
		says       string
	}{
		{"/pause", `{"instance":"dcs-prod-01","reason":"e2e","by":"ann","for":"1h"}`, 200, `"by":"ann via dashboard"`},
		{"/pause", `{"instance":"dcs-prod-01","reason":"e2e","by":"bob","for":"1m"}`, 409, "paused already"},
		{"/pause", `{"reason":"e2e","by":"ann"}`, 400, "either instance, or all"},
		{"/pause", `{"instance":"x","reason":"e2e","by":"ann"}`, 404, "no instance"},
		{"/pause", `{"all":true,"by":"ann"}`, 400, "reason is required"},
		{"/pause", `{"all":true,"reason":"e2e","by":" "}`, 400, "your name"},
		{"/pause", `{"all":true,"reason":"e2e","by":"ann","for":"soon"}`, 400, "want a duration"},
		{"/pause", `{"all":true,"reason":"e2e","by":"ann"}{}`, 400, "one JSON object"},
		{"/pause", `{"all":true,"reason":"e2e","by":"ann","force":true}`, 400, "force"},
		{"/resume", `{"instance":"dcs-prod-01","reason":"e2e","by":"ann"}`, 200, `"lifted":true`},
		{"/live", `{"instance":"dcs-prod-01","action":"reattach-replica","reason":"e2e","by":"ann"}`, 400, "enabled"},
		{"/live", `{"instance":"dcs-prod-01","action":"flushall","enabled":true,"reason":"e2e","by":"ann"}`, 400, "want "},
		{"/live", `{"instance":"dcs-prod-01","action":"reclaim-expired","enabled":true,"for":"1h","reason":"e2e","by":"ann\u001b[31m"}`, 200, `"by":"ann via dashboard"`},
		{"/breaker/reset", `{"instance":"dcs-prod-01","action":"reattach-replica","reason":"mended","by":"ann"}`, 200, `"was":"closed","reason":"mended","by":"ann via dashboard"`},
		{"/breaker/reset", `{"all":true,"action":"reattach-replica","reason":"mended","by":"ann"}`, 200, `"instance":"","action":"reattach-replica"`},
		{"/breaker/reset", `{"action":"reattach-replica","reason":"mended","by":"ann"}`, 400, "either instance, or all"},
		{"/breaker/reset", `{"instance":"x","action":"reattach-replica","reason":"mended","by":"ann"}`, 404, "no instance"},
		{"/breaker/reset", `{"instance":"dcs-prod-01","action":"flushall","reason":"mended","by":"ann"}`, 400, "want "},
		{"/breaker/reset", `{"instance":"dcs-prod-01","action":"reattach-replica","by":"ann"}`, 400, "reason is required"},
		{"/incidents/" + record.Incident + "/ack", `{"by":"ann","note":"mine"}`, 200, `"by":"ann via dashboard"`},
		{"/incidents/nosuch/ack", `{"by":"ann"}`, 404, "no such incident"},
	} {
		if status, text := request(f.t, http.DefaultClient, base+"/api/v1"+c.path, c.body); status != 401 {
			f.t.Errorf("%s without the token: %d %s", c.path, status, text)
		}
		if status, text := request(f.t, http.DefaultClient, base+"/api/v1"+c.path, c.body, dashboardBearer); status != c.want || !strings.Contains(text, c.says) {
			f.t.Errorf("%s %s: %d %s, want %d %s", c.path, c.body, status, text, c.want, c.says)
		}
	}
	if stdout := succeeds(f.t, "incidents", "show", record.Incident, "-c", f.file); !strings.Contains(stdout, "taken by ann via dashboard: mine") {
		f.t.Errorf("the story does not name who took it:\n%s", stdout)
	}
}

// findsAlarmsByText asks for what is in a message, in another case, and in a span of time.
func (f *fleet) findsAlarmsByText(base string) {
	f.t.Helper()
	const from = "2020-01-01T00:00:00Z"
	for _, c := range []struct {
		query string
		want  bool
	}{ // what is there first, for the archiver writes it a moment later
		{"text=IS+A+MASTER+INSTEAD", true},
		{"text=is+a+master+instead&severity=critical&since=1h&limit=1", true},
		{"text=dcs-prod-01-r&metric=replication_status", true},
		{"text=no+such+words", false},
		{"text=is+a+master+instead&severity=warning", false},
		{"text=is+a+master+instead&until=" + from, false},
		{"until=" + from, false},
	} {
		until(f.t, "the alarms of "+c.query, func() bool {
			status, text := request(f.t, http.DefaultClient, base+"/api/v1/alarms?"+c.query, "")
			if status != 200 {
				f.t.Fatalf("%s: %d %s", c.query, status, text)
			}
			return (len(parse[[]any](f.t, text)) > 0) == c.want
		})
	}
	if status, text := request(f.t, http.DefaultClient, base+"/api/v1/alarms?until=soon", ""); status != 400 || !strings.Contains(text, "until") {
		f.t.Errorf("until=soon: %d %s", status, text)
	}
}

func (f *fleet) countsAndIsReady(base string) {
	f.t.Helper()
	until(f.t, "what was decided is counted", func() bool {
		_, text := request(f.t, http.DefaultClient, base+"/metrics", "")
		for _, want := range []string{ // a person's word has it decide anew: how often depends on how soon it hears
			`dcshealer_actions_total\{action="reattach-replica",outcome="planned"\} [1-9]`, `dcshealer_guard_refusals_total\{guard="mode"\} [1-9]`,
			`dcshealer_alarms_standing\{instance="dcs-prod-01",severity="critical"\} 1\n`, `dcshealer_incidents_open\{instance="dcs-prod-01"\} 1\n`,
		} {
			if !regexp.MustCompile(want).MatchString(text) {
				return false
			}
		}
		return true
	})
	until(f.t, "it is ready", func() bool {
		status, text := request(f.t, http.DefaultClient, base+"/readyz", "")
		var ready struct{ Checks []struct{ Name string } }
		if err := json.Unmarshal([]byte(text), &ready); err != nil || len(ready.Checks) != 3 {
			f.t.Fatalf("%v: %s", err, text)
		}
		return status == 200
	})
}

// Beyond loopback nothing is served without a token and TLS; with both a reader needs the token, and health none.
func TestBeyondLoopbackOnlyWithTokenAndTLS(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	s := startServer(t)
	f.add("dcs-prod-01", "", master("m", s))
	f.listen = "0.0.0.0:0"
	if code, _, stderr := command(t, "run", "-c", f.write()); code != 1 || !strings.Contains(stderr, "dashboard.token_file and dashboard.tls") {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	f.tokenFile()
	cert, key := testKeyPair(t)
	f.beside("cert.pem", string(cert))
	f.beside("key.pem", string(key))
	f.dashboard += ", tls: {cert_file: cert.pem, key_file: key.pem}"
	p := running(t, "-c", f.write())
	found := regexp.MustCompile(`url=https://\S*:(\d+)`)
	p.until("it serves", func() bool { return found.MatchString(p.stderr.String()) })
	base := "https://127.0.0.1:" + found.FindStringSubmatch(p.stderr.String())[1]
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // the certificate names nobody
	for path, want := range map[string]int{"/healthz": 200, "/": 200, "/metrics": 401, "/api/v1/status": 401, "/api/v1/events": 401} {
		if status, text := request(t, client, base+path, ""); status != want {
			t.Errorf("%s: %d, want %d: %s", path, status, want, text)
		}
	}
	if status, _ := request(t, client, base+"/metrics", "", dashboardBearer); status != 200 {
		t.Errorf("metrics with the token: %d", status)
	}
	client.CloseIdleConnections()
	p.stopsWell(sigterm)
}

// A bus that is away shows as such, and everything else goes on.
func TestReadyNamesABusThatIsAway(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	bus, s := startServer(t), startServer(t)
	f.bus = bus.url()
	f.add("dcs-prod-01", "", master("m", s))
	_, base := f.served(t)
	until(t, "it is ready", func() bool { status, _ := request(t, http.DefaultClient, base+"/readyz", ""); return status == 200 })
	bus.end()
	until(t, "it is not", func() bool {
		status, text := request(t, http.DefaultClient, base+"/readyz", "")
		return status == 503 && strings.Contains(text, "not subscribed to the bus")
	})
	if status, _ := request(t, http.DefaultClient, base+"/healthz", ""); status != 200 {
		t.Errorf("it is alive all the same: %d", status)
	}
	bus.relaunch()
	until(t, "it is ready again", func() bool { status, _ := request(t, http.DefaultClient, base+"/readyz", ""); return status == 200 })
}
