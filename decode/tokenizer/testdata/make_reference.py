#!/usr/bin/env python3
"""Makes reference.json: what HuggingFace's tokenizers give for the text that
text_test.go makes too.

Needs: pip install tokenizers gguf, and the model of `make fetch`. Run in this
folder: python3 make_reference.py ../../../assets/models/SmolLM2-135M-Instruct.Q4_1.gguf

transformers' own conversion of a GGUF leaves out the Digits pre-tokenizer of
the model's original tokenizer.json, so the tokenizer is built here from the
file's vocabulary and merges as the original has it.
"""
import hashlib
import json
import struct
import sys
import zlib

from gguf import GGUFReader
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

PIECE = 2048  # characters
TOTAL = 1_300_000  # characters

# Inclusive ranges of code points that classify alike in Unicode 15 and later.
RANGES = [
    (0x0000, 0x024F), (0x0250, 0x036F), (0x0370, 0x052F), (0x0590, 0x06FF),
    (0x0900, 0x0BFF), (0x0E00, 0x0EFF), (0x10A0, 0x11FF), (0x1E00, 0x1FFF),
    (0x2000, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
    (0xE000, 0xF8FF), (0xFB00, 0xFFFD), (0x10330, 0x1034A), (0x1D400, 0x1D7FF),
    (0x1F300, 0x1FAFF), (0xF0000, 0xF00FF), (0x100000, 0x1000FF),
]
SPACES = " \t\n\r\u00a0\u3000\u2028\u0085"


class Random:
    """Knuth's MMIX linear congruential generator, its upper 31 bits."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % n


def make_text(seed_text):
    """Slices of the seed, in every eighth a stretch of odd characters, case
    changes or broken spacing."""
    r = Random(1)
    out = []
    while len(out) < TOTAL:
        start = r.below(len(seed_text))
        piece = list(seed_text[start : start + 1 + r.below(300)])
        kind = r.below(8)
        if kind == 0:  # any characters
            for _ in range(1 + r.below(12)):
                low, high = RANGES[r.below(len(RANGES))]
                piece.insert(r.below(len(piece) + 1), chr(low + r.below(high - low + 1)))
        elif kind == 1:  # case
            for _ in range(1 + r.below(20)):
                i = r.below(len(piece))
                if "a" <= piece[i] <= "z" or "A" <= piece[i] <= "Z":
                    piece[i] = chr(ord(piece[i]) ^ 0x20)
        elif kind == 2:  # spacing
            for _ in range(1 + r.below(10)):
                at = r.below(len(piece) + 1)
                space = SPACES[r.below(len(SPACES))]
                for _ in range(1 + r.below(4)):
                    piece.insert(at, space)
        elif kind == 3:  # joined words
            piece = [c for c in piece if c != " "]
        out += piece
    return "".join(out[:TOTAL])


def read_vocabulary(path):
    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    return {t: i for i, t in enumerate(tokens)}, merges


LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
byte_level = lambda regex: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)
PRE = {
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), byte_level(True)]
    ),
    "gpt-2": byte_level(True),
    "llama-bpe": pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated"), byte_level(False)]
    ),
}


def main():
    languages, prose, code = (
        open(name, encoding="utf-8", newline="").read()
        for name in ("languages.txt", "prose.txt", "code.txt")
    )
    seed = languages * 6 + prose + code
    text = make_text(seed)
    vocabulary, merges = read_vocabulary(sys.argv[1])
    result = {"text_sha256": hashlib.sha256(text.encode()).hexdigest(), "bytes": len(text.encode())}
    for name, pre in PRE.items():
        tokenizer = Tokenizer(
            models.BPE(vocab=vocabulary, merges=merges, ignore_merges=name == "llama-bpe")
        )
        tokenizer.pre_tokenizer = pre
        crcs, every, tokens = [], hashlib.sha256(), 0
        for i in range(0, len(text), PIECE):
            ids = tokenizer.encode(text[i : i + PIECE]).ids
            packed = struct.pack(f"<{len(ids)}i", *ids)
            crcs.append(f"{zlib.crc32(packed):08x}")
            every.update(packed)
            tokens += len(ids)
        result[name] = {"tokens": tokens, "ids_sha256": every.hexdigest(), "piece_crc32": " ".join(crcs)}
        print(name, tokens, "tokens")
    json.dump(result, open("reference.json", "w"), indent=1)


if __name__ == "__main__":
    main()
