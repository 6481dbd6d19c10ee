"""The benchmarks: each is given a scratch folder and yields rows of the report."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from benchmarks import inputs
from benchmarks.measure import Cost, OpenedFiles, run, tree
from benchmarks.peer import NexusLims

if TYPE_CHECKING:
    from benchmarks.publishing import CountingCdcs

ROUNDS = 3
OWN_PATH = {"PYTHONPATH": str(Path(__file__).parents[1])}
CLUSTERING_LIMIT = 300.0
"""Seconds after which NexusLIMS's clustering is given up."""
PUBLISHED, MANY_PUBLISHED, WORKERS = 200, 10_000, 4
"""Records that are published; sessions among which none is due; records that are under way at a time."""
PEER_FOLDERS = (
    "dm3",
    "dm4",
    "tia",
    "tif_fei",
    "tif_tescan",
    "tif_zeiss_orion",
    "tif_fibics_atlas",
    "spc",
    "msa",
    "h5_tofwerk",
)
"""Formats that NexusLIMS has an extractor for, by their folder in the corpus."""
HEADER_LIMITS_MS = {
    "dm3/Titan_STEM_stack_dataZeroed.dm3": 5.2,
    "dm3/multi_signal.dm3": 4.5,
    "dm4/neoarm-gatan_SI_dataZeroed.dm4": 17.9,
    "tif_fei/scios_multigis_metadata_sections.tif": 3.8,
    "tif_zeiss/ZEISS_SEM_multipage.tif": 15.3,
    "tif_tescan/tescan-pfib_dataZeroed.tif": 2.0,
    "emd_velox/fei_emd_image.emd": 9.9,
    "emd_velox/fei_emd_si.emd": 24.8,
    "emd_velox/fei_SI_SuperX-HAADF_20frames_10x50.emd": 30.0,
    "emd_velox/fei_SI_EDS-HAADF-4detectors_2frames.emd": 20.0,
    "emd_velox/example_velox_EELS_EDS.emd": 38.3,
    "emd_ncem/Acquisition_18.emd": 5.4,
    "bcf/0.bcf": 12.9,
    "bcf/Hitachi_TM3030Plus.bcf": 8.9,
    "h5_delmic/sparc-angle-resolved.h5": 52.3,
    "h5_arina/test_00_master.h5": 14.0,
    "hspy/4d_stem.hspy": 9.8,
    "nxs/nexus_dls_example.nxs": 43.6,
    "image_generic/photo_tif.tif": 2.0,
    "app5/topspin_test_C.app5": 15.2,
}
"""What reading nothing but the metadata took with RosettaSciIO's own parsers, for files of the corpus."""
LIMIT_SLACK = 1.5
"""How many times a limit may be taken before it counts as missed."""
HEAVY = (
    "hyperspy",
    "rsciio",
    "sklearn",
    "scipy",
    "pandas",
    "matplotlib",
    "lxml",
    "pint",
    "h5py",
    "PIL",
    "numpy",
    "dask",
)
LOADING = f"""
import sys
import nexuslims_pipeline.definitions
print(" ".join(name for name in {HEAVY!r} if name in sys.modules) or "none")
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report; `theirs` is None where there is nothing to compare with."""

    what: str
    unit: str
    ours: float
    theirs: float | None = None
    aim: str = ""
    note: str = ""
    gave_up: bool = False
    """Whether `theirs` is only the limit at which NexusLIMS was stopped."""

    @property
    def ratio(self) -> float | None:
        """How many times as much NexusLIMS needs."""
        return self.theirs / self.ours if self.theirs and self.ours else None


@dataclass(frozen=True, slots=True)
class Bench:
    """What a benchmark works with."""

    scratch: Path
    """An empty folder of its own."""
    nexuslims: NexusLims
    corpus: Path | None


def clustering(bench: Bench) -> Iterator[Row]:
    """Clustering alone, imports not counted; `benchmarks.clustering` has the times and further measurements."""
    for count, rounds in ((100, ROUNDS), (400, 1)):
        folder = bench.scratch / str(count)
        _write("files", folder, count)
        ours = _ours("cluster", count)
        settings = bench.nexuslims.environment(bench.scratch, bench.scratch / "data")
        theirs, _ = bench.nexuslims.ask("cluster", settings, folder=str(folder), limit=CLUSTERING_LIMIT, rounds=rounds)
        gave_up = theirs.get("gave_up", False)
        told = f"{ours['activities']} activities" + ("" if gave_up else f", NexusLIMS {theirs['activities']}")
        yield Row(
            f"clustering, {count} files", "s", ours["seconds"], theirs["seconds"], "≥ 500×", told, gave_up=gave_up
        )
    for count in (10_000, 100_000):
        ours = _ours("cluster", count)
        yield Row(f"clustering, {count} files", "s", ours["seconds"], note=f"{ours['activities']} activities")


