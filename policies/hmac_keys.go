package policies

import (
	"bytes"
	"fmt"
)

// A key of alarms has at least MinHMACKey bytes; below GoodHMACKey it is weaker than the signature itself.
const (
	MinHMACKey  = 16
	GoodHMACKey = 32
)

// ParseHMACKeys reads the content of a key file: a key a line, the first signs and all verify, so that a new key is put first and the old
// one taken out when all who sign have it. Empty lines do not count. The error says nothing of the keys.
func ParseHMACKeys(data []byte) (keys []Secret, err error) {
	for i, line := range bytes.Split(data, []byte("\n")) {
		switch line = bytes.TrimSuffix(line, []byte("\r")); {
		case len(line) == 0:
		case len(line) < MinHMACKey:
			return nil, fmt.Errorf("its line %d has %d bytes, want at least %d, better %d", i+1, len(line), MinHMACKey, GoodHMACKey)
		default:
			keys = append(keys, Secret(line))
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("it holds no key; make one with: openssl rand -base64 %d", GoodHMACKey)
	}
	return keys, nil
}
