// The pane beside the answer: the passages it was read from, and any of them
// in its document, highlighted.

import { documentBytes, forget } from "./api.js";
import { h, place } from "./format.js";

const around = 6000; // bytes of the document shown before and after a passage

export class Sources {
  #passages = [];
  #back = null; // where the focus returns when the reader closes
  #lay = false; // whether the pane lay over the page before the reader opened
  #title = "Sources";
  #opening = 0;

  constructor(element) {
    this.element = element;
    this.show([]);
  }

  get reading() { return this.element.classList.contains("reading"); }
  get count() { return this.#passages.length; }

  // show lists the passages of one answer; cited are the markers it used.
  show(passages, cited = new Set(), title = "Sources") {
    this.#passages = passages;
    this.#title = title;
    this.#opening++;
    this.element.classList.remove("reading");
    const head = h("div", { class: "head" },
      h("h2", {}, title),
      h("button", { type: "button", class: "plain icon close", "aria-label": "Close the sources", onclick: () => this.close() }, "×"));
    if (passages.length === 0) {
      this.element.replaceChildren(head, h("p", { class: "quiet" }, "The passages behind an answer stand here, each with its place in its document."));
      return;
    }
    this.element.replaceChildren(head, h("ol", {}, ...passages.map((p, i) => this.#entry(p, i + 1, cited))));
  }

  // mark tells the list which passages the answer has cited so far.
  mark(cited) {
    for (const entry of this.element.querySelectorAll("li[data-marker]")) {
      entry.classList.toggle("cited", cited.has(Number(entry.dataset.marker)));
    }
  }

  #entry(p, marker, cited) {
    return h("li", { "data-marker": marker, class: cited.has(marker) ? "cited" : "" },
      h("button", { type: "button", onclick: () => this.open(marker) },
        h("span", { class: "marker" }, String(marker)),
        h("span", { class: "where" },
          h("b", { title: p.document.name }, place(p.document.name)[1]),
          p.heading_path?.length ? h("span", { class: "path" }, p.heading_path.join(" › ")) : null,
          p.page ? h("span", { class: "path" }, `page ${p.page}`) : null),
        h("span", { class: "snippet" }, p.text.trim().replace(/^(#+ .*\n+)+/, "").slice(0, 220)),
        h("span", { class: "scores" }, scores(p))));
  }

  // open shows passage number marker in its document, and scrolls to it.
  async open(marker, citation = null) {
    const p = this.#passages[marker - 1];
    if (!p) return;
    const turn = ++this.#opening;
    if (!this.reading) {
      this.#back = document.activeElement;
      this.#lay = this.element.classList.contains("open");
    }
    this.reader = marker;
    const title = h("h2", { tabindex: "-1", title: p.document.name }, place(p.document.name)[1]);
    const body = h("div", { class: "text", tabindex: "0", "aria-label": `Text of ${p.document.name}` }, h("p", { class: "quiet" }, "Opening…"));
    this.element.classList.add("open", "reading");
    this.element.replaceChildren(
      h("div", { class: "head" }, title,
        h("button", { type: "button", class: "plain icon close", "aria-label": "Back to the sources", onclick: () => this.back() }, "×")),
      h("p", { class: "path" }, [`Source ${marker}`, ...(p.heading_path ?? [])].join(" › ")),
      body);
    title.focus({ preventScroll: true });
    try {
      let bytes = await documentBytes(p.document_id);
      if (!locate(bytes, p)) { // it may be a version read earlier
        forget(p.document_id);
        bytes = await documentBytes(p.document_id);
      }
      if (turn !== this.#opening) return;
      this.#text(body, bytes, p, citation);
    } catch (error) {
      if (turn !== this.#opening) return;
      body.replaceChildren(h("p", { class: "quiet" }, `The document cannot be opened: ${error.message}. The passage was:`), h("p", {}, p.text));
    }
  }

  #text(body, bytes, p, citation) {
    const found = locate(bytes, p);
    if (!found) {
      body.replaceChildren(h("p", { class: "quiet" }, "The document has changed since, and the passage is no longer in it. It was:"), h("p", {}, p.text));
      return;
    }
    const [start, end] = found;
    const from = edge(bytes, Math.max(0, start - around)), to = edge(bytes, Math.min(bytes.length, end + around));
    const text = (a, b) => new TextDecoder().decode(bytes.subarray(a, b));
    const passage = h("mark", { class: "passage" });
    if (citation && citation.quote_start >= start && citation.quote_end <= end && citation.quote_end > citation.quote_start) {
      passage.append(text(start, citation.quote_start),
        h("mark", { class: "quote" }, text(citation.quote_start, citation.quote_end)),
        text(citation.quote_end, end));
    } else {
      passage.append(text(start, end));
    }
    body.replaceChildren(from > 0 ? "… " : "", text(from, start), passage, text(end, to), to < bytes.length ? " …" : "");
    const target = passage.querySelector(".quote") ?? passage;
    body.scrollTop = Math.max(0, target.offsetTop - body.offsetTop - 48);
  }

  // back leaves the document for where it was opened from.
  back() {
    this.show(this.#passages, this.cited?.() ?? new Set(), this.#title);
    this.element.classList.toggle("open", this.#lay);
    const from = this.#back?.isConnected ? this.#back : this.element.querySelector(`li[data-marker="${this.reader}"] button`);
    from?.focus({ preventScroll: true });
    this.#back = null;
  }

  // reveal and close matter where the pane lies over the page.
  reveal() {
    this.element.classList.add("open");
    this.element.querySelector("button")?.focus();
  }

  close() {
    if (this.reading) { this.back(); return; }
    this.element.classList.remove("open");
  }
}

// scores tells why a passage was found.
function scores(p) {
  const parts = [];
  if (p.similarity) parts.push(`similarity ${p.similarity.toFixed(2)}`);
  if (p.ranks?.vector) parts.push(`meaning #${p.ranks.vector}`);
  if (p.ranks?.lexical) parts.push(`words #${p.ranks.lexical}`);
  return parts.join(" · ");
}

// locate returns the passage's bytes in its document, or null when they do
// not hold its text: then nothing may be highlighted.
export function locate(bytes, p) {
  if (!(p.start >= 0 && p.start < p.end && p.end <= bytes.length)) return null;
  const squeeze = (s) => s.replace(/\s+/g, " ").trim();
  const there = squeeze(new TextDecoder().decode(bytes.subarray(p.start, p.end)));
  return there !== "" && squeeze(p.text).includes(there) ? [p.start, p.end] : null;
}

// edge moves a place to where a character of UTF-8 begins.
function edge(bytes, at) {
  while (at > 0 && at < bytes.length && (bytes[at] & 0xc0) === 0x80) at--;
  return at;
}