def session(bench: Bench) -> Iterator[Row]:
    """A session of dm3 files from the raw files to the valid record, whole processes."""
    for pixels in inputs.PIXELS:
        yield from _session(bench, pixels)


def _session(bench: Bench, pixels: int) -> Iterator[Row]:
    facility = bench.scratch / f"facility-{pixels}"
    _write("session", facility, pixels)
    instruments = facility / "instruments"
    build: list[str | Path] = [_command(), "build", "--from", f"{inputs.SESSION_START.date()}", "--json"]
    start, end = inputs.SESSION_START, inputs.SESSION_START + timedelta(hours=inputs.SESSION_HOURS)

    def ours() -> Cost:
        shutil.rmtree(facility / "data", ignore_errors=True)
        cost = run(build, _settings(facility))
        (outcome,) = json.loads(cost.output)
        previews = len(list((facility / "data").rglob("*.png")))
        _require(outcome["state"] == "BUILT" and outcome["datasets"] == previews == inputs.IMAGES, outcome)
        return cost

    def theirs() -> Cost:
        data = bench.scratch / "nexuslims"
        shutil.rmtree(data, ignore_errors=True)
        data.with_suffix(".db").unlink(missing_ok=True)
        settings = bench.nexuslims.environment(instruments, data)
        bench.nexuslims.ask(
            "prepare", settings, instrument=inputs.INSTRUMENT, folder=inputs.FOLDER, time_zone=inputs.TIME_ZONE
        )
        built, cost = bench.nexuslims.ask(
            "session",
            settings,
            instrument=inputs.INSTRUMENT,
            start=start.isoformat(),
            end=end.isoformat(),
            record=str(data / "record.xml"),
        )
        _require(built["valid"] and built["datasets"] == built["previews"] == inputs.IMAGES, built)
        return cost

    first, _ = ours(), theirs()  # imports compile, Dagster makes its database
    our_costs, their_costs = zip(*((ours(), theirs()) for _ in range(ROUNDS)), strict=True)
    what = f"session of {inputs.IMAGES} dm3, {pixels}²"
    note = f"whole process; {first.wall:.1f} s the very first time (new Dagster home)"
    yield Row(f"{what}, wall", "s", _wall(our_costs), _wall(their_costs), "≥ 5×", note)
    yield Row(f"{what}, CPU", "s", _cpu(our_costs), _cpu(their_costs), "≥ 5×", "all processes together")
    yield Row(f"{what}, peak memory", "MiB", _peak(our_costs), _peak(their_costs), note="largest process")


def headers(bench: Bench) -> Iterator[Row]:
    """Metadata alone, file by file, warm."""
    if bench.corpus is None:
        print("headers: needs --corpus or NX_TEST_CORPUS", file=sys.stderr)
        return
    listed = {folder: _corpus_files(bench.corpus, folder) for folder in PEER_FOLDERS}
    files = [str(path) for paths in listed.values() for path in paths]
    limited = [str(bench.corpus / name) for name in HEADER_LIMITS_MS if (bench.corpus / name).exists()]
    ours = _ours("headers", sorted({*files, *limited}))
    settings = bench.nexuslims.environment(bench.corpus, bench.scratch / "data")
    theirs, _ = bench.nexuslims.ask("headers", settings, files=files)
    for folder, paths in listed.items():
        both = [str(path) for path in paths if ours[str(path)] and theirs[str(path)]]
        if both:
            yield Row(
                f"header, {folder}",
                "ms/file",
                median(ours[file] for file in both),
                median(theirs[file] for file in both),
                note=f"{len(both)} of {len(paths)} files read by both; slowest {max(ours[f] for f in both):.1f} ms",
            )
    for name, limit in HEADER_LIMITS_MS.items():
        if (found := ours.get(str(bench.corpus / name))) is not None:
            note = "" if found <= LIMIT_SLACK * limit else "missed"
            yield Row(f"header, {name}", "ms", found, theirs.get(str(bench.corpus / name)), f"≤ {limit} ms", note)


