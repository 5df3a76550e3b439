//go:build !linux

package postgres

import "syscall"

// namespaced is nil where there are no user namespaces.
func namespaced(uid, gid int) *syscall.SysProcAttr { return nil }
