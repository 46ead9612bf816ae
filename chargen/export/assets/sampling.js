// From logits to a token id: the rules of chargen/sampling/logits_rules.py, in the same order, and random numbers.
//
//   logits ─▶ mask invalid UTF-8 ─▶ temperature ─▶ top-k ─▶ top-p ─▶ min-p ─▶ draw ─▶ token id
//
// A token id that must not be drawn has the logit −∞. Each rule sees what the rule before it has left, renormalised.

const LN2 = Math.log(2);

/**
 * Return the logits of the distribution to draw from; the highest one is 0.
 * @param {Float64Array} logits - in nats; changed in place
 * @param {{temperature: number, topK: number, topP: number, minP: number}} settings
 */
function warpLogits(logits, settings) {
  applyTemperature(logits, settings.temperature);
  if (settings.temperature === 0) return logits;
  if (settings.topK > 0) keepFirst(logits, sorted => Math.min(settings.topK, sorted.length));
  if (settings.topP < 1) keepFirst(logits, sorted => numToReach(sorted, settings.topP));
  if (settings.minP > 0) {
    const lowest = Math.log(settings.minP);
    for (let i = 0; i < logits.length; i++) if (logits[i] < lowest) logits[i] = -Infinity;
  }
  return logits;
}

/** Divide the logits by the temperature after the highest one was made 0; at 0 only the first highest one is left. */
function applyTemperature(logits, temperature) {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
  const highest = logits[best];
  if (temperature === 0) {
    logits.fill(-Infinity);
    logits[best] = 0;
    return;
  }
  for (let i = 0; i < logits.length; i++) logits[i] = (logits[i] - highest) / temperature;
}

/**
 * Keep the most probable token ids; of equally probable ones the first.
 * @param {Float64Array} logits - changed in place
 * @param {function(Float64Array): number} count - returns how many are kept, from all logits in ascending order
 */
function keepFirst(logits, count) {
  const sorted = new Float64Array(logits).sort();
  const kept = count(sorted);
  if (kept >= logits.length) return;
  const threshold = sorted[logits.length - kept];
  let numEqual = kept;
  for (let i = 0; i < logits.length; i++) if (logits[i] > threshold) numEqual--;
  for (let i = 0; i < logits.length; i++) {
    const isKept = logits[i] > threshold || (logits[i] === threshold && numEqual-- > 0);
    if (!isKept) logits[i] = -Infinity;
  }
}

/** Return how many of the highest logits have a total probability of at least p. */
function numToReach(sorted, p) {
  const highest = sorted[sorted.length - 1];
  const weights = sorted.map(logit => Math.exp(logit - highest)).reverse();
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const cumulative = new Float64Array(sorted.length);
  let sum = 0;
  for (let n = 0; n < sorted.length; n++) {
    cumulative[n] = sum += weights[n] / total;
  }
  return 1 + cumulative.findIndex(each => each >= p * sum);
}

/** Draw a token id with probability softmax(logits); `uniform` is a random number in [0, 1). */
function drawId(logits, uniform) {
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += Math.exp(logits[i]);
  if (!Number.isFinite(total)) throw new Error("the model's output is not a finite number");
  const limit = uniform * total;
  let sum = 0, last = 0;
  for (let i = 0; i < logits.length; i++) {
    if (logits[i] === -Infinity) continue;
    last = i;
    sum += Math.exp(logits[i]);
    if (sum > limit) return i;
  }
  return last; // rounding made uniform · total equal to the total
}

/** Return log Σ exp(logits) in nats. */
function logSumExp(logits) {
  let highest = -Infinity;
  for (let i = 0; i < logits.length; i++) if (logits[i] > highest) highest = logits[i];
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += Math.exp(logits[i] - highest);
  return highest + Math.log(total);
}

/**
 * Return the n-th random number of a seed, in [0, 1). It depends on nothing else, so that a text that is continued
 * from any of its characters is the same as before.
 *
 * The generator is sfc32 (Doty-Humphrey 2010), started from the seed and n.
 */
function randomNumber(seed, n) {
  let a = seed >>> 0, b = Math.floor(seed / 2 ** 32) >>> 0, c = n >>> 0, counter = 1;
  const next = () => {
    const result = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + result | 0;
    return result >>> 0;
  };
  for (let i = 0; i < 15; i++) next();
  return ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53;
}

/**
 * Return where the first stop string starts that is complete in a text; if several are complete there, the longest.
 * @param {string} text
 * @param {number} numNew - UTF-16 units at the end of the text; a stop string is not complete before them
 * @param {string[]} stops
 * @returns {number} the position, or −1
 */
function findStop(text, numNew, stops) {
  for (let end = text.length - numNew + 1; end <= text.length; end++) {
    const longest = Math.max(0, ...stops.filter(stop => text.endsWith(stop, end)).map(stop => stop.length));
    if (longest) return end - longest;
  }
  return -1;
}

// The byte sequences of valid UTF-8 (Unicode Standard, table 3-7): [first byte, last byte, state before, state after].
// State 0: a character is complete; the others are those of chargen/tokenizers/tokenizer.py.
const UTF8_RANGES = [
  [0x00, 0x7f, 0, 0], [0xc2, 0xdf, 0, 1], [0xe0, 0xe0, 0, 4], [0xe1, 0xec, 0, 2], [0xed, 0xed, 0, 5],
  [0xee, 0xef, 0, 2], [0xf0, 0xf0, 0, 6], [0xf1, 0xf3, 0, 3], [0xf4, 0xf4, 0, 7],
  [0x80, 0xbf, 1, 0], [0x80, 0xbf, 2, 1], [0x80, 0xbf, 3, 2],
  [0xa0, 0xbf, 4, 1], [0x80, 0x9f, 5, 1], [0x90, 0xbf, 6, 2], [0x80, 0x8f, 7, 2],
];
const NUM_UTF8_STATES = 8, DEAD = -1;

/** Return the state after some bytes, or DEAD if they cannot follow. */
function runUtf8(bytes, state) {
  for (const byte of bytes) {
    const range = UTF8_RANGES.find(([first, last, before]) => before === state && first <= byte && byte <= last);
    if (!range) return DEAD;
    state = range[3];
  }
  return state;
}
