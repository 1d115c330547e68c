package policies

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Level is the severity of a share of maxmemory (1 is full) for an alarm that stands at was (0: none). A standing alarm
// falls only when the share is under its threshold by Clear.
func (u UsedMemory) Level(share float64, was Severity) Severity {
	return level(share, u.Warning, u.Critical, u.Clear, was)
}

// Level is the severity of a share of maxclients (1 is full), as UsedMemory.Level.
func (t ClientsThreshold) Level(share float64, was Severity) Severity {
	return level(share, t.Warning, t.Critical, t.Clear, was)
}

func level(share float64, warning, critical, clear Percent, was Severity) Severity {
	at := Percent(share * 100)
	for _, l := range []struct {
		severity Severity
		from     Percent
	}{{Critical, critical}, {Warning, warning}} {
		if l.from > 0 && (at >= l.from || was >= l.severity && at >= l.from-clear) {
			return l.severity
		}
	}
	return 0
}

// pct prints a share with one decimal, from 99 % on with two; it cuts and does not round, so that only what is full reads 100.
func pct(share float64) string {
	p := share * 100
	if p >= 99 && p < 100 {
		return strconv.FormatFloat(cut(p, 100), 'f', 2, 64) + "%"
	}
	return strconv.FormatFloat(cut(p, 10), 'f', 1, 64) + "%"
}

// cut drops the decimals beyond 1/scale. The small addend keeps a binary fraction such as 92.0 from becoming 91.9.
func cut(v, scale float64) float64 { return math.Floor(v*scale+1e-6) / scale }

// mib is bytes in MiB, with two decimals below 100 MiB.
func mib(bytes int64) Value {
	v := float64(bytes) / (1 << 20)
	if v >= 100 {
		return Num(math.Floor(v))
	}
	return Num(math.Round(v*100) / 100)
}

// span is a window in words, to follow "last": 5 minutes, hour, 90 seconds.
func span(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if d < u.unit || d%u.unit != 0 {
			continue
		}
		if d == u.unit {
			return u.name
		}
		return fmt.Sprintf("%d %ss", d/u.unit, u.name)
	}
	return d.String()
}
