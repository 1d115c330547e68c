package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dcshealer/policies"
)

// Whatever the file holds, loading it gives a config that keeps the rules or named faults, and never panics.
func FuzzLoadConfig(f *testing.F) {
	files, err := filepath.Glob("testdata/config/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(sampleConfig)
	f.Add([]byte(fullConfig))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 {
			return // the parser's time grows faster than its input
		}
		cfg, err := testConfigLoader("fleet.yaml").load(data)
		if err == nil {
			if faults := cfg.Check(); len(faults) > 0 {
				t.Errorf("loaded against the rules: %v", faults)
			}
			return
		}
		var fault policies.FieldError
		if !errors.As(err, &fault) || fault.Want == "" || fault.File != "fleet.yaml" || fault.Line < 0 {
			t.Errorf("%v: want a fault with its file and what was wanted", err)
		}
	})
}

func TestNoErrorShowsAPassword(t *testing.T) {
	for _, url := range []string{
		"redis://:hunter2@h", "redis://u:hunter2@h:99999/0", "redis://u:hunter2@h:1/x", "redis:/u:hunter2@h", "u:hunter2@h:6379", "redis://:hunter2",
		"redis://u:hun@ter2@h:x", "redis://u:hunter2 @h", "http://u:hunter2@h", "redis://h?password=hunter2", "redis://h/hunter2/hunter2",
		"redis:// :hunter2", "hunter2@", "redis://u:hunter2@[::1", "redis://u:%zzhunter2@h", "unix://u:hunter2@/tmp/s",
	} {
		for _, text := range []string{"bus: {url: '" + url + "'}\n", "bus: '" + url + "'\n", "listen: '" + url + "'\n", "state_dir: {'" + url + "': 1}\n"} {
			_, err := testConfigLoader("fleet.yaml").load([]byte(text + oneNodeConfig))
			if strings.HasPrefix(text, "bus: {") && validBusURL(url) {
				continue
			}
			if err == nil {
				t.Errorf("%s loaded, want an error", text)
			} else if strings.HasPrefix(text, "bus: {") && strings.Contains(err.Error(), "ter2") {
				t.Errorf("%s: the error shows the password: %v", text, err)
			} else if strings.Contains(url, ":hunter2@") && strings.Contains(err.Error(), "ter2") {
				t.Errorf("%s: the error shows the password: %v", text, err)
			}
		}
	}
}
