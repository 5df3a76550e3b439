"""Makes policies.json.gz: one layer of attention through BUZZ, CORM, Cascading KV
and Elastic Cache, token by token, in float64, written from the papers alone.

Needs numpy:

    python3 make_policies.py

6 query heads share 2 KV heads of 16 dimensions; rotary pairs are (2i, 2i+1), base
10,000. Queries, keys and values are numbers of chance, multiples of 1/64, stored as
those multiples. For each policy there are

    <policy>_out         [tokens/7, heads, 16] attention of every seventh token
    <policy>_evict_step  [kvHeads, tokens] the step in front of which a token went;
                         the number of tokens where it stayed
    <policy>_order       (step, KV head, token) of every eviction, step by step
"""

import gzip
import json
import os

import numpy as np

HEADS, KV, DIM, TOKENS = 6, 2, 16, 160
GROUP = HEADS // KV
BUDGET = {"buzz": 40, "corm": 60, "cascade": 24, "elastic": 60, "elastic-values": 60}
PROMPT = 100  # of elastic, read at once
FREQUENCIES = 10000.0 ** (-np.arange(DIM // 2) / (DIM // 2))


def rotate(x, position):
    angle = position * FREQUENCIES
    c, s = np.cos(angle), np.sin(angle)
    y = np.empty_like(x)
    y[..., 0::2] = x[..., 0::2] * c - x[..., 1::2] * s
    y[..., 1::2] = x[..., 0::2] * s + x[..., 1::2] * c
    return y


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Record:
    def __init__(self):
        self.out = np.zeros((TOKENS, HEADS, DIM))
        self.step = np.full((KV, TOKENS), TOKENS)
        self.order = []

    def evict(self, step, head, tokens):
        for token in sorted(tokens):
            self.step[head, token] = step
            self.order += [step, head, token]


def attend(record, q, t, head, keys, values, query_position):
    """keys are rotated; returns softmax weights [group, tokens]."""
    rows = slice(head * GROUP, (head + 1) * GROUP)
    p = softmax(rotate(q[t, rows], query_position) @ keys.T / np.sqrt(DIM))
    record.out[t, rows] = p @ values
    return p


def renumbered(k, held, head):
    return np.stack([rotate(k[i, head], place) for place, i in enumerate(held)])


def buzz(q, k, v, sinks=4, stride=5):
    window = BUDGET["buzz"] * 160 // 564
    threshold = BUDGET["buzz"] - sinks - window
    record = Record()
    for head in range(KV):
        sink, sample, new, recent, mass = [], [], [], [], {}
        for t in range(TOKENS):
            if len(sample) + len(new) > threshold:
                thinned = sample[::(stride + 1) // 2]
                for at in range(0, len(new), stride):
                    thinned.append(max(new[at:at + stride], key=lambda i: mass[i]))
                record.evict(t, head, set(sample + new) - set(thinned))
                sample, new = thinned, []
            mass[t] = 0.0
            if len(sink) < sinks:
                sink.append(t)
            else:
                recent.append(t)
                if len(recent) > window:
                    new.append(recent.pop(0))
            held = sink + sample + new + recent
            p = attend(record, q, t, head, renumbered(k, held, head), v[held, head], len(held) - 1)
            for i, x in zip(held, p.sum(0)):
                mass[i] += x
    return record


def corm(q, k, v, window=12, sinks=4):
    budget = BUDGET["corm"]
    recent = budget // 2
    record = Record()
    for head in range(KV):
        held, important = [], np.zeros((TOKENS + 1, TOKENS), bool)  # [step from 1, token]
        for t in range(TOKENS):
            minor = [i for i in held if i < t - recent and not important[max(0, t - window + 1):t + 1, i].any()]
            left = [i for i in held if i not in minor]

            def rank(i):
                if i < sinks or i >= t - recent:
                    return (TOKENS + 1, i)
                return (max(np.flatnonzero(important[:, i]), default=0), i)

            over = sorted(left, key=rank)[:max(0, len(left) - budget)]
            record.evict(t, head, minor + over)
            held = [i for i in left if i not in over] + [t]
            keys = np.stack([rotate(k[i, head], i) for i in held])
            p = attend(record, q, t, head, keys, v[held, head], t)
            important[t + 1, held] = (p >= 1 / (t + 1)).any(0)
    return record


def cascade(q, k, v, sinks=4, rings=4, beta=0.9999999):
    budget = BUDGET["cascade"]
    width = (budget - sinks) // rings
    record = Record()
    for head in range(KV):
        sink, caches, waiting, score = [], [[] for _ in range(rings)], [], {}

        def insert(token):
            step = token - sinks + 1  # of all sub-caches alike, whatever is carried on
            for i, cache in enumerate(caches):
                accepts = step % 2 ** i == 0
                if accepts and len(cache) < width:
                    cache.append(token)
                    return
                if accepts:
                    cache.append(token)
                    token = cache.pop(0)
                elif not cache:
                    cache.append(token)
                    return
                elif score[token] >= score[cache[-1]]:
                    cache[-1] = token
                    return
                else:
                    return

        for t in range(TOKENS):
            before = sink + sum(reversed(caches), []) + waiting
            if len(before) > budget:
                for token in waiting:
                    insert(token)
                waiting = []
                record.evict(t, head, set(before) - set(sink + sum(caches, [])))
            (sink if len(sink) < sinks else waiting).append(t)
            held = sink + sum(reversed(caches), []) + waiting
            p = attend(record, q, t, head, renumbered(k, held, head), v[held, head], len(held) - 1)
            score[t] = 0.0
            for i, x in zip(held, p.max(0)):
                score[i] = beta * score[i] + (1 - beta) * x
    return record


def elastic(q, k, v, merge_keys, start=1, distance=25):
    budget = BUDGET["elastic"]
    record = Record()
    rotated = np.stack([[rotate(k[i, h], i) for h in range(KV)] for i in range(TOKENS)])
    importance = np.zeros(PROMPT)
    for t in range(PROMPT):
        for head in range(KV):
            p = attend(record, q, t, head, rotated[:t + 1, head], v[:t + 1, head], t)
            importance[:t + 1] += p.sum(0) / HEADS
    newest = min(distance - 1, budget // 2)
    ranked = sorted(range(start, PROMPT - newest), key=lambda i: -importance[i])
    anchors = sorted(list(range(start)) + ranked[:budget - start - newest] + list(range(PROMPT - newest, PROMPT)))
    members = {a: [a] for a in anchors}
    for i in range(PROMPT):
        if i not in members:
            members[min(anchors[start:], key=lambda a: (abs(a - i), a))].append(i)
    for head in range(KV):
        record.evict(0, head, set(range(PROMPT)) - set(anchors))
        values = [v[members[a], head].mean(0) for a in anchors]
        keys = [rotated[members[a] if merge_keys else [a], head].mean(0) for a in anchors]
        held = list(anchors)
        for t in range(PROMPT, TOKENS):
            while len(held) > budget:
                record.evict(t, head, [held[-distance]])
                del held[-distance], keys[-distance], values[-distance]
            held.append(t)
            keys.append(rotated[t, head])
            values.append(v[t, head])
            attend(record, q, t, head, np.stack(keys), np.stack(values), t)
    return record


def main():
    rng = np.random.default_rng(7)
    # A few keys that many queries look for, so that attention has something to say.
    q = rng.normal(0, 1, (TOKENS, HEADS, DIM)) + rng.normal(0, 1, (HEADS, DIM))
    k = rng.normal(0, 1, (TOKENS, KV, DIM)) * rng.choice([0.6, 2.0], (TOKENS, KV, 1), p=[0.8, 0.2])
    v = rng.normal(0, 1, (TOKENS, KV, DIM))
    out = {}

    def store(name, x):
        x = np.asarray(x)
        out[name] = {"shape": list(x.shape), "data": [round(float(i), 7) for i in x.ravel()]}

    inputs = {"q": q, "k": k, "v": v}
    for name in inputs:
        inputs[name] = np.round(inputs[name] * 64)
        store(name, inputs[name])
        inputs[name] = inputs[name] / 64
    runs = {"buzz": buzz(**inputs), "corm": corm(**inputs), "cascade": cascade(**inputs),
            "elastic": elastic(**inputs, merge_keys=True), "elastic-values": elastic(**inputs, merge_keys=False)}
    for name, record in runs.items():
        steps = sorted(zip(record.order[0::3], record.order[1::3], record.order[2::3]))
        store(name + "_out", record.out[::7])
        store(name + "_evict_step", record.step)
        store(name + "_order", [x for triple in steps for x in triple])
        print(name, "left", (record.step == TOKENS).sum(1), "evictions", len(steps))
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "policies.json.gz")
    with open(path, "wb") as f, gzip.GzipFile(fileobj=f, mode="wb", mtime=0) as z:
        z.write(json.dumps(out).encode())


if __name__ == "__main__":
    main()
