package main

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

var updateConfig = flag.Bool("update-config", false, "write the wanted texts of testdata anew")

// configTestDisk holds the files that the configs in testdata name.
var configTestDisk = map[string]string{
	"/etc/dcshealer/full.pass":  "hunter2\n",
	"/etc/dcshealer/crlf.pass":  "hunter2\r\n",
	"/etc/dcshealer/empty.pass": "\n",
	"/etc/dcshealer/lines.pass": "hunter2\nand more\n",
	"/etc/dcshealer/mail.url":   "smtp://ann:hunter2@h/?from=a@b.c&to=d@e.f\n",
	"/etc/dcshealer/bad.url":    "smtp://ann:hunter2@h/?form=hunter2\n",
	"/etc/dcshealer/keys":       "whsec_hunter2hunter2\n",
}

// testConfigLoader reads configs as if they lay in /etc/dcshealer, from a disk and an environment of its own.
func testConfigLoader(file string) configLoader {
	env := map[string]string{"FULL": "hunter2", "EMPTY": ""}
	return configLoader{
		file: file, folder: "/etc/dcshealer",
		readFile: func(name string) ([]byte, error) {
			if text, ok := configTestDisk[name]; ok {
				return []byte(text), nil
			}
			if strings.HasSuffix(name, "denied") {
				return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
			}
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		},
		stat: func(name string) (fs.FileInfo, error) {
			if _, ok := configTestDisk[name]; ok {
				return os.Stat("config_test.go")
			}
			return nil, fs.ErrNotExist
		},
		lookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	}
}

// Each file in testdata/config breaks one rule (all-at-once breaks many); the errors it must give lie beside it.
func TestBadConfigs(t *testing.T) {
	files, err := filepath.Glob("testdata/config/*.yaml")
	if err != nil || len(files) < 100 {
		t.Fatalf("%d bad configs, want at least 100 (%v)", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := testConfigLoader("fleet.yaml").load(data)
			if err == nil {
				t.Fatalf("loaded, want an error:\n%s", data)
			}
			if cfg.Instances != nil {
				t.Errorf("a config beside the error: %+v", cfg)
			}
			got := err.Error() + "\n"
			if strings.Contains(got, "hunter2") || strings.Contains(got, "ter2") {
				t.Errorf("the error shows the password: %s", got)
			}
			compareConfigText(t, strings.TrimSuffix(file, ".yaml")+".want", got)
		})
	}
}

func compareConfigText(t *testing.T, file, got string) {
	t.Helper()
	if *updateConfig {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestFaultsComeAllAtOnceInTheOrderOfTheirLines(t *testing.T) {
	data, err := os.ReadFile("testdata/config/all-at-once.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, err = testConfigLoader("fleet.yaml").load(data)
	faults := fieldErrors("fleet.yaml", err)
	if len(faults) < 15 {
		t.Errorf("%d faults, want at least 15:\n%v", len(faults), err)
	}
	if !slices.IsSortedFunc(faults, func(a, b policies.FieldError) int { return a.Line - b.Line }) {
		t.Errorf("faults out of order:\n%v", err)
	}
	for _, f := range faults {
		if f.File != "fleet.yaml" || f.Line == 0 || f.Path == "" || f.Want == "" {
			t.Errorf("fault %+v, want file, line, path and what was wanted", f)
		}
	}
	var one policies.FieldError
	if !errors.As(err, &one) {
		t.Errorf("errors.As finds no FieldError in %v", err)
	}
}

func TestUnreadableConfigFileSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxConfigSize+1); err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(dir, "dead.yaml")
	if err := os.Symlink("/gone/fleet.yaml", dead); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		filepath.Join(dir, "none.yaml"): "no such file",
		dead:                            "the link " + dead + " leads to /gone/fleet.yaml, which is not there",
		dir:                             "is a directory",
		large:                           "more than the 10485760 bytes",
	} {
		_, err := loadConfig(file)
		var fault policies.FieldError
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "config init") || fault.File != file {
			t.Errorf("loadConfig(%s): %v, want a FieldError with %q and the way out", file, err, want)
		}
	}
}

const oneNodeConfig = "instances: [{name: i, nodes: [{name: n, address: 10.0.0.1:6379, role: master}]}]\n"

func loadText(t *testing.T, text string) policies.Config {
	t.Helper()
	cfg, err := testConfigLoader("fleet.yaml").load([]byte(text))
	if err != nil {
		t.Fatalf("load %q: %v", text, err)
	}
	return cfg
}

