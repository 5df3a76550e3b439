"""Writes gradient.json: loss and gradient of LESS by PyTorch's autograd.

usage: python3 make_fixture.py > gradient.json        (needs torch 2.x)

The masked form in float64: every row attends to the tokens that left before it
through phi and psi, which fade with the distance between the two, and to the others by a given (out, log-sum-exp).
"""

import json

import torch

torch.manual_seed(3)
torch.set_default_dtype(torch.float64)
HEADS, KV_HEADS, DIM, HIDDEN, RANK, ROWS, TOKENS, OUTPUTS = 6, 2, 5, 18, 3, 11, 24, 7
GROUP, EPSILON = HEADS // KV_HEADS, 1e-6


def single(*shape, scale=1.0):
    """Numbers that float32 holds exactly."""
    return (torch.randn(*shape) * scale).float().double()


weights = {
    "Wq1": single(HEADS, DIM, HIDDEN, scale=0.5), "Wq2": single(HEADS, HIDDEN, RANK, scale=0.5),
    "Wk1": single(KV_HEADS, DIM, HIDDEN, scale=0.5), "Wk2": single(KV_HEADS, HIDDEN, RANK, scale=0.5),
    "Wk3": single(KV_HEADS, RANK, RANK, scale=0.5),
    "S1": single(KV_HEADS, RANK, scale=0.5), "S2": single(KV_HEADS, RANK, scale=0.5),
    "Fade": single(KV_HEADS, RANK, scale=0.5) - 5,
}
for w in weights.values():
    w.requires_grad_(True)
q, lse = single(HEADS, ROWS, DIM), single(HEADS, ROWS)
sparse, exact = single(ROWS, HEADS, DIM), single(ROWS, HEADS, DIM)
wo = single(OUTPUTS, HEADS * DIM, scale=0.4)
k, v = single(KV_HEADS, TOKENS, DIM), single(KV_HEADS, TOKENS, DIM)
before = torch.randint(0, TOKENS + 1, (KV_HEADS, ROWS)).sort(1).values
before[0, 0] = 0  # a row without a state
at = torch.arange(ROWS) * 17 + 90
left = torch.stack([torch.randperm(90)[:TOKENS] for _ in range(KV_HEADS)])
with torch.no_grad():
    weights["Fade"].copy_(weights["Fade"].float().double())
    weights["Fade"][1, 1] = -2.5  # faster than the cap
rates = weights["Fade"].exp().clamp_max(1 / 50)

gelu = torch.nn.functional.gelu
phi = gelu(gelu(q @ weights["Wq1"]) @ weights["Wq2"]).abs()
a = weights["S1"].abs()[:, None] * gelu(gelu(k @ weights["Wk1"]) @ weights["Wk2"])
psi = (a + (a @ weights["Wk3"]) * weights["S2"][:, None]).abs()
out = []
for head in range(HEADS):
    kv = head // GROUP
    mask = (torch.arange(TOKENS)[None] < before[kv][:, None]).double()
    age = at[:, None] - left[kv][None]
    faded = (phi[head][:, None] * psi[kv][None] * torch.exp(-rates[kv] * age[..., None])).sum(-1)
    scores = faded * mask
    den = scores.sum(1)
    floor = den.clamp_min(EPSILON)
    share = torch.sigmoid(floor.log() - lse[head]) * (before[kv] > 0)
    mean = scores @ v[kv] / floor[:, None]
    out.append(share[:, None] * mean + (1 - share)[:, None] * sparse[:, head])
error = (torch.stack(out, 1) - exact).reshape(ROWS, -1) @ wo.T
loss = error.pow(2).mean()
loss.backward()

flat = lambda t: t.detach().flatten().tolist()
print(json.dumps({
    "heads": HEADS, "kv_heads": KV_HEADS, "head_dim": DIM, "hidden": HIDDEN, "rank": RANK, "rows": ROWS, "outputs": OUTPUTS,
    "q": flat(q), "lse": flat(lse), "sparse": flat(sparse), "exact": flat(exact), "wo": flat(wo),
    "k": [flat(x) for x in k], "v": [flat(x) for x in v], "before": before.tolist(),
    "at": at.tolist(), "left": left.tolist(),
    "weights": {name: flat(w) for name, w in weights.items()}, "loss": loss.item(),
    "gradient": {name: flat(w.grad) for name, w in weights.items()},
}))
