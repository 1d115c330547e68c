package metrics

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"dcshealer/policies"
)

const deploy = "../../../deploy"

// names are all metrics that a full scrape shows.
func names(t *testing.T) []string {
	t.Helper()
	m := New("1.2.3", sample)
	m.Decision(policies.Record{Action: policies.ReattachReplica, Outcome: policies.OutcomeDenied})
	var all []string
	for _, found := range regexp.MustCompile(`(?m)^# TYPE (dcshealer_\w+) `).FindAllStringSubmatch(scrape(t, m), -1) {
		all = append(all, found[1])
	}
	if len(all) < 40 {
		t.Fatalf("%d metrics: %q", len(all), all)
	}
	return all
}

func TestEveryMetricThatDeployNamesExists(t *testing.T) {
	known := names(t)
	for _, name := range []string{"rules.yaml", "rules_test.yaml", "grafana.json"} {
		data, err := os.ReadFile(filepath.Join(deploy, name))
		if err != nil {
			t.Fatal(err)
		}
		used := regexp.MustCompile(`dcshealer_\w+`).FindAllString(string(data), -1)
		if len(used) < 12 {
			t.Errorf("%s names %d metrics", name, len(used))
		}
		for _, u := range used {
			if !slices.Contains(known, u) {
				t.Errorf("%s names %s, which there is not", name, u)
			}
		}
		if filepath.Ext(name) == ".json" && !json.Valid(data) {
			t.Errorf("%s is not JSON", name)
		}
	}
}
