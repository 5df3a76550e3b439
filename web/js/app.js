// The page: one question box, answers with their sources, and the documents.

import { get, send } from "./api.js";
import { Turn } from "./answer.js";
import { Composer } from "./composer.js";
import { Documents } from "./documents.js";
import { h } from "./format.js";
import { Memory } from "./memory.js";
import { Sources } from "./sources.js";
import { load, save } from "./store.js";
import { answer, resume } from "./stream.js";

const $ = (id) => document.getElementById(id);

const state = {
  status: null,       // GET /api/v1/status
  conversation: null, // {id, runs, collection}, as remembered
  turns: [],
  active: null,       // the turn whose sources are shown
  running: null,      // {turn, abort}
  pinned: false,      // the view follows the stream
};

const memory = new Memory($("memory"));
const sources = new Sources($("sources"));
sources.cited = () => state.active?.cited ?? new Set();
const composer = new Composer($("composer"), { ask, stop, wait: () => announce("Still answering. Escape stops it; your question stays in the box.") });
const documents = new Documents($("view-documents"), {
  announce, changed: collections, collection: () => $("collection").value,
});

start();

async function start() {
  themes();
  shortcuts();
  scrolling();
  window.addEventListener("hashchange", view);
  $("fresh").addEventListener("click", fresh);
  $("collection").addEventListener("change", () => { save("collection", $("collection").value); if (!$("view-documents").hidden) documents.refresh(); else empty(); });
  try {
    state.status = await get("/api/v1/status");
    memory.idle(state.status);
    document.title = "Lessrag";
    await collections();
  } catch (error) {
    announce(`The service cannot be reached: ${error.message}`);
  }
  view();
  await restore();
}

function announce(text) { $("status").textContent = text; }

// view shows what the address names.
function view() {
  const name = location.hash === "#documents" ? "documents" : "ask";
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  $("view-ask").hidden = name !== "ask";
  $("view-documents").hidden = name !== "documents";
  if (name === "documents") documents.show();
  else { documents.hide(); composer.grow(); composer.focus(); }
}

// collections fills the picker; the chosen one stays chosen.
async function collections() {
  const { collections } = await get("/api/v1/collections");
  const wanted = $("collection").value || load("collection") || state.status.collection;
  const names = collections.map((c) => c.name);
  if (state.status.collection && !names.includes(state.status.collection)) names.unshift(state.status.collection);
  if (names.length === 0) names.push("documents");
  $("collection").replaceChildren(...names.map((name) => h("option", { value: name }, name)));
  $("collection").value = names.includes(wanted) ? wanted : names[0];
  state.collections = collections;
  if (state.turns.length === 0) empty();
}

// empty says what to do before the first question.
function empty() {
  if (state.turns.length > 0) return;
  const chosen = state.collections?.find((c) => c.name === $("collection").value);
  const examples = state.status?.collection === $("collection").value ? state.status.examples : [];
  $("turns").replaceChildren(h("div", { class: "empty" },
    h("h1", {}, "Ask your documents."),
    chosen?.documents
      ? h("p", {}, `The answer is read from ${chosen.documents === 1 ? "one document" : `${chosen.documents} documents`} in “${chosen.name}” by ${state.status.model.file} on this machine. Nothing leaves it.`)
      : h("p", {}, "There are no documents here yet. ", h("a", { href: "#documents" }, "Add some"), " and ask."),
    chosen?.documents && examples.length
      ? h("ul", { class: "examples" }, ...examples.map((q) => h("li", {}, h("button", { type: "button", onclick: () => ask(q) }, q))))
      : ""));
}

// ask puts a question, and the answer under it as it comes.
async function ask(question) {
  if (state.running) return;
  const turn = begin(question);
  composer.clear();
  await run(turn, (signal) => answer({
    question, collection: $("collection").value || undefined,
    conversation_id: state.conversation?.id,
  }, signal));
}

function begin(question) {
  if (state.turns.length === 0) $("turns").replaceChildren();
  const turn = new Turn(question, { cite, sources: choose, again: ask });
  state.turns.push(turn);
  $("turns").append(turn.element);
  state.pinned = true;
  follow();
  return turn;
}

// run shows the events of an answer until its end.
async function run(turn, events) {
  const abort = new AbortController();
  state.running = { turn, abort };
  composer.busy = true;
  choose(turn, false);
  announce("Searching the documents.");
  try {
    for await (const event of events(abort.signal)) {
      if (event.name === "gap") { await reread(turn, event.data); continue; }
      const said = turn.apply(event);
      if (said) announce(said);
      if (event.name === "retrieval") {
        remember(event.data, turn);
        memory.reading(event.data.memory);
        choose(turn, false);
      }
      if (event.name === "citation" && state.active === turn) sources.mark(turn.cited);
      if (event.name === "usage") memory.show(event.data.memory);
      follow();
    }
    if (!turn.finish) turn.end("error", "The connection was lost.");
    if (turn.holes) turn.restore(await get(`/api/v1/runs/${turn.run}`));
    if (turn.finish === "refused") choose(turn, false);
  } catch (error) {
    if (!turn.finish) turn.end(abort.signal.aborted ? "cancelled" : "error", error.message);
    if (!abort.signal.aborted) announce(`The answer failed: ${error.message}`);
  } finally {
    state.running = null;
    composer.busy = false;
    if (turn.run === null && turn.finish === "error" && composer.box.value === "") { composer.box.value = turn.question; composer.grow(); }
    follow();
  }
}

