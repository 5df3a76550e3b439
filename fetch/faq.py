"""Makes the development set of retrieval from documents that fetch/documents.sh has fetched.

    python3 fetch/faq.py DOCUMENTS OUT

The questions are the headings of two FAQs, Python's and Debian's. OUT/pages gets every HTML page of the two packages,
the FAQs without those headings and without the lists of contents that repeat them: where a heading says the question
in its own words, retrieval is trivial. OUT/questions.jsonl gets, for each question, the page that answers it and the
beginning of its section, by which a passage is told to be the right one. Only the standard library is needed.
"""

import html
import json
import pathlib
import re
import shutil
import sys

SECTION_WORDS = 4000  # of a section's text that are kept: none is longer


def text_of(markup):
    markup = re.sub(r"<(script|style)\b.*?</\1>", " ", markup, flags=re.S)
    # A tag inside a word ends no word; one that begins a block does.
    markup = re.sub(r"</?(p|div|li|ul|ol|pre|dt|dd|dl|h\d|tr|td|th|table|br|section|nav)\b[^>]*>", " ", markup)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", markup)).split())


def sections(page, heading, number):
    """Yields (start, end, question, body): a heading's span, its text, and the markup up to the next heading."""
    found = list(re.finditer(heading, page, flags=re.S))
    for i, match in enumerate(found):
        question = re.sub(number, "", text_of(match.group(0))).replace("¶", "").strip()
        end = found[i + 1].start() if i + 1 < len(found) else len(page)
        yield match.start(), match.end(), question, page[match.end() : end]


def main():
    documents, out = map(pathlib.Path, sys.argv[1:3])
    shutil.rmtree(out, ignore_errors=True)
    pages = out / "pages"
    shutil.copytree(documents / "python3.11-doc/python3.11/html", pages / "python", symlinks=False,
                    ignore=lambda d, names: [n for n in names if not (pathlib.Path(d, n).is_dir() or n.endswith(".html"))],
                    ignore_dangling_symlinks=True)
    (pages / "debian").mkdir()
    for page in sorted((documents / "debian-faq/debian/FAQ").glob("*.en.html")):
        shutil.copy(page, pages / "debian" / page.name)
    for directory in sorted(pages.rglob("*"), reverse=True):
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()

    rows = []
    for where, names, heading, number, contents, end in [
        ("python", "faq/*.html", r"<h[23]>.*?</h[23]>", r"^$", r'<nav class="contents".*?</nav>|<div class="sphinxsidebar".*?(?=<div class="clearer")', '<div class="clearer"'),
        ("debian", "*.html", r'<h[23] class="title".*?</h[23]>', r"^[\d.]+\s*", r'<div class="toc".*?</div>|<div class="nav(?:header|footer)".*?</div>', '<div class="navfooter"'),
    ]:
        for path in sorted((pages / where).glob(names)):
            page = re.sub(contents, "", path.read_text(encoding="utf-8"), flags=re.S)
            kept, last = [], 0
            for start, stop, question, body in sections(page, heading, number):
                body = text_of(body.split(end)[0])
                # One that is no question heads a group of them. One left in place would stand over what follows it.
                if not question.endswith("?") and not question.startswith(("How ", "Why ")):
                    continue
                kept.append(page[last:start])
                last = stop
                if not question.endswith("?") or len(body.split()) < 8:
                    continue  # no question, or one without an answer
                rows.append({"question": question, "answers": [], "source": str(path.relative_to(pages)),
                             "section": " ".join(body.split()[:SECTION_WORDS])})
            path.write_text("".join(kept) + page[last:], encoding="utf-8")
    with open(out / "questions.jsonl", "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
    by = {w: sum(r["source"].startswith(w) for r in rows) for w in ("python", "debian")}
    print(f"fetch: {by['python']} questions of Python's FAQ, {by['debian']} of Debian's, {sum(1 for _ in pages.rglob('*.html'))} pages")


main()
