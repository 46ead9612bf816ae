// The model of this page, as the interface sees it: texts that are read, continued and explained.
//
// The interface calls `openModel(payload)`, and then only what is listed here. A model on a server can replace the one in
// the page by another class with the same members; everything that may take long is asynchronous.
//
//   model.about                    what the model is, see `createModel`
//   model.models                   names of the models that the reader can choose between
//   model.aboutMessage             key of the message that says where the model runs
//   model.vocabSize                number of token ids
//   model.backward                 null; of a model that reads texts backward, what reverses them (direction.js)
//   model.hasDocuments             whether the model ends texts by itself
//   model.openText() ─▶ text
//     text.pieces                  [{text, ids, nats, isUnknown, kind}]; nats is log p, kind "prompt", "chosen", …;
//                                  in the order in which the model reads them, like their texts
//     await text.read(prompt, kept, signal)     replaces everything by a prompt and a text after it
//     await text.restore(pieces, signal)        replaces everything by pieces of this or an earlier text
//     await text.append(piece, kind, signal)    adds a piece of `alternatives`
//     await text.appendEnd(signal)              adds the end of the document
//     text.generate(settings, signal)           yields new pieces, slice by slice; then text.ended says why
//     await text.alternatives(pieces, signal)   [{text, ids, probability}] after pieces, the most probable first
//   await model.score(strings, signal, onScore) calls onScore(index, score) for each string
//
// A piece is one character; the end of a document is a piece without text. Long work is done in slices of SLICE_MS, so
// that the page answers in between; it ends with an AbortError once the signal is aborted.

const SLICE_MS = 14;
const SNAPSHOT_EVERY = 32; // tokens between two states that are kept, to return to
const MAX_SILENT_IDS = 8; // token ids in a row that complete no character

const channel = new MessageChannel();
const waiting = [];
channel.port1.onmessage = () => waiting.shift()();
/** Let the page handle its events. A timer would wait for 4 ms. */
const pause = () => new Promise(resolve => {
  waiting.push(resolve);
  channel.port2.postMessage(0);
});

/** Splits long work into slices: `await slices.next()` where the work can be interrupted. */
class Slices {
  constructor(signal) {
    this.signal = signal;
    this.end = performance.now() + SLICE_MS;
  }

  get isOver() {
    return performance.now() >= this.end;
  }

  async next() {
    if (this.isOver) {
      await pause();
      this.end = performance.now() + SLICE_MS;
    }
    this.signal?.throwIfAborted();
  }
}

/** The token ids that the model has read, with the log probability of each, and states to return to. */
class TokenSequence {
  constructor(model) {
    this.model = model;
    this.ids = [];
    this.nats = []; // log p of each token id given those before it
    this.snapshots = []; // {length, state}: the state after the first `length` token ids
    this.logits = new Float32Array(model.vocabSize); // of the next token id
    this.restart();
  }

  restart() {
    this.ids.length = this.nats.length = this.snapshots.length = 0;
    this.state = this.model.initialState();
    for (const id of this.model.startIds) this.step(id);
    this.save();
  }

  save() {
    this.snapshots.push({
      length: this.ids.length, state: this.model.copy(this.state), logits: new Float32Array(this.logits),
    });
  }

  step(id) {
    this.logits.set(this.model.step(this.state, id));
  }

  append(id) {
    this.nats.push(Number(this.logits[id]) - logSumExp(this.logits));
    this.ids.push(id);
    this.step(id);
    if (this.ids.length % SNAPSHOT_EVERY === 0) this.save();
  }

  /** Return to the first `length` token ids. */
  cut(length) {
    if (length >= this.ids.length) return;
    const rest = this.ids.slice(0, length);
    while (this.snapshots[this.snapshots.length - 1].length > length) this.snapshots.pop();
    const snapshot = this.snapshots[this.snapshots.length - 1];
    this.ids.length = this.nats.length = snapshot.length;
    this.state = this.model.copy(snapshot.state);
    this.logits.set(snapshot.logits);
    for (const id of rest.slice(snapshot.length)) this.append(id);
  }

  numCommon(ids) {
    let common = 0;
    while (common < ids.length && common < this.ids.length && ids[common] === this.ids[common]) common++;
    return common;
  }

