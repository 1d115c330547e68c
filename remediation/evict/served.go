package evict

import (
	"strconv"
	"strings"
	"time"
)

// ServedOf reads off INFO commandstats the time spent in what an eviction sends. The PTTL and UNLINK of the script are in EVAL's.
func ServedOf(commandstats string) (sum time.Duration) {
	for line := range strings.Lines(commandstats) {
		name, fields, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "cmdstat_"), ":")
		switch name {
		case "scan", "eval", "memory", "memory|usage": // 6.0 does not tell subcommands apart
		default:
			continue
		}
		for field := range strings.SplitSeq(fields, ",") {
			if usec, ok := strings.CutPrefix(field, "usec="); ok {
				n, _ := strconv.ParseInt(usec, 10, 64)
				sum += time.Duration(n) * time.Microsecond
			}
		}
	}
	return sum
}
