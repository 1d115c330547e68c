package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"dcshealer/policies"
)

// demoReport is the demo's final table, and what demo -o json prints. Durations are seconds.
type demoReport struct {
	Healed  bool             `json:"healed"`
	Error   string           `json:"error,omitempty"`
	Server  string           `json:"server"`
	Took    float64          `json:"took"`
	Repairs []demoRepair     `json:"repairs"`
	Alarms  map[string]int64 `json:"alarms"` // fired, by severity
	Journal demoJournal      `json:"journal"`
}

// demoRepair is one row of the table.
type demoRepair struct {
	Incident string          `json:"incident"`
	Instance string          `json:"instance"`
	Node     string          `json:"node"`
	Metric   policies.Metric `json:"metric"`
	Cause    policies.Cause  `json:"cause"`
	Action   policies.Action `json:"action"`
	Record   string          `json:"record"`
	Detected float64         `json:"detected_after"`   // from the fault to its first critical alarm
	Repaired float64         `json:"repaired_after"`   // from live enable to the proof on the servers and the action's end
	Took     float64         `json:"action_took"`      // from the first command to its effect
	Resync   policies.Resync `json:"resync,omitempty"` // reattachment
	Keys     int64           `json:"keys_freed"`
	Bytes    int64           `json:"bytes_freed"`
	Proof    []string        `json:"proof"`
}

// demoJournal says whether the journal is what was written.
type demoJournal struct {
	OK      bool  `json:"ok"`
	Entries int64 `json:"entries"`
	Records int64 `json:"records"`
}

// seconds is a duration for the report, to the millisecond.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

// table is the report for people.
func (r demoReport) table() string {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Options.SeparateRows = true
	t.AppendHeader(table.Row{"Incident", "Cause", "Action", "Time to\ndetect", "Time to\nrepair", "Effect", "Proof"})
	for _, x := range r.Repairs {
		t.AppendRow(table.Row{
			x.Instance + "\n" + string(x.Metric), x.Cause, string(x.Action) + "\non " + x.Node,
			fmt.Sprintf("%.1f s", x.Detected), fmt.Sprintf("%.1f s", x.Repaired), x.effect(), x.proof(),
		})
	}
	return t.Render()
}

// proof is one statement a line, and more lines for a long one.
func (x demoRepair) proof() string {
	lines := make([]string, len(x.Proof))
	for i, p := range x.Proof {
		lines[i] = text.WrapSoft(p, 28)
	}
	return strings.Join(lines, "\n")
}

func (x demoRepair) effect() string {
	if x.Action == policies.ReclaimExpired {
		return fmt.Sprintf("%s keys and\n%s freed\nin %.1f s", humanize.Comma(x.Keys), humanize.IBytes(uint64(max(x.Bytes, 0))), x.Took)
	}
	return fmt.Sprintf("link up %.1f s\nafter REPLICAOF,\n%s resync", x.Took, x.Resync)
}

// trend is how many alarms fired, by severity.
func (r demoReport) trend() string {
	var parts []string
	for _, s := range []policies.Severity{policies.Critical, policies.Warning, policies.Notice} {
		parts = append(parts, fmt.Sprintf("%d %s", r.Alarms[s.String()], s))
	}
	return strings.Join(parts, ", ")
}
