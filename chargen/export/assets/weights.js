// The weights of the page: arrays of numbers from the bytes that `weights.py` wrote.

const TOTAL = 4096, MIN_STATE = 2 ** 23, MAX_CHUNK_BYTES = 8192; // of the entropy coding

function decodeBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let k = 0; k < bytes.length; k++) bytes[k] = binary.charCodeAt(k);
  return bytes;
}

// Return the weights by name: a Float32Array, or {values, index} for an array that lacks some rows: index has the
// number of each row in the values, or -1. `weights.py` describes the format. Whole numbers are in an array of their type.
function decodeArrays(descriptions, bytes) {
  const reader = { bytes, position: 0 };
  const arrays = {};
  for (const { name, rows, columns, kind, rows_per_scale, is_sparse, is_coded } of descriptions) {
    const kept = is_sparse ? unpackBits(take(reader, Uint8Array, Math.ceil(rows / 8)), rows) : null;
    const stored = kept ? kept.length : rows;
    let values;
    if (kind === "float32") values = take(reader, Float32Array, stored * columns);
    else if (kind === "uint16") values = take(reader, Uint16Array, rows);
    else if (kind === "uint8") values = take(reader, Uint8Array, rows);
    else if (kind === "float16") values = Float32Array.from(take(reader, Uint16Array, stored * columns), decodeFloat16);
    else {
      const numScales = Math.ceil(rows / rows_per_scale);
      const scales = Float32Array.from(take(reader, Uint16Array, numScales), decodeFloat16);
      const count = stored * columns;
      const integers = is_coded ? decodeBytes(reader, count) : take(reader, Int8Array, count);
      values = new Float32Array(count);
      for (let row = 0, k = 0; row < stored; row++) {
        const scale = scales[Math.floor((kept ? kept[row] : row) / rows_per_scale)];
        for (const end = k + columns; k < end; k++) values[k] = integers[k] * scale;
      }
    }
    if (kept) {
      const index = new Int32Array(rows).fill(-1);
      for (let k = 0; k < stored; k++) index[kept[k]] = k;
      arrays[name] = { values, index };
    } else arrays[name] = values;
  }
  return arrays;
}

// Return the next numbers as a typed array; all computers that run browsers are little-endian.
function take(reader, Type, count) {
  const start = reader.position;
  reader.position += count * Type.BYTES_PER_ELEMENT;
  return new Type(reader.bytes.slice(start, reader.position).buffer);
}

// Undo the entropy coding of `entropy_coding.py`, which names the numbers.
function decodeBytes(reader, count) {
  const frequencies = take(reader, Uint16Array, 256), starts = new Uint16Array(256), symbols = new Uint8Array(TOTAL);
  for (let symbol = 0, sum = 0; symbol < 256; sum += frequencies[symbol++]) {
    starts[symbol] = sum;
    symbols.fill(symbol, sum, sum + frequencies[symbol]);
  }
  const numChunks = Math.ceil(count / MAX_CHUNK_BYTES), size = Math.ceil(count / numChunks);
  const values = new Uint8Array(numChunks * size), bytes = reader.bytes;
  let position = reader.position, x = 0;
  for (let k = 0; k < values.length; k++) {
    if (k % size === 0) {
      x = 0;
      for (let n = 0; n < 4; n++) x = (x << 8) | bytes[position++];
    }
    const symbol = symbols[x & (TOTAL - 1)];
    x = frequencies[symbol] * (x >>> 12) + (x & (TOTAL - 1)) - starts[symbol];
    while (x < MIN_STATE) x = (x << 8) | bytes[position++];
    values[k] = symbol;
  }
  reader.position = position;
  return new Int8Array(values.buffer, 0, count);
}

// Return the positions of the bits that are 1, the lowest bit of a byte first.
function unpackBits(bytes, count) {
  const positions = [];
  for (let k = 0; k < count; k++) if ((bytes[k >> 3] >> (k & 7)) & 1) positions.push(k);
  return Int32Array.from(positions);
}

function decodeFloat16(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25); // no weight is infinite or NaN
}
