package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// maxSocketDir bounds the path of the socket's directory: sun_path has 104 bytes on macOS and 108
// on Linux, and "/.s.PGSQL.5432.lock" must fit as well.
const maxSocketDir = 80

// settings of a small private cluster. Durability stays on: documents are promised to survive a crash.
var settings = map[string]string{
	"listen_addresses":           "",
	"unix_socket_permissions":    "0700",
	"port":                       "5432", // names the socket only
	"max_connections":            "100",
	"shared_buffers":             "512MB",
	"maintenance_work_mem":       "128MB",
	"effective_cache_size":       "1GB",
	"max_wal_size":               "1GB",
	"random_page_cost":           "1.1", // solid state
	"jit":                        "off", // compiling costs more than these queries
	"log_min_messages":           "warning",
	"log_line_prefix":            "%m [%p] ",
	"timezone":                   "UTC",
	"log_timezone":               "UTC",
	"client_encoding":            "UTF8",
	"default_text_search_config": "pg_catalog.english",
}

// launches bounds the tries of one start. After a kill -9 the processes that served its connections
// need a moment to notice, and until then Postgres refuses to start beside them.
const launches = 10

// start launches Postgres until it stays.
func (c *Cluster) start(ctx context.Context) error {
	for try := 1; ; try++ {
		if err := c.launch(ctx); err != nil {
			return err
		}
		err := c.awaitReady(ctx)
		if err == nil || try == launches || !errors.Is(err, errExited) || !strings.Contains(err.Error(), "shared memory") {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// launch makes the cluster if there is none and starts its Postgres, which outlives this process.
func (c *Cluster) launch(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(c.files.cluster, "PG_VERSION")); errors.Is(err, fs.ErrNotExist) {
		if err := c.initialise(ctx); err != nil {
			return err
		}
	} else if err != nil {
		return fmt.Errorf("look at the cluster: %w", err)
	}
	if err := c.account.own(c.files.cluster); err != nil {
		return err
	}
	if err := c.chooseSocket(); err != nil {
		return err
	}
	log, err := os.OpenFile(c.files.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open Postgres's log: %w", err)
	}
	defer log.Close()

	args := []string{"-D", c.files.cluster, "-c", "unix_socket_directories=" + quoteList(c.socketDir())}
	for _, group := range []map[string]string{settings, c.options.Settings} {
		for name, value := range group {
			args = append(args, "-c", name+"="+value)
		}
	}
	cmd := c.program("postgres", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start Postgres: %w", err)
	}
	exited := make(chan struct{})
	c.exited = exited
	go func() { // so that it leaves no zombie when it ends before us
		cmd.Wait()
		close(exited)
	}()
	return nil
}

// program is one of Postgres's, under its account, with a plain environment and no terminal.
func (c *Cluster) program(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.options.Binaries, "bin", name), args...)
	cmd.SysProcAttr = c.account.attr
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	return cmd
}

// initialise makes the cluster beside its place and moves it there complete.
func (c *Cluster) initialise(ctx context.Context) error {
	// A name of its own: the initdb of a process that was killed may still be at work in another.
	leftovers, _ := filepath.Glob(c.files.cluster + ".new*") // the only error is of a bad pattern
	for _, dir := range leftovers {
		_ = os.RemoveAll(dir) // what cannot be removed yet, since somebody writes there, goes the next time
	}
	fresh, err := os.MkdirTemp(filepath.Dir(c.files.cluster), filepath.Base(c.files.cluster)+".new")
	if err != nil {
		return fmt.Errorf("make the cluster: %w", err)
	}
	if err := c.account.own(fresh); err != nil {
		return err
	}
	cmd := c.program("initdb", "-D", fresh, "-U", database, "-E", "UTF8",
		"--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
		"--auth=trust", "--no-instructions") // trust: who may enter the socket's directory is the owner
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("make the cluster: start initdb: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	err = cmd.Wait()
	stop()
	if err != nil {
		return fmt.Errorf("make the cluster: initdb: %w\n%s", err, lastLines(output.Bytes()))
	}
	if err := os.Rename(fresh, c.files.cluster); err != nil {
		return fmt.Errorf("move the new cluster to its place: %w", err)
	}
	return nil
}

// chooseSocket uses the cluster's own directory, which is private, or a private temporary one
// where that path is too long for a socket. A restart keeps the directory, so that addresses stay good.
func (c *Cluster) chooseSocket() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.files.cluster) <= maxSocketDir {
		c.socket = c.files.cluster
		return nil
	}
	if info, err := os.Stat(c.socket); c.socket != "" && err == nil && info.IsDir() {
		return nil
	}
	dir, err := os.MkdirTemp("", "lessrag-")
	if err == nil && len(dir) > maxSocketDir {
		os.Remove(dir)
		dir, err = os.MkdirTemp("/tmp", "lessrag-")
	}
	if err != nil {
		return fmt.Errorf("make a directory for Postgres's socket: %w", err)
	}
	c.socket = dir
	return c.account.own(dir)
}

func (c *Cluster) socketDir() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.socket
}

// quoteList makes one element of a comma-separated setting.
func quoteList(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

var errExited = errors.New("the server ended while starting")

// awaitReady returns when Postgres takes connections and our database exists.
func (c *Cluster) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		p, ok, err := readPostmaster(c.files.cluster)
		if err != nil {
			return err
		}
		// Until Postgres writes it anew, the file may be that of one that died.
		if ok && p.ready && p.alive(c.files.cluster) {
			c.mu.Lock()
			c.socket = p.socket
			c.mu.Unlock()
			return c.createDatabase(ctx)
		}
		select {
		case <-c.exited:
			return fmt.Errorf("%w:\n%s", errExited, tail(c.files.log))
		case <-ctx.Done():
			return fmt.Errorf("wait for Postgres: %w\n%s", ctx.Err(), tail(c.files.log))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// createDatabase makes our database in a new cluster.
func (c *Cluster) createDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, strings.Replace(c.URL(), "/"+database+"?", "/postgres?", 1))
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w\n%s", err, tail(c.files.log))
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database).Scan(&exists); err != nil {
		return fmt.Errorf("look for the database: %w", err)
	}
	if exists {
		return nil
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{database}.Sanitize())
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "42P04" { // duplicate_database
		return nil
	}
	if err != nil {
		return fmt.Errorf("create the database: %w", err)
	}
	return nil
}

// shutDown stops Postgres in its fast mode: connections are ended, everything is on disk.
func (c *Cluster) shutDown(ctx context.Context) error {
	p, ok, err := readPostmaster(c.files.cluster)
	if err != nil || !ok || !p.alive(c.files.cluster) {
		return err
	}
	if err := syscall.Kill(p.pid, syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop Postgres (process %d): %w", p.pid, err)
	}
	for p.alive(c.files.cluster) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for Postgres (process %d) to stop: %w\n%s", p.pid, ctx.Err(), tail(c.files.log))
		case <-time.After(10 * time.Millisecond):
		}
	}
	if p.socket != c.files.cluster {
		os.Remove(p.socket) // succeeds only when it is empty, which a directory of ours is
	}
	return nil
}

// tail is the end of a log, for errors.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	defer f.Close()
	const most = 4096
	if info, err := f.Stat(); err == nil && info.Size() > most {
		f.Seek(-most, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(f, most))
	return lastLines(text)
}

func lastLines(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}
