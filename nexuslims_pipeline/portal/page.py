"""The page of a session: its record, made readable by the stylesheet that CDCS applies as well."""

from dataclasses import asdict, dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from nexuslims_pipeline.portal.files import site_files

if TYPE_CHECKING:
    from lxml.etree import XSLT, XMLParser

STYLESHEETS = Path(__file__).with_name("stylesheets")
FOLDERS = ("datasets", "raw", "records", "crates")
"""Places that the stylesheet takes as parameters."""
XSL = "{http://www.w3.org/1999/XSL/Transform}"


@dataclass(frozen=True)
class Places:
    """Where a page finds what it links to.

    Addresses of folders, relative to the page or absolute, percent-encoded; one that is empty is linked nowhere.
    """

    datasets: str = ""
    """Sidecars and previews."""
    raw: str = ""
    """The raw files; over HTTP they can be downloaded together."""
    records: str = ""
    """The records, ``<yyyy>/<key>.xml``."""
    crates: str = ""
    """The crates, ``<yyyy>/<key>.eln``."""
    home: str = ""
    """The front page (no folder: the page itself)."""
    site: str = "../site"
    """The static files."""

    def __post_init__(self) -> None:
        """Take the slash from the end of every folder."""
        for name, address in asdict(self).items():
            object.__setattr__(self, name, address if name == "home" else address.rstrip("/"))


def record_page(xml: bytes, places: Places) -> bytes:
    """Make the page of a session.

    Parameters
    ----------
    xml
        The record.
    places
        What it may link to.

    Returns
    -------
    bytes
        A whole page in HTML, UTF-8; the same for the same record and places.

    Raises
    ------
    lxml.etree.XMLSyntaxError
        If the record is no XML.
    """
    from lxml import etree

    root = etree.fromstring(xml, _parser())
    folders: dict[str, Any] = {name: etree.XSLT.strparam(getattr(places, name)) for name in FOLDERS}
    article = str(_transformation()(root, **folders))
    title = root.findtext("{*}title") or root.get("pid") or "Session"
    home = f'<header class="nx-top"><a href="{escape(places.home)}">All sessions</a></header>' if places.home else ""
    return f"""<!DOCTYPE html>
<html lang="en" class="nx nx-page">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(_policy(places))}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{escape(places.site)}/theme.css">
<link rel="stylesheet" href="{escape(places.site)}/record.css">
<script src="{escape(places.site)}/record.js" defer></script>
</head>
<body>
<a class="nx-skip" href="#nx-activity-1">To the datasets</a>
{home}
<main>
{article.strip()}
</main>
</body>
</html>
""".encode()


def cdcs_stylesheet(kind: Literal["record", "list"], places: Places) -> str:
    """The stylesheet for CDCS, which gives it no parameters and no files: all that it needs is in it.

    Parameters
    ----------
    kind
        ``record`` shows one record, ``list`` one in a list of results.
    places
        Absolute addresses; those of `home` and `site` play no part.

    Returns
    -------
    str
        XSLT 1.0.
    """
    from lxml import etree

    root = etree.fromstring((STYLESHEETS / f"{kind}.xsl").read_bytes(), _parser())
    files = {name: content.decode() for name, content in site_files().items()}
    given = asdict(places) | {"style": files["theme.css"] + files["record.css"], "script": files["record.js"]}
    for parameter in root.iterfind(f"{XSL}param"):
        parameter.text = given[parameter.get("name", "")]
    return etree.tostring(root, encoding="unicode")


def _parser() -> "XMLParser":
    from lxml.etree import XMLParser

    return XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)


@cache
def _transformation() -> "XSLT":
    from lxml import etree

    nothing: Any = etree.XSLTAccessControl  # lxml's stubs do not know what it has
    return etree.XSLT(etree.parse(STYLESHEETS / "record.xsl", _parser()), access_control=nothing.DENY_ALL)


def _policy(places: Places) -> str:
    """What a page may do: run our script, show pictures, fetch raw files; nothing from elsewhere."""
    pictures = _origins(places.datasets)
    fetched = _origins(places.datasets, places.raw, places.records)
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'; "
        f"img-src 'self' data:{pictures}; connect-src 'self'{fetched}"
    )


def _origins(*addresses: str) -> str:
    parts = [urlsplit(address) for address in addresses]
    return "".join(sorted({f" {part.scheme}://{part.netloc}" for part in parts if part.scheme in {"http", "https"}}))
