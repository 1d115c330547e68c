//go:build !linux

package main

import "syscall"

// childAttributes keep the terminal's Ctrl-C from the children, so that they stop in order.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
