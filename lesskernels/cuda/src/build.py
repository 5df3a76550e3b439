"""Compiles the kernels to PTX for every card since Ampere, without a card.

    python build.py DIR

writes NAME.ptx and NAME.json for each kernel, and SHA256SUMS of the sources, by which a test finds out that
they have changed since. The same sources and the same Triton (requirements.txt) give the same bytes.
`make kernels` writes the committed ones, `make verify-kernels` compares with them.
"""
import hashlib
import json
import os
import sys
import tempfile

os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp(prefix="kernels")
os.environ["TRITON_DISABLE_LINE_INFO"] = "1"
os.environ["TRITON_DEFAULT_FP_FUSION"] = "1"

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.experimental.gluon._runtime import GluonASTSource

import asked
import attend_packed
import attention
import codes
import less
import likely
import moment
import observe_packed
import packed
import product
import pruned
import rows

TARGET, VERSION = 80, 70  # compute 8.0, PTX 7.0: what the oldest driver that is accepted compiles

# Of every argument its type; * is a pointer, to a multiple of 16 bytes.
NORM = dict(x="*fp32", delta="*fp32", weight="*fp32", normed="*bf16", pick="*i32", width="i32", epsilon="fp32")
CODES = dict(x="*bf16", codes="*i32", scales="*fp16", y="*fp32", rows="i32", outs="i32", cols="i32", stride="i32")
ROPE = dict(qkv="*fp32", cos="*fp32", sin="*fp32", q="*bf16", k="*bf16", v="*bf16", rows="i32", heads="i32", kv_heads="i32")
ATTEND = dict(q="*bf16", memory="*bf16", tiles="*i32", places="*i64", live="*i32", out="*fp32", lse="*fp32", layer="i32",
              rows="i32", heads="i32", kv_heads="i32", span="i32", scale="fp32")
MERGE = dict(parts="*fp32", lse="*fp32", list="*i32", phi="*fp32", states="*fp32", asked="*i64", positions="*i32",
             rates="*fp32", out="*bf16", layer="i32", rows="i32", heads="i32", kv_heads="i32", splits="i32", rank="i32")
OBSERVE = dict(q="*bf16", memory="*bf16", lse="*fp32", blocks="*i64", places="*i64", live="*i32", positions="*i32", out="*fp32",
               layer="i32", rows="i32", heads="i32", kv_heads="i32", splits="i32", scale="fp32", rise="fp32")
STORE = dict(memory="*bf16", keys="*bf16", values="*bf16", stores="*i64", live="*i32", layer="i32", rows="i32", kv_heads="i32")
DEVIATE = dict(memory="*bf16", keys="*bf16", values="*bf16", place="*i64", positions="*i32", out="*fp32", layer="i32", rows="i32", kv_heads="i32")
PHI = dict(qkv="*fp32", asked="*i64", first="*fp32", second="*fp32", out="*fp32", rows="i32", heads="i32", kv_heads="i32", hidden="i32", rank="i32")
ABSORB = dict(memory="*bf16", jobs="*i64", leaving="*i64", turns="*fp32", states="*fp32", first="*fp32", second="*fp32", third="*fp32",
              s1="*fp32", s2="*fp32", rates="*fp32", layer="i32", kv_heads="i32", hidden="i32", rank="i32")
ABSORB_MOMENTS = dict(memory="*bf16", jobs="*i64", leaving="*i64", cos="*fp32", sin="*fp32", states="*fp32", layer="i32", kv_heads="i32")
RECALL_MOMENTS = dict(q="*bf16", list="*i32", states="*fp32", asked="*i64", out="*fp32", lse="*fp32", layer="i32", rows="i32", heads="i32", kv_heads="i32", scale="fp32")
PACK = dict(memory="*bf16", jobs="*i64", rows="*i64", layer="i32", kv_heads="i32", size="i32")
ATTEND_PACKED = dict(q="*bf16", tiles="*i32", groups="*i64", packed="*i32", out="*fp32", lse="*fp32", layer="i32", rows="i32", heads="i32",
                     kv_heads="i32", span="i32", size="i32", scale="fp32")
OBSERVE_PACKED = dict(q="*bf16", lse="*fp32", blocks="*i64", groups="*i64", packed="*i32", positions="*i32", out="*fp32", layer="i32", rows="i32",
                      heads="i32", kv_heads="i32", splits="i32", size="i32", scale="fp32", last="i32")
