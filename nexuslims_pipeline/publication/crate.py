"""The crate of a session: an ``.eln`` file, which is a zipped RO-Crate with everything below one folder.

Written as RO-Crate 1.2: the ``.eln`` convention asks for 1.1 or later, eLabFTW writes and reads 1.2 (Kadi4Mat only
writes), and 1.1 does not know ``sha256``, without which eLabFTW takes no file. ``rocrate`` would write 1.3, which no
notebook reads yet. What importers of ``.eln`` do with a crate decides its shape:

- The crate has one part, the session: eLabFTW makes an entry of every part. The session lists all files by itself,
  because files of nested datasets are not imported.
- File names are plain ASCII: importers look for ``@id`` on disk without decoding it. The true names are in ``name``.
- ``text`` is HTML, ``keywords`` one text with commas, sizes are texts.

Datasets are entities without a folder, results of the activities (`CreateAction`) that took them. Raw files are
described, not contained. The details of the build are in ``prov.json``.

Sources: https://www.researchobject.org/ro-crate/specification/1.2/,
https://github.com/TheELNConsortium/TheELNFileFormat, and eLabFTW's ``src/Import/Eln.php``.
"""

import hashlib
import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from nexuslims_pipeline import __version__
from nexuslims_pipeline.files import from_location, json_bytes
from nexuslims_pipeline.metadata.dataset import Dataset
from nexuslims_pipeline.publication.datacite import datacite, formats, subjects, web_address
from nexuslims_pipeline.publication.model import Publication
from nexuslims_pipeline.publication.provenance import (
    code_versions,
    configuration_hash,
    person_name,
    provenance,
    raw_files,
    time_text,
)
from nexuslims_pipeline.records.parameters import Parameter, parameters
from nexuslims_pipeline.records.text import clean, token
from nexuslims_pipeline.sessions.model import Sample

if TYPE_CHECKING:
    from rocrate.model.entity import Entity

VERSION = "1.2"
LARGEST = 100 << 20
"""Bytes of sidecars and previews in one crate, as much as eLabFTW takes by default; the rest is left out."""
MEASURED = 60
"""Values told of one dataset; all are in its sidecar."""
UNMEASURED = frozenset({"Creation Time", "Data Type", "DatasetType", "Extraction Details", "extensions"})
"""Metadata that have a place of their own, or only in the sidecar."""
NAME_LENGTH = 80
"""Letters of a file's name in the crate that are its own; its number comes before."""
MEDIA_TYPES = {".xml": "application/xml", ".json": "application/json", ".png": "image/png", ".txt": "text/plain"}
METADATA, SESSION = "ro-crate-metadata.json", "session"
SOFTWARE = "urn:nexuslims-pipeline"
"""Stands for the address that RO-Crate demands of all software; ours has no page on the web."""
NO_LICENSE = "No licence is stated. Ask the facility or the people named before using the data."


def crate_bytes(publication: Publication, facility: str, doi_prefix: str) -> bytes:
    """The ``.eln`` of a session: record, previews, sidecars, citation, provenance, and what they are.

    Parameters
    ----------
    publication
        The session.
    facility
        Name of the facility.
    doi_prefix
        Prefix of the identifier in ``datacite.json``.

    Returns
    -------
    bytes
        A zip; the same for the same publication.
    """
    payload = _Payload(publication, facility, doi_prefix)
    graph = json_bytes(_Graph(publication, facility, payload).document())
    members = {METADATA: graph} | {file.path: file.content for file in payload.files}
    return _zipped({f"{publication.key}/{path}": content for path, content in members.items()})


