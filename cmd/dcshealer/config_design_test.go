package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

// fullConfig names every key of the interface, each with a value that is not its default where that is possible.
const fullConfig = `
bus:
  url: rediss://healer:hunter2@127.0.0.1:6379/3
  prefix: fleet:monitor
  hmac_key_file: keys
  require_signature: true
  tls: {ca_file: ca.pem, cert_file: client.pem, key_file: client.key, server_name: bus.internal}
state_dir: ../state
listen: 0.0.0.0:9999
dashboard: {token_file: token, tls: {cert_file: client.pem, key_file: client.key}}
agent:
  interval: 6s
  timeout: 3s
  repeat: 2m
instances:
  - name: dcs-prod-01
    managed_by: sentinel
    live: [reattach-replica, reclaim-expired]
    policy: prod
    username: healer
    password_file: secret
    tls: {ca_file: ca.pem, cert_file: client.pem, key_file: client.key, server_name: redis.internal}
    renamed_commands: {SCAN: XSCAN}
    nodes:
      - {name: dcs-master-01, address: 10.0.0.11:6379, role: master}
      - {name: dcs-slave-01, address: 10.0.0.12:6379, role: replica, peer_address: 172.16.0.12:6379}
  - name: dcs-prod-02
    password_env: CONFIG_TEST_PASSWORD
    nodes:
      - {name: dcs-master-02, address: "[fd00::2]:6380", role: master}
policies:
  prod:
    preset: dcs
    thresholds:
      used_memory:       {warning: 81%, critical: 96.5%, clear: 4%, for: 3}
      connected_clients: {warning: 91%, critical: 99%, clear: 6%, for: 4}
      slowlog:           {warning: 11, window: 6m}
      evicted_keys:      {notice: 2, window: 2h}
      replication:       {critical_after: 7s}
    remediation:
      reclaim-expired:  {target: 71%, max_duration: 6m, call_p99: 350us, duty: 26%, abort_call: 51ms, cooldown: 16m}
      reattach-replica: {grace: 8s, full_resync: deny, cooldown: 2m, undone: 3}
    windows:
      - {cron: 0 2 * * 1-5, duration: 4h, time_zone: Europe/Berlin}
budget:
  concurrent_actions: 3
  full_resyncs: 4
  storm: 31%
notify:
  receivers:
    - {name: mail, url_file: mail.url, events: [refusal, alarm], instances: [dcs-prod-01, dcshealer], title: "{{.Title}}!", template: "{{.Text}}!"}
    - {name: pager, url_env: CONFIG_TEST_URL}
    - {name: chat, url: "ntfy://ntfy.internal/topic"}
    - {name: tickets, webhook: {url_file: hook.url, hmac_key_file: keys}}
    - {name: bot, webhook: {url_env: CONFIG_TEST_HOOK}}
  group: 6s
  gap: 31s
  remind: 29m
  give_up: 25h
`

