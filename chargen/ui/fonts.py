"""The monospaced font of HTML pages: `var(--mono)`.

Common monospaced fonts of Linux have no letters with two marks, such as ế; a browser then draws the second mark beside
the letter. So these letters are taken from a font that has them.
"""

MONOSPACED = """
@font-face { font-family: vietnamese; src: local("DejaVu Sans"), local("DejaVuSans"); unicode-range: U+1EA0-1EF9; }
:root { --mono: vietnamese, ui-monospace, monospace; }
""".strip()
