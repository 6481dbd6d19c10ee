"""The citation of a session: metadata in DataCite's schema 4.5.

The identifier is proposed, not minted: whoever hands the metadata to DataCite makes it one.

Source: https://datacite-metadata-schema.readthedocs.io/en/4.5/
"""

import hashlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from nexuslims_pipeline.publication.model import Publication
from nexuslims_pipeline.publication.provenance import person_name, raw_files
from nexuslims_pipeline.records.text import clean, token
from nexuslims_pipeline.sessions.model import Person

SCHEMA = "http://datacite.org/schema/kernel-4"
DIGITS_OF_VERSION = 12
"""How much of the record's SHA-256 tells one version from another."""


def datacite(publication: Publication, facility: str, doi_prefix: str) -> dict[str, Any]:
    """Metadata of a session for DataCite.

    Parameters
    ----------
    publication
        The session.
    facility
        Name of the facility: the publisher, and the creator of a session without a user.
    doi_prefix
        The facility's prefix, e.g. ``10.5072``.

    Returns
    -------
    dict
        JSON by the schema 4.5; the same for the same publication.
    """
    session, instrument = publication.session, publication.instrument
    return {
        "schemaVersion": SCHEMA,
        "doi": f"{doi_prefix}/{publication.key}",
        "prefix": doi_prefix,
        "suffix": publication.key,
        "types": {"resourceTypeGeneral": "Dataset", "resourceType": "Electron microscopy session"},
        "titles": [{"title": publication.title}],
        "creators": [_person(session.user) if session.user else _organisation(facility)],
        "contributors": list(_contributors(publication, facility)),
        "publisher": {"name": token(facility)},
        "publicationYear": str(publication.end.year),
        "version": hashlib.sha256(publication.xml).hexdigest()[:DIGITS_OF_VERSION],
        "dates": [
            {
                "date": f"{publication.start.isoformat('T', 'seconds')}/{publication.end.isoformat('T', 'seconds')}",
                "dateType": "Collected",
            }
        ],
        "subjects": [{"subject": subject} for subject in subjects(publication)],
        "formats": formats(publication),
        "sizes": [f"{len(publication.datasets)} datasets", f"{total_size(publication)} bytes"],
        "descriptions": list(_descriptions(publication)),
        "alternateIdentifiers": [
            {"alternateIdentifier": publication.key, "alternateIdentifierType": "Session key"},
            {"alternateIdentifier": instrument.id, "alternateIdentifierType": "Instrument"},
        ],
        "relatedIdentifiers": list(_related(publication)),
    }


def subjects(publication: Publication) -> list[str]:
    """Chemical elements of the samples and kinds of data, each once, sorted."""
    elements = {element for sample in publication.session.samples for element in sample.elements}
    kinds = {token(str(dataset.nx_meta.get("Data Type", ""))) for dataset in publication.datasets}
    return [*sorted(elements), *sorted(kinds - {""})]


def formats(publication: Publication) -> list[str]:
    """Formats of the raw files in words, each once, sorted."""
    return sorted({token(dataset.format) for dataset in publication.datasets} - {""})


def total_size(publication: Publication) -> int:
    """Bytes of the raw files of the session."""
    return sum(entry.size or 0 for entry in raw_files(publication))


def web_address(address: str | None) -> str | None:
    """An address that a browser opens, or None."""
    if not address or not address.isascii() or not address.isprintable() or " " in address:
        return None
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    return address if parts.scheme in {"http", "https"} and parts.hostname else None


def _organisation(name: str) -> dict[str, str]:
    return {"name": token(name), "nameType": "Organizational"}


def _person(person: Person) -> dict[str, str]:
    given, family = token(person.first_name), token(person.last_name)
    if not (given and family):
        return {"name": person_name(person), "nameType": "Personal"}
    return {"name": f"{family}, {given}", "nameType": "Personal", "givenName": given, "familyName": family}


def _contributors(publication: Publication, facility: str) -> Iterator[dict[str, str]]:
    if collector := publication.session.operator or publication.session.user:
        yield _person(collector) | {"contributorType": "DataCollector"}
    yield _organisation(facility) | {"contributorType": "HostingInstitution"}


def _descriptions(publication: Publication) -> Iterator[dict[str, str]]:
    session, instrument = publication.session, publication.instrument
    if motivation := clean(session.motivation or "").strip():
        yield {"description": motivation, "descriptionType": "Abstract"}
    where = f", {token(instrument.location)}" if token(instrument.location) else ""
    yield {
        "description": f"Taken with the {token(instrument.name)} ({instrument.id}{where}).",
        "descriptionType": "Methods",
    }
    if session.project and (project := token(session.project.name or session.project.project_id or "")):
        yield {"description": f"Project: {project}", "descriptionType": "Other"}
    for sample in session.samples:
        if text := ": ".join(filter(None, (token(sample.name or sample.pid or ""), token(sample.description or "")))):
            yield {"description": f"Sample: {text}", "descriptionType": "Other"}


def _related(publication: Publication) -> Iterator[dict[str, str]]:
    links = [("HasMetadata", link.url) for _, link in sorted(publication.links.items())]
    if publication.session.link:
        links.append(("IsDocumentedBy", publication.session.link))
    for relation, url in links:
        if address := web_address(url):
            yield {"relatedIdentifier": address, "relatedIdentifierType": "URL", "relationType": relation}
