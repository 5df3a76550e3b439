"""Makes policies.safetensors: a short text through caches that evict.

Needs torch, transformers, gguf, numpy and safetensors, the reader's GGUF file and
an .npy file of token ids [rows, 2048] of text that the model was not trained on:

    python make_policies.py ../../../assets/models/SmolLM2-135M-Instruct.Q4_1.gguf tokens.npy

The dequantised weights run in float32 through transformers' own forward pass, its
attention replaced by one that attends and evicts token by token, as the papers do:

h2o   half of the budget heavy, half recent; a set for each KV head, by the attention
      that a token got so far, summed over the query heads of the group
tova  before a token comes, that with the least attention of the query before it,
      averaged over all query heads, leaves every KV head of the layer

Stored: ids [TOKENS], and <policy>.nll [TOKENS-1] in nats.
"""

import os
import sys

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, AttentionInterface

ROW, TOKENS, BUDGET = 4, 161, 48
POLICY = ""


def attend(module, query, key, value, mask, scaling=None, **rest):
    """query [1, heads, n, d], key and value [1, kvHeads, n, d], rotated."""
    q, k, v = query[0], key[0], value[0]
    kv_heads, n, d = k.shape
    q = q.reshape(kv_heads, -1, n, d)
    out = torch.zeros_like(q)
    kept = [[] for _ in range(kv_heads)]
    score = torch.zeros(kv_heads, n)
    newest = torch.zeros(n)
    for t in range(n):
        for h in range(kv_heads):
            if POLICY == "h2o" and len(kept[h]) > BUDGET:
                old = [i for i in kept[h] if i < t - BUDGET // 2]
                kept[h].remove(min(old, key=lambda i: (score[h, i].item(), i)))
        if POLICY == "tova" and len(kept[0]) > BUDGET:
            least = min(kept[0], key=lambda i: (newest[i].item(), i))
            for h in range(kv_heads):
                kept[h].remove(least)
        newest.zero_()
        for h in range(kv_heads):
            kept[h].append(t)
            p = torch.softmax(q[h, :, t] @ k[h, kept[h]].T * scaling, -1)
            out[h, :, t] = p @ v[h, kept[h]]
            score[h, kept[h]] += p.sum(0)
            newest[kept[h]] += p.sum(0)
    return out.reshape(1, -1, n, d).transpose(1, 2), None


def main(path, tokens):
    global POLICY
    torch.set_num_threads(1)
    AttentionInterface.register("evicting", attend)
    model = AutoModelForCausalLM.from_pretrained(
        os.path.dirname(path), gguf_file=os.path.basename(path), dtype=torch.float32).eval()
    model.set_attn_implementation("evicting")
    ids = np.load(tokens)[ROW, :TOKENS]
    x = torch.tensor(ids.astype(np.int64))[None]
    out = {"ids": ids.astype(np.int32)}
    for POLICY in ("h2o", "tova"):
        with torch.no_grad():
            log_p = torch.log_softmax(model(x, use_cache=False).logits[0, :-1].double(), -1)
        out[POLICY + ".nll"] = -log_p.gather(1, x[0, 1:, None])[:, 0].float().numpy()
        print(POLICY, out[POLICY + ".nll"][BUDGET:].mean())
    save_file(out, os.path.join(os.path.dirname(os.path.abspath(__file__)), "policies.safetensors"))


if __name__ == "__main__":
    main(*sys.argv[1:])
