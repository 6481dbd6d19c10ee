"""The trees of Velox's files: JSON texts of acquisitions, displays and operations, and the titles that they give.

Everything is text: numbers are, and ``None`` stands for nothing. See `formats.velox_emd` for where the trees lie.
"""

import json
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, Final
from urllib.parse import unquote

from nexuslims_pipeline.extraction.layouts.hdf5 import ensure_own_numbers, resolved
from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.extraction.vendor_text import ELEMENTS, decode, number

MOST_DATASETS: Final = 500
"""Images, spectra and displays of one file."""
MOST_TEXT: Final = 4 << 20
"""Bytes of one JSON text."""


def json_of(dataset: Any) -> dict[str, Any]:
    """JSON object of a dataset of one text; empty when it is none."""
    if getattr(dataset, "shape", None) not in ((1,), ()):
        return {}
    ensure_own_numbers(dataset)
    value = dataset[()] if dataset.shape == () else dataset[0]
    raw = value.encode() if isinstance(value, str) else bytes(value) if isinstance(value, bytes) else b""
    return parsed(raw) if len(raw) <= MOST_TEXT else {}


def parsed(raw: bytes) -> dict[str, Any]:
    """JSON object in padded bytes; empty when it is damaged, or none."""
    try:
        found = json.loads(decode(raw.rstrip(b"\0 \n"))[0] or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def first_metadata(group: Any) -> dict[str, Any]:
    """JSON of the first frame.

    Raises
    ------
    ExtractionError
        If there is none, or it is damaged.
    """
    found = resolved(group, "Metadata")
    shape: tuple[int, ...] = getattr(found, "shape", None) or ()
    if len(shape) != 2 or not 0 < shape[0] <= MOST_TEXT or prod(found.chunks or (1,)) > MOST_TEXT:
        msg = "there are none of the usual form"
        raise ExtractionError(msg)
    ensure_own_numbers(found)
    tree = parsed(found[:, 0].tobytes())
    if not tree:
        msg = "their JSON is damaged"
        raise ExtractionError(msg)
    return tree


def children(file: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Names and objects of a group; nothing when there is none."""
    group = resolved(file, path)
    for name in list(group if hasattr(group, "keys") else ())[:MOST_DATASETS]:
        yield name, resolved(group, name)


def value_at(tree: Any, path: str) -> Any:
    """Value or branch at a dotted path; None when there is none."""
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def text_at(tree: Any, path: str) -> str:
    """Value at a dotted path as text; empty for none, and for ``None``, which Velox writes for nothing."""
    value = value_at(tree, path)
    text = str(value) if isinstance(value, str | int | float) else ""
    return "" if text == "None" else text


def number_at(tree: Any, path: str, default: float = 0.0) -> float:
    """Number at a dotted path; `default` where there is none."""
    try:
        return number(text_at(tree, path))
    except ValueError:
        return default


def displayed_titles(file: Any) -> dict[str, str]:
    """Titles of the displays by the key of their image."""
    titles: dict[str, str] = {}
    for _, found in children(file, "Presentation/Displays/ImageDisplay"):
        display = json_of(found)
        titles[_key_of(display.get("dataPath"))] = unquote(text_at(display, "display.label"))
    for _, found in children(file, "Displays/ImageDisplay"):
        display = json_of(found)
        reference = display.get("data")
        shown = json_of(resolved(file, reference)) if isinstance(reference, str) else {}
        titles[_key_of(shown.get("dataPath"))] = unquote(text_at(display, "title") or text_at(display, "id"))
    return {key: title for key, title in titles.items() if key and title}


def operation_titles(file: Any) -> dict[str, str]:
    """Names of images by the operation that made them: the detector's, ``DPC``, ``Filtered iDPC`` …."""
    names: dict[str, str] = {}
    for kind, operations in children(file, "Operations"):
        for _, found in children(operations, "/") if hasattr(operations, "keys") else ():
            operation = json_of(found)
            for place, name in _named(kind, operation).items():
                names[_key_of(operation.get(place))] = name
    return {key: name for key, name in names.items() if key and name}


def _named(kind: str, operation: Mapping[str, Any]) -> dict[str, str]:
    """Names of the images that lie at the paths an operation has under these keys."""
    if kind == "CameraInputOperation":
        return {"dataPath": text_at(operation, "cameraName")}
    if kind == "StemInputOperation":
        return {"dataPath": text_at(operation, "detector")}
    if kind == "SurfaceReconstructionOperation":
        name = "iDPC" if operation.get("integrationMode") in ("true", True) else "dDPC"
        filtered = f"Filtered {name}" if operation.get("enableFilter") in ("true", True) else name
        return {"dataPath": filtered, "unfilteredDataPath": name}
    if kind == "MathematicsOperation":
        outputs = operation.get("outputs")
        first = text_at(outputs[0], "inputIndex") if isinstance(outputs, list) and outputs else ""
        return {"dataPath": {"0": "A-C", "1": "B-D"}.get(first, "")}
    if kind == "FftOperation":
        return {"imageOutputPath": "FFT"}
    return {"dataPath": {"DpcOperation": "DPC", "IntegrationOperation": "DCFI"}.get(kind, "")}


def _key_of(path: Any) -> str:
    return path.rpartition("/")[2] if isinstance(path, str) else ""


def selected_elements(file: Any) -> list[str]:
    """Elements that the operator chose for quantification."""
    for place in ("SharedProperties/EDSSpectrumQuantificationSettings", "Operations/ImageQuantificationOperation"):
        for _, found in children(file, place):
            chosen = json_of(found).get("elementSelection")
            numbers = [str(each) for each in chosen] if isinstance(chosen, list) else []
            symbols = [ELEMENTS[int(n) - 1] for n in numbers if n.isdecimal() and 0 < int(n[:4]) <= len(ELEMENTS)]
            if symbols:
                return symbols
    return []
