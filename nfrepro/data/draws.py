"""Random numbers for each row of an epoch, independent of which other rows are drawn. No torch.

Rows are numbered through an epoch: row r of step s has number s * batch_size + r. Row n holds copy n % copies of the
image at position n // copies of the epoch's order.
"""

import numpy as np
from numpy.typing import NDArray

from nfrepro.seeding import stream_seed

# 64-bit numbers that Philox generates per value of its counter.
COUNTER_NUMBERS = 4


def uniform(stream: str, seed: int, epoch: int, copies: int, rows: range, count: int) -> NDArray[np.float64]:
    """`count` numbers in [0, 1) for each of `rows`: a function of stream, seed, epoch, position and copy."""
    positions = range(rows.start // copies, -(-rows.stop // copies))
    drawn = np.stack([_of_copy(stream_seed(stream, seed, epoch, copy), positions, count) for copy in range(copies)], 1)
    first = rows.start - positions.start * copies
    return drawn.reshape(len(positions) * copies, count)[first : first + len(rows)]


def _of_copy(key: int, positions: range, count: int) -> NDArray[np.float64]:
    counters = -(-count // COUNTER_NUMBERS)  # per position
    generator = np.random.Philox(key=key, counter=positions.start * counters)
    bits = generator.random_raw(len(positions) * counters * COUNTER_NUMBERS)
    values = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return values.reshape(len(positions), counters * COUNTER_NUMBERS)[:, :count]
