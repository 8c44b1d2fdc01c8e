"""Gymnasium's half-cheetah and ant, version 5: the world in which later work trains.

Its tasks have no goals. The directions and the velocities are those of Finn et al. 2017.
"""

from tinymaml.published.work import Published, Row, Work, part


ABSENT = "no paper"


def _row(option: str, value: object, source: str) -> Row:
    return Row(option, value, ABSENT, value, source)


GYMNASIUM = Work(
    name="gymnasium",
    title="Gymnasium",
    code="Farama-Foundation/Gymnasium @3f0476a",
    experiments={
        "locomotion": Published(
            ({},),  # for every algorithm and task
            (
                part(
                    _row("rules", "gymnasium", "half_cheetah_v5.py, ant_v5.py"),
                    _row("frame_skip", 5, "half_cheetah_v5.py, ant_v5.py"),
                    _row("velocity", "root", "half_cheetah_v5.py, ant_v5.py"),
                    _row("horizon", 1000, "envs/__init__.py, max_episode_steps"),
                ),
            ),
            notes=(
                "ProMP and RLlib have a horizon of 100 or 200 and a control cost of 0.05",
            ),
            missing=("the ant's contact forces are those of the new state here",),
        )
    },
    columns=("v5",),
)
