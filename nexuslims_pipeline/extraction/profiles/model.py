"""What a profile is: rules and parsers for the datasets of one instrument, several, or all."""

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from nexuslims_pipeline.metadata.checked import checked_value
from nexuslims_pipeline.metadata.fields import FIELDS
from nexuslims_pipeline.signals import DatasetType, Signal

EVERY_INSTRUMENT = "*"
Parser: TypeAlias = Callable[[Signal], None]
"""Changes a signal in place; what it raises becomes a warning, and what it did until then is undone."""


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Words: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_several)]


class When(BaseModel):
    """Conditions of a rule: all that are given must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    extension: Words = ()
    """The file's extension is one of these: ``.dm3``."""
    reader: Words = ()
    """The reader is one of these: ``digital_micrograph``."""
    dataset_type: Annotated[tuple[DatasetType, ...], BeforeValidator(_several)] = ()
    """The dataset is of one of these types so far."""
    file_name: re.Pattern[str] | None = None
    """Regular expression that occurs in the file's name (never in its folders)."""
    values: dict[str, re.Pattern[str]] = Field(default_factory=dict)
    """Regular expressions by the place where each occurs: a field, an extension (``Group/Name``), or the vendor's tree
    (``native/ImageTags/Mode``)."""

    @field_validator("extension")
    @classmethod
    def _extensions_have_dots(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return tuple("." + extension.lower().lstrip(".") for extension in given)


class Rule(BaseModel):
    """What is to be said of the datasets that meet its conditions; without conditions, of all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: When = When()
    """Conditions; without any, the rule is for all datasets."""
    dataset_type: DatasetType | None = None
    """Type of the dataset, in place of the reader's."""
    data_type: str | None = Field(default=None, min_length=1)
    """Technique, in place of the reader's: ``TEM_Diffraction``."""
    fields: dict[str, Any] = Field(default_factory=dict)
    """Values of named fields, in place of the file's: ``300 kV``, a number, text; null takes the file's away."""
    extensions: dict[str, Any] = Field(default_factory=dict)
    """Values under names of their own; null takes the file's away."""
    warnings: dict[str, str] = Field(default_factory=dict)
    """Fields or extensions to doubt, each with the reason."""

    @field_validator("fields")
    @classmethod
    def _fields_can_be_so(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        return {name: None if value is None else _field_value(name, value) for name, value in given.items()}


class Profile(BaseModel):
    """Everything about the files of some instruments."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    """The file's name without its extension, unless given."""
    instruments: Annotated[tuple[str, ...], BeforeValidator(_several)] = Field(min_length=1)
    """Ids of `instruments.yaml`; ``*`` for all."""
    parsers: tuple[Parser, ...] = ()
    """Functions that are given each signal before the rules; in Python profiles only."""
    rules: tuple[Rule, ...] = ()
    """Applied in their order."""

    def is_for(self, instrument_id: str | None) -> bool:
        """Whether it speaks of an instrument's files."""
        return EVERY_INSTRUMENT in self.instruments or instrument_id in self.instruments


def _field_value(name: str, value: Any) -> Any:
    """A checked value of a named field; quantities may be written as text.

    Raises
    ------
    ValueError
        With what to write instead.
    """
    if name not in FIELDS:
        near = difflib.get_close_matches(name, FIELDS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else "; put it into 'extensions'"
        msg = f"'{name}' is no named field{hint}"
        raise ValueError(msg)
    if FIELDS[name].unit is not None and isinstance(value, str):
        number, _, unit = value.strip().partition(" ")
        value = {"value": number, "unit": unit.strip()}
    try:
        return checked_value(name, value)
    except ValueError as fault:
        msg = f"'{name}': {fault}"
        raise ValueError(msg) from None
