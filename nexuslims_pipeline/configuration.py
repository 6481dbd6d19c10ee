"""The site's settings, from the environment and a ``.env`` file, under NexusLIMS's names where it has one.

One place reads the environment; everything else is handed its settings. `load_settings` answers with settings that
hold together or with one `ConfigurationError` that names every variable to mend.
"""

import difflib
import json
import os
import re
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

import certifi
from dotenv import dotenv_values
from pydantic import AnyHttpUrl, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from nexuslims_pipeline.files import write_bytes
from nexuslims_pipeline.instruments import ConfigurationError, Instruments, load_instruments
from nexuslims_pipeline.sessions.server_config import NemoServerConfig

ELSEWHERE = ("EMAIL",)
"""Prefixes of NexusLIMS's variables for mail, which a site may leave set."""
RETIRED = frozenset({"NX_DB_PATH", "NX_TEST_MODE", "NX_LOG_PATH"})
"""NexusLIMS's variables without a meaning here: Dagster keeps the state and the logs."""
SERVER_VARIABLES = ("ADDRESS", "TOKEN", "TZ", "NAME", "STRFTIME_FMT", "STRPTIME_FMT")
"""What a NEMO server is described by: ``NX_NEMO_<WHAT>_<n>``."""
LONGEST_DAYS = 36_500
"""Longest span that a setting may ask for: further back there is no NEMO, nor a date that Python can tell."""


