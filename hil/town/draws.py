"""Random numbers that need no state: the same key always gives the same draw.

Whatever order days and meters are asked for in, and whichever meters are
loaded, a customer's draw of a day stays the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Floats = NDArray[np.float64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)


def mix(words: Words) -> Words:
    """One SplitMix64 step (Steele, Lea, Flood 2014): 64 bits in, 64 well mixed bits out."""
    with np.errstate(over="ignore"):
        z = words + _STEP
        z = (z ^ (z >> np.uint64(30))) * _M1
        z = (z ^ (z >> np.uint64(27))) * _M2
        return z ^ (z >> np.uint64(31))


def keys(seeds: Words, purpose: int, day: int) -> Words:
    """One key per seed for one purpose on one day (days since 1970-01-01)."""
    with np.errstate(over="ignore"):
        salted = np.uint64(purpose) * _M1 + np.uint64(day) * _M2
        return mix(seeds ^ mix(np.atleast_1d(salted)))


def spread(key: Words, count: int) -> Words:
    """`count` words per key: shape [keys][count]."""
    with np.errstate(over="ignore"):
        return mix(key[:, None] + np.arange(count, dtype=np.uint64)[None, :] * _STEP)


def uniform(words: NDArray[Any]) -> Floats:
    """Words as numbers in (0, 1)."""
    return ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(words: NDArray[Any]) -> Floats:
    """Words as standard normal numbers (Box and Muller); each word makes one."""
    radius = np.sqrt(-2.0 * np.log(uniform(words)))
    return np.asarray(radius * np.cos(2.0 * np.pi * uniform(mix(words))))
