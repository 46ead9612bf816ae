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

  sp({ pieces }) {
    const bytes = [[], ...pieces.map(pieceBytes)];
    const isCharacters = (token) => toBytes(fromBytes(token)).join() === token.join();
    return {
      tokens: bytes.map((token) => (isCharacters(token) ? fromBytes(token) : token.map(escapeByte).join(""))),
      tokenBytes: (id) => Uint8Array.from(bytes[id]),
      encode: createPieceEncoder(pieces),
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
const LINES = /[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]*(?:\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]|$)/g;

// Return the bytes of a piece [text, score, kind]; none for <unk> and control pieces.
function pieceBytes([text, , kind]) {
  if (kind === BYTE) return [parseInt(text.slice(3, 5), 16)];
  return [NORMAL, USER_DEFINED, UNUSED].includes(kind) ? toBytes(text.replaceAll(SPACE_MARK, " ")) : [];
}

// Return the function that encodes a text as the pieces with the highest total score (Viterbi), as the library of
// sentencepiece does: its sums are float32, and of equal sums the first one counts.
function createPieceEncoder(pieces) {
  const known = new Map(), byteIds = new Map();
  const scores = pieces.filter(([, , kind]) => kind === NORMAL).map(([, score]) => score);
  const highest = Math.max(...scores), unknownScore = Math.fround(Math.min(...scores) - UNKNOWN_PENALTY);
  let longest = 0;
  pieces.forEach(([text, score, kind], n) => {
    if (kind === BYTE) byteIds.set(parseInt(text.slice(3, 5), 16), n + 1);
    if (kind !== NORMAL && kind !== USER_DEFINED) return;
    const wins = Math.fround(toBytes(text).length * highest) - 0.1;
    known.set(text, { id: n + 1, score: kind === NORMAL ? score : wins });
    longest = Math.max(longest, text.length);
  });

  function encodePart(text) {
    const best = new Float32Array(text.length + 1).fill(-Infinity), begins = [], ids = [];
    best[0] = 0;
    const size = (position) => (text.codePointAt(position) > 0xffff ? 2 : 1);
    for (let begin = 0; begin < text.length; begin += size(begin)) {
      const update = (end, id, total) => {
        if (begins[end] !== undefined && !(total > best[end])) return;
        best[end] = total;
        begins[end] = begin;
        ids[end] = id;
      };
      const next = begin + size(begin);
      let hasCharacter = false;
      for (let end = next; end - begin <= longest; end += size(end)) {
        const piece = known.get(text.slice(begin, end));
        if (piece) {
          update(end, piece.id, piece.score + best[begin]);
          hasCharacter = hasCharacter || end === next;
        }
        if (end >= text.length) break;
      }
      if (!hasCharacter) update(next, 0, Math.fround(unknownScore + best[begin]));
    }
    const found = [];
    for (let end = text.length; end > 0; end = begins[end]) {
      if (ids[end]) found.push(ids[end]);
      else found.push(...toBytes(text.slice(begins[end], end)).reverse().map((byte) => byteIds.get(byte)));
    }
    return found.reverse();
  }

  const markIds = toBytes(SPACE_MARK).map((byte) => byteIds.get(byte)); // a space is written as this character
  return (text) => {
    const all = [];
    for (const line of text.match(LINES)) {
      line.split(SPACE_MARK).forEach((part, n) => {
        if (n) all.push(...markIds);
        for (const id of encodePart(part.replaceAll(" ", SPACE_MARK))) all.push(id);
      });
    }
    return Int32Array.from(all);
  };
}

