"""Pictures in materialisation metadata: small, inline, drawn here."""

import base64
import io
from collections.abc import Callable, Sequence
from datetime import datetime, tzinfo
from pathlib import Path

from dagster import MarkdownMetadataValue, MetadataValue

from nexuslims_pipeline.activities.model import Activity, Clustering

SHEET_COLUMNS, SHEET_ROWS, TILE = 6, 3, 160
"""Most previews on a contact sheet, and the pixels of one."""
WIDTH, HEIGHT, MARGIN = 900, 170, 30
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Colours that colour-blind people tell apart (Okabe and Ito, https://jfly.uni-koeln.de/color/)."""


def contact_sheet(previews: Sequence[Path]) -> MarkdownMetadataValue | str:
    """The first previews side by side as one small picture."""
    from PIL import Image

    shown = previews[: SHEET_COLUMNS * SHEET_ROWS]
    if not shown:
        return "none"
    columns = min(len(shown), SHEET_COLUMNS)
    sheet = Image.new("RGB", (columns * TILE, -(-len(shown) // columns) * TILE), "white")
    for number, path in enumerate(shown):
        with Image.open(path) as picture:
            tile = picture.convert("RGB")
            tile.thumbnail((TILE - 6, TILE - 6))
        sheet.paste(tile, (number % columns * TILE + 3, number // columns * TILE + 3))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=75)
    more = f"\n\n{len(previews) - len(shown)} more in the store." if len(previews) > len(shown) else ""
    return MetadataValue.md(_inline("previews", "image/jpeg", buffer.getvalue()) + more)


def time_line(
    times_ns: Sequence[int], activities: Sequence[Activity], clustering: Clustering, zone: tzinfo
) -> MarkdownMetadataValue:
    """Times of the files, coloured by activity, with the boundaries and the density they come from."""
    first, last = min(times_ns) / 1e9, max(times_ns) / 1e9
    span = max(last - first, 1.0)

    def x(seconds: float) -> float:
        return MARGIN + (seconds - first) / span * (WIDTH - 2 * MARGIN)

    base = HEIGHT - 45
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _density(clustering, x, base),
        f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{base}" y2="{base}" stroke="#333"/>',
    ]
    for boundary in clustering.boundaries:
        parts.append(
            f'<line x1="{x(boundary):.1f}" x2="{x(boundary):.1f}" y1="20" y2="{base + 18}" stroke="#333" '
            'stroke-dasharray="4 3"/>'
        )
    for number, activity in enumerate(activities):
        colour = COLOURS[number % len(COLOURS)]
        middle = x((activity.start_ns + activity.end_ns) / 2e9)
        parts.append(f'<text x="{middle:.1f}" y="14" text-anchor="middle" fill="{colour}">{number}</text>')
        parts += [
            f'<line x1="{x(ns / 1e9):.1f}" x2="{x(ns / 1e9):.1f}" y1="{base}" y2="{base + 14}" stroke="{colour}"/>'
            for ns in sorted({n for n in times_ns if activity.start_ns <= n <= activity.end_ns})
        ]
    for seconds, anchor in ((first, "start"), (last, "end")):
        label = datetime.fromtimestamp(seconds, zone).isoformat(sep=" ", timespec="seconds")
        parts.append(f'<text x="{x(seconds):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}" fill="#333">{label}</text>')
    svg = "".join([*parts, "</svg>"])
    return MetadataValue.md(
        _inline("files in time, with the boundaries between activities", "image/svg+xml", svg.encode())
    )


def _density(clustering: Clustering, x: Callable[[float], float], base: float) -> str:
    from math import exp

    if len(clustering.grid) < 2:
        return ""
    peak = max(clustering.log_density)
    points = [
        f"{x(t):.1f},{base - exp(d - peak) * (base - 25):.1f}"
        for t, d in zip(clustering.grid, clustering.log_density, strict=True)
    ]
    return f'<polyline fill="none" stroke="#999" points="{" ".join(points)}"/>'


def _inline(title: str, kind: str, content: bytes) -> str:
    return f"![{title}](data:{kind};base64,{base64.b64encode(content).decode()})"
