"""Static files of the portal, which every page links to."""

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("site")


@cache
def site_files() -> dict[str, bytes]:
    """Content of each file of ``<portal>/site``, by its name; the same for the same version of the package."""
    return {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in {".css", ".js"}}
