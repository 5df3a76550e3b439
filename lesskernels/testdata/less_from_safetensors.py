"""Writes a .less file from feature maps in plain safetensors (layers.N.phi.w1 …).

usage: python3 less_from_safetensors.py MAPS.safetensors MODEL.gguf OUT.less

The maps were trained on queries and keys whose rotary pairs are the dimensions
(i, i + headDim/2), as in transformers. In a GGUF file of the llama architecture
the pairs are (2i, 2i + 1), so the rows of both w1 are put in that order. The
other tensors stay as they are; a gate of zeros (every state on) and the header
that lesskernels.ParseMaps reads are added. Needs the standard library alone.
"""

import hashlib
import json
import struct
import sys


def interleave(data, tensor):
    """Reorders the second dimension of an F32 tensor [heads, headDim, hidden]."""
    heads, dim, hidden = tensor["shape"]
    begin, row = tensor["data_offsets"][0], 4 * hidden
    old = bytes(data[begin:begin + heads * dim * row])
    for head in range(heads):
        for i in range(dim):
            source = i // 2 + (i % 2) * (dim // 2)
            at, to = (head * dim + source) * row, begin + (head * dim + i) * row
            data[to:to + row] = old[at:at + row]


def main(maps, model, out):
    with open(maps, "rb") as f:
        (size,) = struct.unpack("<Q", f.read(8))
        tensors, data = json.loads(f.read(size)), bytearray(f.read())
    tensors.pop("__metadata__", None)
    for name, tensor in tensors.items():
        if name.endswith(".w1"):
            interleave(data, tensor)
    with open(model, "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    layers = 1 + max(int(name.split(".")[1]) for name in tensors)
    heads, head_dim, hidden = tensors["layers.0.phi.w1"]["shape"]
    kv_heads, rank = tensors["layers.0.psi.s1"]["shape"]
    gate = bytes(4 * layers * kv_heads)
    tensors["gate"] = {"dtype": "F32", "shape": [layers, kv_heads], "data_offsets": [len(data), len(data) + len(gate)]}
    header = {
        "model": digest, "inputs": "pre-rope", "layers": layers,
        "shape": {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "hidden": hidden, "rank": rank},
        "policies": ["h2o", "sinks"], "budgets": [64, 128, 256], "trained": 2048, "validated": 8192,
        "data": [], "epsilon": 1e-6,
    }
    text = json.dumps({"__metadata__": {"less": json.dumps(header)}, **tensors}).encode()
    text += b" " * (-len(text) % 8)
    with open(out, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data + gate)


if __name__ == "__main__":
    main(*sys.argv[1:])
