"""The files of a crate, under names that every file system and every importer takes."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nexuslims_pipeline.files import from_location, json_bytes
from nexuslims_pipeline.publication.datacite import datacite
from nexuslims_pipeline.publication.model import Publication
from nexuslims_pipeline.publication.provenance import provenance
from nexuslims_pipeline.records.text import token

FOLDER = "session"
"""Folder of all files but the metadata."""
LARGEST = 100 << 20
"""Bytes of sidecars and previews in one crate, as much as eLabFTW takes by default; the rest is left out."""
NAME_LENGTH = 80
"""Letters that a file in the crate has of its true name."""
MEDIA_TYPES = {".xml": "application/xml", ".json": "application/json", ".png": "image/png", ".txt": "text/plain"}


@dataclass(frozen=True)
class PackedFile:
    """A file in the crate."""

    path: str
    """Below the crate's root; of characters that an address needs not encode."""
    name: str
    """True name, for people."""
    description: str
    content: bytes

    @property
    def media_type(self) -> str:
        """Internet media type."""
        return MEDIA_TYPES[PurePosixPath(self.path).suffix]


class Payload:
    """The files of a crate: record, citation, provenance, and as many sidecars, then previews, as it may hold."""

    def __init__(self, publication: Publication, facility: str, doi_prefix: str) -> None:
        self.files: list[PackedFile] = []
        self.sidecars: dict[str, PackedFile] = {}
        """By location of the raw file."""
        self.previews: dict[tuple[str, int], PackedFile] = {}
        """By location of the raw file and index of the dataset."""
        self.left_out: list[str] = []
        """Names of the files that would make the crate too large."""
        self._room = LARGEST
        self.record = self._add(f"{publication.key}.xml", "Nexus Experiment record", publication.xml)
        self._add("datacite.json", "DataCite metadata", json_bytes(datacite(publication, facility, doi_prefix)))
        self._add("prov.json", "Provenance of the record (PROV-JSON)", json_bytes(provenance(publication)))
        for number, (location, path) in enumerate(publication.sidecars().items(), 1):
            name = from_location(location).name
            if taken := self._take(path, f"metadata/{number:05}_{_plain(name)}.json", f"{token(name)}.json"):
                self.sidecars[location] = taken
        for number, (dataset, path) in enumerate(publication.previews(), 1):
            name = from_location(dataset.location).name
            if taken := self._take(path, f"previews/{number:05}_{_plain(name)}.png", f"{token(dataset.name)}.png"):
                self.previews[dataset.location, dataset.index] = taken
        if self.left_out:
            self._add("left-out.txt", "Sidecars and previews left out", "\n".join(self.left_out).encode())

    def _take(self, path: Path, file: str, name: str) -> PackedFile | None:
        try:
            if path.stat().st_size > self._room:
                self.left_out.append(name)
                return None
            content = path.read_bytes()
        except FileNotFoundError:  # the session is being built anew, and will be published again
            return None
        self._room -= len(content)
        return self._add(file, "Preview" if file.endswith(".png") else "All metadata of the file", content, name)

    def _add(self, file: str, description: str, content: bytes, name: str = "") -> PackedFile:
        made = PackedFile(f"{FOLDER}/{file}", name or file, description, content)
        self.files.append(made)
        return made


def _plain(name: str) -> str:
    """A name of characters that every file system and every address takes."""
    return re.sub(r"[^A-Za-z0-9.-]+|\.(?=\.)", "_", name)[:NAME_LENGTH]
