"""What a crate tells of its session: the entities of ``ro-crate-metadata.json``.

Written as RO-Crate 1.2: the ``.eln`` convention asks for 1.1 or later, eLabFTW writes and reads 1.2 (Kadi4Mat only
writes), and 1.1 does not know ``sha256``, without which eLabFTW takes no file. What importers do decides the shape:

- The crate has one part, the session: eLabFTW makes an entry of every part. The session itself has all files, because
  those of nested datasets are not imported.
- ``@id`` of files are plain ASCII: importers look for them on disk as they are. The true names are in ``name``.
- ``text`` is HTML, ``keywords`` one text with commas, ``contentSize`` a text.

Datasets are entities without a folder: results of the activities that took them. Raw files are described, not
contained. Nobody's mail address is told. The details of the build are in ``prov.json``.

Sources: https://www.researchobject.org/ro-crate/specification/1.2/,
https://github.com/TheELNConsortium/TheELNFileFormat/blob/master/SPECIFICATION.md,
https://github.com/elabftw/elabftw/blob/master/src/Import/Eln.php
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any, TypeAlias

from nexuslims_pipeline import __version__
from nexuslims_pipeline.files import from_location
from nexuslims_pipeline.inventory.model import InventoryEntry
from nexuslims_pipeline.metadata.dataset import Dataset
from nexuslims_pipeline.publication.crate_payload import FOLDER, PackedFile, Payload
from nexuslims_pipeline.publication.datacite import formats, subjects, web_address
from nexuslims_pipeline.publication.model import Publication
from nexuslims_pipeline.publication.provenance import (
    code_versions,
    configuration_hash,
    person_name,
    raw_files,
    time_text,
)
from nexuslims_pipeline.records.parameters import Parameter, parameters
from nexuslims_pipeline.records.text import clean, token
from nexuslims_pipeline.sessions.model import Person

if TYPE_CHECKING:
    from rocrate.model.entity import Entity

    Entities: TypeAlias = dict[str, Entity]

VERSION = "1.2"
METADATA = "ro-crate-metadata.json"
MEASURED = 60
"""Values told of one dataset; all are in its sidecar."""
UNMEASURED = frozenset({"Creation Time", "Data Type", "DatasetType", "Extraction Details", "extensions"})
"""Metadata with a place of their own, or only in the sidecar."""
SOFTWARE = "urn:nexuslims-pipeline"
"""Stands for the address that RO-Crate demands of all software; ours has no page on the web."""
NO_LICENSE = "No licence is stated. Ask the facility or the people named before using the data."


def graph(publication: Publication, payload: Payload, facility: str) -> Any:
    """The content of ``ro-crate-metadata.json``: JSON-LD, the same for the same publication."""
    return _Graph(publication, payload, facility).document()


def _one_or_many(things: Iterable[Any]) -> Any:
    """Value of a property: none, the only one, or a list."""
    found = [thing for thing in things if thing is not None]
    return found[0] if len(found) == 1 else found


class _Graph:
    def __init__(self, publication: Publication, payload: Payload, facility: str) -> None:
        from rocrate.rocrate import ROCrate

        self._publication = publication
        self._payload = payload
        self._crate = ROCrate(version=VERSION)
        self._facility = self._tell("#facility", "Organization", name=token(facility))
        self._user = self._person("#user", publication.session.user)
        self._operator = self._person("#operator", publication.session.operator)
        self._samples = self._all_samples()
        self._packed: Entities = {file.path: self._file(file) for file in payload.files}
        self._raw: Entities = {e.location: self._raw_file(n, e) for n, e in enumerate(raw_files(publication), 1)}
        self._values: dict[Parameter, Entity] = {}

    def document(self) -> Any:
        """Tell all of it."""
        self._tell_root([*self._acquisitions(), *self._readings(), self._build()])
        return self._crate.metadata.generate()

    def _tell(self, identifier: str, kind: str, /, **properties: Any) -> "Entity":
        """An entity without a file; properties without a value are left out."""
        from rocrate.model.contextentity import ContextEntity

        return self._crate.add(ContextEntity(self._crate, identifier, {"@type": kind} | _known(properties)))

    # People and things

    def _person(self, identifier: str, person: Person | None) -> "Entity | None":
        if person is None:
            return None
        given, family = token(person.first_name), token(person.last_name)
        return self._tell(identifier, "Person", name=person_name(person), givenName=given, familyName=family)

    def _all_samples(self) -> list["Entity"]:
        return [
            self._tell(
                f"#sample-{number}",
                "Thing",
                name=token(sample.name or "") or token(sample.pid or "") or f"Sample {number}",
                identifier=token(sample.pid or sample.id),
                description=token(sample.description or ""),
                keywords=", ".join(sample.elements),
            )
            for number, sample in enumerate(self._publication.session.samples, 1)
        ]

    def _instrument(self) -> "Entity":
        instrument = self._publication.instrument
        return self._tell(
            "#instrument",
            "IndividualProduct",
            name=token(instrument.name),
            identifier=instrument.id,
            description=token(instrument.location),
        )

    def _project(self) -> "Entity | None":
        project = self._publication.session.project
        if project is None or not (name := token(project.name or project.project_id or "")):
            return None
        return self._tell("#project", "Project", name=name, identifier=token(project.project_id or ""))

    def _links(self) -> list["Entity"]:
        links = [link for _, link in sorted(self._publication.links.items())]
        return [self._tell(link.url, "WebPage", name=link.label) for link in links if web_address(link.url)]

    # Files and datasets

    def _file(self, file: PackedFile) -> "Entity":
        from rocrate.model.file import File

        properties = {
            "name": file.name,
            "description": file.description,
            "encodingFormat": file.media_type,
            "contentSize": str(len(file.content)),
            "sha256": hashlib.sha256(file.content).hexdigest(),
        }
        return self._crate.add(File(self._crate, None, file.path, properties=properties))

    def _contained(self, file: PackedFile | None) -> "Entity | None":
        return self._packed[file.path] if file else None

    def _raw_file(self, number: int, entry: InventoryEntry) -> "Entity":
        modified = None if entry.modified_ns is None else time_text(entry.modified_ns, self._publication)
        return self._tell(
            f"#file-{number}",
            "DigitalDocument",
            name=token(from_location(entry.location).name),
            identifier=entry.location,
            description="Raw file below the root of instrument data; not in this crate",
            contentSize=None if entry.size is None else str(entry.size),
            dateModified=modified,
            subjectOf=self._contained(self._payload.sidecars.get(entry.location)),
        )

    def _dataset(self, number: int, dataset: Dataset) -> "Entity":
        meta = dataset.nx_meta
        measured = parameters({name: value for name, value in meta.items() if name not in UNMEASURED})
        return self._tell(
            f"#dataset-{number}",
            "Dataset",
            name=token(dataset.name),
            description=token(dataset.description),
            additionalType=token(str(meta.get("DatasetType", ""))),
            keywords=token(str(meta.get("Data Type", ""))),
            encodingFormat=token(dataset.format),
            dateCreated=token(str(meta.get("Creation Time", ""))),
            isBasedOn=self._raw.get(dataset.location),
            thumbnail=self._contained(self._payload.previews.get((dataset.location, dataset.index))),
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

    # What was done

    def _acquisitions(self) -> list["Entity"]:
        """The activities of the session, with the datasets that they gave."""
        publication, instrument = self._publication, self._instrument()
        datasets: defaultdict[str, list[Entity]] = defaultdict(list)
        for number, dataset in enumerate(sorted(publication.datasets, key=lambda d: (d.location, d.index)), 1):
            datasets[dataset.location].append(self._dataset(number, dataset))
        return [
            self._tell(
                f"#activity-{number}",
                "CreateAction",
                name=f"Activity {number} of {len(publication.activities)}",
                startTime=time_text(activity.start_ns, publication),
                endTime=time_text(activity.end_ns, publication),
                agent=self._operator or self._user,
                instrument=instrument,
                object=_one_or_many(self._samples),
                result=_one_or_many(dataset for location in activity.locations for dataset in datasets[location]),
            )
            for number, activity in enumerate(publication.activities, 1)
        ]

    def _readings(self) -> list["Entity"]:
        """What each reader made of which files."""
        locations: defaultdict[str, list[str]] = defaultdict(list)
        for location in self._raw:
            if reader := self._publication.origin.readers.get(location):
                locations[reader].append(location)
        return [
            self._tell(
                f"#reading-{number}",
                "CreateAction",
                name=f"Reading with {token(reader)}",
                instrument=self._software(f"#reader-{number}", *reader.split("=", 1)),
                object=_one_or_many(self._raw[location] for location in found),
                result=_one_or_many(self._contained(self._payload.sidecars.get(location)) for location in found),
            )
            for number, (reader, found) in enumerate(locations.items(), 1)
        ]

    def _build(self) -> "Entity":
        """How the record was made of NEMO's answers and of what was read."""
        publication, session = self._publication, self._publication.session
        event = self._tell(
            "#usage-event",
            "Event",
            name=f"NEMO usage event {session.usage_event_id} ({session.server})",
            description=f"Answers from {session.tier}, SHA-256 {publication.origin.usage_fingerprint}",
            startDate=publication.start.isoformat(timespec="seconds"),
            endDate=publication.end.isoformat(timespec="seconds"),
            url=web_address(session.link),
        )
        sidecars = (self._contained(file) for file in self._payload.sidecars.values())
        return self._tell(
            "#build",
            "CreateAction",
            name="Build of the record",
            description=f"Code: {', '.join(code_versions(publication))}. Configuration: SHA-256 "
            f"{configuration_hash(publication)}. Details are in prov.json.",
            instrument=self._software("#pipeline", "nexuslims-pipeline", __version__),
            object=_one_or_many([event, *sidecars]),
            result=self._contained(self._payload.record),
        )

    def _software(self, identifier: str, name: str, version: str = "unknown") -> "Entity":
        return self._tell(
            identifier, "SoftwareApplication", name=token(name), version=token(version) or "unknown", url=SOFTWARE
        )

    # The crate and its part

    def _tell_root(self, actions: list["Entity"]) -> None:
        publication = self._publication
        author = self._user or self._operator or self._facility
        told = {
            "name": publication.title,
            "description": self._summary(),
            "identifier": publication.key,
            "datePublished": publication.end.isoformat(timespec="seconds"),
            "license": self._tell("#license", "CreativeWork", name="No licence stated", description=NO_LICENSE),
            "author": author,
            "publisher": self._facility,
            "producer": self._project(),
            "about": _one_or_many(self._samples),
            "mentions": _one_or_many(actions),
            "subjectOf": _one_or_many(self._links()),
            # Afterwards: the library adds each file to the root's parts.
            "hasPart": [self._session(author)],
        }
        for name, value in _known(told).items():
            self._crate.root_dataset[name] = value
        self._crate.metadata["sdPublisher"] = self._facility
        self._crate.metadata["version"] = __version__

    def _session(self, author: "Entity") -> "Entity":
        from rocrate.model.dataset import Dataset as Folder

        publication = self._publication
        paragraphs = (clean(publication.session.motivation or "").strip(), self._summary())
        told = {
            "name": publication.title,
            "identifier": publication.key,
            "author": author,
            "contributor": self._operator if self._user else None,
            "genre": "experiment",
            "text": "".join(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs if paragraph),
            "keywords": ",".join(subject.replace(",", " ") for subject in subjects(publication)),
            "temporal": publication.start.isoformat(timespec="seconds"),
            "dateCreated": publication.start.isoformat(timespec="seconds"),
            "dateModified": publication.end.isoformat(timespec="seconds"),
            "url": web_address(publication.session.link),
            "hasPart": list(self._packed.values()),
        }
        return self._crate.add(Folder(self._crate, None, f"{FOLDER}/", properties=_known(told)))

    def _summary(self) -> str:
        publication, left_out = self._publication, len(self._payload.left_out)
        counts = f"{len(publication.datasets)} datasets of {len(self._raw)} raw files"
        text = f"{counts}, taken with the {token(publication.instrument.name)} ({publication.instrument.id})."
        if found := formats(publication):
            text += f" Formats: {', '.join(found)}."
        return f"{text} {left_out} sidecars and previews were too much for this crate." if left_out else text


def _known(properties: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if value not in (None, "", [])}
