package ingest

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"lessrag/ingest/extract"
)

const (
	queue   = "ingest"
	jobKind = "ingest_document"
	// maxAttempts bounds both transient failures and deaths of the process at the same document.
	maxAttempts = 10
	maxBackoff  = time.Minute
)

// jobArgs name one version of one document. Content is read from the database, never carried.
type jobArgs struct {
	DocumentID string `json:"document_id"`
	Version    int    `json:"version"`
}

// Kind implements river.JobArgs.
func (jobArgs) Kind() string { return jobKind }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (jobArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: queue, MaxAttempts: maxAttempts}
}

type worker struct {
	river.WorkerDefaults[jobArgs]
	service *Service
}

// NextRetry doubles from two seconds to maxBackoff.
func (w *worker) NextRetry(job *river.Job[jobArgs]) time.Time {
	return time.Now().Add(min(time.Second<<min(job.Attempt, 16), maxBackoff))
}

// task is one version of a document being worked on.
type task struct {
	*Service
	conn       *pgxpool.Conn // holds the lock of the document; its loss ends the task's transactions too
	id         string
	version    int
	name       string
	mediaType  string
	collection string
	content    []byte
	address    string // of the page that is to be fetched; "" when the content is there
	settings   Settings
	stage      State
	before     [2]string // settings of the connection; see hasten
}

// badDocument is a failure that no retry mends.
type badDocument struct{ reason string }

func (e *badDocument) Error() string { return e.reason }

// errVoid ends a task whose document is gone, done, or has a newer version.
var errVoid = errors.New("nothing left to do")

// Work takes one document from queued to ready or failed. It may be delivered twice, at once or later:
// the document's lock lets one worker in, and the version and state guard every write.
func (w *worker) Work(ctx context.Context, job *river.Job[jobArgs]) error {
	s := w.service
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return s.handBack(ctx, job, fmt.Errorf("connect: %w", err))
	}
	t := &task{Service: s, conn: conn, id: job.Args.DocumentID, version: job.Args.Version, stage: Queued}
	locked, err := t.lock(ctx)
	if err != nil {
		conn.Release()
		return s.handBack(ctx, job, err)
	}
	if !locked {
		conn.Release()
		return river.JobSnooze(time.Second) // a worker is at an older delivery or version of it
	}
	defer t.unlock()
	return t.conclude(ctx, job, t.run(ctx, job))
}

// run is the main path: the stages of a document.
func (t *task) run(ctx context.Context, job *river.Job[jobArgs]) (err error) {
	defer func() {
		if p := recover(); p != nil {
			t.log.Error("a stage of ingestion panicked", "document", t.id, "stage", t.stage, "panic", p, "stack", string(debug.Stack()))
			err = &badDocument{fmt.Sprintf("internal error: %v", p)}
		}
	}()
	if job.Attempt > job.MaxAttempts {
		return &badDocument{fmt.Sprintf("the service died %d times while working on this document", job.MaxAttempts)}
	}
	if err := t.hasten(ctx); err != nil {
		return err
	}
	if err := t.load(ctx); err != nil {
		return err
	}
	if t.address != "" {
		return t.fetch(ctx, job)
	}
	document, chunks, err := t.read(ctx)
	if err != nil {
		return err
	}
	if err := t.enter(ctx, Embedding, Embedding); err != nil {
		return err
	}
	vectors, err := t.embedAll(ctx, chunks)
	if err != nil {
		return err
	}
	return t.publish(ctx, document, chunks, vectors)
}

// read extracts the text of the document and cuts it. One worker does so at a time: what a document may unpack to
// is held once, however many are embedded and stored meanwhile.
func (t *task) read(ctx context.Context) (document extract.Document, chunks []Chunk, err error) {
	select {
	case t.reading <- struct{}{}:
		defer func() { <-t.reading }()
	case <-ctx.Done():
		return document, nil, ctx.Err()
	}
	if err := t.enter(ctx, Extracting, Extracting); err != nil {
		return document, nil, err
	}
	document, err = extract.Extract(ctx, t.name, t.mediaType, t.content)
	if ctx.Err() != nil {
		return document, nil, ctx.Err() // the document is not at fault
	}
	if err != nil {
		return document, nil, &badDocument{err.Error()}
	}
	t.content = nil
	if err := t.enter(ctx, Chunking, Chunking); err != nil {
		return document, nil, err
	}
	chunks = chunkDocument(document, t.tokens, t.settings.sizes(t.options))
	if len(chunks) == 0 {
		return document, nil, &badDocument{extract.NoText(t.name).Error()}
	}
	return document, chunks, nil
}

// conclude turns the outcome of a run into the document's state and the job's.
func (t *task) conclude(ctx context.Context, job *river.Job[jobArgs], err error) error {
	if err == nil || errors.Is(err, errVoid) {
		return nil
	}
	if bad, ok := errors.AsType[*badDocument](err); ok {
		if err := t.fail(ctx, bad.reason); err != nil {
			return t.handBack(ctx, job, err)
		}
		return river.JobCancel(err)
	}
	if ctx.Err() == nil && job.Attempt >= job.MaxAttempts {
		if failed := t.fail(ctx, fmt.Sprintf("gave up after %d attempts: %v", job.Attempt, err)); failed != nil {
			return failed
		}
		return river.JobCancel(err)
	}
	return t.handBack(ctx, job, err)
}

