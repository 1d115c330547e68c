package main

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"dcshealer/agent/probe/redistest"
	"dcshealer/policies"
)

// installed is the path of a program of Debian's package prometheus.
func installed(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		redistest.Missing(t, "no "+name+" on PATH: .ci/setup prometheus installs it")
	}
	return path
}

// promtool runs it in deploy and wants it to find nothing.
func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), installed(t, "promtool"), args...)
	cmd.Dir, cmd.Stdin = "../../deploy", strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil || stdin != "" && len(out) > 0 {
		t.Errorf("promtool %q: %v\n%s", args, err, out)
	}
}

// Every alert fires where it should, and is quiet where it should not: promtool runs the cases, and each alert has both.
func TestPromtoolTakesTheRulesOfDeployAndTheirCases(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"check", "rules", "rules.yaml"}, {"check", "config", "--syntax-only", "prometheus.yaml"}, {"test", "rules", "rules_test.yaml"}} {
		promtool(t, "", args...)
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, group := range deployed(t, "rules_test.yaml")[0]["tests"].([]any) {
		for _, c := range group.(map[string]any)["alert_rule_test"].([]any) {
			c := c.(map[string]any)
			name := c["alertname"].(string)
			if alerts, _ := c["exp_alerts"].([]any); len(alerts) > 0 {
				fires[name] = true
			} else {
				quiet[name] = true
			}
		}
	}
	alerts := 0
	for _, group := range deployed(t, "rules.yaml")[0]["groups"].([]any) {
		for _, r := range group.(map[string]any)["rules"].([]any) {
			alerts++
			if name := r.(map[string]any)["alert"].(string); !fires[name] || !quiet[name] {
				t.Errorf("rules_test.yaml has %s fire: %t, quiet: %t; want both", name, fires[name], quiet[name])
			}
		}
	}
	if alerts < 20 {
		t.Errorf("%d alerts read", alerts)
	}
}

// prometheus is a real one, of the config of deploy.
type prometheus struct {
	*process
	base  string
	start time.Time
}

// startPrometheus has it scrape a dashboard each second; what else deploy/prometheus.yaml says stands.
func startPrometheus(t *testing.T, target, token, cert string) *prometheus {
	t.Helper()
	program, dir := installed(t, "prometheus"), t.TempDir()
	text, err := os.ReadFile("../../deploy/prometheus.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := filepath.Abs("../../deploy/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := string(text)
	for _, pair := range [][2]string{{"scrape_interval: 15s", "scrape_interval: 1s"}, {"evaluation_interval: 15s", "evaluation_interval: 1s"}, {"rules.yaml", rules},
		{"/run/secrets/dashboard_token", token}, {"/run/secrets/dashboard_cert", cert}, {"dcshealer:9470", target}} {
		if strings.Count(config, pair[0]) != 1 {
			t.Fatalf("prometheus.yaml has %q %d times", pair[0], strings.Count(config, pair[0]))
		}
		config = strings.Replace(config, pair[0], pair[1], 1)
	}
	file := filepath.Join(dir, "prometheus.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{spawn(t, program, "--config.file", file, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", "127.0.0.1:0"), "", time.Now()}
	found := regexp.MustCompile(`msg="Listening on" address=(127\.0\.0\.1:\d+)`)
	p.until("it listens", func() bool { return found.MatchString(p.stderr.String()) })
	p.base = "http://" + found.FindStringSubmatch(p.stderr.String())[1]
	p.until("it is ready", func() bool { status, _ := request(t, http.DefaultClient, p.base+"/-/ready", ""); return status == 200 })
	return p
}

// get asks its API and returns what is in data.
func get[T any](p *prometheus, path string, query url.Values) (data T) {
	p.t.Helper()
	status, text := request(p.t, http.DefaultClient, p.base+"/api/v1/"+path+"?"+query.Encode(), "")
	var answer struct{ Data T }
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != 200 {
		p.t.Fatalf("%s %v: %d %v %s", path, query, status, err, text)
	}
	return answer.Data
}

