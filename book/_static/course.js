// What the theme leaves unsaid to a reader who listens to the page, or moves through it with the keyboard.

// A button's name holds the words that are written on it, the titles of its icons included.
function nameWhatIsDrawn() {
  document.querySelectorAll(".search-button-field").forEach(button => button.removeAttribute("aria-label"));
  for (const button of document.querySelectorAll(".theme-switch-button")) {
    button.setAttribute("aria-label", "Color mode: Light, Dark, System Settings");
  }
  for (const toggle of document.querySelectorAll(".bd-sidebar-primary summary")) {
    const page = toggle.closest("li").querySelector("a").textContent.trim();
    toggle.setAttribute("aria-label", `Pages below ${page}`);
  }
}

// A formula wider than the page scrolls, so the Tab key must stop there.
function letWideFormulasScroll() {
  for (const formula of document.querySelectorAll("div.math mjx-container")) {
    formula.tabIndex = formula.scrollWidth > formula.clientWidth ? 0 : -1;
  }
}

document.addEventListener("DOMContentLoaded", nameWhatIsDrawn);
window.addEventListener("load", () => window.MathJax?.startup?.promise.then(letWideFormulasScroll));
window.addEventListener("resize", letWideFormulasScroll);

// Paper is white: a dark page is printed in the light theme.
window.addEventListener("beforeprint", () => {
  const { theme } = document.documentElement.dataset;
  document.documentElement.dataset.theme = "light";
  window.addEventListener("afterprint", () => (document.documentElement.dataset.theme = theme), { once: true });
});
