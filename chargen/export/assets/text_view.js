// A text whose characters can be explained: pointed at, focused, and replaced by an alternative.
//
// What a reader sees as one character (a grapheme cluster) is one <span>; it may consist of several pieces of the model.

const MAX_SHADE = 10; // surprisals from here on, in bits, have the last shade
const PREVIEW_DELAY_MS = 60;
const ROUNDING_STEP = 2 ** -26; // nats; as in chargen/scoring/scorer.py
// What is drawn for a text that cannot be seen, and the key of its name.
const SYMBOLS = new Map([
  [" ", ["␣", "space"]], ["\n", ["↵", "newline"]], ["\t", ["⇥", "tab"]], ["", ["■", "end"]],
  ["\u00a0", ["␣", "noBreakSpace"]],
]);
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;
const EXTENDS = /^[\p{M}\u200d\u{1f3fb}-\u{1f3ff}]/u; // extends the character before it

const bitsOf = piece => (0 - piece.nats) / LN2;
const shadeOf = bits => Math.floor(Math.min(MAX_SHADE, Math.max(0, bits)));

/** Return the score of pieces; log p of each is rounded as in Python, so that sums are exact. */
function scoreOf(pieces) {
  let nats = 0, numChars = 0;
  for (const piece of pieces) {
    nats += Math.round(piece.nats / ROUNDING_STEP) * ROUNDING_STEP;
    numChars += [...piece.text].length;
  }
  const bitsPerChar = numChars ? (0 - nats) / LN2 / numChars : null;
  return {pieces: [...pieces], nats, numChars, numUnknown: pieces.filter(piece => piece.isUnknown).length, bitsPerChar};
}

/** Return what is drawn for a text: control characters and invisible characters as symbols. */
function visible(text) {
  return [...text].map(char => {
    if (char < " ") return String.fromCodePoint(0x2400 + char.codePointAt(0));
    if (char === "\u007f") return "␡";
    return /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(char) && !"\u200c\u200d".includes(char) ? "\ufffd" : char;
  }).join("");
}

/** Return what is drawn for a piece that stands alone: a space is a symbol, and a mark has a dotted circle. */
const glyphOf = text => SYMBOLS.get(text)?.[0] ?? (EXTENDS.test(text) ? "◌" + text : visible(text));
const nameOf = text => (SYMBOLS.has(text) ? `${glyphOf(text)} ${t(SYMBOLS.get(text)[1])}` : glyphOf(text));

/** Return the lengths of the grapheme clusters of a text. */
function clusterLengths(text) {
  if (Intl.Segmenter) {
    const segmenter = new Intl.Segmenter(undefined, {granularity: "grapheme"});
    return Array.from(segmenter.segment(text), part => part.segment.length);
  }
  const lengths = [];
  let joins = false;
  for (const char of text) {
    if (lengths.length && (joins || EXTENDS.test(char))) lengths[lengths.length - 1] += char.length;
    else lengths.push(char.length);
    joins = char === "\u200d";
  }
  return lengths;
}

/**
 * Group pieces into the smallest groups that are whole characters of a reader: grapheme clusters; in a text that is read
 * backward the letters that keep their order. Return the number of pieces of each group.
 */
function groupPieces(pieces, backward) {
  const ends = new Set();
  let end = 0;
  const text = pieces.map(piece => piece.text).join("");
  for (const length of backward ? backward.letterLengths(text) : clusterLengths(text)) ends.add(end += length);
  const groups = [];
  let size = 0;
  end = 0;
  for (const piece of pieces) {
    size++;
    end += piece.text.length;
    if (!ends.has(end) && piece.text) continue;
    groups.push(size);
    size = 0;
  }
  if (size) groups.push(size);
  return groups;
}

/** Return the text of pieces in reading order, without marks that are not shown. */
function textOf(pieces, backward) {
  const text = pieces.map(piece => piece.text.slice(piece.numHidden ?? 0)).join("");
  return backward ? backward.reverse(text) : text;
}

/** Return the <span> of a group of pieces. */
function drawGroup(group, backward) {
  const span = document.createElement("span");
  const text = textOf(group, backward);
  span.textContent = text === "\n" ? text : visible(text.replace(/\n$/, "")) + (text.endsWith("\n") ? "\n" : "");
  const classes = ["s" + shadeOf(group.reduce((sum, piece) => sum + bitsOf(piece), 0)), group[0].kind];
  if (group.some(piece => piece.isUnknown)) classes.push("unknown");
  if (text.endsWith("\n")) classes.push("newline");
  if (!text) classes.push("end");
  span.className = classes.join(" ");
  return span;
}

class TextView {
  /**
   * The pieces and the groups are in the order of the model. Of a model that reads backward, the first one is shown last.
   * @param {Element} element - shows the text
   * @param {Popover} popover
   * @param {?object} backward - of the model
   * @param {function(number, object)} onChoose - gets the index of a piece and the alternative that replaces it
   */
  constructor(element, popover, backward, onChoose) {
    Object.assign(this, {element, popover, backward, onChoose});
    this.clear();
    element.addEventListener("pointerover", event => this.point(event));
    element.addEventListener("pointerleave", () => this.leave());
    element.addEventListener("click", event => this.click(event));
    element.addEventListener("keydown", event => this.press(event));
    element.addEventListener("focusout", () => this.leave());
    element.addEventListener("focusin", event => this.describe(this.indexOf(event.target)));
  }

  clear() {
    this.pieces = [];
    this.groups = []; // {first, size, span}
    this.current = -1;
    this.element.replaceChildren();
    this.popover.close();
  }

