package policies

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestAlarmSurvivesTheWire(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 891_000_000, time.UTC)
	a := Alarm{Instance: "dcs-prod-02", Metric: MetricUsedMemory, Value: Int(8190), Threshold: Int(8192), Pct: "99.97%",
		Window: "Last 5 minutes", Slave: "dcs-slave-01", Msg: "a <b> & \"c\" ü", ID: "01J", Seq: 7, Source: "agent@h", At: at,
		Node: "n1", Status: Firing, Since: at.Add(-time.Minute)}
	payload, err := EncodeAlarm(a)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeAlarm(payload)
	if err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("decoded %+v (%v), want %+v", got, err, a)
	}
	for _, want := range []string{`"value":8190,`, `"ts":"2026-03-04T05:06:07.891Z"`, `"msg":"a <b> & \"c\" ü"`, `"v":1`} {
		if !strings.Contains(string(payload), want) {
			t.Errorf("payload %s lacks %s", payload, want)
		}
	}
}

func TestBasicReaderFindsTheFieldsItCountsOn(t *testing.T) {
	payload, err := EncodeAlarm(Alarm{Instance: "i", At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	var basic struct{ Instance, Metric, Value, Msg *string }
	if err := json.Unmarshal(payload, &basic); err != nil || basic.Instance == nil || basic.Metric == nil || basic.Value == nil || basic.Msg == nil {
		t.Errorf("%s: %v, want instance, metric, value and msg", payload, err)
	}
}

func TestEncodeRefusesWhatNoReaderWouldTake(t *testing.T) {
	for name, c := range map[string]struct {
		alarm Alarm
		kind  string
	}{
		"no instance": {Alarm{Instance: " "}, MalformedNoInstance},
		"oversize":    {Alarm{Instance: "i", Msg: strings.Repeat("x", MaxPayload)}, MalformedOversize},
	} {
		_, err := EncodeAlarm(c.alarm)
		if bad := new(MalformedAlarm); !errors.As(err, &bad) || bad.Kind != c.kind {
			t.Errorf("%s: %v, want kind %s", name, err, c.kind)
		}
	}
}

func TestMalformedKinds(t *testing.T) {
	for payload, kind := range map[string]string{
		``:                                 MalformedNotJSON,
		`hello`:                            MalformedNotJSON,
		`{"instance":"a"} x`:               MalformedNotJSON,
		`{"instance":"a"`:                  MalformedNotJSON,
		"\x00\x01\x02":                     MalformedNotJSON,
		strings.Repeat("[", 20000):         MalformedNotJSON,
		`[]`:                               MalformedNotObject,
		`[{"instance":"a"}]`:               MalformedNotObject,
		` "x"`:                             MalformedNotObject,
		`null`:                             MalformedNotObject,
		`12`:                               MalformedNotObject,
		`{}`:                               MalformedNoInstance,
		`{"instance":""}`:                  MalformedNoInstance,
		`{"instance":" \t"}`:               MalformedNoInstance,
		`{"instance":null}`:                MalformedNoInstance,
		`{"Instance":"a"}`:                 MalformedNoInstance,
		`{"instance":12}`:                  MalformedWrongType,
		`{"instance":["a"]}`:               MalformedWrongType,
		`{"instance":"a","msg":{}}`:        MalformedWrongType,
		`{"instance":"a","metric":1}`:      MalformedWrongType,
		`{"instance":"a","value":true}`:    MalformedWrongType,
		`{"instance":"a","value":[1]}`:     MalformedWrongType,
		`{"instance":"a","value":1e999}`:   MalformedWrongType,
		strings.Repeat(" ", MaxPayload+1):  MalformedOversize,
		strings.Repeat(" ", 65) + `[1]`:    MalformedNotObject,
		strings.Repeat(" ", 65) + `"text"`: MalformedNotObject,
	} {
		_, err := DecodeAlarm([]byte(payload))
		if bad := new(MalformedAlarm); !errors.As(err, &bad) || bad.Kind != kind {
			t.Errorf("%.40q: %v, want kind %s", payload, err, kind)
		}
	}
}

func TestDecodeIsLiberalWhereHarmless(t *testing.T) {
	for payload, want := range map[string]Alarm{
		`{"instance":"a"}`:                                            {Instance: "a"},
		`{"instance":"a","MSG":"x","msg":"y"}`:                        {Instance: "a", Msg: "y"},
		`{"instance":"a","value":"down"}`:                             {Instance: "a", Value: Text("down")},
		`{"instance":"a","value":null}`:                               {Instance: "a"},
		`{"instance":"a","pct":99.5}`:                                 {Instance: "a", Pct: "99.5"},
		`{"instance":"a","slave":{"x":1}}`:                            {Instance: "a"},
		`{"instance":"a","threshold":[]}`:                             {Instance: "a"},
		`{"instance":"a","seq":"x","id":5}`:                           {Instance: "a"},
		`{"instance":"a","seq":-4,"ts":"yesterday"}`:                  {Instance: "a"},
		`{"instance":"a","status":"odd"}`:                             {Instance: "a"},
		`{"instance":"\u0061","ts":"2026-03-04T05:06:07\u002B00:00"}`: {Instance: "a", At: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)},
		`{"instance":"a","extra":{"deep":[1,{"x":1}]}}`:               {Instance: "a"},
	} {
		got, err := DecodeAlarm([]byte(payload))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", payload, got, err, want)
		}
	}
}

func TestChannelSeverityTakesOnlyTheThree(t *testing.T) {
	for channel, want := range map[string]Severity{"p:q:critical": Critical, "p:q:notice": Notice, "p:q:Critical": 0, "p:q:canary": 0, "critical": 0, "p:critical": 0} {
		if got, ok := ChannelSeverity("p:q", channel); got != want || ok != (want != 0) {
			t.Errorf("%s: %v %v, want %v", channel, got, ok, want)
		}
	}
}

func FuzzDecodeAlarm(f *testing.F) {
	for _, s := range []string{`{"instance":"a","value":1}`, `[]`, `{"instance":1}`, "\xff", `{"instance":"a","seq":9e9}`, `{"instance":"\ud800"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		a, err := DecodeAlarm(payload)
		if err != nil {
			if bad := new(MalformedAlarm); !errors.As(err, &bad) || bad.Kind == "" {
				t.Fatalf("%q: %v is no MalformedAlarm with a kind", payload, err)
			}
			return
		}
		if a.Instance == "" || a.Severity != 0 {
			t.Fatalf("%q decoded to %+v", payload, a)
		}
		again, err := EncodeAlarm(a)
		if bad := new(MalformedAlarm); errors.As(err, &bad) && bad.Kind == MalformedOversize {
			return
		}
		if b, err2 := DecodeAlarm(again); err != nil || err2 != nil || b.Instance != a.Instance || b.Msg != a.Msg || b.ID != a.ID {
			t.Fatalf("%q: %+v came back as %+v (%v, %v)", payload, a, b, err, err2)
		}
	})
}

// The hand-written reader finds what the library's does.
func FuzzWireFields(f *testing.F) {
	for _, s := range []string{`{"a":1}`, ` { "a" : [1,"]}",{"b":"\\"}] , "a":null,"c":"\"x\\","d":-1.5e3 } `, `{}`, `{"\u0061":"\ud800","\xff":"\xfe"}`, `{"a":true,"b":{"c":{}},"":""}`, `"x"`, `null`, `[{}]`,
		`{"a":"é","b":01,"c":"x` + "\x01" + `"}`, `{"a":-}`, `{"a":"b",}`, `{"a":"b"}x`, `{"a":nulls}`, `{"a":1e5 , "a":true }`, `{"a" "b"}`, `{"a":"` + "\xff" + `"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, bad := decodeFields(payload, &usualFields{})
		long, bad2 := anyFields(payload)
		same := func(a, b wireField) bool {
			s, _ := a.text()
			o, _ := b.text()
			return a.key == b.key && a.raw == b.raw && s == o
		}
		if !slices.EqualFunc(got, long, same) || (bad == nil) != (bad2 == nil) {
			t.Fatalf("%q: in one pass %+v, else %+v", payload, got, long)
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(payload, &want); err != nil || want == nil {
			if bad == nil {
				t.Fatalf("%q: read as %v, want a fault", payload, got)
			}
			return
		}
		if bad != nil {
			t.Fatalf("%q: %v", payload, bad)
		}
		for key, raw := range want {
			mine := got.find(key)
			text, isText := mine.text()
			if mine.raw != string(raw) || isText != (raw[0] == '"') {
				t.Fatalf("%q: %q is %+v, want %q", payload, key, mine, raw)
			}
			var s string
			if err := json.Unmarshal(raw, &s); err == nil && isText && text != s {
				t.Fatalf("%q: %q is %q, want %q", payload, key, text, s)
			}
		}
		for _, field := range got {
			if _, ok := want[field.key]; !ok {
				t.Fatalf("%q: %q is not there", payload, field.key)
			}
		}
	})
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b[31mb\u202e", 5)
	f.Add("\x1b]0;x\x07\xff\u009b1m", 0)
	f.Fuzz(func(t *testing.T, s string, max int) {
		got := Printable(s, max)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.Is(unicode.Bidi_Control, r) }) {
			t.Fatalf("%q became %q", s, got)
		}
		if max > 0 && utf8.RuneCountInString(got) > max {
			t.Fatalf("%q became %q, longer than %d", s, got, max)
		}
	})
}
