package notify

import (
	"strings"
	"testing"

	"dcshealer/policies"
)

func TestSecretWithPlusIsHiddenHoweverItIsWritten(t *testing.T) {
	u := policies.Secret("smtp://user:ab+cd%2Fef@mail.example:587/?from=a@b.example&to=c@d.example")
	for _, written := range []string{"ab+cd/ef", "ab+cd%2Fef", "ab%2Bcd%2Fef"} {
		if got := hidden("refused: "+written, u); strings.Contains(got, "cd") {
			t.Errorf("hidden(%q) = %q: want the password redacted", written, got)
		}
	}
}
