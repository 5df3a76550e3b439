"""Makes the development set of answers from documents that fetch/documents.sh has fetched.

    python3 fetch/settings.py DOCUMENTS OUT

The pages are those on which PostgreSQL's manual explains its settings. OUT/questions.jsonl asks for the default value of
each that has one worth asking for: a number of two digits or more, a value with a unit, or a word of three letters or
more; "on" and "0" would be found in any answer. OUT/pages gets the pages. Only the standard library is needed.
"""

import html
import json
import pathlib
import re
import shutil
import sys

NOTHING = {"the", "off", "none", "not", "zero", "one", "empty", "an empty string", "server", "log", "the first method", "case sensitive", "zero transactions"}


def text_of(markup):
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", markup)).split())


def main():
    documents, out = map(pathlib.Path, sys.argv[1:])
    shutil.rmtree(out, ignore_errors=True)
    (out / "pages").mkdir(parents=True)
    rows = []
    for path in sorted((documents / "postgresql-doc-15").rglob("runtime-config-*.html")):
        shutil.copy(path, out / "pages" / path.name)
        page = path.read_text(encoding="utf-8")
        for entry in re.split(r'<dt id="GUC-', page)[1:]:
            name = re.match(r'[^>]*><span class="term"><code class="varname">(\w+)</code>', entry)
            body = re.search(r"<dd>(.*?)</dd>", entry, flags=re.S)
            if not name or not body:
                continue
            found = re.search(r"The default(?: value)? is ([^.;:]*(?:\.\d[^.;:]*)?)", text_of(body.group(1)))
            if not found:
                continue
            said = re.match(r"(?:typically |usually |normally |set to )?([\w%.' -]*?)(?: \(([^)]*)\))?(?:,| which| if| unless|$| for| but| and| in )", found.group(1))
            answers = [a.strip(" '") for a in (said.groups() if said else ()) if a]
            answers += [a.split()[0] for a in answers if re.fullmatch(r"(\d{2,}|two|three|five|ten) [a-z]+", a)]
            answers = [a for a in answers if len(a.split()) <= 3 and re.fullmatch(r"\d+(\.\d+)?\s?[A-Za-z%]+|\d{2,}|\d\.\d+|[a-z_-]{3,}|[a-z]+ [a-z]+( [a-z]+)?", a) and a not in NOTHING]
            if answers:
                rows.append({"question": f"What is the default value of {name.group(1)}?", "answers": answers,
                             "source": path.name, "section": text_of(body.group(1))})
    with open(out / "questions.jsonl", "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(f"fetch: {len(rows)} questions about settings, {len(list((out / 'pages').iterdir()))} pages")


main()
