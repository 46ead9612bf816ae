"""The moving ball: it stays in the box, keeps its speed, is reflected as a mirror does, and is reproducible."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chargen.tasks.forecasting.ball import MAX_SPEED, MIN_SPEED, ball_paths, ball_table, fold


@given(st.floats(0, 1), st.floats(-0.09, 0.09), st.integers(1, 200))
def test_a_folded_path_is_the_one_of_a_ball_that_is_moved_step_by_step(
    start: float, velocity: float, frames: int
) -> None:
    position, expected = start, []
    for _ in range(frames):
        expected.append(position)
        position += velocity
        if not 0 <= position <= 1:  # the part of the step behind the wall is walked back from it
            position = -position if position < 0 else 2 - position
            velocity = -velocity
    # The velocity was changed by the walls; its first sign is one of the two.
    speed = abs(velocity)
    direct = [fold(np.array(start + s * speed * np.arange(frames))) for s in (1, -1)]
    assert any(np.allclose(path, expected, atol=1e-9) for path in direct)


def test_balls_stay_in_the_box_and_keep_their_speed_between_walls() -> None:
    paths = ball_paths(200, 60, np.random.default_rng(0))
    assert paths.shape == (200, 60, 2) and paths.min() >= 0 and paths.max() <= 1
    steps = np.diff(paths, axis=1)
    speeds = np.hypot(*np.moveaxis(steps, 2, 0))
    top = speeds.max(axis=1)
    assert (top >= MIN_SPEED - 1e-12).all() and (top <= MAX_SPEED + 1e-12).all()
    # A step is shorter only if it contains a reflection, near a wall.
    is_bounce = speeds < top[:, None] - 1e-9
    near = np.minimum(paths, 1 - paths).min(axis=2)
    near_step = np.minimum(near[:, :-1], near[:, 1:])
    assert is_bounce.any() and (near_step[is_bounce] <= MAX_SPEED).all()


def test_the_angle_of_reflection_is_the_angle_of_incidence() -> None:
    steps = np.diff(ball_paths(100, 60, np.random.default_rng(1)), axis=1)
    for step in np.abs(steps):  # each component of the velocity keeps its size; a wall changes one sign
        for axis in (0, 1):
            size = step[:, axis].max()
            is_free = step[:, axis] > size - 1e-9
            assert is_free.mean() > 0.7 and np.allclose(step[is_free, axis], size)


def test_a_seed_gives_the_same_balls_and_more_frames_continue_them() -> None:
    few, many = (ball_paths(5, frames, np.random.default_rng(3)) for frames in (10, 30))
    assert np.array_equal(few, many[:, :10])
    assert not np.array_equal(few, ball_paths(5, 10, np.random.default_rng(4)))


def test_the_table_has_a_row_for_each_frame() -> None:
    lines = "".join(ball_table(ball_paths(3, 4, np.random.default_rng(0)))).splitlines()
    assert lines[0] == "ball,frame,x,y" and len(lines) == 13
    assert [line.split(",")[:2] for line in lines[1:6]] == [["0", "0"], ["0", "1"], ["0", "2"], ["0", "3"], ["1", "0"]]
