package main

import (
	"crypto/tls"
	"fmt"
	"time"

	"dcshealer/policies"
)

// renewWithin is how long before its end a client certificate is spoken of.
const renewWithin = 14 * 24 * time.Hour

// checkCertificate looks at the dates of a client certificate; setting is the path of its section in the config. Nothing to say: none.
func checkCertificate(t *policies.TLS, instance, setting string, now time.Time) []policies.CheckResult {
	if t == nil || t.CertFile == "" {
		return nil
	}
	r := policies.CheckResult{Severity: policies.HealthOK, Instance: instance, Check: policies.CheckTLS}
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil || pair.Leaf == nil { // gone since the config was checked
		r.Severity, r.Seen, r.Cure = policies.HealthError, fmt.Sprintf("%s.cert_file %s cannot be used: %v", setting, t.CertFile, err), "correct "+setting+".cert_file and "+setting+".key_file"
		return []policies.CheckResult{r}
	}
	from, until := pair.Leaf.NotBefore, pair.Leaf.NotAfter
	r.Seen = fmt.Sprintf("%s.cert_file is good until %s UTC", setting, clock(until))
	switch {
	case now.After(until):
		r.Severity, r.Seen, r.Cure = policies.HealthError, fmt.Sprintf("%s.cert_file %s ended at %s UTC", setting, t.CertFile, clock(until)), "renew it in place: it is read anew for each connection"
	case now.Before(from):
		r.Severity, r.Seen, r.Cure = policies.HealthError, fmt.Sprintf("%s.cert_file %s begins at %s UTC", setting, t.CertFile, clock(from)), "set the clock of this host, or wait"
	case until.Sub(now) < renewWithin:
		r.Severity, r.Cure = policies.HealthWarning, "renew it in place: it is read anew for each connection"
	}
	return []policies.CheckResult{r}
}
