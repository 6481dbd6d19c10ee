"""Is this site set up? Every path, server, token and tool, each with its mend."""

import glob
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nexuslims_pipeline.configuration import Settings, given_variables, load_settings, unknown_variables
from nexuslims_pipeline.extraction.plugins import extractor_plugins, preview_plugins
from nexuslims_pipeline.extraction.profiles.loading import (
    package_faults,
    profile_of,
    site_profiles,
    unknown_instruments,
    unknown_readers,
)
from nexuslims_pipeline.extraction.registry import extractors
from nexuslims_pipeline.instruments import ConfigurationError, Instruments
from resources.destinations.base import DestinationError
from resources.destinations.known import destinations_of, kinds
from resources.nemo import open_server


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    subject: str
    fine: bool
    message: str
    is_configuration: bool = False
    """Whether a mend is made in the site's own settings."""


def examine() -> list[Finding]:
    """Check everything that a build needs; nothing is left behind."""
    own = {name for kind in kinds().found for name in kind.variables}
    given = {name: value for name, value in given_variables().items() if name not in own}
    findings = [Finding("settings", False, hint, True) for hint in unknown_variables(given)]
    try:
        site = load_settings()
    except ConfigurationError as mistakes:
        return [*findings, *(Finding("settings", False, line, True) for line in str(mistakes).splitlines())]
    findings.append(Finding("settings", True, "every variable makes sense"))
    try:
        instruments = site.instruments
    except ConfigurationError as mistakes:
        return [*findings, *(Finding("instruments", False, line, True) for line in str(mistakes).splitlines())]
    return [
        *findings,
        *_paths(site),
        *_folders(site, instruments),
        *_profiles(site, instruments),
        *_plugins(),
        *_servers(site, instruments),
        *_destinations(site),
        *_dagster(),
    ]


def _paths(site: Settings) -> Iterator[Finding]:
    for name, folder in (("NX_DATA_PATH", site.data_path), ("NX_RECORDS_PATH", site.records_folder)):
        existing = next(p for p in (folder, *folder.parents) if p.exists())
        try:
            with tempfile.NamedTemporaryFile(dir=existing):
                pass
        except OSError as fault:
            yield Finding(name, False, f"nothing can be written to {existing} ({fault.strerror}); change its owner.")
        else:
            yield Finding(name, True, f"{folder} can be written")


def _folders(site: Settings, instruments: Instruments) -> Iterator[Finding]:
    if not instruments:
        yield Finding("instruments", False, f"{site.instruments_file} lists none; add the first.", True)
    for instrument in instruments.values():
        folder = site.instrument_data_path / instrument.folder
        try:
            with os.scandir(folder) as entries:
                next(entries, None)
        except OSError as fault:
            yield Finding(
                instrument.id,
                False,
                f"{folder} cannot be read ({fault.strerror}); mount the share or correct 'folder' in "
                f"{site.instruments_file}.",
            )
        else:
            yield Finding(instrument.id, True, f"{folder} can be read")


def _profiles(site: Settings, instruments: Instruments) -> Iterator[Finding]:
    sources, mistakes = site_profiles(site.local_profiles_path)
    mistakes += unknown_instruments(sources, instruments)
    mistakes += unknown_readers(sources, (extractor.name for extractor in extractors()))
    yield from (Finding("profiles", False, mistake, True) for mistake in mistakes)
    if site.local_profiles_path and not mistakes:
        names = ", ".join(profile_of(source).name for source in sources)
        yield Finding("profiles", True, f"{site.local_profiles_path} has {names or 'none yet'}")


def _plugins() -> Iterator[Finding]:
    faults = (*extractor_plugins().faults, *preview_plugins().faults, *package_faults(), *kinds().faults)
    yield from (Finding("packages", False, f"{fault}; mend or remove the package.") for fault in faults)
    if found := (*extractor_plugins().versions, *preview_plugins().versions):
        yield Finding("packages", True, f"{len(found)} readers and previews of installed packages: {', '.join(found)}")


def _servers(site: Settings, instruments: Instruments) -> Iterator[Finding]:
    if not site.nemo_servers:
        yield Finding("NEMO", False, "no server is configured; set NX_NEMO_ADDRESS_1 and NX_NEMO_TOKEN_1.", True)
    for name, server in site.nemo_servers.items():
        tools = instruments.on_server(name)
        problems = open_server(server, verify=site.verify).check(tools)
        yield from (Finding(name, False, problem) for problem in problems)
        if not problems:
            yield Finding(name, True, f"{server.address} answers, and knows the tools of {len(tools)} instruments")


def _destinations(site: Settings) -> Iterator[Finding]:
    try:
        destinations = destinations_of(site)
    except ConfigurationError as mistake:
        yield Finding("destinations", False, str(mistake), True)
        return
    for name, destination in destinations.items():
        try:
            problems = destination.check()
        except DestinationError as fault:
            problems = [str(fault)]
        yield from (Finding(name, False, problem) for problem in problems)
        if not problems:
            yield Finding(name, True, "is ready to take records")


def _dagster() -> Iterator[Finding]:
    home = os.environ.get("DAGSTER_HOME", "")
    if not home:
        yield Finding(
            "DAGSTER_HOME", True, "not set: the command line keeps Dagster's history in dagster_home below NX_DATA_PATH"
        )
    elif not Path(home).is_absolute() or not Path(home).is_dir():
        yield Finding("DAGSTER_HOME", False, f"'{home}' must be an absolute path of a folder; make it.", True)
    elif glob.escape(home) != home:
        yield Finding("DAGSTER_HOME", False, f"Dagster takes '{home}' for a pattern; use no '[', '*' and '?'.", True)
    elif not (Path(home) / "dagster.yaml").is_file():
        yield Finding("DAGSTER_HOME", False, f"there is no dagster.yaml in {home}; copy the project's there.")
    else:
        yield Finding("DAGSTER_HOME", True, f"{home} is ready")
