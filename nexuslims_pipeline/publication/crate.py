"""The crate of a session: an ``.eln`` file, which is a zipped RO-Crate with everything below one folder.

Source: https://github.com/TheELNConsortium/TheELNFileFormat; what the crate tells of itself is in
`nexuslims_pipeline.publication.crate_graph`.
"""

import io
import zipfile
from collections.abc import Mapping

from nexuslims_pipeline.files import json_bytes
from nexuslims_pipeline.publication.crate_graph import METADATA, graph
from nexuslims_pipeline.publication.crate_payload import Payload
from nexuslims_pipeline.publication.model import Publication


def crate_bytes(publication: Publication, facility: str, doi_prefix: str) -> bytes:
    """The ``.eln`` of a session: record, sidecars, previews, citation, provenance, and what they are.

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
    payload = Payload(publication, facility, doi_prefix)
    members = {METADATA: json_bytes(graph(publication, payload, facility))}
    members |= {file.path: file.content for file in payload.files}
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
