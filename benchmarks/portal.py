"""``python -m benchmarks.portal``: an index of 50 000 made-up sessions, on disk and in Chromium.

What is measured: building the index and refreshing it after one session changed, its size, what the front page loads
before its first result and altogether, and how long the browser computes for one more keystroke.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from statistics import median
from typing import Any, Final

from nexuslims_pipeline.files import write_bytes
from nexuslims_pipeline.portal.files import site_files
from nexuslims_pipeline.portal.front import front_page
from nexuslims_pipeline.portal.index import PortalIndex
from nexuslims_pipeline.portal.summary import Summary, spans

FIRST_NAMES = "Ada Ben Chiara Dmitri Elif Femi Greta Hana Ines Jun Kofi Lena Mara Noor Olga Paulo Rin Sven Tara Yusuf"
LAST_NAMES = "Adeyemi Brandt Conti Duarte Eriksen Fujita Garcia Haddad Ivanova Jansen Kim Lindqvist Müller Nakamura"
SUBJECTS = (
    "grain boundaries", "oxide films", "cathode particles", "weld cracks", "quantum dots", "twin lamellae", "catalyst",
    "ferroelectric domains", "nanowires", "precipitates", "dislocation loops", "thin-film interface", "graphene",
    "fracture surface", "corrosion pits", "photonic lattice", "perovskite solar cell", "bone implant", "zeolite",
)  # fmt: skip
VERBS = ("Survey of", "Tilt series of", "EELS of", "EDS map of", "High resolution of", "In-situ heating of", "Check of")
MATERIALS = {
    "steel": ("C", "Cr", "Fe", "Ni"), "NMC 811": ("Li", "O", "Mn", "Co", "Ni"), "SrTiO3": ("O", "Ti", "Sr"),
    "GaN": ("N", "Ga"), "Al 7075": ("Mg", "Al", "Cu", "Zn"), "CsPbBr3": ("Br", "Cs", "Pb"),
    "Pt/CeO2": ("O", "Ce", "Pt"), "Ti-6Al-4V": ("Al", "Ti", "V"), "WC-Co": ("C", "Co", "W"),
    "BaTiO3": ("O", "Ti", "Ba"), "Si": ("Si",),
}  # fmt: skip
MOTIVATIONS = (
    "The last batch cracked after annealing; to see whether the boundaries are decorated before we change the furnace.",
    "To measure the width of the interface and compare it with the model of the previous paper.",
    "Routine check after service.",
    "Composition of the second phase is unclear from XRD, and the reviewers ask for maps at higher resolution.",
    "",
)
INSTRUMENTS: Final = (
    ("Titan-STEM", "Titan STEM", "TEM"), ("Talos-TEM", "Talos F200X", "TEM"), ("ARM-200", "JEOL ARM200F", "TEM"),
    ("Quanta-SEM", "Quanta 200 SEM", "SEM"), ("Helios-FIB", "Helios 5 FIB", "SEM"), ("Gemini", "Gemini 500", "SEM"),
    ("Tecnai", "Tecnai T12", "TEM"), ("Mira", "Tescan Mira 3", "SEM"),
)  # fmt: skip
TECHNIQUES = {
    "TEM": (("Image", "TEM_Imaging", "dm3"), ("Image", "STEM_Imaging", "emd"),
            ("Diffraction", "TEM_Diffraction", "dm3"), ("Spectrum", "TEM_EELS", "dm4"),
            ("SpectrumImage", "STEM_EDS", "emd")),
    "SEM": (("Image", "SEM_Imaging", "tif"), ("Spectrum", "EDS_Spectrum", "msa"),
            ("SpectrumImage", "EBSD_Mapping", "h5oina")),
}  # fmt: skip
FORMATS = {
    "dm3": "DigitalMicrograph DM3", "dm4": "DigitalMicrograph DM4", "emd": "Velox EMD", "tif": "FEI/Thermo TIFF",
    "msa": "EMSA/MAS spectrum", "h5oina": "Oxford AZtec HDF5",
}  # fmt: skip
ZONE: Final = timezone(timedelta(hours=-7))
MONTHS_PER_SESSION: Final = 120 / 50_000
"""Ten years for 50 000 sessions."""


def summaries(many: int, seed: int = 1, newest: date = date(2026, 6, 30)) -> Iterator[Summary]:
    """Made-up sessions of a large facility, the same for the same seed; the last one of the newest day first."""
    chance = random.Random(seed)
    people = [f"{first} {last}" for first in FIRST_NAMES.split() for last in LAST_NAMES.split()]
    span = timedelta(days=max(7.0, many * MONTHS_PER_SESSION * 30.4))
    end = datetime(newest.year, newest.month, newest.day, 20, tzinfo=ZONE)
    for number in range(many):
        yield _summary(chance, people, end - span * (number / many), many - number)


def _summary(chance: random.Random, people: list[str], start: datetime, event: int) -> Summary:
    start = start.replace(microsecond=0)
    instrument_id, instrument, kind = chance.choices(INSTRUMENTS, (30, 25, 20, 25, 15, 10, 5, 8))[0]
    active = start.year * 12 + start.month  # people come and go: some hundred of them are active at a time
    person = people[(int(100 * chance.random() ** 2) + active) % len(people)]
    materials = chance.sample(list(MATERIALS), chance.choice((1, 1, 1, 2)))
    subject = chance.choice(SUBJECTS)
    techniques = chance.sample(TECHNIQUES[kind], chance.randint(1, 3))
    counts = [1 + int(chance.paretovariate(1.1)) % 400 for _ in techniques]
    stem = f"{start:%Y%m%d}_{subject.split()[0]}"
    names = [f"{stem}_{n:03}.{end}" for (_, _, end), many in zip(techniques, counts, strict=True) for n in range(many)]
    first, last = person.lower().split()
    return Summary(
        key=f"{start:%Y-%m-%d}_{instrument_id}_nemo-{event}",
        title=f"{chance.choice(VERBS)} {subject} in {materials[0]}, batch {chance.randint(1, 900)}",
        start=start,
        end=start + timedelta(minutes=chance.randint(20, 480)),
        instrument_id=instrument_id,
        instrument=instrument,
        people=(f"{person} ({first[0]}{last})",),
        project=f"MD-{start.year}-{chance.randint(1, 60)}",
        motivation=chance.choice(MOTIVATIONS),
        samples=tuple(f"{material} {chance.randint(1, 40)}" for material in materials),
        sample_descriptions=tuple(f"{material}, {subject}, polished" for material in materials),
        elements=tuple(dict.fromkeys(symbol for material in materials for symbol in MATERIALS[material])),
        dataset_types=_added((kind, many) for (kind, _, _), many in zip(techniques, counts, strict=True)),
        data_types=_added((name, many) for (_, name, _), many in zip(techniques, counts, strict=True)),
        formats=_added((FORMATS[end], many) for (_, _, end), many in zip(techniques, counts, strict=True)),
        extensions=_added((end, many) for (_, _, end), many in zip(techniques, counts, strict=True)),
        file_names=tuple(names[:50]),
        datasets=sum(counts),
        activities=chance.randint(1, 12),
        refused=chance.choices((0, 1, 3), (90, 7, 3))[0],
        warnings=chance.choices((0, 2, 9), (85, 10, 5))[0],
        thumbnail=f"/{instrument_id}/{start:%Y}/{names[0]}.thumb.png",
        numbers=_numbers(chance, kind, min(sum(counts), 60)),
    )


def _added(pairs: Iterator[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, many in pairs:
        found[name] = found.get(name, 0) + many
    return dict(sorted(found.items()))


def _numbers(chance: random.Random, kind: str, many: int) -> dict[str, Any]:
    voltages = (80, 200, 300) if kind == "TEM" else (5, 10, 20)
    magnifications = [chance.choice((1, 2, 5)) * 10 ** chance.randint(3, 5) for _ in range(many)]
    found: dict[str, list[float]] = {
        "acceleration_voltage": [chance.choice(voltages)],
        "magnification": magnifications,
        "pixel_width": [chance.uniform(0.9, 1.1) * 1e5 / magnification for magnification in magnifications],
        "horizontal_field_width": [chance.uniform(0.9, 1.1) * 2e5 / magnification for magnification in magnifications],
        "stage_x": [chance.uniform(-900, 900) for _ in range(many)],
        "stage_y": [chance.uniform(-900, 900) for _ in range(many)],
        "stage_z": [chance.uniform(-0.2, 0.2) for _ in range(many)],
        "stage_alpha": [chance.choice((0, 0, 12.5, -8.1))],
        "dwell_time": [chance.choice((1, 3, 10, 30)) for _ in range(many)],
        "probe_current": [chance.choice((25, 50, 100, 1600))],
    }
    if kind == "SEM":
        found["working_distance"] = [chance.uniform(3, 12) for _ in range(many)]
        found["chamber_pressure"] = [chance.uniform(1e-4, 1e-3)]
    else:
        found["camera_length"] = [chance.choice((100, 230, 460))]
        found["exposure_time"] = [chance.choice((0.1, 0.5, 1))]
    return {name: spans(values) for name, values in sorted(found.items())}


def write_portal(folder: Path, **options: Any) -> bytes:
    """Write the front page and the static files that it uses beside an index."""
    for name, content in site_files().items():
        write_bytes(folder / "site" / name, content)
    page = front_page(PortalIndex(folder), **options)
    write_bytes(folder / "index.html", page)
    return page


def build(folder: Path, many: int) -> dict[str, float]:
    """Build a portal of so many sessions, and change one of them; seconds and bytes."""
    made = list(summaries(many))
    index = PortalIndex(folder)
    clock = time.perf_counter()
    for each in made:
        index.put(each)
    put = time.perf_counter() - clock
    clock = time.perf_counter()
    index.refresh()
    refresh = time.perf_counter() - clock
    clock = time.perf_counter()
    write_portal(folder, facility="Benchmark facility")
    page = time.perf_counter() - clock
    clock = time.perf_counter()
    index.refresh()
    nothing = time.perf_counter() - clock
    index.put(made[many // 2].model_copy(update={"title": "changed"}))
    clock = time.perf_counter()
    index.refresh()
    again = time.perf_counter() - clock
    write_portal(folder, facility="Benchmark facility")
    sizes = {part: _bytes(folder / "index", f"*.{part}.js") for part in ("facets", "more", "rows", "numbers", "words")}
    return {
        "put all, s": put,
        "first refresh, s": refresh,
        "front page, s": page,
        "refresh without change, s": nothing,
        "refresh after one change, s": again,
        **{f"{part}, MB": size / 1e6 for part, size in sizes.items()},
        "front page, MB": (folder / "index.html").stat().st_size / 1e6,
        "site, MB": _bytes(folder / "site", "*") / 1e6,
        "sessions' files, MB": _bytes(folder / "index" / "sessions", "*/*.json") / 1e6,
    }


def _bytes(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern))


QUERIES: Final = (
    "g", "gr", "gra", "grain", "grain b", "fe", "müller", "80 to 200 kV", "pixel < 1 nm", "magnification > 50k", "2024",
    "steel 80-200 kV 2025", "nothing-like-this",
)  # fmt: skip


FIRST_HIT: Final = """
    new MutationObserver((_, observer) => {
        if (!document.querySelector("#hits h3")) return;
        observer.disconnect();
        window.firstHit = performance.now();
        window.atFirstHit();
    }).observe(document, {childList: true, subtree: true});
