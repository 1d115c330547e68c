package policies

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// MaxPayload is the largest payload that is decoded, in bytes; a larger one is malformed, whatever it holds.
const MaxPayload = 256 << 10

// wireVersion is the "v" of the payloads that EncodeAlarm writes.
const wireVersion = 1

const wireTime = "2006-01-02T15:04:05.000Z07:00" // RFC 3339 with ms

// The kinds of MalformedAlarm. They are stable: the archive keeps them and metrics carry them.
const (
	MalformedNotJSON    = "not-json"
	MalformedNotObject  = "not-object"
	MalformedNoInstance = "no-instance"
	MalformedWrongType  = "wrong-type"
	MalformedOversize   = "oversize"
	MalformedChannel    = "unknown-channel" // on a channel below the prefix that is no severity's
)

// MalformedAlarm is a payload that is no alarm.
type MalformedAlarm struct {
	Kind   string // one of the Malformed constants
	Detail string // printable; holds no more than a few characters of the payload
}

func (m *MalformedAlarm) Error() string { return "malformed alarm: " + m.Kind + ": " + m.Detail }

func malformed(kind, format string, args ...any) *MalformedAlarm {
	return &MalformedAlarm{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// wireAlarm is the JSON object of the wire. The fields up to Msg are those that any reader may count on.
type wireAlarm struct {
	Instance  string `json:"instance"`
	Metric    Metric `json:"metric"`
	Value     Value  `json:"value"`
	Threshold *Value `json:"threshold,omitempty"`
	Pct       string `json:"pct,omitempty"`
	Window    string `json:"window,omitempty"`
	Slave     string `json:"slave,omitempty"`
	Msg       string `json:"msg"`
	V         int    `json:"v"`
	ID        string `json:"id,omitempty"`
	Seq       int64  `json:"seq,omitempty"`
	Source    string `json:"source,omitempty"`
	TS        string `json:"ts,omitempty"`
	Node      string `json:"node,omitempty"`
	Status    Status `json:"status,omitempty"`
	Since     string `json:"since,omitempty"`
}

// EncodeAlarm writes the payload of an alarm; its severity goes into the channel, not into the payload. An alarm
// without a value carries an empty text, so that a reader of the basic fields finds them all. The error is a
// *MalformedAlarm: no instance, or a payload over MaxPayload.
func EncodeAlarm(a Alarm) ([]byte, error) {
	if strings.TrimSpace(a.Instance) == "" {
		return nil, malformed(MalformedNoInstance, "an alarm names its instance")
	}
	w := wireAlarm{Instance: a.Instance, Metric: a.Metric, Value: a.Value, Pct: a.Pct, Window: a.Window, Slave: a.Slave,
		Msg: a.Msg, V: wireVersion, ID: a.ID, Seq: a.Seq, Source: a.Source, TS: formatTime(a.At), Node: a.Node,
		Status: a.Status, Since: formatTime(a.Since)}
	if a.Value.Kind == NoValue {
		w.Value = Text("")
	}
	if a.Threshold.Kind != NoValue {
		w.Threshold = &a.Threshold
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(w); err != nil {
		return nil, malformed(MalformedWrongType, "%v", err)
	}
	payload := strings.TrimSuffix(b.String(), "\n")
	if len(payload) > MaxPayload {
		return nil, malformed(MalformedOversize, "%d bytes, at most %d are sent", len(payload), MaxPayload)
	}
	return []byte(payload), nil
}

// DecodeAlarm reads a payload of any producer. Only instance is demanded: a missing metric or msg is empty, a missing
// value is none, unknown fields are ignored, and an optional field of a type that it should not have is read as its
// text or left out. Keys are case-sensitive. The severity is left zero: it stands in the channel. The error is a
// *MalformedAlarm.
func DecodeAlarm(payload []byte) (Alarm, error) {
	if len(payload) > MaxPayload {
		return Alarm{}, malformed(MalformedOversize, "%d bytes, at most %d are read", len(payload), MaxPayload)
	}
	var room usualFields
	f, bad := decodeFields(payload, &room)
	if bad != nil {
		return Alarm{}, bad
	}
	a := Alarm{Pct: f.loose("pct"), Window: f.loose("window"), Slave: f.loose("slave"), ID: f.optional("id"), Seq: f.count("seq"),
		Source: f.loose("source"), At: f.time("ts"), Node: f.loose("node"), Status: f.status(), Since: f.time("since")}
	metric, bad1 := f.text("metric")
	instance, bad2 := f.text("instance")
	msg, bad3 := f.text("msg")
	value, bad4 := f.value("value")
	for _, bad := range []*MalformedAlarm{bad1, bad2, bad3, bad4} {
		if bad != nil {
			return Alarm{}, bad
		}
	}
	if strings.TrimSpace(instance) == "" {
		return Alarm{}, malformed(MalformedNoInstance, "no field instance, or an empty one")
	}
	a.Instance, a.Metric, a.Msg, a.Value = instance, Metric(metric), msg, value
	if threshold, bad := f.value("threshold"); bad == nil {
		a.Threshold = threshold
	}
	return a, nil
}

// text is a string field; missing and null are empty.
func (f wireFields) text(key string) (string, *MalformedAlarm) {
	field := f.find(key)
	s, isText := field.text()
	if !isText && !field.isNull() {
		return "", malformed(MalformedWrongType, "%s: want a string, got %.20q", key, field.raw)
	}
	return s, nil
}

// optional is a string field, or empty where it is anything else.
func (f wireFields) optional(key string) string {
	s, _ := f.find(key).text()
	return s
}

// loose is a string field, or the text of a number or a bool.
func (f wireFields) loose(key string) string {
	field := f.find(key)
	s, isText := field.text()
	if isText || field.isNull() || field.raw[0] == '{' || field.raw[0] == '[' {
		return s
	}
	return field.raw
}

func (f wireFields) value(key string) (Value, *MalformedAlarm) {
	field := f.find(key)
	if s, isText := field.text(); isText {
		return Text(s), nil
	}
	var v Value
	if field.isNull() {
		return v, nil
	}
	if err := v.UnmarshalJSON([]byte(field.raw)); err != nil {
		return Value{}, malformed(MalformedWrongType, "%s: want a number or a string, got %.20q", key, field.raw)
	}
	return v, nil
}

// count is a whole number above 0, or 0.
func (f wireFields) count(key string) int64 {
	n, err := strconv.ParseInt(f.find(key).raw, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func (f wireFields) time(key string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, f.optional(key))
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

func (f wireFields) status() Status {
	if s := Status(f.optional("status")); s == Firing || s == Resolved {
		return s
	}
	return ""
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(wireTime)
}
