package policies

import (
	"encoding/json"
	"fmt"
)

// Opt is a value that may be unknown. Unknown is never zero and never healthy: a field that a server version does not
// report, or a command that was refused, leaves its Opt unknown. The zero Opt is unknown.
type Opt[T any] struct {
	V     T
	Known bool
}

// Known wraps a value that was read.
func Known[T any](v T) Opt[T] { return Opt[T]{V: v, Known: true} }

// Or is the value, or fallback where it is unknown.
func (o Opt[T]) Or(fallback T) T {
	if o.Known {
		return o.V
	}
	return fallback
}

func (o Opt[T]) String() string {
	if !o.Known {
		return "unknown"
	}
	return fmt.Sprint(o.V)
}

// MarshalJSON writes null for unknown.
func (o Opt[T]) MarshalJSON() ([]byte, error) {
	if !o.Known {
		return []byte("null"), nil
	}
	return json.Marshal(o.V)
}

// UnmarshalJSON reads null as unknown.
func (o *Opt[T]) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*o = Opt[T]{}
		return nil
	}
	if err := json.Unmarshal(b, &o.V); err != nil {
		return err
	}
	o.Known = true
	return nil
}