  /** Read token ids from the start; what they have in common with those that were read before is kept. */
  async goTo(ids, slices) {
    const common = this.numCommon(ids);
    this.cut(common);
    for (let i = common; i < ids.length; i++) {
      await slices.next();
      this.append(ids[i]);
    }
  }

  /** Return the state after token ids and the logits of the next one. The sequence itself is not changed. */
  async peek(ids, slices) {
    const common = this.numCommon(ids);
    const snapshot = this.snapshots.filter(each => each.length <= common).pop();
    const state = this.model.copy(snapshot.state);
    const logits = new Float32Array(snapshot.logits);
    for (let i = snapshot.length; i < ids.length; i++) {
      await slices.next();
      logits.set(this.model.step(state, ids[i]));
    }
    return {state, logits};
  }
}

/** A text that a model reads, continues and explains. */
class LocalText {
  constructor(model, vocabulary) {
    this.vocabulary = vocabulary;
    this.sequence = new TokenSequence(model);
    this.pieces = [];
    this.numPromptIds = 0; // random numbers are counted from the end of the prompt
    this.ended = "";
  }

  async read(prompt, kept, signal, slices = new Slices(signal)) {
    const pieces = this.vocabulary.split(prompt).map(piece => ({...piece, kind: "prompt"}));
    const after = this.vocabulary.split(kept).map(piece => ({...piece, kind: "generated"}));
    await this.restore([...pieces, ...after], signal, slices);
  }

  async restore(pieces, signal, slices = new Slices(signal)) {
    await this.sequence.goTo(pieces.flatMap(piece => piece.ids), slices);
    this.pieces = [...pieces];
    this.numPromptIds = 0;
    let end = 0;
    for (const piece of pieces) {
      end += piece.ids.length;
      piece.nats = this.natsOf(piece, end);
      if (piece.kind === "prompt") this.numPromptIds = end;
    }
  }

  append(piece, kind) {
    for (const id of piece.ids) this.sequence.append(id);
    const added = {text: piece.text, ids: piece.ids, isUnknown: false, kind};
    added.nats = this.natsOf(added, this.sequence.ids.length);
    this.pieces.push(added);
  }

  async appendEnd() {
    await this.append({text: "", ids: [this.vocabulary.model.boundaryId]}, "end");
  }

  /** Return log p in nats of a piece whose last token id is before position `end`. */
  natsOf(piece, end) {
    const nats = this.sequence.nats.slice(end - piece.ids.length, end).reduce((sum, each) => sum + each, 0);
    return piece.isUnknown ? nats + this.vocabulary.model.unknownLogProb : nats;
  }

  /**
   * Generate characters, and yield them as lists of pieces; they are also in `pieces`.
   * @param {{temperature, topK, topP, minP, length, seed, stop}} settings - length in characters; stop: strings
   */
  async *generate(settings, signal) {
    const {boundaryId} = this.vocabulary.model;
    const last = this.pieces[this.pieces.length - 1];
    this.ended = last && !last.text ? "boundary" : ""; // nothing follows the end of a document
    const slices = new Slices(signal), stops = settings.stop.map(stop => this.vocabulary.model.prepare(stop));
    const promptStart = this.promptStart();
    let numShown = this.pieces.length, numLeft = settings.length, written = "";
    while (!this.ended) {
      await slices.next();
      const piece = numLeft > 0 && this.drawPiece(settings);
      if (!piece) this.ended = "length";
      else if (piece.ids[0] === boundaryId) this.ended = "boundary";
      else {
        const text = [...piece.text].slice(0, numLeft).join(""); // a piece may have several characters
        if (promptStart) piece.numHidden = this.numJoined(promptStart, written, text);
        written += text;
        numLeft -= [...text].length;
        const start = findStop(written, text.length, stops);
        const numKept = start < 0 ? written.length : start;
        this.removeEnd(written.length - numKept + piece.text.length - text.length);
        if (start >= 0) this.ended = "stop";
      }
      if (this.ended || slices.isOver) {
        const numReady = this.ended ? this.pieces.length : this.numReady(written, stops);
        if (numReady > numShown) yield this.pieces.slice(numShown, numReady);
        numShown = Math.max(numShown, numReady);
      }
    }
  }

