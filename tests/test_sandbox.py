"""The sandbox: what a vendor file makes its reader do costs that file, and nothing else."""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import script_reader

from nexuslims_pipeline.extraction import sandbox as module
from nexuslims_pipeline.extraction.profiles.loading import load_profiles
from nexuslims_pipeline.extraction.reading import ReadFile
from nexuslims_pipeline.extraction.sandbox import Limits, Sandbox, sandbox
from nexuslims_pipeline.extraction.site_rules import SiteRules
from nexuslims_pipeline.extraction.standalone import source_of

FINE = "pass\n"
LIMITS = Limits(seconds=3, mebibytes=300)


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    monkeypatch.setattr(module, "_confine", script_reader.confine)
    root = tmp_path / "root"
    root.mkdir()
    with sandbox(root, 1, LIMITS) as opened:
        yield opened


def read(pool: Sandbox, root: Path, *scripts: str, previews: bool = True) -> list[ReadFile]:
    """What becomes of files with the given content, in their order."""
    sources = []
    for number, script in enumerate(scripts):
        path = root / f"{number}.script"
        path.write_text(script)
        sources.append(source_of(path))
    return list(pool.read(sources, previews=previews))


def test_files_that_hang_crash_or_grow_cost_only_themselves(pool: Sandbox, tmp_path: Path) -> None:
    found = read(
        pool,
        tmp_path / "root",
        FINE,
        "import time; time.sleep(60)",
        FINE,
        "import os; os._exit(3)",
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        FINE,
        "x = bytearray(2**30)",
        "raise KeyError('ExperimentalDescription')",
        "def f(): f()\nf()",
        FINE,
        previews=False,
    )
    reasons = [file.error for file in found]
    assert reasons[0] == reasons[2] == reasons[5] == reasons[9] == ""
    assert reasons[1] == "reading it takes longer than 3 s (NX_FILE_TIME_LIMIT)"
    assert reasons[3] == reasons[4] == "it crashes its reader"
    assert "memory" in reasons[6]
    assert "NX_FILE_MEMORY_LIMIT" in reasons[6]
    assert "'ExperimentalDescription'" in reasons[7]
    assert "nested too deeply" in reasons[8]
    assert [file.elements[0]["nx_meta"]["DatasetType"] for file in found] == [
        "Unknown" if reason else "Image" for reason in reasons
    ]
    for file in found:
        told = [warning["reason"] for warning in file.elements[0]["nx_meta"]["warnings"]]
        assert told == ([f"The file was not read: {file.error}"] if file.error else [])


FORBIDDEN = (
    "open({outside!r}).read()",
    "open(path.parent / '..' / 'outside.txt').read()",
    "import os; os.open({outside!r}, os.O_RDONLY)",
    "from pathlib import Path; import os; os.open(Path({outside!r}), os.O_RDONLY)",
    "open({link!r}).read()",
    "open({inside!r}, 'w')",
    "open({inside!r}, 'r+b')",
    "open({inside!r} + '.new', 'xb')",
    "import os; os.remove({inside!r})",
    "import os; os.truncate({inside!r}, 0)",
    "import os; os.rename({inside!r}, {inside!r} + '.new')",
    "import os; os.utime({inside!r}, (0, 0))",
    "import os; os.chmod({inside!r}, 0)",
    "import os; os.mkdir({inside!r} + '.folder')",
    "import os; os.system('echo hacked > ' + {inside!r})",
    "import subprocess; subprocess.run(['true'])",
    "import os; os.fork()",
    "import socket; socket.create_connection(('127.0.0.1', {port}), timeout=1)",
)
"""What a reader might be brought to do; each must fail by itself."""


def test_a_reader_only_reads_and_only_below_the_root(pool: Sandbox, tmp_path: Path) -> None:
    inside, outside, link = (tmp_path / name for name in ("root/inside.txt", "outside.txt", "root/link.txt"))
    inside.write_text("raw data")
    outside.write_text("another's")
    link.symlink_to(outside)
    before = inside.stat()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        names = {"inside": str(inside), "outside": str(outside), "link": str(link), "port": server.getsockname()[1]}
        found = read(pool, tmp_path / "root", *(act.format(**names) for act in FORBIDDEN), FINE)
        with pytest.raises(TimeoutError):
            server.accept()
    allowed = [act for act, file in zip(FORBIDDEN, found[:-1], strict=True) if "a reader may not" not in file.error]
    assert allowed == []
    assert found[-1].error == ""
    after = inside.stat()
    assert inside.read_text() == "raw data"
    assert (after.st_mode, after.st_mtime_ns, after.st_ino) == (before.st_mode, before.st_mtime_ns, before.st_ino)
    assert {path.name for path in inside.parent.iterdir() if path.suffix != ".script"} == {"inside.txt", "link.txt"}


