package policies

import (
	"strings"
	"testing"
)

// The text that a signature covers is an interface: other programs compute it.
func TestCanonicalAlarm(t *testing.T) {
	for name, tt := range map[string]struct{ payload, want, sig string }{
		"sorted, compact, without sig":      {`{ "msg" : "a <b> & c", "instance":"i", "value": 8190, "sig":"ab" }`, "critical\n" + `{"instance":"i","msg":"a <b> & c","value":8190}`, "ab"},
		"fields of others stay, as written": {`{"x":{"b": 1,"a":[1, 2.50]},"instance":"\u0069"}`, "critical\n" + `{"instance":"\u0069","x":{"b":1,"a":[1,2.50]}}`, ""},
		"the last of a doubled key":         {`{"instance":"a","instance":"b","sig":"1","sig":"2"}`, "critical\n" + `{"instance":"b"}`, "2"},
		"a sig that is no text":             {`{"instance":"a","sig":7}`, "critical\n" + `{"instance":"a"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, sig, err := CanonicalAlarm(Critical, []byte(tt.payload))
			if err != nil || string(got) != tt.want || sig != tt.sig {
				t.Errorf("got %q, sig %q, %v; want %q, sig %q", got, sig, err, tt.want, tt.sig)
			}
		})
	}
	for _, bad := range []string{"", "[]", "{", `"x"`, strings.Repeat(" ", MaxPayload+1)} {
		if _, _, err := CanonicalAlarm(Critical, []byte(bad)); err == nil {
			t.Errorf("%.10q has a canonical form", bad)
		}
	}
}

func TestParseHMACKeys(t *testing.T) {
	a, b := strings.Repeat("a", 16), strings.Repeat("b", 40)
	for name, tt := range map[string]struct {
		text string
		want []string
		err  string
	}{
		"one":                 {a, []string{a}, ""},
		"two, empty lines":    {"\n" + a + "\r\n\n" + b + "\n", []string{a, b}, ""},
		"spaces belong to it": {" " + a, []string{" " + a}, ""},
		"none":                {"\n\r\n", nil, "holds no key"},
		"a short one":         {b + "\nhunter2", nil, "line 2 has 7 bytes, want at least 16"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseHMACKeys([]byte(tt.text))
			if (err == nil) != (tt.err == "") || err != nil && (!strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "hunter2")) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if len(got) != len(tt.want) {
				t.Fatalf("%d keys, want %d", len(got), len(tt.want))
			}
			for i, k := range got {
				if k.Reveal() != tt.want[i] {
					t.Errorf("key %d is another", i+1)
				}
			}
		})
	}
}
