package main

import (
	"strings"
	"time"
	_ "time/tzdata" // zones also where the system has none, as in a container image without them

	"github.com/robfig/cron/v3"

	"dcshealer/policies"
)

const wantCron = "five cron fields such as 0 2 * * 1-5 (minute hour day month weekday), or @daily and the like"

// window reads one time in which live actions are allowed.
func (d *configDecoder) window(v fileValue) (w policies.Window) {
	m := d.mapping(v, "a window such as {cron: 0 2 * * *, duration: 4h, time_zone: Europe/Berlin}")
	m.text("cron", &w.Cron, wantCron)
	m.duration("duration", &w.Duration)
	m.text("time_zone", &w.Zone, wantZone)
	m.end()
	zone := d.zone(m, w.Zone)
	if c, ok := m.take("cron"); ok && !d.unread[c.path] {
		w.Next = d.schedule(c, w.Cron, zone)
	}
	m.required("cron", wantCron)
	m.required("duration", wantDuration)
	return w
}

// required notes a key that is not there and has no default.
func (m *fileMapping) required(key, want string) {
	if m.has(key) || m.d.unread[m.path] {
		return
	}
	path := policies.JoinPath(m.path, key)
	m.d.unread[path] = true
	m.d.faults = append(m.d.faults, policies.FieldError{Line: m.d.nearestLine(path), Path: path, Want: want})
}

const wantZone = "an IANA time zone such as Europe/Berlin; leave the key out for UTC"

func (d *configDecoder) zone(m *fileMapping, name string) *time.Location {
	v, ok := m.take("time_zone")
	if !ok || d.unread[v.path] {
		return time.UTC
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		d.wrong(v, wantZone)
		return time.UTC
	}
	return zone
}

// schedule is the next start strictly after a time, by the cron text in the zone.
func (d *configDecoder) schedule(v fileValue, text string, zone *time.Location) func(time.Time) time.Time {
	// The parser takes a zone in the text too, and panics over a broken one; @every has no fixed starts.
	if strings.Contains(text, "TZ=") {
		d.wrong(v, wantCron+"; the zone goes into time_zone")
		return nil
	}
	schedule, err := cron.ParseStandard(text)
	if err != nil || strings.HasPrefix(text, "@every") {
		d.wrong(v, wantCron)
		return nil
	}
	next := func(t time.Time) time.Time { return schedule.Next(t.In(zone)) }
	// It looks five years ahead: from any day that covers a 29 February but no 31 June.
	if next(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		d.wrong(v, "a date that comes: this one never does")
		return nil
	}
	return next
}
