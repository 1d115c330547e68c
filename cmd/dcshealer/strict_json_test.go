package main

import "testing"

func TestStrictJSON(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":1}`:                  `{"a":1}`,
		`"\ud800"`:                 `"\ufffd"`,
		`"\udc00 x"`:               `"\ufffd x"`,
		`"\ud800\ud83d\ude00"`:     `"\ufffd\ud83d\ude00"`,
		`"\uD83D\uDE00 \u00e9 \n"`: `"\uD83D\uDE00 \u00e9 \n"`,
		`"\\ud800 \\\ud800"`:       `"\\ud800 \\\ufffd"`,
		`"\ud800\u0041"`:           `"\ufffd\u0041"`,
		"\"\xff\xfe\"":             "\"\ufffd\"",
		"\"\xff \\ud800\"":         "\"\ufffd \\ufffd\"",
		`"\ud80`:                   `"\ud80`,
		`"\`:                       `"\`,
	} {
		if got := strictJSON([]byte(text)); string(got) != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
