package policies

import "testing"

func TestLoopbackIsOnlyThisMachine(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.255.0.9": true, "localhost": true, "LocalHost": true, "::1": true,
		"0.0.0.0": false, "::": false, "10.0.0.1": false, "127.evil.example": false, "127.0.0.1.example": false, "127.0.0": false, "127.0.0.256": false,
		"127.0.0.01": false, "localhost.example": false, "": false,
	} {
		if got := Loopback(host); got != want {
			t.Errorf("%q: %v, want %v", host, got, want)
		}
	}
	for listen, want := range map[string]bool{"": false, "127.0.0.1:0": false, "[::1]:9470": false, "0.0.0.0:0": true, "[::]:9470": true, "host:1": true, "rubbish": true} {
		if got := (Config{Listen: listen}).ListensBeyond(); got != want {
			t.Errorf("listen %q: beyond %v, want %v", listen, got, want)
		}
	}
}

func TestAListenAddressBeyondLoopbackIsFineWithTokenAndTLS(t *testing.T) {
	c := twoInstances()
	c.Listen = "0.0.0.0:9470"
	c.Dashboard = DashboardConfig{Token: "0123456789abcdef", TokenFile: "/t", CertFile: "/c", KeyFile: "/k"}
	if faults := c.Check(); len(faults) != 0 {
		t.Errorf("%v", faults)
	}
}
