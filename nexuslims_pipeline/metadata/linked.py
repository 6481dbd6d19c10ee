"""The JSON-LD context of a dataset: what its fields mean to a machine that has never heard of this program.

With the context, a sidecar's element says (https://www.w3.org/TR/json-ld11/): this dataset has an acceleration voltage
(EM Glossary) with the numeric value 300 and the unit kilovolt (both QUDT). What has no term in a public vocabulary is
not in the context: a JSON-LD processor leaves it out rather than give it a made-up name. ``nx_meta`` is transparent
(``@nest``), so that its fields belong to the dataset itself; the vendor's own tree means nothing to others (null).
"""

from collections.abc import Mapping
from typing import Any

from nexuslims_pipeline.metadata.fields import FIELDS

DCTERMS = "http://purl.org/dc/terms/"
QUDT_SCHEMA = "http://qudt.org/schema/qudt/"
XSD = "http://www.w3.org/2001/XMLSchema#"
FRAME: Mapping[str, Any] = {
    "@version": 1.1,
    "nx_meta": "@nest",
    "original_metadata": None,
    "Creation Time": {"@id": f"{DCTERMS}created", "@type": f"{XSD}dateTime"},
}
QUANTITY: Mapping[str, Any] = {
    "value": {"@id": f"{QUDT_SCHEMA}numericValue", "@type": f"{XSD}double"},
    "unit": {"@id": f"{QUDT_SCHEMA}hasUnit", "@type": "@vocab"},
}
"""Terms inside of a quantity."""


def context(nx_meta: Mapping[str, Any]) -> dict[str, Any]:
    """The ``@context`` of a sidecar's element, with the terms of the fields and units that it has."""
    terms: dict[str, Any] = dict(FRAME)
    for name in sorted(FIELDS.keys() & nx_meta.keys()):
        field = FIELDS[name]
        if field.term_iri is not None:
            terms[name] = field.term_iri
        if field.qudt_iri is not None and "/" not in (unit := str(nx_meta[name]["unit"])):  # no term may have a slash
            terms |= {**QUANTITY, unit: field.qudt_iri}
    return terms
