// The direction of a model that reads texts backward: a text with its letters in the opposite order, as in
// chargen/tokenizers/direction.py, which explains what a letter is.

const JOINER = "\u200d";
const FLAG_LETTERS = "[\\u{1f1e6}-\\u{1f1ff}]"; // a run of them is one letter
const LETTER_MARKS = "[\\p{M}\\u200c\\u1160-\\u11ff\\ud7b0-\\ud7fb\\u0e33\\u0eb3\\uff9e\\uff9f\\u{1f3fb}-\\u{1f3ff}"
  + "\\u{e0020}-\\u{e007f}]";
const JOINED = `(?:${LETTER_MARKS}|${JOINER}+[^${JOINER}])`; // what belongs to the letter before it
const LEADING_MARKS = new RegExp(`^${JOINED}+`, "u");
const LETTERS = new RegExp(`${FLAG_LETTERS}(?:${FLAG_LETTERS}|${JOINED})*|[^${JOINER}]${JOINED}*`, "gu");

// Return {leading, letters, trailing}: marks at the start and joiners at the end, which belong to no letter, are apart.
function splitLetters(text) {
  let end = text.length;
  while (text[end - 1] === JOINER) end--;
  const middle = text.slice(0, end);
  const leading = LEADING_MARKS.exec(middle)?.[0] ?? "";
  return { leading, letters: middle.slice(leading.length).match(LETTERS) ?? [], trailing: text.slice(end) };
}

const backwardDirection = {
  // Return a text in the order of the model, or such a text in reading order again.
  reverse(text) {
    const { leading, letters, trailing } = splitLetters(text);
    return leading + letters.reverse().join("") + trailing;
  },
  // Return the lengths of the letters of a text, in its order.
  letterLengths(text) {
    const { leading, letters, trailing } = splitLetters(text);
    return [leading, ...letters, trailing].map((letter) => letter.length).filter((length) => length > 0);
  },
  // Return whether a text consists of whole letters, so that a text can be written before it.
  isWhole(text) {
    const { leading, trailing } = splitLetters(text);
    return !leading && !trailing;
  },
};
