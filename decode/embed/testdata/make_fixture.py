"""Makes texts.json, ids.json.gz and vectors.f32.gz: 200 texts, and what
sentence-transformers makes of them.

Needs: pip install torch sentence-transformers numpy
Run:   python3 make_fixture.py ../../../assets/embedders/all-MiniLM-L6-v2
"""
import gzip
import json
import random
import sys

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

torch.set_num_threads(1)
random.seed(1)

WORDS = """the a of and to in is was retrieval attention kernel cache token budget eviction answer question document
passage Postgres index vector cosine similarity river harbour lighthouse engine bicycle orchestra quantum enzyme
photosynthesis constitution parliament uninterruptible internationalisation antidisestablishmentarianism e-mail
well-known state-of-the-art don't it's 1999 3.14159 2,048 10% $15.99 C++ x86-64 UTF-8 README.md""".split()

EDGE = [
    "", " ", "\n\t\r\n", ".", "?!", "a", "I", "0", "-", "…", "\u200b", "\x00\x01\x7f", "\ufeffbyte order mark", "\ufffd",
    "[CLS]", "[SEP] inside [MASK] text [UNK] and [PAD]", "[cls] is not special", "x[SEP]y", "[[SEP]]",
    "a" * 100, "a" * 101, "b" * 300, "é" * 100, "é" * 101, "##ing", "# # #", "don't can't won't l'été",
    "soft\u00adhyphen zero\u200dwidth non\u00a0breaking em\u2003space line\u2028separator",
    "  spaces   between    words  ", "tab\tand\nnewline\r\nmix", "ALL CAPS SHOUTING", "MiXeD cAsE",
]
ACCENTS = [
    "Crème brûlée, façade, naïve, Zürich, Ångström, smörgåsbord", "El niño comió piñata mañana", "Çeşme İstanbul ığüşöç",
    "Dvořák Škoda žluťoučký kůň", "Łódź zażółć gęślą jaźń", "e\u0301 and é are the same, o\u0308 and ö too", "ﬁ ligature ﬂuid ﬀ",
    "Straße ẞ GROẞ", "Ὀδυσσεύς Ἀθῆναι ΣΊΣΥΦΟΣ", "Вопрос о поиске документов", "Ёлка и йод", "tiếng Việt có dấu",
    "שָׁלוֹם עולם", "السَّلَامُ عَلَيْكُم", "हिन्दी में प्रश्न", "ภาษาไทย", "ქართული ენა", "Ⅷ ² ½ ™ © ®",
]
CJK = [
    "東京は日本の首都です。", "检索增强生成是什么?", "漢字かな交じり文とEnglishの混在", "한국어 문장을 임베딩합니다", "中文,标点。测试!", "𠀀𠮷 rare ideographs 豈",
    "ｆｕｌｌｗｉｄｔｈ　ｌａｔｉｎ", "カタカナ ﾊﾝｶｸ", "㐀㒨 extension A", "A中B文C",
]
EMOJI = ["😀 smile", "👩‍👩‍👧‍👦 family 👍🏽", "🇫🇷🇯🇵 flags", "great job 🎉🎉🎉!!!", "❤️‍🔥", "mixed 😀text😀 with😀emoji"]
CODE = [
    "func main() { fmt.Println(\"hi\") }", "SELECT id, embedding <=> $1 FROM chunks ORDER BY 2 LIMIT 40;", "for (int i=0;i<n;i++) a[i]+=b[i]*c;",
    "git commit -m 'fix: off-by-one' && git push --force-with-lease", "/usr/share/doc/README.Debian", "C:\\Users\\x\\file.txt",
    "if x != None and y >= 0x1F: return ~x | y ^ 3", "{\"key\": [1, 2.5e-3, null, true]}", "<div class=\"a\">&amp; text</div>",
    "sed -i 's/foo/bar/g' *.txt", "__init__.py self._private __dunder__", "α = β·γ ≤ ∑ x² ≠ ∞",
]
URLS = [
    "https://www.example.com/path/to?page=1&q=a%20b#frag", "mailto:someone@example.org", "ftp://192.168.0.1:21/file",
    "see http://localhost:8080/api/v1/search.", "www.postgresql.org/docs/18/textsearch.html", "doi:10.48550/arXiv.2402.09398",
]
PROSE = [
    "Postgres stores the vectors of every passage beside its text.", "How does LESS keep the tokens that were evicted from the cache?",
    "The mitochondrion is the powerhouse of the cell.", "She sells sea shells by the sea shore.", "What is the capital of France?",
    "Paris is the capital and most populous city of France.", "To be, or not to be, that is the question:", "He said: \"I can't – I won't!\"",
    "An index over half-precision vectors needs half the memory.", "Restart the service after changing the configuration file.",
]


def sentence(n):
    words = [random.choice(WORDS) for _ in range(n)]
    for i in range(7, n, 11):
        words[i] += random.choice([",", ".", ";", "?", "!"])
    return " ".join(words).capitalize() + "."


texts = EDGE + ACCENTS + CJK + EMOJI + CODE + URLS + PROSE
texts += [sentence(n) for n in range(100, 460, 24)]  # around and beyond the model's limit
texts += ["lorem ipsum " * k for k in (120, 126, 127, 128, 200)]  # exactly at the limit and over it
while len(texts) < 200:
    texts.append(sentence(random.randint(2, 60)))
assert len(texts) == 200, len(texts)

model = SentenceTransformer(sys.argv[1], device="cpu")
assert model.max_seq_length == 256
ids = [model.tokenizer(t, truncation=True, max_length=256)["input_ids"] for t in texts]
vectors = np.stack([model.encode([t])[0] for t in texts])  # one by one: no padding
assert vectors.dtype == np.float32 and vectors.shape == (200, 384)

json.dump(texts, open("texts.json", "w"), ensure_ascii=True, indent=0)
with gzip.GzipFile("ids.json.gz", "wb", mtime=0) as f:
    f.write(json.dumps(ids).encode())
with gzip.GzipFile("vectors.f32.gz", "wb", mtime=0) as f:
    f.write(vectors.astype("<f4").tobytes())
