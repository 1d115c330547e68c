package notify

import (
	"context"
	"errors"
	"time"

	"dcshealer/policies"
)

// Sender delivers one notice once. It is used by one goroutine at a time.
type Sender interface {
	Send(ctx context.Context, n Notice) error
}

// NewSender makes that of a receiver. It connects to nothing; its error shows no secret.
func NewSender(r policies.Receiver) (Sender, error) {
	if r.Webhook {
		return NewWebhook(r.URL, r.HMACKeys...)
	}
	return NewShout(r.URL)
}

// SendError is a failure that says whether another try can help.
type SendError struct {
	Err       error         // shows no secret of the receiver
	Permanent bool          // the receiver has understood and refuses
	After     time.Duration // the receiver wants to be left alone for so long; 0: it does not say
}

func (e *SendError) Error() string { return e.Err.Error() }

// Unwrap is the failure itself.
func (e *SendError) Unwrap() error { return e.Err }

// permanent reports whether another try cannot help.
func permanent(err error) bool {
	var e *SendError
	return errors.As(err, &e) && e.Permanent
}

func wanted(err error) time.Duration {
	var e *SendError
	if errors.As(err, &e) {
		return e.After
	}
	return 0
}
