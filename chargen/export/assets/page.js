// The page: tabs, language, theme, link and facts; it opens the model and starts the panels.

const TABS = ["write", "surprisal", "rank", "about"];
const whole = number => format(number);
/** Return a licence note; the one that says that there is none, which payload.py writes, in the reader's language. */
const translateNote = note => (note === MESSAGES.en.noLicense ? t("noLicense") : note);
// The facts that are shown: key in `about`, message, how the value is written.
const FACTS = [
  ["name", "factName", String], ["corpus", "factCorpus", String], ["train_chars", "factTrainChars", whole],
  ["direction", "factDirection", direction => t(direction)],
  ["bits_per_char", "factBits", number => format(number, 3)], ["network", "factNetwork", String],
  ["num_parameters", "factParameters", whole], ["vocab_size", "factVocab", whole], ["weights", "factWeights", String],
  ["license_note", "factLicense", translateNote], ["version", "factVersion", String],
];

/** Show an error that no one expected. */
function showFailure(error, key = "failed") {
  const isAnswer = error.name === "RequestError"; // of a server
  if (!isAnswer) console.error(error);
  find("failure").textContent = isAnswer ? error.message : t(key, {message: error.message});
  find("failure").hidden = false;
}

/** Wait for a promise whose work may be aborted; every other error is shown. */
function onlyAborted(promise) {
  promise.catch(error => {
    if (error.name !== "AbortError") showFailure(error);
  });
}

/** Copy a text to the clipboard, and say whether it worked. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    find("write-status").textContent = t("copied");
  } catch (error) {
    find("write-status").textContent = copyBySelection(text) ? t("copied") : t("notCopied");
  }
}

/** Copy with the command of browsers that give a page of `file://` no clipboard; return whether it worked. */
function copyBySelection(text) {
  const before = document.activeElement;
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  before?.focus();
  return isCopied;
}

class Page {
  constructor(model) {
    this.model = model;
    setVariant(model.backward ? "Backward" : "");
    find("direction").hidden = !model.backward;
    const popover = new Popover();
    const onChange = delayed(() => this.saveLink(), 400);
    this.writing = new WritePanel(model, popover, onChange);
    this.surprisal = new SurprisalPanel(model, popover, onChange, (pieces, alternative) => {
      this.showTab("write");
      this.writing.continueFrom(pieces, alternative);
    });
    this.ranking = new RankPanel(model, onChange);
    this.connectTabs();
    find("language").addEventListener("change", () => {
      remember("language", find("language").value);
      this.translate(find("language").value);
    });
    find("copy-link").addEventListener("click", () => this.copyLink());
    window.addEventListener("hashchange", () => {
      if (location.hash.slice(1) !== this.link) this.open();
    });
    this.connectModels();
    document.addEventListener("input", alignFields);
    if (window.matchMedia("(max-width: 52rem)").matches) find("settings").open = false;
    this.translate(remembered("language") || navigator.language.slice(0, 2));
    this.open();
  }

  /** Let the reader choose among several models, which only a server has, and say where the model runs. */
  connectModels() {
    const {models, aboutMessage, about} = this.model;
    find("where").dataset.t = aboutMessage;
    find("key-field").hidden = aboutMessage === "aboutText";
    find("model-switch").hidden = models.length < 2;
    find("model").replaceChildren(...models.map(name => new Option(name, name, false, name === about.name)));
    find("model").addEventListener("change", () => {
      location.search = new URLSearchParams({model: find("model").value}).toString();
    });
    find("api-key").addEventListener("change", () => this.open());
  }

  /** Show what the link says. */
  open() {
    const {tab, kept} = readLink(location.hash);
    this.link = location.hash.slice(1);
    alignFields();
    this.showTab(TABS.includes(tab) ? tab : "write");
    this.writing.colour();
    this.writing.forget();
    this.writing.generate(kept);
    this.surprisal.score();
    this.ranking.rank();
  }

