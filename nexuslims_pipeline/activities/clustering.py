"""Where one acquisition activity ends and the next begins, told from the times of the files alone.

The times are smoothed to a density; activities are its humps and the boundaries its minima. The width of the
smoothing is not chosen by hand: it is the one under which every file is best foretold by all the others.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

from nexuslims_pipeline.activities.model import Activity, Clustering

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Indices: TypeAlias = NDArray[np.intp]

CANDIDATES = 35
"""Bandwidths that are tried."""
GRID_POINTS_PER_FILE = 10
PLOT_POINTS = 2000

EVEN_RATIO = 1.1
"""Longest over shortest gap up to which a series counts as evenly spaced: no pause stands out of it."""
PLATEAU = 1e-7
"""Log-densities that differ by less are equal; an even series ripples by 1e-8, rounding by less than 1e-9."""
LATEST = 1e18
"""Seconds either side of 1970 that are told apart: beyond any clock, and the square still fits a float."""
SHORTEST = 1e-9
"""Seconds; file systems know nothing shorter."""
NARROWEST, WIDEST = 1e-15, 1e6
"""Bandwidths in spans of the session: below, floats cannot resolve them; above, the density is flat."""

REACH = 9.0
"""Bandwidths; a kernel that far away is exp(-40)."""
TERMS = 18
"""Of the Chebyshev series of a kernel over a cell at most two bandwidths wide; leaves out less than 1e-13."""

THIN_ABOVE = 10_000
"""Grid points above which the search for minima starts on a part of them."""
FEW = 32
"""Files in reach up to which adding up their kernels beats the fast Gauss transform."""
SHOULDERS = 3.0
"""Bandwidths around a file within which the density is looked at; one would do, three make a good picture."""
LEAST = -700.0
"""Exponents below count as this, next to one that is 0: the numbers they give are too small to be quick."""
SMALL = 200
"""Files of which all pairs are looked at."""
PAIRS_AT_ONCE = 400_000
"""Files times grid points for which one tree serves."""
BLOCK = 200
"""Grid points for which a density is fitted."""


def cluster(times: Sequence[float], *, sensitivity: float = 1.0, minimum_gap: float = 0.0) -> Clustering:
    """Find the boundaries between activities.

    Of 35 bandwidths, spaced logarithmically from the shortest to the longest gap between files, the one with
    the highest leave-one-out likelihood is taken and divided by `sensitivity`. The boundaries are the minima
    of the Gaussian kernel density on a grid of ten points per file. Files of the same time count once.

    Parameters
    ----------
    times
        Modification times in seconds since 1970, in any order.
    sensitivity
        Above 1 splits more, below 1 less; 0 keeps all files in one activity.
    minimum_gap
        Seconds; files that follow each other more closely are never parted.

    Returns
    -------
    Clustering
        With at most one boundary in each gap between files, and none in an even series, whose longest gap
        exceeds the shortest by a tenth or less.

    Raises
    ------
    ValueError
        If a time is not finite, or `sensitivity` or `minimum_gap` is negative or not a number.
    """
    import numpy as np

    if not (sensitivity >= 0 and minimum_gap >= 0):
        raise ValueError("sensitivity and minimum gap must not be negative")
    moments = np.unique(np.asarray(times, dtype=np.float64))
    if not np.isfinite(moments).all():
        raise ValueError("times must be finite")
    moments = np.unique(moments.clip(-LATEST, LATEST))
    if sensitivity == 0 or moments.size < 2:
        return Clustering(boundaries=(), bandwidth=None)

    # Seconds since the first file keep the digits that seconds since 1970 lose in a square.
    elapsed = np.unique(moments - moments[0])
    span = float(elapsed[-1])
    gaps = np.diff(elapsed)
    if span < SHORTEST or gaps.max() <= EVEN_RATIO * gaps.min():
        return Clustering(boundaries=(), bandwidth=None)

    shortest = max(float(gaps.min()), NARROWEST * span)
    candidates = np.logspace(math.log10(shortest), math.log10(gaps.max()), CANDIDATES)
    scores = leave_one_out_scores(elapsed, candidates)
    bandwidth = float(candidates[np.argmax(scores)]) / sensitivity
    bandwidth = min(max(bandwidth, NARROWEST * span), WIDEST * span)

    minima, grid, log_density = _density_minima(elapsed, bandwidth)
    thinned = slice(None, None, math.ceil(grid.size / PLOT_POINTS))
    return Clustering(
        boundaries=_one_per_gap(moments[0] + minima, moments, minimum_gap),
        bandwidth=bandwidth,
        candidates=tuple(candidates.tolist()),
        scores=tuple(scores.tolist()),
        grid=tuple((moments[0] + grid[thinned]).tolist()),
        log_density=tuple(log_density[thinned].tolist()),
    )


def split(files: Sequence[tuple[str, int]], clustering: Clustering) -> tuple[Activity, ...]:
    """Sort files into activities.

    Parameters
    ----------
    files
        Location and modification time in nanoseconds since 1970, in any order.
    clustering
        Of the same times, each divided by 1e9.

    Returns
    -------
    tuple of Activity
        In order of time and without empty ones; every file is in exactly one.
    """

    def number(file: tuple[str, int]) -> int:
        return bisect_left(clustering.boundaries, file[1] / 1e9)

    in_order = sorted(files, key=lambda file: (file[1], file[0]))
    members = [list(group) for _, group in groupby(in_order, key=number)]
    return tuple(
        Activity(start_ns=group[0][1], end_ns=group[-1][1], locations=tuple(location for location, _ in group))
        for group in members
    )


def leave_one_out_scores(times: "Floats", bandwidths: "Floats") -> "Floats":
    r"""Mean log-likelihood of every time under the kernel density of all the others.

    .. math:: S(h) = \frac1N \sum_i \log \sum_{j \ne i} \frac{e^{-(t_i - t_j)^2/2h^2}}{(N-1) h \sqrt{2\pi}}

    Parameters
    ----------
    times
        Shape (N,), N > 1, rising strictly.
    bandwidths
        Shape (M,), in the unit of `times`.

    Returns
    -------
    ndarray
        Shape (M,). What leave-one-out cross-validation of a fitted density gives, in its closed form.

    Notes
    -----
    The double sum has N² kernels; the cost here is a multiple of N. A time with few others in reach, or further
    than h from the nearest, adds up their kernels one by one. The rest is crowded: its sums are at least
    exp(-1/2), so the absolute error of a fast Gauss transform is good enough for their logarithms.
    The scores differ from those of the plain double sum by less than 1e-12 of their size.
    """
    import numpy as np

    gaps = np.diff(times)
    nearest = np.minimum(np.append(gaps, np.inf), np.insert(gaps, 0, np.inf))
    if times.size <= SMALL:
        return _scores_of_all_pairs(times, nearest, bandwidths)

    def score(bandwidth: float) -> float:
        first, last = _in_reach(times, nearest, times, bandwidth)
        is_crowded = (nearest <= bandwidth) & (last - first > FEW)
        crowded, sparse = np.flatnonzero(is_crowded), np.flatnonzero(~is_crowded)
        log_sums = np.empty_like(times)
        if sparse.size:
            log_sums[sparse] = _sparse_log_sums(times, nearest, sparse, bandwidth)
        if crowded.size:
            log_sums[crowded] = np.log(_gauss_transform(times, crowded, bandwidth) - 1)  # less its own kernel
        return float(log_sums.mean()) - math.log((times.size - 1) * bandwidth * math.sqrt(2 * math.pi))

    return np.array([score(float(bandwidth)) for bandwidth in bandwidths])


def _scores_of_all_pairs(times: "Floats", nearest: "Floats", bandwidths: "Floats") -> "Floats":
    """The double sum as it stands: for few times, quicker than being clever."""
    import numpy as np

    distance, near = np.abs(times[:, None] - times), nearest[:, None]
    further = (near - distance) * (near + distance) / 2
    np.fill_diagonal(further, -np.inf)
    closest = nearest**2 / 2
    mean_log_sums = [
        (np.log(np.exp(np.maximum(further / bandwidth**2, LEAST)).sum(axis=1)) - closest / bandwidth**2).mean()
        for bandwidth in bandwidths
    ]
    return np.asarray(mean_log_sums) - np.log((times.size - 1) * bandwidths * math.sqrt(2 * math.pi))


def _sparse_log_sums(times: "Floats", nearest: "Floats", sparse: "Indices", bandwidth: float) -> "Floats":
    """Log of the sum of all other kernels at the times of index `sparse`.

    Times that are further than a bandwidth from each other are each in reach of a few dozen others on average,
    however many files there are.
    """
    import numpy as np

    centre, closest = times[sparse], nearest[sparse]
    first, last = _in_reach(centre, closest, times, bandwidth)
    count = last - first
    start = np.cumsum(count) - count
    other = np.arange(count.sum()) + np.repeat(first - start, count)

    distance = np.abs(times[other] - np.repeat(centre, count))
    closest_of_pair = np.repeat(closest, count)
    exponent = (closest_of_pair - distance) * (closest_of_pair + distance) / (2 * bandwidth**2)
    exponent[distance == 0] = -np.inf  # itself
    return np.asarray(np.log(np.add.reduceat(np.exp(exponent), start)) - closest**2 / (2 * bandwidth**2))


def _in_reach(moments: "Floats", nearest: "Floats", times: "Floats", bandwidth: float) -> tuple["Indices", "Indices"]:
    """First and last (exclusive) file that counts at each moment, given the distance to the nearest file.

    All others have a kernel smaller than the nearest one's by exp(-40).
    """
    import numpy as np

    rounding = 4 * np.spacing(times[-1])
    reach = np.hypot(nearest, REACH * bandwidth) + rounding
    return np.searchsorted(times, moments - reach), np.searchsorted(times, moments + reach, side="right")


def _gauss_transform(times: "Floats", crowded: "Indices", bandwidth: float) -> "Floats":
    """Sum of all kernels, each 1 at its own time, at the times of index `crowded`.

    Time is cut into cells. Between two cells the kernel is a double Chebyshev series, so that each time
    enters and leaves by its `TERMS` polynomials and only cells in reach of each other have to meet: the fast
    Gauss transform [1]_ with the series of [2]_.

    References
    ----------
    .. [1] L. Greengard and J. Strain, SIAM J. Sci. Stat. Comput. 12 (1991) 79.
    .. [2] W. Fong and E. Darve, J. Comput. Phys. 228 (2009) 8712.
    """
    import numpy as np
    from numpy.polynomial.chebyshev import chebpts1, chebvander

    width = 2.0 ** math.ceil(math.log2(bandwidth))  # a power of two divides without rounding
    position = times / width
    cell = np.floor(position)
    polynomials = chebvander(2 * (position - cell) - 1, TERMS - 1)
    first = np.flatnonzero(np.diff(cell, prepend=-1.0))
    source_cells, sources = cell[first], np.add.reduceat(polynomials, first)
    is_new = np.diff(cell[crowded], prepend=-1.0) > 0
    target_cells, target = cell[crowded[is_new]], np.cumsum(is_new) - 1

    nodes = chebpts1(TERMS)
    to_series = chebvander(nodes, TERMS - 1).T * (2 / TERMS)
    to_series[0] /= 2
    field = np.zeros((target_cells.size, TERMS))
    furthest = math.ceil(REACH * bandwidth / width)
    for offset in range(-furthest, furthest + 1):
        there = np.searchsorted(source_cells, target_cells + offset).clip(max=source_cells.size - 1)
        occupied = np.flatnonzero(source_cells[there] == target_cells + offset)
        distance = ((nodes[:, None] - nodes) / 2 - offset) * (width / bandwidth)
        series = to_series @ np.exp(-(distance**2) / 2) @ to_series.T
        field[occupied] += sources[there[occupied]] @ series.T
    return np.asarray(np.einsum("ij,ij->i", polynomials[crowded], field[target]))


def _density_minima(times: "Floats", bandwidth: float) -> tuple["Floats", "Floats", "Floats"]:
    """Grid points where the density is least, then the grid that was looked at and the log-density on it.

    The grid has ten points per file from the first to the last. Where it is long, the search takes only every
    2^k-th point, no coarser than an eighth of the bandwidth, and then halves its way to each minimum.
    """
    import numpy as np
    from scipy.signal import find_peaks

    whole_grid = np.linspace(0, times[-1], GRID_POINTS_PER_FILE * times.size)
    steps = min(bandwidth, times[-1]) / 8 / whole_grid[1]
    stride = 2 ** int(math.log2(steps)) if whole_grid.size > THIN_ABOVE and steps > 1 else 1
    chosen = np.arange(0, whole_grid.size, stride)
    chosen = chosen[_may_hold_minimum(whole_grid[chosen], times, bandwidth)]
    grid = whole_grid[chosen]
    log_density = _log_density(grid, times, bandwidth)

    # The middle of a plateau is its one minimum; ripples count as a plateau.
    valleys, _ = find_peaks(-log_density, prominence=PLATEAU)
    minima = chosen[valleys]
    while stride > 1:
        stride //= 2
        around = minima[:, None] + stride * np.array([-1, 0, 1])
        depth = _log_density(whole_grid[around.ravel()], times, bandwidth).reshape(around.shape)
        minima = around[np.arange(minima.size), depth.argmin(axis=1)]
    return whole_grid[minima], grid, log_density


def _log_density(moments: "Floats", times: "Floats", bandwidth: float) -> "Floats":
    """Log of the kernel density of `times` at rising `moments`, by scikit-learn.

    The trees have one leaf: over several, scikit-learn subtracts bounds from each other, which leaves no
    valid digit where the density is low (logarithms are off by up to 0.7 with version 1.9), and the minima
    lie there. So that this does not cost every pair, each block gets a tree of the files in its reach.
    """
    import numpy as np
    from sklearn.neighbors import KernelDensity

    after = np.searchsorted(times, moments).clip(1, times.size - 1)
    nearest = np.minimum(np.abs(moments - times[after - 1]), np.abs(times[after] - moments))
    first, last = _in_reach(moments, nearest, times, bandwidth)
    log_density = np.empty_like(moments)
    length = max(BLOCK, PAIRS_AT_ONCE // times.size)
    for start in range(0, moments.size, length):
        block = slice(start, start + length)
        near = times[first[block].min() : last[block].max(), None]
        density = KernelDensity(kernel="gaussian", bandwidth=bandwidth, leaf_size=len(near)).fit(near)
        log_density[block] = density.score_samples(moments[block, None]) + math.log(len(near) / times.size)
    return log_density


def _may_hold_minimum(grid: "Floats", times: "Floats", bandwidth: float) -> "NDArray[np.bool_]":
    """Which grid points to look at: on the others, the density falls to the middle of a gap or rises from it.

    At the distances u < v from the two ends of a gap g, both more than h, the near end alone pulls the
    density down by u exp(-u²/2h²), and all N files behind the far end push it up by no more than
    N v exp(-v²/2h²). The fall wins wherever the middle is further than h² log(N g/h) / g.
    """
    import numpy as np

    after = np.searchsorted(times, grid, side="right").clip(1, times.size - 1)
    to_left, to_right = grid - times[after - 1], times[after] - grid
    gap = times[after] - times[after - 1]
    doubtful = bandwidth**2 * np.log(times.size * np.maximum(gap / bandwidth, 1)) / gap
    margin = 2 * (grid[1] - grid[0])
    near_file = np.minimum(to_left, to_right) <= SHOULDERS * bandwidth
    near_middle = np.abs(to_left - to_right) / 2 <= doubtful + margin
    is_new = np.diff(after, prepend=0, append=times.size) != 0
    end_of_gap = is_new[:-1] | is_new[1:]
    return np.asarray(near_file | near_middle | end_of_gap)


def _one_per_gap(boundaries: "Floats", times: "Floats", minimum_gap: float) -> tuple[float, ...]:
    """First boundary of each gap between files that lasts at least `minimum_gap`."""
    import numpy as np

    files_before, first = np.unique(np.searchsorted(times, boundaries, side="right"), return_index=True)
    parting = (files_before > 0) & (files_before < times.size)
    files_before, first = files_before[parting], first[parting]
    long_enough = times[files_before] - times[files_before - 1] >= minimum_gap
    return tuple(boundaries[first[long_enough]].tolist())
