package policies

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// wireFields are a payload's fields as they stand there, keys apart by case, which a struct would not keep them. It is read by hand: a
// flood of alarms must not be slower to read than to send.
type wireFields []wireField

type wireField struct {
	key   string
	raw   string // without white space around it
	plain bool   // a text holds no escape, and is UTF-8
}

// text is that of a string; isText is false where it is anything else.
func (f wireField) text() (text string, isText bool) {
	switch {
	case f.raw == "" || f.raw[0] != '"':
		return "", false
	case f.plain:
		return f.raw[1 : len(f.raw)-1], true
	}
	return stringOf([]byte(f.raw)), true
}

func (f wireField) isNull() bool { return f.raw == "null" || f.raw == "" }

// find is the last of a key that may stand there twice; where it does not stand, the field is empty.
func (f wireFields) find(key string) wireField {
	for i := len(f) - 1; i >= 0; i-- {
		if f[i].key == key {
			return f[i]
		}
	}
	return wireField{}
}

// usualFields is room for the fields of nearly every alarm.
type usualFields [20]wireField

// decodeFields reads the fields of a payload, into room while they fit.
func decodeFields(payload []byte, room *usualFields) (wireFields, *MalformedAlarm) {
	if f, ok := plainFields(room[:0], payload); ok {
		return f, nil
	}
	return anyFields(payload)
}

// anyFields reads whatever an object may hold.
func anyFields(payload []byte) (wireFields, *MalformedAlarm) {
	if !json.Valid(payload) {
		return nil, malformed(MalformedNotJSON, "%d bytes that are not one JSON value", len(payload))
	}
	rest := trimSpace(payload)
	if rest[0] != '{' {
		return nil, malformed(MalformedNotObject, "want one JSON object, got %.20q", strings.TrimLeft(string(payload[:min(len(payload), 64)]), " \t\r\n"))
	}
	var f wireFields
	for rest = trimSpace(rest[1:]); rest[0] != '}'; {
		n := stringEnd(rest)
		key := stringOf(rest[:n])
		rest = trimSpace(trimSpace(rest[n:])[1:]) // the colon
		n = valueEnd(rest)
		f = append(f, wireField{key: key, raw: string(rest[:n])})
		if rest = trimSpace(rest[n:]); rest[0] == ',' {
			rest = trimSpace(rest[1:])
		}
	}
	return f, nil
}

// trimSpace drops white space of JSON. Here and below the text is valid: it never ends too early.
func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\n' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}

// stringEnd is the length of the string that b begins with, quotes included.
func stringEnd(b []byte) int {
	for i := 1; ; {
		n := bytes.IndexByte(b[i:], '"')
		slashes := 0
		for i += n; b[i-1-slashes] == '\\'; {
			slashes++
		}
		if i++; slashes%2 == 0 {
			return i
		}
	}
}

// valueEnd is the length of the value that b begins with.
func valueEnd(b []byte) int {
	switch b[0] {
	case '"':
		return stringEnd(b)
	case '{', '[':
		for i, depth := 0, 0; ; i++ {
			switch b[i] {
			case '"':
				i += stringEnd(b[i:]) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	return bytes.IndexAny(b, ",} \t\r\n") // the value stands in an object
}

// stringOf is the text of a valid JSON string; what is no UTF-8 in it is replaced.
func stringOf(raw []byte) string {
	inner := raw[1 : len(raw)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner)
	}
	var s string
	_ = json.Unmarshal(raw, &s) // it is valid
	return s
}
