"""Turns a BERT encoder in ONNX into a directory that the program reads as an embedder.

    python3 fetch/onnx_bert.py ARCHIVE NAME OUT

ARCHIVE is a zip file that holds NAME.onnx and NAME-tokenizer.json.

The weights go to OUT/model.safetensors under the names of transformers' BertModel. An exporter keeps the names of
biases and embeddings and renames the matrices, so each matrix is told by the bias that is added to its product.
Matrices of 8-bit codes, as onnxruntime's dynamic quantisation writes them, become numbers again: (code - zero point) * scale.
ONNX is a protobuf, of which only the few fields that matter are read: nothing but the standard library is needed.
"""

import json
import pathlib
import re
import struct
import sys
import zipfile
from array import array


def fields(message):
    """Yields (number, value) of a protobuf message: integers of varints, memoryviews of the rest."""
    at, end = 0, len(message)

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < end:
        key = varint()
        number, wire = key >> 3, key & 7
        if wire == 0:
            yield number, varint()
            continue
        size = {1: 8, 5: 4}.get(wire) or (varint() if wire == 2 else sys.exit("the model is no ONNX file"))
        yield number, message[at : at + size]
        at += size


def text(value):
    return bytes(value).decode()


def integers(number, message):
    """A repeated integer, packed or not."""
    found = []
    for n, value in fields(message):
        if n == number and isinstance(value, int):
            found.append(value)
        elif n == number:
            shift = last = 0
            for byte in value:
                last |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    found.append(last)
                    shift = last = 0
    return found


FLOAT, UINT8, INT8 = 1, 2, 3  # TensorProto.DataType


def content(message):
    """The bytes of a tensor: raw, or numbers in a field of their own; None of a type that no weight has."""
    parts = dict(fields(message))
    if parts.get(2) not in (FLOAT, UINT8, INT8):
        return None
    if 9 in parts:
        return bytes(parts[9])
    if parts[2] == FLOAT:
        return bytes(parts.get(4, b""))
    return bytes(code % 256 for code in integers(5, message))


def read(model):
    """Returns the tensors of a model, {name: (shape, bytes)} of floats and {name: (shape, bytes, signed)} of codes, and its nodes, [(operator, inputs, outputs)]."""
    graph = next(v for n, v in fields(memoryview(model)) if n == 7)
    tensors, codes, nodes = {}, {}, []
    for number, value in fields(graph):
        if number == 1:
            parts = list(fields(value))
            nodes.append((text(next(v for n, v in parts if n == 4)), [text(v) for n, v in parts if n == 1], [text(v) for n, v in parts if n == 2]))
        elif number == 5 and content(value):
            parts = dict(fields(value))
            if parts[2] == FLOAT:
                tensors[text(parts[8])] = (integers(1, value), content(value))
            else:
                codes[text(parts[8])] = (integers(1, value), content(value), parts[2] == INT8)
    return tensors, codes, nodes


QUANTIZED = "_quantized"


def decode(name, tensors, codes):
    """The floats of a matrix of codes, which have one scale, or one for each of its columns."""
    (rows, columns), data, signed = codes[name]
    base = name[: -len(QUANTIZED)]
    scales, zeros = array("f", tensors[base + "_scale"][1]), codes[base + "_zero_point"][1]
    value = [code - 256 if signed and code > 127 else code for code in range(256)]
    decoded = array("f", bytes(4 * rows * columns))
    if len(scales) == 1:
        table = [(v - value[zeros[0]]) * scales[0] for v in value]
        decoded = array("f", map(table.__getitem__, data))
    else:
        for c in range(columns):
            table = [(v - value[zeros[c]]) * scales[c] for v in value]
            decoded[c::columns] = array("f", map(table.__getitem__, data[c::columns]))
    return [rows, columns], decoded.tobytes()