func TestWhatIsNotNamedIsTheDefault(t *testing.T) {
	cfg := loadText(t, oneNodeConfig)
	want := policies.DefaultConfig()
	if !reflect.DeepEqual(cfg.Bus, want.Bus) || cfg.Listen != want.Listen || cfg.Agent != want.Agent || cfg.Budget != want.Budget {
		t.Errorf("got %+v, want the values of %+v", cfg, want)
	}
	if cfg.StateDir != "/etc/dcshealer/state" || cfg.File != "fleet.yaml" {
		t.Errorf("state_dir %q, file %q, want /etc/dcshealer/state and fleet.yaml", cfg.StateDir, cfg.File)
	}
	if in := cfg.Instances[0]; in.ManagedBy != policies.ManagedByNone || in.Live != nil || in.TLS != nil {
		t.Errorf("instance %+v, want managed by none, no live action, no TLS", in)
	}
}

func TestWhatAPolicyDoesNotNameComesFromItsPresetKeyByKey(t *testing.T) {
	cfg := loadText(t, oneNodeConfig+`
policies:
  huawei:
    preset: dcs
    thresholds: {used_memory: {critical: 75%}}
    remediation: {reattach-replica: {full_resync: deny}, reclaim-expired: {cooldown: 2d}}
  ours: {thresholds: {slowlog: {warning: 3}}}
`)
	huawei := policies.PresetDCS()
	huawei.UsedMemory.Critical, huawei.Reattach.FullResync, huawei.Reclaim.Cooldown = 75, false, 48*time.Hour
	ours := policies.PresetDefault()
	ours.Slowlog.Bound = 3
	for name, want := range map[string]policies.Policy{"huawei": huawei, "ours": ours, "default": policies.PresetDefault()} {
		if got := cfg.Policies[name]; !samePolicy(got, want) {
			t.Errorf("policy %s:\n%+v, want\n%+v", name, got, want)
		}
	}
}

func samePolicy(a, b policies.Policy) bool {
	return a.Preset == b.Preset && a.UsedMemory == b.UsedMemory && a.Clients == b.Clients && a.Slowlog == b.Slowlog &&
		a.EvictedKeys == b.EvictedKeys && a.Replication == b.Replication && a.Reclaim == b.Reclaim && a.Reattach == b.Reattach &&
		len(a.Windows) == len(b.Windows)
}

func TestSpellingsThatMeanTheSame(t *testing.T) {
	for name, text := range map[string]string{
		"line ends of Windows":      strings.ReplaceAll(oneNodeConfig+"agent:\n  interval: 7s\n", "\n", "\r\n"),
		"byte order mark":           "\ufeffagent: {interval: 7s}\n" + oneNodeConfig,
		"start and end of document": "---\nagent: {interval: 7s}\n" + oneNodeConfig + "...\n",
		"directive":                 "%YAML 1.2\n---\nagent: {interval: 7s}\n" + oneNodeConfig,
		"quotes":                    oneNodeConfig + "\"agent\": {'interval': \"7s\"}\n",
		"empty sections":            oneNodeConfig + "bus:\npolicies:\nbudget:\nagent: {interval: 7s}\n",
	} {
		if got := loadText(t, text); got.Agent.Interval != 7*time.Second || len(got.Instances) != 1 {
			t.Errorf("%s: %+v, want one instance and an interval of 7s", name, got)
		}
	}
}

func TestListenTakesNothingAndAFreePort(t *testing.T) {
	for text, want := range map[string]string{`""`: "", "": "", "127.0.0.1:0": "127.0.0.1:0", `"[::1]:9470"`: "[::1]:9470"} {
		if got := loadText(t, oneNodeConfig+"listen: "+text+"\n"); got.Listen != want {
			t.Errorf("listen: %s: %q, want %q", text, got.Listen, want)
		}
	}
}

func TestOneNewlineIsTakenOffThePassword(t *testing.T) {
	for _, key := range []string{"password_file: full.pass", "password_file: crlf.pass", "password_env: FULL"} {
		got := loadText(t, strings.Replace(oneNodeConfig, "name: i,", "name: i, "+key+",", 1))
		if got.Instances[0].Password.Reveal() != "hunter2" {
			t.Errorf("%s: %q, want hunter2", key, got.Instances[0].Password.Reveal())
		}
	}
}
