"""Makes blend.safetensors: CacheBlend (arXiv 2405.16444) in float64.

Needs torch, numpy and safetensors:

    python make_blend.py

A random model of four layers reads a prompt of three passages, each computed by
itself behind the prompt's head before. Rows of stored passages are computed again in
a share of the layers' rows: all in the first layer, then those whose keys and values
deviate most, 25% above the share in the second layer and falling to 25% below it in
the last. A row at position p sees the keys at positions up to p.

w.NAME: the weights; ids; at, length: where the passages stand; for every share s: rows.s
[layers, tokens] which rows a layer computes, logits.s [vocab] after the last token; k,
v [layers, kvHeads, tokens, headDim]: what is held in the end with the share KEPT.
"""

import os

import numpy as np
import torch
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
LAYERS, WIDTH, HIDDEN, HEADS, KV, DIM, VOCAB, BASE, EPS = 4, 32, 40, 4, 2, 16, 48, 10000.0, 1e-5
HEAD, PASSAGES, BETWEEN = 4, [27, 15, 30], [6, 2, 3, 8]
SHARES, KEPT = {"0.15": 0.15, "0.4": 0.4, "1": 1.0}, "0.4"


def weights(rng):
    w = {"token_embd": rng.standard_normal((VOCAB, WIDTH)), "output": rng.standard_normal((VOCAB, WIDTH)) / 4}
    for i in range(LAYERS):
        for name, rows, cols in [("attn_q", HEADS * DIM, WIDTH), ("attn_k", KV * DIM, WIDTH), ("attn_v", KV * DIM, WIDTH),
                                 ("attn_output", WIDTH, HEADS * DIM), ("ffn_gate", HIDDEN, WIDTH), ("ffn_up", HIDDEN, WIDTH),
                                 ("ffn_down", WIDTH, HIDDEN)]:
            w[f"blk.{i}.{name}"] = rng.standard_normal((rows, cols)) * 1.5 / np.sqrt(cols)
        for name in ("attn_norm", "ffn_norm"):
            w[f"blk.{i}.{name}"] = rng.uniform(0.5, 1.5, WIDTH)
    w["output_norm"] = rng.uniform(0.5, 1.5, WIDTH)
    return {k: v.astype(np.float32) for k, v in w.items()}


def turn(x, by):
    """Rotates pairs (2i, 2i+1) of x [..., tokens, DIM] by positions [tokens]."""
    angle = by.double()[:, None] * BASE ** (-2 * torch.arange(DIM // 2, dtype=torch.float64) / DIM)
    return torch.view_as_real(torch.view_as_complex(x.reshape(*x.shape[:-1], DIM // 2, 2).contiguous()) * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


def norm(x, g):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPS) * g


def project(w, x, at, layer):
    """Queries [HEADS, rows, DIM], keys and values [KV, rows, DIM] of rows at positions."""
    h = norm(x, w[f"blk.{layer}.attn_norm"])
    q, k, v = ((h @ w[f"blk.{layer}.attn_{n}"].T).reshape(len(x), -1, DIM).transpose(0, 1) for n in "qkv")
    return turn(q, at), turn(k, at), v


def rest(w, x, q, k, v, at, layer):
    """The layer's output for rows at positions, over all keys [KV, tokens, DIM]."""
    group = HEADS // KV
    scores = q @ k.repeat_interleave(group, 0).transpose(1, 2) / DIM ** 0.5
    scores = scores.masked_fill(torch.arange(k.shape[1])[None] > at[:, None], -torch.inf)
    out = (torch.softmax(scores, -1) @ v.repeat_interleave(group, 0)).transpose(0, 1).flatten(1)
    x = x + out @ w[f"blk.{layer}.attn_output"].T
    h = norm(x, w[f"blk.{layer}.ffn_norm"])
    return x + (torch.nn.functional.silu(h @ w[f"blk.{layer}.ffn_gate"].T) * (h @ w[f"blk.{layer}.ffn_up"].T)) @ w[f"blk.{layer}.ffn_down"].T


def prefill(w, ids):
    """Keys and values [layers][KV, tokens, DIM] of tokens from position 0 on."""
    x, at, held = w["token_embd"][ids], torch.arange(len(ids)), []
    for layer in range(LAYERS):
        q, k, v = project(w, x, at, layer)
        held.append((k, v))
        x = rest(w, x, q, k, v, at, layer)
    return held


def blend(w, ids, places, share):
    n, stored = len(ids), torch.zeros(len(ids), dtype=torch.bool)
    held = [(torch.zeros(KV, n, DIM).double(), torch.zeros(KV, n, DIM).double()) for _ in range(LAYERS)]
    for at, length in places:
        stored[at:at + length] = True
        alone = prefill(w, torch.cat([ids[:HEAD], ids[at:at + length]]))
        for layer, (k, v) in enumerate(alone):
            held[layer][0][:, at:at + length] = turn(k[:, HEAD:], torch.full((length,), at - HEAD))
            held[layer][1][:, at:at + length] = v[:, HEAD:]
    x, rows, computed = w["token_embd"][ids].clone(), torch.arange(n), torch.zeros(LAYERS, n, dtype=torch.int32)
    for layer in range(LAYERS):
        q, k, v = project(w, x[rows], rows, layer)
        if layer > 0 and share < 1:
            part = stored[rows]
            apart = lambda new, old: ((new - old[:, rows]) ** 2).sum((0, 2)) / (new[:, part] ** 2).sum()
            deviation = apart(k, held[layer][0]) + apart(v, held[layer][1])
            deviation[~part] = torch.inf
            fall = 1.25 - 0.5 * (layer - 1) / (LAYERS - 2)
            stay = torch.topk(deviation, int((~part).sum()) + round(share * fall * int(stored.sum()))).indices.sort().values
        else:
            stay = torch.arange(len(rows))
        held[layer][0][:, rows], held[layer][1][:, rows] = k, v
        rows, q = rows[stay], q[:, stay]
        computed[layer, rows] = 1
        x[rows] = rest(w, x[rows], q, *held[layer], rows, layer)
    logits = norm(x[-1], w["output_norm"]) @ w["output"].T
    return computed, torch.stack([k for k, _ in held]), torch.stack([v for _, v in held]), logits


def main():
    rng = np.random.default_rng(17)
    stored = weights(rng)
    w = {k: torch.tensor(v.astype(np.float64)) for k, v in stored.items()}
    ids, places = [], []
    for before, length in zip(BETWEEN, PASSAGES + [0]):
        ids += list(rng.integers(0, VOCAB, before))
        if length:
            places.append((len(ids), length))
        ids += list(rng.integers(0, VOCAB, length))
    ids = torch.tensor(np.array(ids))
    out = {"w." + k: v for k, v in stored.items()}
    out |= {"ids": ids.int().numpy(), "at": np.array([p[0] for p in places], np.int32), "length": np.array([p[1] for p in places], np.int32)}
    for name, share in SHARES.items():
        computed, k, v, logits = blend(w, ids, places, share)
        print(name, computed.sum(1).tolist())
        out |= {"rows." + name: computed.numpy(), "logits." + name: logits.float().numpy()}
        if name == KEPT:
            out |= {"k": k.float().numpy(), "v": v.float().numpy()}
    save_file(out, os.path.join(HERE, "blend.safetensors"))


main()
