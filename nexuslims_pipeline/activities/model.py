"""Activities of a session and how the split came about."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clustering:
    """Boundaries between activities, with the numbers that explain them.

    All times are seconds since 1970.
    """

    boundaries: tuple[float, ...]
    """Sorted; a file belongs to the first boundary that is not before its time, the rest to the last activity."""
    bandwidth: float | None
    """Standard deviation of the Gaussian kernel in seconds, after the sensitivity; None when no density was needed."""
    candidates: tuple[float, ...] = ()
    """Bandwidths that were tried, in seconds."""
    scores: tuple[float, ...] = ()
    """Mean leave-one-out log-likelihood of each candidate."""
    grid: tuple[float, ...] = ()
    """Times at which the density was evaluated (thinned to at most 2000 points), for the plot."""
    log_density: tuple[float, ...] = ()
    """Log-density on `grid`."""


@dataclass(frozen=True, slots=True)
class Activity:
    """Files taken in one go."""

    start_ns: int
    """Time of the first file, nanoseconds since 1970."""
    end_ns: int
    """Time of the last file."""
    locations: tuple[str, ...]
    """The files, ordered by time, then name."""