def _zipped(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(members):
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, 0o100644 << 16
            # Pictures are compressed already.
            method = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
            archive.writestr(member, members[name], method, compresslevel=6)
    return buffer.getvalue()


@dataclass(frozen=True)
class _File:
    """A file in the crate."""

    path: str
    """Below the crate's folder; of characters that need no encoding."""
    name: str
    """True name, for people."""
    description: str
    content: bytes

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[PurePosixPath(self.path).suffix]


class _Payload:
    """The files in a crate: as many sidecars, then previews, as it may hold."""

    def __init__(self, publication: Publication, facility: str, doi_prefix: str) -> None:
        self.files: list[_File] = []
        self.sidecars: dict[str, _File] = {}
        """By location of the raw file."""
        self.previews: dict[tuple[str, int], _File] = {}
        """By location of the raw file and index of the dataset."""
        self.left_out: list[str] = []
        """Names of the files that would make the crate too large."""
        self._room = LARGEST
        self.record = self._add(f"{publication.key}.xml", "Nexus Experiment record", publication.xml)
        self._add("datacite.json", "DataCite metadata", json_bytes(datacite(publication, facility, doi_prefix)))
        self._add("prov.json", "Provenance of the record (PROV-JSON)", json_bytes(provenance(publication)))
        self._take_sidecars(publication)
        self._take_previews(publication)
        if self.left_out:
            self._add("left-out.txt", "Files left out of this crate", "\n".join(self.left_out).encode())

    def _take_sidecars(self, publication: Publication) -> None:
        sidecars = publication.sidecars()
        for number, (location, path) in enumerate(sidecars.items(), 1):
            name = from_location(location).name
            file = f"metadata/{number:0{len(str(len(sidecars)))}}_{_plain(name)}.json"
            if taken := self._take(path, file, f"{token(name)}.json", "All metadata of the file"):
                self.sidecars[location] = taken

    def _take_previews(self, publication: Publication) -> None:
        previews = publication.previews()
        for number, (dataset, path) in enumerate(previews, 1):
            name = from_location(dataset.location).name
            file = f"previews/{number:0{len(str(len(previews)))}}_{_plain(name)}.png"
            if taken := self._take(path, file, f"{token(dataset.name)}.png", "Preview"):
                self.previews[dataset.location, dataset.index] = taken

    def _take(self, path: Path, file: str, name: str, description: str) -> _File | None:
        try:
            if path.stat().st_size > self._room:
                self.left_out.append(name)
                return None
            content = path.read_bytes()
        except FileNotFoundError:  # the session is being built anew, and will be published again
            return None
        self._room -= len(content)
        return self._add(file, description, content, name)

    def _add(self, file: str, description: str, content: bytes, name: str = "") -> _File:
        made = _File(f"{SESSION}/{file}", name or file, description, content)
        self.files.append(made)
        return made


def _plain(name: str) -> str:
    """A file name that is safe everywhere."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name)[:NAME_LENGTH].replace("..", "_")


def _one_or_many(things: Iterable[Any]) -> Any:
    """Values of a property: none, the only one, or a list."""
    found = [thing for thing in things if thing is not None]
    return found[0] if len(found) == 1 else found or None


class _Graph:
    """What ``ro-crate-metadata.json`` tells."""

    def __init__(self, publication: Publication, facility: str, payload: _Payload) -> None:
        from rocrate.rocrate import ROCrate

        self._publication = publication
        self._payload = payload
        self._crate: ROCrate = ROCrate(version=VERSION)
        self._values: dict[Parameter, Entity] = {}
        self._facility = self._tell("#facility", "Organization", name=token(facility))
        session = publication.session
        self._user, self._operator = (
            self._tell(
                f"#{role}",
                "Person",
                name=person_name(person),
                givenName=token(person.first_name),
                familyName=token(person.last_name),
            )
            if person
            else None
            for role, person in (("user", session.user), ("operator", session.operator))
        )
        self._instrument = self._tell(
            "#instrument",
            "IndividualProduct",
            name=token(publication.instrument.name),
            identifier=publication.instrument.id,
            description=token(publication.instrument.location),
        )
        self._pipeline = self._tell(
            "#pipeline", "SoftwareApplication", name="nexuslims-pipeline", version=__version__, url=SOFTWARE
        )
        self._samples = [self._sample(n, sample) for n, sample in enumerate(session.samples, 1)]
        self._files = {file.path: self._file(file) for file in payload.files}
        self._raw = self._raw_files()
        self._datasets = self._all_datasets()
        self._tell_root()

    def document(self) -> Any:
        return self._crate.metadata.generate()

    def _tell(self, identifier: str, kind: str, /, **properties: Any) -> "Entity":
        from rocrate.model.contextentity import ContextEntity

        known = {name: value for name, value in properties.items() if value not in (None, "", [])}
        return self._crate.add(ContextEntity(self._crate, identifier, {"@type": kind} | known))

    def _file(self, file: _File) -> "Entity":
        from rocrate.model.file import File

        properties = {
            "name": file.name,
            "description": file.description,
            "encodingFormat": file.media_type,
            "contentSize": str(len(file.content)),
            "sha256": hashlib.sha256(file.content).hexdigest(),
        }
        return self._crate.add(File(self._crate, None, file.path, properties=properties))

    def _sample(self, number: int, sample: Sample) -> "Entity":
        return self._tell(
            f"#sample-{number}",
            "Thing",
            name=token(sample.name or sample.pid or f"Sample {number}"),
            identifier=token(sample.pid or sample.id),
            description=token(sample.description or ""),
            keywords=", ".join(sample.elements),
        )

    def _raw_files(self) -> dict[str, "Entity"]:
        """Files that the crate describes and does not hold, by location."""
        return {
            entry.location: self._tell(
                f"#file-{number}",
                "DigitalDocument",
                name=token(from_location(entry.location).name),
                identifier=entry.location,
                description="Raw file below the root of instrument data; not in this crate",
                contentSize=str(entry.size) if entry.size is not None else None,
                dateModified=time_text(entry.modified_ns, self._publication) if entry.modified_ns is not None else None,
                subjectOf=self._contained(self._payload.sidecars.get(entry.location)),
            )
            for number, entry in enumerate(raw_files(self._publication), 1)
        }

    def _contained(self, file: _File | None) -> "Entity | None":
        return self._files[file.path] if file else None

    def _all_datasets(self) -> dict[str, list["Entity"]]:
        """Datasets by the location of their file."""
        found: defaultdict[str, list[Entity]] = defaultdict(list)
        for number, dataset in enumerate(sorted(self._publication.datasets, key=lambda d: (d.location, d.index)), 1):
            found[dataset.location].append(self._dataset(number, dataset))
        return found

    def _dataset(self, number: int, dataset: Dataset) -> "Entity":
        preview = self._contained(self._payload.previews.get((dataset.location, dataset.index)))
        measured = parameters({name: v for name, v in dataset.nx_meta.items() if name not in UNMEASURED})
        return self._tell(
            f"#dataset-{number}",
            "Dataset",
            name=token(dataset.name),
            description=token(dataset.description),
            additionalType=token(str(dataset.nx_meta.get("DatasetType", ""))),
            keywords=token(str(dataset.nx_meta.get("Data Type", ""))),
            encodingFormat=token(dataset.format),
            dateCreated=token(str(dataset.nx_meta.get("Creation Time", ""))),
            isBasedOn=self._raw.get(dataset.location),
            thumbnail=preview,
            variableMeasured=_one_or_many(self._value(parameter) for parameter in measured[:MEASURED]),
        )

    def _value(self, parameter: Parameter) -> "Entity":
        """A measured value; datasets with the same value share it."""
        if parameter not in self._values:
            self._values[parameter] = self._tell(
                f"#value-{len(self._values) + 1}",
                "PropertyValue",
                name=parameter.name,
                value=parameter.text,
                unitText=parameter.unit_symbol,
                description="Not to be relied on; the record says why" if parameter.warning else "",
            )
        return self._values[parameter]

    def _tell_root(self) -> None:
        publication, _session, root = self._publication, self._publication.session, self._crate.root_dataset
        author = self._user or self._operator or self._facility
        actions = [*self._acquisitions(), *self._readings(), self._build()]
        links = [
            self._tell(address, "WebPage", name=link.label)
            for _, link in sorted(publication.links.items())
            if (address := web_address(link.url))
        ]
        told: dict[str, Any] = {
            "name": publication.title,
            "description": self._summary(),
            "datePublished": publication.end.isoformat(timespec="seconds"),
            "identifier": publication.key,
            "license": self._tell("#license", "CreativeWork", name="No licence stated", description=NO_LICENSE),
            "author": author,
            "publisher": self._facility,
            "producer": self._project(),
            "about": _one_or_many(self._samples),
            "mentions": _one_or_many(actions),
            "subjectOf": _one_or_many(links),
        }
        for name, value in told.items():
            if value is not None:
                root[name] = value
        root["hasPart"] = [self._session_part(author)]
        self._crate.metadata["sdPublisher"] = self._facility
        self._crate.metadata["version"] = __version__

    def _session_part(self, author: "Entity") -> "Entity":
        from rocrate.model.dataset import Dataset as Folder

        publication = self._publication
        paragraphs = [clean(publication.session.motivation or ""), self._summary()]
        told = {
            "name": publication.title,
            "identifier": publication.key,
            "author": author,
            "contributor": self._operator if self._operator is not author else None,
            "genre": "experiment",
            "text": "".join(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs if paragraph),
            "keywords": ",".join(word.replace(",", " ") for word in subjects(publication)),
            "temporal": publication.start.isoformat(timespec="seconds"),
            "dateCreated": publication.start.isoformat(timespec="seconds"),
            "dateModified": publication.end.isoformat(timespec="seconds"),
            "url": web_address(publication.session.link),
            "hasPart": list(self._files.values()),
        }
        known = {name: value for name, value in told.items() if value not in (None, "")}
        return self._crate.add(Folder(self._crate, None, f"{SESSION}/", properties=known))

    def _summary(self) -> str:
        publication = self._publication
        counts = f"{len(publication.datasets)} datasets of {len(self._raw)} raw files"
        text = f"{counts}, taken with the {token(publication.instrument.name)} ({publication.instrument.id})."
        if found := formats(publication):
            text += f" Formats: {', '.join(found)}."
        if left_out := self._payload.left_out:
            text += f" {len(left_out)} previews and sidecars beyond {LARGEST >> 20} MiB are left out."
        return text

    def _project(self) -> "Entity | None":
        project = self._publication.session.project
        if project is None or not (name := token(project.name or project.project_id or "")):
            return None
        return self._tell("#project", "Project", name=name, identifier=token(project.project_id or ""))

    def _acquisitions(self) -> list["Entity"]:
        """The activities of the session."""
        return [
            self._tell(
                f"#activity-{number}",
                "CreateAction",
                name=f"Activity {number} of {len(self._publication.activities)}",
                startTime=time_text(activity.start_ns, self._publication),
                endTime=time_text(activity.end_ns, self._publication),
                agent=self._operator or self._user,
                instrument=self._instrument,
                object=_one_or_many(self._samples),
                result=_one_or_many(d for location in activity.locations for d in self._datasets.get(location, ())),
            )
            for number, activity in enumerate(self._publication.activities, 1)
        ]

    def _readings(self) -> list["Entity"]:
        """What each reader made of which files."""
        locations: defaultdict[str, list[str]] = defaultdict(list)
        for location, reader in sorted(self._publication.origin.readers.items()):
            if location in self._raw:
                locations[reader].append(location)
        return [
            self._tell(
                f"#reading-{number}",
                "CreateAction",
                name=f"Reading with {token(reader)}",
                instrument=self._reader(number, reader),
                object=_one_or_many(self._raw[location] for location in found),
                result=_one_or_many(self._contained(self._payload.sidecars.get(location)) for location in found),
            )
            for number, (reader, found) in enumerate(sorted(locations.items()), 1)
        ]

    def _reader(self, number: int, reader: str) -> "Entity":
        name, _, version = reader.partition("=")
        return self._tell(
            f"#reader-{number}",
            "SoftwareApplication",
            name=token(name),
            version=token(version) or "unknown",
            url=f"{SOFTWARE}:reader",
            isPartOf=self._pipeline,
        )

    def _build(self) -> "Entity":
        """How the record was made of NEMO's answers and the files' metadata."""
        publication, session = self._publication, self._publication.session
        event = self._tell(
            "#usage-event",
            "Event",
            name=f"NEMO usage event {session.usage_event_id} ({session.server})",
            description=f"Answers from: {session.tier}; SHA-256 {publication.origin.usage_fingerprint}",
            startDate=publication.start.isoformat(timespec="seconds"),
            endDate=publication.end.isoformat(timespec="seconds"),
            url=web_address(session.link),
        )
        sidecars = [self._files[file.path] for file in self._payload.sidecars.values()]
        return self._tell(
            "#build",
            "CreateAction",
            name="Build of the record",
            description=f"Code: {', '.join(code_versions(publication))}. Configuration: SHA-256 "
            f"{configuration_hash(publication)}. Details are in prov.json.",
            instrument=self._pipeline,
            object=[event, *sidecars] if sidecars else event,
            result=self._files[self._payload.record.path],
        )
