// The box beside a character: its probability, and the alternatives that the reader can choose.
//
// As a preview it follows the pointer or the focus; open, it has the focus until it is closed.

const NUM_PREVIEWED = 6, NUM_LISTED = 100;

/** The box beside a character with its probability and its alternatives. */
class Popover {
  constructor() {
    const find = id => document.getElementById(id);
    Object.assign(this, {box: find("popover"), title: find("popover-title"), parts: find("popover-parts"),
      list: find("alternatives"), search: find("find"), view: null, isOpen: false, controller: null});
    this.close(); // a page that the browser saved may have it open
    find("popover-close").addEventListener("click", () => this.dismiss());
    this.list.addEventListener("click", event => this.clickOption(event));
    this.box.addEventListener("keydown", event => this.press(event));
    this.search.addEventListener("input", () => this.fill());
    document.addEventListener("pointerdown", event => {
      if (this.isOpen && !this.box.contains(event.target)) this.close();
    });
  }

  preview(view, index) {
    this.start(view, index, false);
  }

  open(view, index) {
    this.start(view, index, true);
    this.group.span.scrollIntoView({block: "nearest"});
    this.list.focus({preventScroll: true});
  }

  start(view, index, isOpen) {
    this.close();
    this.isOpen = isOpen;
    this.view = view;
    this.group = view.groups[index];
    this.group.span.classList.add("here");
    this.box.classList.toggle("preview", !isOpen);
    this.box.setAttribute("aria-hidden", String(!isOpen));
    this.box.hidden = false;
    this.explain(this.group.first);
  }

  close() {
    this.controller?.abort();
    this.group?.span.classList.remove("here");
    this.group = null;
    this.list.replaceChildren(); // a page that the browser saves must not have styles of its own, which it forbids
    for (const element of [this.list, this.box]) if (element.hasAttribute("style")) element.removeAttribute("style");
    this.box.hidden = true;
    this.isOpen = false;
  }

  /** Close the box and return to the character. */
  dismiss() {
    const {view, group} = this;
    this.close();
    if (group?.span.isConnected) view.focus(group.span.groupIndex);
  }

  /** Show a piece of the character, and load its alternatives. */
  explain(number) {
    this.number = number;
    const piece = this.view.pieces[number];
    this.piece = piece;
    const kind = t("kind" + piece.kind[0].toUpperCase() + piece.kind.slice(1));
    const glyph = document.createElement("bdi"); // a right-to-left character does not reorder what follows
    glyph.textContent = nameOf(this.view.spell(piece.text));
    this.title.replaceChildren(glyph, [
      "", formatPercent(Math.exp(piece.nats)), t("bits", {bits: format(bitsOf(piece), 2)}),
      ...(piece.isUnknown ? [t("unknown")] : kind ? [kind] : []),
    ].join(" · "));
    this.alternatives = [];
    this.search.value = "";
    this.showParts();
    this.fill();
    this.controller = new AbortController();
    onlyAborted(this.load(this.controller.signal));
  }

  async load(signal) {
    const alternatives = await this.view.text.alternatives(this.view.pieces.slice(0, this.number), signal);
    signal.throwIfAborted();
    this.alternatives = alternatives;
    this.numListed = NUM_LISTED;
    this.fill();
  }

  /** Show a button for each piece, if the character has several. */
  showParts() {
    const {first, size} = this.group;
    this.parts.replaceChildren(...(size < 2 ? [] : this.view.pieces.slice(first, first + size).map((piece, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = glyphOf(this.view.spell(piece.text));
      button.setAttribute("aria-pressed", String(first + i === this.number));
      button.addEventListener("click", () => {
        this.explain(first + i);
        this.list.focus();
      });
      return button;
    })));
  }

  /** Fill the list with the alternatives that the reader searches for. */
  fill() {
    const searched = this.search.value.normalize("NFC");
    const matches = this.alternatives.filter(each => {
      const text = this.view.spell(each.text);
      return text.includes(searched) || text.includes(searched.toLowerCase());
    });
    const shown = matches.slice(0, this.isOpen ? this.numListed : NUM_PREVIEWED);
    const scale = this.alternatives.length ? this.alternatives[0].probability : 1;
    this.shown = shown;
    const rows = shown.map((each, i) => this.row(each, i, scale));
    if (this.isOpen && matches.length > shown.length) rows.push(this.note("more", t("more")));
    if (searched && !matches.length) rows.push(this.note("", t("noMatch")));
    this.list.replaceChildren(...rows);
    this.box.querySelector("#popover-search").hidden = this.alternatives.length <= NUM_PREVIEWED;
    this.activate(Math.max(0, shown.findIndex(each => each.text === this.piece.text)), false);
    this.place();
  }

