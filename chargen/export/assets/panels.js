// The three panels: write with the model, colour a text by surprisal, and rank lines.

const TYPING_DELAY_MS = 120;
const MAX_READ_CHARS = 20000; // of a prompt or a text; the end of a longer prompt and the start of a longer text
const MAX_RANKED_LINES = 2000, MAX_RANKED_CHARS = 50000;

const bitsPerChar = pieces => {
  const score = scoreOf(pieces);
  return score.bitsPerChar === null ? "–" : format(score.bitsPerChar, 3);
};

/** Return a function that calls another one when no call has come for some time. */
function delayed(action, milliseconds) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, milliseconds);
  };
}

/** Runs one task at a time: a new one aborts the one before. */
class Task {
  start(work) {
    this.stop();
    this.controller = new AbortController();
    const {signal} = this.controller;
    find("failure").hidden = true;
    onlyAborted(work(signal).catch(error => {
      if (error.name !== "AbortError") this.onFailure?.();
      throw error;
    }));
  }

  stop() {
    this.controller?.abort();
  }
}

const isTooLong = string => [...string].length > MAX_READ_CHARS;
const firstChars = string => [...string].slice(0, MAX_READ_CHARS).join("");
const lastChars = string => [...string].slice(-MAX_READ_CHARS).join("");

/** Return the unknown characters of a text, each once, for a message; isolated, because they may be right-to-left. */
const unknownChars = pieces => {
  const chars = new Set(pieces.filter(piece => piece.isUnknown).map(piece => glyphOf(piece.text)));
  return chars.size ? `\u2068${[...chars].slice(0, 10).join(" ")}\u2069` : "";
};

class WritePanel {
  constructor(model, popover, onChange) {
    Object.assign(this, {model, onChange, text: model.openText(), task: new Task(), numKept: 0, history: []});
    const onChoose = (number, alternative) => this.choose(number, alternative);
    this.view = new TextView(find("output"), popover, model.backward, onChoose);
    this.task.onFailure = () => this.idle(() => "");
    find("prompt").addEventListener("input", delayed(() => this.live(true), TYPING_DELAY_MS));
    connectSettings(delayed(() => this.live(false), TYPING_DELAY_MS));
    find("generate").addEventListener("click", () => this.generate());
    find("stop").addEventListener("click", () => this.stop());
    find("another").addEventListener("click", () => this.another());
    find("continue").addEventListener("click", () => this.continueText());
    find("undo").addEventListener("click", () => this.undo());
    find("copy-text").addEventListener("click", () => onlyAborted(copy(this.string(0))));
    find("colours").addEventListener("change", () => {
      this.colour();
      this.onChange();
    });
    find("live").addEventListener("change", () => this.onChange());
  }

  string(first, end) {
    return textOf(this.text.pieces.slice(first, end), this.model.backward);
  }

  /** The characters that the reader has kept after the prompt. */
  get kept() {
    return this.string(this.numPrompt, this.numPrompt + this.numKept);
  }

  get numPrompt() {
    const index = this.text.pieces.findIndex(piece => piece.kind !== "prompt");
    return index < 0 ? this.text.pieces.length : index;
  }

  colour() {
    find("output").classList.toggle("coloured", find("colours").checked);
    find("write-legend").hidden = !find("colours").checked;
  }

  live(isPrompt) {
    if (isPrompt) this.forget();
    if (find("live").checked) this.generate();
    else readSettings();
    this.onChange();
  }

  /** Forget what was kept of an earlier text. */
  forget() {
    this.numKept = 0;
    this.history = [];
    find("undo").disabled = true;
  }

  /** Generate a text after the prompt and the characters that are kept. */
  generate(kept = null) {
    const settings = readSettings();
    if (!settings) return this.refuse();
    if (this.model.backward && !this.model.backward.isWhole(find("prompt").value)) {
      this.stop();
      this.say(() => t("partOfLetter"));
      return;
    }
    this.task.start(async signal => {
      this.busy("reading");
      await this.readPrompt(kept, signal);
      await this.run(settings, signal, false);
    });
  }

