// Sets the chosen theme before the page is drawn; without a choice the
// system's counts. A classic script, because modules run after the first paint.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("theme"); } catch { /* storage is off: follow the system */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