class Settings(BaseSettings):
    """All settings of a site; each field is the variable ``NX_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="NX_", env_ignore_empty=True, extra="ignore", frozen=True)

    instrument_data_path: Path
    """Root of the instruments' raw data; only ever read."""
    data_path: Path
    """Folder for everything that the pipeline writes."""
    records_path: Path | None = None
    """Folder of the records, when it is not ``records`` below `data_path`."""
    instruments_file: Path = Path("instruments.yaml")
    """The list of instruments."""

    file_strategy: Literal["exclusive", "inclusive"] = "exclusive"
    """Whether only files of a known format belong to a session, or all."""
    ignore_patterns: Annotated[list[str], NoDecode] = ["*.mib", "*.db", "*.emi", "*.hdr"]
    """File names that are never datasets of their own (they may still describe one)."""
    file_delay_days: float = Field(default=2.0, gt=0, le=LONGEST_DAYS)
    """How long after its end a session without files is waited for, days."""
    settle_seconds: float = Field(default=60.0, ge=0, le=86400)
    """A file younger than this is still being written, seconds."""
    clustering_sensitivity: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Divisor of the bandwidth: larger gives more activities; 0 gives one."""
    clustering_minimum_gap: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Files closer than this are never parted, seconds."""

    extraction_workers: int = Field(default_factory=lambda: max(1, len(os.sched_getaffinity(0))), ge=1, le=256)
    """Files read at a time."""
    file_time_limit: float = Field(default=120.0, gt=0, le=86400)
    """Longest time to read one file, seconds."""
    file_memory_limit: int = Field(default=2048, ge=256)
    """Most memory to read one file, MiB."""
    local_profiles_path: Path | None = None
    """Folder of the site's own profiles of instruments."""
    omit_personal_data: bool = False
    """Leave out of sidecars and records what files tell of persons."""

    harvest_days: float = Field(default=14.0, gt=0, le=LONGEST_DAYS)
    """How far back NEMO is read again at every look, to see late edits, days."""
    watch_days: float = Field(default=30.0, gt=0, le=LONGEST_DAYS)
    """How long after its end a session's files are watched, days."""
    nemo_poll_seconds: int = Field(default=180, ge=30)
    """Time between two looks at a NEMO server."""
    storage_poll_seconds: int = Field(default=300, ge=30)
    """Time between two looks at an instrument's folder."""

    export_strategy: Literal["all", "first_success", "best_effort"] = "all"
    """Which destinations must hold a record for its session to count as published."""
    publish_poll_seconds: int = Field(default=60, ge=30)
    """Time between two looks for what a destination does not hold yet."""

    cdcs_url: AnyHttpUrl | None = None
    """Address of a CDCS; with it and a token, records are published there."""
    cdcs_token: SecretStr | None = None
    """Token of a CDCS superuser (without superuser rights, records cannot be handed to their users)."""
    cdcs_template: str = "nexus-experiment"
    """Title of the CDCS template of records."""
    cdcs_workspace: str = "Global Public Workspace"
    """Title of the CDCS workspace that records are put into, with `cdcs_assign_to_public_workspace`."""
    cdcs_assign_to_public_workspace: bool = True
    """Whether records are put into the workspace; otherwise they belong to their owner alone."""
    cdcs_user_owned_records: bool = False
    """Hand each record to the CDCS account of its user, which is made when there is none."""
    cdcs_blobs: bool = False
    """Upload the previews too."""

    cdcs_calls_per_second: float | None = Field(default=None, gt=0)
    """Most requests that CDCS gets in a second, over all runs; none: as many as there are."""

    elabftw_url: AnyHttpUrl | None = None
    """Address of an eLabFTW; with it and a key, sessions are published there."""
    elabftw_api_key: SecretStr | None = None
    """API key of eLabFTW that may write."""
    elabftw_experiment_category: int | None = Field(default=None, ge=1)
    """Number of the category of experiments."""
    elabftw_experiment_status: int | None = Field(default=None, ge=1)
    """Number of the status of experiments."""

    elabftw_calls_per_second: float | None = Field(default=None, gt=0)
    """Most requests that eLabFTW gets in a second, over all runs; none: as many as there are."""

    labarchives_url: AnyHttpUrl = AnyHttpUrl("https://api.labarchives.com/api")
    """Root of the LabArchives API of the site's region."""
    labarchives_access_key_id: str | None = None
    """Identifier of the institution's LabArchives key."""
    labarchives_access_password: SecretStr | None = None
    """Secret that LabArchives calls are signed with."""
    labarchives_user_id: SecretStr | None = None
    """LabArchives uid of the service account, for users without their own."""
    labarchives_notebook_id: str | None = None
    """Notebook of the service account."""
    labarchives_users_file: Path | None = None
    """YAML table of users who have their sessions in a notebook of their own."""

    crates_path: Path | None = None
    """Folder for an RO-Crate (``.eln``) and DataCite metadata of each session; without it none are made."""
    crates_doi_prefix: str = "10.5072"
    """Prefix of the identifiers in the DataCite metadata; 10.5072 is the one for tests."""
    portal: bool = True
    """Make a page for each session and a front page that searches them."""
    portal_path: Path | None = None
    """Folder of these pages, when it is not ``portal`` below `data_path`."""
    raw_url: str = ""
    """Address at which browsers find the folder of raw files; without it, pages link by relative paths."""
    datasets_url: str = ""
    """The same of the folder ``datasets`` below `data_path`: previews and sidecars."""
    records_url: str = ""
    """The same of the folder of records."""
    crates_url: str = ""
    """The same of the folder of crates."""
    facility_name: str = "Electron microscopy facility"
    """Name of the facility, as publisher."""

    cert_bundle_file: Path | None = None
    """PEM file with further certificate authorities."""
    cert_bundle: str | None = None
    """The same as text, lines parted by ``\\n``; it goes before the file."""
    disable_ssl_verify: bool = False
    """Accept any certificate; for tests only."""

    nemo_servers: Annotated[dict[str, NemoServerConfig], NoDecode] = Field(default_factory=dict)
    """NEMO servers by name, collected from NX_NEMO_ADDRESS_n and its companions."""

    @field_validator("ignore_patterns", mode="before")
    @classmethod
    def _patterns_as_json_or_commas(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            return [pattern.strip() for pattern in value.split(",") if pattern.strip()]

    @field_validator("instrument_data_path")
    @classmethod
    def _root_exists(cls, value: Path) -> Path:
        if not value.is_dir():
            msg = f"there is no folder '{value}'; mount the instrument share or correct the path"
            raise ValueError(msg)
        return value.resolve()

    @field_validator("data_path", "records_path", "instruments_file", "crates_path", "portal_path")
    @classmethod
    def _path_is_absolute(cls, value: Path | None) -> Path | None:
        return value.absolute() if value is not None else None

    @field_validator("local_profiles_path")
    @classmethod
    def _folder_exists(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            msg = f"there is no folder '{value}'; make it or leave the variable empty"
            raise ValueError(msg)
        return value.absolute() if value is not None else None

    @field_validator("raw_url", "datasets_url", "records_url", "crates_url")
    @classmethod
    def _address_can_be_followed(cls, value: str) -> str:
        if value and not re.match(r"(https?|file)://|/", value):
            msg = "write a whole address such as https://data.example.org/raw/, or one that begins with '/'"
            raise ValueError(msg)
        return value

    @field_validator("cert_bundle_file", "labarchives_users_file")
    @classmethod
    def _bundle_exists(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            msg = f"there is no file '{value}'"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _store_lies_outside_raw_data(self) -> Self:
        written = [("NX_DATA_PATH", self.data_path), ("NX_RECORDS_PATH", self.records_folder)]
        written += [("NX_CRATES_PATH", self.crates_path)] if self.crates_path else []
        written += [("NX_PORTAL_PATH", self.portal_folder)] if self.portal else []
        for name, folder in written:
            if folder.resolve().is_relative_to(self.instrument_data_path):
                msg = f"{name} lies below NX_INSTRUMENT_DATA_PATH, which is never written; choose another folder"
                raise ValueError(msg)
        for folder in (self.data_path / "datasets", self.data_path / "stages", self.records_folder):
            if self.instrument_data_path.is_relative_to(folder.resolve()):
                msg = (
                    f"NX_INSTRUMENT_DATA_PATH lies in {folder}, which the pipeline writes; choose another NX_DATA_PATH"
                )
                raise ValueError(msg)
        return self

    @property
    def records_folder(self) -> Path:
        """Folder of the records."""
        return self.records_path or self.data_path / "records"

    @property
    def portal_folder(self) -> Path:
        """Folder of the portal."""
        return self.portal_path or self.data_path / "portal"

    @property
    def exports_folder(self) -> Path:
        """Folder of the ledgers of the destinations."""
        return self.data_path / "exports"

    @cached_property
    def verify(self) -> bool | str:
        """What `requests` wants to know about certificates: whether to check them, or a file of all authorities."""
        if self.disable_ssl_verify:
            return False
        if self.cert_bundle:
            further = self.cert_bundle.replace("\\n", "\n")
        elif self.cert_bundle_file:
            further = self.cert_bundle_file.read_text()
        else:
            return True
        bundle = self.data_path / "certificates.pem"
        write_bytes(bundle, f"{Path(certifi.where()).read_text()}\n{further}\n".encode())
        return str(bundle)

    @cached_property
    def instruments(self) -> Instruments:
        """The facility's instruments; every one on a known NEMO server."""
        instruments = load_instruments(self.instruments_file)
        unknown = [i for i in instruments.values() if i.nemo.server not in self.nemo_servers]
        if unknown:
            known = ", ".join(self.nemo_servers) or "none: set NX_NEMO_ADDRESS_1 and NX_NEMO_TOKEN_1"
            names = "; ".join(f"'{i.id}' on '{i.nemo.server}'" for i in unknown)
            msg = f"{self.instruments_file}: no such NEMO server: {names}. Configured servers: {known}."
            raise ConfigurationError(msg)
        return instruments


def load_settings(env_file: Path | None = Path(".env")) -> Settings:
    """Settings of the site, from the environment of the process and below it `env_file`.

    Raises
    ------
    ConfigurationError
        One message with every mistake: the variable, what is wrong, and the mend.
    """
    servers, mistakes = nemo_servers(given_variables(env_file))
    try:
        settings = Settings(_env_file=env_file, nemo_servers=servers)  # type: ignore[call-arg]
    except ValidationError as error:
        mistakes += [_mistake(dict(e)) for e in error.errors()]
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))
    return settings


def given_variables(env_file: Path | None = Path(".env")) -> dict[str, str]:
    """Every variable of the environment and, below it, of `env_file`."""
    written = dotenv_values(env_file) if env_file is not None and env_file.is_file() else {}
    return {name: value for name, value in written.items() if value is not None} | dict(os.environ)


@cache
def settings() -> Settings:
    """Settings of this process, read once from its environment (which Dagster and the command line add ``.env`` to)."""
    return load_settings(env_file=None)


def is_configured() -> bool:
    """Whether the site has been set up at all: a fresh clone has not."""
    return any(os.environ.get(name) for name in ("NX_DATA_PATH", "NX_INSTRUMENT_DATA_PATH"))


def nemo_servers(given: Mapping[str, str]) -> tuple[dict[str, NemoServerConfig], list[str]]:
    """NEMO servers by name and the mistakes in their variables, from ``NX_NEMO_<WHAT>_<n>``."""
    written = (re.fullmatch(r"NX_NEMO_(?:ADDRESS|TOKEN)_([1-9]\d*)", name) for name in given if given[name].strip())
    numbers = sorted({int(match[1]) for match in written if match})
    servers: dict[str, NemoServerConfig] = {}
    mistakes: list[str] = []
    for n in numbers:

        def variable(what: str, n: int = n) -> str | None:
            return given.get(f"NX_NEMO_{what}_{n}", "").strip() or None

        address, token, zone = variable("ADDRESS"), variable("TOKEN"), variable("TZ")
        name = variable("NAME") or ("nemo" if n == 1 else f"nemo{n}")
        scheme = (address or "").partition("://")[0].lower()
        if address is None:
            mistakes.append(f"NX_NEMO_ADDRESS_{n} is missing, but NX_NEMO_TOKEN_{n} is set; add it or remove both.")
        elif scheme not in {"http", "https", "file"}:
            mistakes.append(f"NX_NEMO_ADDRESS_{n}: write the whole address, e.g. https://nemo.example.org/api/.")
        elif token is None and scheme != "file":
            mistakes.append(f"NX_NEMO_TOKEN_{n} is missing; make a token in NEMO's admin pages under 'Tokens'.")
        if zone is not None and zone not in available_timezones():
            mistakes.append(f"NX_NEMO_TZ_{n}: '{zone}' is no time zone; use an IANA name such as America/Denver.")
        if not re.fullmatch(r"[A-Za-z0-9.]{1,40}", name):
            mistakes.append(f"NX_NEMO_NAME_{n}: use letters, digits and '.' only, at most 40 of them.")
        if name.replace(".", "").lower() in {known.replace(".", "").lower() for known in servers}:
            mistakes.append(f"NX_NEMO_NAME_{n}: another server is called '{name}' too; choose another name.")
        if mistakes or address is None:
            continue
        try:
            servers[name] = NemoServerConfig(
                name=name,
                address=address.rstrip("/") + "/",
                token=SecretStr(token) if token else None,
                time_zone=zone,
                strptime_format=variable("STRPTIME_FMT"),
                strftime_format=variable("STRFTIME_FMT"),
            )
        except ValidationError as error:  # its text shows no input: that may be the token
            fields = [(str(*e["loc"][:1]) or "address", e["msg"]) for e in error.errors()]
            mistakes += [f"NX_NEMO_{field.upper()}_{n}: {_reason(message)}." for field, message in fields]
    return servers, mistakes


def unknown_variables(given: Mapping[str, str]) -> list[str]:
    """What looks like a misspelt ``NX_`` variable, each with the name that was probably meant."""
    known = ({f"NX_{name.upper()}" for name in Settings.model_fields} - {"NX_NEMO_SERVERS"}) | RETIRED
    server = re.compile(rf"NX_NEMO_({'|'.join(SERVER_VARIABLES)})_[1-9]\d*")
    found = []
    for name in sorted(given):
        if not name.startswith("NX_") or name in known or server.fullmatch(name):
            continue
        if name.removeprefix("NX_").startswith(ELSEWHERE) or name.startswith("NX_TEST_"):
            continue
        number = re.sub(r"\D*", "", name.rpartition("_")[2]) or "1"
        near = difflib.get_close_matches(
            name, [*known, *(f"NX_NEMO_{what}_{number}" for what in SERVER_VARIABLES)], n=1
        )
        found.append(f"{name} is not a known setting" + (f"; did you mean {near[0]}?" if near else "."))
    return found


def _mistake(error: dict[str, Any]) -> str:
    name = f"NX_{str(error['loc'][0]).upper()}" if error["loc"] else ""
    if error["type"] == "missing":
        return f"{name} is not set; set it in the environment or in .env (to try the demo, run 'make demo')."
    return f"{name}: {_reason(error['msg'])}." if name else f"{_reason(error['msg'])}."


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")
