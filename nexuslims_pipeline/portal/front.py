"""The portal's front page: one HTML file with all that its scripts start from."""

import hashlib
import json
from collections.abc import Iterable
from html import escape
from string import Template
from typing import Any, Final
from urllib.parse import urlsplit

from nexuslims_pipeline.portal.files import FOLDER, site_files
from nexuslims_pipeline.portal.index import PortalIndex
from nexuslims_pipeline.portal.quantities import quantities
from nexuslims_pipeline.portal.shards import DIGITS, FACETS
from nexuslims_pipeline.portal.summary import Summary

LISTED: Final = 200
"""Sessions that a browser without JavaScript lists."""
STATIC: Final = ("theme.css", "front.css", "front-query.js", "front-search.js", "front.js")


def front_page(
    index: PortalIndex, *, facility: str = "", datasets: str = "../datasets", site: str = "site", pages: str = "."
) -> bytes:
    """Write ``index.html`` of a portal whose index has been refreshed; the same index gives the same bytes.

    Parameters
    ----------
    index
        The index, which lies in ``index`` beside the page.
    facility
        Its name, for the heading.
    datasets
        Where previews are: address of the datasets folder, relative to the page or absolute.
    site
        Where the static files are.
    pages
        Where the sessions' pages are, each at ``<yyyy>/<key>.html``.
    """
    months = index.months()
    start = {
        "datasets": datasets.rstrip("/"),
        "pages": pages.rstrip("/"),
        "months": months,
        "facets": {name: facet.part for name, facet in FACETS.items()},
        "digits": DIGITS,
        **quantities(),
    }
    heading = f"{facility} – microscopy sessions" if facility else "Microscopy sessions"
    total = sum(month.sessions for month in months)
    page = Template((FOLDER / "front.html").read_text(encoding="utf-8")).substitute(
        heading=escape(heading),
        pictures=_origin(datasets),
        start=_data(start),
        plain=_plain(index.newest(LISTED), pages.rstrip("/"), total),
        **{_placeholder(name): f"{escape(site.rstrip('/'))}/{name}?v={_version(name)}" for name in STATIC},
    )
    return page.encode()


def _placeholder(name: str) -> str:
    return name.replace("-", "_").replace(".", "_")


def _version(name: str) -> str:
    """Changes with the file, so that no browser keeps an old one."""
    return hashlib.sha256(site_files()[name]).hexdigest()[:8]


def _origin(address: str) -> str:
    """Source of pictures for the page's security policy: none besides its own unless `address` is elsewhere."""
    parts = urlsplit(address)
    return escape(f"{parts.scheme}://{parts.netloc}") if parts.netloc and parts.scheme in {"http", "https"} else ""


def _data(value: Any) -> str:
    """JSON that nothing in it can end before its element does."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _plain(summaries: Iterable[Summary], pages: str, total: int) -> str:
    """List for browsers without JavaScript."""
    items = [_plain_item(summary, pages) for summary in summaries]
    if not items:
        return "<p>No session is in this portal yet.</p>"
    told = f"Searching needs JavaScript. Of {total} sessions, these are the newest {len(items)}:"
    if len(items) == total:
        told = f"Searching needs JavaScript. These are all {total} sessions:"
    return "\n".join([f"<p>{told}</p>", "<ul>", *items, "</ul>"])


def _plain_item(s: Summary, pages: str) -> str:
    facts = " · ".join(filter(None, (s.start.strftime("%Y-%m-%d %H:%M"), s.instrument, *s.people)))
    address = f"{pages}/{s.key[:4]}/{s.key}.html"
    return f'<li><a href="{escape(address)}">{escape(s.title)}</a> <span>{escape(facts)}</span></li>'
