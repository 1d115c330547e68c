package policies

import (
	"fmt"
	"strings"
	"unicode"
)

// The lines that the roles print at their start, once their subscription stands, and the agent at the end of a cycle
// that published anything. None of the lines here ends in a line break.
const (
	AgentCycleLine     = "[Monitoring agent] All alarms in this collection cycle have been pushed."
	DBAStartLine       = "[On-duty DBA] The critical channel has been subscribed to."
	DashboardStartLine = "[O&M dashboard] The critical and warning channels have been subscribed to."
	HealerStartLine    = "[Self-healing service] The critical channel has been subscribed to."
)

// HealerLinePrefix begins every line of the healer.
const HealerLinePrefix = "[Self-healing service] "

// Text of an alarm is cut at these many characters on a console line.
const (
	maxLineName = 200
	maxLineMsg  = 2000
)

// ArchiverStartLine is the archiver's line at its start.
func ArchiverStartLine(prefix string) string {
	return "[Log archiving] The " + Printable(prefix, maxLineName) + ":* channel has been subscribed to via pattern matching."
}

// AgentLine is the agent's line for an alarm that it published.
func AgentLine(a Alarm) string {
	return fmt.Sprintf("[Monitoring agent] %-8s | %s | %s", upper(a.Severity), a.lineInstance(), a.lineMsg())
}

// DBALine is the on-duty DBA's line for a critical alarm, or for its end.
func DBALine(a Alarm) string {
	if a.IsResolved() {
		return "[On-duty DBA] Resolved | " + a.lineInstance() + " | " + a.lineMsg()
	}
	return "[On-duty DBA] !!! Critical alarm !!! " + a.lineInstance() + " | " + a.lineMsg()
}

// DashboardLine is the dashboard's console line.
func DashboardLine(a Alarm) string {
	return fmt.Sprintf("[O&M dashboard] [%s] %s | %s | %s", upper(a.Severity), a.lineInstance(), Printable(string(a.Metric), maxLineName), a.lineMsg())
}

// ArchiverLine is the archiver's line for an alarm that it keeps.
func ArchiverLine(a Alarm) string {
	return fmt.Sprintf("[Log archiving] [%-8s] %s | %s", upper(a.Severity), a.lineInstance(), a.lineMsg())
}

// HealerLine is the healer's first line for a critical alarm; false for a resolved one, which gets none.
func HealerLine(a Alarm) (string, bool) {
	if a.IsResolved() {
		return "", false
	}
	switch a.Metric {
	case MetricUsedMemory:
		return HealerLinePrefix + "Full memory detected -> Automatic cleanup triggered: " + a.lineInstance(), true
	case MetricReplication:
		slave := Printable(a.Slave, maxLineName)
		if slave == "" {
			slave = "unknown"
		}
		return HealerLinePrefix + "Replication interruption detected -> Attempting to reconnect to the replica: " + slave, true
	}
	return HealerLinePrefix + "Alarms received: " + a.lineInstance() + " | " + a.lineMsg(), true
}

func (a Alarm) lineInstance() string { return Printable(a.Instance, maxLineName) }
func (a Alarm) lineMsg() string      { return Printable(a.Msg, maxLineMsg) }

func upper(s Severity) string { return strings.ToUpper(s.String()) }

// Printable makes untrusted text safe for one line of a terminal: escape sequences, control characters, characters
// that reorder text or have no width, and bytes that are not UTF-8 are left out, line breaks and tabs become spaces.
// Text of more than max characters is cut and ends in "…"; a max of 0 or less sets no bound.
func Printable(s string, max int) string {
	if isPlain(s) && (max <= 0 || len(s) <= max) {
		return s
	}
	s = strings.Map(printableRune, stripEscapes(strings.ToValidUTF8(s, "")))
	if r := []rune(s); max > 0 && len(r) > max {
		return string(r[:max-1]) + "…"
	}
	return s
}

// isPlain reports text of printable ASCII only, which most is.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func printableRune(r rune) rune {
	switch {
	case r == '\n' || r == '\t' || r == '\r':
		return ' '
	case !unicode.IsGraphic(r) || unicode.Is(unicode.Bidi_Control, r):
		return -1
	}
	return r
}

// stripEscapes removes terminal sequences with what belongs to them: ESC [ parameters final (also with the one-character
// form U+009B), and ESC ] text up to BEL or ESC \. Without this the tail of a sequence would stay as text.
func stripEscapes(s string) string {
	var b strings.Builder
	r := []rune(s)
	for i := 0; i < len(r); i++ {
		switch {
		case r[i] == 0x9b:
			i = endOfCSI(r, i+1)
		case r[i] == 0x1b && i+1 < len(r) && r[i+1] == '[':
			i = endOfCSI(r, i+2)
		case r[i] == 0x1b && i+1 < len(r) && r[i+1] == ']':
			i = endOfOSC(r, i+2)
		case r[i] == 0x1b:
			i++ // ESC and the one character that it takes
		default:
			b.WriteRune(r[i])
		}
	}
	return b.String()
}

// endOfCSI is the index of the sequence's last character: parameters are 0x20 to 0x3f, the final one 0x40 to 0x7e.
func endOfCSI(r []rune, i int) int {
	for i < len(r) && r[i] >= 0x20 && r[i] <= 0x3f {
		i++
	}
	if i < len(r) && (r[i] < 0x40 || r[i] > 0x7e) {
		return i - 1 // broken off: what follows is text
	}
	return i
}

// maxOSC bounds the search for a terminator, which would else be quadratic in a text of openings only.
const maxOSC = 512

// endOfOSC is the index of the terminator, or of the opening where there is none near.
func endOfOSC(r []rune, from int) int {
	for i := from; i < min(len(r), from+maxOSC); i++ {
		switch {
		case r[i] == 0x07:
			return i
		case r[i] == 0x1b && i+1 < len(r) && r[i+1] == '\\':
			return i + 1
		}
	}
	return from - 1
}
