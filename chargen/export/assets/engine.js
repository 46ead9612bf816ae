// The model of the page: it decodes the weights, encodes and decodes text, and steps the network.
//
//   const model = createModel(payload);      the payload is what `payload.py` writes
//   const state = model.initialState();
//   for (const id of model.startIds) logits = model.step(state, id);
//
// A state is an object that only `step` changes; `copy` returns another one, from which a text can be continued.
// `createNetwork` is generated for the network of the model (`graph/javascript_backend.py`).

const BOUNDARY_ID = 0;
const UNKNOWN_CHARACTER = "\ufffd";
const NUM_CHARACTERS = 0x110000 - 0x800; // of Unicode, without surrogates

function createModel(payload) {
  const arrays = decodeArrays(payload.network.arrays, decodeBase64(payload.network.data));
  const network = createNetwork(arrays);
  const tokenizer = TOKENIZERS[payload.tokenizer.name](payload.tokenizer);
  const ngrams = payload.network.ngrams ? createNGramReader(payload.network.ngrams, arrays, network.ngrams) : null;
  const historySize = ngrams ? payload.network.ngrams.length - 1 + 2 * payload.network.ngrams.num_words : 0;
  const unknownId = payload.unknown_id;
  const numUnknown = NUM_CHARACTERS - (tokenizer.tokens.length - 2);
  const backward = payload.about.direction === "backward" ? backwardDirection : null;
  let loaded = null; // the state that is in the buffer of the network

  return {
    about: payload.about,
    vocabSize: tokenizer.tokens.length,
    tokens: tokenizer.tokens,
    boundaryId: BOUNDARY_ID,
    unknownId,
    // What an unknown character adds to the log probability of the unknown id, in nats: the id stands for all of them.
    unknownLogProb: unknownId === null ? 0 : -Math.log(numUnknown),
    startIds: Int32Array.from(payload.start_ids),
    endIds: payload.end_ids && Int32Array.from(payload.end_ids),
    maskedIds: Int32Array.from(payload.masked_ids),
    backward, // null, or what reverses texts
    prepare: (text) => (backward ? backward.reverse(normalize(text, payload)) : normalize(text, payload)),
    encode: (prepared) => tokenizer.encode(prepared),
    tokenBytes: tokenizer.tokenBytes,
    decodeAll: (ids) => decodeAll(tokenizer, unknownId, ids),

    initialState() {
      return { values: new Float32Array(network.stateSize), history: new Int32Array(historySize) };
    },
    copy(state) {
      return { values: state.values.slice(), history: state.history.slice() };
    },
    step(state, id) {
      if (state !== loaded) network.load(state.values);
      loaded = state;
      if (ngrams) ngrams(state.history, id);
      network.step(id);
      network.store(state.values);
      return network.logits;
    },
  };
}

// ── n-grams ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const LIMB = 2 ** 24; // a multiplier of 64 bits is three numbers: its highest 16 bits, 24 bits, 24 bits
const NO_WORD = 0, WORD = 1, WORD_START = 2; // kinds of token ids
const BUCKET_ROWS = 8, TAGS = 2 ** 16; // of the index: rows of a bucket, and number of tags

// Return the function that writes the features of the last token ids to `out`, as `cells/ngram_features.py` computes
// them. The history has the ids before the last one, the newest first, and the hashes of the n-grams that start with a
// word; the function moves them on. A hash is the number of its 40 highest bits. All numbers stay below 2 ** 53, so a
// product of 64 bits modulo 2 ** 64 is exact.
function createNGramReader(constants, arrays, out) {
  const { length, num_rows, multipliers, has_index, num_words } = constants;
  const numIds = length - 1;
  const hashWords = num_words ? createWordHasher(constants, arrays["ngrams.words"]) : null;
  const hashes = new Float64Array(numIds + num_words);
  const addRows = has_index
    ? createIndexedTable(num_rows, arrays, hashes, out)
    : createPlainTables(length, num_rows, arrays, hashes, out);
  return function read(history, id) {
    let next = 0;
    for (let n = 2; n <= length; n++) {
      let high = 0, middle = 0, low = 0;
      for (let j = 0; j < n; j++) {
        const token = j === 0 ? id : history[j - 1];
        high += multipliers[next++] * token;
        middle += multipliers[next++] * token;
        low += multipliers[next++] * token;
      }
      middle += Math.floor(low / LIMB);
      high += Math.floor(middle / LIMB);
      hashes[n - 2] = (high % 65536) * LIMB + (middle % LIMB);
    }
    if (hashWords) hashWords(history, id, hashes);
    for (let j = numIds - 1; j > 0; j--) history[j] = history[j - 1];
    history[0] = id;
    out.fill(0);
    addRows();
  };
}