  /** Read the prompt and the characters that are kept: those of a link, or those after the same prompt before. */
  async readPrompt(kept, signal) {
    const prompt = find("prompt").value;
    if (kept === null && prompt === this.prompt) {
      await this.text.restore(this.text.pieces.slice(0, this.numPrompt + this.numKept), signal);
      return;
    }
    this.prompt = undefined; // until it is read
    await this.text.read((this.model.backward ? firstChars : lastChars)(prompt), kept ?? "", signal);
    this.numKept = this.text.pieces.length - this.numPrompt;
    this.prompt = prompt;
  }

  /** Generate. A text that is not shown yet appears with its first new characters, so that the page does not flicker. */
  async run(settings, signal, isShown = true) {
    this.busy("generating");
    const before = [...this.text.pieces], start = performance.now();
    for await (const pieces of this.text.generate(settings, signal)) {
      if (!isShown) this.view.show(this.text, before);
      isShown = true;
      this.view.add(pieces);
    }
    if (!isShown) this.view.show(this.text);
    this.report(before.length, start);
    this.onChange();
  }

  report(first, start) {
    const added = this.text.pieces.slice(first), {ended} = this.text;
    const count = added.reduce((sum, piece) => sum + [...piece.text].length, 0);
    const speed = count / Math.max(1e-3, (performance.now() - start) / 1000);
    const unknown = unknownChars(this.text.pieces);
    this.idle(() => [
      t("generated", {count: format(count), speed: format(speed), bits: bitsPerChar(added)}),
      t("ended" + ended[0].toUpperCase() + ended.slice(1)),
      unknown ? t("unknownInPrompt", {chars: unknown}) : "",
      isTooLong(this.prompt) ? t("longPrompt", {most: format(MAX_READ_CHARS)}) : "",
    ].join(" "));
  }

  busy(key) {
    find("stop").disabled = false;
    find("write-status").setAttribute("aria-busy", "true"); // only the result is announced
    this.say(() => t(key));
  }

  idle(message) {
    if (document.activeElement === find("stop")) find("generate").focus();
    find("stop").disabled = true;
    find("write-status").setAttribute("aria-busy", "false");
    this.say(message);
  }

  /** Show a message, which is a function because the language may change. */
  say(message = this.message) {
    this.message = message;
    find("write-status").textContent = message();
  }

  stop() {
    if (find("stop").disabled) return;
    this.task.stop();
    this.view.show(this.text);
    this.idle(() => t("stopped"));
  }

  /** Say which setting is invalid, instead of generating. */
  refuse() {
    this.stop();
    find("settings").open = true;
    this.say(() => find("settings").querySelector(".error").textContent);
  }

  another() {
    writeNumber("seed", String(Math.floor(Math.random() * 1e6)));
    this.generate();
    this.onChange();
  }

  continueText() {
    const settings = readSettings();
    if (!settings) return this.refuse();
    if (this.prompt === undefined) return;
    this.task.start(async signal => {
      await this.text.restore(this.text.pieces.filter(piece => piece.text), signal);
      this.view.show(this.text);
      this.keepAll();
      await this.run(settings, signal);
    });
  }

  keepAll() {
    this.numKept = this.text.pieces.length - this.numPrompt;
  }

  /** Replace the piece of a number by an alternative, and continue from there. */
  choose(number, alternative) {
    const settings = readSettings();
    if (!settings) return this.refuse();
    const pieces = this.view.pieces;
    this.history.push({pieces, prompt: find("prompt").value, numKept: this.numKept});
    find("undo").disabled = false;
    this.replace(pieces.slice(0, number), alternative, settings);
  }

  /** Continue after pieces and an alternative. */
  replace(pieces, alternative, settings) {
    this.task.start(async signal => {
      await this.text.restore(pieces, signal);
      await this.text.append(alternative, "chosen");
      this.prompt = find("prompt").value = this.string(0, this.numPrompt);
      this.keepAll();
      this.view.show(this.text);
      this.view.focusPiece(pieces.length);
      find("announcement").textContent = t("choose", {char: nameOf(this.view.spell(alternative.text))});
      if (alternative.text) await this.run(settings, signal);
      else this.idle(() => t("endedBoundary"));
      this.onChange();
    });
  }

