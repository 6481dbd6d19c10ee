"""What a finished record says of the session's files, read back from its XML."""

from collections.abc import Iterable

from nexuslims_pipeline.inventory.model import InventoryEntry
from nexuslims_pipeline.records.schema import NAMESPACE


def unaccounted_files(xml: bytes, entries: Iterable[InventoryEntry]) -> list[str]:
    """Files of an inventory that a record neither holds as a dataset nor lists with a reason.

    Parameters
    ----------
    xml
        A record that `build_record` made.
    entries
        The inventory; files that a site leaves aside (status ``ignored``) need not be mentioned.

    Returns
    -------
    list of str
        Locations, sorted; empty for a complete record.
    """
    from lxml import etree

    root = etree.fromstring(xml, etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))
    held = {element.text for element in root.iterfind(f".//{{{NAMESPACE}}}dataset/{{{NAMESPACE}}}location")}
    listed = {cell.text for cell in root.iterfind(f".//{{{NAMESPACE}}}cell[@colid='location']")}
    return sorted(
        entry.location
        for entry in entries
        if entry.status != "ignored" and entry.location not in (held if entry.status == "included" else listed)
    )
