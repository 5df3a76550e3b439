"""Writes all-MiniLM-L6-v2 as an ONNX model, from the safetensors that `make fetch` has laid out.

usage: python minilm_onnx.py DIRECTORY OUT.onnx

Needs onnx and numpy. The graph is the one that onnxruntime's own optimiser makes of an exported BERT: fused attention,
fused residual normalisation, fused GELU, so that the comparison is with onnxruntime at its best. Texts of a batch have
one length, so there is no mask. The output is the unit vector of the mean of the last hidden states.
"""

import json
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FUSED = "com.microsoft"


def read_safetensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.read()
    header.pop("__metadata__", None)
    tensors = {}
    for name, t in header.items():
        if t["dtype"] == "F32":
            start, end = t["data_offsets"]
            tensors[name] = np.frombuffer(data[start:end], "<f4").reshape(t["shape"])
    return tensors


class Graph:
    def __init__(self, weights):
        self.weights, self.nodes, self.constants = weights, [], []

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(self, name):
        return self.constant(name, self.weights[name])

    def node(self, op, inputs, output, domain="", **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def residual(self, at, x, y, bias, epsilon):
        """LayerNorm(x + y + bias)."""
        inputs = [y, x, self.weight(at + ".weight"), self.weight(at + ".bias"), self.weight(bias)]
        return self.node("SkipLayerNormalization", inputs, at + ".out", FUSED, epsilon=epsilon)

    def product(self, at, x):
        """x · Wᵀ; the bias is added by what comes next."""
        return self.node("MatMul", [x, self.constant(at + ".transposed", self.weights[at + ".weight"].T)], at + ".product")

    def layer(self, at, x, config):
        epsilon, own = config["layer_norm_eps"], at + "attention.self."
        parts = [own + p for p in ("query", "key", "value")]
        weight = self.constant(own + "weight", np.concatenate([self.weights[p + ".weight"].T for p in parts], axis=1))
        bias = self.constant(own + "bias", np.concatenate([self.weights[p + ".bias"] for p in parts]))
        y = self.node("Attention", [x, weight, bias], own + "out", FUSED, num_heads=config["num_attention_heads"])
        y = self.product(at + "attention.output.dense", y)
        x = self.residual(at + "attention.output.LayerNorm", x, y, at + "attention.output.dense.bias", epsilon)
        y = self.product(at + "intermediate.dense", x)
        y = self.node("BiasGelu", [y, self.weight(at + "intermediate.dense.bias")], at + "intermediate.out", FUSED)
        y = self.product(at + "output.dense", y)
        return self.residual(at + "output.LayerNorm", x, y, at + "output.dense.bias", epsilon)

    def encoder(self, config):
        words = self.node("Gather", [self.weight("embeddings.word_embeddings.weight"), "ids"], "words")
        length = self.node("Slice", [self.node("Shape", ["ids"], "shape"), self.constant("one", np.array([1])), self.constant("two", np.array([2]))], "length")
        start = self.constant("zero", np.array([0]))
        positions = self.weights["embeddings.position_embeddings.weight"] + self.weights["embeddings.token_type_embeddings.weight"][0]
        x = self.node("Add", [words, self.node("Slice", [self.constant("positions", positions), start, length], "placed")], "summed")
        norm = [self.weight("embeddings.LayerNorm.weight"), self.weight("embeddings.LayerNorm.bias")]
        x = self.node("LayerNormalization", [x] + norm, "embedded", epsilon=config["layer_norm_eps"])
        for i in range(config["num_hidden_layers"]):
            x = self.layer("encoder.layer.%d." % i, x, config)
        mean = self.node("ReduceMean", [x, "one"], "mean", keepdims=0)
        return self.node("LpNormalization", [mean], "vectors", axis=1, p=2)


def main(directory, out):
    with open(os.path.join(directory, "config.json")) as f:
        config = json.load(f)
    graph = Graph(read_safetensors(os.path.join(directory, "model.safetensors")))
    graph.encoder(config)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "all-MiniLM-L6-v2",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, ["texts", "tokens"])],
            [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["texts", config["hidden_size"]])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(FUSED, 1)],
        ir_version=9,
    )
    onnx.save(model, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