  undo() {
    const before = this.history.pop();
    if (!before) return;
    find("undo").disabled = !this.history.length;
    this.task.start(async signal => {
      await this.text.restore(before.pieces, signal);
      this.prompt = find("prompt").value = before.prompt;
      this.numKept = before.numKept;
      this.view.show(this.text);
      this.idle(() => "");
      if (!this.history.length && this.view.current >= 0) this.view.focus(this.view.current);
      this.onChange();
    });
  }

  /** Continue a text of another panel, with one piece replaced. */
  continueFrom(pieces, alternative) {
    const settings = readSettings();
    if (!settings) return this.refuse();
    this.forget();
    this.replace(pieces.map(piece => ({...piece, kind: "prompt"})), alternative, settings);
  }
}

class SurprisalPanel {
  constructor(model, popover, onChange, onContinue) {
    Object.assign(this, {text: model.openText(), model, onChange, task: new Task()});
    this.view = new TextView(find("heat"), popover, model.backward, (number, alternative) => {
      onContinue(this.view.pieces.slice(0, number), alternative);
    });
    find("scored").addEventListener("input", delayed(() => this.score(), TYPING_DELAY_MS));
  }

  score() {
    this.task.start(async signal => {
      const scored = find("scored").value;
      await this.text.read(firstChars(scored), "", signal);
      if (this.model.hasDocuments && this.text.pieces.length) await this.text.appendEnd();
      this.view.show(this.text);
      const score = scoreOf(this.text.pieces);
      find("surprisal-status").textContent = score.bitsPerChar === null ? "" : [
        t("scored", {bits: format(score.bitsPerChar, 3), total: format((0 - score.nats) / LN2, 1),
          count: format(score.numChars)}),
        score.numUnknown ? t("scoredUnknown", {count: format(score.numUnknown)}) : "",
        isTooLong(scored) ? t("longText", {most: format(MAX_READ_CHARS)}) : "",
      ].join(" ");
      this.onChange();
    });
  }
}

class RankPanel {
  constructor(model, onChange) {
    Object.assign(this, {model, onChange, task: new Task(), rows: []});
    find("lines").addEventListener("input", delayed(() => this.rank(), TYPING_DELAY_MS));
  }

  rank() {
    const all = find("lines").value.split("\n").filter(line => line);
    const lines = [];
    for (let i = 0, chars = 0; i < Math.min(all.length, MAX_RANKED_LINES); i++) {
      if (chars + all[i].length > MAX_RANKED_CHARS) continue;
      chars += all[i].length;
      lines.push(all[i]);
    }
    this.task.start(async signal => {
      const scores = [];
      let shown = performance.now();
      await this.model.score(lines, signal, (index, score) => {
        scores.push(score);
        if (performance.now() - shown < 200) return;
        shown = performance.now();
        find("rank-status").textContent = t("rankingLines", {done: format(index + 1), count: format(lines.length)});
      });
      scores.sort((a, b) => b.nats / b.numChars - a.nats / a.numChars);
      find("ranking").replaceChildren(...scores.map(score => rankRow(score, this.model.backward)));
      this.report(all.length, scores);
      this.onChange();
    });
  }

  report(numLines, scores) {
    const nats = scores.reduce((sum, each) => sum + each.nats, 0);
    const chars = scores.reduce((sum, each) => sum + each.numChars, 0);
    const limits = {lines: format(MAX_RANKED_LINES), chars: format(MAX_RANKED_CHARS)};
    find("rank-status").textContent = [
      chars ? t("ranked", {count: format(scores.length), bits: format((0 - nats) / LN2 / chars, 3)}) : "",
      numLines > scores.length ? t("linesLeftOut", {left: format(numLines - scores.length), ...limits}) : "",
    ].join(" ");
  }
}

/** Return the row of a score: the line is coloured by surprisal. */
function rankRow(score, backward) {
  const row = document.createElement("tr");
  const cells = [format(score.bitsPerChar, 3), format(score.nats, 2), format(score.numChars)];
  for (const text of [...cells, ""]) {
    const cell = row.insertCell();
    cell.setAttribute("role", "cell");
    cell.textContent = text;
  }
  const line = row.lastChild;
  row.setAttribute("role", "row");
  line.lang = "";
  line.translate = false;
  let first = 0;
  for (const size of groupPieces(score.pieces, backward)) {
    line[backward ? "prepend" : "append"](drawGroup(score.pieces.slice(first, first + size), backward));
    first += size;
  }
  return row;
}