ASK = dict(q="*bf16", jobs="*i64", memory="*fp32", layer="i32", heads="i32", kv_heads="i32")
SQUARES = dict(memory="*bf16", jobs="*i64", rows="*i64", out="*fp64")
REMEMBER = {name: ABSORB[name] for name in ABSORB if name not in ("states", "rates")}
TURN = dict(memory="*bf16", turns="*i64", cos="*fp32", sin="*fp32", layer="i32")
CODES_OF = (("nibbles", dict(BITS=4, G=32, OFFSET=True)), ("octets16", dict(BITS=8, G=16, OFFSET=False)),
            ("octets32", dict(BITS=8, G=32, OFFSET=False)), ("offset32", dict(BITS=8, G=32, OFFSET=True)))
NUMBERS_OF = (("bf16", "*bf16", 1), ("f16", "*fp16", 2), ("f32", "*fp32", 3))  # and how many numbers in bf16 one is the sum of
SIXTEENS = {"cols"}  # whole groups of 16 columns at least, which widens loads


def kernels():
    """(name, function, arguments, constants, warps, stages of loops: 3)"""
    block = dict(BLOCK=1024)
    yield "norm", rows.add_norm, NORM, dict(ADD=False, PICK=False, **block), 4
    yield "add_norm", rows.add_norm, NORM, dict(ADD=True, PICK=False, **block), 4
    yield "pick_norm", rows.add_norm, NORM, dict(ADD=False, PICK=True, **block), 4
    yield "add", rows.add, dict(x="*fp32", delta="*fp32", n="i32"), block, 4
    for name, back in ("gather", False), ("scatter", True):
        yield name, rows.pick, dict(from_="*i32", to="*i32", list="*i32", width="i32"), dict(BACK=back, **block), 4
    search = dict(logits="*fp32", count="*i32", heat="*fp32", tops="*i64", sums="*fp32", out="*i64", vocab="i32", blocks="i32")
    yield "likely_of_blocks", likely.of_blocks, search, dict(C=64, BLOCK=4096), 8
    yield "likely_of_all", likely.of_all, search, dict(C=64, BLOCKS=64), 8
    yield "swiglu", rows.swiglu, dict(gate="*fp32", up="*fp32", out="*bf16", n="i32"), block, 4
    for name, of in CODES_OF:
        codes_type = "*u8" if of["BITS"] == 4 else "*i8"
        yield f"embed_{name}", codes.embed, dict(tokens="*i32", codes=codes_type, scales="*fp16", x="*fp32", cols="i32"), dict(BLOCK=256, **of), 2
    for name, of, _ in NUMBERS_OF:
        yield f"embed_{name}", product.embed_numbers, dict(tokens="*i32", numbers=of, x="*fp32", outs="i32", cols="i32"), dict(BLOCK=256), 2
    for name, br, tiles in ("few", 16, 1), ("many", 64, 2):
        for of, kind in CODES_OF:
            yield f"multiply_{of}_{name}", codes.multiply, CODES, dict(M=tiles, BR=br, **kind), codes.WARPS.value
        for of, number, parts in NUMBERS_OF:
            yield f"multiply_{of}_{name}", product.multiply_numbers, dict(x="*bf16", numbers=number, y="*fp32", rows="i32", outs="i32", cols="i32", stride="i32"), dict(PARTS=parts, BO=64, BR=br), 4
    yield "shift", packed.shift, dict(moves="*i64", layer="i32", kv_heads="i32", size="i32"), dict(BLOCK=4096), 4
    for d in 64, 128, 256:
        slots, stages = (32, 2) if d == 256 else (64, 3)  # as much as the shared memory of the smallest card holds
        yield f"move_d{d}", rows.move, dict(memory="*bf16", moves="*i64", layer="i32"), dict(D=d), 1
        yield f"rope_d{d}", rows.rope, ROPE, dict(D=d), 1
        yield f"store_d{d}", rows.store, STORE, dict(D=d), 1
        yield f"deviate_d{d}", rows.deviate, DEVIATE, dict(D=d), 1
        yield f"mean_d{d}", rows.mean, dict(memory="*bf16", means="*i64", members="*i64"), dict(D=d), 1
        for name, m in ("one", 16), ("block", 64):
            warps = 8 if d == 256 and m == 64 else 4
            yield f"attend_d{d}_{name}", attention.attend, ATTEND, dict(D=d, M=m, BS=slots), warps, stages
            yield f"observe_d{d}_{name}", attention.observe, OBSERVE, dict(D=d, M=m, BS=64, KIND=attention.SUM.value), warps, stages
        for name, kind in ("most", attention.MOST.value), ("decayed", attention.DECAYED.value), ("last", attention.LAST.value):
            yield f"observe_d{d}_{name}", attention.observe, OBSERVE, dict(D=d, M=16, BS=64, KIND=kind), 4, stages
        for name, r in ("", 0), ("_less", 16):
            yield f"merge_d{d}{name}", attention.merge, MERGE, dict(D=d, R=r), 1
        for name, of in ("phi", PHI), ("phi_turned", dict(PHI, qkv="*bf16")):
            yield f"{name}_d{d}", less.phi, of, dict(D=d, R=16, T=16, HB=32), 4, stages
        yield f"absorb_d{d}", less.absorb, ABSORB, dict(D=d, R=16, T=16, HB=32), 8 if d == 256 else 4, stages
        yield f"absorb_moments_d{d}", moment.absorb_moments, ABSORB_MOMENTS, dict(D=d, T=16, V=16), 4, 1
        yield f"recall_moments_d{d}", moment.recall_moments, RECALL_MOMENTS, dict(D=d, V=16), 1
        rotated = dict(STAGES=d.bit_length() - 1, SHARE=float(f"{d ** -0.5:.9g}"))
        for bits in 2, 4:
            of = dict(D=d, BITS=bits, **rotated)
            yield f"pack_d{d}_{bits}", packed.pack, PACK, of, 8 if d == 256 else 4, 1
            yield f"unpack_d{d}_{bits}", packed.unpack, {name: PACK[name] for name in PACK if name != "rows"}, of, 4, 1
            yield f"attend_packed_d{d}_{bits}", attend_packed.attend_packed, ATTEND_PACKED, dict(PRUNED=False, **of), asked.WARPS.value
            yield f"observe_packed_d{d}_{bits}", observe_packed.observe_packed, OBSERVE_PACKED, dict(PRUNED=False, **of), asked.WARPS.value
        without_rows = {name: PACK[name] for name in PACK if name != "rows"}
        yield f"shift_d{d}_pruned", pruned.shift, dict(moves="*i64", layer="i32", kv_heads="i32", size="i32"), dict(D=d, BLOCK=4096), 4
        for bits in 2, 4, 16:
            of = dict(D=d, BITS=bits, **rotated)
            warps = 8 if d == 256 else 4
            yield f"pack_d{d}_{bits}_pruned", pruned.pack, PACK, of, warps, 1
            yield f"unpack_d{d}_{bits}_pruned", pruned.unpack, without_rows, of, warps, 1
            if bits < 16:
                yield f"attend_packed_d{d}_{bits}_pruned", attend_packed.attend_packed, ATTEND_PACKED, dict(PRUNED=True, **of), asked.WARPS.value
                yield f"observe_packed_d{d}_{bits}_pruned", observe_packed.observe_packed, OBSERVE_PACKED, dict(PRUNED=True, **of), asked.WARPS.value
        yield f"attend_packed_d{d}_16_pruned", pruned.attend, ATTEND_PACKED, dict(D=d, M=16), warps, stages
        yield f"observe_packed_d{d}_16_pruned", pruned.observe, OBSERVE_PACKED, dict(D=d, M=16), warps, 1
        yield f"ask_d{d}", pruned.ask, ASK, dict(D=d), 1
        yield f"squares_d{d}", pruned.squares, SQUARES, dict(D=d, T=16), 4, 1
        yield f"remember_d{d}", less.remember, REMEMBER, dict(D=d, R=16, T=16, HB=32), 8 if d == 256 else 4, stages
        yield f"turn_d{d}", less.turn, TURN, dict(D=d), 1


