// The words of the interface, in English and Vietnamese. Elements with data-t="key" show the message of the key.

const MESSAGES = {
  en: {
    language: "Language", theme: "Theme", themeAuto: "Automatic", themeLight: "Light", themeDark: "Dark",
    tabs: "Sections", write: "Write", surprisal: "Surprisal", rank: "Rank", about: "About",
    prompt: "Prompt", promptHint: "Type here: the model continues your text.",
    generate: "Generate", stopButton: "Stop", another: "Another text", continueButton: "Continue", undo: "Undo choice",
    outputLabel: "Text: arrow keys move, Enter shows alternatives",
    copyText: "Copy text", copyLink: "Copy link", colours: "Colour by surprisal",
    clickHint: "Point at a character to see its probability. Click it to see what else it could have been, choose one, and the text continues from there.",
    settings: "Settings", temperature: "Temperature", topP: "Top-p", minP: "Min-p", topK: "Top-k", length: "Length",
    seed: "Seed", stops: "Stop strings", live: "Generate while I type", reset: "Reset settings",
    temperatureHint: "Below 1: more predictable; above 1: more surprising; 0: always the most probable character.",
    topPHint: "Draws from the most probable characters with this total probability; 1: from all.",
    minPHint: "Draws from characters that are at least this many times as probable as the most probable one; 0: from all.",
    topKHint: "Draws from this number of most probable characters; 0: from all.",
    lengthHint: "Maximum number of characters to generate.",
    seedHint: "The same seed and settings give the same text in this page.",
    stopsHint: "One per line; \\n is a newline. The text ends before the first of them.",
    scoredText: "Text to colour by surprisal",
    surprisalHint: "The surprisal of a character is −log₂ of its probability, in bits. Click a character and choose another: the model continues from there under “Write”.",
    lines: "Lines to rank, the most likely per character first", ranking: "Ranking",
    bitsPerChar: "bits/char", logProb: "log p (nats)", numChars: "characters", line: "line",
    rankHint: "Each line is scored as a text of its own, as by “chargen score”.",
    aboutText: "The model is in this page and runs in your browser. The page loads nothing and sends nothing: your text does not leave your device.",
    aboutServer: "The model runs on the server that this page comes from; the page sends your text to it and to no one else.",
    model: "Model", apiKey: "API key", apiKeyHint: "Only if the server was started with one.",
    aboutChargen: "Made with chargen, a toolkit for small character-level language models of your own text.",
    close: "Close", alternatives: "Alternatives", find: "Find",
    popoverHint: "Enter or a click chooses a character, and the text continues from there.",
    more: "Show more", noMatch: "The model cannot write this here.",
    space: "space", newline: "newline", tab: "tab", end: "end of the text", noBreakSpace: "no-break space",
    bits: "{bits} bits", unknown: "not in the vocabulary",
    kindPrompt: "your text", kindChosen: "your choice", kindGenerated: "generated", kindEnd: "",
    reading: "Reading the prompt …", generating: "Generating …", stopped: "Stopped.",
    generated: "{count} characters, {speed} per second, {bits} bits/char.",
    generatedOne: "1 character, {speed} per second, {bits} bits/char.",
    scoredOne: "{bits} bits/char, {total} bits, 1 character.", rankedOne: "1 line, {bits} bits/char.",
    endedLength: "", endedStop: "Ended before a stop string.", endedBoundary: "The model ended the text.",
    unknownInPrompt: "The model does not know {chars}: it reads an unknown character instead.",
    choose: "{char} was chosen.",
    copied: "Copied.", notCopied: "The browser does not allow copying: select the text and copy it.",
    linkTooLong: "The text is too long for a link ({count} characters; at most {most}). Copy the text instead.",
    rangeError: "{name} is “{value}”, but must be a number from {low} to {high}.",
    aboveError: "{name} is “{value}”, but must be a number above {low} and at most {high}.",
    wholeError: "{name} is “{value}”, but must be a whole number from {low} to {high}.",
    stopsError: "There are {count} stop strings, but at most {most} are allowed.",
    scored: "{bits} bits/char, {total} bits, {count} characters.",
    scoredUnknown: "Not in the vocabulary (underlined): {count}.",
    ranked: "{count} lines, {bits} bits/char together.", rankingLines: "{done} of {count} lines are scored …",
    linesLeftOut: "Lines that are left out: {left}. At most {lines} lines with {chars} characters together are ranked.",
    longPrompt: "The prompt is longer than {most} characters: the model reads its end.",
    longText: "The text is longer than {most} characters: its first ones are read.",
    legend: "bits:", under1: "under 1",
    factName: "Name", factCorpus: "Trained on", factBits: "Bits per character", factVersion: "chargen version",
    factLicense: "Licence", factVocab: "Vocabulary size", factTrainChars: "Characters of training text",
    factNetwork: "Network", factParameters: "Parameters", factWeights: "Stored weights",
    noServer: "The server does not answer. Is it still running?",
    noLicense: "No licence is stated for this model or its corpus.",
    factDirection: "Direction", forward: "forward: it continues a text",
    backward: "backward: it writes the text before a prompt",
    directionNote: "This model reads from the end to the start: it writes the text that comes before your prompt.",
    promptBackward: "End of the text", readingBackward: "Reading the end of the text …",
    continueButtonBackward: "Write more before it",
    promptHintBackward: "Type the end of a text here: the model writes what comes before it.",
    clickHintBackward: "Point at a character to see its probability. Click it to see what else it could have been, choose one, and the text before it is generated again.",
    lengthHintBackward: "Maximum number of characters to generate before the prompt.",
    stopsHintBackward: "One per line; \\n is a newline. The text starts after the first one that the model writes.",
    surprisalHintBackward: "The surprisal of a character is −log₂ of its probability, in bits, given the text after it: the model reads from the end. Click a character and choose another: the model writes the text before it under “Write”.",
    rankHintBackward: "Each line is scored as a text of its own, from its end to its start, as by “chargen score”.",
    popoverHintBackward: "Enter or a click chooses a character, and the text before it is written from there.",
    endBackward: "start of the text", endedStopBackward: "Starts after a stop string.",
    endedBoundaryBackward: "The model has written the start of the text.",
    longPromptBackward: "The prompt is longer than {most} characters: the model reads its start.",
    partOfLetter: "The prompt starts with a combining mark or ends with a joiner. Give the whole letter: the model writes the text before it.",
    failed: "The page failed: {message}", noModel: "The model cannot be opened: {message}",
  },
  vi: {
    language: "Ngôn ngữ", theme: "Giao diện", themeAuto: "Tự động", themeLight: "Sáng", themeDark: "Tối",
    tabs: "Các mục", write: "Viết", surprisal: "Mức bất ngờ", rank: "Xếp hạng", about: "Giới thiệu",
    prompt: "Phần mở đầu", promptHint: "Gõ vào đây: mô hình viết tiếp văn bản của bạn.",
    generate: "Sinh văn bản", stopButton: "Dừng", another: "Văn bản khác", continueButton: "Viết tiếp",
    undo: "Hoàn tác lựa chọn",
    outputLabel: "Văn bản: phím mũi tên để di chuyển, Enter để xem các ký tự thay thế",
    copyText: "Chép văn bản", copyLink: "Chép liên kết", colours: "Tô màu theo mức bất ngờ",
    clickHint: "Trỏ vào một ký tự để xem xác suất của nó. Nhấn vào ký tự để xem những ký tự khác có thể đứng ở đó, chọn một ký tự, và văn bản được viết tiếp từ chỗ ấy.",
    settings: "Thiết lập", temperature: "Nhiệt độ", topP: "Top-p", minP: "Min-p", topK: "Top-k", length: "Độ dài",
    seed: "Hạt giống", stops: "Chuỗi dừng", live: "Sinh trong lúc gõ", reset: "Đặt lại thiết lập",
    temperatureHint: "Dưới 1: dễ đoán hơn; trên 1: bất ngờ hơn; 0: luôn lấy ký tự có xác suất cao nhất.",
    topPHint: "Chọn trong những ký tự có xác suất cao nhất với tổng xác suất này; 1: trong tất cả.",
    minPHint: "Chọn trong những ký tự có xác suất ít nhất bằng số này nhân với xác suất cao nhất; 0: trong tất cả.",
    topKHint: "Chọn trong bấy nhiêu ký tự có xác suất cao nhất; 0: trong tất cả.",
    lengthHint: "Số ký tự tối đa được sinh.",
    seedHint: "Cùng hạt giống và thiết lập thì trang này cho cùng một văn bản.",
    stopsHint: "Mỗi dòng một chuỗi; \\n là ký tự xuống dòng. Văn bản kết thúc trước chuỗi đầu tiên gặp được.",
    scoredText: "Văn bản để tô màu theo mức bất ngờ",
    surprisalHint: "Mức bất ngờ của một ký tự là −log₂ xác suất của nó, tính bằng bit. Nhấn vào một ký tự và chọn ký tự khác: mô hình viết tiếp từ đó ở mục “Viết”.",
    lines: "Các dòng cần xếp hạng, dòng có xác suất cao nhất trên mỗi ký tự đứng đầu", ranking: "Bảng xếp hạng",
    bitsPerChar: "bit/ký tự", logProb: "log p (nat)", numChars: "số ký tự", line: "dòng",
    rankHint: "Mỗi dòng được chấm điểm như một văn bản riêng, giống lệnh “chargen score”.",
    aboutText: "Mô hình nằm trong trang này và chạy trong trình duyệt của bạn. Trang không tải gì và không gửi gì: văn bản của bạn không rời khỏi thiết bị.",
    aboutServer: "Mô hình chạy trên máy chủ đã gửi trang này; trang gửi văn bản của bạn đến máy chủ đó và không gửi đi nơi nào khác.",
    model: "Mô hình", apiKey: "Khóa API", apiKeyHint: "Chỉ cần nếu máy chủ được khởi động với một khóa.",
    aboutChargen: "Được tạo bằng chargen, bộ công cụ cho các mô hình ngôn ngữ nhỏ ở mức ký tự trên văn bản của chính bạn.",
    close: "Đóng", alternatives: "Các ký tự thay thế", find: "Tìm",
    popoverHint: "Nhấn Enter hoặc nhấn chuột để chọn một ký tự; văn bản được viết tiếp từ đó.",
    more: "Hiện thêm", noMatch: "Mô hình không thể viết ký tự này ở đây.",
    space: "dấu cách", newline: "xuống dòng", tab: "tab", end: "kết thúc văn bản", noBreakSpace: "dấu cách không ngắt",
    bits: "{bits} bit", unknown: "không có trong bộ từ vựng",
    kindPrompt: "văn bản của bạn", kindChosen: "bạn đã chọn", kindGenerated: "được sinh", kindEnd: "",
    reading: "Đang đọc phần mở đầu …", generating: "Đang sinh …", stopped: "Đã dừng.",
    generated: "{count} ký tự, {speed} ký tự mỗi giây, {bits} bit/ký tự.",
    generatedOne: "1 ký tự, {speed} ký tự mỗi giây, {bits} bit/ký tự.",
    scoredOne: "{bits} bit/ký tự, {total} bit, 1 ký tự.", rankedOne: "1 dòng, {bits} bit/ký tự.",
    endedLength: "", endedStop: "Kết thúc trước một chuỗi dừng.", endedBoundary: "Mô hình đã kết thúc văn bản.",
    unknownInPrompt: "Mô hình không biết {chars}: nó đọc một ký tự lạ thay vào đó.",
    choose: "Đã chọn {char}.",
    copied: "Đã chép.", notCopied: "Trình duyệt không cho phép chép: hãy chọn văn bản rồi chép.",
    linkTooLong: "Văn bản quá dài cho một liên kết ({count} ký tự; tối đa {most}). Hãy chép văn bản.",
    rangeError: "{name} là “{value}”, nhưng phải là một số từ {low} đến {high}.",
    aboveError: "{name} là “{value}”, nhưng phải là một số lớn hơn {low} và không quá {high}.",
    wholeError: "{name} là “{value}”, nhưng phải là một số nguyên từ {low} đến {high}.",
    stopsError: "Có {count} chuỗi dừng, nhưng chỉ được tối đa {most}.",
    scored: "{bits} bit/ký tự, {total} bit, {count} ký tự.",
    scoredUnknown: "Không có trong bộ từ vựng (được gạch chân): {count}.",
    ranked: "{count} dòng, tổng cộng {bits} bit/ký tự.", rankingLines: "Đã chấm {done} trong {count} dòng …",
    linesLeftOut: "Số dòng bị bỏ qua: {left}. Tối đa {lines} dòng với tổng cộng {chars} ký tự được xếp hạng.",
    longPrompt: "Phần mở đầu dài hơn {most} ký tự: mô hình chỉ đọc phần cuối.",
    longText: "Văn bản dài hơn {most} ký tự: chỉ phần đầu được đọc.",
    legend: "bit:", under1: "dưới 1",
    factName: "Tên", factCorpus: "Huấn luyện trên", factBits: "Số bit trên mỗi ký tự", factVersion: "Phiên bản chargen",
    factLicense: "Giấy phép", factVocab: "Cỡ bộ từ vựng", factTrainChars: "Số ký tự của văn bản huấn luyện",
    factNetwork: "Mạng", factParameters: "Số tham số", factWeights: "Trọng số được lưu",
    noServer: "Máy chủ không trả lời. Nó còn đang chạy không?",
    noLicense: "Không có giấy phép nào được nêu cho mô hình này hoặc văn bản huấn luyện của nó.",
    factDirection: "Hướng", forward: "xuôi: viết tiếp một văn bản", backward: "ngược: viết phần đứng trước một đoạn cho sẵn",
    directionNote: "Mô hình này đọc từ cuối lên đầu: nó viết phần văn bản đứng trước đoạn bạn gõ.",
    promptBackward: "Phần kết thúc", promptHintBackward: "Gõ phần cuối của văn bản vào đây: mô hình viết phần đứng trước.",
    clickHintBackward: "Trỏ vào một ký tự để xem xác suất của nó. Nhấn vào ký tự để xem những ký tự khác có thể đứng ở đó, chọn một ký tự, và phần văn bản đứng trước được viết lại.",
    lengthHintBackward: "Số ký tự tối đa được sinh trước đoạn cho sẵn.",
    stopsHintBackward: "Mỗi dòng một chuỗi; \\n là ký tự xuống dòng. Văn bản bắt đầu sau chuỗi đầu tiên mà mô hình viết ra.",
    surprisalHintBackward: "Mức bất ngờ của một ký tự là −log₂ xác suất của nó khi biết phần văn bản đứng sau, tính bằng bit: mô hình đọc từ cuối lên. Nhấn vào một ký tự và chọn ký tự khác: mô hình viết phần đứng trước ở mục “Viết”.",
    rankHintBackward: "Mỗi dòng được chấm điểm như một văn bản riêng, từ cuối lên đầu, giống lệnh “chargen score”.",
    popoverHintBackward: "Nhấn Enter hoặc nhấn chuột để chọn một ký tự; phần văn bản đứng trước được viết lại từ đó.",
    continueButtonBackward: "Viết thêm", readingBackward: "Đang đọc phần kết thúc …",
    endBackward: "bắt đầu văn bản", endedStopBackward: "Bắt đầu sau một chuỗi dừng.",
    endedBoundaryBackward: "Mô hình đã viết phần bắt đầu của văn bản.",
    longPromptBackward: "Phần kết thúc dài hơn {most} ký tự: mô hình chỉ đọc phần đầu của nó.",
    partOfLetter: "Đoạn cho sẵn bắt đầu bằng một dấu kết hợp hoặc kết thúc bằng một ký tự nối. Hãy gõ cả chữ: mô hình viết phần đứng trước nó.",
    failed: "Trang gặp lỗi: {message}", noModel: "Không mở được mô hình: {message}",
  },
};

