package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"dcshealer/policies"
	"dcshealer/remediation/journal"
)

// healWithin bounds every wait for the roles. It leaves room for a healer that holds back for 10 s on a starved machine.
const healWithin = 25 * time.Second

// dryRun waits for the alarms and the healer's plans, shows the plan, and proves that nothing was done.
func (d *demo) dryRun(ctx context.Context) error {
	if err := d.await(ctx, "wait for the alarms", healWithin, 200*time.Millisecond, d.alarmed); err != nil {
		return err
	}
	if err := d.await(ctx, "wait for the healer's plans", healWithin, 200*time.Millisecond, d.planned); err != nil {
		return err
	}
	d.tell.step("See what it would do. `plan` probes by itself and exits with 2: there is something to do")
	d.tell.command("dcshealer plan")
	out, err := d.command(ctx, exitPlanned, "plan")
	d.tell.block(foldAllowed(out))
	if err != nil {
		return err
	}
	d.tell.say("And nothing was done:")
	for _, c := range d.cases {
		if err := c.untouched(ctx); err != nil {
			return err
		}
	}
	return nil
}

// wireAlarmRow is what the demo reads of alarms list -o json.
type wireAlarmRow struct {
	Severity policies.Severity `json:"severity"`
	Instance string            `json:"instance"`
	Metric   policies.Metric   `json:"metric"`
	Status   policies.Status   `json:"status"`
	At       time.Time         `json:"ts"`
}

// alarmed is "" once every fault has its alarm; it takes the time from the fault to its first critical one.
func (d *demo) alarmed(ctx context.Context) string {
	var rows []wireAlarmRow // newest first
	if err := d.query(ctx, &rows, "alarms", "list", "--limit", "0"); err != nil {
		return err.Error()
	}
	for _, w := range awaited {
		found := false
		for _, r := range rows {
			found = found || r.Instance == w.instance && r.Metric == w.metric && r.Severity == w.severity && r.Status == policies.Firing
		}
		if !found {
			return fmt.Sprintf("no %s alarm of %s on %s", w.severity, w.metric, w.instance)
		}
	}
	for _, c := range d.cases {
		for _, r := range rows {
			if r.Instance == c.Instance && r.Metric == c.Metric && r.Severity == policies.Critical && r.Status == policies.Firing {
				c.Detected = max(0, seconds(r.At.Sub(c.broken)))
			}
		}
	}
	return ""
}

// planned is "" once the healer has planned the right action for each case.
func (d *demo) planned(ctx context.Context) string {
	for _, c := range d.cases {
		if _, missing := d.record(ctx, c, policies.OutcomePlanned); missing != "" {
			return missing
		}
	}
	return ""
}

// record is the newest journal record of a case with that outcome, or what is missing.
func (d *demo) record(ctx context.Context, c *demoCase, want policies.Outcome) (policies.Record, string) {
	var records []policies.Record // newest first
	if err := d.query(ctx, &records, "actions", "list", "--instance", c.Instance); err != nil {
		return policies.Record{}, err.Error()
	}
	last := "nothing is decided"
	for i, r := range records {
		if r.Node == c.Node && r.Action == c.Action && r.Outcome == want {
			return r, ""
		}
		if i == 0 {
			last = fmt.Sprintf("the newest decision is %s %s: %s", r.Action, r.Outcome, dash(whyShort(r)))
		}
	}
	return policies.Record{}, fmt.Sprintf("%s on %s is not %s: %s", c.Action, c.Node, want, last)
}

// goLive enables both repairs and waits until they are done, proven on the servers, written down and their alarms gone.
func (d *demo) goLive(ctx context.Context) error {
	d.tell.step("Trust it: enable live repair, for one instance and action each, for 10 minutes")
	for _, c := range d.cases {
		args := []string{"live", "enable", c.Instance, "--action", string(c.Action), "--for", "10m", "--reason", "demo", "--by", "demo"}
		d.tell.command("dcshealer " + strings.Join(args, " "))
		c.live = time.Now()
		if _, err := d.command(ctx, exitDone, args...); err != nil {
			return err
		}
	}
	if err := d.await(ctx, "wait for the repairs", healWithin, 50*time.Millisecond, d.allProven); err != nil {
		return err
	}
	if err := d.await(ctx, "wait for the records of the repairs", healWithin, 200*time.Millisecond, d.recorded); err != nil {
		return err
	}
	return d.await(ctx, "wait for the alarms to resolve", healWithin, 200*time.Millisecond, d.resolved)
}

// allProven asks the servers until each case is proven, and takes the time of each.
func (d *demo) allProven(ctx context.Context) (missing string) {
	for _, c := range d.cases {
		if c.healed {
			continue
		}
		proof, why := c.proof(ctx)
		if why != "" {
			missing = c.Instance + ": " + why
			continue
		}
		c.Proof, c.healed, c.Repaired = proof, true, seconds(time.Since(c.live))
	}
	return missing
}

// recorded is "" once the journal has both as succeeded; it takes from there what was done.
func (d *demo) recorded(ctx context.Context) string {
	for _, c := range d.cases {
		r, missing := d.record(ctx, c, policies.OutcomeSucceeded)
		if missing != "" {
			return missing
		}
		c.Incident, c.Record, c.Cause = r.Incident, r.ID, r.Cause
		c.Repaired = max(c.Repaired, seconds(r.Finished.Sub(c.live))) // a sweep goes on when writes are accepted again
		c.measure(r)
	}
	return ""
}

// resolved is "" once the newest alarm of each case says that it is gone.
func (d *demo) resolved(ctx context.Context) string {
	var rows []wireAlarmRow
	if err := d.query(ctx, &rows, "alarms", "list", "--limit", "0", "--severity", "critical"); err != nil {
		return err.Error()
	}
	for _, c := range d.cases {
		for _, r := range rows {
			if r.Instance != c.Instance || r.Metric != c.Metric {
				continue
			}
			if r.Status != policies.Resolved {
				return fmt.Sprintf("the critical alarm of %s on %s still stands", c.Metric, c.Instance)
			}
			break
		}
	}
	return ""
}

// review proves the repairs once more, now that all is quiet, and shows what was written down.
func (d *demo) review(ctx context.Context) error {
	d.tell.step("Check the result on the servers, and review what was written down")
	for _, c := range d.cases {
		proof, missing := c.proof(ctx)
		if missing != "" {
			return fmt.Errorf("%s does not stay repaired: %s", c.Instance, missing)
		}
		c.Proof = append(proof, "alarm resolved")
		d.tell.good("%s  %s", c.Instance, strings.Join(c.Proof, "; "))
	}
	for _, args := range [][]string{{"actions", "list"}, {"actions", "verify"}} {
		d.tell.command("dcshealer " + strings.Join(args, " "))
		out, err := d.command(ctx, exitDone, args...)
		d.tell.block(out)
		if err != nil {
			return err
		}
	}
	return d.summarise(ctx)
}

// summarise reads what the report says of the journal and the alarms.
func (d *demo) summarise(ctx context.Context) error {
	var v journal.VerifyResult
	var points []trendPoint
	err := errors.Join(d.query(ctx, &v, "actions", "verify"), d.query(ctx, &points, "alarms", "trend", "--by", "severity", "--since", d.began.UTC().Format(time.RFC3339)))
	if err != nil {
		return err
	}
	d.report.Journal = demoJournal{OK: v.OK, Entries: int64(v.Entries), Records: int64(v.Records)}
	for _, p := range points {
		d.report.Alarms[p.Key] += p.Count
	}
	return nil
}
