"""The plain pipeline that ingestion is measured against: HTML to text by the standard library, windows of 150 words (about 200 tokens),
sentence-transformers on the same cores, vectors kept in memory (no database: that is left out in its favour).

    OMP_NUM_THREADS=2 python peer.py MODEL_DIR DIRECTORY [LIMIT]

needs torch and sentence-transformers. It prints one JSON object."""
import html.parser
import json
import pathlib
import sys
import time


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


def main():
    import torch
    from sentence_transformers import SentenceTransformer

    model_dir, directory = sys.argv[1:3]
    torch.set_num_threads(2)
    model = SentenceTransformer(model_dir, device="cpu")
    paths = sorted(pathlib.Path(directory).rglob("*.html"))
    if len(sys.argv) > 3:
        paths = paths[: int(sys.argv[3])]
    started, forward, chunks, size = time.time(), 0.0, 0, 0
    for path in paths:
        raw = path.read_bytes()
        size += len(raw)
        parser = Text()
        parser.feed(raw.decode("utf-8", "replace"))
        words = " ".join(parser.parts).split()
        windows = [" ".join(words[i : i + 150]) for i in range(0, len(words), 150)]
        began = time.time()
        if windows:
            model.encode(windows, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
        forward += time.time() - began
        chunks += len(windows)
    seconds = time.time() - started
    print(json.dumps({"documents": len(paths), "chunks": chunks, "bytes": size, "seconds": round(seconds, 1), "embed_seconds": round(forward, 1)}))


main()