let language = "en", variant = "";

/** Use the messages whose keys end with `name` where there are some: "Backward" for a model that reads backward. */
function setVariant(name) {
  variant = name;
}

/** Return a message in the language of the interface, with {name} replaced by the values. */
function t(key, values = {}) {
  const messages = MESSAGES[language];
  const keys = [variant && key + variant, values.count === "1" && key + "One", key]; // the most special one first
  const message = messages[keys.find(each => each && messages[each])] ?? "";
  return message.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Format a number for the reader's language. */
function format(number, digits = 0) {
  return new Intl.NumberFormat(language, {minimumFractionDigits: digits, maximumFractionDigits: digits}).format(number);
}

/** Format a probability as a percentage with three significant digits. */
function formatPercent(probability) {
  if (probability > 0 && probability < 1e-6) return "< " + formatPercent(1e-6);
  const digits = probability >= 0.1 ? 1 : probability >= 0.01 ? 2 : probability >= 0.001 ? 3 : 4;
  return new Intl.NumberFormat(language, {
    style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits,
  }).format(probability);
}

/** Show the interface in a language. */
function setLanguage(name) {
  language = MESSAGES[name] ? name : "en";
  document.documentElement.lang = language;
  document.documentElement.dataset.language = language;
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
  }
  for (const element of document.querySelectorAll("[data-t-placeholder]")) {
    element.placeholder = t(element.dataset.tPlaceholder);
  }
}
