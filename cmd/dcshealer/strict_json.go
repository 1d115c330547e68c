package main

import (
	"bytes"
	"strconv"
	"unicode/utf16"
)

// strictJSON is JSON that every reader takes: Go reads bytes that are no UTF-8 and half a surrogate pair (\ud800) as U+FFFD, others stop there.
func strictJSON(text []byte) []byte {
	text = bytes.ToValidUTF8(text, []byte("\ufffd"))
	if !bytes.Contains(text, []byte(`\u`)) {
		return text
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		if text[i] != '\\' {
			out, i = append(out, text[i]), i+1
			continue
		}
		end := min(i+2, len(text))
		unit, isUnit := codeUnit(text[i:])
		if isUnit {
			end = i + 6
		}
		switch {
		case !isUnit || !utf16.IsSurrogate(unit):
			out = append(out, text[i:end]...)
		default:
			if second, ok := codeUnit(text[end:]); ok && utf16.DecodeRune(unit, second) != '\ufffd' {
				end += 6
				out = append(out, text[i:end]...)
			} else {
				out = append(out, `\ufffd`...)
			}
		}
		i = end
	}
	return out
}

// codeUnit reads an escape such as \u00e9 at the beginning of a text.
func codeUnit(text []byte) (rune, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	return rune(unit), err == nil
}
