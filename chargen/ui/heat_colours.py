"""The colours of heat maps: one ramp from the background to its strongest contrast, for light and for dark backgrounds.

A shade is the surprisal in whole bits, from 0 to `MAX_BITS`. Shade 0 is the background itself, so that expected
characters stay in the background; each further shade is further from it, so that the most surprising characters are the
first that a reader sees.

The colours are at equal steps of lightness in OKLab (Ottosson 2020), with little chroma near the background, and hues
from red over orange to yellow. The lightness also grows or falls from shade to shade for people with protanopia,
deuteranopia and tritanopia (Machado, Oliveira & Fernandes 2009, 10.1109/TVCG.2009.113), and in grey. Letters on a shade
are black or white, whichever has more contrast: at least 4.58, while text needs 4.5 (WCAG 2).

A terminal of 256 colours gets the nearest colours of its cube of 6 × 6 × 6 that keep the order of the lightness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
