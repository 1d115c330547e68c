//go:build !linux

package reclaim

import "time"

// nap sleeps for less than timerGrain.
func nap(d time.Duration) { time.Sleep(d) }
