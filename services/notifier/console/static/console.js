// What makes the console quicker to use. Every page works without it.

const root = document.documentElement;
root.classList.add("js");

// Filters are sent as soon as something else is chosen.
for (const form of document.querySelectorAll("form[data-submits]")) {
  form.addEventListener("change", (event) => {
    if (event.target.matches("select, input[type=checkbox]")) form.requestSubmit();
  });
  // Fields that are left empty need not stand in the address.
  form.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData]) {
      if (value === "") event.formData.delete(name);
    }
  });
}

// One box ticks all of a list.
for (const all of document.querySelectorAll("input[data-ticks]")) {
  all.closest("[hidden]")?.removeAttribute("hidden");
  all.addEventListener("change", () => {
    for (const box of document.querySelectorAll(all.dataset.ticks)) box.checked = all.checked;
  });
}

// Whoever sends a form sees the same part of the page again.
const PLACE = "perennial.place";
document.addEventListener("submit", (event) => {
  if (event.target.method === "dialog") return;
  sessionStorage.setItem(PLACE, JSON.stringify([location.pathname, scrollY]));
});
const kept = sessionStorage.getItem(PLACE);
sessionStorage.removeItem(PLACE);
if (kept) {
  const [path, top] = JSON.parse(kept);
  if (path === location.pathname) scrollTo(0, top);
}

// Keys. They are single letters, so they can be switched off, and rest while somebody writes.
const OFF = "perennial.keys.off";
const keys = document.getElementById("keys");
const on = document.getElementById("keys-on");
if (on) {
  on.checked = !localStorage.getItem(OFF);
  on.addEventListener("change", () => {
    if (on.checked) localStorage.removeItem(OFF);
    else localStorage.setItem(OFF, "1");
  });
}

const PAGES = { t: "/", a: "/accounts", b: "/board", p: "/portfolio" };
let isGoing = false;

function walk(step) {
  const lines = [...document.querySelectorAll("[data-rows] :is(tbody tr, li)")]
    .map((line) => line.querySelector("a"))
    .filter(Boolean);
  if (!lines.length) return false;
  const now = lines.findIndex((link) => link.closest("tr, li").contains(document.activeElement));
  const next = now < 0 ? (step > 0 ? 0 : lines.length - 1) : now + step;
  const line = lines[Math.min(Math.max(next, 0), lines.length - 1)];
  line.focus();
  line.scrollIntoView({ block: "nearest" });
  return true;
}

function press(key) {
  if (isGoing) {
    isGoing = false;
    if (PAGES[key]) location.assign(PAGES[key]);
    return Boolean(PAGES[key]);
  }
  switch (key) {
    case "/":
      document.getElementById("search")?.focus();
      return true;
    case "j":
      return walk(1);
    case "k":
      return walk(-1);
    case "g":
      isGoing = true;
      setTimeout(() => { isGoing = false; }, 1500);
      return true;
  }
  return false;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target.closest?.("input, textarea, select, [contenteditable]")) return;
  if (keys?.open) return;
  // How to switch them on again must stay within reach.
  if (event.key === "?") keys?.showModal();
  else if (localStorage.getItem(OFF) || !press(event.key)) return;
  event.preventDefault();
});