@pytest.mark.parametrize(
    ("drawing", "told"),
    [
        ("raise ValueError('damaged pixels')", "It could not be drawn: ValueError: damaged pixels"),
        ("import os; os._exit(1)", "Left out: it crashes its reader"),
        ("import time; time.sleep(60)", "Left out: reading it takes longer than 3 s (NX_FILE_TIME_LIMIT)"),
    ],
)
def test_a_preview_that_cannot_be_drawn_costs_the_preview(
    pool: Sandbox, tmp_path: Path, drawing: str, told: str
) -> None:
    (found, fine) = read(pool, tmp_path / "root", f"pass\n# preview\n{drawing}\n", FINE)
    assert found.error == fine.error == ""
    assert found.previews == [None]
    meta = found.elements[0]["nx_meta"]
    assert meta["DatasetType"] == "Image"
    assert meta["warnings"] == [{"field": "Preview", "reason": told}]


def test_a_profile_that_hangs_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_confine", script_reader.confine)
    root, folder = tmp_path / "root", tmp_path / "profiles"
    root.mkdir()
    folder.mkdir()
    (folder / "slow.py").write_text(
        "import time\nfrom nexuslims_pipeline.extraction.profiles.model import Profile\n"
        "PROFILE = Profile(name='slow', instruments='Titan', parsers=(lambda signal: time.sleep(60),))\n"
    )
    (root / "a.script").write_text(FINE)
    source = replace(source_of(root / "a.script"), instrument_id="Titan")
    with sandbox(root, 1, LIMITS, rules=SiteRules(load_profiles(folder))) as pool:
        (found,) = pool.read([source])
    assert found.error == ""
    reason = "Left out: reading it takes longer than 3 s (NX_FILE_TIME_LIMIT)"
    assert found.elements[0]["nx_meta"]["warnings"] == [
        {"field": "Preview", "reason": reason},
        {"field": "Profiles", "reason": reason},
    ]


def test_what_is_no_plain_file_is_never_opened(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.tif").write_bytes(b"II*\0")
    (root / "folder.tif").mkdir()
    os.mkfifo(root / "pipe.tif")
    (root / "out.tif").symlink_to(tmp_path / "secret.tif")
    (root / "circle.tif").symlink_to(root / "circle.tif")
    (root / "a.tif").write_bytes(b"II*\0")
    os.mkfifo(root / "a.txt")
    plain = source_of(root / "a.tif")
    sources = [
        type(plain)(root / name, plain.modified, 4, tuple(root / each for each in companions))
        for name, companions in (
            ("folder.tif", ()),
            ("pipe.tif", ()),
            ("out.tif", ()),
            ("circle.tif", ()),
            ("a.tif", ("a.txt",)),
        )
    ]
    with sandbox(root, 1, Limits(seconds=60)) as pool:
        errors = [file.error for file in pool.read(sources)]
    assert errors[0] == "folder.tif is no regular file (a pipe, device, socket or folder)"
    assert errors[1] == "pipe.tif is no regular file (a pipe, device, socket or folder)"
    assert errors[2] == "out.tif is a link that leads out of the instrument root"
    assert errors[3] != ""
    assert errors[4] == "a.txt is no regular file (a pipe, device, socket or folder)"


def test_content_that_is_not_what_the_name_says_is_told(tmp_path: Path) -> None:
    """Garbage does not pass for a format that nobody knows."""
    noise = bytes(range(128, 256)) * 8
    sources = []
    for name in ("garbage.spc", "garbage.foo", "garbage"):
        (tmp_path / name).write_bytes(noise)
        sources.append(source_of(tmp_path / name))
    with sandbox(tmp_path, 1, Limits(seconds=60)) as pool:
        errors = [file.error for file in pool.read(sources)]
    assert errors == ["its content is none of the formats that .spc stands for", "", ""]


def test_a_file_that_is_gone_may_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0")
    source = source_of(path)
    path.unlink()
    with sandbox(tmp_path, 1, LIMITS) as pool:
        (found,) = pool.read([source])
    assert found.transient
    assert found.error == "it cannot be read: No such file or directory"
