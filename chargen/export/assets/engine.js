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
  const historySize = ngrams ? payload.network.ngrams.length - 1 : 0;
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

// Return the function that writes the features of the last token ids to `out`, as `cells/ngram_features.py` computes
// them. The history has the ids before the last one, the newest first; the function moves them on. All numbers stay
// below 2 ** 53, so a product of 64 bits modulo 2 ** 64 is exact.
function createNGramReader({ length, num_rows, multipliers }, arrays, out) {
  const width = out.length;
  const tables = [];
  for (let n = 2; n <= length; n++) tables.push(arrays["ngrams" + n]);
  const divisor = 2 ** 40 / num_rows; // the row is in the highest bits of the 40 highest bits
  return function read(history, id) {
    out.fill(0);
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
      const bits = (high % 65536) * LIMB + (middle % LIMB);
      const { index, values } = tables[n - 2];
      const start = index[Math.floor(bits / divisor)] * width;
      if (start >= 0) for (let k = 0; k < width; k++) out[k] += values[start + k];
    }
    history.copyWithin(1, 0);
    if (history.length) history[0] = id;
  };
}