  /** Show pieces of a text, instead of what was shown before. */
  show(text, pieces = text.pieces) {
    const current = this.current;
    this.clear();
    this.text = text;
    this.add(pieces);
    if (current >= 0 && this.groups.length) this.select(Math.min(current, this.groups.length - 1));
  }

  /** Add pieces after those that the model has read; a piece may extend the last characters. */
  add(pieces) {
    const open = this.groups.slice(this.backward ? -2 : -1); // a joiner is a group until its letter follows
    let first = open.length ? open[0].first : 0;
    this.pieces.push(...pieces);
    const sizes = groupPieces(this.pieces.slice(first), this.backward);
    while (open.length && sizes[0] === open[0].size) {
      first += sizes.shift();
      open.shift();
    }
    for (const group of open) group.span.remove();
    this.groups.length -= open.length;
    let spans = [];
    for (const size of sizes) {
      const span = drawGroup(this.pieces.slice(first, first + size), this.backward);
      span.groupIndex = this.groups.length;
      this.groups.push({first, size, span});
      first += size;
      if (span.classList.contains("newline") && this.backward) {
        this.addToLine(spans.splice(0)); // the newline is the end of the line above
        this.startLine();
      }
      spans.push(span);
      if (span.classList.contains("newline") && !this.backward) this.addToLine(spans.splice(0));
    }
    this.addToLine(spans);
    if (this.groups[this.current]?.span.tabIndex === -1) this.select(this.current);
    if (this.current < 0 && this.groups.length) this.select(0);
  }

  /** Add characters to the line that is being written. Lines are laid out one by one, which is fast. */
  addToLine(spans) {
    if (!spans.length) return;
    const {firstChild, lastChild} = this.element;
    if (this.backward) (firstChild ?? this.startLine()).prepend(...spans.reverse());
    else (lastChild && !lastChild.lastChild?.classList.contains("newline") ? lastChild : this.startLine()).append(...spans);
  }

  startLine() {
    const line = document.createElement("div"); // the style gives it its direction: dir="auto" takes time for each span
    this.element[this.backward ? "prepend" : "append"](line);
    return line;
  }

  /** Return a text of the model in reading order. */
  spell(text) {
    return this.backward ? this.backward.reverse(text) : text;
  }

  indexOf(target) {
    return target.groupIndex ?? -1;
  }

  /** Make a character the one that the Tab key reaches. */
  select(index) {
    const before = this.groups[this.current];
    for (const name of ["tabindex", "role", "aria-label", "aria-haspopup"]) before?.span.removeAttribute(name);
    this.current = index;
    const {span} = this.groups[index];
    span.tabIndex = 0;
    span.setAttribute("role", "button");
    span.setAttribute("aria-haspopup", "dialog");
  }

  focus(index) {
    this.select(index);
    this.groups[index].span.focus();
  }

  /** Focus the character that contains a piece. */
  focusPiece(number) {
    const index = this.groups.findIndex(group => number < group.first + group.size);
    if (index >= 0) this.focus(index);
  }

  describe(index) {
    if (index < 0) return;
    const {first, size, span} = this.groups[index];
    const label = this.pieces.slice(first, first + size)
      .map(piece => `${nameOf(this.spell(piece.text))} ${formatPercent(Math.exp(piece.nats))}`).join(", ");
    span.setAttribute("aria-label", label);
  }

  point(event) {
    const index = this.indexOf(event.target);
    if (index < 0 || event.pointerType === "touch" || this.popover.isOpen) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (event.target.isConnected && !this.popover.isOpen) this.popover.preview(this, index);
    }, PREVIEW_DELAY_MS);
  }

  leave() {
    clearTimeout(this.timer);
    if (!this.popover.isOpen) this.popover.close();
  }

  click(event) {
    const index = this.indexOf(event.target);
    if (index < 0) return;
    this.leave();
    this.focus(index);
    this.popover.open(this, index);
  }

  press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || this.current < 0) return;
    if (event.key === "Enter" || event.key === " ") {
      this.popover.open(this, this.current);
    } else if (event.key === "Escape") {
      this.leave();
    } else {
      const index = this.target(event.key);
      if (index === undefined) return;
      this.focus(index);
      this.popover.preview(this, index);
    }
    event.preventDefault();
  }

  /** Return the index of the character that an arrow key leads to. */
  target(key) {
    const last = this.groups.length - 1;
    const {first} = this.groups[this.current];
    const next = RIGHT_TO_LEFT.test(this.pieces[first].text) ? "ArrowLeft" : "ArrowRight";
    const step = this.backward ? -1 : 1; // to the next character in reading order
    switch (key) {
      case "ArrowLeft":
      case "ArrowRight": return Math.min(last, Math.max(0, this.current + (key === next ? step : -step)));
      case "ArrowUp": return this.inLine(-step);
      case "ArrowDown": return this.inLine(step);
      case "Home": return this.backward ? last : 0;
      case "End": return this.backward ? 0 : last;
    }
  }

  /** Return the index of the nearest character in the line that is reached by steps of −1 or 1. */
  inLine(step) {
    const from = this.groups[this.current].span.getBoundingClientRect();
    let best = this.current, bestDistance = Infinity, line;
    for (let i = this.current + step; i >= 0 && i < this.groups.length; i += step) {
      const rect = this.groups[i].span.getBoundingClientRect();
      if (Math.abs(rect.top - from.top) < from.height / 2) continue;
      line ??= rect.top;
      if (Math.abs(rect.top - line) > rect.height / 2) break;
      const distance = Math.abs(rect.left - from.left);
      if (distance < bestDistance) [best, bestDistance] = [i, distance];
    }
    return best;
  }
}
