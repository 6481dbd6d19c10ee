"""Reading single files without any configuration, for the command line and notebooks."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

from nexuslims_pipeline.extraction.reading import ReadFile
from nexuslims_pipeline.extraction.sidecar import preview_path
from nexuslims_pipeline.files import to_location, write_bytes
from nexuslims_pipeline.inventory.companions import companions_of
from nexuslims_pipeline.metadata.fields import FIELDS
from nexuslims_pipeline.signals import Source


def extract_file(path: Path, preview_folder: Path | None) -> tuple[list[dict[str, Any]], str]:
    """Datasets of one file in the sidecar's form.

    Parameters
    ----------
    path
        The file; a link is followed.
    preview_folder
        Where to write previews; None: nowhere.

    Returns
    -------
    elements : list of dict
        One per dataset: the sidecar's ``@context``, ``nx_meta``, ``original_metadata`` and ``personal``, and
        ``description``, ``file``, ``preview``.
    error : str
        Why the file could not be read; empty when it could.
    """
    from nexuslims_pipeline.extraction.profiles.loading import load_profiles
    from nexuslims_pipeline.extraction.sandbox import Limits, sandbox
    from nexuslims_pipeline.extraction.site_rules import SiteRules

    try:
        source = source_of(path)
    except OSError as fault:
        return [], f"it cannot be opened: {fault.strerror}"
    rules = SiteRules(load_profiles(None))
    with sandbox(source.path.parent, 1, Limits(), rules=rules, whole_folder=True) as pool:
        (read,) = pool.read([source], previews=preview_folder is not None)
    return _elements(path, read, preview_folder), read.error


def source_of(path: Path) -> Source:
    """A file with the companions that lie beside it."""
    real = path.resolve(strict=True)
    status = real.stat()
    beside = companions_of(real.name, [entry.name for entry in os.scandir(real.parent)])
    return Source(
        path=real,
        modified=datetime.fromtimestamp(status.st_mtime_ns // 1000 / 1e6, UTC),
        size=status.st_size,
        time_zone=_zone_of_this_machine(),
        companions=tuple(sorted(path for name in beside if (path := real.with_name(name)).is_file())),
    )


def describe(path: Path, elements: list[dict[str, Any]]) -> str:
    """A few lines for people about the datasets of a file."""
    lines = [str(path)]
    for element in elements:
        meta = element["nx_meta"]
        lines.append(
            f"  {meta['DatasetType']:14} {meta['Data Type']:20} {meta.get('Data Dimensions', ''):18} "
            f"{meta['Creation Time']}  {element['description']}".rstrip()
        )
        lines += [f"    {name}: {_words(value)}" for name, value in meta.items() if name in FIELDS]
        lines += [f"    ! {warning['field']}: {warning['reason']}" for warning in meta["warnings"]]
        lines += [f"    preview: {element['preview']}"] if element["preview"] else []
    return "\n".join(lines)


def _elements(path: Path, read: ReadFile, folder: Path | None) -> list[dict[str, Any]]:
    elements = []
    for index, element in enumerate(read.elements):
        preview = None
        if folder is not None and (picture := read.previews[index]) is not None:
            target = preview_path(folder, to_location(Path(path.name)), index, len(read.elements))
            try:
                write_bytes(target, picture)
                preview = str(target)
            except OSError as fault:
                reason = f"It cannot be written to {folder}: {fault.strerror}"
                element["nx_meta"]["warnings"].append({"field": "Preview", "reason": reason})
        elements.append(element | {"file": str(path), "description": read.descriptions[index], "preview": preview})
    return elements


def _zone_of_this_machine() -> str:
    """IANA name of the machine's zone, which stands in for the unknown instrument's; UTC when it has none."""
    name = os.environ.get("TZ") or os.path.realpath("/etc/localtime").partition("zoneinfo/")[2]
    return name if name in available_timezones() else "UTC"


def _words(value: Any) -> str:
    return f"{value['value']:g} {value['unit']}" if isinstance(value, dict) else str(value)