// handBack returns a job to the queue: at once when this process is stopping, with river's backoff otherwise.
func (s *Service) handBack(ctx context.Context, job *river.Job[jobArgs], err error) error {
	stopping := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, e := s.pool.Exec(ctx, requeueSQL, job.Args.DocumentID, job.Args.Version); e != nil {
		s.log.Warn("a document still shows an old stage", "document", job.Args.DocumentID, "error", e)
	}
	if stopping {
		return river.JobSnooze(0)
	}
	s.log.Warn("work on a document failed and will be tried again", "document", job.Args.DocumentID, "attempt", job.Attempt, "error", err)
	return err
}

const requeueSQL = `UPDATE documents SET state = 'queued', stage = '', done = 0, updated_at = now()
	WHERE id = $1 AND version = $2 AND state NOT IN ('ready', 'failed')`

// lock takes the document's advisory lock, which lives as long as the connection: when the process
// dies, Postgres frees it, and that is how others know (see recover).
func (t *task) lock(ctx context.Context) (locked bool, err error) {
	err = t.conn.QueryRow(ctx, "SELECT pg_try_advisory_lock("+lockKey("$1::text")+"), current_setting('plan_cache_mode'), current_setting('synchronous_commit')", t.id).
		Scan(&locked, &t.before[0], &t.before[1])
	if err != nil {
		return false, fmt.Errorf("lock document %s: %w", t.id, err)
	}
	return locked, nil
}

// lockKey is the SQL for the key of a document's advisory lock.
func lockKey(id string) string { return "hashtextextended(" + id + ", 0)" }

const setConnection = "set_config('plan_cache_mode', $1, false), set_config('synchronous_commit', $2, false)"

// hasten sets the connection of a task up for many small statements: they are planned once, and commits do not wait
// for the disk. A commit that a crash of Postgres takes back takes with it all that came after, the end of the job
// too: the document is worked on again. unlock sets back what was before.
func (t *task) hasten(ctx context.Context) error {
	if _, err := t.conn.Exec(ctx, "SELECT "+setConnection, "auto", "off"); err != nil {
		return fmt.Errorf("set the connection up: %w", err)
	}
	return nil
}

// unlock gives the connection back as it was and without the lock; one in doubt is closed, which frees the lock too.
func (t *task) unlock() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := t.conn.Exec(ctx, "SELECT "+setConnection+", pg_advisory_unlock("+lockKey("$3::text")+")", t.before[0], t.before[1], t.id); err != nil {
		t.conn.Conn().Close(ctx)
	}
	t.conn.Release()
}

// load reads the document if this version is still wanted.
func (t *task) load(ctx context.Context) error {
	var state State
	err := t.conn.QueryRow(ctx, `SELECT d.name, d.media_type, d.collection_id::text, d.state, d.address, b.content,
			coalesce(c.chunk_tokens, 0), coalesce(c.chunk_max, 0), coalesce(c.chunk_overlap, 0)
		FROM documents d JOIN document_bodies b ON b.document_id = d.id JOIN collections c ON c.id = d.collection_id
		WHERE d.id = $1 AND d.version = $2`, t.id, t.version).
		Scan(&t.name, &t.mediaType, &t.collection, &state, &t.address, &t.content, &t.settings.ChunkTokens, &t.settings.ChunkMax, &t.settings.ChunkOverlap)
	if errors.Is(err, pgx.ErrNoRows) {
		return errVoid
	}
	if err != nil {
		return fmt.Errorf("read document %s: %w", t.id, err)
	}
	if state.Done() {
		return errVoid
	}
	return nil
}

// enter records the next state, and the stage of it.
func (t *task) enter(ctx context.Context, state, stage State) error {
	tag, err := t.conn.Exec(ctx, `UPDATE documents SET state = $3, stage = $4, updated_at = now(),
			started_at = CASE WHEN $3 = 'extracting' THEN clock_timestamp() ELSE started_at END
		WHERE id = $1 AND version = $2 AND state NOT IN ('ready', 'failed')`, t.id, t.version, string(state), string(stage))
	if err != nil {
		return fmt.Errorf("record that document %s is %s: %w", t.id, stage, err)
	}
	if tag.RowsAffected() == 0 {
		return errVoid
	}
	t.stage = stage
	return nil
}

// fail ends the document with its reason. Passages of an earlier version stay.
func (t *task) fail(ctx context.Context, reason string) error {
	_, err := t.pool.Exec(ctx, `UPDATE documents SET state = 'failed', stage = $3, error = $4, done = 0, updated_at = now(), finished_at = now()
		WHERE id = $1 AND version = $2 AND state NOT IN ('ready', 'failed')`, t.id, t.version, string(t.stage), storable(reason))
	if err != nil {
		return fmt.Errorf("record the failure of document %s: %w", t.id, err)
	}
	t.log.Info("document failed", "document", t.id, "name", t.name, "stage", t.stage, "reason", reason)
	return nil
}
