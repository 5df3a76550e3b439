"""Times llama.cpp: one model, one request a line on standard input, one answer a line on standard output.

Needs the environment that `make peer` builds. The first line sets it up:

    {"model": "file.gguf", "threads": 2, "flash": true}         → {"name": "llama.cpp …"}

Every other line is a work: prompts of token ids, and how many tokens to produce after each. Prompts are fed one
after the other, as requests come in; then all sequences get one token a step. No sampling is timed: a token of the
prompt is fed again, so that the figures are those of the computation alone.

    {"prompts": [[1, 2, …], …], "tokens": 64}                   → {"first": seconds, "decode": seconds}

first is from the start to the first prompt's logits, decode all steps but that one. A failure is {"error": "…"}.
"""

import ctypes
import json
import os
import sys
import time

import llama_cpp as llama

BLOCK = 512  # tokens of a prompt in one pass: llama.cpp's own default of n_ubatch


@llama.llama_log_callback
def quiet(level, text, data):
    """Keeps what the library logs to itself."""


class Work:
    """A context for one work, no larger than it must be."""

    def __init__(self, model, setup, prompts, tokens):
        self.prompts, self.tokens = prompts, tokens
        p = llama.llama_context_default_params()
        p.n_seq_max = len(prompts)
        p.kv_unified = len(prompts) == 1
        p.n_ctx = len(prompts) * ((max(map(len, prompts)) + tokens + 255) // 256 * 256)
        p.n_batch = p.n_ubatch = BLOCK
        p.n_threads = p.n_threads_batch = setup["threads"]
        p.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED if setup["flash"] else llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        p.no_perf = True
        self.context = llama.llama_init_from_model(model, p)
        if not self.context:
            raise RuntimeError("no context of %d tokens" % p.n_ctx)
        self.batch = llama.llama_batch_init(max(BLOCK, len(prompts)), 0, 1)

    def close(self):
        llama.llama_batch_free(self.batch)
        llama.llama_free(self.context)

    def put(self, token, position, sequence, logits):
        i, b = self.batch.n_tokens, self.batch
        b.token[i], b.pos[i], b.n_seq_id[i], b.seq_id[i][0], b.logits[i] = token, position, 1, sequence, logits
        b.n_tokens = i + 1

    def run(self):
        status = llama.llama_decode(self.context, self.batch)
        if status != 0:
            raise RuntimeError("llama_decode returned %d" % status)
        llama.llama_synchronize(self.context)
        self.batch.n_tokens = 0

    def prefill(self, sequence):
        prompt = self.prompts[sequence]
        for start in range(0, len(prompt), BLOCK):
            for i in range(start, min(start + BLOCK, len(prompt))):
                self.put(prompt[i], i, sequence, i == len(prompt) - 1)
            self.run()

    def step(self, done):
        for sequence, prompt in enumerate(self.prompts):
            self.put(prompt[done % len(prompt)], len(prompt) + done, sequence, True)
        self.run()

    def time(self):
        start = time.perf_counter()
        self.prefill(0)
        first = time.perf_counter() - start
        for sequence in range(1, len(self.prompts)):
            self.prefill(sequence)
        start = time.perf_counter()
        for done in range(self.tokens - 1):
            self.step(done)
        return {"first": first, "decode": time.perf_counter() - start}


def load(setup):
    llama.llama_log_set(quiet, ctypes.c_void_p(0))
    llama.llama_backend_init()
    p = llama.llama_model_default_params()
    p.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(setup["model"].encode(), p)
    if not model:
        raise RuntimeError("llama.cpp cannot load %s" % setup["model"])
    return model


def answer(model, setup, request):
    work = Work(model, setup, request["prompts"], request["tokens"])
    try:
        return work.time()
    finally:
        work.close()


def main():
    # What the library itself prints must not come between the answers.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(reply):
        out.write(json.dumps(reply) + "\n")
        out.flush()

    try:
        setup = json.loads(sys.stdin.readline())
        model = load(setup)
        say({"name": "llama.cpp (llama-cpp-python %s)" % llama.__version__})
        for line in sys.stdin:
            say(answer(model, setup, json.loads(line)))
    except Exception as e:  # the caller prints it
        say({"error": "%s: %s" % (type(e).__name__, e)})
        sys.exit(1)


if __name__ == "__main__":
    main()