// Return the function that adds the rows of some hashes to `out`: one table for each n, without an index.
function createPlainTables(length, numRows, arrays, hashes, out) {
  const tables = [], width = out.length;
  for (let n = 2; n <= length; n++) tables.push(arrays["ngrams" + n]);
  const divisor = 2 ** 40 / numRows; // the row is in the highest bits
  return function addRows() {
    for (let n = 0; n < tables.length; n++) {
      const { index, values } = tables[n];
      addRow(out, values, index[Math.floor(hashes[n] / divisor)] * width);
    }
  };
}

// Return the function that adds the rows of those n-grams to `out` that have one (`cells/ngram_index.py`).
function createIndexedTable(numRows, arrays, hashes, out) {
  const { index, values } = arrays["ngrams.weight"], stored = arrays["ngrams.index"], width = out.length;
  const tags = new Uint16Array(numRows); // 0: no n-gram has the row, or its values are 0
  for (let row = 0; row < numRows; row++) if (index[row] >= 0) tags[row] = stored[index[row]];
  const divisor = 2 ** 40 / (numRows / BUCKET_ROWS) / TAGS; // the bucket is in the highest bits, the tag follows
  return function addRows() {
    for (let n = 0; n < hashes.length; n++) {
      const bits = Math.floor(hashes[n] / divisor), tag = bits % TAGS || 1;
      let row = Math.floor(bits / TAGS) * BUCKET_ROWS;
      for (const end = row + BUCKET_ROWS; row < end; row++) {
        if (tags[row] === tag) {
          addRow(out, values, index[row] * width);
          break;
        }
      }
    }
  };
}

function addRow(out, values, start) {
  if (start >= 0) for (let k = 0; k < out.length; k++) out[k] += values[start + k];
}

// Return the function that hashes the n-grams that start with a word. The history has each hash as two numbers of 32
// bits after the ids, the higher half first.
function createWordHasher({ length, num_words, word_constants }, kinds) {
  const [mHigh, mLow, aHigh, aLow, bHigh, bLow, ...last] = word_constants;
  const numIds = length - 1, product = new Int32Array(2);
  return function hashWords(history, id, hashes) {
    const kind = kinds[id];
    if (kind === WORD_START || (kind === WORD && kinds[history[0]] === NO_WORD)) {
      history.copyWithin(numIds + 2, numIds, numIds + 2 * (num_words - 1)); // a word more
      history[numIds] = history[numIds + 1] = 0;
    }
    multiplyAdd(product, 0, aHigh, aLow, 0, id, bHigh, bLow);
    const vHigh = product[0], vLow = product[1];
    for (let k = 0; k < num_words; k++) {
      const at = numIds + 2 * k;
      multiplyAdd(history, at, mHigh, mLow, history[at], history[at + 1], vHigh, vLow);
      multiplyAdd(product, 0, last[2 * k], last[2 * k + 1], history[at], history[at + 1], 0, 0);
      hashes[numIds + k] = (product[0] >>> 0) * 256 + (product[1] >>> 24);
    }
  };
}

// Write x · y + z modulo 2 ** 64 to two numbers of an Int32Array; each number is given by its halves, of any sign.
function multiplyAdd(out, at, xHigh, xLow, yHigh, yLow, zHigh, zLow) {
  const x1 = xLow >>> 16, x0 = xLow & 65535, y1 = yLow >>> 16, y0 = yLow & 65535;
  const middle = x1 * y0 + ((x0 * y0) / 65536), cross = x0 * y1; // each below 2 ** 32, the first with a fraction
  const low = (Math.imul(xLow, yLow) >>> 0) + (zLow >>> 0);
  const carried = x1 * y1 + Math.floor((Math.floor(middle) + cross) / 65536) + Math.floor(low / 2 ** 32);
  out[at] = (carried % 2 ** 32) + Math.imul(xHigh, yLow) + Math.imul(xLow, yHigh) + zHigh;
  out[at + 1] = low;
}
