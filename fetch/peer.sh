#!/bin/sh
# Builds what `api bench --peer` compares with, in a Python environment of its own under assets/peer/ (LESSRAG_ASSETS
# names another place): llama.cpp as llama-cpp-python from its source package, onnxruntime, the reader's weights
# requantised to Q4_0 and the embedder as an ONNX model. Every package is pinned by version and SHA-256 in
# peer/requirements.txt. The compiler optimises for this machine's processor. It takes some ten minutes on two cores,
# once; when all is there it does nothing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
requirements=${LESSRAG_PEER_REQUIREMENTS:-$here/peer/requirements.txt}
assets=${LESSRAG_ASSETS:-$(dirname "$here")/assets}
peer=$assets/peer
reader=$assets/models/SmolLM2-135M-Instruct.Q4_1.gguf
embedder=$assets/embedders/all-MiniLM-L6-v2
requantised=$peer/SmolLM2-135M-Instruct.Q4_0.gguf
exported=$peer/all-MiniLM-L6-v2.onnx

fail() {
	printf 'peer: %s\n' "$1" >&2
	exit 1
}

[ -r "$requirements" ] || fail "cannot read $requirements."
pinned="$(cksum <"$requirements") $(uname -sm)"
if [ -f "$peer/.built" ] && [ "$(cat "$peer/.built")" = "$pinned" ] && [ -s "$requantised" ] && [ -s "$exported" ] && [ -x "$peer/venv/bin/python" ]; then
	exit 0
fi

[ -s "$reader" ] && [ -s "$embedder/model.safetensors" ] || fail "the models are missing; run make fetch first."
command -v python3 >/dev/null 2>&1 || fail "python3 is needed; install it (apt install python3-venv)."
python3 -c 'import ensurepip, venv' 2>/dev/null || fail "python3 has no venv; install it (apt install python3-venv)."
for tool in cc c++; do
	command -v "$tool" >/dev/null 2>&1 || fail "$tool is needed to build llama.cpp; install it (apt install build-essential)."
done
mkdir -p "$peer" 2>/dev/null || fail "cannot make the directory $peer."

log=$peer/build.log
: >"$log"
pip() {
	"$peer/venv/bin/python" -m pip --disable-pip-version-check --no-input "$@" >>"$log" 2>&1 ||
		fail "pip failed: $(grep -i '^ *error' "$log" | tail -n 1 | sed 's/^ *ERROR: //') All of it is in $log."
}

# The tools of the build come first, with everything else that is ready; then the source package is built by them.
echo "peer: downloading tools and libraries (250 MB)"
rm -rf "$peer/venv" "$peer/.built"
python3 -m venv "$peer/venv" >>"$log" 2>&1 || fail "cannot make a Python environment; see $log."
sed '/^llama-cpp-python==/,$d' "$requirements" >"$peer/ready.txt"
sed -n '/^llama-cpp-python==/,$p' "$requirements" >"$peer/source.txt"
pip install --no-deps --only-binary=:all: --require-hashes --requirement "$peer/ready.txt"
echo "peer: building llama.cpp (some ten minutes)"
# GCC 12 takes what llama.cpp writes into its configuration of AMX tiles for dead stores, and the processor faults at it.
stores="-fno-dse -fno-tree-dse"
c++ $stores -fsyntax-only -x c++ /dev/null 2>/dev/null || stores=
PATH="$peer/venv/bin:$PATH" CXXFLAGS="${CXXFLAGS:-} $stores" pip install --no-deps --no-build-isolation --no-cache-dir --require-hashes --requirement "$peer/source.txt"

echo "peer: preparing the models"
"$peer/venv/bin/python" "$here/peer/requantise.py" "$reader" "$requantised.part" >>"$log" 2>&1 || fail "cannot requantise the reader; see $log."
mv "$requantised.part" "$requantised"
"$peer/venv/bin/python" "$here/peer/minilm_onnx.py" "$embedder" "$exported.part" >>"$log" 2>&1 || fail "cannot write the embedder as ONNX; see $log."
mv "$exported.part" "$exported"
rm -f "$peer/ready.txt" "$peer/source.txt"
printf '%s\n' "$pinned" >"$peer/.built"
echo "peer: done"
