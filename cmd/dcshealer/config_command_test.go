package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// runConfig runs the config command as the root would, and returns what it printed.
func runConfig(t *testing.T, file, output string, args ...string) (string, error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	a := &app{stdout: &stdout, stderr: &stderr, configFile: file, output: output}
	c := a.newConfigCommand()
	c.SilenceUsage, c.SilenceErrors = true, true
	c.SetOut(&stdout)
	c.SetErr(&stderr)
	c.SetArgs(args)
	err := c.ExecuteContext(t.Context())
	return stdout.String(), err
}

// A hint is a command line that can be pasted, whatever the file is called.
func TestTheHintOfInitIsOneWordToAShell(t *testing.T) {
	for _, name := range []string{"fleet.yaml", "my fleet.yaml", "it's $(touch oops);`x`\\.yaml", "*"} {
		file := filepath.Join(t.TempDir(), name)
		out, err := runConfig(t, file, "text", "init")
		_, hint, found := strings.Cut(out, "dcshealer config check -c ")
		if err != nil || !found {
			t.Fatalf("init of %q: %q, %v", name, out, err)
		}
		if word, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+hint).CombinedOutput(); err != nil || string(word) != file {
			t.Errorf("%s is %q to a shell (%v), want %q", hint, word, err, file)
		}
	}
	if got := shellWord("/etc/dcshealer/fleet-1.yaml"); got != "/etc/dcshealer/fleet-1.yaml" {
		t.Errorf("%s is in quotes without need", got)
	}
}

func TestInitWritesASampleThatPassesCheckAndIsDryRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.yaml")
	if out, err := runConfig(t, file, "text", "init"); err != nil || !strings.Contains(out, "wrote "+file) {
		t.Fatalf("init: %q, %v", out, err)
	}
	out, err := runConfig(t, file, "text", "check")
	if err != nil || !strings.HasPrefix(out, file+": ok, 3 instances, 4 nodes\n") {
		t.Errorf("check: %q, %v, want ok with 3 instances and 4 nodes", out, err)
	}
	cfg, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range cfg.Instances {
		if len(in.Live) > 0 {
			t.Errorf("%s is live for %v, want dry run for all", in.Name, in.Live)
		}
	}
}

func TestTheSampleIsTheDefaults(t *testing.T) {
	sample, err := testConfigLoader("fleet.yaml").load(sampleConfig)
	if err != nil {
		t.Fatal(err)
	}
	bare := loadText(t, oneNodeConfig)
	if sample.Agent != bare.Agent || sample.Budget != bare.Budget || !reflect.DeepEqual(sample.Bus, bare.Bus) || sample.Listen != bare.Listen ||
		sample.StateDir != bare.StateDir || !samePolicy(sample.Policies["default"], bare.Policies["default"]) {
		t.Errorf("the sample means\n%+v, want the defaults\n%+v", sample, bare)
	}
}

func TestInitReplacesNothingUnlessForced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.yaml")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := runConfig(t, "elsewhere.yaml", "text", "init", file)
	if err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("init over a file: %v, want an error that names --force", err)
	}
	if data, _ := os.ReadFile(file); string(data) != "mine" {
		t.Errorf("the file now holds %q", data)
	}
	if _, err := runConfig(t, "elsewhere.yaml", "text", "init", "--force", file); err != nil {
		t.Error(err)
	}
	if data, _ := os.ReadFile(file); !bytes.Equal(data, sampleConfig) {
		t.Errorf("after --force the file holds %q", data)
	}
	if _, err := runConfig(t, filepath.Join(file, "x.yaml"), "text", "init"); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("init below a file: %v, want its cause", err)
	}
}

func TestCheckNamesAllFaultsAndExitsWithOne(t *testing.T) {
	file := "testdata/config/all-at-once.yaml"
	out, err := runConfig(t, file, "text", "check")
	var exit exitError
	if !errors.As(err, &exit) || exit.code != exitFailed || strings.Count(exit.msg, "\n"+file+":") < 14 || out != "" {
		t.Errorf("check: stdout %q, %v, want exit 1 and every fault on a line of its own", out, err)
	}
}

func TestCheckAsJSON(t *testing.T) {
	file := "testdata/config/two-masters.yaml"
	out, err := runConfig(t, file, "json", "check")
	var exit exitError
	if !errors.As(err, &exit) || exit.code != exitFailed || exit.msg != "" {
		t.Errorf("check -o json: %v, want exit 1 and nothing more on stderr", err)
	}
	const want = `{"file":"testdata/config/two-masters.yaml","ok":false,"instances":0,"nodes":0,"errors":[{"file":"testdata/config/two-masters.yaml",` +
		`"line":5,"path":"instances[0].nodes[1].role","got":"master","want":"one master in an instance, not 2",` +
		`"with":[{"path":"instances[0].nodes[0].role","line":4}]}]}`
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(out)); err != nil || compact.String() != want {
		t.Errorf("got  %s\nwant %s (%v)", compact.String(), want, err)
	}
	good := filepath.Join(t.TempDir(), "fleet.yaml")
	if err := os.WriteFile(good, sampleConfig, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = runConfig(t, good, "json", "check")
	var report configReport
	if jsonErr := json.Unmarshal([]byte(out), &report); err != nil || jsonErr != nil || !report.OK || report.Instances != 3 || report.Nodes != 4 ||
		!strings.Contains(out, `"errors": []`) {
		t.Errorf("check -o json of the sample: %s, %v", out, err)
	}
}
