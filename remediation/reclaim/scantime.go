package reclaim

import (
	"strconv"
	"strings"
	"time"
)

// ScanTimeOf reads cmdstat_scan's usec off INFO commandstats; 0 when the server has not been sent a SCAN yet.
func ScanTimeOf(commandstats string) time.Duration {
	for line := range strings.Lines(commandstats) {
		fields, ok := strings.CutPrefix(strings.TrimSpace(line), "cmdstat_scan:")
		if !ok {
			continue
		}
		for field := range strings.SplitSeq(fields, ",") {
			if usec, ok := strings.CutPrefix(field, "usec="); ok {
				n, _ := strconv.ParseInt(usec, 10, 64)
				return time.Duration(n) * time.Microsecond
			}
		}
	}
	return 0
}
