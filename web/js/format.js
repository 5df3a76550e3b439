// Figures as people read them.

export function bytes(n) {
  if (n < 1024) return `${n} B`;
  for (const unit of ["KiB", "MiB", "GiB"]) {
    n /= 1024;
    if (n < 1024 || unit === "GiB") return `${n < 10 ? n.toFixed(1) : Math.round(n)} ${unit}`;
  }
}

export function count(n, one, many = one + "s") {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}

export function seconds(ms) {
  return ms < 950 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

// place splits a document's name into its folder and its own name.
export function place(name) {
  const at = name.lastIndexOf("/") + 1;
  return at === name.length ? ["", name] : [name.slice(0, at), name.slice(at)];
}

// named is a document's name with its folder stepping back.
export function named(name) {
  const [folder, own] = place(name);
  return [folder ? h("span", { class: "folder" }, folder) : "", own];
}

// h makes an element: h("p", {class: "x", onclick: f}, "text", child).
export function h(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}