  /** Draw the token ids of one piece and append it. */
  drawPiece(settings) {
    const {nextState, model} = this.vocabulary;
    const ids = [], bytes = [];
    let state = 0;
    do {
      const logits = new Float64Array(this.sequence.logits);
      for (let id = 0; id < logits.length; id++) if (nextState[state][id] === DEAD) logits[id] = -Infinity;
      const number = this.sequence.ids.length - this.numPromptIds;
      const id = drawId(warpLogits(logits, settings), randomNumber(settings.seed, number));
      this.sequence.append(id);
      ids.push(id);
      bytes.push(...this.vocabulary.bytes[id]);
      state = nextState[state][id];
    } while (state !== 0 && ids.length < MAX_SILENT_IDS);
    const text = ids[0] === model.boundaryId ? "" : this.vocabulary.decode(bytes);
    const piece = {text, ids, isUnknown: false, kind: text ? "generated" : "end"};
    piece.nats = this.natsOf(piece, this.sequence.ids.length);
    this.pieces.push(piece);
    return piece;
  }

  /** Remove the last `length` UTF-16 units. What is left of a piece with several characters is encoded again. */
  removeEnd(length) {
    if (length <= 0) return;
    let left = "";
    while (length > 0) {
      const piece = this.pieces.pop();
      left = piece.text.slice(0, Math.max(0, piece.text.length - length));
      length -= piece.text.length;
      this.sequence.cut(this.sequence.ids.length - piece.ids.length);
    }
    for (const piece of this.vocabulary.splitPrepared(left)) this.append(piece, "generated");
  }

  /** Return the first character of the prompt if a text is generated directly before it; "" otherwise. */
  promptStart() {
    const {backward} = this.vocabulary.model;
    if (!backward || this.pieces[this.pieces.length - 1]?.kind !== "prompt") return "";
    return String.fromCodePoint(backward.reverse(this.pieces.map(piece => piece.text).join("")).codePointAt(0));
  }

  /**
   * Return how many UTF-16 units of a new text are marks that would change the first letter of the prompt. They are not
   * shown, as they are left out by chargen/tokenizers/direction.py.
   */
  numJoined(promptStart, written, text) {
    const letter = this.vocabulary.model.backward.letterLengths(promptStart + written + text)[0];
    return Math.max(0, Math.min(text.length, letter - promptStart.length - written.length));
  }

  /** Return the number of pieces that cannot become part of a stop string. */
  numReady(written, stops) {
    let held = 0;
    for (const stop of stops) {
      for (let n = Math.min(stop.length - 1, written.length); n > held; n--) {
        if (written.endsWith(stop.slice(0, n))) held = n;
      }
    }
    let numReady = this.pieces.length;
    while (held > 0) held -= this.pieces[--numReady].text.length;
    return numReady;
  }

  async alternatives(pieces, signal) {
    const slices = new Slices(signal);
    const before = await this.sequence.peek(pieces.flatMap(piece => piece.ids), slices);
    return new AlternativeSearch(this.vocabulary, before).run(slices);
  }
}

/** The model in this page. */
class LocalModel {
  constructor(model) {
    this.model = model;
    this.about = model.about;
    this.models = [model.about.name];
    this.aboutMessage = "aboutText";
    this.vocabulary = new Vocabulary(model);
    this.vocabSize = model.vocabSize;
    this.backward = model.backward;
    this.hasDocuments = this.vocabulary.hasDocuments;
  }

  openText() {
    return new LocalText(this.model, this.vocabulary);
  }

  /**
   * Score texts, with the numbers of `chargen score`.
   * onScore gets (index, {pieces, nats, numChars, numUnknown, bitsPerChar}); bitsPerChar is null for an empty text.
   */
  async score(strings, signal, onScore) {
    const text = this.openText(), slices = new Slices(signal);
    for (let index = 0; index < strings.length; index++) {
      await text.read(strings[index], "", signal, slices);
      if (this.hasDocuments) await text.appendEnd();
      onScore(index, scoreOf(text.pieces));
    }
  }
}

/** Open the model that the page contains; the interface calls this once. */
async function openModel(payload) {
  return new LocalModel(createModel(payload));
}
