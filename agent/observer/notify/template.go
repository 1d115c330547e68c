package notify

import (
	"errors"
	"fmt"
	"strings"
	"text/template"
	"time"

	"dcshealer/policies"
)

// Bounds of what a template makes.
const (
	maxTitle = 200
	maxText  = 4000 // characters
	maxMade  = 64 << 10
)

// Template writes the title and the text of notices anew. A nil one leaves ours.
type Template struct{ title, text *template.Template }

// ParseTemplate reads two text/templates, each of which may be empty: ours. They are given a Notice. Both are tried on notices of every kind,
// so that a field that there is not shows now.
func ParseTemplate(title, text string) (*Template, error) {
	t := &Template{}
	for _, part := range []struct {
		name, text string
		to         **template.Template
	}{{"title", title, &t.title}, {"template", text, &t.text}} {
		if part.text == "" {
			continue
		}
		parsed, err := template.New(part.name).Parse(part.text)
		if err != nil {
			return nil, plainTemplateError(err)
		}
		*part.to = parsed
	}
	for _, n := range samples() {
		if _, err := t.write(n); err != nil {
			return nil, plainTemplateError(err)
		}
	}
	return t, nil
}

// plainTemplateError says no more of its origin than line and column.
func plainTemplateError(err error) error {
	return errors.New(strings.TrimPrefix(err.Error(), "template: "))
}

// samples are notices of each kind, and of all.
func samples() (list []Notice) {
	var all []Event
	for _, k := range Kinds {
		e := Event{Kind: k, At: time.Unix(0, 0), Instance: "dcs-prod-01", Node: "dcs-slave-01", Metric: policies.MetricReplication, Msg: "a text", Since: time.Unix(0, 0),
			Incident: "an incident", Record: "a record", Action: policies.ReattachReplica, Outcome: policies.OutcomeSucceeded, Cause: policies.CausePromoted}
		all = append(all, e)
		list = append(list, NewNotice("id", "host", []Event{e}, time.Unix(0, 0)))
	}
	return append(list, NewNotice("id", "host", all, time.Unix(0, 0)))
}

// Apply is the notice as the template writes it; where that fails ours, which says so.
func (t *Template) Apply(n Notice) Notice {
	if t == nil {
		return n
	}
	made, err := t.write(n)
	if err != nil {
		n.Text += "\n" + clean("(the receiver's template failed: "+plainTemplateError(err).Error()+")", 300)
		return n
	}
	return made
}

func (t *Template) write(n Notice) (Notice, error) {
	made := n
	for _, part := range []struct {
		by *template.Template
		to *string
	}{{t.title, &made.Title}, {t.text, &made.Text}} {
		if part.by == nil {
			continue
		}
		out := &bounded{}
		if err := part.by.Execute(out, n); err != nil {
			return n, err
		}
		if strings.TrimSpace(out.String()) != "" { // many services refuse an empty message: ours stays
			*part.to = out.String()
		}
	}
	made.Title, made.Text = clean(strings.TrimSpace(made.Title), maxTitle), cleanLines(made.Text)
	return made, nil
}

// bounded takes so much text and no more.
type bounded struct{ strings.Builder }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxMade {
		return 0, fmt.Errorf("it makes more than %d bytes", maxMade)
	}
	return b.Builder.Write(p)
}

// cleanLines is text without control characters, its lines kept.
func cleanLines(s string) string {
	var out []string
	left := maxText
	for line := range strings.Lines(strings.TrimSpace(s)) {
		if left <= 0 {
			break
		}
		line = clean(strings.TrimRight(line, " \t\r\n"), left)
		left -= len([]rune(line)) + 1
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}
