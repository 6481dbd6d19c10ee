"""How a record came about, as PROV-JSON: what was used, what was made of it, by which code, for whom.

Only what follows from the inputs is told, and no time of the build: the same session gives the same document. Raw files
are told by location, size and time, as the pipeline knows them; it computes no checksums of them.

Sources: https://www.w3.org/TR/prov-dm/ and https://www.w3.org/submissions/prov-json/
"""

import hashlib
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from nexuslims_pipeline import __version__
from nexuslims_pipeline.inventory.model import InventoryEntry
from nexuslims_pipeline.publication.model import Publication
from nexuslims_pipeline.records.schema import NAMESPACE
from nexuslims_pipeline.records.text import token
from nexuslims_pipeline.sessions.model import Person

USE, BUILD, ANSWERS, RECORD = "session:use", "session:build", "session:answers", "session:record"
PIPELINE, INSTRUMENT = "nx:pipeline", "session:instrument"


def provenance(publication: Publication) -> dict[str, Any]:
    """Provenance of a session's record.

    Returns
    -------
    dict
        A PROV-JSON document. Entities are NEMO's answers, the raw files and the record; activities are the use of the
        instrument, one reading per reader, and the build; agents are the people, the instrument, the pipeline and the
        readers.
    """
    document = _Document(publication.key)
    _tell_use(document, publication)
    _tell_files(document, publication)
    _tell_build(document, publication)
    return document.parts


class _Document:
    def __init__(self, key: str) -> None:
        self.parts: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        self.parts["prefix"] = {
            "nx": f"{NAMESPACE}#",
            "schema": "https://schema.org/",
            "session": f"urn:nexuslims-pipeline:{key}:",
        }

    def tell(self, kind: str, name: str, **attributes: Any) -> str:
        """An entity, activity or agent; attributes without a value are left out."""
        known = {key: value for key, value in attributes.items() if value not in (None, "", [])}
        self.parts[kind][name] = {key.replace("_", ":", 1): value for key, value in known.items()}
        return name

    def relate(self, relation: str, **ends: str) -> None:
        """Two of them that belong together."""
        made = self.parts[relation]
        made[f"_:{relation}{len(made) + 1}"] = {f"prov:{end}": name for end, name in ends.items()}


def _tell_use(document: _Document, publication: Publication) -> None:
    session, instrument = publication.session, publication.instrument
    document.tell(
        "activity",
        USE,
        schema_name=publication.title,
        prov_startTime=publication.start.isoformat(timespec="seconds"),
        prov_endTime=publication.end.isoformat(timespec="seconds"),
    )
    document.tell("agent", INSTRUMENT, schema_name=token(instrument.name), schema_identifier=instrument.id)
    document.relate("wasAssociatedWith", activity=USE, agent=INSTRUMENT)
    for role, person in (("user", session.user), ("operator", session.operator)):
        if person:
            agent = document.tell(
                "agent", f"session:{role}", prov_type=_name("prov:Person"), schema_name=person_name(person)
            )
            document.relate("wasAssociatedWith", activity=USE, agent=agent)
    document.tell(
        "entity",
        ANSWERS,
        schema_name=f"NEMO's answers on usage event {session.usage_event_id}",
        schema_url=session.link,
        nx_tier=session.tier,
        nx_sha256=publication.origin.usage_fingerprint,
    )


def _tell_files(document: _Document, publication: Publication) -> None:
    readings: dict[str, str] = {}
    for number, entry in enumerate(raw_files(publication), 1):
        file = document.tell(
            "entity",
            f"session:file-{number}",
            prov_location=entry.location,
            nx_size=entry.size,
            nx_modified=time_text(entry.modified_ns, publication) if entry.modified_ns is not None else None,
            nx_companions=list(entry.companions),
        )
        document.relate("wasGeneratedBy", entity=file, activity=USE)
        if reader := publication.origin.readers.get(entry.location):
            if reader not in readings:
                readings[reader] = _tell_reading(document, reader, len(readings) + 1)
            document.relate("used", activity=readings[reader], entity=file)


def _tell_reading(document: _Document, reader: str, number: int) -> str:
    name, _, version = reader.partition("=")
    agent = document.tell(
        "agent",
        f"session:reader-{number}",
        prov_type=_name("prov:SoftwareAgent"),
        schema_name=token(name),
        schema_softwareVersion=token(version),
    )
    reading = document.tell("activity", f"session:reading-{number}")
    document.relate("wasAssociatedWith", activity=reading, agent=agent)
    document.relate("actedOnBehalfOf", delegate=agent, responsible=PIPELINE)
    document.relate("wasInformedBy", informed=BUILD, informant=reading)
    return reading


def _tell_build(document: _Document, publication: Publication) -> None:
    origin = publication.origin
    document.tell(
        "agent",
        PIPELINE,
        prov_type=_name("prov:SoftwareAgent"),
        schema_name="nexuslims-pipeline",
        schema_softwareVersion=__version__,
    )
    document.tell(
        "activity",
        BUILD,
        nx_codeVersions=code_versions(publication),
        nx_configuration=configuration_hash(publication),
        nx_clusteringRule=origin.clustering_rule,
        nx_siteRules=origin.site_rules,
        nx_boundaries=[time_text(int(boundary * 1e9), publication) for boundary in origin.boundaries],
    )
    document.tell("entity", RECORD, nx_sha256=hashlib.sha256(publication.xml).hexdigest())
    document.relate("wasAssociatedWith", activity=BUILD, agent=PIPELINE)
    document.relate("used", activity=BUILD, entity=ANSWERS)
    document.relate("wasGeneratedBy", entity=RECORD, activity=BUILD)
    document.relate("wasDerivedFrom", generatedEntity=RECORD, usedEntity=ANSWERS)


def _name(qualified: str) -> dict[str, str]:
    return {"$": qualified, "type": "prov:QUALIFIED_NAME"}


def code_versions(publication: Publication) -> list[str]:
    """Version of the code of each stage, e.g. ``record 2``."""
    return [f"{stage} {version}" for stage, version in sorted(publication.origin.code_versions.items())]


def configuration_hash(publication: Publication) -> str:
    """SHA-256 of the site's choices that shaped the record: how sessions are parted, and the rules for files."""
    origin = publication.origin
    choices = f"{origin.clustering_rule}\0{origin.site_rules}"
    return hashlib.sha256(choices.encode("utf-8", "surrogatepass")).hexdigest()


def raw_files(publication: Publication) -> list[InventoryEntry]:
    """The session's own files, sorted by location."""
    return sorted((e for e in publication.files if e.status == "included"), key=lambda entry: entry.location)


def person_name(person: Person) -> str:
    """Full name, or the user name of somebody without one; never empty."""
    return token(f"{person.first_name} {person.last_name}") or token(person.username) or "Unnamed"


def time_text(nanoseconds: int, publication: Publication) -> str:
    """A moment where the instrument stands, to the second."""
    moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC)
    return moment.astimezone(publication.zone).isoformat(timespec="seconds")
