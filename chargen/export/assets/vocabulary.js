// The vocabulary of the model: the bytes of its tokens, which may follow each other, and the characters they spell.

const MASKED_NATS = 1e29; // a token id with a higher −log p can never occur
const MAX_SEARCH_STEPS = 64; // steps of the model for the alternatives at one position
const NUM_FULL_SEARCH = 20; // alternatives that are searched exactly where a character has several token ids

/** What the page knows about the tokens of the model: their bytes, and which may follow each other. */
class Vocabulary {
  constructor(model) {
    this.model = model;
    this.size = model.vocabSize;
    this.masked = new Set(model.maskedIds);
    this.hasDocuments = !this.masked.has(model.boundaryId);
    this.unknownId = model.unknownId ?? DEAD;
    this.bytes = Array.from({length: this.size}, (_, id) => model.tokenBytes(id));
    this.isCharLevel = this.bytes.every((bytes, id) => runUtf8(bytes, 0) === 0 && [...model.tokens[id]].length <= 1);
    this.nextState = this.transitions();
    this.decoder = new TextDecoder("utf-8", {ignoreBOM: true});
  }

  /** Return nextState[state][id]: the UTF-8 state after a token id, or DEAD where it must not be generated. */
  transitions() {
    const table = Array.from({length: this.isCharLevel ? 1 : NUM_UTF8_STATES}, (_, state) =>
      Int8Array.from(this.bytes, bytes => (bytes.length ? runUtf8(bytes, state) : DEAD)));
    if (this.hasDocuments) table[0][this.model.boundaryId] = 0;
    for (const row of table) for (const id of [...this.masked, this.unknownId]) if (id >= 0) row[id] = DEAD;
    return table;
  }

  /** Return the text of bytes that are complete characters. */
  decode(bytes) {
    return this.decoder.decode(Uint8Array.from(bytes));
  }

  /** Split a text in reading order into pieces in the order of the model. */
  split(text) {
    return this.splitPrepared(this.model.prepare(text));
  }

  /** Split a text in the order of the model into pieces {text, ids, isUnknown}: one for each character or token. */
  splitPrepared(text) {
    const ids = [...this.model.encode(text)];
    if (this.isCharLevel) {
      return [...text].map((char, i) => ({text: char, ids: [ids[i]], isUnknown: ids[i] === this.unknownId}));
    }
    const pieces = [];
    let pending = [], bytes = [], state = 0;
    for (const id of ids) {
      pending.push(id);
      bytes.push(...this.bytes[id]);
      state = runUtf8(bytes, 0);
      if (state > 0) continue;
      pieces.push({text: state === 0 ? this.decode(bytes) : "\ufffd", ids: pending, isUnknown: id === this.unknownId});
      [pending, bytes] = [[], []];
    }
    return pieces;
  }
}

/**
 * The characters that may come next, the most probable first.
 *
 * Where each character is one token id they are the token ids, sorted. Elsewhere a best-first search extends the most
 * probable incomplete character, as in chargen/probe/surprisal.py, until NUM_FULL_SEARCH characters are certain.
 */
class AlternativeSearch {
  constructor(vocabulary, {state, logits}) {
    this.vocabulary = vocabulary;
    this.complete = []; // {text, ids, nats}
    this.partial = []; // {ids, bytes, nats, utf8, state}: incomplete characters
    this.extend({ids: [], bytes: [], nats: 0, utf8: 0, state}, logits);
  }

  extend(parent, logits) {
    const {nextState, bytes, model} = this.vocabulary;
    const total = logSumExp(logits);
    for (let id = 0; id < logits.length; id++) {
      const utf8 = nextState[parent.utf8][id];
      const nats = parent.nats + logits[id] - total;
      if (utf8 === DEAD || nats < -MASKED_NATS) continue;
      const child = {ids: [...parent.ids, id], nats, utf8};
      if (utf8 > 0) this.partial.push({...child, bytes: [...parent.bytes, ...bytes[id]], state: parent.state});
      else this.complete.push({...child, text: this.spell(parent, id, model)});
    }
    this.complete.sort((a, b) => b.nats - a.nats);
    this.partial.sort((a, b) => b.nats - a.nats);
  }

  spell(parent, id, model) {
    if (id === model.boundaryId) return "";
    return this.vocabulary.decode([...parent.bytes, ...this.vocabulary.bytes[id]]);
  }

  async run(slices) {
    for (let steps = 0; steps < MAX_SEARCH_STEPS && this.partial.length; steps++) {
      const isCertain = this.complete.length >= NUM_FULL_SEARCH
        && this.complete[NUM_FULL_SEARCH - 1].nats >= this.partial[0].nats;
      if (isCertain) break;
      await slices.next();
      const partial = this.partial.shift();
      const state = this.vocabulary.model.copy(partial.state);
      const logits = new Float32Array(this.vocabulary.model.step(state, partial.ids[partial.ids.length - 1]));
      this.extend({...partial, state}, logits);
    }
    return this.complete.map(({text, ids, nats}) => ({text, ids, probability: Math.exp(nats)}));
  }
}
