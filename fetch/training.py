"""Takes the documentation out of the archives of training.txt.

usage: python3 training.py ARCHIVES OUT

Only the standard library is used. Pages that are lists of links, changes of old versions or too short to
learn from are left out; reStructuredText is named .txt, as `api train` reads it.
"""

import glob
import os
import sys
import tarfile

# directory: archive, folder inside, ending, least bytes, what a path must not contain
SOURCES = {
    "sqlalchemy": ("sqlalchemy-*", "doc/", ".html", 8193, ("genindex", "search", "/changelog")),
    "django": ("[Dd]jango-*", "docs/", ".txt", 4097, ("releases",)),
    "twisted": ("[Tt]wisted-*", "docs/", ".rst", 3073, ()),
    "mercurial": ("mercurial-*", "mercurial/helptext/", ".txt", 0, ("/internals/",)),
}


def unpack(archive, out, folder, ending, least, without):
    taken = 0
    for member in archive:
        inside = member.name.partition("/")[2]
        if not member.isfile() or not inside.startswith(folder) or not inside.endswith(ending) or member.size < least:
            continue
        name = inside[len(folder):]
        if any(part in "/" + name for part in without):
            continue
        path = os.path.normpath(os.path.join(out, os.path.splitext(name)[0] + (".txt" if ending == ".rst" else ending)))
        if not path.startswith(os.path.normpath(out) + os.sep):
            sys.exit("the archive holds a file outside of itself: " + member.name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as target:
            target.write(archive.extractfile(member).read())
        taken += 1
    if not taken:
        sys.exit("the archive holds no documentation: " + archive.name)


def main(archives, out):
    for directory, (pattern, *selection) in SOURCES.items():
        found = glob.glob(os.path.join(archives, pattern))
        if len(found) != 1:
            sys.exit("%d archives of %s were downloaded" % (len(found), directory))
        with tarfile.open(found[0]) as archive:
            unpack(archive, os.path.join(out, directory), *selection)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (OSError, tarfile.TarError) as e:
        sys.exit(str(e))
