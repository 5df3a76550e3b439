// The documents: what is there, what each is at, what went wrong; and handing
// in more, by button, by dropping or by pasting.

import { get, send, upload } from "./api.js";
import { bytes, count, h, named } from "./format.js";

const atOnce = 2; // uploads on the wire

export class Documents {
  #uploads = []; // {file, row, sent, error, done}
  #listed = [];
  #rows = new Map(); // by id: {says, row}
  #next = "";
  #poll = 0;
  #sure = new Set(); // documents whose deletion was pressed once
  #shown = false;

  // on has announce(text), changed() and collection().
  constructor(element, on) {
    this.on = on;
    this.element = element;
    this.input = h("input", { type: "file", multiple: true, class: "hidden", id: "files", onchange: () => { this.add(this.input.files); this.input.value = ""; } });
    this.drop = h("div", { class: "drop" },
      h("p", {}, h("label", { for: "files", class: "send" }, "Choose files"), h("span", {}, " or drop them anywhere on this page.")),
      h("p", { class: "quiet" }, "Markdown, plain text and HTML. Every file ends ready, or failed with its reason."),
      this.input);
    this.totals = h("p", { class: "totals", role: "status" });
    this.pending = h("ul", { class: "uploads" });
    this.list = h("ul", { class: "list" });
    this.more = h("button", { type: "button", class: "plain", hidden: true, onclick: () => this.#page() }, "Show more");
    element.append(h("div", { class: "page" }, h("h1", {}, "Documents"), this.drop, this.pending, this.totals, this.list, this.more));

    // Files dropped beside the target must not replace the page.
    for (const type of ["dragover", "drop"]) {
      window.addEventListener(type, (e) => {
        if (!e.dataTransfer?.types.includes("Files")) return;
        e.preventDefault();
        document.body.classList.toggle("dragging", type === "dragover");
        if (type === "drop") { location.hash = "#documents"; this.add(e.dataTransfer.files); }
      });
    }
    window.addEventListener("dragleave", (e) => { if (!e.relatedTarget) document.body.classList.remove("dragging"); });
    window.addEventListener("paste", (e) => { if (e.clipboardData?.files.length) { location.hash = "#documents"; this.add(e.clipboardData.files); } });
  }

  async show() {
    this.#shown = true;
    await this.refresh();
  }

  hide() {
    this.#shown = false;
    clearTimeout(this.#poll);
  }

  // add queues files for upload; they are safe as soon as they are sent.
  add(files) {
    for (const file of files) {
      const bar = h("i");
      const state = h("span", { class: "state" }, "waiting");
      const row = h("li", {}, h("span", { class: "name" }, file.name), state, h("span", { class: "bar", "aria-hidden": "true" }, bar));
      this.pending.append(row);
      this.#uploads.push({ file, row, bar, state, at: "waiting" });
    }
    this.#pump();
  }

  #pump() {
    const running = this.#uploads.filter((u) => u.at === "sending").length;
    for (const u of this.#uploads.filter((u) => u.at === "waiting").slice(0, Math.max(0, atOnce - running))) this.#send(u);
  }

  async #send(u) {
    u.at = "sending";
    u.state.textContent = "sending";
    try {
      const done = await upload(u.file, this.on.collection(), (share) => { u.bar.style.inlineSize = `${100 * share}%`; });
      u.row.remove();
      u.at = "sent";
      const [d] = done.documents;
      this.on.announce(d.duplicate ? `${u.file.name} is here already.` : `${u.file.name} was taken.`);
      this.on.changed();
      await this.refresh();
    } catch (error) {
      u.at = "failed";
      u.row.classList.add("failed");
      u.state.textContent = error.message;
      u.row.append(
        h("button", { type: "button", class: "plain", onclick: () => { u.row.classList.remove("failed"); u.row.querySelectorAll("button").forEach((b) => b.remove()); u.at = "waiting"; u.state.textContent = "waiting"; this.#pump(); } }, "Try again"),
        h("button", { type: "button", class: "plain", onclick: () => { u.row.remove(); this.#uploads = this.#uploads.filter((v) => v !== u); } }, "Dismiss"));
      this.on.announce(`${u.file.name} was not taken: ${error.message}`);
    }
    this.#pump();
  }

  // refresh reads the list again, and goes on while something is under way.
  async refresh() {
    clearTimeout(this.#poll);
    if (!this.#shown) return;
    try {
      const page = await this.#fetch("");
      this.#listed = page.documents;
      this.#next = page.next_cursor;
      this.#draw();
    } catch (error) {
      this.totals.textContent = error.status === 404 ? "" : `The list cannot be read: ${error.message}`;
      if (error.status === 404) { this.#listed = []; this.#next = ""; this.#draw(); }
    }
    if (this.#shown && this.#listed.some((d) => d.state !== "ready" && d.state !== "failed")) {
      this.#poll = setTimeout(() => this.refresh(), 700);
    }
  }

  #fetch(cursor) {
    const query = new URLSearchParams({ limit: "200" });
    if (this.on.collection()) query.set("collection", this.on.collection());
    if (cursor) query.set("cursor", cursor);
    return get(`/api/v1/documents?${query}`);
  }

  async #page() {
    const page = await this.#fetch(this.#next);
    this.#listed.push(...page.documents);
    this.#next = page.next_cursor;
    this.#draw();
  }

  #draw() {
    const by = (state) => this.#listed.filter((d) => d.state === state).length;
    const ready = by("ready"), failed = by("failed"), pending = this.#listed.length - ready - failed;
    this.totals.textContent = this.#listed.length === 0 ? "No documents in this collection yet." :
      [`${ready} ready`, failed ? `${failed} failed` : null, pending ? `${pending} under way` : null].filter(Boolean).join(" · ");
    this.more.hidden = !this.#next;
    const rank = (d) => (d.state === "ready" ? 2 : d.state === "failed" ? 1 : 0);
    const rows = [...this.#listed].sort((a, b) => rank(a) - rank(b));
    // A row that says what it said stays the same element: a press of its
    // buttons is not lost to a redraw.
    const before = this.#rows;
    this.#rows = new Map(rows.map((d) => {
      const says = JSON.stringify(d), old = before.get(d.id);
      return [d.id, old?.says === says ? old : { says, row: this.#row(d) }];
    }));
    const focused = document.activeElement?.dataset?.key;
    const nodes = [...this.#rows.values()].map((r) => r.row);
    if (nodes.length !== this.list.childElementCount || nodes.some((n, i) => n !== this.list.children[i])) this.list.replaceChildren(...nodes);
    if (focused && document.activeElement?.dataset?.key !== focused) this.list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  #row(d) {
    const under = d.state !== "ready" && d.state !== "failed";
    const bar = under ? h("i") : null;
    if (bar) bar.style.inlineSize = `${100 * (d.done ?? 0)}%`;
    return h("li", { class: d.state, "data-name": d.name },
      h("span", { class: "name" }, ...named(d.name)),
      h("span", { class: "state" }, d.state === "failed" ? `failed while ${d.stage || "reading"}` : d.state),
      h("span", { class: "size" }, d.state === "ready" ? `${count(d.chunks, "passage")} · ${bytes(d.bytes)}` : bytes(d.bytes)),
      h("span", { class: "do" },
        d.state === "failed" ? h("button", { type: "button", class: "plain", "data-key": `retry ${d.id}`, onclick: () => this.#act("POST", `${d.id}/retry`, `${d.name} is tried again.`) }, "Retry") : null,
        h("button", { type: "button", class: "plain", "data-key": `delete ${d.id}`, "aria-label": `Delete ${d.name}`, onclick: (e) => this.#delete(e.currentTarget, d) }, this.#sure.has(d.id) ? "Really delete?" : "Delete")),
      d.error ? h("p", { class: "reason" }, d.error) : null,
      bar ? h("span", { class: "bar", "aria-hidden": "true" }, bar) : null);
  }

  // #delete asks once more: the same button, renamed for a moment.
  #delete(button, d) {
    if (this.#sure.delete(d.id)) {
      this.#act("DELETE", d.id, `${d.name} was deleted.`);
      return;
    }
    this.#sure.add(d.id); // by the document: a row may be drawn anew meanwhile
    button.textContent = "Really delete?";
    setTimeout(() => {
      this.#sure.delete(d.id);
      const now = this.list.querySelector(`[data-key="${CSS.escape(`delete ${d.id}`)}"]`);
      if (now) now.textContent = "Delete";
    }, 4000);
  }

  async #act(method, path, said) {
    try {
      await send(method, `/api/v1/documents/${path}`);
      this.on.announce(said);
      this.on.changed();
    } catch (error) {
      this.on.announce(error.message);
    }
    await this.refresh();
  }
}
