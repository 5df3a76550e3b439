package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	pgxvector "github.com/pgvector/pgvector-go/pgx"
)

const minConns = 16

// indexScan is how every connection searches, HNSW indexes above all. The index knows no
// collections: a scan that gave up early would lose a small one beside a large
// one without a word.
var indexScan = []struct{ name, value string }{
	{"hnsw.iterative_scan", "strict_order"}, // go on until enough rows pass the filters, in exact order of distance
	{"hnsw.ef_search", "150"},               // candidates of one round
	{"hnsw.max_scan_tuples", "2147483647"},  // and never stop for their number
	{"hnsw.scan_mem_multiplier", "32"},      // times work_mem

	{"plan_cache_mode", "force_custom_plan"}, // the best plan of a search depends on the collection and the words
	{"jit", "off"},                           // compiling one costs more than running it
}

// Pool opens a pool of connections to a database that has, or may create, the extension vector.
// Every connection knows pgvector's types and searches HNSW indexes iteratively; that the setting
// took is read back, because an extension that is not loaded accepts any setting in silence.
func Pool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database address: %w", err)
	}
	// River listens on one connection, every worker keeps one, and requests need theirs.
	config.MaxConns = max(config.MaxConns, minConns)
	if err := createExtension(ctx, config.ConnConfig); err != nil {
		return nil, err
	}
	config.AfterConnect = prepare
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the database pool: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	return pool, nil
}

// createExtension comes before the pool, whose connections look its types up.
func createExtension(ctx context.Context, config *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, config.Copy())
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS vector")
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch refused.Code {
		case "23505": // unique_violation: another process created it in the same moment
			return nil
		case "0A000", "58P01": // feature_not_supported, undefined_file
			return fmt.Errorf("this Postgres lacks pgvector: install it there, or unset DATABASE_URL to use the private cluster: %w", err)
		}
	}
	if err != nil {
		return fmt.Errorf("create the extension vector: %w", err)
	}
	return nil
}

// prepare makes one connection ready: types, then settings, then the proof that they took.
func prepare(ctx context.Context, conn *pgx.Conn) error {
	if err := pgxvector.RegisterTypes(ctx, conn); err != nil {
		return fmt.Errorf("register pgvector's types: %w", err)
	}
	// The cast loads the library, without which the settings below would be mere placeholders.
	setup := "SELECT '[1]'::halfvec"
	for _, s := range indexScan {
		setup += "; SET " + s.name + " = " + s.value
	}
	_, err := conn.PgConn().Exec(ctx, setup).ReadAll()
	if err != nil {
		return fmt.Errorf("set up pgvector's index scans (pgvector 0.8 or later is needed): %w", err)
	}
	for _, s := range indexScan {
		var got string
		if err := conn.QueryRow(ctx, "SELECT current_setting($1)", s.name).Scan(&got); err != nil {
			return fmt.Errorf("read back pgvector's settings: %w", err)
		}
		if got != s.value {
			return fmt.Errorf("%s is %q after setting it to %q", s.name, got, s.value)
		}
	}
	return nil
}
