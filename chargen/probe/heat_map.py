"""Heat maps of surprisal: their colours, and the displays of scores and models in notebooks.

There is one ramp of colours from the background to its strongest contrast, for light and for dark backgrounds.

A shade is the surprisal in whole bits, from 0 to `MAX_BITS`. Shade 0 is the background itself, so that expected
characters stay in the background; each further shade is further from it, so that the most surprising characters are the
first that a reader sees.

The colours are at equal steps of lightness in OKLab (Ottosson 2020), with little chroma near the background, and hues
from red over orange to yellow. The lightness also grows or falls from shade to shade for people with protanopia,
deuteranopia and tritanopia (Machado, Oliveira & Fernandes 2009, 10.1109/TVCG.2009.113), and in grey. Letters on a shade
are black or white, whichever has more contrast: at least 4.58, while text needs 4.5 (WCAG 2).

A terminal of 256 colours gets the nearest colours of its cube of 6 × 6 × 6 that keep the order of the lightness.

A notebook gets a fragment of HTML with inline styles only. It runs no script and loads nothing. It sets its own
background and text colours, because it cannot know whether the page around it is light or dark.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence

from chargen.cells.weights import count_parameters
from chargen.checkpoint import Checkpoint
from chargen.config import LN2
from chargen.schema import format_count, format_number

MAX_BITS = 10  # surprisals from here on have the last shade

#: Colours of the shades from 0 to MAX_BITS.
LIGHT = (
    *("#ffffff", "#f1e3d2", "#e6c5a7", "#dda67c", "#d48453", "#ca602a"),
    *("#b3431c", "#9b2602", "#791706", "#580a06", "#390204"),
)
DARK = (
    *("#111111", "#3b1615", "#5f1e19", "#842919", "#a53c00", "#bb5a02"),
    *("#d07807", "#e4970b", "#ecba52", "#f2dc8d", "#fdfac4"),
)
LIGHT_256 = (
    *("#ffffff", "#ffd7d7", "#ffaf87", "#d7af5f", "#d7875f", "#d75f00"),
    *("#af5f00", "#af0000", "#870000", "#5f0000", "#121212"),
)
DARK_256 = (
    *("#121212", "#5f0000", "#870000", "#af0000", "#af5f00", "#d75f00"),
    *("#d78700", "#ff8700", "#ffaf5f", "#ffd787", "#ffffd7"),
)

#: Ramps of a terminal by rich's name of its colours; the sixteen colours of an old terminal are not a scale.
TERMINAL_RAMPS = {"truecolor": (LIGHT, DARK), "256": (LIGHT_256, DARK_256)}
MAX_NOTEBOOK_CHARS = 5_000  # characters of a heat map in a notebook
CARD_STYLE = (
    "background:#ffffff;color:#111111;border:1px solid #cccccc;border-radius:6px;padding:8px 12px;margin:4px 0;"
    "max-width:60em;font:14px/1.7 ui-monospace,monospace"
)
TEXT_STYLE = "white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext"
CELL_STYLE = "background:#ffffff;color:#111111;border:none;padding:1px 20px 1px 0;text-align:left;vertical-align:top"
EMOJI_MODIFIERS = range(0x1F3FB, 0x1F400)  # skin tones
ZERO_WIDTH_JOINER = "\u200d"
LIGHT_ANSI_COLOURS = ("7", "9", "10", "11", "12", "13", "14", "15")  # backgrounds in COLORFGBG that are light


def shade(bits: float) -> int:
    """Return the shade of a surprisal: the whole bits, at most MAX_BITS."""
    return int(min(max(0.0, bits), MAX_BITS))


def terminal_ramp(color_system: str | None, environment: Mapping[str, str]) -> Sequence[str] | None:
    """Return the colours of the shades for a terminal, or None if it has too few colours.

    The ramp is the dark one unless the terminal says that its background is light. A heat map sets the background of
    every character, so it can be read on any terminal.

    Args:
        color_system: rich's name of the terminal's colours, for example "256"; None for none.
        environment: environment variables; some terminals set COLORFGBG to "foreground;background".
    """
    if color_system not in TERMINAL_RAMPS:
        return None
    light, dark = TERMINAL_RAMPS[color_system]
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    return light if background in LIGHT_ANSI_COLOURS else dark


def text_colour(background: str) -> str:
    """Return black or white, whichever has more contrast on a background, as a number that no terminal redefines."""
    return max("#000000", "#ffffff", key=lambda colour: contrast(background, colour))


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2 between two colours like "#ff8700", from 1 to 21."""
    low, high = sorted(relative_luminance(colour) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def relative_luminance(colour: str) -> float:
    """Return the relative luminance of a colour like "#ff8700", from 0 (black) to 1 (white)."""
    parts = [byte / 255 for byte in bytes.fromhex(colour[1:])]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# ── in notebooks ──────────────────────────────────────────────────────────────────────────────────────────────────────


def heat_html(pieces: Sequence[tuple[str, float]], caption: str) -> str:
    """Return a heat map of a text as a fragment of HTML, with the surprisal of each character as a tooltip.

    Args:
        pieces: Characters (or sentencepiece pieces) and their surprisal in bits. Of a long text, the first
            `MAX_NOTEBOOK_CHARS` characters are shown.
        caption: Line below the text.
    """
    spans: list[str] = []
    num_shown = 0
    for text, bits in _join_marks(pieces):
        if num_shown + len(text) > MAX_NOTEBOOK_CHARS:
            caption += f"; the first {format_count(num_shown, 'character')} are shown"
            break
        num_shown += len(text)
        title = f"{format_number(bits, 2)} bits"
        spans.append(f'<span style="{_shade_style(shade(bits))}" title="{title}">{_visible_html(text)}</span>')
    legend = " ".join(
        f'<span style="{_shade_style(bits)};padding:0 5px">{bits or "under 1"}{"+" if bits == MAX_BITS else ""}</span>'
        for bits in range(MAX_BITS + 1)
    )
    return (
        f'<div style="{CARD_STYLE}"><div dir="auto" style="{TEXT_STYLE}">{"".join(spans)}</div>'
        f"<div>{escape_html(caption)}</div><div>bits: {legend}</div></div>"
    )


def model_html(checkpoint: Checkpoint) -> str:
    """Return a table of the properties of a model as a fragment of HTML."""
    config, about = checkpoint.config, checkpoint.about
    facts = [
        ("network", str(config)),
        ("parameters", f"{count_parameters(config):,}"),
        ("vocabulary", f"{config.vocab_size:,} (tokenizer {checkpoint.tokenizer.name})"),
    ]
    if "corpus" in about:
        size = f", {format_count(about['train_chars'], 'character')}" if "train_chars" in about else ""
        facts.append(("trained on", f"{about['corpus']}{size}"))
    loss_nats = about.get("result", {}).get("val_loss_nats_per_char", about.get("choice_loss_nats_per_char"))
    if loss_nats is not None:
        facts.append(("loss", f"{format_number(loss_nats / LN2, 3)} bits/char on the held-out text"))
    rows = "".join(
        f'<tr style="background:#ffffff"><td style="{CELL_STYLE}">{escape_html(name)}</td>'
        f'<td style="{CELL_STYLE};{TEXT_STYLE}">{_visible_html(value)}</td></tr>'
        for name, value in facts
    )
    return f'<div style="{CARD_STYLE}"><table style="border-collapse:collapse;margin:0">{rows}</table></div>'


def escape_html(text: str) -> str:
    """Return a text in a form that HTML shows as it is, in an element or in an attribute."""
    import html  # takes 1 ms, which only notebooks need

    return html.escape(text)


def _join_marks(pieces: Iterable[tuple[str, float]]) -> Iterator[tuple[str, float]]:
    """Yield the pieces; one without a width of its own is joined to the one before, so that no span separates them."""
    joined, total = "", 0.0
    for text, bits in pieces:
        if joined and text and _extends(joined[-1], text[0]):
            joined, total = joined + text, total + bits
            continue
        if joined:
            yield joined, total
        joined, total = text, bits
    if joined:
        yield joined, total


def _extends(before: str, char: str) -> bool:
    if char.isascii() or unicodedata.category(before) == "Cc":
        return False
    is_mark = unicodedata.category(char)[0] == "M"
    return is_mark or ZERO_WIDTH_JOINER in (before, char) or ord(char) in EMOJI_MODIFIERS


def _visible_html(text: str) -> str:
    """Return a text as HTML in which control characters and invisible characters are replaced by symbols."""
    return "".join(_symbol(char) for char in text)


def _symbol(char: str) -> str:
    if char == "\n":
        return "␊<br>"
    if char < " ":
        return chr(0x2400 + ord(char))
    if char == "\x7f":
        return "␡"
    is_hidden = unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in "\u200c\u200d"
    return "\ufffd" if is_hidden else escape_html(char)


def _shade_style(bits: int) -> str:
    return f"background:{LIGHT[bits]};color:{text_colour(LIGHT[bits]) if bits else '#111111'}"
