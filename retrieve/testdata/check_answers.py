"""Lets transformers answer the prompts that an evaluation wrote, with full attention in float32, and compares how many
answers contain an expected text.

    api eval SET.jsonl --collections NAME --caches full,sinks@10% --log run.jsonl
    python3 check_answers.py run.jsonl SET.jsonl READER.gguf answers.jsonl [QUESTIONS]

The prompts are taken as token ids, so that both read the same. Answers are appended to the last file, and an
interrupted run goes on; QUESTIONS is how many to take, all without it. Needs: pip install torch transformers gguf accelerate
"""
import json
import pathlib
import re
import sys
import unicodedata

import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, DynamicCache

STOPS = ["\n[", "\nQuestion:"]  # as retrieve.Stops
log, questions, reader, kept = map(pathlib.Path, sys.argv[1:5])
taken = int(sys.argv[5]) if len(sys.argv) > 5 else None


def plain(text):
    text = re.sub(r"\[\d+(?:\s*[,;]\s*\d+)*\]", " ", text)
    text = "".join(c.lower() for c in text if unicodedata.category(c)[0] not in "PS")
    return [w for w in text.split() if w not in ("a", "an", "the")]


def contains(answer, expected):
    said = f" {' '.join(plain(answer))} "
    return any(plain(e) and f" {' '.join(plain(e))} " in said for e in expected)


expected = {}
for line in questions.read_text().splitlines():
    if line.strip():
        row = json.loads(line)
        expected[row["question"]] = row["answers"]
rows = []
for line in log.read_text().splitlines():
    row = json.loads(line)
    if isinstance(row["value"], list) and row["value"][0].get("prompt"):
        rows.append((row["key"], row["value"]))
rows = rows[:taken]
caches = rows[0][0]["cache"].strip("[]").split()
MOST = int(re.search(r"answer (\d+)", rows[0][0]["prompt"])[1])  # tokens of an answer
done = {}
if kept.exists():
    done = {r["question"]: r["answer"] for r in map(json.loads, kept.read_text().splitlines())}

fields = GGUFReader(reader).fields
pieces = fields["tokenizer.ggml.tokens"].contents()
ends = {fields["tokenizer.ggml.eos_token_id"].contents(), pieces.index("<|im_end|>"), pieces.index("<|endoftext|>")}
plain_bytes = [*range(33, 127), *range(161, 173), *range(174, 256)]  # GPT-2's letters for bytes
letters = {chr(b): b for b in plain_bytes}
letters |= {chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in plain_bytes)}
spell = lambda ids: bytes(letters[c] for i in ids for c in pieces[i]).decode("utf-8", "replace")


def guess(read, n=16, run=3):
    """The tokens that followed the last time that the last ones were read: answers quote. A guess that is wrong costs
    time and changes nothing."""
    for at in range(len(read) - run - 1, -1, -1):
        if read[at : at + run] == read[-run:]:
            return read[at + run : at + run + n]
    return []


def answer(model, prompt):
    """The likeliest token each time, up to the end, a stop or MOST tokens."""
    cache = DynamicCache(config=model.config)
    likeliest = lambda ids: model(torch.tensor([ids]), past_key_values=cache, use_cache=True, logits_to_keep=len(ids) if len(ids) < 32 else 1).logits[0].argmax(-1).tolist()
    said, tokens = [], likeliest(prompt)
    while True:
        for token in tokens:
            text = spell(said)
            cut = [text.find(s) for s in STOPS if s in text]
            if cut or token in ends or len(said) == MOST:
                return text[: min(cut, default=len(text))]
            said.append(token)
        guesses = guess(prompt + said)
        told = likeliest([said[-1], *guesses])  # what follows each of them
        right = 0
        while right < len(guesses) and guesses[right] == told[right]:
            right += 1
        if right < len(guesses):
            cache.crop(right - len(guesses))
        tokens = told[: right + 1]


model = None
for n, (key, value) in enumerate(rows):
    if key["question"] in done:
        continue
    if model is None:
        model = AutoModelForCausalLM.from_pretrained(reader.parent, gguf_file=reader.name, dtype=torch.float32).eval()
    with torch.no_grad():
        done[key["question"]] = answer(model, value[0]["prompt"])
    with open(kept, "a") as f:
        f.write(json.dumps({"question": key["question"], "answer": done[key["question"]]}) + "\n")
    print(f"{n + 1} of {len(rows)}", file=sys.stderr)

theirs = [contains(done[k["question"]], expected[k["question"]]) for k, _ in rows]
print(f"{len(rows)} questions; transformers, full attention: {sum(theirs) / len(rows):.3f}")
for i, cache in enumerate(caches):
    ours = [v[i]["match"] for _, v in rows]
    both = sum(a == b for a, b in zip(ours, theirs))
    print(f"{cache}: {sum(ours) / len(rows):.3f}, {both} of {len(rows)} alike, {sum(plain(v[i]['answer']) == plain(done[k['question']]) for k, v in rows)} in the same words")
