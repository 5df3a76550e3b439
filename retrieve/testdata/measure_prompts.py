"""Measures how many questions about the handbook the default reader answers,
by the order and the number of the passages in the prompt of prompt.go.

Needs: pip install torch transformers gguf sentence-transformers numpy
Run from the repository root, after make fetch: python3 retrieve/testdata/measure_prompts.py
"""
import glob
import json
import os
import re

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(1)
ASSETS = os.environ.get("LESSRAG_ASSETS", "assets")
MODELS, READER = f"{ASSETS}/models", "SmolLM2-135M-Instruct.Q4_1.gguf"
SYSTEM = re.search(r'const system = "(.*)"', open("retrieve/prompt.go").read()).group(1)


def sections(path):
    """The sections of a Markdown file: source line as in prompt.go, and text."""
    headings = []
    for part in re.split(r"(?m)^(?=#)", open(path).read()):
        line, _, body = part.partition("\n")
        level = len(line) - len(line.lstrip("#"))
        headings = headings[: max(level - 1, 0)] + [line.lstrip("# ").strip()]
        if body.strip():
            yield " > ".join([os.path.basename(path)] + headings), body.strip()


passages = [s for path in sorted(glob.glob("examples/handbook/*.md")) for s in sections(path)]
questions = [json.loads(line) for line in open("examples/questions.jsonl")]
embedder = SentenceTransformer(f"{ASSETS}/embedders/all-MiniLM-L6-v2", device="cpu")
similarity = embedder.encode([q["question"] for q in questions]) @ embedder.encode(["\n".join(p) for p in passages]).T
tokenizer = AutoTokenizer.from_pretrained(MODELS, gguf_file=READER)
model = AutoModelForCausalLM.from_pretrained(MODELS, gguf_file=READER, dtype=torch.float32).eval()


def answer(question, order):
    blocks = "".join(f"[{n}] {passages[i][0]}\n{passages[i][1]}\n\n" for n, i in order)
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": blocks + "Question: " + question}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        out = model.generate(**inputs, max_new_tokens=40, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    return tokenizer.decode(out[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True)


for count in (4, 6):
    for name, step in (("best first", 1), ("best last", -1)):
        hits = 0
        for q, row in zip(questions, similarity):
            order = list(enumerate(np.argsort(-row)[:count], 1))[::step]
            text = answer(q["question"], order).lower()
            hits += any(a.lower() in text for a in q["answers"])
        print(f"{count} passages, {name}: {hits} of {len(questions)} answered", flush=True)
