"""How the demo's files come about: each is made from its time and a seed for its noise."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

Maker: TypeAlias = Callable[[datetime, int], bytes]
"""Makes the content of a file from the time on the instrument's clock, with its zone, and a seed."""


def text(content: str) -> Maker:
    """Make a text file."""
    return lambda _time, _seed: content.encode()


def cut_off(maker: Maker, size: int = 1024) -> Maker:
    """Make the beginning of a file whose copying stopped after `size` bytes."""
    return lambda time, seed: maker(time, seed)[:size]
