// The settings of the page: their limits, their fields, and the link that contains them.

const find = id => document.getElementById(id);
const parseNumber = text => (/^\s*[-+]?(\d+([.,]\d*)?|[.,]\d+)(e[-+]?\d+)?\s*$/i.test(text) ? +text.replace(",", ".") : NaN);

// The same limits as `chargen sample`, but for the length: this many characters can still be shown.
const NUMBERS = {
  temperature: {low: 0, high: 1e6, initial: 1},
  topP: {low: 0, high: 1, initial: 1, isLowExcluded: true},
  minP: {low: 0, high: 1, initial: 0},
  topK: {low: 0, high: 1e9, initial: 0, isWhole: true},
  length: {low: 0, high: 20000, initial: 400, isWhole: true},
  seed: {low: 0, high: Number.MAX_SAFE_INTEGER, initial: 1, isWhole: true},
};
const MAX_STOPS = 100;
const MAX_LINK_CHARS = 8000;

/** Return the message of an invalid number; "" if it is valid. */
function numberError(name, text) {
  const {low, high, isWhole, isLowExcluded} = NUMBERS[name];
  const value = parseNumber(text);
  const isValid = value >= low && value <= high && !(isWhole && !Number.isInteger(value))
    && !(isLowExcluded && value === low);
  if (isValid) return "";
  const key = isLowExcluded ? "aboveError" : isWhole ? "wholeError" : "rangeError";
  return t(key, {name: t(name), value: text.trim(), low: format(low), high: format(high)});
}

/** Return the strings of the field of stop strings: one per line, with \n, \t and \\ replaced. */
function stopStrings() {
  const characters = {n: "\n", t: "\t", "\\": "\\"};
  return find("stops").value.split("\n").filter(line => line)
    .map(line => line.replace(/\\([nt\\])/g, (whole, char) => characters[char]));
}

/** Show the error of a field below it, or remove it. */
function showFieldError(input, message) {
  const field = input.closest(".field");
  field.querySelector(".error")?.remove();
  input.setAttribute("aria-invalid", String(Boolean(message)));
  input.removeAttribute("aria-describedby");
  if (!message) return;
  const line = document.createElement("p");
  line.className = "error";
  line.id = input.id + "-error";
  line.textContent = message;
  field.append(line);
  input.setAttribute("aria-describedby", line.id);
}

/** Return the settings, or null if a field is invalid; its error is then shown. */
function readSettings() {
  const settings = {stop: stopStrings()};
  let isValid = true;
  for (const name of Object.keys(NUMBERS)) {
    const message = numberError(name, find(name).value);
    showFieldError(find(name), message);
    settings[name] = parseNumber(find(name).value);
    isValid &&= !message;
  }
  const tooMany = settings.stop.length > MAX_STOPS;
  showFieldError(find("stops"), tooMany ? t("stopsError", {count: settings.stop.length, most: MAX_STOPS}) : "");
  return isValid && !tooMany ? settings : null;
}

/** Write a number into its field, and move its slider. */
function writeNumber(name, text) {
  find(name).value = text;
  const slider = document.querySelector(`[data-for=${name}]`);
  if (slider && !Number.isNaN(parseNumber(text))) slider.value = parseNumber(text);
}

function resetSettings() {
  for (const [name, {initial}] of Object.entries(NUMBERS)) writeNumber(name, String(initial));
  find("stops").value = "";
}

/** Connect the fields: `onChange` is called whenever the value of one changes. */
function connectSettings(onChange) {
  for (const name of Object.keys(NUMBERS)) {
    find(name).addEventListener("input", () => {
      writeNumber(name, find(name).value);
      onChange();
    });
  }
  for (const slider of document.querySelectorAll("[data-for]")) {
    slider.addEventListener("input", () => {
      writeNumber(slider.dataset.for, slider.value);
      onChange();
    });
  }
  find("stops").addEventListener("input", onChange);
  find("reset").addEventListener("click", () => {
    resetSettings();
    onChange();
  });
}

// ── the link ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const LINKED_TEXTS = {prompt: "prompt", stop: "stops", text: "scored", lines: "lines"}; // key in the link → field
const LINKED_BOXES = {live: true, colours: false}; // checkboxes with their initial values

/** Return a link with at most MAX_LINK_CHARS characters: without the texts that are too long for it. */
function writeShortLink(tab, kept) {
  const sizeOf = key => (key === "kept" ? kept : find(LINKED_TEXTS[key]).value).length;
  const keys = ["kept", ...Object.keys(LINKED_TEXTS)].sort((a, b) => sizeOf(a) - sizeOf(b));
  while (keys.length && sizeOf(keys[keys.length - 1]) > MAX_LINK_CHARS) keys.pop();
  let link = writeLink(tab, kept, keys);
  while (link.length > MAX_LINK_CHARS && keys.pop()) link = writeLink(tab, kept, keys);
  return link.length > MAX_LINK_CHARS ? "" : link;
}

/** Return the part of the link after #: every setting that differs from its initial value, and the texts of some keys. */
function writeLink(tab, kept, keys = ["kept", ...Object.keys(LINKED_TEXTS)]) {
  const values = new URLSearchParams();
  if (tab !== "write") values.set("tab", tab);
  for (const [key, id] of Object.entries(LINKED_TEXTS)) {
    if (find(id).value && keys.includes(key)) values.set(key, find(id).value);
  }
  if (kept && keys.includes("kept")) values.set("kept", kept);
  for (const [name, {initial}] of Object.entries(NUMBERS)) {
    if (find(name).value !== String(initial)) values.set(name, find(name).value);
  }
  for (const [id, initial] of Object.entries(LINKED_BOXES)) {
    if (find(id).checked !== initial) values.set(id, find(id).checked ? "yes" : "no");
  }
  return values.toString();
}

/** Fill the fields from the part of the link after #; return {tab, kept}. */
function readLink(hash) {
  const values = new URLSearchParams(hash.replace(/^#/, ""));
  resetSettings();
  for (const [key, id] of Object.entries(LINKED_TEXTS)) find(id).value = values.get(key) ?? "";
  for (const name of Object.keys(NUMBERS)) if (values.has(name)) writeNumber(name, values.get(name));
  for (const [id, initial] of Object.entries(LINKED_BOXES)) {
    find(id).checked = values.has(id) ? values.get(id) === "yes" : initial;
  }
  return {tab: values.get("tab") ?? "write", kept: values.get("kept") ?? ""};
}

/** Remember a choice of the reader, where the browser allows it: a page in a sandbox has no storage. */
function remember(name, value) {
  try {
    localStorage.setItem("chargen-" + name, value);
  } catch (error) {
    console.debug(`${name} is not remembered: ${error.message}`);
  }
}

/** Return a remembered choice; "" if there is none. */
function remembered(name) {
  try {
    return localStorage.getItem("chargen-" + name) ?? "";
  } catch (error) {
    console.debug(`${name} was not remembered: ${error.message}`);
    return "";
  }
}
