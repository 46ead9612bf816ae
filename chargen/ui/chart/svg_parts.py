"""What pictures as SVG have in common: the start of the file with the colours of both settings, texts, and a title."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from chargen.ui.terminal_text import cells, visible

FONT_SIZE = 13  # pixels
CELL_WIDTH = 0.62 * FONT_SIZE  # more than most letters of a sans-serif font need
GAP = 10  # pixels between parts
PAGE, TEXT = ("#ffffff", "#111111"), ("#222222", "#eeeeee")  # colours of the light and of the dark setting


def start_svg(about: str, width: int, height: int, dark_rules: Sequence[str]) -> str:
    """Return the start of a picture: its size in pixels, its background, and the colours of the dark setting.

    Args:
        about: What the picture shows, for screen readers.
        width, height: The size in pixels.
        dark_rules: CSS rules of the dark setting; those of the classes "page" and "text" are added.
    """
    rules = [f".page {{ fill: {PAGE[1]}; }}", f".text {{ fill: {TEXT[1]}; }}", *dark_rules]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{xml_text(about)}" font-family="system-ui, \'DejaVu Sans\', Arial, sans-serif" '
        f'font-size="{FONT_SIZE}">\n<title>{xml_text(about)}</title>\n'
        f"<style>@media (prefers-color-scheme: dark) {{ {' '.join(rules)} }}</style>\n"
        f'<rect class="page" width="{width}" height="{height}" fill="{PAGE[0]}"/>\n'
    )


def text_element(x: float, y: float, text: str, attributes: str = "") -> str:
    """Return a text at a position in pixels."""
    return f'<text class="text" fill="{TEXT[0]}" x="{x:g}" y="{y:g}" {attributes}>{xml_text(text)}</text>\n'


def xml_text(text: str) -> str:
    """Return a text for XML, which forbids control characters and two others."""
    return escape(visible(text).replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd"))


def text_width(text: str) -> float:
    """Return the width of a text in pixels, estimated from above."""
    return cells(text) * CELL_WIDTH


def wrap_title(title: str, width: float) -> list[str]:
    """Return a title in lines that fit a width in pixels; a word that is wider has a line of its own."""
    lines: list[str] = []
    for word in title.split():
        if lines and text_width(f"{lines[-1]} {word}") <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines
