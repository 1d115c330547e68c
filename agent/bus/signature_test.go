package bus

import (
	"bytes"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"dcshealer/policies"
)

const (
	oldKey = policies.Secret("0123456789abcdef-old")
	newKey = policies.Secret("0123456789abcdef-new")
)

func signedAlarm(t *testing.T, k *Keys, at time.Time, id string) []byte {
	t.Helper()
	payload, err := policies.EncodeAlarm(policies.Alarm{Instance: "dcs-prod-01", Metric: policies.MetricUsedMemory, Value: policies.Num(8190), Msg: "full <&>", ID: id, At: at})
	if err == nil {
		payload, err = k.Sign(policies.Critical, payload)
	}
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

// What comes through the gate of a healer that demands signatures.
func TestGate(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	good := signedAlarm(t, NewKeys(newKey), now, "id-1")
	changed := func(old, by string) []byte { return bytes.Replace(good, []byte(old), []byte(by), 1) }
	critical, warning := "redis:monitor:critical", "redis:monitor:warning"
	for name, tt := range map[string]struct {
		channel string
		payload []byte
		kind    string // empty: it passes
	}{
		"as it was sent":                      {critical, good, ""},
		"passed on by one that writes spaces": {critical, changed(`"instance":`, ` "instance" : `), ""},
		"with a field that nobody signed":     {critical, changed(`{`, `{"extra":1,`), "wrong-signature"},
		"with the old key":                    {critical, signedAlarm(t, NewKeys(oldKey), now, "id-2"), ""},
		"with a key that is no longer":        {critical, signedAlarm(t, NewKeys("0123456789abcdef-gone"), now, "id-3"), "wrong-signature"},
		"without a signature":                 {critical, signedAlarm(t, NewKeys(), now, "id-4"), "unsigned"},
		"of another instance":                 {critical, changed("dcs-prod-01", "dcs-prod-02"), "wrong-signature"},
		"on another channel":                  {warning, good, "wrong-signature"},
		"a signature that is no hex":          {critical, policies.WithSignature(signedAlarm(t, NewKeys(), now, "x"), "zz"), "wrong-signature"},
		"an empty signature":                  {critical, policies.WithSignature(signedAlarm(t, NewKeys(), now, "x"), ""), "unsigned"},
		"sent again late":                     {critical, signedAlarm(t, NewKeys(newKey), now.Add(-6*time.Minute), "id-5"), "too-old"},
		"from the future":                     {critical, signedAlarm(t, NewKeys(newKey), now.Add(6*time.Minute), "id-6"), "too-old"},
		"without a time":                      {critical, signedAlarm(t, NewKeys(newKey), time.Time{}, "id-7"), "too-old"},
		"without an id":                       {critical, signedAlarm(t, NewKeys(newKey), now, ""), "no-id"},
		"no alarm at all":                     {critical, []byte("{"), ""}, // the decoder says so
		"a canary":                            {"redis:monitor:canary", signedAlarm(t, NewKeys(), now, "x"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			g := NewGate(NewKeys(newKey, oldKey), "redis:monitor", slog.New(slog.NewTextHandler(&log, nil)))
			want := map[string]int64{}
			if tt.kind != "" {
				want[tt.kind] = 2
			}
			for range 2 {
				if got := g.Pass(policies.Message{Channel: tt.channel, Payload: tt.payload}, now); got != (tt.kind == "") {
					t.Errorf("passes: %v, want %v", got, tt.kind == "")
				}
			}
			got := g.Ignored()
			if len(got) != 5 {
				t.Errorf("counted %v, want each of 5 kinds from the start", got)
			}
			maps.DeleteFunc(got, func(_ string, n int64) bool { return n == 0 })
			if !maps.Equal(got, want) {
				t.Errorf("counted %v, want %v", got, want)
			}
			if n := strings.Count(log.String(), "\n"); n != len(want) || strings.Contains(log.String(), "0123456789abcdef") {
				t.Errorf("%d lines in the log, want %d and no key:\n%s", n, len(want), log.String())
			}
		})
	}
	if !NewGate(NewKeys(), "redis:monitor", nil).Pass(policies.Message{Channel: "other", Payload: good}, now) {
		t.Error("a channel of others is held up")
	}
	if NewGate(NewKeys(), "redis:monitor", nil).Pass(policies.Message{Channel: critical, Payload: good}, now) {
		t.Error("it passes without a key to verify it")
	}
}

// A forged alarm does not use up the id of a true one, and a true one counts once.
func TestGateBeforeDecoder(t *testing.T) {
	now := time.Now()
	g, d := NewGate(NewKeys(newKey), "redis:monitor", nil), NewDecoder("redis:monitor", nil)
	take := func(payload []byte) bool {
		m := policies.Message{Channel: "redis:monitor:critical", Payload: payload}
		if !g.Pass(m, now) {
			return false
		}
		_, err := d.Decode(m)
		return err == nil
	}
	forged, good := signedAlarm(t, NewKeys("another key of 16 bytes"), now, "one"), signedAlarm(t, NewKeys(newKey), now, "one")
	if take(forged) || !take(good) || take(good) {
		t.Error("want the forged one ignored, the true one taken, and its replay not")
	}
}

// Readers that know no signature read on as before.
func TestASignedAlarmReadsAsBefore(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	plain, err := policies.DecodeAlarm(signedAlarm(t, nil, now, "one"))
	if err != nil {
		t.Fatal(err)
	}
	signed := signedAlarm(t, NewKeys(newKey), now, "one")
	if got, err := policies.DecodeAlarm(signed); err != nil || got != plain || !bytes.Contains(signed, []byte(`"sig":"`)) {
		t.Errorf("got %+v, %v, want %+v", got, err, plain)
	}
}
