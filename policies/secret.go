package policies

import (
	"errors"
	"strings"
)

// ParseSecret reads the content of a file that holds one secret and nothing else, the newline at its end left out. The error says nothing
// of the content.
func ParseSecret(data []byte) (Secret, error) {
	s := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case s == "":
		return "", errors.New("is empty")
	case strings.ContainsAny(s, "\r\n\x00"):
		return "", errors.New("has more than one line")
	}
	return Secret(s), nil
}
