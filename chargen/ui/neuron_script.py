"""The script of the page of `chargen probe neurons` (`neuron_page.py`): it colours the text by the chosen unit."""

#: JavaScript. It builds the list with `textContent`, so that no name is read as HTML.
NEURON_SCRIPT = """
"use strict";
const find = id => document.getElementById(id);
const data = JSON.parse(find("data").textContent);
const raw = atob(find("activations").textContent);
const values = new Int8Array(raw.length);
for (let i = 0; i < raw.length; i++) values[i] = raw.charCodeAt(i);
const spans = [...find("text").getElementsByTagName("span")];
const list = find("units"), property = find("property"), centre = find("centre");
const N = spans.length, NONE = -1;
let order = [], rows = [], chosen = 0;

const strength = (unit, p) => {
  const x = data.figures[unit][p];
  return Math.abs(data.properties[p].binary ? 2 * x - 1 : x);
};
const better = (unit, b, p) => b === NONE || strength(unit, p) > strength(unit, b) ? p : b;
const best = unit => data.properties.reduce((b, _, p) => better(unit, b, p), NONE);
const shown = unit => +property.value === NONE ? best(unit) : +property.value;
const signed = (x, digits) => (x < 0 ? "\\u2212" : "+") + Math.abs(x).toFixed(digits);

function figure(unit, p) {
  if (p === NONE) return "";
  const x = data.figures[unit][p];
  return data.properties[p].binary ? `AUC ${Math.max(x, 1 - x).toFixed(3)} ${x < 0.5 ? "\\u2193" : "\\u2191"}`
    : `r ${signed(x, 3)}`;
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function fill() {
  const keys = data.units.map((_, unit) => shown(unit) === NONE ? 0 : strength(unit, shown(unit)));
  order = data.units.map((_, unit) => unit).sort((a, b) => keys[b] - keys[a] || a - b);
  rows = [];
  const filled = document.createDocumentFragment();
  for (const unit of order) {
    const row = element("li", ""), p = shown(unit);
    row.id = "u" + unit;
    row.setAttribute("role", "option");
    row.append(element("span", data.units[unit]), element("span", p === NONE ? "" : data.properties[p].name),
      element("span", figure(unit, p)));
    rows[unit] = row;
    filled.append(row);
  }
  list.replaceChildren(filled);
  choose(order[0], false);
  list.scrollTop = 0;
}

function choose(unit, scroll) {
  if (rows[chosen]) rows[chosen].setAttribute("aria-selected", "false");
  chosen = unit;
  rows[unit].setAttribute("aria-selected", "true");
  list.setAttribute("aria-activedescendant", rows[unit].id);
  if (scroll) rows[unit].scrollIntoView({block: "nearest"});
  const p = shown(unit);
  const about = p === NONE ? "" : ` \\u00b7 ${data.properties[p].name}: ${figure(unit, p)}`;
  find("unit").textContent = data.units[unit] + about;
  paint();
}

function paint() {
  const own = values.subarray(chosen * N, (chosen + 1) * N);
  const middle = centre.checked ? own.reduce((sum, value) => sum + value, 0) / N : 0;
  const sizes = Float64Array.from(own, value => Math.abs(value - middle)).sort();
  const largest = Math.max(1, sizes[Math.floor((N - 1) * data.share)]);
  for (let i = 0; i < N; i++) {
    const level = Math.round(data.shades * Math.max(-1, Math.min(1, (own[i] - middle) / largest)));
    spans[i].className = level > 0 ? "p" + level : level < 0 ? "n" + -level : "";
  }
  const step = data.scales[chosen] / 127;
  find("low").textContent = "\\u2264 " + signed((middle - largest) * step, 2);
  find("high").textContent = "\\u2265 " + signed((middle + largest) * step, 2);
}

function move(key) {
  const at = order.indexOf(chosen), last = order.length - 1;
  const to = {ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 10, PageUp: at - 10, Home: 0, End: last}[key];
  if (to === undefined) return false;
  choose(order[Math.min(last, Math.max(0, to))], true);
  return true;
}

property.append(...[{name: "the property that a unit tracks best"}, ...data.properties].map((each, n) => {
  const option = element("option", each.name);
  option.value = n - 1;
  return option;
}));
property.addEventListener("change", fill);
centre.addEventListener("change", paint);
list.addEventListener("click", event => {
  const row = event.target.closest("li");
  if (row) choose(+row.id.slice(1), true);
});
document.addEventListener("keydown", event => {
  const inList = document.activeElement === list || document.activeElement === document.body;
  if (inList && !event.ctrlKey && !event.altKey && !event.metaKey && move(event.key)) event.preventDefault();
});
find("text").addEventListener("mouseover", event => {
  const at = spans.indexOf(event.target);
  if (at < 0) return;
  const value = values[chosen * N + at] * data.scales[chosen] / 127;
  find("point").textContent = `character ${at + 1}: ${spans[at].textContent}  ${signed(value, 3)}`;
});
fill();
"""
