"""The interface of a page: the HTML, the style and the scripts of `assets/`, joined to one document.

    assets/page.html    @@style@@    page.css, and the ramp of surprisal of `probe/heat_map.py`
                        @@payload@@  the model as JSON
                        @@model@@    the script that defines `createModel`
                        @@script@@   the scripts of the interface, one after another

The document loads nothing and sends nothing, and tells the browser so: the browser runs only the two scripts with the
hashes that the document states. A model cannot bring a script of its own, because its JSON is escaped and its names are
written as text.

The start page of a server is the same document with another script for access to the model, `server_model.js` instead
of `local_model.js`. It sends requests to the server that the document comes from, and to no other.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from chargen.checkpoint import Checkpoint
from chargen.export.payload import describe_model
from chargen.probe.heat_map import DARK, LIGHT, text_colour

LOCAL_SCRIPTS = ("sampling", "vocabulary", "local_model")
SERVER_SCRIPTS = ("sampling", "server_model")
UNSEEN = ("Cc", "Cf", "Cs")  #: Unicode categories of control and format characters and of lone surrogates
JOINERS = "\u200c\u200d"
SCRIPTS = ("messages", "settings", "text_view", "popover", "panels", "page")


def assemble_page(title: str, payload: Mapping[str, Any], model_script: str) -> str:
    """Return the page of a model as one HTML document.

    Args:
        title: The title, in any characters.
        payload: What `createModel` gets, as values that JSON can represent.
        model_script: JavaScript that defines the function `createModel`.
    """
    return _assemble(title, payload, model_script, LOCAL_SCRIPTS, "")


def assemble_playground(checkpoint: Checkpoint, name: str, models: Sequence[str]) -> str:
    """Return the page of a server: the same interface, which sends its requests to the server that it comes from.

    Args:
        checkpoint: The model.
        name: Its name on the server.
        models: The names of all models of the server.
    """
    payload = {
        "about": {**describe_model(checkpoint, name), "weights": None},
        "models": list(models),
        "vocab_size": checkpoint.tokenizer.vocab_size,
        "has_documents": checkpoint.has_documents,
    }
    return _assemble(name, payload, "", SERVER_SCRIPTS, "; connect-src 'self'")


def _assemble(
    title: str, payload: Mapping[str, Any], model_script: str, access: Sequence[str], more_policy: str
) -> str:
    """Return a page with the scripts that give access to a model, and a policy with an addition."""
    style = _read("page.css").replace("@@ramp@@", _ramp_rules())
    script = f'"use strict";\n{{\n{"".join(_read(f"{name}.js") for name in (*access, *SCRIPTS))}}}\n'
    parts = {
        "policy": _policy(style, [model_script, script]) + more_policy,
        "title": escape(_visible(title)),
        "style": style,
        "payload": json.dumps(payload, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
        "model": model_script,
        "script": script,
    }
    return re.sub("@@([a-z]+)@@", lambda match: parts[match[1]], _read("page.html"))


def _visible(title: str) -> str:
    """Return a title in one line, with U+FFFD for characters that are not seen and that may reorder what is seen."""
    return "".join(
        "\ufffd" if unicodedata.category(char) in UNSEEN and char not in JOINERS else char
        for char in " ".join(title.split())
    )


def _read(name: str) -> str:
    return files("chargen.export").joinpath("assets").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, scripts: Sequence[str]) -> str:
    """Return the content security policy: these scripts, this style, and nothing that is loaded or sent."""
    hashes = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src {_hash(style)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _ramp_rules() -> str:
    """Return the CSS rules of the shades of surprisal, for light and dark."""
    light, dark = (
        "".join(f"--s{bits}: {colour}; --t{bits}: {text_colour(colour)}; " for bits, colour in enumerate(ramp))
        for ramp in (LIGHT, DARK)
    )
    shades = "\n".join(
        f":is(.coloured, .legend, #ranking) .s{bits} {{ background: var(--s{bits}); color: var(--t{bits}); }}"
        for bits in range(len(LIGHT))
    )
    return (
        f":root {{ {light}}}\n:root[data-theme=dark] {{ {dark}}}\n"
        f"@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{ {dark}}} }}\n{shades}"
    )
