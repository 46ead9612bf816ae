"""Balls that move in a box and are reflected by its walls: a series whose next positions can be computed exactly.

A ball moves on a straight line with constant speed. At a wall, the part of its velocity that points at the wall
changes its sign. So each coordinate is that of a ball in an endless space, folded at the walls:

    u(t) = u(0) + v t        x(t) = | u(t) − 2 · round(u(t) / 2) |

    u   …   0 ───▶ 1 ───▶ 2 ───▶ 3   …
    x   …   0 ───▶ 1 ───▶ 0 ───▶ 1   …

One position says nothing of the velocity, so it takes at least two frames to know the next one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError

MIN_SPEED, MAX_SPEED = 0.02, 0.08  #: distance per frame, in sides of the box
MAX_POSITIONS = 10_000_000  #: limit of balls × frames: the file has 45 bytes for each
DIGITS = 6  #: decimals of a position in a file


def check_num_positions(num_balls: int, num_frames: int) -> None:
    """Check that a table of balls has a size that can be used.

    Raises:
        ConfigError: If it has more than MAX_POSITIONS rows.
    """
    if num_balls * num_frames > MAX_POSITIONS:
        raise ConfigError(
            f"{num_balls:,} balls × {num_frames:,} frames are {num_balls * num_frames:,} rows, but the limit is "
            f"{MAX_POSITIONS:,}",
            "Give fewer --balls or --frames.",
        )


def fold(unfolded: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the coordinates in [0, 1] of balls without walls."""
    folded: NDArray[np.float64] = np.abs(unfolded - 2 * np.round(unfolded / 2))
    return folded


def ball_paths(num_balls: int, num_frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the positions of balls with random starts, directions and speeds.

    Starts are uniform in the box, directions uniform, speeds uniform in [MIN_SPEED, MAX_SPEED] per frame.

    Args:
        num_balls: Number of balls.
        num_frames: Number of frames.
        rng: Random generator.

    Returns:
        [num_balls, num_frames, 2] the coordinates x and y in [0, 1].
    """
    start = rng.random((num_balls, 1, 2))
    direction = rng.uniform(0, 2 * np.pi, num_balls)
    speed = rng.uniform(MIN_SPEED, MAX_SPEED, num_balls)
    velocity = (speed * np.stack([np.cos(direction), np.sin(direction)])).T[:, None]
    return fold(start + velocity * np.arange(num_frames)[:, None])


def ball_table(paths: NDArray[np.float64]) -> Iterator[str]:
    """Yield paths as CSV with the columns ball, frame, x and y, one ball at a time."""
    yield "ball,frame,x,y\n"
    for number, path in enumerate(paths.tolist()):
        yield "".join(f"{number},{frame},{x:.{DIGITS}f},{y:.{DIGITS}f}\n" for frame, (x, y) in enumerate(path))