def previews(bench: Bench) -> Iterator[Row]:
    """Metadata and previews, file by file, warm, on one core; then all of the corpus in the sandbox."""
    if bench.corpus is None:
        print("previews: needs --corpus or NX_TEST_CORPUS", file=sys.stderr)
        return
    listed = {folder: _corpus_files(bench.corpus, folder) for folder in PEER_FOLDERS}
    files = [str(path) for paths in listed.values() for path in paths]
    ours = _ours("previews", files)
    settings = bench.nexuslims.environment(bench.corpus, bench.scratch / "data")
    theirs, _ = bench.nexuslims.ask("previews", settings, files=files)
    for folder, paths in listed.items():
        both = [str(path) for path in paths if ours[str(path)] and theirs[str(path)]]
        if both:
            mean_ours, mean_theirs = (fmean(times[file] for file in both) for times in (ours, theirs))
            note = f"mean of {len(both)} files, metadata and preview"
            yield Row(f"with preview, {folder}", "ms/file", mean_ours, mean_theirs, "≥ 5×", note)
    every = [str(path) for path in sorted(bench.corpus.rglob("*")) if path.is_file() and path.parent != bench.corpus]
    cost = run([sys.executable, "-m", "benchmarks.ours", "throughput", json.dumps(every)], OWN_PATH)
    note = f"{len(every)} files of all formats in the sandbox, with previews; one worker"
    yield Row("throughput", "files/s", len(every) / json.loads(cost.output), note=note)
    yield Row("throughput, peak memory", "MiB", cost.peak, note="largest process; one worker for all files")


def idle(bench: Bench) -> Iterator[Row]:
    """A run that finds nothing to do, on the demo facility."""
    facility = bench.scratch / "demo"
    build: list[str | Path] = [_command(), "build", "--from", "2026-03-01", "--json"]
    run([_command(), "demo", "--folder", facility])
    settings = _settings(facility)
    with OpenedFiles(facility / "instruments") as anew:
        first = run(build, settings | {"NX_DATA_PATH": str(bench.scratch / "another store")})
    _require(bool(anew.names), "no raw file was seen to be opened when all sessions were built anew")
    run(build, settings)
    before = {name: tree(facility / name) for name in ("data", "dagster_home")}
    costs, outcomes, opened = [], [], []
    for _ in range(ROUNDS):
        with OpenedFiles(facility / "instruments") as again:
            costs.append(run(build, settings))
        opened += again.names
        outcomes = json.loads(costs[-1].output)
    _require(not any(outcome["cause"] for outcome in outcomes), outcomes)
    changed = {name: _differences(old, tree(facility / name)) for name, old in before.items()}
    what = f"nothing to do, {len(outcomes)} sessions"
    note = f"wrote {changed['data']} files in the store, {changed['dagster_home']} in Dagster's home"
    yield Row(f"{what}, wall", "s", _wall(costs), note=note)
    yield Row(f"{what}, CPU", "s", _cpu(costs))
    note = f"{len(set(anew.names))} when all is built anew, which takes {first.wall:.1f} s (told by inotify)"
    yield Row(f"{what}, raw files opened", "", float(len(opened)), aim="0", note=note)


def loading(bench: Bench) -> Iterator[Row]:
    """Import of the code location, as each Dagster process does it."""
    facility = bench.scratch / "facility"
    _write("session", facility, inputs.PIXELS[0])
    costs = [run([sys.executable, "-c", LOADING], _settings(facility)) for _ in range(5)]
    dagster = [run([sys.executable, "-c", "import dagster"]) for _ in range(5)]
    note = f"`import dagster` alone: {_wall(dagster):.2f} s wall, {_cpu(dagster):.2f} s CPU"
    yield Row("loading the code location, wall", "s", _wall(costs), aim="< 2 s", note=note)
    yield Row("loading the code location, CPU", "s", _cpu(costs), note=f"heavy modules: {costs[0].output.strip()}")


