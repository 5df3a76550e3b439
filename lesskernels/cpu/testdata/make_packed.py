"""Makes packed.json.gz: keys and values stored as KIVI (arXiv 2402.02750) and ThinK
(arXiv 2407.21018) store them, in rotated channels, and attention over them, in float64,
written from the papers alone.

Needs torch:

    python3 make_packed.py

Of each case, 3 query heads share a KV head of some dimension; 64 tokens make two groups of
32. Queries, keys and values are numbers of chance, stored as multiples of 1/64.

    channels       kept by ThinK, chosen from 32 queries of the 3 heads and all keys
    keys, values   [64, dim] what is stored stands for, pruned channels 0, first rows of 16
    out, lse       [3, dim], [3] attention of the last query
"""

import gzip
import json
import os

import torch

torch.manual_seed(20240202)
torch.set_default_dtype(torch.float64)
TOKENS, GROUP, WINDOW, HEADS = 64, 32, 32, 3


def hadamard(n):
    """The orthonormal transform, in blocks of powers of two, the largest first."""
    m, at = torch.zeros(n, n), 0
    while at < n:
        size = 1 << ((n - at).bit_length() - 1)
        h = torch.ones(1, 1)
        while h.shape[0] < size:
            h = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), h)
        m[at : at + size, at : at + size] = h / size**0.5
        at += size
    return m


def half(x, up):
    """The nearest binary16 that is not below x (up), or not above."""
    h = x.to(torch.float16)
    wrong = h.double() < x if up else h.double() > x
    goal = torch.full_like(h, float("inf") if up else float("-inf"))
    return torch.where(wrong, torch.nextafter(h, goal), h).double()


def quantise(x, bits):
    """Rows of x share a scale and a minimum."""
    levels = 2**bits - 1
    least = half(x.amin(-1, keepdim=True), False)
    scale = half((x.amax(-1, keepdim=True) - least) / levels, True)
    codes = torch.where(scale > 0, (x - least) / torch.where(scale > 0, scale, torch.ones(())), torch.zeros(()))
    return codes.round().clamp(0, levels) * scale + least


def store(keys, values, bits):
    """keys [tokens, channels] per channel and 32 tokens, values per token and 32 channels."""
    if bits == 16:
        return keys.to(torch.bfloat16).double(), values.to(torch.bfloat16).double()
    hk, hv = hadamard(keys.shape[1]), hadamard(values.shape[1])
    keys, values = keys @ hk, values @ hv
    groups = [quantise(keys[at : at + GROUP].T, bits).T for at in range(0, TOKENS, GROUP)]
    blocks = [quantise(values[:, at : at + 32], bits) for at in range(0, values.shape[1], 32)]
    return torch.cat(groups) @ hk.T, torch.cat(blocks, 1) @ hv.T


def integers(x):
    return x.mul(64).round().to(torch.int64)


def case(dim, bits, percent):
    spread = torch.exp(torch.randn(dim) / 2)
    q = integers(torch.randn(WINDOW, HEADS, dim) * spread)
    k = integers(torch.randn(TOKENS, dim) * spread.flip(0) + torch.randn(dim))
    v = integers(torch.randn(TOKENS, dim))
    queries, keys, values = q / 64, (k / 64).to(torch.bfloat16).double(), (v / 64).to(torch.bfloat16).double()
    scores = queries.square().mean((0, 1)) * keys.square().mean(0)
    pruned = scores.argsort(stable=True)[: dim * percent // 100]
    channels = torch.tensor([c for c in range(dim) if c not in set(pruned.tolist())])
    stored, stored_values = store(keys[:, channels], values, bits)
    whole = torch.zeros(TOKENS, dim)
    whole[:, channels] = stored
    logits = queries[-1] @ whole.T / dim**0.5
    return {
        "dim": dim, "bits": bits, "percent": percent, "q": q.flatten().tolist(),
        "k": integers(keys).flatten().tolist(), "v": integers(values).flatten().tolist(),
        "channels": channels.tolist(),
        "keys": [round(x, 7) for x in whole[::4].flatten().tolist()],
        "values": [round(x, 7) for x in stored_values[::4].flatten().tolist()],
        "out": (logits.softmax(-1) @ stored_values).flatten().tolist(),
        "lse": logits.logsumexp(-1).tolist(),
    }


cases = [case(64, 4, 0), case(64, 2, 0), case(64, 4, 40), case(64, 2, 40), case(64, 16, 40), case(24, 4, 25)]
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "packed.json.gz")
with open(path, "wb") as f, gzip.GzipFile(fileobj=f, mode="wb", mtime=0, filename="") as z:
    z.write(json.dumps(cases, separators=(",", ":")).encode())
