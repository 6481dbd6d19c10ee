"""Validation of records against the Nexus Experiment schema."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lxml.etree import XMLSchema

NAMESPACE = "https://data.nist.gov/od/dm/nexus/experiment/v1.0"
SCHEMA_FILE = Path(__file__).with_name("nexus-experiment.xsd")


@dataclass(frozen=True, slots=True)
class SchemaFault:
    """One reason why a record is not valid."""

    line: int
    """Line of the record, from 1; 0 when the fault has no place."""
    reason: str


@cache
def _schema() -> "XMLSchema":
    from lxml import etree

    return etree.XMLSchema(etree.parse(SCHEMA_FILE))


def validate(xml: bytes) -> list[SchemaFault]:
    """Check a record against the schema.

    Nothing outside of `xml` is read: a document type declaration is a fault, entities stay unresolved.

    Parameters
    ----------
    xml
        The record, in any encoding that it declares.

    Returns
    -------
    list of SchemaFault
        In document order; empty for a valid record. Text that is not well-formed XML has one fault.
    """
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(xml, parser)
    except etree.XMLSyntaxError as error:
        return [SchemaFault(error.lineno or 0, error.msg or "This is not XML.")]
    if root.getroottree().docinfo.internalDTD is not None:
        return [SchemaFault(1, "A record has no document type declaration.")]
    schema = _schema()
    schema.validate(root)
    faults: Any = schema.error_log  # an iterable, which lxml's stubs do not say
    return [SchemaFault(fault.line, fault.message.replace(f"{{{NAMESPACE}}}", "")) for fault in faults]