def memory(bench: Bench) -> Iterator[Row]:
    """Peak memory for a large series: metadata and preview."""
    peaks: dict[int, tuple[Cost, Cost]] = {}
    settings = bench.nexuslims.environment(bench.scratch, bench.scratch / "data")
    for images in (1, inputs.BIG_SER_IMAGES):
        path = bench.scratch / f"series of {images}_1.ser"
        _write("ser", path, images)
        ours = run([_command(), "extract", path, "--preview-folder", bench.scratch / "previews"])
        _require("preview:" in ours.output, ours.output)
        answer, theirs = bench.nexuslims.ask("extract", settings, file=str(path))
        _require(answer["previews"] == answer["datasets"] == 1, answer)
        peaks[images] = ours, theirs
    (ours_small, theirs_small), (ours_big, theirs_big) = peaks.values()
    size = f"{(bench.scratch / f'series of {inputs.BIG_SER_IMAGES}_1.ser').stat().st_size / 1e6:.0f} MB ser"
    yield Row(f"{size}, peak memory", "MiB", ours_big.peak, theirs_big.peak, note="largest process")
    yield Row(
        f"{size}, above a series of one image",
        "MiB",
        ours_big.peak - ours_small.peak,
        theirs_big.peak - theirs_small.peak,
        aim="< 100 MiB",
    )
    yield Row(f"{size}, wall", "s", ours_big.wall, theirs_big.wall, note="whole process, once")


def publishing(bench: Bench) -> Iterator[Row]:
    """Sessions to real CDCS on this machine, which are emptied before each turn of each side."""
    from benchmarks.publishing import CountingCdcs  # imports more than this process is to hold while others are timed

    facility, store, data = (bench.scratch / name for name in ("facility", "store", "nexuslims"))
    _write("session", facility, inputs.PIXELS[0])
    run([_command(), "build", "--from", f"{inputs.SESSION_START.date()}"], _settings(facility))
    _write("sessions", store, PUBLISHED, facility / "data")
    ours = _settings(facility) | {"NX_DATA_PATH": str(store)}
    theirs = bench.nexuslims.environment(facility, data)
    bench.nexuslims.ask(
        "prepare", theirs, instrument=inputs.INSTRUMENT, folder=inputs.FOLDER, time_zone=inputs.TIME_ZONE
    )
    with CountingCdcs.as_at_a_site() as cdcs:
        server = cdcs.variables(cdcs.url)
        yield from _published(bench.nexuslims, cdcs, ours | server, theirs | server)
    with CountingCdcs() as cdcs:
        server = cdcs.variables(cdcs.url)
        yield from _published(bench.nexuslims, cdcs, ours | server, theirs | server)
        yield from _unchanged(cdcs, ours | server)


def _published(
    nexuslims: NexusLims, cdcs: "CountingCdcs", settings: dict[str, str], theirs: dict[str, str]
) -> Iterator[Row]:
    """All sessions anew, in turns; afterwards the server holds what the command published."""
    from benchmarks.publishing import Exchange, rates

    store = Path(settings["NX_DATA_PATH"])
    records = sorted(map(str, (store / "records").rglob("*.xml")))
    size = sum(Path(record).stat().st_size for record in records) / len(records) / 1000
    start = inputs.SESSION_START.isoformat()
    sessions = {"records": records, "instrument": inputs.INSTRUMENT, "start": start, "end": start}
    sides: dict[str, Callable[[], Cost]] = {
        "publisher": lambda: _run_ours("publish", WORKERS, settings),
        "theirs": lambda: nexuslims.ask("export", theirs, **sessions)[1],
        "command": lambda: run(_publish(), settings),
    }

    def anew(side: Callable[[], Cost]) -> Exchange:
        cdcs.clear()
        shutil.rmtree(store / "exports", ignore_errors=True)
        exchange = cdcs.watch(side)
        _require(exchange.records == PUBLISHED, exchange)
        return exchange

    for side in sides.values():
        anew(side)  # imports compile, Dagster makes its database
    turns = [{name: anew(side) for name, side in sides.items()} for _ in range(ROUNDS)]
    ours, peer, command = ([turn[name] for turn in turns] for name in sides)
    what = f"publishing {PUBLISHED} records of {size:.0f} kB to CDCS ({cdcs.in_words})"

    def row(of: str, unit: str, measure: Callable[[Exchange], float], aim: str = "", note: str = "") -> Row:
        return Row(f"{what}{of}", unit, median(map(measure, ours)), median(map(measure, peer)), aim, note)

    note = f"{WORKERS} workers, {rates(ours)}; NexusLIMS {rates(peer)}"
    yield row("", "s", lambda turn: turn.seconds, "≥ 3×", note)
    yield row(", requests", "per record", lambda turn: turn.requests / PUBLISHED)
    yield row(", the server's CPU", "ms/record", lambda turn: 1000 * turn.server_cpu / PUBLISHED)
    yield row(", the sender's CPU", "ms/record", lambda turn: 1000 * turn.cost.cpu / PUBLISHED, note="imports included")
    took, theirs_took = (_wall([turn.cost for turn in side]) for side in (command, peer))
    note = "ours is the command, with Dagster's runs and events"
    yield Row(f"{what}, whole process", "s", took, theirs_took, note=note)


