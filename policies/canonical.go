package policies

import (
	"bytes"
	"encoding/json"
)

// sigField is where a payload carries its signature.
const sigField = "sig"

// CanonicalAlarm is what a signature covers, and the signature that the payload carries (empty: none). It is the name of the severity,
// which the payload does not hold, a newline, and the object without the field sig: keys sorted by their bytes, no white space between the
// tokens, strings and numbers as they were sent. Whoever passes a payload on may reorder and indent it. A key that stands there twice counts
// as its last, as it does for DecodeAlarm. The error is a *MalformedAlarm.
func CanonicalAlarm(s Severity, payload []byte) (canonical []byte, sig string, err error) {
	if len(payload) > MaxPayload {
		return nil, "", malformed(MalformedOversize, "%d bytes, at most %d are read", len(payload), MaxPayload)
	}
	f, bad := decodeFields(payload, &usualFields{})
	if bad != nil {
		return nil, "", bad
	}
	sig = f.optional(sigField)
	object := make(map[string]json.RawMessage, len(f))
	for _, field := range f {
		object[field.key] = json.RawMessage(field.raw)
	}
	delete(object, sigField)
	var b bytes.Buffer
	b.WriteString(s.String() + "\n")
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(object); err != nil {
		return nil, "", malformed(MalformedNotObject, "want one JSON object")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), sig, nil
}

// WithSignature is a payload of EncodeAlarm with its signature as the last field.
func WithSignature(payload []byte, sig string) []byte {
	out := append(bytes.Clone(payload[:len(payload)-1]), `,"`+sigField+`":"`...)
	return append(append(out, sig...), `"}`...)
}
