package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"lessrag/cmd/api/postgres"
	"lessrag/cmd/api/postgres/pgtest"
)

const childEnv = "LESSRAG_TEST_POSTGRES_CHILD"

func TestMain(m *testing.M) {
	if data := os.Getenv(childEnv); data != "" {
		os.Exit(runChild(data))
	}
	os.Exit(m.Run())
}

// runChild uses the cluster until it is killed.
func runChild(data string) int {
	c, err := postgres.Start(context.Background(), postgres.Options{Data: data, Binaries: pgtest.Binaries()})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(c.URL())
	select {}
}

// dataDir is a directory of the test's own with a short path that every account can reach, removed at the end.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "data")
}

func startCluster(t *testing.T, o postgres.Options) *postgres.Cluster {
	t.Helper()
	if o.Binaries == "" {
		o.Binaries = pgtest.Binaries()
	}
	c, err := postgres.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, c) })
	return c
}

func stop(t *testing.T, c *postgres.Cluster) {
	t.Helper()
	if err := c.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func postmaster(t *testing.T, data string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(data, "postgres", "postmaster.pid"))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.SplitN(string(text), "\n", 2)[0])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var answer string
	if err := conn.QueryRow(t.Context(), sql).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestClusterIsPrivateAndDurable(t *testing.T) {
	data := dataDir(t)
	c := startCluster(t, postgres.Options{Data: data})
	for setting, want := range map[string]string{
		"listen_addresses": "", "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
		"server_encoding": "UTF8", "unix_socket_permissions": "0700",
	} {
		if got := query(t, c.URL(), "SELECT current_setting('"+setting+"')"); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	if v := query(t, c.URL(), "SHOW server_version"); !strings.HasPrefix(v, postgres.Major+".") {
		t.Errorf("Postgres %s runs, Major is %s", v, postgres.Major)
	}
	if got := query(t, c.URL(), "SELECT upper('straße é')"); got != "STRASSE É" && got != "STRAßE É" {
		t.Errorf("letters beyond ASCII are not known: %q", got)
	}
	info, err := os.Stat(filepath.Join(data, "postgres"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the cluster's directory has the mode %v, %v", info.Mode(), err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", postmaster(t, data)))
	if err == nil && os.Geteuid() == 0 && strings.Contains(string(status), "Uid:\t0\t") {
		t.Error("Postgres runs as root")
	}
}

func TestLastToLeaveStops(t *testing.T) {
	data := dataDir(t)
	first := startCluster(t, postgres.Options{Data: data})
	pid := postmaster(t, data)
	second := startCluster(t, postgres.Options{Data: data})
	if first.URL() != second.URL() || postmaster(t, data) != pid {
		t.Fatal("the second user did not attach")
	}
	stop(t, first)
	if got := query(t, second.URL(), "SELECT 'still here'"); got != "still here" {
		t.Fatal(got)
	}
	stop(t, second)
	stop(t, second) // again is fine
	if postmaster(t, data) != 0 {
		t.Error("Postgres runs on without users")
	}
	third := startCluster(t, postgres.Options{Data: data})
	if query(t, third.URL(), "SELECT 'back'") != "back" {
		t.Error("no second start")
	}
}

func TestSecondServerIsRefused(t *testing.T) {
	data := dataDir(t)
	server := startCluster(t, postgres.Options{Data: data, Serve: true, Address: "127.0.0.1:8080"})
	_, err := postgres.Start(t.Context(), postgres.Options{Data: data, Binaries: pgtest.Binaries(), Serve: true})
	locked, ok := errors.AsType[*postgres.LockedError](err)
	if !ok || !errors.Is(err, postgres.ErrLocked) || locked.PID != os.Getpid() || locked.Address != "127.0.0.1:8080" {
		t.Fatalf("got %v", err)
	}
	command := startCluster(t, postgres.Options{Data: data}) // other commands attach
	stop(t, command)
	stop(t, server)
	startCluster(t, postgres.Options{Data: data, Serve: true})
}

func TestManyStartAtOnce(t *testing.T) {
	data := dataDir(t)
	clusters := make([]*postgres.Cluster, 4)
	errs := make([]error, len(clusters))
	var wait sync.WaitGroup
	for i := range clusters {
		wait.Go(func() {
			clusters[i], errs[i] = postgres.Start(t.Context(), postgres.Options{Data: data, Binaries: pgtest.Binaries()})
		})
	}
	wait.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
		if query(t, clusters[i].URL(), "SELECT 'up'") != "up" {
			t.Error("not up")
		}
	}
	for _, c := range clusters {
		wait.Go(func() { stop(t, c) })
	}
	wait.Wait()
	if postmaster(t, data) != 0 {
		t.Error("Postgres runs on after all have left at once")
	}
}

func TestKilledPostgresComesBack(t *testing.T) {
	data := dataDir(t)
	c := startCluster(t, postgres.Options{Data: data})
	pool, err := postgres.Pool(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(t.Context(), "CREATE TABLE kept (x int); INSERT INTO kept VALUES (7)"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		pid := postmaster(t, data)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(30 * time.Second)
		for {
			var x int
			if err = pool.QueryRow(t.Context(), "SELECT x FROM kept").Scan(&x); err == nil && postmaster(t, data) != pid {
				if x != 7 {
					t.Errorf("read %d, 7 was committed", x)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("Postgres does not come back: %v", err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

func TestKilledUserLeavesPostgresToTheNext(t *testing.T) {
	data := dataDir(t)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+data)
	output, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 1024)
	n, err := output.Read(line)
	if err != nil || !strings.HasPrefix(string(line[:n]), "postgres://") {
		t.Fatalf("the child said %q, %v", line[:n], err)
	}
	pid := postmaster(t, data)
	child.Process.Kill()
	child.Wait()
	c := startCluster(t, postgres.Options{Data: data})
	if got := postmaster(t, data); got != pid {
		t.Errorf("process %d became %d: it was started again", pid, got)
	}
	stop(t, c)
	if postmaster(t, data) != 0 {
		t.Error("the one that attached did not stop Postgres though it was the last")
	}
}

func TestAllKilledAtOnce(t *testing.T) {
	data := dataDir(t)
	c := startCluster(t, postgres.Options{Data: data})
	stop(t, c)
	// What a crash or a container that is gone leaves: a number that is another program's today.
	for _, pid := range []int{os.Getpid(), 1 << 22} {
		text := fmt.Sprintf("%d\n%s\n1700000000\n5432\n%s\n\n  1 1\nready   \n", pid, filepath.Join(data, "postgres"), filepath.Join(data, "postgres"))
		if err := os.WriteFile(filepath.Join(data, "postgres", "postmaster.pid"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		c := startCluster(t, postgres.Options{Data: data})
		if query(t, c.URL(), "SELECT 'up'") != "up" {
			t.Error("not up")
		}
		stop(t, c)
	}
}

func TestUnfinishedClusterIsMadeAgain(t *testing.T) {
	data := dataDir(t)
	if err := os.MkdirAll(filepath.Join(data, "postgres.new", "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := startCluster(t, postgres.Options{Data: data})
	if query(t, c.URL(), "SELECT 'up'") != "up" {
		t.Error("not up")
	}
	if left, err := filepath.Glob(filepath.Join(data, "postgres.new*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestOtherMajorVersionIsRefused(t *testing.T) {
	data := dataDir(t)
	cluster := filepath.Join(data, "postgres")
	if err := os.MkdirAll(cluster, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cluster, "PG_VERSION"), []byte("17\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := postgres.Start(t.Context(), postgres.Options{Data: data, Binaries: pgtest.Binaries()})
	if err == nil || !strings.Contains(err.Error(), "made by Postgres 17") || !strings.Contains(err.Error(), "pg_upgrade") {
		t.Errorf("got %v", err)
	}
}

func TestMissingProgramsSayWhatToDo(t *testing.T) {
	data := dataDir(t)
	_, err := postgres.Start(t.Context(), postgres.Options{Data: data, Binaries: filepath.Join(data, "nothing")})
	if err == nil || !strings.Contains(err.Error(), "make fetch") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("a refused start made the data directory")
	}
}

func TestFailedStartShowsTheLog(t *testing.T) {
	_, err := postgres.Start(t.Context(), postgres.Options{Data: dataDir(t), Binaries: pgtest.Binaries(),
		Settings: map[string]string{"shared_buffers": "many"}})
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "shared_buffers"`) {
		t.Errorf("got %v", err)
	}
}

func TestLongPathsHaveTheirSocketElsewhere(t *testing.T) {
	data := filepath.Join(dataDir(t), strings.Repeat("long", 30), "odd, \"name\" & more")
	c := startCluster(t, postgres.Options{Data: data})
	second := startCluster(t, postgres.Options{Data: data})
	if query(t, second.URL(), "SELECT 'up'") != "up" {
		t.Error("not up")
	}
	socket := query(t, c.URL(), "SHOW unix_socket_directories")
	socket = strings.Trim(socket, `"`)
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's directory %s has the mode %v, %v", socket, info, err)
	}
	stop(t, second)
	stop(t, c)
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket's directory %s is left: %v", socket, err)
	}
}

// TestClosedDirectories is the case of root's home: nobody else may pass through.
func TestClosedDirectories(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has directories that Postgres's account cannot pass: run as root")
	}
	data := dataDir(t)
	if err := os.Chmod(filepath.Dir(data), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := postgres.Start(t.Context(), postgres.Options{Data: data, Binaries: pgtest.Binaries()})
	if err != nil {
		if exec.Command("unshare", "--user", "true").Run() == nil {
			t.Fatal(err)
		}
		if !strings.Contains(err.Error(), filepath.Dir(data)) || !strings.Contains(err.Error(), "--data") {
			t.Fatalf("without user namespaces the error must say what to do: %v", err)
		}
		return
	}
	if query(t, c.URL(), "SELECT 'up'") != "up" {
		t.Error("not up")
	}
	stop(t, c)
	// The way is opened: the files change hands, the data stays.
	if err := os.Chmod(filepath.Dir(data), 0o711); err != nil {
		t.Fatal(err)
	}
	c = startCluster(t, postgres.Options{Data: data})
	if query(t, c.URL(), "SELECT 'up'") != "up" {
		t.Error("not up after the change of hands")
	}
}

func TestPoolProvesItsSettings(t *testing.T) {
	pool := pgtest.New(t)
	var scan, ef string
	if err := pool.QueryRow(t.Context(), "SELECT current_setting('hnsw.iterative_scan'), current_setting('hnsw.ef_search')").Scan(&scan, &ef); err != nil {
		t.Fatal(err)
	}
	if n, err := strconv.Atoi(ef); scan == "off" || err != nil || n < 150 {
		t.Errorf("iterative_scan is %q and ef_search %q", scan, ef)
	}
	if _, err := postgres.Pool(t.Context(), "postgres:///x?host=/nowhere"); err == nil || !strings.Contains(err.Error(), "connect to the database") {
		t.Errorf("no server: %v", err)
	}
	if _, err := postgres.Pool(t.Context(), "not an address"); err == nil || !strings.Contains(err.Error(), "database address") {
		t.Errorf("no address: %v", err)
	}
}
