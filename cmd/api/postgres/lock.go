package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fileLock is an advisory lock on a file of the data directory. The kernel frees it when the process
// ends, however it ends; what the file says is for people.
type fileLock struct {
	file *os.File
}

func openLock(path string) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock file: %w", err)
	}
	return &fileLock{f}, nil
}

// try takes the lock, shared or exclusive, and reports whether it could.
// An exclusive try by the holder of a shared lock may lose that lock; take it again if that matters.
func (l *fileLock) try(how int) (bool, error) {
	for {
		err := unix.Flock(int(l.file.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, unix.EINTR):
			return false, fmt.Errorf("lock %s: %w", l.file.Name(), err)
		}
	}
}

// wait takes the lock exclusively, trying until ctx ends.
func (l *fileLock) wait(ctx context.Context) error {
	for {
		ok, err := l.try(unix.LOCK_EX)
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for another process that starts or stops Postgres (%s): %w", l.file.Name(), ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// write replaces what the file says.
func (l *fileLock) write(text string) error {
	if err := l.file.Truncate(0); err != nil {
		return fmt.Errorf("write the lock file: %w", err)
	}
	if _, err := l.file.WriteAt([]byte(text), 0); err != nil {
		return fmt.Errorf("write the lock file: %w", err)
	}
	return nil
}

// close frees the lock. The file stays: removing it would let two processes lock two files.
func (l *fileLock) close() { l.file.Close() }

// ErrLocked is wrapped by every LockedError.
var ErrLocked = errors.New("another server uses this data directory")

// LockedError tells which server holds the data directory.
type LockedError struct {
	Data    string
	PID     int    // 0 if it did not say yet
	Address string // where it listens, "" if it did not say yet
}

func (e *LockedError) Error() string {
	who := "another server"
	if e.PID != 0 {
		who += fmt.Sprintf(" (process %d)", e.PID)
	}
	if e.Address != "" {
		who += " at " + e.Address
	}
	return who + " uses the data directory " + e.Data + ": stop it, or choose another with --data"
}

// Unwrap makes errors.Is(err, ErrLocked) hold.
func (e *LockedError) Unwrap() error { return ErrLocked }

// lockServer takes the lock that only one server of a data directory may hold.
func lockServer(data, path, address string) (*fileLock, error) {
	lock, err := openLock(path)
	if err != nil {
		return nil, err
	}
	ok, err := lock.try(unix.LOCK_EX)
	if err == nil && ok {
		err = lock.write(strconv.Itoa(os.Getpid()) + " " + address + "\n")
	}
	if err != nil {
		lock.close()
		return nil, err
	}
	if ok {
		return lock, nil
	}
	defer lock.close()
	locked := &LockedError{Data: data}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, locked
	}
	pid, rest, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	locked.PID, _ = strconv.Atoi(pid)
	locked.Address = rest
	return nil, locked
}
