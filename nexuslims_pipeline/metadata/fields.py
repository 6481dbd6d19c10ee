"""The named fields of a dataset, as a table made from their declarations in `metadata.models`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pydantic.fields import FieldInfo

from nexuslims_pipeline.metadata.kinds import In
from nexuslims_pipeline.metadata.models import MODELS
from nexuslims_pipeline.metadata.units import QUDT_UNITS
from nexuslims_pipeline.signals import DatasetType

EMG: Final = "https://purls.helmholtz-metadaten.de/emg/v2.0.0/EMG_"
QUDT: Final = "http://qudt.org/vocab/unit/"
EVERY: Final[frozenset[DatasetType]] = frozenset(MODELS)


@dataclass(frozen=True, slots=True)
class Field:
    """One named field."""

    display_name: str
    meaning: str
    kind: str
    """``quantity``, ``number``, ``whole number``, ``text`` or ``list of elements``."""
    unit: str | None = None
    """Preferred unit in pint's spelling; None for what is no quantity."""
    term: str | None = None
    """Number of the EM Glossary term."""
    types: frozenset[DatasetType] = EVERY
    """Dataset types whose core it belongs to; elsewhere the value is an extension."""
    is_personal: bool = False

    @property
    def term_iri(self) -> str | None:
        """IRI of the EM Glossary term."""
        return EMG + self.term if self.term else None

    @property
    def qudt(self) -> str | None:
        """Name of the QUDT unit."""
        return QUDT_UNITS[self.unit] if self.unit else None

    @property
    def qudt_iri(self) -> str | None:
        """IRI of the QUDT unit."""
        return QUDT + self.qudt if self.qudt else None


KINDS: Final = {float: "number", int: "whole number", str: "text", list[str]: "list of elements"}


def _field(info: FieldInfo, types: Iterable[DatasetType]) -> Field:
    marks = info.json_schema_extra
    assert isinstance(marks, dict)  # noqa: S101 - what `models.named` gives
    unit = next((each.unit for each in info.metadata if isinstance(each, In)), None)
    kind = next((words for known, words in KINDS.items() if info.annotation == known | None), "quantity")
    return Field(
        display_name=info.title or "",
        meaning=info.description or "",
        kind=kind,
        unit=unit,
        term=str(marks["term"]) if marks["term"] else None,
        types=frozenset(types),
        is_personal=bool(marks["personal"]),
    )


def _fields() -> dict[str, Field]:
    declared = {
        name: info
        for model in MODELS.values()
        for name, info in model.model_fields.items()
        if isinstance(info.json_schema_extra, dict)
    }
    return {
        name: _field(info, (kind for kind, model in MODELS.items() if name in model.model_fields))
        for name, info in declared.items()
    }


FIELDS: Final[dict[str, Field]] = _fields()
