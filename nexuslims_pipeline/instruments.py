"""The facility's instruments, from one validated ``instruments.yaml``."""

import difflib
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

HIGHEST_KV = 3000.0
"""Voltage of the largest microscopes ever built."""


class ConfigurationError(Exception):
    """A mistake in the configuration; the message names the variable or line, and the mend."""


class NemoTool(BaseModel):
    """Where NEMO knows the instrument."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    server: str = "nemo"
    """Name of the server: ``nemo`` for NX_NEMO_ADDRESS_1, ``nemo2`` for NX_NEMO_ADDRESS_2, or NX_NEMO_NAME_n."""
    tool: int = Field(gt=0)
    """Number of the tool on that server."""


class Instrument(BaseModel):
    """One instrument."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    """Stable identifier: part of session keys, of file names and of records."""
    name: str = Field(min_length=1)
    """Name for people."""
    nemo: NemoTool
    folder: str
    """Folder below the root of instrument data."""
    time_zone: str
    """IANA name of the zone of the instrument's clock, e.g. ``America/Denver``."""
    location: str = ""
    """Where it stands, for people."""
    clock_offset_seconds: float = Field(default=0.0, ge=-86400 * 366, le=86400 * 366)
    """Instrument's clock minus true time, in seconds."""
    voltage_kv: tuple[float, float] | None = None
    """Least and most acceleration voltage, kV: ``[60, 300]``; files that say another get a warning."""

    @field_validator("id")
    @classmethod
    def _id_fits_into_file_names(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.\-]{0,79}", value):
            msg = "use letters, digits, '-' and '.', at most 80 of them (no blanks, no '_')"
            raise ValueError(msg)
        return value

    @field_validator("folder")
    @classmethod
    def _folder_stays_below_the_root(cls, value: str) -> str:
        path = PurePosixPath(value.strip().lstrip("/"))
        if not path.parts or ".." in path.parts:
            msg = "name a folder below the root of instrument data, e.g. 'Titan'"
            raise ValueError(msg)
        return str(path)

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        if value not in available_timezones():
            near = difflib.get_close_matches(value, available_timezones(), n=1)
            hint = f"; did you mean '{near[0]}'?" if near else " (an IANA name such as 'America/Denver')"
            msg = f"'{value}' is no time zone{hint}"
            raise ValueError(msg)
        return value

    @field_validator("voltage_kv")
    @classmethod
    def _voltages_are_in_order(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1] <= HIGHEST_KV:
            msg = f"write the least and the most voltage in kV, e.g. [60, 300]; none is above {HIGHEST_KV:g} kV"
            raise ValueError(msg)
        return value

    def in_words(self) -> str:
        """What sessions, records and metadata of files depend on, in one text."""
        words = f"{self.name}, {self.time_zone}, clock {self.clock_offset_seconds:+g} s, folder {self.folder}"
        return words + (f", {self.voltage_kv[0]:g} to {self.voltage_kv[1]:g} kV" if self.voltage_kv else "")

    @property
    def zone(self) -> ZoneInfo:
        """Zone of the instrument's clock."""
        return ZoneInfo(self.time_zone)

    @property
    def clock_offset(self) -> timedelta:
        """Instrument's clock minus true time."""
        return timedelta(seconds=self.clock_offset_seconds)


class Instruments(Mapping[str, Instrument]):
    """All instruments of the facility, by id."""

    def __init__(self, instruments: list[Instrument]) -> None:
        self._by_id = {instrument.id: instrument for instrument in instruments}

    def __getitem__(self, instrument_id: str) -> Instrument:
        return self._by_id[instrument_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def on_server(self, server: str) -> dict[int, Instrument]:
        """Instruments of one NEMO server, by the number of their tool."""
        return {i.nemo.tool: i for i in self.values() if i.nemo.server == server}


def load_instruments(path: Path) -> Instruments:
    """Read and check ``instruments.yaml``.

    Raises
    ------
    ConfigurationError
        One message with every mistake, each with its line and the mend.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        msg = (
            f"{path} does not exist. Copy instruments.example.yaml there and fill it in, "
            "or let NX_INSTRUMENTS_FILE name your file."
        )
        raise ConfigurationError(msg) from None
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read: {error}"
        raise ConfigurationError(msg) from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        msg = f"{path} is not valid YAML: {error}"
        raise ConfigurationError(msg) from error
    if not isinstance(content, dict) or not isinstance(content.get("instruments"), list):
        msg = f"{path}: begin with 'instruments:' and list one instrument per '- id:' below it."
        raise ConfigurationError(msg)

    lines = lines_of(node)
    mistakes = [
        f"{path}, line {line}: '{key}' stands twice in one entry; keep one." for line, key in repeated_keys(node)
    ]
    instruments: list[tuple[int, Instrument]] = []
    for index, entry in enumerate(content["instruments"]):
        try:
            instruments.append((lines["instruments", index], Instrument.model_validate(entry)))
        except ValidationError as error:
            mistakes += [_mistake(path, lines, index, dict(e)) for e in error.errors()]
    for (_, a), (line, b) in combinations(instruments, 2):
        mistakes += [f"{path}, line {line}: {clash}" for clash in _clashes(a, b)]
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))
    return Instruments([instrument for _, instrument in instruments])


def _mistake(path: Path, lines: dict[tuple[Any, ...], int], index: int, error: dict[str, Any]) -> str:
    where: tuple[Any, ...] = ("instruments", index, *error["loc"])
    line = next((lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in lines), 1)
    field = ".".join(map(str, error["loc"])) or "entry"
    allowed = [*Instrument.model_fields, *(f"nemo.{name}" for name in NemoTool.model_fields)]
    reason = {
        "missing": f"'{field}' is missing; add it",
        "extra_forbidden": f"'{field}' is not a known setting; known are {', '.join(allowed)}",
    }.get(error["type"], f"'{field}': {error['msg'].removeprefix('Value error, ')}")
    return f"{path}, line {line}: {reason}{'' if reason.endswith('?') else '.'}"


def _clashes(a: Instrument, b: Instrument) -> Iterator[str]:
    if _plain(a.id) == _plain(b.id):
        yield f"the ids '{a.id}' and '{b.id}' are the same but for case and punctuation; give each its own."
    if a.nemo == b.nemo:
        yield f"'{a.id}' and '{b.id}' are both tool {a.nemo.tool} of '{a.nemo.server}'; correct one of them."
    folder_a, folder_b = PurePosixPath(a.folder), PurePosixPath(b.folder)
    if folder_a.is_relative_to(folder_b) or folder_b.is_relative_to(folder_a):
        yield (
            f"the folders of '{a.id}' and '{b.id}' lie in one another ('{a.folder}', '{b.folder}'), "
            "so that a file could belong to both; give each its own."
        )


def _plain(name: str) -> str:
    return re.sub(r"\W", "", name).lower()


def repeated_keys(node: Any) -> Iterator[tuple[int, str]]:
    """Line and name of each key that its entry has already."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.start_mark.line + 1, key.value
            seen.add(key.value)
            yield from repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from repeated_keys(value)


def lines_of(node: Any, where: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], int]:
    """Line of every key and list entry of a YAML document."""
    found: dict[tuple[Any, ...], int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            found[(*where, key.value)] = key.start_mark.line + 1
            found |= lines_of(value, (*where, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found[(*where, index)] = value.start_mark.line + 1
            found |= lines_of(value, (*where, index))
    return found
