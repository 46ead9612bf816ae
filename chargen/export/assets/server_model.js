// The model of a server, as the interface sees it: the same members as in local_model.js.
//
//   probabilities of a text           POST /v1/score, with log p of each character
//   new characters                    POST /v1/completions, as a stream of events
//   alternatives at one position      POST /v1/completions, with the log probabilities of all tokens
//
// The server has the state of no text, so each request contains the text before.

const MAX_LISTED_TOKENS = 5000; // alternatives that are asked for
const LINES_PER_REQUEST = 100;

/** What the server says about a request that it refuses; it is shown as it is. */
class RequestError extends Error {
  name = "RequestError";
}

/** The piece that a token is; null if it has no text of its own, or is a part of a character. */
function tokenText(name) {
  if (name === "<|end|>") return "";
  return name === "<|unknown|>" || name.startsWith("bytes:") || /^token:\d+$/.test(name) ? null : name;
}

/** Joins the tokens of a stream to characters: a character may be several tokens, each of them some bytes. */
class TokenJoiner {
  constructor() {
    this.bytes = [];
    this.nats = 0;
    this.decoder = new TextDecoder("utf-8", {ignoreBOM: true});
  }

  /** Return the piece that a token completes; null while a character is incomplete. */
  add(name, nats) {
    this.nats += nats;
    if (name.startsWith("bytes:\\x")) {
      this.bytes.push(...name.split("\\x").slice(1).map(digits => parseInt(digits, 16)));
      if (runUtf8(this.bytes, 0) > 0) return null;
    }
    const text = this.bytes.length ? this.decoder.decode(Uint8Array.from(this.bytes)) : tokenText(name) ?? "\ufffd";
    const piece = {text, nats: this.nats, isUnknown: false, kind: text ? "generated" : "end"};
    this.bytes = [];
    this.nats = 0;
    return piece;
  }
}

class ServerText {
  constructor(model) {
    this.model = model;
    this.pieces = [];
    this.ended = "";
  }

  get string() {
    return this.pieces.map(piece => piece.text).join("");
  }

  async read(prompt, kept, signal) {
    const pieces = await this.model.readPieces("", prompt, "prompt", signal);
    const after = await this.model.readPieces(prompt, kept, "generated", signal);
    this.pieces = [...pieces, ...after];
  }

  async restore(pieces) {
    this.pieces = [...pieces];
  }

  async append(piece, kind) {
    this.pieces.push({text: piece.text, nats: Math.log(piece.probability), isUnknown: false, kind});
  }

  async appendEnd(signal) {
    const [score] = await this.model.requestScores({texts: [this.string], end: true}, signal);
    this.pieces.push({text: "", nats: score.end_log_prob_nats, isUnknown: false, kind: "end"});
  }

  async *generate(settings, signal) {
    const last = this.pieces[this.pieces.length - 1];
    this.ended = last && !last.text ? "boundary" : settings.length ? "" : "length";
    if (this.ended) return;
    const {temperature, topP, topK, minP, length, seed, stop} = settings;
    const body = {prompt: this.string, max_tokens: length, temperature, top_p: topP, top_k: topK, min_p: minP, seed,
      stream: true, logprobs: 0, ...(stop.length ? {stop} : {})};
    const joiner = new TokenJoiner();
    let reason = "";
    for await (const {choices: [choice]} of this.model.events("v1/completions", body, signal)) {
      const {tokens, token_logprobs: nats} = choice.logprobs;
      const pieces = tokens.map((token, i) => joiner.add(token, nats[i])).filter(piece => piece !== null);
      this.pieces.push(...pieces);
      if (pieces.length) yield pieces;
      reason = choice.finish_reason ?? reason;
    }
    const isEnd = this.pieces.length && !this.pieces[this.pieces.length - 1].text;
    this.ended = isEnd ? "boundary" : reason;
  }

  async alternatives(pieces, signal) {
    const prompt = pieces.map(piece => piece.text).join("");
    const body = {prompt, max_tokens: 1, logprobs: Math.min(this.model.vocabSize, MAX_LISTED_TOKENS)};
    const answer = await this.model.request("v1/completions", body, signal);
    return Object.entries(answer.choices[0].logprobs.top_logprobs[0])
      .map(([name, nats]) => ({text: tokenText(name), probability: Math.exp(nats)}))
      .filter(each => each.text !== null && each.probability > 0)
      .sort((a, b) => b.probability - a.probability);
  }
}

class ServerModel {
  constructor({about, models, vocab_size: vocabSize, has_documents: hasDocuments}) {
    Object.assign(this, {about, models, vocabSize, hasDocuments, aboutMessage: "aboutServer", backward: null});
  }

  openText() {
    return new ServerText(this);
  }

  /** Send a request and return the response. */
  async send(path, body, signal) {
    const key = find("api-key").value;
    const headers = {"content-type": "application/json", ...(key ? {authorization: `Bearer ${key}`} : {})};
    const values = JSON.stringify({model: this.about.name, ...body});
    const response = await fetch(path, {method: "POST", headers, body: values, signal}).catch(error => {
      throw error.name === "AbortError" ? error : new RequestError(t("noServer"));
    });
    if (response.ok) return response;
    const answer = await response.json();
    throw new RequestError(answer.error.message);
  }

  async request(path, body, signal) {
    const response = await this.send(path, body, signal);
    return response.json();
  }

  /** Yield the events of a stream, parsed. */
  async *events(path, body, signal) {
    const response = await this.send(path, body, signal);
    const reader = response.body.getReader(), decoder = new TextDecoder();
    let pending = "";
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      pending += decoder.decode(value, {stream: true});
      const events = pending.split("\n\n");
      pending = events.pop();
      for (const event of events) {
        const data = event.replace(/^data: /, "");
        if (data === "[DONE]") return;
        const parsed = JSON.parse(data);
        if (parsed.error) throw new RequestError(parsed.error.message);
        if (parsed.choices.length) yield parsed;
      }
    }
  }

  async requestScores(body, signal) {
    const answer = await this.request("v1/score", {sort: "none", chars: true, ...body}, signal);
    return answer.data;
  }

  /** Return the pieces of a text after a context. */
  async readPieces(context, text, kind, signal) {
    if (!text) return [];
    const [score] = await this.requestScores({texts: [text], end: false, ...(context ? {context} : {})}, signal);
    return piecesOfScore(score, kind);
  }

  async score(strings, signal, onScore) {
    for (let first = 0; first < strings.length; first += LINES_PER_REQUEST) {
      const scores = await this.requestScores({texts: strings.slice(first, first + LINES_PER_REQUEST)}, signal);
      scores.forEach((score, i) => onScore(first + i, scoreOf(piecesOfScore(score, "prompt"))));
    }
  }
}

/** Return the pieces of a score of the server; the end is one of them if it was scored. */
function piecesOfScore(score, kind) {
  const pieces = score.char_log_probs_nats
    .map(([text, nats]) => ({text, nats, isUnknown: score.unknown.includes(text), kind}));
  const end = score.end_log_prob_nats;
  return end === null ? pieces : [...pieces, {text: "", nats: end, isUnknown: false, kind: "end"}];
}

/** Open the model of the server; the interface calls this once. */
async function openModel(payload) {
  return new ServerModel(payload);
}
