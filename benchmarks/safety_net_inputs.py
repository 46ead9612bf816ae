"""The input files of the safety net (`safety_net.py`): random sentences in three languages, in many file formats.

The recorded numbers depend on every byte, so the files of two versions can only be compared if both are the same.
"""

from __future__ import annotations

import gzip
import json
import random
import unicodedata
from pathlib import Path

WORDS = {
    "en": ["the", "sea", "and", "wind", "green", "house", "of", "my", "river", "over", "stone", "bright", "42",
           "quickly"],
    "vi": ["nhà", "của", "tôi", "biển", "xanh", "gió", "thổi", "qua", "đồng", "lúa", "mùa", "thu", "trăm", "năm",
           "người"],
    "zh": list("山水風雨花鳥天地人心日月春秋長江大河"),
}  # fmt: skip


def sentences(seed: int, count: int, languages: tuple[str, ...] = tuple(WORDS)) -> list[str]:
    """Return random sentences in the given languages."""
    rng, made = random.Random(seed), []
    for _ in range(count):
        language = rng.choice(languages)
        words = [rng.choice(WORDS[language]) for _ in range(rng.randint(3, 9))]
        made.append("".join(words) + "。" if language == "zh" else " ".join(words).capitalize() + rng.choice(".!?"))
    return made


def corpus_files() -> dict[str, str | bytes]:
    """Return the texts to train and evaluate on, by their file names."""
    lines = sentences(1, 900)
    text = "\n".join(lines) + "\n"
    rng = random.Random(2)
    return {
        "text.txt": text,
        "val.txt": "\n".join(sentences(3, 200)) + "\n",
        "text.txt.gz": gzip.compress(text.encode(), mtime=0),
        "crlf.txt": text[:9000].replace("\n", "\r\n"),
        "nfd.txt": unicodedata.normalize("NFD", text[:9000]),
        "latin1.txt": "".join(f"{line} café\n" for line in sentences(6, 300, ("en",))).encode("latin-1"),
        # a vocabulary of 3,000
        "large.txt": "".join(chr(0x4E00 + rng.randrange(3000)) if i % 20 else "\n" for i in range(24_000)),
        # characters that text.txt lacks: invisible, composed, control
        "odd.txt": text[:6000] + "Ж漢ß\u200b\x07 \ufeff e\u0301 Ā\n\n\n" * 20,
        # documents
        "blank.txt": "\n\n".join("\n".join(lines[i : i + 3]) for i in range(0, 600, 3)),
        "separator.txt": "%%".join(lines[:300]),
        "records.jsonl": "".join(json.dumps({"id": i, "body": line}) + "\n" for i, line in enumerate(lines[:300])),
        **{f"folder/{i:02}.txt": "\n".join(lines[20 * i : 20 * i + 20]) for i in range(15)},
    }


def scored_files() -> dict[str, str | bytes]:
    """Return prompts and texts to score, by their file names."""
    few = sentences(4, 6)
    return {
        "prompt.txt": "The sea\nNhà của ",
        "few.txt": "\n".join([*few, "", "Ж🙂"]) + "\n",
        "two.txt": f"{few[0][:12]}\nthe saa 水x\n",
        "null.bin": "\0".join(few),
        "bad.txt": b"The sea\n\xff\xfe wind\nof my river",  # not UTF-8
        "lines.txt": "\n".join([*sentences(8, 497), "", "Ж🙂 unknown", "a\tb  c\u200b"]) + "\n",
    }


def nbest_files() -> dict[str, str | bytes]:
    """Return n-best lists of Moses and Kaldi with their references, by their file names."""
    nbest = [(i, n, line) for i in range(12) for n, line in enumerate(sentences(i, 4))]
    return {
        "moses.txt": "".join(f"{i} ||| {line} ||| lm= {-n} ||| {-3.5 * n}\n" for i, n, line in nbest),
        "refs.txt": "".join(f"{line}\n" for _, n, line in nbest if n == 2),
        "kaldi.txt": "".join(f"utt{i}-{n + 1} {line}\n" for i, n, line in nbest),
        "costs.txt": "".join(f"utt{i}-{n + 1} {2.5 * n}\n" for i, n, line in nbest),
        "kaldi-refs.txt": "".join(f"utt{i} {line}\n" for i, n, line in nbest if n == 1),
    }


def labelled_files() -> dict[str, str | bytes]:
    """Return labelled texts, in one file and in a folder with a file for each label, by their file names."""
    labels = {language: [f"{line}\n" for line in sentences(5, 60, (language,))] for language in WORDS}
    return {
        "labels.tsv": "".join(f"{label}\t{line}" for label, some in labels.items() for line in some),
        **{f"labels/{label}.txt": "".join(some) for label, some in labels.items()},
    }


def write_inputs() -> None:
    """Write every input file into the working directory."""
    import sentencepiece

    for name, content in {**corpus_files(), **scored_files(), **nbest_files(), **labelled_files()}.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    sentencepiece.SentencePieceTrainer.train(
        input="text.txt",
        model_prefix="pieces",
        vocab_size=340,
        byte_fallback=True,
        minloglevel=2,
        num_threads=1,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        character_coverage=1.0,
        user_defined_symbols=["\n", "\t"],
    )
