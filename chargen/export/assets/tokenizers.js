// The texts of the page: token ids from texts and texts from token ids, as the tokenizers of chargen do it.

function normalize(text, payload) {
  if (payload.newline === "lf") text = text.replace(/\r\n?/g, "\n");
  return payload.normalize === "nfc" ? text.normalize("NFC") : text;
}

function decodeAll(tokenizer, unknownId, ids) {
  const unknown = toBytes(UNKNOWN_CHARACTER);
  return fromBytes(Array.from(ids).flatMap((id) => (id === unknownId ? unknown : Array.from(tokenizer.tokenBytes(id)))));
}

const TOKENIZERS = {
  char({ characters }) {
    const tokens = ["", "", ...characters]; // the boundary, the unknown character, and the characters
    const ids = new Map(tokens.map((token, id) => [token, id]));
    return {
      tokens,
      encode: (text) => Int32Array.from(text, (character) => ids.get(character) || 1),
      tokenBytes: (id) => Uint8Array.from(toBytes(tokens[id])),
    };
  },

  byte() {
    const tokens = [""]; // the boundary, and the bytes
    for (let byte = 0; byte < 256; byte++) tokens.push(byte < 128 ? String.fromCharCode(byte) : escapeByte(byte));
    return {
      tokens,
      tokenBytes: (id) => Uint8Array.from(id ? [id - 1] : []),
      encode: (text) => Int32Array.from(toBytes(text), (byte) => byte + 1),
    };
  },

  sp({ pieces, algorithm }) {
    const bytes = [[], ...pieces.map(pieceBytes)];
    const isCharacters = (token) => toBytes(fromBytes(token)).join() === token.join();
    return {
      tokens: bytes.map((token) => (isCharacters(token) ? fromBytes(token) : token.map(escapeByte).join(""))),
      tokenBytes: (id) => Uint8Array.from(bytes[id]),
      encode: encodeLines(createEncoder[algorithm](pieces), byteIdsOf(pieces)),
    };
  },
};

const toBytes = (text) => Array.from(new TextEncoder().encode(text));
const fromBytes = (bytes) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
const escapeByte = (byte) => "\\x" + byte.toString(16).toUpperCase().padStart(2, "0");

// ── sentencepiece ─────────────────────────────────────────────────────────────────────────────────────────────────────

const NORMAL = 1, USER_DEFINED = 4, UNUSED = 5, BYTE = 6; // kinds of pieces
const SPACE_MARK = "▁";
const UNKNOWN_PENALTY = 10; // how much less than the lowest score of a piece a character without a piece scores
const USER_DEFINED_SCORE = Math.fround(0.1); // more than that of a normal piece, which is the log of a probability
const LINES = /[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]*(?:\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]|$)/g;

// Return the bytes of a piece [text, score, kind]; none for <unk> and control pieces.
function pieceBytes([text, , kind]) {
  if (kind === BYTE) return [parseInt(text.slice(3, 5), 16)];
  return [NORMAL, USER_DEFINED, UNUSED].includes(kind) ? toBytes(text.replaceAll(SPACE_MARK, " ")) : [];
}

// Return the id of each byte, which is one more than the number of its piece.
function byteIdsOf(pieces) {
  const ids = [];
  pieces.forEach(([text, , kind], n) => {
    if (kind === BYTE) ids[parseInt(text.slice(3, 5), 16)] = n + 1;
  });
  return ids;
}

// Return the function that encodes a text: line by line, and without the mark, which the library writes for a space.
// `encodePart` returns a list of ids, and of strings that are no piece and are written as bytes.
function encodeLines(encodePart, byteIds) {
  const writeBytes = (text) => toBytes(text).map((byte) => byteIds[byte]);
  const markIds = writeBytes(SPACE_MARK);
  return (text) => {
    const all = [];
    for (const line of text.match(LINES)) {
      line.split(SPACE_MARK).forEach((part, n) => {
        if (n) all.push(...markIds);
        for (const each of encodePart(part.replaceAll(" ", SPACE_MARK))) {
          if (typeof each === "number") all.push(each);
          else all.push(...writeBytes(each));
        }
      });
    }
    return Int32Array.from(all);
  };
}

const sizeAt = (text, position) => (text.codePointAt(position) > 0xffff ? 2 : 1);

// For each algorithm of sentencepiece, the function that returns `encodePart` for the pieces of a model.
const createEncoder = { unigram: createUnigramEncoder, bpe: createMergeEncoder, char: createCharacterEncoder };