"""


def browse(folder: Path) -> dict[str, float]:
    """Open the portal from its file and search in it; milliseconds and bytes."""
    from playwright.sync_api import sync_playwright

    from tests.browser import OPTIONS, PROGRAM

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        before: list[str] = []
        page.expose_function("atFirstHit", lambda: before.extend(asked))
        page.add_init_script(FIRST_HIT)
        page.goto((folder / "index.html").as_uri())
        page.wait_for_selector("#hits[aria-busy=false]", state="attached", timeout=60_000)
        first, whole = page.evaluate("[window.firstHit, performance.now()]")
        loaded = sum(map(_size, asked))
        clock = time.perf_counter()
        page.fill("#query", "grain boundaries")
        page.wait_for_selector("#hits mark")
        first_text = time.perf_counter() - clock
        page.wait_for_selector("#hits[aria-busy=false]", state="attached", timeout=60_000)
        all_text = time.perf_counter() - clock
        page.fill("#query", "200 kV")
        page.wait_for_selector("#hits[aria-busy=false]", state="attached", timeout=60_000)
        typed = {f"“{text}”, ms": _keystroke(page, text) for text in QUERIES}
        browser.close()
    return {
        "loaded before the first result, MB": sum(map(_size, before)) / 1e6,
        "first result after opening, s": first / 1000,
        "loaded without a search, MB": loaded / 1e6,
        "all counts, s": whole / 1000,
        "first result of a text, s": first_text,
        "all results of a text, s": all_text,
        **typed,
        "median keystroke, ms": median(typed.values()),
        "slowest keystroke, ms": max(typed.values()),
    }


def _keystroke(page: Any, text: str) -> float:
    """Milliseconds of the main thread from the event of a key to the end of layout and style."""
    page.fill("#query", "")
    spent: float = page.evaluate(
        """(text) => {
            const query = document.getElementById("query");
            query.value = text;
            const clock = performance.now();
            query.dispatchEvent(new Event("input"));
            document.getElementById("hits").getBoundingClientRect();
            return performance.now() - clock;
        }""",
        text,
    )
    return spent


def _size(address: str) -> int:
    from urllib.parse import unquote, urlsplit

    path = Path(unquote(urlsplit(address).path))
    return path.stat().st_size if path.is_file() else 0


def main(arguments: list[str] | None = None) -> int:
    """Build, browse, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.portal", description=__doc__)
    parser.add_argument("--sessions", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, help="keep the portal here")
    parser.add_argument("--browse", action="store_true", help="the portal is there: do not build it")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="nexuslims-benchmark-") as scratch:
        folder = options.folder or Path(scratch)
        built = {} if options.browse else build(folder, options.sessions)
        for what, figure in {**built, **browse(folder)}.items():
            print(f"{what:45} {figure:10.4g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
