"""Times onnxruntime: one model, one request a line on standard input, one answer a line on standard output.

Needs the environment that `make peer` builds. The first line sets it up:

    {"model": "file.onnx", "threads": 2}       → {"name": "onnxruntime …"}

Every other line is a batch of texts of one length, as token ids:

    {"texts": [[101, …, 102], …], "batch": 8}  → {"seconds": …, "vector": [of the first text]}

Texts are run batch by batch. A failure is {"error": "…"}.
"""

import json
import os
import sys
import time

import numpy
import onnxruntime


def load(setup):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setup["threads"]
    options.inter_op_num_threads = 1
    # Threads that wait for the next run must not take the cores from who is timed meanwhile.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(setup["model"], options, providers=["CPUExecutionProvider"])


def answer(session, request):
    ids, batch = numpy.array(request["texts"], dtype=numpy.int64), request["batch"]
    vectors = []
    start = time.perf_counter()
    for i in range(0, len(ids), batch):
        vectors.append(session.run(["vectors"], {"ids": ids[i : i + batch]})[0])
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "vector": vectors[0][0].tolist()}


def main():
    # What the library itself prints must not come between the answers.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(reply):
        out.write(json.dumps(reply) + "\n")
        out.flush()

    try:
        session = load(json.loads(sys.stdin.readline()))
        say({"name": "onnxruntime %s" % onnxruntime.__version__})
        for line in sys.stdin:
            say(answer(session, json.loads(line)))
    except Exception as e:  # the caller prints it
        say({"error": "%s: %s" % (type(e).__name__, e)})
        sys.exit(1)


if __name__ == "__main__":
    main()
