package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// postmaster is what a running Postgres writes about itself in postmaster.pid
// (src/include/utils/pidfile.h: one value a line).
type postmaster struct {
	pid    int
	socket string // directory of its Unix socket
	ready  bool
}

// readPostmaster reads the file of a cluster; ok is false when there is none or it is not complete yet.
func readPostmaster(cluster string) (p postmaster, ok bool, err error) {
	text, err := os.ReadFile(filepath.Join(cluster, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return postmaster{}, false, nil
	}
	if err != nil {
		return postmaster{}, false, fmt.Errorf("read the state of Postgres: %w", err)
	}
	lines := strings.Split(string(text), "\n")
	p.pid, err = strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || p.pid <= 1 {
		return postmaster{}, false, nil
	}
	if len(lines) > 4 {
		p.socket = strings.TrimSpace(lines[4])
	}
	if len(lines) > 7 {
		p.ready = strings.TrimSpace(lines[7]) == "ready"
	}
	return p, true, nil
}

// alive reports whether the process still exists and works in this cluster: after a crash or in a
// new container the number may belong to another program.
func (p postmaster) alive(cluster string) bool {
	if err := unix.Kill(p.pid, 0); err != nil && !errors.Is(err, unix.EPERM) {
		return false
	}
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", p.pid))
	if errors.Is(err, fs.ErrNotExist) && !hasProc() {
		return true // no /proc here: the number must do
	}
	if err != nil {
		return false
	}
	real, err := filepath.EvalSymlinks(cluster)
	return err == nil && cwd == real
}

// reused reports whether the number of a Postgres that is not alive belongs to some process.
func (p postmaster) reused() bool {
	err := unix.Kill(p.pid, 0)
	return err == nil || errors.Is(err, unix.EPERM)
}

func hasProc() bool {
	_, err := os.Stat("/proc/self/cwd")
	return err == nil
}
