package policies

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A FieldError names the one setting of the config file that an operator has to change. It prints as
// fleet.yaml:14: policies.default.windows[2].duration: got "-5s", want a duration above 0s
// The rules leave File and the lines empty: they know no file, so the loader adds them.
type FieldError struct {
	File    string  `json:"file"`              // as the operator named it
	Line    int     `json:"line"`              // 1-based; 0: the file as a whole
	Path    string  `json:"path"`              // as written in the file; empty: the file as a whole
	Got     string  `json:"got"`               // empty: nothing
	Want    string  `json:"want"`              // a rule, not a type
	Bare    bool    `json:"-"`                 // Got describes what stands there ("a list") and prints without quotes
	Default bool    `json:"default,omitempty"` // the setting is not in the file: Got is its default
	With    []Place `json:"with,omitempty"`    // the other settings that the rule compares this one with
}

// Place is a setting and its line. Line 0: it is not in the file and its default holds.
type Place struct {
	Path string `json:"path"`
	Line int    `json:"line"`
}

func (e FieldError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Path != "" {
		b.WriteString(": " + e.Path)
	}
	fmt.Fprintf(&b, ": got %s, want %s", e.got(), e.Want)
	notes := make([]string, len(e.With))
	for i, p := range e.With {
		notes[i] = p.String()
	}
	if len(notes) > 0 {
		b.WriteString(" (" + strings.Join(notes, ", ") + ")")
	}
	return b.String()
}

// MaxGot is how many characters of a wrong value an error shows.
const MaxGot = 80

func (e FieldError) got() string {
	got := e.Got
	switch {
	case got == "":
		return "nothing"
	case e.Bare:
		return got
	}
	if utf8.RuneCountInString(got) > MaxGot {
		got = string([]rune(got)[:MaxGot]) + "..."
	}
	got = fmt.Sprintf("%q", got)
	if e.Default {
		got += " by default"
	}
	return got
}

func (p Place) String() string {
	if p.Line == 0 {
		return p.Path + ": default"
	}
	return fmt.Sprintf("%s: line %d", p.Path, p.Line)
}

// JoinPath is the path of a key below path; "" is the top of the file. A key that is no name, as NameRule has it, is quoted.
func JoinPath(path, key string) string {
	if !validName(key) {
		runes := []rune(key)
		key = strconv.Quote(string(runes[:min(len(runes), MaxGot)]))
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
