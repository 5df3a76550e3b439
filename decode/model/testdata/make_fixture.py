"""Makes the fixtures of package model.

Needs torch, transformers, gguf, numpy and safetensors, the reader's GGUF file and
an .npy file of token ids [rows, 2048] of text that the model was not trained on:

    python make_fixture.py ../../../assets/models/SmolLM2-135M-Instruct.Q4_1.gguf tokens.npy

reader.safetensors: one row of ids through the dequantised weights in float32 by
transformers' own forward pass, with full attention and with the mask of four
sinks and the 124 most recent tokens.
tiny.gguf, tiny.safetensors (made without arguments as well): a random model of two layers with grouped heads, an
output matrix of its own and rope factors, and its logits by the plain numpy
forward pass below.
"""

import os
import sys

import gguf
import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
ROW, SINKS, RECENT = 4, 4, 124
LOGIT_POSITIONS, LOGIT_STRIDE = 128, 16


def reader(path, ids):
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(
        os.path.dirname(path), gguf_file=os.path.basename(path),
        dtype=torch.float32, attn_implementation="eager").eval()
    n = len(ids)
    x = torch.tensor(ids.astype(np.int64))[None]
    at, seen = torch.arange(n)[:, None], torch.arange(n)[None]
    masks = {"full": seen <= at, "sinks": (seen <= at) & ((seen < SINKS) | (seen >= at - RECENT))}
    out = {"ids": ids.astype(np.int32)}
    for name, visible in masks.items():
        mask = torch.where(visible, 0.0, torch.finfo(torch.float32).min)[None, None]
        with torch.no_grad():
            logits = model(x, attention_mask=mask, use_cache=False).logits[0]
        log_p = torch.log_softmax(logits[:-1].double(), -1)
        out[name + ".nll"] = -log_p.gather(1, x[0, 1:, None])[:, 0].float().numpy()
        if name == "full":
            out["full.best"] = logits.argmax(-1).to(torch.int32).numpy()
            out["full.logits"] = logits[LOGIT_POSITIONS - 1::LOGIT_POSITIONS, ::LOGIT_STRIDE].contiguous().numpy()
        print(name, "mean nll from position 511:", out[name + ".nll"][511:].mean())
    return out


TINY = dict(layers=2, width=64, hidden=96, heads=6, kv=2, dim=16, vocab=96, context=256, base=10000.0, eps=1e-5)


def tiny_weights(rng):
    c = TINY
    shapes = {"token_embd": (c["vocab"], c["width"]), "output": (c["vocab"], c["width"])}
    for i in range(c["layers"]):
        b = f"blk.{i}."
        shapes |= {b + "attn_q": (c["heads"] * c["dim"], c["width"]), b + "attn_k": (c["kv"] * c["dim"], c["width"]),
                   b + "attn_v": (c["kv"] * c["dim"], c["width"]), b + "attn_output": (c["width"], c["heads"] * c["dim"]),
                   b + "ffn_gate": (c["hidden"], c["width"]), b + "ffn_up": (c["hidden"], c["width"]),
                   b + "ffn_down": (c["width"], c["hidden"])}
    w = {}
    for name, shape in shapes.items():
        scale = 1.0 if name == "token_embd" else 1.5 / np.sqrt(shape[1])
        w[name + ".weight"] = (rng.standard_normal(shape) * scale).astype(np.float16)
    for name in ["output_norm"] + [f"blk.{i}.{p}" for i in range(c["layers"]) for p in ("attn_norm", "ffn_norm")]:
        w[name + ".weight"] = rng.uniform(0.5, 1.5, c["width"]).astype(np.float32)
    stored = {}
    for name, tensor in w.items():  # some F16, some Q8_0
        if "ffn" in name and "norm" not in name or name == "output.weight":
            stored[name] = gguf.quantize(tensor.astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
            w[name] = gguf.dequantize(stored[name], gguf.GGMLQuantizationType.Q8_0)
    w["rope_freqs.weight"] = np.linspace(1, 4, c["dim"] // 2).astype(np.float32)
    return w, stored


def tiny_logits(w, ids):
    c = TINY
    w = {k: v.astype(np.float64) for k, v in w.items()}
    norm = lambda x, g: x / np.sqrt((x * x).mean(-1, keepdims=True) + c["eps"]) * w[g + ".weight"]
    angle = np.arange(len(ids))[:, None] * c["base"] ** (-2 * np.arange(c["dim"] // 2) / c["dim"]) / w["rope_freqs.weight"]
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]

    def rope(x):  # pairs (2i, 2i+1)
        a, b = x[..., 0::2], x[..., 1::2]
        return np.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(x.shape)

    x = w["token_embd.weight"][ids]
    n = len(ids)
    for i in range(c["layers"]):
        b = f"blk.{i}."
        h = norm(x, b + "attn_norm")
        q = rope((h @ w[b + "attn_q.weight"].T).reshape(n, c["heads"], c["dim"]))
        k = rope((h @ w[b + "attn_k.weight"].T).reshape(n, c["kv"], c["dim"]))
        v = (h @ w[b + "attn_v.weight"].T).reshape(n, c["kv"], c["dim"])
        out = np.zeros_like(q)
        for head in range(c["heads"]):
            g = head // (c["heads"] // c["kv"])
            s = q[:, head] @ k[:, g].T / np.sqrt(c["dim"])
            s[np.triu_indices(n, 1)] = -np.inf
            p = np.exp(s - s.max(-1, keepdims=True))
            out[:, head] = p / p.sum(-1, keepdims=True) @ v[:, g]
        x = x + out.reshape(n, -1) @ w[b + "attn_output.weight"].T
        h = norm(x, b + "ffn_norm")
        gate = h @ w[b + "ffn_gate.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w[b + "ffn_up.weight"].T)) @ w[b + "ffn_down.weight"].T
    return (norm(x, "output_norm") @ w["output.weight"].T).astype(np.float32)


def tiny():
    c, rng = TINY, np.random.default_rng(7)
    w, stored = tiny_weights(rng)
    f = gguf.GGUFWriter(os.path.join(HERE, "tiny.gguf"), "llama")
    f.add_name("tiny")
    f.add_block_count(c["layers"])
    f.add_embedding_length(c["width"])
    f.add_feed_forward_length(c["hidden"])
    f.add_head_count(c["heads"])
    f.add_head_count_kv(c["kv"])
    f.add_key_length(c["dim"])
    f.add_value_length(c["dim"])
    f.add_context_length(c["context"])
    f.add_rope_freq_base(c["base"])
    f.add_rope_dimension_count(c["dim"])
    f.add_layer_norm_rms_eps(c["eps"])
    for name, tensor in w.items():
        if name in stored:
            f.add_tensor(name, stored[name], raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            f.add_tensor(name, tensor)
    f.write_header_to_file()
    f.write_kv_data_to_file()
    f.write_tensors_to_file()
    f.close()
    ids = rng.integers(0, c["vocab"], 150).astype(np.int32)
    save_file({"ids": ids, "logits": tiny_logits(w, ids)}, os.path.join(HERE, "tiny.safetensors"))


if __name__ == "__main__":
    tiny()
    if len(sys.argv) > 1:
        save_file(reader(sys.argv[1], np.load(sys.argv[2])[ROW]), os.path.join(HERE, "reader.safetensors"))