func wantFullConfig(file, dir string) policies.Config {
	cfg := policies.DefaultConfig()
	cfg.File, cfg.StateDir, cfg.Listen = file, filepath.Join(filepath.Dir(dir), "state"), "0.0.0.0:9999"
	cfg.Bus = policies.BusConfig{URL: "rediss://healer:hunter2@127.0.0.1:6379/3", Prefix: "fleet:monitor",
		HMACKeyFile: filepath.Join(dir, "keys"), HMACKeys: []policies.Secret{"0123456789abcdef", "fedcba9876543210"}, RequireSignature: true,
		TLS: &policies.TLS{CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "client.pem"), KeyFile: filepath.Join(dir, "client.key"), ServerName: "bus.internal"}}
	cfg.Dashboard = policies.DashboardConfig{Token: "a token of the test", TokenFile: filepath.Join(dir, "token"),
		CertFile: filepath.Join(dir, "client.pem"), KeyFile: filepath.Join(dir, "client.key")}
	cfg.Agent = policies.AgentConfig{Interval: 6 * time.Second, Timeout: 3 * time.Second, Repeat: 2 * time.Minute}
	cfg.Budget = policies.Budget{ConcurrentActions: 3, FullResyncs: 4, Storm: 31}
	cfg.Notify = policies.NotifyConfig{Group: 6 * time.Second, Gap: 31 * time.Second, Remind: 29 * time.Minute, GiveUp: 25 * time.Hour, Receivers: []policies.Receiver{
		{Name: "mail", URL: "smtp://ann:hunter2@h/?from=a@b.c&to=d@e.f", URLFile: filepath.Join(dir, "mail.url"), Events: []policies.NoticeKind{policies.NoticeRefusal, policies.NoticeAlarm},
			Instances: []string{"dcs-prod-01", "dcshealer"}, Title: "{{.Title}}!", Template: "{{.Text}}!"},
		{Name: "pager", URL: "gotify://h/A1b2C3d4E5f6G7h"},
		{Name: "chat", URL: "ntfy://ntfy.internal/topic"},
		{Name: "tickets", Webhook: true, URL: "https://tickets.internal/hunter2", URLFile: filepath.Join(dir, "hook.url"),
			HMACKeyFile: filepath.Join(dir, "keys"), HMACKeys: []policies.Secret{"0123456789abcdef", "fedcba9876543210"}},
		{Name: "bot", Webhook: true, URL: "http://127.0.0.1:1/"},
	}}
	cfg.Instances = []policies.Instance{{
		Name: "dcs-prod-01", ManagedBy: policies.ManagedBySentinel, Policy: "prod", Username: "healer", Password: "hunter2", PasswordFile: filepath.Join(dir, "secret"),
		Live: []policies.Action{policies.ReattachReplica, policies.ReclaimExpired},
		TLS: &policies.TLS{CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "client.pem"),
			KeyFile: filepath.Join(dir, "client.key"), ServerName: "redis.internal"},
		Renamed: policies.Renames{"SCAN": "XSCAN"},
		Nodes: []policies.Node{
			{Name: "dcs-master-01", Address: policies.Address{Host: "10.0.0.11", Port: 6379}, Role: policies.RoleMaster},
			{Name: "dcs-slave-01", Address: policies.Address{Host: "10.0.0.12", Port: 6379}, Role: policies.RoleReplica,
				PeerAddress: policies.Address{Host: "172.16.0.12", Port: 6379}},
		},
	}, {
		Name: "dcs-prod-02", ManagedBy: policies.ManagedByNone, Password: "hunter3",
		Nodes: []policies.Node{{Name: "dcs-master-02", Address: policies.Address{Host: "fd00::2", Port: 6380}, Role: policies.RoleMaster}},
	}}
	dcs := policies.PresetDCS()
	cfg.Policies["prod"] = policies.Policy{
		Fragmentation: dcs.Fragmentation, Purge: dcs.Purge, Evict: dcs.Evict, Kill: dcs.Kill,
		Preset:      "dcs",
		UsedMemory:  policies.UsedMemory{Warning: 81, Critical: 96.5, Clear: 4, For: 3},
		Clients:     policies.ClientsThreshold{Warning: 91, Critical: 99, Clear: 6, For: 4},
		Slowlog:     policies.CountThreshold{Bound: 11, Window: 6 * time.Minute},
		EvictedKeys: policies.CountThreshold{Bound: 2, Window: 2 * time.Hour},
		Replication: policies.ReplicationThreshold{CriticalAfter: 7 * time.Second},
		Reclaim: policies.Reclaim{Target: 71, MaxDuration: 6 * time.Minute, CallP99: 350 * time.Microsecond, Duty: 26,
			AbortCall: 51 * time.Millisecond, Cooldown: 16 * time.Minute, LazyFree: true, OnSlowCall: policies.SlowCallStops},
		Reattach: policies.Reattach{Grace: 8 * time.Second, Cooldown: 2 * time.Minute, Undone: 3},
		Windows:  []policies.Window{{Cron: "0 2 * * 1-5", Duration: 4 * time.Hour, Zone: "Europe/Berlin"}},
	}
	return cfg
}

func TestEveryKeyOfTheInterfaceIsRead(t *testing.T) {
	dir := t.TempDir()
	cert, key := testKeyPair(t)
	file := filepath.Join(dir, "fleet.yaml")
	for name, data := range map[string][]byte{"fleet.yaml": []byte(fullConfig), "secret": []byte("hunter2\n"), "token": []byte("a token of the test\n"), "keys": []byte("0123456789abcdef\nfedcba9876543210\n"),
		"mail.url": []byte("smtp://ann:hunter2@h/?from=a@b.c&to=d@e.f\n"), "hook.url": []byte("https://tickets.internal/hunter2"),
		"ca.pem": cert, "client.pem": cert, "client.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("CONFIG_TEST_PASSWORD", "hunter3")
	t.Setenv("CONFIG_TEST_URL", "gotify://h/A1b2C3d4E5f6G7h")
	t.Setenv("CONFIG_TEST_HOOK", "http://127.0.0.1:1/")
	cfg, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	window := &cfg.Policies["prod"].Windows[0]
	if window.Next == nil {
		t.Fatal("the window has no schedule")
	}
	window.Next = nil // functions do not compare
	for of, tls := range map[string]*policies.TLS{"the bus": cfg.Bus.TLS, "an instance": cfg.Instances[0].TLS} {
		if tls == nil || tls.Digest == "" {
			t.Fatalf("the files of %s's TLS have no digest: %+v", of, tls)
		}
		tls.Digest = ""
	}
	if want := wantFullConfig(file, dir); !reflect.DeepEqual(cfg, want) {
		t.Errorf("got\n%#v, want\n%#v", cfg, want)
	}
}

func TestASampleShowsEveryKey(t *testing.T) {
	d := testConfigLoader("fleet.yaml").decoder()
	if root := d.parse([]byte(fullConfig)); root != nil {
		cfg := policies.DefaultConfig()
		d.config(fileValue{node: root}, &cfg)
	}
	keys := 0
	for path, known := range d.known {
		for _, key := range known {
			keys++
			if key != "prod" && !strings.Contains(string(sampleConfig), key+":") {
				t.Errorf("the sample does not show %s of %q", key, path)
			}
		}
	}
	if keys < 50 {
		t.Errorf("%d keys known, want at least 50", keys)
	}
}

// testKeyPair is a self-signed certificate and its key, in PEM form.
func testKeyPair(t *testing.T, hosts ...string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: hosts, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}
