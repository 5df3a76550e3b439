// Markdown that may come from anyone: rendered first, then cleaned, so that
// nothing the renderer lets through gets into the page.

import { Marked } from "../vendor/marked.esm.js";
import "../vendor/purify.min.js";

const purify = globalThis.DOMPurify;
const marked = new Marked({ gfm: true, breaks: false, async: false });

const rules = {
  ALLOWED_TAGS: ["p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code",
    "em", "strong", "del", "sub", "sup", "a", "table", "thead", "tbody", "tr", "th", "td"],
  ALLOWED_ATTR: ["href", "start", "align"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

// An image is never loaded: it could carry the conversation out. A link to it
// takes its place, and is cleaned after it like any other.
purify.addHook("uponSanitizeElement", (node) => {
  if (node.nodeName !== "IMG") return;
  const link = node.ownerDocument.createElement("a");
  link.setAttribute("href", node.getAttribute("src") ?? "");
  link.textContent = `image: ${node.getAttribute("alt") || node.getAttribute("src") || "unnamed"}`;
  node.after(link);
});

purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName !== "A") return;
  if (!node.hasAttribute("href")) return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer nofollow");
});

// clean turns HTML into nodes that are safe to show.
function clean(html) {
  return purify.sanitize(html, rules);
}

// Prose shows growing Markdown in an element. Blocks that have not changed
// since the last time are left alone, so a frame costs what the last block
// costs, however long the text is.
export class Prose {
  #blocks = []; // {raw, node}
  #frame = 0;
  #text = "";
  #decorate;

  constructor(element, decorate) {
    this.element = element;
    this.#decorate = decorate;
  }

  // set shows text at the next animation frame; several calls make one drawing.
  set(text) {
    this.#text = text;
    this.#frame ||= requestAnimationFrame(() => this.draw());
  }

  draw(all = false) {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const tokens = marked.lexer(this.#text).filter((t) => t.type !== "space");
    let same = 0;
    while (!all && same < tokens.length && this.#blocks[same]?.raw === tokens[same].raw) same++;
    for (const { node } of this.#blocks.splice(same)) node.remove();
    for (const token of tokens.slice(same)) {
      const node = document.createElement("div");
      node.className = "block";
      node.append(clean(marked.parser([token])));
      this.#decorate?.(node);
      this.#blocks.push({ raw: token.raw, node });
      this.element.append(node);
    }
  }
}
