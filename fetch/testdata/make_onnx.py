"""Makes tiny.zip: the small BERT of decode/embed/testdata/tiny-embedder in ONNX, with its tokenizer.

Needs: pip install torch transformers onnx
Run:   python3 make_onnx.py
"""
import io
import pathlib
import zipfile

import torch
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
with zipfile.ZipFile("tiny.zip", "w", zipfile.ZIP_DEFLATED) as z:
    for name, content in ("tiny.onnx", out.getvalue()), ("tiny-tokenizer.json", (source / "tokenizer.json").read_bytes()):
        z.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
