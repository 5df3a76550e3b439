#!/usr/bin/env python3
"""Makes chat.json: conversations as transformers' apply_chat_template renders
and encodes them, with the template of the model and with the *.jinja here.

Needs: pip install transformers tokenizers gguf jinja2, and the model of
`make fetch`. Run in this folder:
python3 make_chat.py ../../../assets/models/SmolLM2-135M-Instruct.Q4_1.gguf
"""
import json
import pathlib
import sys

from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CONVERSATIONS = [
    [("user", "Hi")],
    [("system", "You are terse."), ("user", "What is a KV cache?")],
    [("user", "2+2?"), ("assistant", "4."), ("user", "Et en français, s'il vous plaît ? 漢字 😀")],
    [("system", "Use the passages.\n\n[1] Postgres 18 is out.\n[2] \"Quotes\" & <tags>"), ("user", "Which version?"), ("assistant", "18 [1]"), ("user", "Since 2025?")],
    [("user", "  leading and trailing space  \n\n")],
    [("user", "")],
    [("user", "a"), ("assistant", " \tspaced answer\n"), ("user", "line one\nline two\r\n\tline three"), ("assistant", "b"), ("user", "c")],
    [("user", "{{ messages }} {% for x in y %} {# no #} \\n '\" \\")],
]


def main():
    fields = GGUFReader(sys.argv[1]).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    backend = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, types) if k == 3])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>")

    templates = {"": fields["tokenizer.chat_template"].contents()}
    for path in sorted(pathlib.Path(".").glob("*.jinja")):
        templates[path.name] = open(path, encoding="utf-8", newline="").read()
    cases = []
    for name, template in templates.items():
        for conversation in CONVERSATIONS:
            messages = [{"role": r, "content": c} for r, c in conversation]
            text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
            ids = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=True, add_generation_prompt=True, return_dict=False)
            cases.append({"template": name, "messages": [{"Role": r, "Content": c} for r, c in conversation], "text": text, "ids": ids})
    json.dump(cases, open("chat.json", "w", encoding="utf-8"), ensure_ascii=False, indent=0)
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
