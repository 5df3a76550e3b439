"""Write dequantize.json: random blocks of every quantised type and their values.

Needs numpy and the gguf package (the reference implementation of the formats):
    python make_fixture.py > dequantize.json
"""
import json

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

BLOCKS = 3
# Where a block keeps numbers in binary16, so that they can be made finite.
HALVES = {
    T.F16: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
}
rng = np.random.default_rng(5)
out = {}
for t in [T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q4_K, T.Q5_K, T.Q6_K]:
    _, size = GGML_QUANT_SIZES[t]
    blocks = BLOCKS if size > 2 else 40
    data = rng.integers(0, 256, (blocks, size), dtype=np.uint8)
    if t == T.BF16:
        data[:, 1] &= 0xBF  # no infinities
    for at in HALVES.get(t, []):
        h = (rng.standard_normal(blocks) * 0.1).astype(np.float16)
        h[0] = np.float16(3e-6)  # subnormal
        data[:, at : at + 2] = h.view(np.uint8).reshape(blocks, 2)
    values = dequantize(data.reshape(-1), t).astype(np.float32).reshape(-1)
    out[t.name] = {"data": data.tobytes().hex(), "values": [float(v) for v in values]}
print(json.dumps(out))
