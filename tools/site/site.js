// Theme and search. The texts, in search.js, are read when they are first needed.
"use strict";
const root = document.documentElement;

function theme(...given) { // the kept one, or keep what is given
  try { given.forEach((name) => localStorage.setItem("theme", name)); } catch { /* not kept */ }
  try { return localStorage.getItem("theme"); } catch { return null; }
}
root.dataset.theme = theme() ?? "";

function found(words) { // sections that have all words, the best first
  const rated = [];
  for (const [file, anchor, page, heading, text] of SECTIONS) {
    const title = `${page} ${heading}`.toLowerCase(), body = text.toLowerCase();
    const hits = words.map((word) => 9 * title.includes(word) + Math.min(body.split(word).length - 1, 5));
    if (!hits.every(Boolean)) continue;
    const start = text.lastIndexOf(" ", body.indexOf(words[0]) - 40) + 1;
    const extract = `${start ? "… " : ""}${text.slice(start, start + 140)} …`;
    rated.push({ href: `${file}#${anchor}`, page, heading, extract, rate: hits.reduce((a, b) => a + b) });
  }
  return rated.sort((a, b) => b.rate - a.rate).slice(0, 12);
}

function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

function entry({ href, page, heading, extract }, words) {
  const any = words.map((word) => word.replace(/[^\p{L}\p{N}_]/gu, "\\$&")).join("|");
  const parts = extract.split(new RegExp(`(${any})`, "i")).map((part, n) => (n % 2 ? element("mark", part) : part));
  const link = element("a", element("b", heading || page), element("small", heading && page), element("span", ...parts));
  link.href = href;
  return element("li", link);
}

addEventListener("DOMContentLoaded", () => {
  const [input, list] = document.querySelector("search").children;
  document.querySelector(".contents")?.toggleAttribute("open", matchMedia("(min-width: 64rem)").matches);
  document.querySelector("header button").onclick = () => {
    const dark = (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "")) === "dark";
    theme((root.dataset.theme = dark ? "light" : "dark"));
  };
  input.onfocus = input.oninput = () => {
    if (typeof SECTIONS === "undefined") { // onload calls this again
      return document.head.append(Object.assign(element("script"), { src: "search.js", onload: input.oninput }));
    }
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    list.hidden = !words.length;
    list.replaceChildren(...(words.length ? found(words) : []).map((section) => entry(section, words)));
    if (!list.children.length) list.append(element("li", "Nothing found"));
  };
  input.onkeydown = ({ key }) => key === "Enter" && list.querySelector("a")?.click();
  addEventListener("click", ({ target }) => { list.hidden ||= target !== input; });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") list.hidden = true;
    if (event.key === "/" && event.target !== input) { event.preventDefault(); input.focus(); }
  });
});
