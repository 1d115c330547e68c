package main

import (
	"fmt"
	"time"

	"dcshealer/remediation/journal"
)

// controlText says what a person changed, or that it came to its end.
func controlText(c journal.Control) string {
	by, reason := c.By()
	signed := fmt.Sprintf(" (by %s: %s)", dash(by), dash(reason))
	switch c.Control {
	case "live":
		if !c.Live.Enabled {
			return fmt.Sprintf("live repair by %s switched off on %s%s", c.Live.Action, c.Live.Instance, signed)
		}
		return fmt.Sprintf("live repair by %s enabled on %s%s%s", c.Live.Action, c.Live.Instance, untilText(c.Live.Until), signed)
	case "live-ended":
		return fmt.Sprintf("the live setting of %s on %s came to its end%s", c.Live.Action, c.Live.Instance, signed)
	case "pause":
		return fmt.Sprintf("paused %s%s%s", onWhat(c.Pause.Instance), untilText(c.Pause.Until), signed)
	case "pause-ended":
		return fmt.Sprintf("the pause of %s came to its end%s", onWhat(c.Pause.Instance), signed)
	case "resume":
		return fmt.Sprintf("resumed %s%s", onWhat(c.Instance()), signed)
	case "breaker-reset":
		return fmt.Sprintf("breaker of %s on %s reset, it was %s%s", c.Breaker.Action, onWhat(c.Breaker.Instance), dash(c.Breaker.Was), signed)
	}
	return c.Control + " " + onWhat(c.Instance()) + signed
}

func untilText(t time.Time) string {
	if t.IsZero() {
		return " until changed"
	}
	return " until " + clock(t) + " UTC"
}

func onWhat(instance string) string {
	if instance == "" {
		return "all instances"
	}
	return instance
}
