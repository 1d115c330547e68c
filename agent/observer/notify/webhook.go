package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"dcshealer/policies"
)

const (
	webhookTimeout = 10 * time.Second
	maxRetryAfter  = 15 * time.Minute
)

// Webhook POSTs a notice as JSON. It signs as the Standard Webhooks specification wants it (standardwebhooks.com, symmetric signatures):
// HMAC-SHA256 over "ID.TIMESTAMP.BODY", so that receivers can check it with a library of theirs.
type Webhook struct {
	url    policies.Secret
	keys   [][]byte
	client *http.Client
}

// NewWebhook wants an http or https URL, which may hold a secret. Each key signs, so that receivers can change theirs one after another;
// none: nothing is signed. A key that starts with whsec_ is base64, as the specification writes it; any other is taken as it is.
func NewWebhook(to policies.Secret, keys ...policies.Secret) (*Webhook, error) {
	u, err := url.Parse(to.Reveal())
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("no URL of a webhook: want https://HOST[:PORT]/PATH")
	}
	raw := make([][]byte, len(keys))
	for i, k := range keys {
		if raw[i], err = rawKey(k); err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
	}
	return &Webhook{url: to, keys: raw, client: &http.Client{
		Timeout:       webhookTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // what is signed for one place goes nowhere else
	}}, nil
}

func rawKey(k policies.Secret) ([]byte, error) {
	text, coded := strings.CutPrefix(k.Reveal(), "whsec_")
	if !coded {
		return []byte(text), nil
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) < policies.MinHMACKey {
		return nil, fmt.Errorf("want base64 of at least %d bytes after whsec_", policies.MinHMACKey)
	}
	return raw, nil
}

// Send posts the notice. A 2xx answer is success; 408, 425, 429 and 5xx are worth another try, any other answer is not.
func (w *Webhook) Send(ctx context.Context, n Notice) error {
	body, err := json.Marshal(n)
	if err != nil {
		return &SendError{Err: fmt.Errorf("encode the notice: %w", err), Permanent: true}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url.Reveal(), bytes.NewReader(body))
	if err != nil {
		return &SendError{Err: errors.New("the webhook URL cannot be used"), Permanent: true}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "dcshealer")
	at := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Webhook-Id", n.ID)
	req.Header.Set("Webhook-Timestamp", at)
	if len(w.keys) > 0 {
		req.Header.Set("Webhook-Signature", sign(w.keys, n.ID, at, body))
	}
	res, err := w.client.Do(req)
	if err != nil {
		var u *url.Error // its text has the URL in it
		if errors.As(err, &u) {
			err = u.Err
		}
		return &SendError{Err: fmt.Errorf("post to the webhook: %w", err)}
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection is used again
	return answered(res, time.Now())
}

func sign(keys [][]byte, id, at string, body []byte) string {
	all := make([]string, len(keys))
	for i, key := range keys {
		mac := hmac.New(sha256.New, key)
		_, _ = fmt.Fprintf(mac, "%s.%s.%s", id, at, body) // a hash takes everything
		all[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(all, " ")
}

func answered(res *http.Response, now time.Time) error {
	code := res.StatusCode
	if code >= 200 && code < 300 {
		return nil
	}
	if code >= 300 && code < 400 {
		return &SendError{Err: fmt.Errorf("the webhook answers %d %s: no redirect is followed; put the address where it leads in the config", code, http.StatusText(code)), Permanent: true}
	}
	again := code >= 500 || code == http.StatusRequestTimeout || code == http.StatusTooEarly || code == http.StatusTooManyRequests
	return &SendError{Err: fmt.Errorf("the webhook answers %d %s", code, http.StatusText(code)), Permanent: !again, After: retryAfter(res.Header.Get("Retry-After"), now)}
}

// retryAfter reads both forms of the header, seconds and a date, within reason.
func retryAfter(s string, now time.Time) time.Duration {
	var d time.Duration
	if n, err := strconv.Atoi(s); err == nil {
		d = time.Duration(min(max(n, 0), 86400)) * time.Second
	} else if at, err := http.ParseTime(s); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}
