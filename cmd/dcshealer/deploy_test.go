package main

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// deployed reads the YAML documents of a file in deploy.
func deployed(t *testing.T, name string) (docs []map[string]any) {
	t.Helper()
	f, err := os.Open(filepath.Join("../../deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := yaml.NewDecoder(f)
	for {
		var doc map[string]any
		if err := d.Decode(&doc); err != nil {
			break
		}
		docs = append(docs, doc)
	}
	if len(docs) == 0 {
		t.Fatalf("%s holds no YAML", name)
	}
	return docs
}

// loadsHere loads a config that names files of a container.
func loadsHere(t *testing.T, name, text string) {
	t.Helper()
	cert, key := testKeyPair(t)
	l := configLoader{file: name, folder: "/etc/dcshealer", lookupEnv: func(string) (string, bool) { return "", false },
		stat: func(string) (fs.FileInfo, error) { return nil, fs.ErrNotExist },
		readFile: func(name string) ([]byte, error) {
			switch {
			case strings.Contains(name, "token"):
				return []byte("0123456789abcdef0123456789abcdef\n"), nil
			case strings.Contains(name, "key"):
				return key, nil
			}
			return cert, nil
		}}
	cfg, err := l.load([]byte(text))
	if err != nil {
		t.Errorf("%s: %v", name, err)
	} else if !cfg.ListensBeyond() || cfg.Dashboard.Token == "" {
		t.Errorf("%s: listen %q", name, cfg.Listen)
	}
}

func TestTheConfigsOfDeployAreRight(t *testing.T) {
	text, err := os.ReadFile("../../deploy/dcshealer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	loadsHere(t, "dcshealer.yaml", string(text))
	for _, doc := range deployed(t, "kubernetes.yaml") {
		if doc["kind"] == "ConfigMap" {
			loadsHere(t, "kubernetes.yaml", doc["data"].(map[string]any)["dcshealer.yaml"].(string))
			return
		}
	}
	t.Error("no ConfigMap in kubernetes.yaml")
}

func TestKubernetesRunsOneThatMountsWhatItsConfigNames(t *testing.T) {
	raw, err := os.ReadFile("../../deploy/kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	kinds := []string{}
	for _, doc := range deployed(t, "kubernetes.yaml") {
		kinds = append(kinds, doc["kind"].(string))
	}
	if want := []string{"ConfigMap", "PersistentVolumeClaim", "Deployment", "Service"}; !slices.Equal(kinds, want) {
		t.Errorf("%q, want %q", kinds, want)
	}
	text := string(raw)
	for _, want := range []string{"replicas: 1 ", "type: Recreate", "scheme: HTTPS", "mountPath: /etc/dcshealer-dashboard", "mountPath: /var/lib/dcshealer}"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	compose := deployed(t, "compose.yaml")[0]["services"].(map[string]any)["dcshealer"].(map[string]any)
	command := []string{}
	for _, word := range compose["command"].([]any) {
		command = append(command, word.(string))
	}
	unit, err := os.ReadFile("../../deploy/dcshealer.service")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^ExecStart(?:Pre)?=/usr/local/bin/dcshealer (.*)$`).FindAllStringSubmatch(string(unit), -1)
	if len(lines) != 2 {
		t.Fatalf("%d commands in the unit", len(lines))
	}
	for _, args := range [][]string{command, strings.Fields(lines[0][1]), strings.Fields(lines[1][1])} {
		root := newRoot(&app{stdout: os.Stdout, stderr: os.Stderr})
		cmd, rest, err := root.Find(args)
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err != nil || cmd == root {
			t.Errorf("dcshealer %q: %v", args, err)
		}
	}
}

func TestSystemdTakesTheUnit(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd on this machine")
	}
	unit, err := os.ReadFile("../../deploy/dcshealer.service")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dcshealer.service")
	if err := os.WriteFile(file, bytes.ReplaceAll(unit, []byte("/usr/local/bin/dcshealer"), []byte(program(t))), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), tool, "verify", "--man=no", file).CombinedOutput()
	if err != nil || strings.Contains(string(out), "dcshealer.service") { // what it thinks of this machine's other units is not ours
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}
