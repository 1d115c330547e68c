package main

import (
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"

	"dcshealer/policies"
)

const (
	wantPercent  = "a percentage from 0% to 100%, such as 80%"
	wantDuration = "a duration with its unit, such as 300us, 5s, 15m or 30d"
	wantNumber   = "a whole number such as 3, without quotes"
)

// text reads a non-empty text on one line.
func (m *fileMapping) text(key string, to *string, want string) {
	if v, ok := m.take(key); ok && plainScalar(v.node) {
		m.d.wrong(v, want+" (in quotes, or YAML takes it for something else)")
		return
	}
	m.scalar(key, want, func(s string) bool {
		*to = s
		return s != "" && !strings.ContainsFunc(s, unicode.IsControl)
	})
}

// percent reads 80% or 99.97%; a bare number is a fault, for it could as well mean a share of 1.
func (m *fileMapping) percent(key string, to *policies.Percent) {
	m.scalar(key, wantPercent, func(s string) bool {
		p, ok := parsePercent(s)
		if ok {
			*to = p
		}
		return ok
	})
}

var percentText = regexp.MustCompile(`^[0-9]{1,3}(\.[0-9]{1,6})?%$`)

func parsePercent(s string) (policies.Percent, bool) {
	if !percentText.MatchString(s) {
		return 0, false
	}
	f, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	return policies.Percent(f), err == nil && f <= 100
}

// duration reads 5s, 300us or 30d. The rules say which may be zero or below.
func (m *fileMapping) duration(key string, to *time.Duration) {
	v, ok := m.take(key)
	if !ok {
		return
	}
	s, ok := v.text()
	if n, number := v.node.(*ast.IntegerNode); number && n.GetToken().Value == "0" {
		s, ok = "0", true // the one duration that needs no unit
	}
	if d, err := parseDuration(s); ok && err == nil {
		*to = d
		return
	}
	m.d.wrong(v, wantDuration)
}

// readNumber reads a whole number in decimal. The rules say how small or large it may be.
func readNumber[T int | int64](m *fileMapping, key string, to *T) {
	v, ok := m.take(key)
	if !ok {
		return
	}
	if n, number := v.node.(*ast.IntegerNode); number {
		digits := n.GetToken().Value
		// Underscores, 0x10 and 007 are read differently by different YAML versions.
		if i, err := strconv.ParseInt(digits, 10, 32); err == nil && strconv.FormatInt(i, 10) == digits {
			*to = T(i)
			return
		}
	}
	m.d.wrong(v, wantNumber)
}

// ratio reads a plain number such as 1.5. The rules say how small it may be.
func (m *fileMapping) ratio(key string, to *float64) {
	v, ok := m.take(key)
	if !ok {
		return
	}
	switch v.node.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		if f, err := strconv.ParseFloat(v.node.GetToken().Value, 64); err == nil && ratioText.MatchString(v.node.GetToken().Value) {
			*to = f
			return
		}
	}
	m.d.wrong(v, "a number such as 1.5, without quotes")
}

var ratioText = regexp.MustCompile(`^[0-9]{1,4}(\.[0-9]{1,3})?$`)

// flag reads true or false; yes, no, on and off are faults, for YAML versions differ on them.
func (m *fileMapping) flag(key string, to *bool) {
	v, ok := m.take(key)
	if !ok {
		return
	}
	if n, is := v.node.(*ast.BoolNode); is {
		*to = n.Value
		return
	}
	m.d.wrong(v, "true or false, without quotes")
}

// address reads HOST:PORT.
func (m *fileMapping) address(key string, to *policies.Address) {
	m.scalar(key, "HOST:PORT with a port from 1 to 65535, such as 10.0.0.11:6379 or [fd00::1]:6379", func(s string) bool {
		a, err := policies.ParseAddress(s)
		if err != nil || strings.ContainsAny(a.Host, "/@[] ") {
			return false
		}
		*to = a
		return true
	})
}

// readEnum reads one of a few words.
func readEnum[T ~string](m *fileMapping, key string, to *T, words ...T) {
	if v, ok := m.take(key); ok {
		*to = readWord(m.d, v, words...)
	}
}

// readWord is the value as one of a few words; a fault and "" if it is none of them.
func readWord[T ~string](d *configDecoder, v fileValue, words ...T) T {
	s, _ := v.text()
	texts := make([]string, len(words))
	for i, w := range words {
		if texts[i] = string(w); s == texts[i] {
			return w
		}
	}
	want := strings.Join(texts, " or ")
	if near := nearestWord(s, texts); near != "" {
		want += "; did you mean " + near + "?"
	}
	if readable(v) {
		d.wrong(v, want)
	}
	return ""
}

// scalar hands a key's text to set, which reports whether it will do.
func (m *fileMapping) scalar(key, want string, set func(string) bool) {
	v, ok := m.take(key)
	if !ok {
		return
	}
	if s, ok := v.text(); !ok || !set(s) {
		m.d.wrong(v, want)
	}
}

// text is the value of a plain, quoted or block text.
func (v fileValue) text() (string, bool) {
	switch n := v.node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

// plainScalar reports whether quotes would make the value a text.
func plainScalar(n ast.Node) bool {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return true
	}
	return false
}

// describeNode is the value for an error: its text as written, or, bare, a number or what kind of thing stands there.
func describeNode(n ast.Node) (got string, bare bool) {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return "", false
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping", true
	case *ast.SequenceNode:
		return "a list", true
	case *ast.StringNode:
		return n.Value, false
	case *ast.LiteralNode:
		return n.Value.Value, false
	}
	if plainScalar(n) {
		return n.GetToken().Value, true
	}
	return "something else than a text, a number, a list or a mapping", true
}

// keyText is a key as written.
func keyText(key ast.MapKeyNode) string {
	if s, ok := key.(*ast.StringNode); ok {
		return s.Value
	}
	if t := key.GetToken(); t != nil {
		return t.Value
	}
	return ""
}
