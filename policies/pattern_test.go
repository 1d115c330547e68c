package policies

import "testing"

func TestMatchPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"cache:*", "cache:1", true}, {"cache:*", "cache:", true}, {"cache:*", "xcache:1", false}, {"cache:*", "CACHE:1", false},
		{"*", "", true}, {"*", "anything", true}, {"a*b*c", "a--b--c", true}, {"a*b*c", "a--c--b", false}, {"a*a", "a", false},
		{"?", "x", true}, {"?", "", false}, {"?", "xy", false}, {"h?llo", "hello", true},
		{"h[ae]llo", "hallo", true}, {"h[ae]llo", "hillo", false}, {"h[^e]llo", "hallo", true}, {"h[^e]llo", "hello", false},
		{"[a-c]1", "b1", true}, {"[c-a]1", "b1", true}, {"[a-c]1", "d1", false}, {`\*`, "*", true}, {`\*`, "x", false}, {`a\?`, "a?", true},
		{"", "", true}, {"", "x", false}, {"x", "", false}, {"**", "x", true}, {"*x", "aaax", true}, {"*x", "aaaxb", false},
		{"*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
	} {
		if got := MatchPattern(c.pattern, c.text); got != c.want {
			t.Errorf("MatchPattern(%q, %q) = %t", c.pattern, c.text, got)
		}
	}
	for pattern, want := range map[string]bool{"": false, "*": true, "[": false, "[]": false, "[a": false, "[a]": true, `\`: false, `\[`: true, "a[b]c[": false} {
		if got := ValidPattern(pattern); got != want {
			t.Errorf("ValidPattern(%q) = %t", pattern, got)
		}
	}
}
