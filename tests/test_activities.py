"""Splitting the files of a session into acquisition activities."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from sklearn.model_selection import GridSearchCV, LeaveOneOut
from sklearn.neighbors import KernelDensity

from nexuslims_pipeline.activities.clustering import cluster, leave_one_out_scores, split
from nexuslims_pipeline.activities.model import Clustering

START = 1_772_442_000.0
HOUR = 3600.0

moments = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=25)
mtimes_ns = st.lists(st.integers(0, 10**7).map(lambda ms: 1_772_442_000 * 10**9 + ms * 10**6), max_size=40)


def bursts(count: int, size: int, pause: float = 600.0, seed: int = 0) -> np.ndarray:
    """Files about 8 s apart, with a pause after every `size` of them."""
    random = np.random.default_rng(seed)
    gaps = random.lognormal(np.log(8), 0.7, count * size)
    gaps[::size] += pause * random.lognormal(0, 0.3, count)
    return np.cumsum(gaps)


def rule_bandwidth(times: np.ndarray) -> float:
    """The bandwidth by an actual grid search with one fit for each file left out."""
    gaps = np.diff(times)
    candidates = np.logspace(np.log10(gaps.min()), np.log10(gaps.max()), 35)
    search = GridSearchCV(
        KernelDensity(kernel="gaussian"), {"bandwidth": candidates}, cv=LeaveOneOut(), n_jobs=1, refit=False
    )
    return search.fit(times[:, None]).best_params_["bandwidth"]


def rule_boundaries(times: np.ndarray, bandwidth: float) -> list[float]:
    """Strict minima of the density on the whole grid."""
    grid = np.linspace(times[0], times[-1], 10 * times.size)
    parts = [logsumexp(-(((part[:, None] - times) / bandwidth) ** 2) / 2, axis=1) for part in np.split(grid, 10)]
    density = np.concatenate(parts)
    return grid[1:-1][(density[1:-1] < density[:-2]) & (density[1:-1] < density[2:])].tolist()


def plain_scores(times: np.ndarray, bandwidths: np.ndarray) -> np.ndarray:
    """The double sum as it stands."""
    squares = (times[:, None] - times) ** 2
    np.fill_diagonal(squares, np.inf)
    log_sums = np.array([logsumexp(-squares / (2 * h * h), axis=1).mean() for h in bandwidths])
    return log_sums - np.log((times.size - 1) * bandwidths * math.sqrt(2 * math.pi))


def group_sizes(times: np.ndarray, clustering: Clustering) -> list[int]:
    files = [(f"/{index:06}", round(time * 1e9)) for index, time in enumerate(times)]
    return [len(activity.locations) for activity in split(files, clustering)]


# The rule


@pytest.mark.parametrize("size, seed", [(3, 1), (5, 2), (10, 3)])
def test_same_bandwidth_and_boundaries_as_the_grid_search_of_scikit_learn(size, seed):
    times = bursts(3, size, seed=seed)
    times -= times[0]
    bandwidth = rule_bandwidth(times)
    density = KernelDensity(kernel="gaussian", bandwidth=bandwidth).fit(times[:, None])
    grid = np.linspace(times[0], times[-1], 10 * times.size)
    values = density.score_samples(grid[:, None])
    expected = grid[1:-1][(values[1:-1] < values[:-2]) & (values[1:-1] < values[2:])]

    result = cluster(times)

    assert expected.size
    assert result.bandwidth == pytest.approx(bandwidth, rel=1e-12)
    np.testing.assert_allclose(result.boundaries, expected, rtol=1e-12)


@pytest.mark.parametrize("spread", [0.3, 1, 3])
@pytest.mark.parametrize("count", [6, 60, 1100])
def test_fast_sums_and_the_partial_grid_give_what_the_plain_ones_give(count, spread):
    times = np.cumsum(np.random.default_rng(count).lognormal(0, spread, count))
    times -= times[0]
    gaps = np.diff(times)
    candidates = np.logspace(np.log10(gaps.min()), np.log10(gaps.max()), 35)
    scores = plain_scores(times, candidates)

    result = cluster(times)

    np.testing.assert_allclose(result.scores, scores, rtol=1e-12)
    assert result.bandwidth == pytest.approx(candidates[scores.argmax()], rel=1e-12)
    np.testing.assert_allclose(result.boundaries, rule_boundaries(times, result.bandwidth), rtol=1e-12)


@pytest.mark.parametrize("bandwidth", [1e-6, 1e-3, 0.1, 3.0, 1e3, 1e6])
def test_scores_are_exact_for_a_crowd_next_to_lonely_files(bandwidth):
    random = np.random.default_rng(0)
    crowd, lonely = random.normal(0, 0.5, 1000), np.cumsum(random.pareto(0.5, 300).clip(0, 1e6))
    times = np.unique(np.concatenate([crowd, lonely]))
    times -= times[0]

    score = leave_one_out_scores(times, np.array([bandwidth]))

    np.testing.assert_allclose(score, plain_scores(times, np.array([bandwidth])), rtol=1e-12)


def test_the_numbers_behind_the_split_are_kept():
    times = START + bursts(4, 25)
    result = cluster(times, sensitivity=2.0)

    best = result.candidates[int(np.argmax(result.scores))]
    assert len(result.candidates) == len(result.scores) == 35
    assert result.bandwidth == pytest.approx(best / 2)
    assert len(result.grid) == len(result.log_density) <= 2000
    assert times[0] <= result.grid[0] < result.grid[-1] <= times[-1]


# What a microscopist expects


@pytest.mark.parametrize("times", [[], [5.0], [5.0] * 8, [0.0, 4.0], [0.0, HOUR]])
def test_too_few_times_to_tell_activities_apart(times):
    assert cluster(times).boundaries == ()


@pytest.mark.parametrize("count", [10, 30, 300])
@pytest.mark.parametrize("jitter", [0.0, 1e-7, 1e-3])
@pytest.mark.parametrize("interval", [0.1, 1.0, 60.0])
def test_an_even_series_is_one_activity(count, jitter, interval):
    shifts = np.random.default_rng(count).uniform(-jitter, jitter, count)
    assert cluster(START + interval * np.arange(count) + shifts).boundaries == ()


def test_mirror_symmetric_bursts_an_hour_apart_are_two():
    burst = np.array([0.0, 7.0, 20.0, 33.0, 40.0])
    times = np.concatenate([burst, burst + HOUR])
    result = cluster(times)

    assert group_sizes(times, result) == [5, 5]
    assert result.boundaries[0] == pytest.approx((40 + HOUR) / 2, abs=HOUR / 50)


def test_bursts_of_unequal_size_an_hour_apart_are_two():
    times = START + np.array([0, 11, 19, 32, 45, *(HOUR + np.array([0, 9, 21, 30, 44, 52]))])
    assert group_sizes(times, cluster(times)) == [5, 6]


@pytest.mark.parametrize("resolution", [1.0, 2.0])
def test_coarse_file_systems_with_ties(resolution):
    fine = START + np.cumsum(np.where(np.arange(120) % 30 == 0, HOUR, 0.7))
    times = np.floor(fine / resolution) * resolution

    assert np.unique(times).size < times.size
    assert group_sizes(times, cluster(times, minimum_gap=60)) == [30, 30, 30, 30]


def test_minimum_gap_keeps_bursts_whole():
    times = START + bursts(10, 20)

    assert len(group_sizes(times, cluster(times))) > 10
    assert group_sizes(times, cluster(times, minimum_gap=180)) == [20] * 10


@pytest.mark.parametrize("count", [6, 60])
def test_sensitivity(count):
    times = START + bursts(count, 20)
    counts = [len(cluster(times, sensitivity=value).boundaries) for value in (0, 1e-6, 0.5, 1, 4)]

    assert counts[:2] == [0, 0]
    assert counts == sorted(counts)
    assert cluster(times, sensitivity=0) == Clustering(boundaries=(), bandwidth=None)


def test_ten_thousand_files_fall_into_their_bursts():
    times = START + bursts(100, 100, pause=7200)
    assert group_sizes(times, cluster(times, minimum_gap=900)) == [100] * 100


@pytest.mark.parametrize(
    "times, options",
    [
        ([1.0, math.nan], {}),
        ([1.0, math.inf], {}),
        ([1.0], {"sensitivity": -1.0}),
        ([1.0], {"sensitivity": math.nan}),
        ([1.0], {"minimum_gap": -1.0}),
        ([1.0], {"minimum_gap": math.nan}),
    ],
)
def test_meaningless_input_is_refused(times, options):
    with pytest.raises(ValueError, match="must"):
        cluster(times, **options)


# What holds for any input


@settings(max_examples=150, deadline=None)
@given(moments, st.floats(0, allow_infinity=False), st.floats(0))
@pytest.mark.filterwarnings("error")
def test_any_finite_input_gives_finite_numbers(times, sensitivity, minimum_gap):
    result = cluster(times, sensitivity=sensitivity, minimum_gap=minimum_gap)

    numbers = (*result.boundaries, *result.candidates, *result.scores, *result.grid, *result.log_density)
    assert np.isfinite(numbers).all()
    assert result.bandwidth is None or 0 < result.bandwidth < math.inf


@settings(max_examples=60, deadline=None)
@given(mtimes_ns, st.sampled_from([0.5, 1.0, 5.0]), st.sampled_from([0.0, 60.0]), st.randoms())
def test_a_split_is_a_partition_in_order_of_time(mtimes, sensitivity, minimum_gap, random):
    files = [(f"/{index}", mtime) for index, mtime in enumerate(mtimes)]
    clustering = cluster([mtime / 1e9 for mtime in mtimes], sensitivity=sensitivity, minimum_gap=minimum_gap)
    activities = split(files, clustering)

    assert [location for activity in activities for location in activity.locations] == [
        location for location, _ in sorted(files, key=lambda file: (file[1], file[0]))
    ]
    assert all(activity.start_ns <= activity.end_ns for activity in activities)
    for before, after in itertools.pairwise(activities):
        assert after.start_ns > before.end_ns
        assert (after.start_ns - before.end_ns) / 1e9 >= minimum_gap - 1e-6
    assert len(activities) == (len(clustering.boundaries) + 1 if files else 0)

    shuffled = random.sample(files, len(files))
    again = cluster([mtime / 1e9 for _, mtime in shuffled], sensitivity=sensitivity, minimum_gap=minimum_gap)
    assert again == clustering
    assert split(shuffled, again) == activities


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**6), max_size=40), st.integers(-(2**31), 2**31))
def test_shifting_the_times_shifts_the_boundaries(seconds, shift):
    here, there = cluster(seconds), cluster([second + shift for second in seconds])

    assert there.scores == here.scores
    assert there.bandwidth == here.bandwidth
    np.testing.assert_allclose(np.array(there.boundaries) - shift, here.boundaries, rtol=0, atol=1e-6)


def test_a_file_at_a_boundary_belongs_to_the_activity_that_ends_there():
    clustering = Clustering(boundaries=(10.0, 15.0, 20.0), bandwidth=1.0)
    files = [("/d", 20 * 10**9 + 1000), ("/b", 10 * 10**9), ("/a", 10 * 10**9), ("/c", 20 * 10**9)]

    assert [activity.locations for activity in split(files, clustering)] == [("/a", "/b"), ("/c",), ("/d",)]
