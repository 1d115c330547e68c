package policies

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// plainMost is the largest payload of which plainFields keeps a copy that its texts share, in bytes: an alarm that is remembered keeps
// that copy alive.
const plainMost = 4096

// plainFields reads what nearly every alarm is, an object of texts without escapes, numbers, bools and nulls, in one pass. ok is false
// for anything else, which may be valid all the same.
// The fields are appended to f.
func plainFields(f wireFields, payload []byte) (_ wireFields, ok bool) {
	if len(payload) > plainMost {
		return nil, false
	}
	s := string(payload)
	i := skipSpace(s, 0)
	if i == len(s) || s[i] != '{' {
		return nil, false
	}
	for next := byte(','); next == ','; {
		i = skipSpace(s, i+1)
		key, end := plainString(s, i)
		if end < 0 {
			return nil, false
		}
		if i = skipSpace(s, end); i == len(s) || s[i] != ':' {
			return nil, false
		}
		i = skipSpace(s, i+1)
		_, end = plainString(s, i)
		if end < 0 {
			end = plainScalar(s, i)
		}
		if end < 0 {
			return nil, false
		}
		f = append(f, wireField{key: key, raw: s[i:end], plain: true})
		if i = skipSpace(s, end); i == len(s) {
			return nil, false
		}
		next = s[i]
	}
	return f, s[i] == '}' && skipSpace(s, i+1) == len(s)
}

func skipSpace(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\t' || s[i] == '\n' || s[i] == '\r') {
		i++
	}
	return i
}

// plainString is the text at i, which stands there without escapes, and where it ends; -1: it is no such text.
func plainString(s string, i int) (text string, end int) {
	if i >= len(s) || s[i] != '"' {
		return "", -1
	}
	n := strings.IndexByte(s[i+1:], '"')
	if n < 0 {
		return "", -1
	}
	text = s[i+1 : i+1+n]
	ascii := true
	for k := range len(text) {
		switch c := text[k]; {
		case c < ' ' || c == '\\':
			return "", -1
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if !ascii && !utf8.ValidString(text) {
		return "", -1
	}
	return text, i + n + 2
}

// plainScalar is where the number, bool or null at i ends; -1: it is none.
func plainScalar(s string, i int) (end int) {
	for _, word := range []string{"true", "false", "null"} {
		if strings.HasPrefix(s[i:], word) {
			return i + len(word)
		}
	}
	end = i
	for end < len(s) && strings.IndexByte("+-.0123456789eE", s[end]) >= 0 {
		end++
	}
	if !json.Valid([]byte(s[i:end])) {
		return -1
	}
	return end
}
