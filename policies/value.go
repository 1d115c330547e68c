package policies

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// Value is a number or a text, as the wire carries it. The zero Value is none.
type Value struct {
	Number float64
	Text   string
	Kind   ValueKind
}

// ValueKind says which of the two a Value is.
type ValueKind uint8

// The kinds of a Value.
const (
	NoValue ValueKind = iota
	NumberValue
	TextValue
)

// Num is a number; a NaN or an infinity, which JSON cannot carry, becomes none.
func Num(f float64) Value {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return Value{}
	}
	return Value{Number: f, Kind: NumberValue}
}

// Int is a whole number.
func Int(i int64) Value { return Num(float64(i)) }

// Text is a text.
func Text(s string) Value { return Value{Text: s, Kind: TextValue} }

func (v Value) String() string {
	switch v.Kind {
	case NumberValue:
		return strconv.FormatFloat(v.Number, 'f', -1, 64)
	case TextValue:
		return v.Text
	}
	return ""
}

// MarshalJSON writes a number, a string, or null for none.
func (v Value) MarshalJSON() ([]byte, error) {
	switch v.Kind {
	case NumberValue:
		return []byte(v.String()), nil
	case TextValue:
		return json.Marshal(v.Text)
	}
	return []byte("null"), nil
}

// UnmarshalJSON reads a number, a string or null; anything else is an error.
func (v *Value) UnmarshalJSON(b []byte) error {
	b = bytes.TrimSpace(b)
	if string(b) == "null" {
		*v = Value{}
		return nil
	}
	if len(b) > 0 && b[0] == '"' {
		if !json.Valid(b) {
			return fmt.Errorf("value %.40s: want a number or a string", b)
		}
		*v = Text(stringOf(b))
		return nil
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return fmt.Errorf("value %.40s: want a number or a string", b)
	}
	*v = Num(f)
	return nil
}
