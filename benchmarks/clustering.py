"""Time of splitting a session into activities: `python -m benchmarks.clustering [--reference]`."""

import argparse
import time
from collections.abc import Callable

import numpy as np

from nexuslims_pipeline.activities.clustering import cluster

COUNTS = (100, 400, 10_000, 100_000)
REFERENCE_COUNT = 100


def bursts(count: int, size: int = 20) -> np.ndarray:
    """Times of files about 8 s apart, with a pause of about ten minutes after every `size` of them."""
    random = np.random.default_rng(0)
    gaps = random.lognormal(np.log(8), 0.7, count)
    gaps[::size] = random.lognormal(np.log(600), 0.6, gaps[::size].size)
    return 1_772_442_000 + np.cumsum(gaps)


def grid_search(times: np.ndarray) -> float:
    """Best bandwidth by scikit-learn, with one fit for each candidate and each file left out."""
    from sklearn.model_selection import GridSearchCV, LeaveOneOut
    from sklearn.neighbors import KernelDensity

    gaps = np.diff(times)
    candidates = np.logspace(np.log10(gaps.min()), np.log10(gaps.max()), 35)
    search = GridSearchCV(KernelDensity(), {"bandwidth": candidates}, cv=LeaveOneOut(), n_jobs=1, refit=False)
    return float(search.fit(times[:, None]).best_params_["bandwidth"])


def report(label: str, count: int, bandwidth: Callable[[np.ndarray], float | None]) -> None:
    """Print one line of the table."""
    times = bursts(count)
    start = time.perf_counter()
    result = bandwidth(times - times[0])
    print(f"{label:<20} {count:>8} {time.perf_counter() - start:>10.3f} {result or 0:>14.6g}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", action="store_true", help="also the grid search of scikit-learn (slow)")
    reference = parser.parse_args().reference

    cluster([0.0, 1.0, 5.0])  # imports
    print(f"{'method':<20} {'files':>8} {'seconds':>10} {'bandwidth / s':>14}")
    for count in COUNTS:
        report("closed form", count, lambda times: cluster(times).bandwidth)
    if reference:
        report("scikit-learn search", REFERENCE_COUNT, grid_search)


if __name__ == "__main__":
    main()
