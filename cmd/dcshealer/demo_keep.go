package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"
)

// stay keeps all up until Ctrl-C, with addresses and commands to try.
func (d *demo) stay(ctx context.Context) error {
	f := d.fleet
	d.tell.step("Play with it. Live repair stays enabled for 10 minutes; Ctrl-C ends and removes everything")
	if conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", d.listen); err == nil {
		conn.Close()
		d.tell.say("dashboard      http://%s", d.listen)
	}
	d.tell.say("config         %s", d.config)
	for _, n := range append(f.nodes(), f.bus) {
		d.tell.say("%-15s%s", n.name, n.address())
	}
	d.tell.say("Try:")
	for _, c := range []string{"status", "actions show " + d.report.Repairs[0].Record, "alarms list", "plan"} {
		d.tell.say("  %s %s -c %s", d.self, c, d.config)
	}
	d.tell.say("  %s-cli -p %d REPLICAOF NO ONE     # break it again: it heals once the cooldown of 1 minute is over", strings.ToLower(d.server.product), f.slave01.port)
	select {
	case <-ctx.Done():
		return nil
	case <-d.roles.done:
		return fmt.Errorf("dcshealer run ended by itself (%v); its log is %s", d.roles.err, d.roles.log)
	}
}
