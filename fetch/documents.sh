#!/bin/sh
# Fetches documentation that evaluation and training read, from Debian's packages into assets/documents/PACKAGE
# (LESSRAG_ASSETS names another place). Nothing of a package is installed or executed: its /usr/share/doc is unpacked.
# apt checks every package against Debian's signed lists; VERSION beside the files says which one it was.
# A package that is there already is left alone.
#
#   sh fetch/documents.sh PACKAGE…
set -eu
umask 022

here=$(cd "$(dirname "$0")" && pwd)
assets=${LESSRAG_ASSETS:-$(dirname "$here")/assets}

fail() {
	printf 'fetch: %s\n' "$1" >&2
	exit 1
}

[ $# -gt 0 ] || fail "name the packages whose documents are wanted."
missing=
for package in "$@"; do
	[ -s "$assets/documents/$package/VERSION" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
for tool in apt-get dpkg-deb; do
	command -v $tool >/dev/null 2>&1 || fail "$tool is needed: these documents come from Debian's packages; run this on Debian or Ubuntu, or put them into $assets/documents by hand."
done

mkdir -p "$assets/documents" 2>/dev/null || fail "cannot make the directory $assets/documents."
work=$(mktemp -d "$assets/documents/.fetch.XXXXXX") || fail "cannot make a directory in $assets/documents."
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
for package in $missing; do
	echo "fetch: $package"
	mkdir -p "$work/$package/deb" "$work/$package/files"
	# As root, apt downloads as another user, who must be able to write here.
	chmod 755 "$work" "$work/$package" && chmod 777 "$work/$package/deb"
	(cd "$work/$package/deb" && apt-get -qq download "$package") 2>"$work/errors" ||
		fail "cannot download $package: $(grep '^E:' "$work/errors" | head -n 1); if apt does not know it, run apt-get update first."
	set -- "$work/$package/deb/"*.deb
	dpkg-deb -x "$1" "$work/$package/files" || fail "cannot unpack $package."
	mv "$work/$package/files/usr/share/doc" "$work/$package/doc"
	dpkg-deb -f "$1" Version >"$work/$package/doc/VERSION"
	rm -rf "$assets/documents/$package"
	mv "$work/$package/doc" "$assets/documents/$package"
	rm -rf "${work:?}/$package"
done