  row(alternative, index, scale) {
    const row = document.createElement("li"), glyph = document.createElement("bdi");
    const track = document.createElement("span"), bar = document.createElement("i");
    const percent = document.createElement("span");
    row.id = "alternative-" + index;
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", String(alternative.text === this.piece.text));
    glyph.className = "glyph";
    glyph.textContent = nameOf(this.view.spell(alternative.text));
    track.className = "track";
    bar.style.width = `${100 * alternative.probability / scale}%`;
    percent.className = "percent";
    percent.textContent = formatPercent(alternative.probability);
    track.append(bar);
    row.append(glyph, track, percent);
    return row;
  }

  note(name, text) {
    const row = document.createElement("li");
    row.className = name || "note";
    row.textContent = text;
    row.id = "alternative-" + row.className;
    row.setAttribute("role", "option");
    row.setAttribute("aria-disabled", String(!name));
    return row;
  }

  activate(index, scroll = true) {
    this.list.querySelector(".active")?.classList.remove("active");
    const row = this.list.children[index];
    this.list.removeAttribute("aria-activedescendant");
    if (!row || !this.isOpen || !this.shown.length) return;
    this.active = index;
    row.classList.add("active");
    if (row.id) this.list.setAttribute("aria-activedescendant", row.id);
    if (scroll) row.scrollIntoView({block: "nearest"});
  }

  clickOption(event) {
    const row = event.target.closest("li");
    if (row) this.choose([...this.list.children].indexOf(row));
  }

  choose(index) {
    const alternative = this.shown[index];
    if (alternative) {
      const {view, number} = this;
      this.close();
      view.onChoose(number, alternative);
    } else if (this.list.children[index]?.className === "more") {
      this.numListed += NUM_LISTED;
      this.fill();
      this.activate(index);
    }
  }

  press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    const last = this.list.children.length - 1;
    const to = {ArrowDown: this.active + 1, ArrowUp: this.active - 1, PageDown: this.active + 8,
      PageUp: this.active - 8}[event.key];
    if (event.key === "Escape") this.dismiss();
    else if (to !== undefined) this.activate(Math.min(last, Math.max(0, to)));
    else if (event.key === "Enter" && (event.target === this.list || event.target === this.search)) {
      this.choose(this.active);
    } else if (event.key === "Tab") {
      this.keepFocus(event);
      return;
    } else if (event.target === this.list && [...event.key].length === 1) {
      this.activate(this.shown.findIndex(each => this.view.spell(each.text) === event.key));
    } else return;
    event.preventDefault();
  }

  /** Move from the last control of the box to the first, so that the focus does not leave it while it is open. */
  keepFocus(event) {
    const controls = [...this.box.querySelectorAll("button, ul, input")].filter(each => each.offsetParent);
    const edge = event.shiftKey ? controls[0] : controls[controls.length - 1];
    if (event.target !== edge) return;
    controls[event.shiftKey ? controls.length - 1 : 0].focus();
    event.preventDefault();
  }

  /** Place the box below the character, or above it where there is more space. */
  place() {
    const margin = 8;
    const rect = this.group.span.getClientRects()[0] ?? this.group.span.getBoundingClientRect();
    this.list.style.maxHeight = "";
    const {offsetWidth: width, offsetHeight: height} = this.box;
    const below = window.innerHeight - rect.bottom - margin, above = rect.top - margin;
    const isAbove = below < height && above > below;
    const excess = Math.max(0, height - Math.max(below, above));
    if (excess) this.list.style.maxHeight = `${Math.max(100, this.list.offsetHeight - excess - margin)}px`;
    const pageWidth = document.documentElement.clientWidth;
    const left = Math.min(Math.max(margin, rect.left - 24), Math.max(margin, pageWidth - width - margin));
    const top = isAbove ? rect.top - this.box.offsetHeight - margin : rect.bottom + margin;
    this.box.style.left = `${left + window.scrollX}px`;
    this.box.style.top = `${top + window.scrollY}px`;
  }
}
