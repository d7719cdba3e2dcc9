// Runs before the first paint: the colours that the reader chose, or else the system's.
(() => {
  try {
    const chosen = localStorage.getItem("driftloop-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // A browser that keeps nothing shows the system's colours.
  }
})();
