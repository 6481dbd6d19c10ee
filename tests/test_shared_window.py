"""A use that overlaps another decides about the files of both."""

import json
from pathlib import Path
from typing import Any

import pytest
from facility import KEYS, WELD, Facility, built, opened_files, written

from nexuslims_pipeline.cli import main

__all__ = ["built", "written"]

SHARED = ("EDS ferrite.msa", "EDS inclusion.msa")
"""Files of the weld session that were saved while the other use went on."""
OTHER = "2026-03-02_Demo-Quanta-SEM_nemo-120"


def overlap(facility: Facility, consent: str, **changes: Any) -> None:
    """Somebody else used the microscope in the last quarter of an hour of the weld session."""
    rows = [row for row in facility.answers("usage_events") if row["id"] != 120]
    (weld,) = (row for row in rows if row["id"] == 104)
    form = json.loads(weld["run_data"])
    form["data_consent"]["user_input"] = consent
    times = {"start": "2026-03-02T11:30:00-07:00", "end": "2026-03-02T11:45:00-07:00"}
    other = weld | times | {"id": 120, "run_data": json.dumps(form)} | changes
    facility.answer("usage_events", [*rows, other])


def mentions(facility: Facility) -> list[str]:
    """Files of the store that name a shared file, in their own name or in their content."""
    found = []
    for path in facility.data.rglob("*"):
        if path.is_file() and path.suffix != ".db":
            content = path.read_bytes()
            if "EDS" in path.name or b"EDS%20" in content or b"EDS inclusion.msa" in content:
                found.append(str(path.relative_to(facility.data)))
    return found


def test_files_of_both_are_left_out_when_one_refuses(written: Facility) -> None:
    overlap(written, "Disagree")
    with opened_files(written.raw) as opened:
        told = written.build()
        assert not set(SHARED) & {Path(name).name for name in opened()}
    assert (told.states[WELD], told.states[OTHER]) == ("BUILT", "NO_CONSENT")
    assert told.outcomes[WELD]["files"] == 6
    assert mentions(written) == []
    assert written.build().causes == {}


def test_a_refusal_that_comes_later_takes_back_what_was_made(built: Facility) -> None:
    overlap(built, "Agree")
    first = built.build()
    assert set(first.causes) == {WELD, OTHER}
    assert [first.outcomes[key]["files"] for key in (WELD, OTHER)] == [6, 2], "the later use takes the shared files"
    assert mentions(built), "as files of the other session, and as contested ones"

    overlap(built, "Disagree")
    second = built.build()
    assert set(second.causes) == {WELD, OTHER}
    assert (second.states[WELD], second.states[OTHER]) == ("BUILT", "WITHDRAWN")
    assert mentions(built) == []
    assert built.build().causes == {}


def test_a_copy_goes_with_the_last_file_that_it_may_show(built: Facility) -> None:
    overlap(built, "Agree")
    assert built.build().outcomes[OTHER]["files"] == 2
    crates = {path.stem for path in (built.folder / "crates").rglob("*.eln")}

    with built.active():
        assert main(["withdraw", WELD]) == 0
    assert built.build().states[OTHER] == "NO_FILES_FOUND"

    assert {path.stem for path in (built.folder / "crates").rglob("*.eln")} == crates - {WELD, OTHER}
    assert mentions(built) == []


@pytest.mark.parametrize("seconds", [0, 3600])
def test_files_are_attributed_by_the_instruments_clock(written: Facility, seconds: int) -> None:
    listed = written.folder / "instruments.yaml"
    listed.write_text(listed.read_text().replace("clock_offset_seconds: 0", f"clock_offset_seconds: {seconds}"))
    told = written.build()
    files = {key: told.outcomes[key]["files"] for key in KEYS}
    assert (files[WELD] == 8) is (seconds == 0), files
    assert written.build().causes == {}