// Unigram: the pieces with the highest total score (Viterbi). As in the library, sums are float32, and of equal sums the
// first one counts.
function createUnigramEncoder(pieces) {
  const known = new Map();
  const scores = pieces.filter(([, , kind]) => kind === NORMAL).map(([, score]) => score);
  const lowest = scores.reduce((low, score) => Math.min(low, score), Infinity);
  const unknownScore = Math.fround(lowest - UNKNOWN_PENALTY);
  let longest = 0;
  pieces.forEach(([text, score, kind], n) => {
    if (kind !== NORMAL && kind !== USER_DEFINED) return;
    known.set(text, { id: n + 1, score: kind === NORMAL ? score : USER_DEFINED_SCORE });
    longest = Math.max(longest, text.length);
  });

  return (text) => {
    const best = new Float32Array(text.length + 1).fill(-Infinity), begins = [], ids = [];
    best[0] = 0;
    for (let begin = 0; begin < text.length; begin += sizeAt(text, begin)) {
      const update = (end, id, total) => {
        if (begins[end] !== undefined && !(total > best[end])) return;
        best[end] = total;
        begins[end] = begin;
        ids[end] = id;
      };
      const next = begin + sizeAt(text, begin);
      let hasCharacter = false;
      for (let end = next; end - begin <= longest; end += sizeAt(text, end)) {
        const piece = known.get(text.slice(begin, end));
        if (piece) {
          update(end, piece.id, Math.fround(piece.score + best[begin]));
          hasCharacter = hasCharacter || end === next;
        }
        if (end >= text.length) break;
      }
      if (!hasCharacter) update(next, 0, Math.fround(unknownScore + best[begin]));
    }
    const found = [];
    for (let end = text.length; end > 0; end = begins[end]) found.push(ids[end] || text.slice(begins[end], end));
    return found.reverse();
  };
}

// Split a text into characters and user-defined pieces, of which the longest one counts.
function createSplitter(pieces) {
  const texts = pieces.filter(([, , kind]) => kind === USER_DEFINED).map(([text]) => text);
  const userDefined = new Set(texts), longest = Math.max(0, ...texts.map((text) => text.length));
  return function* split(text) {
    for (let begin = 0; begin < text.length; ) {
      let size = Math.min(longest, text.length - begin);
      while (size > 0 && !userDefined.has(text.slice(begin, begin + size))) size--;
      const isUserDefined = size > 0;
      if (!isUserDefined) size = sizeAt(text, begin);
      yield { text: text.slice(begin, begin + size), isUserDefined };
      begin += size;
    }
  };
}

// Characters: each one is a piece.
function createCharacterEncoder(pieces) {
  const ids = idsOf(pieces, [NORMAL, USER_DEFINED, UNUSED]), split = createSplitter(pieces);
  return (text) => Array.from(split(text), (symbol) => ids.get(symbol.text) ?? symbol.text);
}

const idsOf = (pieces, kinds) =>
  new Map(pieces.flatMap(([text, , kind], n) => (kinds.includes(kind) ? [[text, n + 1]] : [])));

// Byte-pair encoding: of all neighbours that together are a piece, those with the highest score are joined, the first of
// equal ones, until none is left. A piece that is unused is taken apart again. User-defined pieces are never joined.
function createMergeEncoder(pieces) {
  const ids = idsOf(pieces, [NORMAL, USER_DEFINED, UNUSED]), split = createSplitter(pieces);
  const isUnused = (id) => pieces[id - 1][2] === UNUSED;

  return (text) => {
    const symbols = Array.from(split(text), (symbol, n) => ({ ...symbol, before: n - 1, after: n + 1 }));
    const queue = createQueue((a, b) => a.score > b.score || (a.score === b.score && a.left < b.left));
    const parts = new Map(); // unused piece → the two parts that were joined
    const addPair = (left, right) => {
      if (left < 0 || right >= symbols.length || symbols[left].isUserDefined || symbols[right].isUserDefined) return;
      const joined = symbols[left].text + symbols[right].text, id = ids.get(joined);
      if (id === undefined) return;
      queue.push({ left, right, joined, score: pieces[id - 1][1] });
      if (isUnused(id)) parts.set(joined, [symbols[left].text, symbols[right].text]);
    };
    for (let n = 1; n < symbols.length; n++) addPair(n - 1, n);
    for (let pair = queue.pop(); pair; pair = queue.pop()) {
      const left = symbols[pair.left], right = symbols[pair.right];
      const isOutdated = !left.text || !right.text || left.text.length + right.text.length !== pair.joined.length;
      if (isOutdated) continue;
      left.text = pair.joined;
      left.after = right.after;
      if (right.after < symbols.length) symbols[right.after].before = pair.left;
      right.text = "";
      addPair(left.before, pair.left);
      addPair(pair.left, left.after);
    }
    const takeApart = (piece) => {
      const id = ids.get(piece);
      if (id === undefined) return [piece];
      return isUnused(id) && parts.has(piece) ? parts.get(piece).flatMap(takeApart) : [id];
    };
    return symbols.filter((symbol) => symbol.text).flatMap((symbol) => takeApart(symbol.text));
  };
}

// Return a queue whose `pop` returns the item that comes before all others: a binary heap.
function createQueue(isBefore) {
  const heap = [];
  const swap = (i, j) => ([heap[i], heap[j]] = [heap[j], heap[i]]);
  return {
    push(item) {
      let child = heap.push(item) - 1;
      for (let parent; child > 0 && isBefore(heap[child], heap[(parent = (child - 1) >> 1)]); child = parent) {
        swap(child, parent);
      }
    },
    pop() {
      if (heap.length < 2) return heap.pop();
      const first = heap[0];
      heap[0] = heap.pop();
      for (let parent = 0; ; ) {
        let next = parent;
        for (const child of [2 * parent + 1, 2 * parent + 2]) {
          if (child < heap.length && isBefore(heap[child], heap[next])) next = child;
        }
        if (next === parent) return first;
        swap(parent, next);
        parent = next;
      }
    },
  };
}
