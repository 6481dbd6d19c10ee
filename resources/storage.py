"""The instruments' files: found, attributed to sessions, and read in a sandbox. Read-only throughout."""

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

from dagster import ConfigurableResource
from pydantic import Field

from nexuslims_pipeline.extraction.extract import Library
from nexuslims_pipeline.extraction.site_rules import SiteRules
from nexuslims_pipeline.files import from_location
from nexuslims_pipeline.instruments import ConfigurationError, Instrument, Instruments, load_instruments
from nexuslims_pipeline.inventory.attribution import attribute_files, crawl_window
from nexuslims_pipeline.inventory.clock import moment
from nexuslims_pipeline.inventory.crawl import FolderMissingError, crawl
from nexuslims_pipeline.inventory.model import Crawl, Inventory
from nexuslims_pipeline.sessions.model import Claim, Session, window_contains


class StorageUnavailableError(Exception):
    """The instrument's share fails, or a file changes while it is read: trying again later may help."""


class InstrumentStorage(ConfigurableResource[Any]):
    """Files below ``NX_INSTRUMENT_DATA_PATH``."""

    root_path: str
    instruments_file: str
    file_strategy: Literal["exclusive", "inclusive"] = "exclusive"
    ignore_patterns: list[str] = Field(default_factory=list)
    file_delay_days: float = 2.0
    settle_seconds: float = 60.0
    extraction_workers: int = 1
    file_time_limit: float = 120.0
    file_memory_limit: int = 2048
    profiles_path: str = ""
    omit_personal_data: bool = False

    @property
    def root(self) -> Path:
        """Root of instrument data."""
        if not self.root_path:
            msg = "NX_INSTRUMENT_DATA_PATH is not set; set it in the environment or in .env."
            raise ConfigurationError(msg)
        return Path(self.root_path)

    @property
    def instruments(self) -> Instruments:
        """The facility's instruments."""
        return _instruments(self.instruments_file)

    def instrument(self, instrument_id: str) -> Instrument:
        """One instrument.

        Raises
        ------
        ConfigurationError
            When it is not in ``instruments.yaml`` (any more).
        """
        if instrument_id not in self.instruments:
            msg = f"there is no instrument '{instrument_id}' in {self.instruments_file}; add it to build its sessions."
            raise ConfigurationError(msg)
        return self.instruments[instrument_id]

    def crawl(self, instrument: Instrument, sessions: Iterable[Session]) -> Crawl:
        """One walk of an instrument's folder for files of all the given sessions."""
        windows = [crawl_window(session, instrument.clock_offset) for session in sessions]
        try:
            return crawl(
                self.root,
                Path(instrument.folder),
                since=min(since for since, _ in windows),
                until=max(until for _, until in windows),
                other_folders=[Path(i.folder) for i in self.instruments.values() if i.id != instrument.id],
            )
        except FolderMissingError as fault:
            raise StorageUnavailableError(str(fault)) from fault

    def attribute(
        self,
        found: Crawl,
        session: Session,
        *,
        claims: Iterable[Claim] = (),
        previous: Inventory | None = None,
        now: datetime | None = None,
    ) -> Inventory:
        """Which of the files found belong to a session, and why."""
        from nexuslims_pipeline.extraction.registry import known_extensions

        return attribute_files(
            found,
            session,
            claims=tuple(claims),
            clock_offset=self.instrument(session.instrument_id).clock_offset,
            strategy=self.file_strategy,
            extensions=known_extensions(),
            ignore_patterns=self.ignore_patterns,
            settle_seconds=self.settle_seconds,
            file_delay=timedelta(days=self.file_delay_days),
            now=now or datetime.now(UTC),
            previous=previous,
        )

    def taken_back(self, session: Session, previous: Inventory, current: Inventory) -> list[str]:
        """Files of an earlier look that still lie in the session's window, but are not mentioned any more.

        The consent of another session, in whose window they lie too, is gone.

        Returns
        -------
        list of str
            Their locations.
        """
        mentioned = {entry.location for entry in current.entries}
        offset = self.instrument(session.instrument_id).clock_offset
        return [
            entry.location
            for entry in previous.entries
            if entry.location not in mentioned
            and entry.modified_ns is not None
            and window_contains(session.start, session.end, moment(entry.modified_ns) - offset)
            and os.path.lexists(self.root / from_location(entry.location))
        ]

    def is_overdue(self, session: Session) -> bool:
        """Whether the time to wait for a session's files is over."""
        return datetime.now(UTC) > session.end + timedelta(days=self.file_delay_days)

    def library(self, datasets_folder: Path) -> Library:
        """Where raw files are read from and where their sidecars go."""
        limits = f"{self.file_time_limit:g} s, {self.file_memory_limit} MiB"
        return Library(self.root.resolve(), datasets_folder, limits, self.rules())

    def rules(self) -> SiteRules:
        """How the site wants its files read; its profiles are looked up anew at every call.

        Raises
        ------
        ConfigurationError
            With every mistake in the site's profiles.
        """
        from nexuslims_pipeline.extraction.profiles.loading import load_profiles

        folder = Path(self.profiles_path) if self.profiles_path else None
        return SiteRules(load_profiles(folder), self.omit_personal_data)

    def sandbox(self) -> AbstractContextManager[Any]:
        """Children that read vendor files within limits."""
        from nexuslims_pipeline.extraction.sandbox import Limits, sandbox

        limits = Limits(self.file_time_limit, self.file_memory_limit)
        return sandbox(self.root, self.extraction_workers, limits, rules=self.rules())


@cache
def _instruments(path: str) -> Instruments:
    return load_instruments(Path(path))
