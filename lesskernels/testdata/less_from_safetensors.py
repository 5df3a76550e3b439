"""Writes a .less file from feature maps in plain safetensors (layers.N.phi.w1 …).

usage: python3 less_from_safetensors.py MAPS.safetensors MODEL.gguf OUT.less

The tensors stay as they are; a gate of zeros (every state on) and the header
that lesskernels.ParseMaps reads are added. Needs the standard library alone.
"""

import hashlib
import json
import struct
import sys


def main(maps, model, out):
    with open(maps, "rb") as f:
        (size,) = struct.unpack("<Q", f.read(8))
        tensors, data = json.loads(f.read(size)), f.read()
    tensors.pop("__metadata__", None)
    with open(model, "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    layers = 1 + max(int(name.split(".")[1]) for name in tensors)
    heads, head_dim, hidden = tensors["layers.0.phi.w1"]["shape"]
    kv_heads, rank = tensors["layers.0.psi.s1"]["shape"]
    gate = bytes(4 * layers * kv_heads)
    tensors["gate"] = {"dtype": "F32", "shape": [layers, kv_heads], "data_offsets": [len(data), len(data) + len(gate)]}
    header = {
        "model": digest, "inputs": "pre-rope", "layers": layers,
        "shape": {"Heads": heads, "KVHeads": kv_heads, "HeadDim": head_dim, "Hidden": hidden, "Rank": rank},
        "policies": ["h2o", "sinks"], "budgets": [64, 128, 256], "trained": 2048, "validated": 8192,
        "data": [], "epsilon": 1e-6,
    }
    text = json.dumps({"__metadata__": {"less": json.dumps(header)}, **tensors}).encode()
    text += b" " * (-len(text) % 8)
    with open(out, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data + gate)


if __name__ == "__main__":
    main(*sys.argv[1:])
