// Package pgtest gives every test its own migrated database in a real Postgres.
//
// The server is a private cluster in the system's temporary directory, shared by all test programs that run
// at once and stopped by the last; DATABASE_URL names another one instead. A database is a copy
// of a migrated template, which costs some ten milliseconds.
package pgtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"lessrag/cmd/api/postgres"
	"lessrag/migrations"
)

// New returns a pool for a new, empty, migrated database, which is dropped when the test ends.
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Pool(t.Context(), Database(t))
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Database is New for tests that open their pools themselves or in other processes: it returns the address.
func Database(t testing.TB) string {
	t.Helper()
	admin := server(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	template, err := migratedTemplate(ctx, admin)
	if err != nil {
		t.Fatalf("pgtest: make the template database: %v", err)
	}
	name := "lessrag_test_" + strings.ToLower(rand.Text())
	if err := execute(ctx, admin, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		t.Fatalf("pgtest: create a database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := execute(ctx, admin, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("pgtest: drop a database: %v", err)
		}
	})
	return withDatabase(admin, name)
}

// Run runs the tests of a program with one start of the server; without it every test that runs
// alone starts and stops it. Use it as: func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }
func Run(m *testing.M) int {
	release, _, err := shared.enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		return 1
	}
	defer release()
	return m.Run()
}

// Binaries is where make fetch put Postgres.
func Binaries() string { return filepath.Join(assets(), "postgres", postgres.Major) }

// assets is LESSRAG_ASSETS, or assets/ at the root of the repository.
func assets() string {
	if dir := os.Getenv("LESSRAG_ASSETS"); dir != "" {
		return dir
	}
	dir, err := os.Getwd()
	for err == nil {
		if _, e := os.Stat(filepath.Join(dir, "go.mod")); e == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return filepath.Join(dir, "assets")
}

// server returns the address of the server's administrative database for the duration of the test.
func server(t testing.TB) string {
	t.Helper()
	release, admin, err := shared.enter()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(release)
	return admin
}

// users counts who in this program uses the cluster.
type users struct {
	mu      sync.Mutex
	count   int
	cluster *postgres.Cluster
}

var shared users

func (u *users) enter() (release func(), admin string, err error) {
	if admin := os.Getenv("DATABASE_URL"); admin != "" {
		return func() {}, admin, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.count == 0 {
		u.cluster, err = postgres.Start(context.Background(), postgres.Options{
			Data:     filepath.Join(os.TempDir(), fmt.Sprintf("lessrag-pgtest-%d", os.Getuid())),
			Binaries: Binaries(),
			// Test databases need not survive a loss of power.
			Settings: map[string]string{"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "300"},
		})
		if err != nil {
			return nil, "", err
		}
	}
	u.count++
	return u.leave, u.cluster.URL(), nil
}

func (u *users) leave() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.count--; u.count == 0 {
		if err := u.cluster.Stop(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest: stop Postgres:", err)
		}
	}
}

// templateLock is the advisory lock under which the template is made.
const templateLock int64 = 0x6c657373_72616703

// migratedTemplate makes, once for one state of the migrations, the database that others are copied from.
func migratedTemplate(ctx context.Context, admin string) (string, error) {
	name, err := templateName()
	if err != nil {
		return "", err
	}
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx)) // frees the lock
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", templateLock); err != nil {
		return "", err
	}
	var made bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&made); err != nil || made {
		return name, err
	}
	unfinished := name + "_new"
	if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+unfinished+" WITH (FORCE)"); err != nil {
		return "", err
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+unfinished); err != nil {
		return "", err
	}
	pool, err := postgres.Pool(ctx, withDatabase(admin, unfinished))
	if err != nil {
		return "", err
	}
	err = migrations.Up(ctx, pool)
	pool.Close()
	if err != nil {
		return "", err
	}
	_, err = conn.Exec(ctx, "ALTER DATABASE "+unfinished+" RENAME TO "+name)
	return name, err
}

// templateName changes with the migrations.
func templateName() (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(migrations.Files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(migrations.Files, path)
		fmt.Fprintf(sum, "%s %d\n%s", path, len(text), text)
		return err
	})
	return "lessrag_template_" + hex.EncodeToString(sum.Sum(nil)[:8]), err
}

func execute(ctx context.Context, address, sql string) error {
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql)
	return err
}

func withDatabase(address, name string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address // pgx says what is wrong with it
	}
	u.Path = "/" + name
	return u.String()
}
