"""MomentKV (arXiv 2606.01563), first order: means and the covariance of what was evicted, and what queries ask of them.

A state lies as means [D] of keys and [D] of values, sums [D, D] of (v - mean)(k - mean), values in rows, and how many tokens there
are (i32), all f32. Where in states that is, the table of a sequence tells as for LESS: see less.absorb.
"""
import triton
import triton.language as tl


@triton.jit
def keys_of(memory, at, t, count, layer, cos, sin, D: tl.constexpr):
    """Keys of tokens t of those that leave, turned to where they once stood."""
    d = tl.arange(0, D)
    inside = t < count
    row = tl.load(at + t * 5, mask=inside, other=0) + layer * tl.load(at + t * 5 + 2, mask=inside, other=0)
    angle = tl.load(at + t * 5 + 4, mask=inside, other=-1)
    turned = (angle >= 0)[:, None]
    x = tl.load(memory + (row * D)[:, None] + d[None, :], mask=inside[:, None], other=0.0).to(tl.float32)
    y = tl.load(memory + (row * D)[:, None] + (d ^ 1)[None, :], mask=turned, other=0.0).to(tl.float32)
    c = tl.load(cos + (angle * (D // 2))[:, None] + (d // 2)[None, :], mask=turned, other=1.0)
    s = tl.load(sin + (angle * (D // 2))[:, None] + (d // 2)[None, :], mask=turned, other=0.0)
    return x * c + tl.where((d % 2 == 0)[None, :], -y, y) * s


@triton.jit
def values_of(memory, at, t, count, layer, d, D: tl.constexpr):
    """Numbers d of the values of tokens t of those that leave."""
    inside = t < count
    row = tl.load(at + t * 5 + 1, mask=inside, other=0) + layer * tl.load(at + t * 5 + 2, mask=inside, other=0)
    return tl.load(memory + (row * D)[:, None] + d[None, :], mask=inside[:, None], other=0.0).to(tl.float32)


@triton.jit
def absorb_moments(memory, jobs, leaving, cos, sin, states, layer, kv_heads, D: tl.constexpr, T: tl.constexpr, V: tl.constexpr):
    """Joins the means and the covariance of tokens that leave a KV head with those of its state; program (job).

        memory   [·, D] bf16
        jobs     [jobs, 5] i64: where in states the table of the sequence is, the KV head, the first of its leaving
                 tokens, how many, at least 1, and a number that is not used
        leaving  [·, 5] i64: the rows of memory where key and value of layer 0 lie, how many rows further those of the next
                 layer do, a number that is not used, and by which of the angles the key is turned; below 0, by none
        cos, sin [angles, D/2] f32
    """
    job = jobs + tl.program_id(0) * 5
    table = states + tl.load(job)
    entry = table + (layer * kv_heads + tl.load(job + 1).to(tl.int32)) * 2
    further = tl.load(entry).to(tl.int32, bitcast=True)
    old = further >= 0
    further = tl.where(old, further, -2 - further)
    at = leaving + tl.load(job + 2) * 5
    count = tl.load(job + 3).to(tl.int32)
    d = tl.arange(0, D)
    key_mean = table + further
    value_mean = key_mean + D
    covariance = value_mean + D
    tokens = covariance + D * D
    before = tl.load(tokens, mask=old, other=0.0).to(tl.int32, bitcast=True)
    share = count.to(tl.float32) / (before + count).to(tl.float32)
    total = tl.zeros([D], tl.float32)
    for from_ in range(0, count, T):
        total += tl.sum(keys_of(memory, at, from_ + tl.arange(0, T), count, layer, cos, sin, D), 0)
    keys = total / count
    was = tl.load(key_mean + d, mask=old, other=0.0)
    for first in range(0, D, V):
        j = first + tl.arange(0, V)
        part = tl.zeros([V], tl.float32)
        for from_ in range(0, count, T):
            part += tl.sum(values_of(memory, at, from_ + tl.arange(0, T), count, layer, j, D), 0)
        values = part / count
        mean = tl.load(value_mean + j, mask=old, other=0.0)
        sums = covariance + j[:, None] * D + d[None, :]
        mix = tl.load(sums, mask=old, other=0.0) + (values - mean)[:, None] * (keys - was)[None, :] * (before * share)
        for from_ in range(0, count, T):
            t = from_ + tl.arange(0, T)
            inside = (t < count)[:, None]
            k = tl.where(inside, keys_of(memory, at, t, count, layer, cos, sin, D) - keys[None, :], 0.0)
            v = tl.where(inside, values_of(memory, at, t, count, layer, j, D) - values[None, :], 0.0)
            mix = tl.dot(tl.trans(v), k, mix, input_precision="ieee")
        tl.debug_barrier()
        tl.store(sums, mix)
        tl.store(value_mean + j, mean + (values - mean) * share)
    tl.debug_barrier()
    tl.store(key_mean + d, was + (keys - was) * share)
    tl.store(tokens, (before + count).to(tl.float32, bitcast=True))
    tl.store(entry, further.to(tl.float32, bitcast=True))


@triton.jit
def recall_moments(q, list, states, asked, out, lse, layer, rows, heads, kv_heads, scale, D: tl.constexpr, V: tl.constexpr):
    """What a query asks of a state, as a split of attention; program (row of the list, head).

        q     [rows, heads, D] bf16
        list  [·] i32: rows
        asked [rows] i64: where in states the table of the row's sequence is; below 0, it asks nothing
        out   [rows, heads, D] f32
        lse   [rows, heads] f32; -inf where nothing is asked or has been absorbed
    """
    row = tl.load(list + tl.program_id(0)).to(tl.int64)
    head = tl.program_id(1)
    d = tl.arange(0, D)
    at = row * heads + head
    table = tl.load(asked + row)
    further = -1
    if table >= 0:
        further = tl.load(states + table + (layer * kv_heads + head // (heads // kv_heads)) * 2).to(tl.int32, bitcast=True)
    if further >= 0:
        key_mean = states + table + further
        query = tl.load(q + at * D + d).to(tl.float32)
        tokens = tl.load(key_mean + 2 * D + D * D).to(tl.int32, bitcast=True).to(tl.float32)
        tl.store(lse + at, tl.sum(query * tl.load(key_mean + d), 0) * scale + tl.log(tokens))
        for first in range(0, D, V):
            j = first + tl.arange(0, V)
            sums = tl.load(key_mean + 2 * D + j[:, None] * D + d[None, :])
            tl.store(out + at * D + j, tl.load(key_mean + D + j) + tl.sum(sums * query[None, :], 1) * (scale / tokens))
    else:
        tl.store(lse + at, float("-inf"))
        tl.store(out + at * D + d, tl.zeros([D], tl.float32))
