"""A plain pipeline from HTML pages to rows of Postgres, as it is written with sentence-transformers: one request a line
on standard input, one answer a line on standard output.

Needs torch, sentence-transformers and psycopg. The first line sets it up:

    {"model": "directory", "threads": 2, "database": "postgres:///…", "tokens": 200, "overlap": 30}
                                               → {"name": "sentence-transformers …, torch …"}

Every other line is a slice of the documents, worked on together:

    {"paths": ["a.html", …]}                   → {"seconds": …, "embed_seconds": …, "store_seconds": …, "chunks": …, "tokens": …}

Text is what the standard library's parser finds outside of scripts, styles and menus. It is cut into windows of
`tokens` of the model's tokenizer that share `overlap`. The library sorts the windows of a slice by length and embeds 32
at a time. Rows go in by COPY, into a table with the indexes that ours has. A failure is {"error": "…"}.
"""

import html.parser
import json
import os
import pathlib
import sys
import time

import psycopg
import sentence_transformers
import torch

TABLE = """CREATE TABLE plain_chunks (document text, ordinal int, text text, embedding halfvec(384),
    lexemes tsvector GENERATED ALWAYS AS (to_tsvector('english', text)) STORED);
CREATE INDEX ON plain_chunks USING hnsw (embedding halfvec_cosine_ops);
CREATE INDEX ON plain_chunks USING gin (lexemes)"""


class Text(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.parts, self.skip = [], 0

    def handle_starttag(self, tag, attrs):
        self.skip += tag in ("script", "style", "nav")

    def handle_endtag(self, tag):
        self.skip -= tag in ("script", "style", "nav")

    def handle_data(self, data):
        if self.skip <= 0:
            self.parts.append(data)


class Pipeline:
    def __init__(self, setup):
        torch.set_num_threads(setup["threads"])
        self.model = sentence_transformers.SentenceTransformer(setup["model"], device="cpu")
        self.tokens, self.overlap = setup["tokens"], setup["overlap"]
        self.model.tokenizer.model_max_length = 1 << 30  # whole documents are counted, none is fed
        self.rows = psycopg.connect(setup["database"])
        self.rows.execute(TABLE)
        self.rows.commit()
        self.model.encode(["warm " * 100] * 32, batch_size=32, show_progress_bar=False)

    def windows(self, path):
        parser = Text()
        parser.feed(pathlib.Path(path).read_text(encoding="utf-8", errors="replace"))
        text = " ".join(" ".join(parser.parts).split())
        places = self.model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        for first in range(0, len(places), self.tokens - self.overlap):
            window = places[first : first + self.tokens]
            if first and len(window) <= self.overlap:
                return  # the window before has all of it
            yield text[window[0][0] : window[-1][1]], len(window)

    def run(self, paths):
        began = time.perf_counter()
        chunks, sizes, names = [], 0, []
        for path in paths:
            for ordinal, (text, size) in enumerate(self.windows(path)):
                chunks.append(text)
                names.append((path, ordinal))
                sizes += size
        read = time.perf_counter()
        vectors = self.model.encode(chunks, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
        embedded = time.perf_counter()
        with self.rows.cursor() as cursor, cursor.copy("COPY plain_chunks (document, ordinal, text, embedding) FROM STDIN") as copy:
            for (path, ordinal), text, vector in zip(names, chunks, vectors):
                copy.write_row((path, ordinal, text.replace("\0", ""), "[" + ",".join("%.6g" % x for x in vector.tolist()) + "]"))
        self.rows.commit()
        end = time.perf_counter()
        return {"seconds": end - began, "embed_seconds": embedded - read, "store_seconds": end - embedded, "chunks": len(chunks), "tokens": sizes}


def main():
    # What the library itself prints must not come between the answers.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(reply):
        out.write(json.dumps(reply) + "\n")
        out.flush()

    try:
        pipeline = Pipeline(json.loads(sys.stdin.readline()))
        say({"name": "sentence-transformers %s, torch %s" % (sentence_transformers.__version__, torch.__version__)})
        for line in sys.stdin:
            say(pipeline.run(json.loads(line)["paths"]))
    except Exception as e:  # the caller prints it
        say({"error": "%s: %s" % (type(e).__name__, e)})
        sys.exit(1)


if __name__ == "__main__":
    main()
