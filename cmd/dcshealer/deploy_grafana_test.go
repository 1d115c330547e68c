package main

import (
	"encoding/json"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dashboard is what these tests read of deploy/grafana.json.
type dashboard struct {
	Panels     []dashboardPanel
	Templating struct {
		List []struct {
			Name, Type string
			Query      json.RawMessage
			Multi      bool
		}
	}
}

type dashboardPanel struct {
	ID                       int
	Type, Title, Description string
	Datasource               struct{ Type, UID string }
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct {
		RefID, Expr, LegendFormat, Format string
		Instant                           bool
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile("../../deploy/grafana.json")
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil {
		t.Fatalf("grafana.json: %v", err)
	}
	return d
}

// queries are the panels that ask something.
func (d dashboard) queries() []dashboardPanel {
	return slices.DeleteFunc(slices.Clone(d.Panels), func(p dashboardPanel) bool { return p.Type == "row" })
}

// What Grafana draws without a complaint but not as it should: panels over one another, two of one id, a kind that it no longer has,
// numbers without a unit, another data source than the chosen one.
func TestTheDashboardOfGrafanaIsSound(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	if len(d.queries()) < 20 {
		t.Fatalf("%d panels read", len(d.queries()))
	}
	ids, titles, taken := map[int]bool{}, map[string]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if p.ID == 0 || ids[p.ID] || p.Title == "" || titles[p.Title] {
			t.Errorf("id %d and title %q are not its own", p.ID, p.Title)
		}
		ids[p.ID], titles[p.Title] = true, true
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%s lies at %+v of 24 columns", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s lies over %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
	for _, p := range d.queries() {
		if !slices.Contains([]string{"stat", "timeseries", "table", "state-timeline"}, p.Type) {
			t.Errorf("%s is a %q", p.Title, p.Type)
		}
		if !slices.Contains([]string{"short", "percentunit", "bytes", "ops", "s"}, p.FieldConfig.Defaults.Unit) {
			t.Errorf("%s has the unit %q", p.Title, p.FieldConfig.Defaults.Unit)
		}
		if p.Description == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s: description %q, data source %q, %d queries", p.Title, p.Description, p.Datasource.UID, len(p.Targets))
		}
		for i, q := range p.Targets {
			if q.RefID != string(rune('A'+i)) || strings.Contains(q.Expr, `instance="`) {
				t.Errorf("%s: query %s: %s", p.Title, q.RefID, q.Expr)
			}
		}
	}
}

// draws asks every query of every variable and panel as Grafana does: each has to find something, with the labels that its legend names.
func (p *prometheus) draws(d dashboard, instances ...string) {
	p.t.Helper()
	fill := strings.NewReplacer("$instance", "("+strings.Join(instances, "|")+")", "$__rate_interval", "4s")
	values := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`)
	variables := map[string]bool{}
	for _, v := range d.Templating.List {
		variables[v.Name] = true
		if v.Type == "datasource" {
			continue
		}
		var query struct{ Query string }
		if err := json.Unmarshal(v.Query, &query); err != nil || !values.MatchString(query.Query) {
			p.t.Fatalf("variable %s: %s, %v", v.Name, v.Query, err)
		}
		parts := values.FindStringSubmatch(query.Query)
		if got := get[[]string](p, "label/"+parts[2]+"/values", url.Values{"match[]": {parts[1]}}); !slices.Equal(got, instances) || !v.Multi {
			p.t.Errorf("variable %s: %q, multi %t", v.Name, got, v.Multi)
		}
	}
	if !variables["datasource"] || !variables["instance"] {
		p.t.Errorf("variables %v", variables)
	}
	named := regexp.MustCompile(`\{\{(\w+)\}\}`)
	for _, panel := range d.queries() {
		for _, q := range panel.Targets {
			expr := fill.Replace(q.Expr)
			if strings.Contains(expr, "$") {
				p.t.Errorf("%s: an unknown variable in %s", panel.Title, q.Expr)
				continue
			}
			var found []map[string]string
			p.until(panel.Title+" has data for "+expr, func() bool { found = p.labels(expr, q.Instant); return len(found) > 0 })
			for _, label := range named.FindAllStringSubmatch(q.LegendFormat, -1) {
				for _, series := range found {
					if series[label[1]] == "" {
						p.t.Errorf("%s: the legend names %s, which %v has not: %s", panel.Title, label[1], series, expr)
					}
				}
			}
			if q.LegendFormat == "__auto" && q.Format == "time_series" && len(found) > 1 {
				p.t.Errorf("%s: one number for %d series: %s", panel.Title, len(found), expr)
			}
		}
	}
}
