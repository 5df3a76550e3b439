"""Makes tiny.zip: the small BERT of decode/embed/testdata/tiny-embedder in ONNX, with its tokenizer; and tiny-q.zip, the same in 8-bit codes.

Needs: pip install torch transformers onnx onnxruntime
Run:   python3 make_onnx.py
"""
import io
import pathlib
import tempfile
import zipfile

import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import BertModel

source = pathlib.Path("../../decode/embed/testdata/tiny-embedder")
model = BertModel.from_pretrained(source, attn_implementation="eager", dtype=torch.float32, add_pooling_layer=False).eval()


class States(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.embeddings, self.encoder = model.embeddings, model.encoder

    def forward(self, ids, types):
        return self.encoder(self.embeddings(input_ids=ids, token_type_ids=types)).last_hidden_state


out = io.BytesIO()
ids = torch.ones(1, 7, dtype=torch.long)
torch.onnx.export(States(model), (ids, ids * 0), out, dynamo=False, input_names=["ids", "types"], dynamic_axes={"ids": {1: "n"}, "types": {1: "n"}})
tokenizer = (source / "tokenizer.json").read_bytes()


def pack(name, model):
    with zipfile.ZipFile(name + ".zip", "w", zipfile.ZIP_DEFLATED) as z:
        for file, content in (name + ".onnx", model), (name + "-tokenizer.json", tokenizer):
            z.writestr(zipfile.ZipInfo(file), content, zipfile.ZIP_DEFLATED)


pack("tiny", out.getvalue())
with tempfile.TemporaryDirectory() as d:
    floats, codes = pathlib.Path(d, "floats.onnx"), pathlib.Path(d, "codes.onnx")
    floats.write_bytes(out.getvalue())
    quantize_dynamic(floats, codes, per_channel=True, weight_type=QuantType.QInt8)
    pack("tiny-q", codes.read_bytes())