def build(name, function, types, constants, warps, stages=3):
    signature, attributes, arguments = {}, {}, []
    for i, argument in enumerate(function.arg_names):
        if argument in constants:
            signature[argument] = "constexpr"
            continue
        signature[argument] = types[argument]
        arguments.append([argument, types[argument]])
        if types[argument][0] == "*" or argument in SIXTEENS:
            attributes[(i,)] = [["tt.divisibility", 16]]
    of = GluonASTSource if function.is_gluon() else ASTSource
    source = of(fn=function, signature=signature, constexprs=constants, attrs=attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", TARGET, 32),
                              options=dict(num_warps=warps, num_stages=stages, ptx_version=VERSION))
    m = compiled.metadata
    if m.global_scratch_size or m.profile_scratch_size:
        sys.exit(f"{name} needs scratch memory")
    return compiled.asm["ptx"], dict(function=m.name, arguments=arguments, constants=constants, threads=32 * m.num_warps, shared=m.shared)


def main(to):
    for name, *rest in kernels():
        ptx, description = build(name, *rest)
        with open(os.path.join(to, name + ".ptx"), "w") as f:
            f.write(ptx)
        with open(os.path.join(to, name + ".json"), "w") as f:
            json.dump(description, f)
            f.write("\n")
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(to, "SHA256SUMS"), "w") as f:
        for name in sorted(os.listdir(here)):
            if name.endswith((".py", ".txt")):
                with open(os.path.join(here, name), "rb") as source:
                    f.write(f"{hashlib.sha256(source.read()).hexdigest()}  {name}\n")


if __name__ == "__main__":
    main(sys.argv[1])