  translate(name) {
    setLanguage(name);
    find("language").value = language;
    this.showFacts();
    for (const legend of document.querySelectorAll(".legend")) fillLegend(legend);
    if (this.writing.message) this.writing.say();
    this.surprisal.score();
    this.ranking.rank();
  }

  connectTabs() {
    for (const name of TABS) {
      find("tab-" + name).addEventListener("click", () => {
        this.showTab(name);
        this.saveLink();
      });
    }
    find("tabs").addEventListener("keydown", event => {
      const at = TABS.indexOf(this.tab), last = TABS.length - 1;
      const to = {ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at ? at - 1 : last, Home: 0, End: last}[event.key];
      if (to === undefined) return;
      this.showTab(TABS[to]);
      find("tab-" + TABS[to]).focus();
      event.preventDefault();
    });
  }

  showTab(name) {
    this.tab = name;
    for (const each of TABS) {
      find(each).hidden = each !== name;
      find("tab-" + each).setAttribute("aria-selected", String(each === name));
      find("tab-" + each).tabIndex = each === name ? 0 : -1;
    }
  }

  showFacts() {
    const about = {...this.model.about, vocab_size: this.model.vocabSize};
    const facts = FACTS.filter(([key]) => about[key] !== null && about[key] !== undefined);
    find("facts").replaceChildren(...facts.flatMap(([key, message, write]) => {
      const term = document.createElement("dt"), fact = document.createElement("dd");
      term.textContent = t(message);
      fact.textContent = visible(write(about[key]));
      return [term, fact];
    }));
  }

  /** Keep the settings in the address of the page, so that a reload or a bookmark shows the same. */
  saveLink() {
    alignFields();
    const link = writeShortLink(this.tab, this.writing.kept);
    if (link === this.link) return;
    try {
      history.replaceState(null, "", addressOf(link));
    } catch (error) {
      console.debug(`the address is not changed: ${error.message}`); // some browsers do not allow it in a file or a frame
    }
    this.link = location.hash.slice(1);
  }

  copyLink() {
    const link = writeLink(this.tab, this.writing.kept);
    if (link.length > MAX_LINK_CHARS) {
      const values = {count: format(link.length), most: format(MAX_LINK_CHARS)};
      find("write-status").textContent = t("linkTooLong", values);
      return;
    }
    onlyAborted(copy(addressOf(link)));
  }
}

/**
 * Give each field of text the direction of its first letter. The browser does it with dir="auto", but then takes 88 s
 * for 125,000 lines instead of 2.
 */
function alignFields() {
  for (const field of document.querySelectorAll("textarea")) {
    const letter = /\p{L}/u.exec(field.value.slice(0, 1000))?.[0] ?? "";
    const direction = RIGHT_TO_LEFT.test(letter) ? "rtl" : "ltr";
    if (field.dir !== direction) field.dir = direction;
  }
}

/** Return the address of this page with a link after #. */
const addressOf = link => location.href.replace(/#.*/, "") + (link ? "#" + link : "");

/** Fill a legend with the shades of surprisal. */
function fillLegend(legend) {
  const name = document.createElement("span");
  name.textContent = t("legend");
  legend.replaceChildren(name);
  for (let bits = 0; bits <= MAX_SHADE; bits++) {
    const shade = document.createElement("span");
    shade.className = "s" + bits;
    shade.textContent = bits === 0 ? t("under1") : bits === MAX_SHADE ? `${bits}+` : String(bits);
    legend.append(shade);
  }
}

/** Follow the theme of the reader. */
function connectTheme() {
  const apply = () => {
    document.documentElement.dataset.theme = find("theme").value;
  };
  find("theme").value = ["light", "dark"].includes(remembered("theme")) ? remembered("theme") : "";
  find("theme").addEventListener("change", () => {
    remember("theme", find("theme").value);
    apply();
  });
  apply();
}

async function startPage() {
  connectTheme();
  let model;
  try {
    model = await openModel(JSON.parse(find("payload").textContent)); // it stays, so that the browser can save the page
  } catch (error) {
    showFailure(error, "noModel");
    return;
  }
  window.chargenPage = new Page(model);
}

onlyAborted(startPage());
