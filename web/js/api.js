// The service's JSON API. Every refusal arrives as a Problem (RFC 9457).

export class Problem extends Error {
  constructor(status, body) {
    const fields = (body?.errors ?? []).map((e) => `${e.location.replace(/^body\./, "")} ${e.message}`);
    super([body?.detail ?? `The service answered ${status}`, ...fields].join(": "));
    this.status = status;
    this.retryAfter = 0;
  }
}

export async function refused(response) {
  let body = null;
  try { body = await response.json(); } catch { /* no problem document: the status must do */ }
  const problem = new Problem(response.status, body);
  problem.retryAfter = Number(response.headers.get("Retry-After") ?? 0);
  return problem;
}

export async function get(path, options = {}) {
  const response = await fetch(path, options);
  if (!response.ok) throw await refused(response);
  return response.json();
}

export async function send(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (!response.ok) throw await refused(response);
  return response.status === 204 ? null : response.json();
}

// text of a document, as bytes: passages point into it by byte.
const texts = new Map();

// forget drops a document's text, which may have changed.
export function forget(id) { texts.delete(id); }


export async function documentBytes(id) {
  if (!texts.has(id)) {
    const response = await fetch(`/api/v1/documents/${encodeURIComponent(id)}/text`);
    if (!response.ok) throw await refused(response);
    if (texts.size >= 8) texts.delete(texts.keys().next().value);
    texts.set(id, new Uint8Array(await response.arrayBuffer()));
  }
  return texts.get(id);
}

// upload hands in one file; onprogress gets the share that has been sent.
export function upload(file, collection, onprogress) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("collection", collection);
    form.append("file", file, file.name);
    const request = new XMLHttpRequest(); // fetch cannot tell how much has been sent
    request.open("POST", "/api/v1/documents");
    request.upload.onprogress = (e) => e.lengthComputable && onprogress(e.loaded / e.total);
    request.onerror = () => reject(new Error("the connection was lost"));
    request.onload = () => {
      let body = null;
      try { body = JSON.parse(request.responseText); } catch { /* see refused */ }
      if (request.status === 202) resolve(body);
      else reject(new Problem(request.status, body));
    };
    request.send(form);
  });
}
