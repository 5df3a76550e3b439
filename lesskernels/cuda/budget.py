"""Counts what the loops of kernels issue on an H100, without a card.

    python budget.py KERNELS

assembles them for compute 9.0, and tells for the loop that runs longest how many instructions a thread issues for each
weight of a product, or for each slot and number of a head that attention reads. A multiprocessor issues 4 · 32 of them a
clock; at 132 multiprocessors, 1.755 GHz and 3.35 TB/s that leaves so many for a weight as its bytes take time to arrive. Above that a
kernel waits for its own instructions and not for memory: it is marked, and the exit status is 1.
"""
import os
import re
import subprocess
import sys
import tempfile

import triton

TOOLS = os.path.join(os.path.dirname(triton.__file__), "backends", "nvidia", "bin")
ISSUED = 4 * 32 * 132 * 1.755e9 / 3.35e12  # instructions of threads for each byte of memory

CODES = 4 * 16  # rows whose group is read at a turn, by all warps

# Of the kernel: what its loop reads at a turn, in units; and bytes of a unit.
UNITS = {
    "multiply_nibbles_few": (CODES * 32, (16 + 4) / 32),
    "multiply_octets16_few": (CODES * 16, (16 + 2) / 16),
    "multiply_octets32_few": (CODES * 32, (32 + 2) / 32),
    "multiply_offset32_few": (CODES * 32, (32 + 4) / 32),
    "multiply_f16_few": (64 * 32, 2),
    "multiply_bf16_few": (64 * 32, 2),
    "multiply_f32_few": (64 * 32, 4),
    "attend_d64_one": (64 * 64, 4),
    "attend_d128_one": (64 * 128, 4),
    "attend_d256_one": (32 * 256, 4),
    # four groups of 32 tokens; the codes of a key's number and of a value's, and scales and minima
    **{f"attend_packed_d{d}_{bits}": (4 * 32 * d, 8 * d * (bits + 1) / (32 * d)) for d in (64, 128, 256) for bits in (4, 2)},
    # of keys alone
    **{f"observe_packed_d{d}_{bits}": (4 * 32 * d, 4 * d * (bits + 1) / (32 * d)) for d in (64, 128, 256) for bits in (4, 2)},
    # keys that have lost 40% of their channels
    **{f"attend_packed_d{d}_{bits}_pruned": (4 * 32 * d, 4 * (2 * d - d * 40 // 100) * (bits + 1) / (32 * d)) for d in (64, 128, 256) for bits in (4, 2)},
    **{f"observe_packed_d{d}_{bits}_pruned": (4 * 32 * d, 4 * (d - d * 40 // 100) * (bits + 1) / (32 * d)) for d in (64, 128, 256) for bits in (4, 2)},
    # a group of 32 tokens whose keys have lost 40% of their channels; heads of 256 have twice as many threads
    **{f"attend_packed_d{d}_16_pruned": (32 * min(d, 128), 2 * (2 * d - d * 40 // 100) / d) for d in (64, 128, 256)},
}


# With 9 to 16 query heads for a KV head two programs read the same codes from memory, once: high and low parts of eight queries fill
# the rows of the matrix unit, and the parts of sixteen would be more registers than a thread has. That is told, and no failure.
TWICE = [name for name in UNITS if name.startswith("attend_packed") and not name.endswith("16_pruned")]

# Shapes are powers of two: channels that keys have lost are multiplied too, as zeros. Where that is above what the bytes of the others
# allow, likewise.
ZEROS = ["attend_packed_d64_2_pruned", "observe_packed_d64_4_pruned"] + [f"observe_packed_d{d}_2_pruned" for d in (64, 128, 256)]


def loop(ptx):
    """How many instructions the longest innermost loop has."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        subprocess.run([os.path.join(TOOLS, "ptxas"), "--gpu-name", "sm_90", ptx, "-o", cubin.name], check=True)
        sass = subprocess.run([os.path.join(TOOLS, "cuobjdump"), "-sass", cubin.name], check=True, capture_output=True, text=True).stdout
    at, back = [], []
    for address, text in re.findall(r"/\*([0-9a-f]{4,})\*/\s+([^;]+);", sass):
        at.append(int(address, 16))
        jump = re.search(r"\bBRA\b.*?(0x[0-9a-f]+)", text)
        if jump and int(jump[1], 16) < at[-1]:
            back.append((int(jump[1], 16), at[-1]))
    inner = [b for b in back if not any(o != b and b[0] <= o[0] and o[1] <= b[1] for o in back)]
    return max((sum(first <= a <= last for a in at) for first, last in inner), default=0)


def main(kernels):
    over = False
    print(f"{'kernel':32}{'loop':>6}{'a unit':>9}{'allowed':>9}")
    loops = {name: loop(os.path.join(kernels, name + ".ptx")) for name in UNITS}
    for name, times in [(name, 1) for name in UNITS] + [(name, 2) for name in TWICE]:
        units, size = UNITS[name]
        each, allowed = times * loops[name] * 128 / units, size * ISSUED
        bound = each == 0 or each > allowed
        accepted = times > 1 or name in ZEROS
        over |= bound and not accepted
        what = name + ", 9–16 heads" * (times - 1)
        print(f"{what:32}{loops[name]:6}{each:9.2f}{allowed:9.2f}{'  bound by instructions' if bound else ''}{', accepted' if bound and accepted else ''}")
    return over


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
