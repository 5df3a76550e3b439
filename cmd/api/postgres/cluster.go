// Package postgres runs a private Postgres for one data directory, and opens pools of connections to any.
//
// The cluster listens on a Unix socket only. Every process that uses it holds a shared lock in the data
// directory; the first one starts Postgres, later ones attach, the last one to leave stops it.
// A process that is killed leaves Postgres running, and the next one attaches to it.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Major is the version of Postgres that the programs are of; a cluster of another is refused.
	Major = "18"
	// Database and user of a private cluster. The socket's directory is what keeps others out.
	database = "lessrag"

	startTimeout = 60 * time.Second // recovery after a crash may replay a gigabyte of log
	stopTimeout  = 60 * time.Second
	watchEvery   = 500 * time.Millisecond
)

// Options say where the cluster lives and what it is for.
type Options struct {
	Data     string            // the data directory; the cluster is Data/postgres
	Binaries string            // the directory with bin, lib and share, such as assets/postgres/18
	Serve    bool              // take the lock that one server at most may hold; see ErrLocked
	Address  string            // where that server listens, told to the next one that tries
	Settings map[string]string // of postgresql.conf, over ours; used when this process starts Postgres
	Logger   *slog.Logger      // nil means slog.Default()
}

// Cluster is this process's hold on the Postgres of a data directory.
type Cluster struct {
	options Options
	files   files
	account account
	log     *slog.Logger

	change *fileLock // held while Postgres is being started or stopped
	users  *fileLock // shared by every process that uses the cluster
	server *fileLock // nil unless Options.Serve

	exited chan struct{} // closed when the Postgres that this process started ends; nil if it started none

	mu      sync.Mutex
	socket  string
	stopped bool
	cancel  context.CancelFunc
	watch   sync.WaitGroup
}

// files of one data directory.
type files struct {
	data, cluster, log string
}

// Start attaches to the Postgres of the data directory, and makes and starts one if there is none.
// It returns within about a minute, with the end of Postgres's log in the error if it would not start.
// A second server for the same data gets a *LockedError.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if err := checkBinaries(o.Binaries); err != nil {
		return nil, err
	}
	c := &Cluster{options: o, log: o.Logger}
	if err := c.open(); err != nil {
		return nil, err
	}
	if err := c.enter(ctx); err != nil {
		c.closeLocks()
		return nil, err
	}
	watching, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	c.watch.Go(func() { c.supervise(watching) })
	return c, nil
}

// checkBinaries finds missing programs before anything is made.
func checkBinaries(dir string) error {
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := os.Stat(filepath.Join(dir, "bin", name)); err != nil {
			return fmt.Errorf("no Postgres in %s: run make fetch, or set DATABASE_URL: %w", dir, err)
		}
	}
	return nil
}

// open makes the data directory and takes the locks that do not wait.
func (c *Cluster) open() error {
	data, err := filepath.Abs(c.options.Data)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := makeData(data); err != nil {
		return err
	}
	c.options.Binaries, err = filepath.Abs(c.options.Binaries)
	if err != nil {
		return fmt.Errorf("directory of Postgres: %w", err)
	}
	c.files = files{data: data, cluster: filepath.Join(data, "postgres"), log: filepath.Join(data, "postgres.log")}
	if c.options.Serve {
		if c.server, err = lockServer(data, filepath.Join(data, "serve.lock"), c.options.Address); err != nil {
			return err
		}
	}
	if c.change, err = openLock(filepath.Join(data, "postgres.change.lock")); err == nil {
		c.users, err = openLock(filepath.Join(data, "postgres.users.lock"))
	}
	if err == nil {
		c.account, err = chooseAccount(data, c.options.Binaries)
	}
	if err != nil {
		c.closeLocks()
	}
	return err
}

// makeData makes the data directory. It is private, but root lets Postgres's account pass through.
func makeData(data string) error {
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	if err := os.MkdirAll(data, mode); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	info, err := os.Stat(data)
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	if need := info.Mode().Perm() | mode&0o111; info.Mode().Perm() != need {
		if err := os.Chmod(data, need); err != nil {
			return fmt.Errorf("open the data directory: %w", err)
		}
	}
	return nil
}

// enter joins the users of the cluster and sees that it runs.
func (c *Cluster) enter(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout+stopTimeout)
	defer cancel()
	if err := c.change.wait(ctx); err != nil {
		return err
	}
	defer c.change.try(unix.LOCK_UN)
	if ok, err := c.users.try(unix.LOCK_SH); err != nil {
		return err
	} else if !ok {
		return errors.New("the lock of Postgres's users is held exclusively by something that is not this program")
	}
	return c.ensure(ctx)
}

// ensure starts Postgres unless it runs. The caller holds the change lock.
func (c *Cluster) ensure(ctx context.Context) error {
	if err := c.checkVersion(); err != nil {
		return err
	}
	p, ok, err := readPostmaster(c.files.cluster)
	if err != nil {
		return err
	}
	if ok && p.alive(c.files.cluster) {
		return c.awaitReady(ctx)
	}
	if ok && p.reused() {
		// Postgres would give way before the other program. Where the number is dead it looks for
		// what is left of the old server by itself, and the file must stay for that.
		if err := os.Remove(filepath.Join(c.files.cluster, "postmaster.pid")); err != nil {
			return fmt.Errorf("remove what a Postgres that died left: %w", err)
		}
	}
	return c.start(ctx)
}

// checkVersion refuses a cluster of another major version; none at all is fine.
func (c *Cluster) checkVersion() error {
	text, err := os.ReadFile(filepath.Join(c.files.cluster, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the version of the cluster: %w", err)
	}
	if version := strings.TrimSpace(string(text)); version != Major {
		return fmt.Errorf("%s was made by Postgres %s and this is Postgres %s: carry it over with pg_upgrade or a dump, or move it away and ingest again", c.files.cluster, version, Major)
	}
	return nil
}

// URL is the address of the database.
func (c *Cluster) URL() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := url.Values{"host": {c.socket}, "user": {database}, "sslmode": {"disable"}}
	return "postgres:///" + database + "?" + q.Encode()
}

// Stop leaves the cluster, and stops Postgres if nobody else uses it. It may be called again.
func (c *Cluster) Stop(ctx context.Context) error {
	c.mu.Lock()
	stopped := c.stopped
	c.stopped = true
	c.mu.Unlock()
	if stopped {
		return nil
	}
	c.cancel()
	c.watch.Wait()
	defer c.closeLocks()
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := c.change.wait(ctx); err != nil {
		return err
	}
	last, err := c.users.try(unix.LOCK_EX)
	if err != nil || !last {
		return err
	}
	return c.shutDown(ctx)
}

func (c *Cluster) closeLocks() {
	for _, lock := range []*fileLock{c.change, c.users, c.server} {
		if lock != nil {
			lock.close()
		}
	}
}

// supervise starts Postgres again when it died, whoever had started it.
func (c *Cluster) supervise(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if p, ok, err := readPostmaster(c.files.cluster); err == nil && ok && p.alive(c.files.cluster) {
			continue
		}
		if !failing {
			c.log.Warn("Postgres is not running; starting it again", "cluster", c.files.cluster)
		}
		err := c.restart(ctx)
		switch {
		case err == nil:
			c.log.Info("Postgres runs again")
		case !failing && ctx.Err() == nil:
			c.log.Error("Postgres does not start; trying on", "error", err)
		}
		failing = err != nil
	}
}

func (c *Cluster) restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.change.wait(ctx); err != nil {
		return err
	}
	defer c.change.try(unix.LOCK_UN)
	return c.ensure(ctx)
}
