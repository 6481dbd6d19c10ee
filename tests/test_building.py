"""The command line: what is built, what is left alone, and what it says."""

import json
import os
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from facility import (
    CERAMIC,
    DECLINED,
    EMPTY,
    KEYS,
    WELD,
    WELD_FOLDER,
    Facility,
    built,
    built_once,
    clear_environment,
    opened_files,
    tree,
    written,
)

from nexuslims_pipeline.cli import main
from resources import nemo
from resources.catalog import Catalog
from resources.web import BRIEF

__all__ = ["built", "built_once", "written"]

STATES = {WELD: "BUILT", DECLINED: "NO_CONSENT", CERAMIC: "BUILT", EMPTY: "NO_FILES_FOUND"}
GRAINS = f"{WELD_FOLDER}/grains 02.tif"


def run(facility: Facility, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the command line as a user does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NX_")}
    return subprocess.run(
        [sys.executable, "-m", "nexuslims_pipeline.cli", *arguments],
        cwd=facility.folder,
        env=environment | facility.variables() | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )


def records(facility: Facility) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (facility.data / "records").rglob("*.xml")}


# Nothing to do


def test_a_second_build_writes_nothing_and_opens_no_raw_file(built: Facility) -> None:
    before = tree(built.folder)
    with opened_files(built.raw) as opened:
        again = built.build()
        assert opened() == []
        (built.raw / GRAINS).read_bytes()
        assert opened() == ["grains 02.tif"], "the watch is blind"
    assert again.code == 0
    assert again.states == STATES
    assert again.causes == {}
    assert tree(built.folder) == before


def test_raw_files_are_read_and_nothing_else(written: Facility) -> None:
    before = tree(written.raw)
    with opened_files(written.raw) as opened:
        first = written.build("--session", CERAMIC)
        assert {"BSE 20 µm.tif", "ZTA area.msa"} <= set(opened())
    assert first.states == {CERAMIC: "BUILT"}
    assert tree(written.raw) == before


def test_a_dry_run_says_what_would_be_and_writes_nothing(written: Facility) -> None:
    before = tree(written.folder)
    with opened_files(written.raw) as opened:
        foreseen = written.build("--dry-run")
        assert opened() == []
    assert foreseen.code == 0
    assert foreseen.states == {WELD: "READY", DECLINED: "NO_CONSENT", CERAMIC: "READY", EMPTY: "NO_FILES_FOUND"}
    assert foreseen.causes == dict.fromkeys(KEYS, "new in NEMO")
    assert not written.data.exists()
    assert tree(written.folder) == before


# What the command line says


def test_json_and_nothing_but_json_on_standard_output(built: Facility) -> None:
    done = run(built, "build", "--json", "--verbose", "--session", EMPTY)
    assert done.returncode == 0, done.stderr
    (outcome,) = json.loads(done.stdout)
    assert (outcome["key"], outcome["state"]) == (EMPTY, "NO_FILES_FOUND")
    assert "dagster - INFO" in done.stderr


