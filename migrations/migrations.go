// Package migrations brings a Postgres database to the schema that this program needs:
// our own tables by goose, from the SQL files beside this one, and river's by its own migrator.
package migrations

import (
	"context"
	"embed"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// Files are our own migrations.
//
//go:embed *.sql
var Files embed.FS

// lock is the advisory lock under which a process migrates; others wait for it.
const lock int64 = 0x6c657373_72616701

// Up applies what is missing and returns when the database is current.
// Several processes may call it at once: one migrates, the others wait and find nothing to do.
// The pool must allow at least two connections.
func Up(ctx context.Context, pool *pgxpool.Pool) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("migrate: connect: %w", err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", lock); err != nil {
		return fmt.Errorf("migrate: wait for the other process that migrates: %w", err)
	}
	defer conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", lock)

	if err := ours(ctx, pool); err != nil {
		return err
	}
	return rivers(ctx, pool)
}

// Down removes our own tables and all that is in them. The job queue's stay.
func Down(ctx context.Context, pool *pgxpool.Pool) error {
	provider, close, err := provider(pool)
	if err != nil {
		return err
	}
	defer close()
	if _, err := provider.DownTo(ctx, 0); err != nil {
		return fmt.Errorf("remove the tables: %w", err)
	}
	return nil
}

func ours(ctx context.Context, pool *pgxpool.Pool) error {
	provider, close, err := provider(pool)
	if err != nil {
		return err
	}
	defer close()
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate the tables: %w", err)
	}
	return nil
}

func rivers(ctx context.Context, pool *pgxpool.Pool) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return fmt.Errorf("migrate the job queue: %w", err)
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrate the job queue: %w", err)
	}
	return nil
}

// provider gives goose a database/sql view of the pool; the caller closes it.
func provider(pool *pgxpool.Pool) (*goose.Provider, func(), error) {
	db := stdlib.OpenDBFromPool(pool)
	p, err := goose.NewProvider(goose.DialectPostgres, db, Files)
	if err != nil {
		db.Close()
		return nil, nil, fmt.Errorf("read the embedded migrations: %w", err)
	}
	return p, func() { db.Close() }, nil
}