// labels are those of each series that a query has data for, now or at any time since the start.
func (p *prometheus) labels(expr string, now bool) (all []map[string]string) {
	p.t.Helper()
	type answer struct {
		Result []struct{ Metric map[string]string }
	}
	var a answer
	if now {
		a = get[answer](p, "query", url.Values{"query": {expr}})
	} else {
		at := func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
		a = get[answer](p, "query_range", url.Values{"query": {expr}, "start": {at(p.start)}, "end": {at(time.Now())}, "step": {"1s"}})
	}
	for _, r := range a.Result {
		all = append(all, r.Metric)
	}
	return all
}

// holds waits until a query has data.
func (p *prometheus) holds(what, expr string) {
	p.t.Helper()
	p.until(what, func() bool { return len(p.labels(expr, true)) > 0 })
}

// A Prometheus of deploy's config scrapes a fleet of which one instance is healed and one is only planned for: promtool finds nothing wrong
// with what it reads, every series that an alert needs is there, alerts come up, and every panel of the dashboard has something to show.
func TestPrometheusAndItsDashboardSeeAFleet(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.policies = eager
	f.tokenFile()
	f.tells(newWebhook(t), atOnce)
	cert, key := testKeyPair(t, "dcshealer")
	f.dashboard += ", tls: {cert_file: " + f.beside("cert.pem", string(cert)) + ", key_file: " + f.beside("key.pem", string(key)) + "}"
	f.listen = "127.0.0.1:0"
	one, two := newPair(t), newPair(t)
	for _, s := range []*server{one.m, two.m} {
		s.do("CONFIG", "SET", "maxmemory", "100mb")
	}
	f.addPair("dcs-prod-01", "live: [reattach-replica]", one)
	f.addPair("dcs-prod-02", "", two)
	d := running(t, "-c", f.write())
	address := regexp.MustCompile(`url=https://(\S+:\d+)`)
	d.until("it serves", func() bool { return address.MatchString(d.stderr.String()) })
	target := address.FindStringSubmatch(d.stderr.String())[1]
	p := startPrometheus(t, target, filepath.Join(filepath.Dir(f.file), "token"), filepath.Join(filepath.Dir(f.file), "cert.pem"))

	p.holds("it scrapes twice", `count_over_time(up{job="dcshealer"}[1m]) > 1 and up == 1`)
	one.r.detach()
	two.r.detach()
	f.outcome("dcs-prod-01", policies.OutcomeSucceeded)
	f.outcome("dcs-prod-02", policies.OutcomePlanned)
	p.holds("the repair is counted", `dcshealer_actions_total{action="reattach-replica", outcome="succeeded"} == 1`)
	p.holds("what is planned stands as an incident, of the Redis instance", `dcshealer_incidents_open{instance="dcs-prod-02"} == 1 and on (instance) dcshealer_machine_state{state="held"} == 1`)
	p.holds("that a receiver was told of it", `dcshealer_notifications_delivered_total{receiver="hook"} > 0`)
	p.holds("the alert about it comes up", `ALERTS{alertname="RedisIncidentOpen", alertstate="pending", instance="dcs-prod-02", severity="critical"}`)

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // that the certificate is right Prometheus has proven
	_, text := request(t, client, "https://"+target+"/metrics", "", dashboardBearer)
	promtool(t, text, "check", "metrics")
	client.CloseIdleConnections()
	rules, err := os.ReadFile("../../deploy/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	needed := regexp.MustCompile(`dcshealer_\w+`).FindAllString(string(rules), -1)
	slices.Sort(needed)
	for _, name := range slices.Compact(needed) {
		p.holds(name+" is there", name)
	}
	if firing := p.labels(`ALERTS{alertstate="firing"}`, true); len(firing) > 0 {
		t.Errorf("alerts without a cause: %v", firing)
	}
	p.draws(readDashboard(t), "dcs-prod-01", "dcs-prod-02")
	d.stopsWell(sigterm)
	p.holds("the alert about its end comes up", `ALERTS{alertname="DcshealerDown"}`)
	if code, _ := p.stop(sigterm); code != 0 {
		t.Errorf("Prometheus ended with %d", code)
	}
}
