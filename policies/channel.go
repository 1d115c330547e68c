package policies

import (
	"strings"
	"time"
)

// Message is one publication as it came off the bus, before anyone has judged it.
type Message struct {
	Channel string
	Payload []byte    // as sent; any bytes of any length
	At      time.Time // when it was received, or added to the stream
	Stored  bool      // read from the stream, after the fact: it may be one that was already received
	Entry   string    // id in the stream of what is to be acknowledged; empty: nothing is
}

// Topics are what a reader of the bus subscribes to: the channels of some severities, or everything under the prefix.
type Topics struct {
	Severities []Severity
	All        bool // by pattern, PREFIX:*
	History    bool // also what the stream holds from before the first subscription
}

// Channel is where alarms of a severity go: PREFIX:SEVERITY.
func Channel(prefix string, s Severity) string { return prefix + ":" + s.String() }

// CanaryChannel is where canaries go, which wake nobody.
func CanaryChannel(prefix string) string { return prefix + ":" + string(MetricCanary) }

// StreamKey is the capped stream that holds the newest alarms beside Pub/Sub.
func StreamKey(prefix string) string { return prefix + ":stream" }

// Channel is where this alarm goes.
func (a Alarm) Channel(prefix string) string {
	if a.Metric == MetricCanary {
		return CanaryChannel(prefix)
	}
	return Channel(prefix, a.Severity)
}

// ChannelSeverity is the severity that a channel stands for; false for any other channel.
func ChannelSeverity(prefix, channel string) (Severity, bool) {
	name, ok := strings.CutPrefix(channel, prefix+":")
	if !ok {
		return 0, false
	}
	for _, s := range Severities {
		if name == s.String() {
			return s, true
		}
	}
	return 0, false
}
