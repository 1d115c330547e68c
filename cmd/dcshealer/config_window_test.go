package main

import (
	"testing"
	"time"
)

func TestAWindowOpensInItsZoneAlsoWhenTheClocksChange(t *testing.T) {
	cfg := loadText(t, oneNodeConfig+"policies: {default: {windows: [{cron: 0 3 * * *, duration: 90m, time_zone: Europe/Berlin}, {cron: 0 22 * * 6, duration: 1h}]}}\n")
	berlin, utc := cfg.Policies["default"].Windows[0], cfg.Policies["default"].Windows[1]
	for _, c := range []struct {
		at          string
		berlin, utc bool
	}{
		{"2026-01-15T01:59:59Z", false, false},
		{"2026-01-15T02:00:00Z", true, false}, // 3:00 in winter
		{"2026-01-15T03:29:59Z", true, false},
		{"2026-01-15T03:30:00Z", false, false},
		{"2026-07-15T01:00:00Z", true, false}, // 3:00 in summer
		{"2026-07-15T02:30:00Z", false, false},
		{"2026-03-29T01:00:00Z", true, false}, // the clocks went from 2:00 to 3:00 just now
		{"2026-01-17T22:30:00Z", false, true}, // a Saturday
		{"2026-01-18T22:30:00Z", false, false},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if b, u := berlin.Open(at), utc.Open(at); b != c.berlin || u != c.utc {
			t.Errorf("%s: Berlin open %v, UTC open %v, want %v and %v", c.at, b, u, c.berlin, c.utc)
		}
	}
}

func TestAWindowDoesNotDependOnTheZoneOfTheQuestion(t *testing.T) {
	w := loadText(t, oneNodeConfig+"policies: {default: {windows: [{cron: 0 2 * * *, duration: 1h}]}}\n").Policies["default"].Windows[0]
	at := time.Date(2026, 5, 1, 2, 30, 0, 0, time.UTC)
	if !w.Open(at) || !w.Open(at.In(time.FixedZone("far", 9*3600))) {
		t.Error("closed at 2:30 UTC, want open however the time is written")
	}
}