def test_lines_for_people(built: Facility) -> None:
    done = run(built, "build", "--from", "2026-03-01")
    assert done.returncode == 0
    assert done.stderr == ""
    lines = dict(zip(KEYS, done.stdout.splitlines(), strict=True))
    assert lines[WELD].split("  ", 1)[1].lstrip().startswith("BUILT              8 files, 8 datasets, 3 activities")
    assert lines[WELD].endswith("(unchanged)")
    assert "NO_CONSENT" in lines[DECLINED]
    assert '"Disagree"' in lines[DECLINED]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "--session", "../../etc/passwd"], "'../../etc/passwd' is no session key; it looks like 2026-03-02_"),
        (["build", "--from", "yesterday"], "'yesterday' is no date; write it like 2026-03-01"),
        (["brew"], "invalid choice: 'brew'"),
    ],
)
def test_wrong_calls_end_with_2(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_without_settings_it_says_which_to_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clear_environment(patch)
        patch.chdir(tmp_path)
        from nexuslims_pipeline import configuration

        configuration.settings.cache_clear()
        assert main(["build"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "NX_DATA_PATH is not set; set it in the environment or in .env" in told.err
    assert "NX_INSTRUMENT_DATA_PATH is not set" in told.err
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_dagster_cannot_use_is_a_mistake_in_the_settings(
    written: Facility, capsys: pytest.CaptureFixture[str]
) -> None:
    for home in ("relative/home", str(written.folder / "home [1]")):
        written.set(DAGSTER_HOME=home)
        built = written.build("--session", EMPTY)
        assert built.code == 2
        assert f"DAGSTER_HOME: '{home}' must be an absolute path" in built.errors


# Which sessions


def test_days_are_those_on_which_sessions_began(written: Facility) -> None:
    found = written.build("--dry-run", "--to", "2026-03-04", since="2026-03-03")
    assert set(found.states) == {DECLINED, CERAMIC}
    assert set(written.build("--dry-run", "--to", "2026-03-02").states) == {WELD}
    assert written.build("--dry-run", since="").states == {}, "these sessions ended before NX_HARVEST_DAYS"


def test_one_session_by_its_key(written: Facility) -> None:
    assert written.build("--session", EMPTY, "--session", DECLINED).states == {
        EMPTY: "NO_FILES_FOUND",
        DECLINED: "NO_CONSENT",
    }
    assert written.store.reached() == sorted([EMPTY, DECLINED])


def test_a_key_that_nobody_can_build_fails_by_name(written: Facility) -> None:
    keys = {
        WELD.replace("nemo", "elsewhere"): "the settings have no NEMO server 'elsewhere'",
        WELD.replace("Quanta", "Titan"): "has no instrument 'Demo-Titan-SEM'",
        WELD.replace("104", "999"): "NEMO server 'nemo' has no usage event 999",
    }
    for key, words in keys.items():
        for options in (["--dry-run"], []):
            refused = written.build(*options, "--session", key)
            assert (refused.code, refused.outcomes) == (2, {})
            assert f"There is no session '{key}'" in refused.errors
            assert words in refused.errors
    assert written.store.reached("failures") == []


def test_a_folder_that_is_not_there_is_named(written: Facility) -> None:
    (written.raw / "Quanta").rename(written.raw / "away")
    for options in (["--dry-run"], []):
        told = written.build(*options, "--session", WELD)
        assert (told.code, told.states) == (1, {WELD: "FAILED"})
        assert "Quanta" in told.outcomes[WELD]["reason"]


def test_a_session_of_a_server_that_refuses_fails_by_name(written: Facility) -> None:
    (written.folder / "nemo" / "usage_events.json").unlink()
    told = written.build("--session", WELD)
    assert (told.code, told.states) == (1, {WELD: "FAILED"})
    assert "usage_events.json" in told.outcomes[WELD]["reason"]


# What a change rebuilds


def test_a_changed_answer_rebuilds_its_session_only(built: Facility) -> None:
    before = records(built)
    (event,) = (row for row in built.answers("usage_events") if row["id"] == 104)
    form = json.loads(event["run_data"])
    form["experiment_title"]["user_input"] = "Weld A, corrected title"
    built.edit_event(104, run_data=json.dumps(form))
    with opened_files(built.raw) as opened:
        again = built.build()
        assert opened() == [], "the files have not changed"
    assert again.causes == {WELD: "changed in NEMO"}
    assert again.states == STATES
    after = records(built)
    assert b"Weld A, corrected title" in after.pop(f"{WELD}.xml")
    assert after.pop(f"{WELD}.v1.xml") == before.pop(f"{WELD}.xml")
    assert after == before


def test_a_late_file_rebuilds_its_session_only(built: Facility) -> None:
    built.add_file(GRAINS, "late.tif")
    with opened_files(built.raw) as opened:
        again = built.build()
        assert set(opened()) == {"late.tif"}, "the others stand in the cache"
    assert again.causes == {WELD: "files changed"}
    assert again.outcomes[WELD]["files"] == 9
    assert b"late.tif" in records(built)[f"{WELD}.xml"]
    assert b"late.tif" not in records(built)[f"{WELD}.v1.xml"]
    assert built.build().causes == {}


def test_a_vanished_file_leaves_the_record(built: Facility) -> None:
    (built.raw / GRAINS).unlink()
    again = built.build()
    assert again.causes == {WELD: "files changed"}
    assert again.outcomes[WELD]["files"] == 7
    assert b"grains%2002.tif" not in records(built)[f"{WELD}.xml"]


def test_a_companion_that_arrives_late_is_read_with_its_file(built: Facility) -> None:
    image = built.raw / GRAINS
    companion = image.with_suffix(".hdr")
    companion.write_text("[MAIN]\nDevice=TESCAN\n")
    saved = image.stat().st_mtime + 1
    os.utime(companion, (saved, saved))
    with opened_files(built.raw) as opened:
        again = built.build()
        assert set(opened()) <= {"grains 02.tif", "grains 02.hdr"}
        assert again.causes == {WELD: "files changed"}
    inventory = built.store.inventory(WELD)
    assert inventory
    assert [len(entry.companions) for entry in inventory.entries if entry.location.endswith("grains%2002.tif")] == [1]
    assert again.states == STATES


def test_withdrawn_consent_ends_the_session_and_leaves_nothing_of_its_files(built: Facility) -> None:
    events, before = built.answers("usage_events"), records(built)
    built.withdraw_consent(104)
    with opened_files(built.raw) as opened:
        again = built.build()
        assert opened() == []
    assert again.causes == {WELD: "changed in NEMO"}
    assert again.states == STATES | {WELD: "WITHDRAWN"}
    assert again.outcomes[WELD]["record"] == ""
    kept = [path for path in built.data.rglob("*") if path.is_file()]
    assert [path for path in kept if b"inclusion.msa" in os.fsencode(path.name) + path.read_bytes()] == []
    assert records(built) == {f"{CERAMIC}.xml": before[f"{CERAMIC}.xml"]}
    assert built.build().causes == {}

    built.answer("usage_events", events)
    assert built.build().states == STATES
    assert records(built) == before


def test_a_key_stays_whatever_is_edited_in_nemo(built: Facility) -> None:
    built.edit_event(107, start="2026-03-04T23:00:00-07:00")
    again = built.build()
    assert again.causes == {EMPTY: "changed in NEMO"}
    assert set(again.states) == set(KEYS)


def test_a_newer_version_of_the_code_builds_again(built: Facility) -> None:
    path = built.data / "stages" / "activities" / f"{CERAMIC}.json"
    path.write_text(path.read_text().replace('"code_version": "', '"code_version": "older than '))
    assert built.build().causes == {CERAMIC: "the software is newer"}
    assert built.build().causes == {}


# What was interrupted


def test_a_run_that_was_killed_is_taken_up_again(built: Facility) -> None:
    """Between any two stages: the later ones are older than the earlier, though each is there."""
    before = records(built)
    shutil.rmtree(built.data / "records")
    killed = f"""
import os, sys
from resources.store import Store
def die(*_, **__): os._exit(9)
Store.write_activities = die
from nexuslims_pipeline.cli import main
main(["build", "--session", {CERAMIC!r}])
"""
    variables = os.environ | built.variables() | {"PYTHONPATH": str(Path(__file__).parents[1])}
    ended = subprocess.run([sys.executable, "-c", killed], cwd=built.folder, env=variables, check=False)
    assert ended.returncode == 9
    again = built.build()
    assert again.causes == {CERAMIC: "was left unfinished"}
    assert records(built) == {f"{CERAMIC}.xml": before[f"{CERAMIC}.xml"]}
    assert built.build().causes == {}


def test_what_failed_is_tried_again(written: Facility) -> None:
    shutil.move(written.raw / "Quanta", written.raw / "Not mounted")
    failed = written.build("--session", EMPTY)
    assert failed.code == 1
    assert failed.states == {EMPTY: "FAILED"}
    assert "is its name right in the list of instruments, and is the share mounted?" in failed.outcomes[EMPTY]["reason"]
    (written.raw / "Quanta").mkdir()
    again = written.build("--to", "2026-03-05", since="2026-03-05")
    assert again.causes == {EMPTY: "failed before"}
    assert again.states == {EMPTY: "NO_FILES_FOUND"}


# What is damaged or silent


def test_a_damaged_file_is_an_unknown_dataset_with_its_reason(built: Facility) -> None:
    path, others = built.raw / GRAINS, built.store.datasets(WELD)
    saved = path.stat().st_mtime
    path.write_bytes(path.read_bytes()[:60])
    os.utime(path, (saved, saved))
    again = built.build()
    assert again.code == 0
    assert again.causes == {WELD: "files changed"}
    datasets = {dataset.name: dataset for dataset in built.store.datasets(WELD) or ()}
    damaged = datasets.pop("grains 02.tif").nx_meta
    assert damaged["DatasetType"] == "Unknown"
    assert [warning for warning in damaged["warnings"] if warning["reason"].startswith("The file was not read: ")]
    assert others
    assert list(datasets.values()) == [dataset for dataset in others if dataset.name != "grains 02.tif"]
    assert b"grains%2002.tif" in records(built)[f"{WELD}.xml"]


def test_a_silent_server_costs_its_own_sessions_only(written: Facility, monkeypatch: pytest.MonkeyPatch) -> None:
    token = "TOKEN-of-the-silent-server"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    written.set(NX_NEMO_ADDRESS_2=f"http://127.0.0.1:{port}/api/", NX_NEMO_TOKEN_2=token, NX_NEMO_NAME_2="annex")
    # As little patience as a sensor has: a build tries for a quarter of a minute.
    monkeypatch.setattr(nemo.open_server, "__kwdefaults__", {"verify": True, "patience": BRIEF})
    # An instrument of the silent server, or nothing would be asked of it.
    text = (written.folder / "instruments.yaml").read_text()
    (written.folder / "instruments.yaml").write_text(text.replace("server: nemo, tool: 3", "server: annex, tool: 3"))
    found = written.build("--to", "2026-03-05", since="2026-03-05")
    assert found.code == 1
    assert found.states == {EMPTY: "NO_FILES_FOUND"}
    assert found.errors.startswith(f"annex: NEMO server 'annex' (http://127.0.0.1:{port}/api/) does not answer")
    assert token not in found.errors


def test_a_share_that_is_not_mounted_is_said(built: Facility) -> None:
    before = tree(built.data)
    shutil.move(built.raw / "Quanta", built.raw / "Not mounted")
    found = built.build()
    assert found.code == 1
    assert found.states == STATES
    assert found.errors.startswith("Demo-Quanta-SEM: the instrument's folder ")
    assert "is the share mounted?" in found.errors
    assert tree(built.data) == before


def test_a_session_that_still_runs_is_not_built(written: Facility) -> None:
    written.edit_event(107, end=None)
    assert EMPTY not in written.build("--dry-run").states


def test_a_session_of_today_waits_for_its_files(written: Facility) -> None:
    now = datetime.now(UTC)
    written.edit_event(107, start=(now - timedelta(hours=2)).isoformat(), end=(now - timedelta(minutes=1)).isoformat())
    (key,) = written.build("--dry-run", since="").states
    assert written.build(since="").states == {key: "WAITING_FOR_FILES"}
    target = written.raw / "Quanta" / "today.tif"
    shutil.copyfile(written.raw / GRAINS, target)
    saved = (now - timedelta(minutes=5)).timestamp()
    os.utime(target, (saved, saved))
    again = written.build(since="")
    assert again.causes == {key: "files changed"}
    assert again.states == {key: "BUILT"}


# The same bytes


def test_the_same_inputs_give_the_same_bytes_elsewhere(built_once: Facility, tmp_path: Path) -> None:
    other = built_once.copy(tmp_path / "another place")
    shutil.rmtree(other.data)
    other.set(NX_DATA_PATH=str(other.folder / "store"), NX_RECORDS_PATH=str(other.folder / "xml"))
    assert other.build("--session", CERAMIC).states == {CERAMIC: "BUILT"}
    first, second = built_once.data, other.folder / "store"
    assert (other.folder / "xml/2026" / f"{CERAMIC}.xml").read_bytes() == records(built_once)[f"{CERAMIC}.xml"]
    compared = 0
    published = {"exports", "portal", "session_status"}  # where copies are, and since when
    made = (path for path in second.rglob("*") if path.is_file() and not published & set(path.parts))
    for path in (path for path in made if path.suffix != ".duckdb"):
        assert path.read_bytes() == (first / path.relative_to(second)).read_bytes(), path
        compared += 1
    assert compared >= 4 + 4 + 6


# SQL


def test_the_catalogue_has_every_session(built: Facility) -> None:
    built.remove_event(107)
    built.build("--session", EMPTY)
    sessions = Catalog(data_path=str(built.data)).query("SELECT session_key, state, reason FROM sessions")
    states = dict(zip(sessions["session_key"], sessions["state"], strict=True))
    assert states == STATES | {EMPTY: "FAILED"}
    catalog = Catalog(data_path=str(built.data))
    counts = {view: len(catalog.query(f"SELECT * FROM {view}")) for view in ("sessions", "datasets", "records")}
    assert counts == {"sessions": 4, "datasets": 12, "records": 2}


# Single files


def test_extract_needs_no_settings_and_copes_with_any_name(written: Facility, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"\xff odd.msa")
    shutil.copyfile(written.raw / WELD_FOLDER / "EDS ferrite.msa", odd)
    (written.folder / "demo.env").write_text("")
    done = run(written, "extract", "--preview-folder", "previews", str(odd), "gone.tif")
    assert done.returncode == 1
    assert "Spectrum       SEM_EDS" in done.stdout
    assert done.stderr == "gone.tif: it cannot be opened: No such file or directory\n"
    (preview,) = (written.folder / "previews").iterdir()
    assert preview.read_bytes().startswith(b"\x89PNG")

    done = run(written, "extract", "--json", "--no-preview", str(odd))
    assert done.returncode == 0
    (element,) = json.loads(done.stdout)
    assert element["nx_meta"]["DatasetType"] == "Spectrum"
    assert element["preview"] is None
    assert element["original_metadata"]
    assert len(list((written.folder / "previews").iterdir())) == 1
