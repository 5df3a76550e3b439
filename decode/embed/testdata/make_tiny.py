"""Makes a BERT of 2 layers with random weights, as a cross-encoder in tiny-reranker/ and as an embedder whose vectors are
those of [CLS] in tiny-embedder/, and tiny.json: what transformers makes of some questions and passages with them.

Needs: pip install torch transformers safetensors
Run:   python3 make_tiny.py
"""
import json
import pathlib
import random

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

torch.manual_seed(3)
random.seed(4)
RERANKER, EMBEDDER = pathlib.Path("tiny-reranker"), pathlib.Path("tiny-embedder")

pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz0123456789.,?!", *("##" + c for c in "abcdefghijklmnopqrstuvwxyz0123456789")]
tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]", max_input_chars_per_word=100))
tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
tokenizer.add_special_tokens(pieces[:4])
tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]")

config = BertConfig(vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
                    max_position_embeddings=64, num_labels=1, initializer_range=0.3, type_vocab_size=2)
model = BertForSequenceClassification(config).eval()
with torch.no_grad():
    for p in model.parameters():
        p.add_(torch.randn_like(p) * 0.05)
model = model.half()  # small files
for out, part in (RERANKER, model), (EMBEDDER, model.bert):
    part.save_pretrained(out)
    tokenizer.save(str(out / "tokenizer.json"))
    for extra in filter(pathlib.Path.is_file, out.iterdir()):
        if extra.name not in ("config.json", "tokenizer.json", "model.safetensors"):
            extra.unlink()
    (out / "model.safetensors").chmod(0o644)
(EMBEDDER / "1_Pooling").mkdir(exist_ok=True)
(EMBEDDER / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}) + "\n")
(EMBEDDER / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "find "}}) + "\n")
model = model.float()

WORDS = "how do i find the cache of a passage when it is not in memory 42 and why".split()
say = lambda n: " ".join(random.choice(WORDS) for _ in range(n))
pairs = [(say(3), say(5)), ("Where?", "."), ("", "Here!"), (say(2), say(40)), (say(40), say(2)), (say(40), say(40)), ("a", "b")]
pairs += [(say(4), say(n)) for n in range(1, 9)]
rows = []
with torch.no_grad():
    for question, passage in pairs:
        inputs = fast(question, passage, truncation="longest_first", max_length=64, return_token_type_ids=True, return_tensors="pt")
        alone = fast(passage, truncation=True, max_length=64, return_tensors="pt")
        state = model.bert(**alone).last_hidden_state[0, 0]
        rows.append({"question": question, "passage": passage, "score": model(**inputs).logits[0, 0].item(),
                     "ids": inputs["input_ids"][0].tolist(), "types": inputs["token_type_ids"][0].tolist(), "vector": (state / state.norm()).tolist()})
pathlib.Path("tiny.json").write_text(json.dumps(rows) + "\n")
print([round(r["score"], 3) for r in rows])
