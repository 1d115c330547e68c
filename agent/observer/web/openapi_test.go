package web

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// described reads the operations of openapi.yaml as "METHOD /path operationId param param", by its indentation, which the file keeps to.
func described(t *testing.T) (all []string) {
	t.Helper()
	data, err := files.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	path, method := "", ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case regexp.MustCompile(`^  /[^ ]*:$`).MatchString(line):
			path = strings.TrimSuffix(strings.TrimSpace(line), ":")
		case regexp.MustCompile(`^    (get|post):$`).MatchString(line):
			method = strings.ToUpper(strings.Trim(line, " :"))
		case strings.HasPrefix(line, "      operationId: "):
			all = append(all, method+" "+path+" "+strings.TrimPrefix(line, "      operationId: "))
		case strings.Contains(line, "in: query"):
			name := regexp.MustCompile(`name: (\w+)`).FindStringSubmatch(line)
			all[len(all)-1] += " " + name[1]
		}
	}
	return all
}

func TestTheDocumentAndTheRoutesAreEqual(t *testing.T) {
	var routed []string
	for _, rt := range api {
		routed = append(routed, strings.Join(append([]string{rt.method, rt.path, rt.operation}, rt.params...), " "))
	}
	written := described(t)
	slices.Sort(routed)
	slices.Sort(written)
	if len(written) < 15 || !slices.Equal(routed, written) {
		t.Errorf("routes\n%s\n\ndescribed\n%s", strings.Join(routed, "\n"), strings.Join(written, "\n"))
	}
	g := newRig(t, nil)
	if w := g.send("GET", "/api/v1/openapi.yaml", ""); w.Code != 200 || !strings.HasPrefix(w.Body.String(), "openapi: 3.1") {
		t.Errorf("it is not served: %d", w.Code)
	}
}
