// The memory meter, always in sight: what the reader's cache holds, what it
// may hold, and what a cache that forgets nothing would hold.

import { bytes, count, h } from "./format.js";

export class Memory {
  constructor(element) {
    this.fill = h("i", { class: "held" });
    this.mark = h("i", { class: "budget" });
    this.bar = h("span", { class: "bar", "aria-hidden": "true" }, this.fill, this.mark);
    this.line = h("span", { class: "line" });
    this.tokens = h("span", { class: "tokens" });
    this.more = h("dl", { class: "more", id: "memory-more", hidden: true });
    this.button = h("button", {
      type: "button", class: "meter", "aria-expanded": "false", "aria-controls": "memory-more",
      onclick: () => this.toggle(),
    }, h("span", { class: "name" }, "Memory"), this.bar, this.line, this.tokens);
    element.append(this.more, this.button);
  }

  toggle(open = this.more.hidden) {
    this.more.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
  }

  // idle shows the cache that the next question will get.
  idle(status) {
    this.scale(0, 0, 1);
    this.line.textContent = `${status.cache.default} cache${status.cache.budget ? `, budget ${status.cache.budget}` : ""}`;
    this.tokens.textContent = "nothing held yet";
    this.explain([["Cache", "The decoder reads passages through a cache of fixed size. Ask something to see what it holds."]]);
  }

  // reading shows what was set aside for an answer on its way.
  reading(m) {
    this.scale(0, 0, 1);
    this.line.textContent = m.budget_bytes ? `${bytes(m.budget_bytes)} set aside, ${m.cache} cache` : `${m.cache} cache`;
    this.tokens.textContent = "reading…";
  }

  // show reports on an answer that has ended.
  show(m) {
    if (!m.full_cache_bytes) {
      this.scale(0, 0, 1);
      this.line.textContent = "the reader was not asked";
      this.tokens.textContent = "nothing held";
      this.explain([["Held", "0 B: no passage was close enough to the question, so nothing was read."]]);
      return;
    }
    const most = Math.max(m.full_cache_bytes, m.budget_bytes, m.held_bytes);
    this.scale(m.held_bytes / most, m.budget_bytes / most, m.full_cache_bytes / most);
    this.line.textContent = `${bytes(m.held_bytes)} held of ${bytes(m.budget_bytes)}; full cache ${bytes(m.full_cache_bytes)}`;
    this.tokens.textContent = `${m.kept_tokens} kept · ${m.absorbed_tokens} absorbed · ${m.evicted_tokens} evicted`;
    this.explain([
      ["Cache", m.cache],
      ["Held", `${bytes(m.held_bytes)} at the end of the answer`],
      ["Budget", `${bytes(m.budget_bytes)}: this answer could not have held a byte more`],
      ["Full cache", `${bytes(m.full_cache_bytes)} would remember every token`],
      ["Kept", `${count(m.kept_tokens, "token")} a head could still attend to exactly`],
      ["Absorbed", `${count(m.absorbed_tokens, "token")} merged into a state of fixed size`],
      ...(m.state_note ? [["State", m.state_note]] : []),
      ["Evicted", `${count(m.evicted_tokens, "token")} that left the cache`],
      ["Passages", m.dropped_passages ? `${count(m.dropped_passages, "passage")} found, but without room in the prompt` : "all that were found had room in the prompt"],
    ]);
  }

  explain(rows) {
    this.more.replaceChildren(...rows.flatMap(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]));
  }

  scale(held, budget, full) {
    this.fill.style.inlineSize = `${100 * held}%`;
    this.mark.style.insetInlineStart = `${100 * Math.min(budget, 1)}%`;
    this.mark.hidden = budget === 0 || budget >= 1;
    this.bar.style.setProperty("--full", `${100 * full}%`);
  }
}
