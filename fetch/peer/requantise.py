"""Writes a GGUF model with its weights as Q4_0, by llama.cpp's own quantiser.

usage: python requantise.py IN.gguf OUT.gguf

Needs llama-cpp-python. llama.cpp repacks Q4_0 for its fastest kernels and Q4_1 not, so this is its best case.
"""

import sys

import llama_cpp as llama


def main(source, target):
    p = llama.llama_model_quantize_default_params()
    p.ftype = llama.LLAMA_FTYPE_MOSTLY_Q4_0
    p.allow_requantize = True
    status = llama.llama_model_quantize(source.encode(), target.encode(), p)
    if status != 0:
        sys.exit("llama_model_quantize returned %d" % status)


if __name__ == "__main__":
    main(*sys.argv[1:])
