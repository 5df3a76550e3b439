// One question and its answer.

import { count, h, seconds } from "./format.js";
import { Prose } from "./markdown.js";

export class Turn {
  text = "";
  passages = [];
  citations = [];
  report = null;
  run = null;
  finish = "";

  // on has cite(turn, marker), sources(turn) and again(question).
  constructor(question, on) {
    this.question = question;
    this.on = on;
    this.body = h("div", { class: "prose" });
    this.wait = h("p", { class: "wait" }, "Searching the documents");
    this.foot = h("footer", { class: "foot" });
    this.element = h("article", { class: "turn", "aria-busy": "true" },
      h("h2", { class: "asked" }, question), this.wait, this.body, this.foot);
    this.prose = new Prose(this.body, (block) => this.#chips(block));
  }

  get cited() { return new Set(this.citations.map((c) => c.marker)); }

  // apply takes one event of the run. It returns what to announce, if anything.
  apply({ name, data }) {
    switch (name) {
      case "retrieval":
        this.run = data.run_id;
        this.passages = data.passages;
        this.wait.textContent = `Reading ${count(data.passages.length, "passage")}`;
        return `Found ${count(data.passages.length, "passage")}. Reading.`;
      case "delta":
        this.wait.hidden = true;
        this.text += data.text;
        this.prose.set(this.text);
        return null;
      case "citation":
        this.citations.push(data);
        this.prose.draw(true); // a marker that was text is a chip now
        return null;
      case "usage":
        this.report = data;
        return null;
      case "error":
        this.end("error", data.message);
        return `The answer failed: ${data.message}`;
      case "done":
        this.end(data.finish_reason);
        return { stop: "The answer is complete.", length: "The answer reached its longest length.", refused: "Nothing relevant was found.",
          cancelled: "Stopped." }[data.finish_reason] ?? "Done.";
    }
    return null;
  }

  // restore shows a stored run.
  restore(record) {
    this.run = record.run_id;
    this.text = record.answer;
    this.passages = record.passages;
    this.citations = record.citations;
    this.report = record;
    this.end(record.finish_reason, record.error?.message);
  }

  // end shows how the answer ended.
  end(reason, message = "") {
    this.finish = reason;
    this.wait.hidden = true;
    this.element.removeAttribute("aria-busy");
    this.element.classList.toggle("refused", reason === "refused");
    this.prose.set(this.text);
    this.prose.draw(true);
    const notes = {
      error: message || "The answer failed.",
      cancelled: this.text ? "Stopped. What was said is kept." : "Stopped before the first word.",
      length: "Cut at the longest length that was asked for.",
    };
    this.foot.replaceChildren(
      notes[reason] ? h("p", { class: reason === "error" ? "note failed" : "note" }, notes[reason]) : "",
      this.#quote(),
      this.#timing(reason),
      h("p", { class: "actions" },
        this.passages.length ? h("button", { type: "button", class: "plain", onclick: () => this.on.sources(this) }, reason === "refused" ? "Nearest passages" : `Sources (${this.passages.length})`) : null,
        this.text ? h("button", { type: "button", class: "plain", onclick: (e) => this.#copy(e.currentTarget, false) }, "Copy") : null,
        this.citations.length ? h("button", { type: "button", class: "plain", onclick: (e) => this.#copy(e.currentTarget, true) }, "Copy with sources") : null,
        h("button", { type: "button", class: "plain", onclick: () => this.on.again(this.question) }, "Ask again")));
  }

  // #quote is what the first citation quotes, word for word.
  #quote() {
    const first = this.citations[0];
    if (!first?.quote) return "";
    return h("blockquote", { class: "quote" }, first.quote, " ", this.#chip(first.marker));
  }

  #timing(reason) {
    const r = this.report;
    if (!r || reason === "refused" || !r.usage?.completion_tokens) {
      return r?.timing?.retrieval_ms ? h("p", { class: "timing" }, `searched in ${seconds(r.timing.retrieval_ms)}`) : "";
    }
    const t = r.timing;
    return h("p", { class: "timing" }, [
      `first token ${seconds(t.ttft_ms)}`,
      t.tokens_per_second ? `${t.tokens_per_second.toFixed(t.tokens_per_second < 10 ? 1 : 0)} tokens/s` : null,
      `read ${count(r.usage.prompt_tokens, "token")}, wrote ${r.usage.completion_tokens.toLocaleString("en")}`,
    ].filter(Boolean).join(" · "));
  }

  // #chips makes buttons of the markers that the server has confirmed. What
  // looks like one in code, or after a name as in a[1], is text.
  #chips(block) {
    const cited = this.cited;
    if (cited.size === 0) return;
    const walker = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
    const texts = [];
    while (walker.nextNode()) if (!walker.currentNode.parentElement.closest("code, pre, a")) texts.push(walker.currentNode);
    for (const text of texts) {
      const parts = text.data.split(/(?<![\p{L}\p{N}_)\]])(\[\d{1,2}\])|(?<=\])(\[\d{1,2}\])/u).filter((s) => s !== undefined && s !== "");
      if (parts.length < 2 && !/^\[\d+\]$/.test(text.data)) continue;
      text.replaceWith(...parts.map((part) => {
        const marker = /^\[(\d+)\]$/.exec(part)?.[1];
        return marker && cited.has(Number(marker)) ? this.#chip(Number(marker)) : part;
      }));
    }
  }

  #chip(marker) {
    const p = this.passages[marker - 1];
    return h("button", {
      type: "button", class: "chip", "data-marker": marker, title: p?.document.name,
      "aria-label": `Source ${marker}: ${p?.document.name ?? ""}`, onclick: (e) => this.on.cite(this, marker, this.#nearest(e.currentTarget, marker)),
    }, String(marker));
  }

  // #nearest is the citation that a chip stands for: of several with its
  // marker, the chip's turn in the text decides.
  #nearest(chip, marker) {
    const same = this.citations.filter((c) => c.marker === marker);
    const chips = [...this.body.querySelectorAll(`.chip[data-marker="${marker}"]`)];
    return same[Math.min(Math.max(chips.indexOf(chip), 0), same.length - 1)] ?? null; // the chip of the quote stands for the first
  }

  async #copy(button, withSources) {
    let text = this.text;
    if (withSources) {
      text += "\n\n" + [...this.cited].sort((a, b) => a - b).map((m) => {
        const p = this.passages[m - 1];
        return `[${m}] ${[p.document.name, ...(p.heading_path ?? [])].join(" › ")}`;
      }).join("\n");
    }
    const name = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Cannot copy here";
    }
    setTimeout(() => { button.textContent = name; }, 1500);
  }
}
