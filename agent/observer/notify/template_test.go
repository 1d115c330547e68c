package notify

import (
	"testing"
	"time"
)

func TestTemplateThatWritesNothingLeavesOurText(t *testing.T) {
	tmpl, err := ParseTemplate("{{with .More}}{{.}} more{{end}}", "{{with .More}}{{.}} more{{end}}")
	if err != nil {
		t.Fatal(err)
	}
	n := NewNotice("id", "host", []Event{{Kind: KindAlarm, Instance: "dcs-prod-01", Msg: "down"}}, time.Unix(0, 0))
	if got := tmpl.Apply(n); got.Title != n.Title || got.Text != n.Text {
		t.Errorf("title %q, text %q; want ours: %q, %q", got.Title, got.Text, n.Title, n.Text)
	}
}
