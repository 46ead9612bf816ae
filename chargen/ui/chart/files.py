"""Write pictures to files: SVG by this package alone, PNG with an optional package that draws the SVG."""

from __future__ import annotations

from pathlib import Path

from chargen.errors import ConfigError
from chargen.io import write_atomically
from chargen.registry import did_you_mean, import_extra
from chargen.ui.chart.chart import Chart
from chargen.ui.chart.svg import chart_svg

FORMATS = (".svg", ".png")
PNG_ZOOM = 2  # pixels of a PNG for each pixel of the SVG


def check_chart_file(path: str | Path) -> None:
    """Check that a chart can be written to a file of this name. Commands call it before they measure.

    Raises:
        ConfigError: If the name ends neither with .svg nor with .png.
        ChargenError: If it ends with .png and the package for PNG is not installed. The hint is the `pip install` line.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        hint = f"{did_you_mean(suffix, FORMATS)} Charts are written as .svg or .png.".strip()
        raise ConfigError(f"{str(path)!r} names no known format of a picture", hint)
    if suffix == ".png":
        import_extra("resvg_py", "plot", "a PNG picture")


def write_chart(path: str | Path, chart: Chart) -> None:
    """Write a chart as SVG or PNG; see `write_picture`."""
    write_picture(path, chart_svg(chart))


def write_picture(path: str | Path, svg: str) -> None:
    """Write a picture as SVG or PNG, which the end of the name decides.

    A PNG has the light setting of the SVG.

    Args:
        path: The file.
        svg: The picture.

    Raises:
        ConfigError: If the name ends neither with .svg nor with .png.
        ChargenError: If it ends with .png and the package for PNG is not installed.
        StorageError: If the file cannot be written.
    """
    check_chart_file(path)
    data = svg.encode("utf-8")
    if Path(path).suffix.lower() == ".png":
        drawn = import_extra("resvg_py", "plot", "a PNG picture").svg_to_bytes(svg_string=svg, zoom=PNG_ZOOM)
        data = bytes(drawn)
    write_atomically(Path(path), [data])
