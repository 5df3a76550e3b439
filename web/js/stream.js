// Server-sent events over fetch: EventSource can neither POST nor be stopped
// without reconnecting.

import { refused } from "./api.js";

// Parser turns text, in pieces cut anywhere, into events {id, name, data}, as
// the HTML standard reads text/event-stream.
export class Parser {
  #rest = "";
  #event = { name: "message", data: [] };
  #id = 0;

  *push(text) {
    this.#rest += text;
    // A CR at the very end may be half of a CRLF: it waits for what follows.
    for (;;) {
      const end = this.#rest.search(/\r\n|\n|\r(?!$)/);
      if (end < 0) return;
      const line = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + (this.#rest.startsWith("\r\n", end) ? 2 : 1));
      if (line === "") {
        const { name, data } = this.#event;
        this.#event = { name: "message", data: [] };
        if (data.length > 0) yield { id: this.#id, name, data: JSON.parse(data.join("\n")) };
        continue;
      }
      const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (field === "event") this.#event.name = value;
      else if (field === "data") this.#event.data.push(value);
      else if (field === "id") this.#id = Number(value);
    }
  }
}

async function* read(response) {
  const parser = new Parser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield* parser.push(value);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

const last = new Set(["done", "error"]);
const tries = 5;

// answer asks a question and yields the events of its run. A connection that
// breaks is taken up again where it was cut.
export async function* answer(question, signal) {
  const response = await fetch("/api/v1/chat", {
    method: "POST", signal,
    headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
    body: JSON.stringify({ ...question, resumable: true }),
  });
  if (!response.ok) throw await refused(response);
  yield* keep(response, null, 0, signal);
}

// resume follows a run that was asked before.
export async function* resume(run, after, signal) {
  yield* keep(null, run, after, signal);
}

async function* keep(response, run, after, signal) {
  for (let attempt = 0; ; ) {
    try {
      response ??= await fetch(`/api/v1/runs/${encodeURIComponent(run)}/events`, { signal, headers: { "Last-Event-ID": String(after) } });
      if (!response.ok) throw await refused(response);
      for await (const event of read(response)) {
        attempt = 0;
        if (event.name === "retrieval") run = event.data.run_id;
        if (event.name === "gap") {
          after = Math.max(after, event.data.next - 1);
          yield event;
          if (event.data.next === 0) return;
          continue;
        }
        if (event.id <= after) continue;
        after = event.id;
        yield event;
        if (last.has(event.name)) return;
      }
    } catch (error) {
      if (signal.aborted || error.status || run === null) throw error;
    }
    if (signal.aborted) return;
    if (run === null || ++attempt > tries) throw new Error("the connection was lost");
    response = null;
    await new Promise((resolve) => setTimeout(resolve, 250 * 2 ** attempt));
  }
}