// reread replaces what a gap in the stream left out by the stored run.
async function reread(turn, gap) {
  if (gap.next !== 0) { turn.holes = true; return; } // it goes on; what is missing is read at the end
  turn.restore(await get(gap.run));
}

// stop ends the answer on its way; what has been said stays.
async function stop() {
  const running = state.running;
  if (!running) return;
  if (running.turn.run === null) { running.abort.abort(); return; }
  try {
    await send("POST", `/api/v1/runs/${running.turn.run}/cancel`);
  } catch {
    running.abort.abort();
  }
}

// remember keeps the conversation, so that a reload finds it again.
function remember(retrieval, turn) {
  state.conversation ??= { id: retrieval.conversation_id, runs: [] };
  if (!state.conversation.runs.includes(retrieval.run_id)) state.conversation.runs.push(retrieval.run_id);
  save("conversation", state.conversation);
  composer.draft = `draft:${state.conversation.id}`;
  turn.run = retrieval.run_id;
}

// restore brings back the conversation of before the reload; an answer that
// is still on its way goes on.
async function restore() {
  state.conversation = load("conversation");
  if (!state.conversation?.runs?.length) { state.conversation = null; return; }
  composer.restore(`draft:${state.conversation.id}`);
  for (const id of state.conversation.runs) {
    let record;
    try {
      record = await get(`/api/v1/runs/${encodeURIComponent(id)}`);
    } catch {
      continue; // the run is gone: the rest of the conversation still counts
    }
    const turn = begin(record.question);
    if (record.finish_reason === "") {
      run(turn, (signal) => resume(id, 0, signal));
      return;
    }
    turn.restore(record);
    choose(turn, false);
    memory.show(record.memory);
  }
  if (state.turns.length === 0) { state.conversation = null; save("conversation", null); empty(); }
  follow();
}

// fresh begins a new conversation.
function fresh() {
  if (state.running) stop();
  state.turns = [];
  state.active = null;
  state.conversation = null;
  save("conversation", null);
  composer.restore("draft");
  sources.show([]);
  sources.close();
  if (state.status) memory.idle(state.status);
  location.hash = "#ask";
  empty();
  composer.focus();
}

// choose shows a turn's sources.
function choose(turn, reveal = true) {
  if (state.active !== turn || !sources.reading) sources.show(turn.passages, turn.cited, turn.finish === "refused" ? "Nearest, but not close enough" : "Sources");
  state.active = turn;
  for (const t of state.turns) t.element.classList.toggle("chosen", t === turn);
  if (turn.report?.memory && !state.running) memory.show(turn.report.memory);
  if (reveal) sources.reveal();
}

function cite(turn, marker, citation) {
  choose(turn, false);
  sources.open(marker, citation);
}

// scrolling follows the stream until the reader scrolls up, and again from
// the bottom on.
function scrolling() {
  const thread = $("thread");
  const bottom = () => thread.scrollHeight - thread.scrollTop - thread.clientHeight < 48;
  thread.addEventListener("scroll", () => {
    state.pinned = bottom();
    $("jump").hidden = state.pinned;
  }, { passive: true });
  $("jump").addEventListener("click", () => { state.pinned = true; follow(); composer.focus(); });
  new ResizeObserver(follow).observe($("turns"));
}

function follow() {
  const thread = $("thread");
  if (state.pinned) thread.scrollTop = thread.scrollHeight;
  $("jump").hidden = state.turns.length === 0 || state.pinned || thread.scrollHeight - thread.scrollTop - thread.clientHeight < 48;
}

function themes() {
  const button = $("theme"), root = document.documentElement;
  const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const name = () => {
    const other = dark() ? "light" : "dark";
    button.setAttribute("aria-label", `Use the ${other} theme`);
    button.title = `Use the ${other} theme`;
  };
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* not remembered */ }
    name();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();
}

function shortcuts() {
  const dialog = $("shortcuts"), on = $("shortcuts-on");
  on.checked = load("shortcuts", true);
  on.addEventListener("change", () => save("shortcuts", on.checked));
  $("keys").addEventListener("click", () => dialog.showModal());
  window.addEventListener("keydown", (e) => {
    if (e.isComposing || dialog.open) return;
    if (e.key === "Escape") {
      if (state.running) stop();
      else if (sources.reading) sources.back();
      else sources.close();
      return;
    }
    if (!on.checked || e.ctrlKey || e.metaKey || e.altKey || e.target.closest?.("input, textarea, select")) return;
    if (e.key === "/") { e.preventDefault(); location.hash = "#ask"; composer.focus(); }
    else if (e.key === "?") dialog.showModal();
    else if (e.key === "d") location.hash = $("view-documents").hidden ? "#documents" : "#ask";
    else if (/^[1-9]$/.test(e.key) && Number(e.key) <= sources.count) sources.open(Number(e.key));
  });
}