def floats(tensors, codes, nodes):
    """All weights as floats, and the nodes as if no matrix had been quantised."""
    tensors, products = dict(tensors), []
    for operator, inputs, outputs in nodes:
        if operator == "Gather" and inputs[0].endswith(QUANTIZED) and inputs[0] in codes:
            tensors[inputs[0].removesuffix(QUANTIZED)] = decode(inputs[0], tensors, codes)
        elif operator == "MatMulInteger" and inputs[1] in codes:
            tensors[inputs[1]] = decode(inputs[1], tensors, codes)
            products.append(("MatMul", inputs, [outputs[0].removesuffix("_output_quantized")]))
    return tensors, nodes + products


def transposed(shape, data):
    rows, columns = shape
    values = array("f", data)
    turned = array("f")
    for c in range(columns):
        turned.extend(values[c::columns])
    return [columns, rows], turned.tobytes()


def weights(tensors, nodes):
    """The tensors of transformers' BertModel. A matrix stands in ONNX as [in, out], there as [out, in]."""
    product = {outputs[0]: inputs[1] for operator, inputs, outputs in nodes if operator == "MatMul"}
    named = {name: t for name, t in tensors.items() if re.match(r"(embeddings|encoder\.layer)\..*(weight|bias)$", name)}
    for operator, inputs, _ in nodes:
        biases = [i for i in inputs if i.endswith(".bias") and i in tensors]
        matrices = [product[i] for i in inputs if product.get(i) in tensors]
        if operator == "Add" and len(biases) == 1 and len(matrices) == 1:
            named[biases[0][: -len("bias")] + "weight"] = transposed(*tensors[matrices[0]])
    return named


def write(path, named):
    header, at = {}, 0
    for name in sorted(named):
        shape, data = named[name]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head)
        for name in sorted(named):
            f.write(named[name][1])


def configuration(named, settings):
    words, hidden = named["embeddings.word_embeddings.weight"][0]
    return {"model_type": "bert", "hidden_act": "gelu", "vocab_size": words, "hidden_size": hidden,
            "intermediate_size": named["encoder.layer.0.intermediate.dense.weight"][0][0],
            "num_attention_heads": settings["heads"], "layer_norm_eps": settings["epsilon"],
            "num_hidden_layers": sum(name.endswith(".output.LayerNorm.weight") and "attention" not in name for name in named),
            "max_position_embeddings": named["embeddings.position_embeddings.weight"][0][0],
            "type_vocab_size": named["embeddings.token_type_embeddings.weight"][0][0]}


def convert(model, tokenizer, out, settings):
    """model and tokenizer are the content of files. settings: heads, epsilon, pooling (mean or cls), tokens (of a text that are read), prompts (put before questions and passages)."""
    named = weights(*floats(*read(model)))
    if sum(len(shape) == 2 for shape, _ in named.values()) != 3 + 6 * configuration(named, settings)["num_hidden_layers"]:
        sys.exit("the model is no BERT encoder, or its exporter names things in another way")
    (out / "1_Pooling").mkdir(parents=True)
    write(out / "model.safetensors", named)
    (out / "tokenizer.json").write_bytes(tokenizer)
    for name, content in [
        ("config.json", configuration(named, settings)),
        ("1_Pooling/config.json", {f"pooling_mode_{settings['pooling']}{'_token' if settings['pooling'] == 'cls' else '_tokens'}": True}),
        ("sentence_bert_config.json", {"max_seq_length": settings["tokens"]}),
        ("config_sentence_transformers.json", {"prompts": settings["prompts"]}),
    ]:
        (out / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


SETTINGS = {
    # As BAAI's model card says: the vector of [CLS], and this before a question but not before a passage.
    "bge-small-en-v1.5": {"heads": 12, "epsilon": 1e-12, "pooling": "cls", "tokens": 512,
                          "prompts": {"query": "Represent this sentence for searching relevant passages: "}},
    # As intfloat's says: the mean, and a word before both.
    "e5-small-v2-q": {"heads": 12, "epsilon": 1e-12, "pooling": "mean", "tokens": 512, "prompts": {"query": "query: ", "passage": "passage: "}},
}

if __name__ == "__main__":
    archive, name, out = sys.argv[1:]
    with zipfile.ZipFile(archive) as z:
        convert(z.read(name + ".onnx"), z.read(name + "-tokenizer.json"), pathlib.Path(out), SETTINGS.get(name, SETTINGS["bge-small-en-v1.5"]))