def _unchanged(cdcs: "CountingCdcs", settings: dict[str, str]) -> Iterator[Row]:
    """What it costs to see that all sessions are published."""
    command = [cdcs.watch(lambda: run(_publish(), settings)) for _ in range(ROUNDS)]
    _require(all(json.loads(exchange.cost.output) == [] for exchange in command), command)
    what = f"nothing to publish, {PUBLISHED} sessions"
    note = f"{sum(exchange.requests for exchange in command)} requests"
    yield Row(f"{what}, the command", "s", _wall([exchange.cost for exchange in command]), note=note)
    asked = cdcs.watch(lambda: _run_ours("publish", WORKERS, settings))
    _require(json.loads(asked.cost.output)["actions"] == ["unchanged"], asked)
    note = f"{asked.requests / PUBLISHED:g} request per record: it is still there"
    yield Row(f"{what}, asked for all the same", "s", asked.seconds, note=note)
    many = settings | {"NX_DATA_PATH": f"{settings['NX_DATA_PATH']} with many"}
    _write("records", many["NX_DATA_PATH"], MANY_PUBLISHED)
    _run_ours("pretend_published", None, many)
    for count, site in ((PUBLISHED, settings), (MANY_PUBLISHED, many)):
        look = cdcs.watch(partial(_run_ours, "due", None, site))
        seen = json.loads(look.cost.output)
        _require(seen["sessions"] == count and seen["due"] == look.requests == 0, (seen, look.requests))
        note = f"{1000 * seen['first']:.0f} ms the first time in a process; no request"
        yield Row(f"looking for due ones among {count} sessions", "ms", 1000 * seen["again"], note=note)


CASES: dict[str, Callable[[Bench], Iterator[Row]]] = {
    case.__name__: case for case in (clustering, session, headers, previews, idle, loading, memory, publishing)
}


def _write(*request: object) -> None:
    run([sys.executable, "-m", "benchmarks.inputs", *map(str, request)], OWN_PATH)


def _ours(what: str, request: object) -> Any:
    return json.loads(_run_ours(what, request).output)


def _run_ours(what: str, request: object, settings: Mapping[str, str] | None = None) -> Cost:
    return run([sys.executable, "-m", "benchmarks.ours", what, json.dumps(request)], OWN_PATH | dict(settings or {}))


def _command() -> Path:
    return Path(sys.executable).with_name("nexuslims-pipeline")


def _publish() -> list[str | Path]:
    return [_command(), "publish", "--destination", "cdcs", "--json"]


def _settings(facility: Path) -> dict[str, str]:
    return {
        "NX_INSTRUMENT_DATA_PATH": str(facility / "instruments"),
        "NX_DATA_PATH": str(facility / "data"),
        "NX_INSTRUMENTS_FILE": str(facility / "instruments.yaml"),
        "NX_NEMO_ADDRESS_1": (facility / "nemo").as_uri() + "/",
        "NX_NEMO_TZ_1": inputs.TIME_ZONE,
        "DAGSTER_HOME": str(facility / "dagster_home"),
    }


def _corpus_files(corpus: Path, folder: str) -> list[Path]:
    described = {".emi", ".hdr"}
    return sorted(p for p in (corpus / folder).rglob("*") if p.is_file() and p.suffix not in described)


def _differences(before: dict[str, Any], after: dict[str, Any]) -> int:
    return len(dict(before.items() ^ after.items()))


def _require(fact: bool, answer: object) -> None:
    if not fact:
        msg = f"the work was not done as expected: {answer}"
        raise RuntimeError(msg)


def _wall(costs: Sequence[Cost]) -> float:
    return median(cost.wall for cost in costs)


def _cpu(costs: Sequence[Cost]) -> float:
    return median(cost.cpu for cost in costs)


def _peak(costs: Sequence[Cost]) -> float:
    return median(cost.peak for cost in costs)
