// The question box: grows with its text, keeps its draft, and turns into the
// stop button while an answer is on its way.

import { load, save } from "./store.js";

export class Composer {
  #busy = false;

  // on has ask(text), stop() and wait(): Enter came while an answer is on its way.
  constructor(form, on) {
    this.on = on;
    this.box = form.querySelector("textarea");
    this.button = form.querySelector("button");
    this.draft = "draft";
    form.addEventListener("submit", (e) => { e.preventDefault(); this.#submit(); });
    this.box.addEventListener("input", () => { save(this.draft, this.box.value || null); this.grow(); });
    this.box.addEventListener("keydown", (e) => {
      // Enter that ends an input method's composition is not the reader's.
      if (e.key !== "Enter" || e.shiftKey || e.isComposing || e.keyCode === 229) return;
      e.preventDefault();
      if (this.#busy) this.on.wait();
      else this.#submit();
    });
    this.restore("draft");
  }

  // restore shows the draft kept under a key: one for each conversation.
  restore(key) {
    this.draft = key;
    this.box.value = load(key, "");
    this.grow();
  }

  set busy(on) {
    this.#busy = on;
    this.button.textContent = on ? "Stop" : "Ask";
    this.button.classList.toggle("stop", on);
    this.button.title = on ? "Stop the answer (Esc)" : "";
  }
  get busy() { return this.#busy; }

  #submit() {
    if (this.#busy) { this.on.stop(); return; }
    const text = this.box.value.trim();
    if (text === "") { this.box.focus(); return; }
    this.on.ask(text);
  }

  // clear empties the box once its question has been taken.
  clear() {
    this.box.value = "";
    save(this.draft, null);
    this.grow();
  }

  grow() {
    this.box.style.blockSize = "auto";
    this.box.style.blockSize = `${Math.min(this.box.scrollHeight, 220)}px`;
  }

  focus() { this.box.focus({ preventScroll: true }); }
}
