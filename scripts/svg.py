"""Figures as SVG within a page of HTML, small and without clashes of names."""

import re
import zlib
from itertools import pairwise

from markupsafe import Markup, escape

from scripts.figures.plot import Drawn


def inline_svg(figure: Drawn, name: str) -> Markup:
    """Return a figure's SVG as an element of an HTML page, on which it has the name alone.

    Coordinates are rounded to a tenth of a point, and lines made relative. Identifiers are made
    unique to the figure, and those that nothing refers to are dropped.
    """
    svg = figure.path(".svg").read_text()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r' (?:d|x|y)="[^"]*"',
        lambda attribute: re.sub(r"\d+\.\d{2,}", lambda n: f"{float(n[0]):.1f}", attribute[0]),
        svg,
    )
    svg = re.sub(r' d="([^"]*)"', lambda path: f' d="{short_path(path[1])}"', svg)
    key = f"{zlib.crc32(name.encode()):08x}"
    used = dict.fromkeys(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    names = {name: f"f{key}-{number}" for number, name in enumerate(used)}
    svg = re.sub(
        r' id="([^"]*)"', lambda name: f' id="{names[name[1]]}"' if name[1] in names else "", svg
    )
    svg = re.sub(r'(href="|url\()#([^")]+)', lambda link: f"{link[1]}#{names[link[2]]}", svg)
    svg = re.sub(r'^<svg([^>]*?) height="[^"]*"', r"<svg\1", svg)
    svg = re.sub(r'^<svg([^>]*?) width="[^"]*"', r"<svg\1", svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    label = escape(figure.title)
    # matplotlib has escaped all text in its SVG
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))


def short_path(path: str) -> str:
    """Return an SVG path, its numbers of one decimal, with lines relative to the point before."""
    path = re.sub(r"\s*([MLQCz])\s*", r"\1", path.strip())
    here = (0, 0)

    def short(lines: re.Match[str]) -> str:
        nonlocal here
        if start := lines[0].startswith("M"):
            here = (0, 0)  # as written, not relative
        numbers = (round(10 * float(number)) for number in re.findall(r"[-\d.]+", lines[0]))
        points = [here, *zip(numbers, numbers, strict=True)]
        here = points[-1]
        steps = [f"{(x - x0) / 10:g} {(y - y0) / 10:g}" for (x0, y0), (x, y) in pairwise(points)]
        return ("M" if start else "l") + " ".join(steps).replace(" -", "-")

    curved = "Q" in path or "C" in path
    return path if curved else re.sub(r"M[-\d. ]+|(?:L[-\d. ]+)+", short, path)


def share_styles(page: str) -> str:
    """Return a page whose elements name a class for their style, which makes it half as long."""
    styles = dict.fromkeys(re.findall(r' style="([^"]*)"', page))
    names = {style: f"s{number}" for number, style in enumerate(styles)}
    page = re.sub(r' style="([^"]*)"', lambda style: f' class="{names[style[1]]}"', page)
    rules = "\n".join(f".{name} {{ {style} }}" for style, name in names.items())
    return page.replace("</style>", f"{rules}\n</style>", 1)
