"""The cache of extraction: a file is opened again if and only if something that its datasets come from changed."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from facility import CERAMIC, Facility, built, built_once, opened_files

from nexuslims_pipeline.definitions import resources_of
from nexuslims_pipeline.extraction import extract
from nexuslims_pipeline.extraction.extract import FileDatasets, Library, extract_files
from nexuslims_pipeline.extraction.sandbox import Limits, Sandbox, sandbox
from nexuslims_pipeline.extraction.sidecar import sidecar_path
from nexuslims_pipeline.extraction.site_rules import SiteRules
from nexuslims_pipeline.files import from_location
from nexuslims_pipeline.instruments import Instrument, load_instruments

__all__ = ["built", "built_once"]

NAMES = ["BSE 20 µm.tif", "BSE 8 µm.tif", "ZTA area.msa", "ZTA bright grain.msa"]
FOLDER = "Quanta/rtanaka/ZTA"


class Bench:
    """The files of one session, to be extracted again and again."""

    def __init__(self, facility: Facility) -> None:
        with facility.active() as site:
            storage: Any = resources_of(site)["storage"]
            self.library: Library = storage.library(facility.data / "datasets")
        inventory = facility.store.inventory(CERAMIC)
        assert inventory
        self.entries = list(inventory.with_status("included"))
        self.instrument = load_instruments(facility.folder / "instruments.yaml")["Demo-Quanta-SEM"]
        self.pools = 0

    @contextmanager
    def pool(self) -> Iterator[Sandbox]:
        self.pools += 1
        with sandbox(self.library.root, 1, Limits()) as opened:
            yield opened

    def extract(self) -> list[FileDatasets]:
        return list(extract_files(self.entries, self.instrument, self.library, self.pool))

    def read_again(self) -> list[str]:
        """Names of the files that are not taken from the cache."""
        with opened_files(self.library.root) as opened:
            found = self.extract()
            touched = set(opened())
        fresh = [from_location(file.location).name for file in found if not file.cached]
        assert touched - set(fresh) <= {"ZTA area.hdr"}, "a cached file was opened"
        assert bool(self.pools) is bool(fresh), "children are made only when there is work"
        return fresh

    def raw(self, name: str) -> Path:
        return self.library.root / FOLDER / name

    def sidecar(self, name: str) -> Path:
        (entry,) = (entry for entry in self.entries if from_location(entry.location).name == name)
        return sidecar_path(self.library.folder, entry.location)

    def change(self, name: str, **changes: object) -> None:
        """What the inventory says of a file."""
        self.entries = [
            replace(entry, **changes) if from_location(entry.location).name == name else entry  # type: ignore[arg-type]
            for entry in self.entries
        ]


@pytest.fixture
def bench(built: Facility) -> Bench:
    return Bench(built)


def test_nothing_changed_nothing_opened(bench: Bench) -> None:
    assert bench.read_again() == []


def test_order_and_content_are_those_of_the_first_time(bench: Bench, built: Facility) -> None:
    bench.sidecar(NAMES[1]).unlink()
    bench.sidecar(NAMES[3]).unlink()
    found = bench.extract()
    assert [from_location(file.location).name for file in found] == NAMES
    assert [file.cached for file in found] == [True, False, True, False]
    assert [dataset for file in found for dataset in file.datasets] == built.store.datasets(CERAMIC)


@pytest.mark.parametrize("changes", [{"size": 1}, {"modified_ns": 10**18}])
def test_another_size_or_time_is_another_file(bench: Bench, changes: dict[str, int]) -> None:
    bench.change(NAMES[0], **changes)
    assert bench.read_again() == [NAMES[0]]


def test_a_companion_counts_when_it_comes_changes_and_goes(bench: Bench) -> None:
    companion = bench.raw("ZTA area.hdr")
    companion.write_text("[MAIN]\n")
    os.utime(companion, (1_772_000_000, 1_772_000_000))
    bench.change(NAMES[2], companions=(f"/{FOLDER}/ZTA%20area.hdr",))
    assert bench.read_again() == [NAMES[2]]
    bench.pools = 0
    assert bench.read_again() == []
    companion.write_text("[MAIN]\nHV=5\n")
    assert bench.read_again() == [NAMES[2]]
    bench.pools = 0
    bench.change(NAMES[2], companions=())
    assert bench.read_again() == [NAMES[2]]


def test_a_companion_that_vanished_since_the_look_costs_its_file_only(bench: Bench) -> None:
    bench.change(NAMES[2], companions=(f"/{FOLDER}/gone.hdr",))
    found = {from_location(file.location).name: file for file in bench.extract()}
    assert found[NAMES[2]].error == "it cannot be read: No such file or directory"
    assert [name for name, file in found.items() if file.cached] == [NAMES[0], NAMES[1], NAMES[3]]


def test_a_newer_reader_reads_its_own_formats_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = extract.readers_version
    monkeypatch.setattr(
        extract, "readers_version", lambda ending: f"{versions(ending)}{'newer' if ending == '.msa' else ''}"
    )
    assert bench.read_again() == NAMES[2:]


@pytest.mark.parametrize("damage", [b"", b"[", b"[]", b"{}", b"null", b'[{"source": 7}]', b"\xff"])
def test_a_damaged_sidecar_is_made_again(bench: Bench, damage: bytes) -> None:
    path = bench.sidecar(NAMES[2])
    whole = path.read_bytes()
    path.write_bytes(damage)
    assert bench.read_again() == [NAMES[2]]
    assert path.read_bytes() == whole


def test_a_lost_preview_is_drawn_again(bench: Bench) -> None:
    path = bench.sidecar(NAMES[0]).with_name(f"{NAMES[0]}.thumb.png")
    whole = path.read_bytes()
    path.unlink()
    assert bench.read_again() == [NAMES[0]]
    assert path.read_bytes() == whole


def test_a_file_that_cannot_be_read_for_now_is_not_remembered_as_such(bench: Bench) -> None:
    bench.sidecar(NAMES[2]).unlink()
    away = bench.raw(NAMES[2]).rename(bench.raw("away"))
    (file,) = (file for file in bench.extract() if not file.cached)
    assert file.error == file.transient == "it changed or vanished after it was listed"
    assert file.datasets[0].nx_meta["DatasetType"] == "Unknown"
    assert not bench.sidecar(NAMES[2]).exists()
    away.rename(bench.raw(NAMES[2]))
    bench.pools = 0
    assert bench.read_again() == [NAMES[2]]
    assert json.loads(bench.sidecar(NAMES[2]).read_bytes())[0]["nx_meta"]["DatasetType"] == "Spectrum"


def test_a_damaged_file_is_not_opened_again_either(bench: Bench) -> None:
    bench.raw(NAMES[0]).write_bytes(b"II*\0 and nothing more")
    status = bench.raw(NAMES[0]).stat()
    bench.change(NAMES[0], size=status.st_size, modified_ns=status.st_mtime_ns)
    assert bench.read_again() == [NAMES[0]]
    bench.pools = 0
    assert bench.read_again() == []
    assert bench.extract()[0].error


def test_other_wishes_of_the_site_read_again(bench: Bench) -> None:
    bench.library = replace(bench.library, rules=SiteRules(omit_personal_data=True))
    assert bench.read_again() == NAMES
    bench.pools = 0
    assert bench.read_again() == []


def test_another_range_of_voltages_reads_again(bench: Bench) -> None:
    bench.instrument = Instrument.model_validate(bench.instrument.model_dump() | {"voltage_kv": (1, 30)})
    assert bench.read_again() == NAMES
    bench.pools = 0
    assert bench.read_again() == []


def test_other_limits_try_only_those_again_that_could_not_be_read(bench: Bench) -> None:
    bench.raw(NAMES[0]).write_bytes(b"II*\0 and nothing more")
    status = bench.raw(NAMES[0]).stat()
    bench.change(NAMES[0], size=status.st_size, modified_ns=status.st_mtime_ns)
    bench.extract()
    bench.pools = 0
    bench.library = replace(bench.library, limits="600 s, 4096 MiB")
    assert bench.read_again() == [NAMES[0]]


@pytest.mark.parametrize("changes", [{"clock_offset_seconds": 61}, {"time_zone": "Europe/Berlin"}])
def test_another_clock_or_zone_gives_other_times(bench: Bench, changes: dict[str, object]) -> None:
    def times() -> list[tuple[int, object]]:
        datasets = [dataset for file in bench.extract() for dataset in file.datasets]
        return [(dataset.modified_ns, dataset.nx_meta["Creation Time"]) for dataset in datasets]

    before = times()
    bench.instrument = Instrument.model_validate(bench.instrument.model_dump() | changes)
    assert bench.read_again() == NAMES
    assert not set(times()) & set(before)


def test_a_file_that_changed_while_it_was_read_is_read_again(bench: Bench) -> None:
    bench.sidecar(NAMES[2]).unlink()
    bench.change(NAMES[2], size=10)
    assert bench.read_again() == [NAMES[2]]
    assert not bench.sidecar(NAMES[2]).exists(), "what was read is not what the inventory speaks of"


def test_the_cache_may_be_deleted(bench: Bench) -> None:
    before = {path: path.read_bytes() for path in bench.library.folder.rglob(f"{FOLDER}/*")}
    assert len(before) == 8
    shutil.rmtree(bench.library.folder)
    assert bench.read_again() == NAMES
    assert {path: path.read_bytes() for path in bench.library.folder.rglob(f"{FOLDER}/*")} == before


def test_a_raw_folder_in_the_sidecars_place_costs_the_sidecar(bench: Bench) -> None:
    bench.sidecar(NAMES[0]).unlink()
    (bench.sidecar(NAMES[0]) / "of a raw folder").mkdir(parents=True)
    (file,) = (file for file in bench.extract() if not file.cached)
    assert not file.error
    assert [warning["field"] for warning in file.datasets[0].nx_meta["warnings"]][-1] == "Sidecar"
