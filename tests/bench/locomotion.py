"""The profile of one iteration of locomotion: simulation, mathematics and memory.

    python tests/bench/locomotion.py [--task TASK] [--rounds N] [--iterations N]

First, the world's steps against a bare loop over the same MuJoCo batch, in CPU microseconds
of a time step of one trajectory: medians of rounds that alternate. Second, CPU seconds of
the parts of an iteration with the default options, in one process. Third, the peak of the
process's memory.
"""

from __future__ import annotations

from tinymaml.speed import machine


machine.prepare_blas()

import argparse
import cProfile
import pstats
import resource
import sys
import time
from collections.abc import Callable

import numpy as np

from tinymaml.experiments.locomotion import Locomotion
from tinymaml.harness import policy_step
from tinymaml.harness.loop import initial_state
from tinymaml.rl import locomotion
from tinymaml.speed.workers import Here


GOALS, TRAJECTORIES, STEPS = 10, 20, 100
# Functions of an iteration by their names and files, without those inside another one.
PARTS = {
    "rollouts": ("act", "rollout.py"),
    "  simulation": ("step", "rl/locomotion.py"),
    "  observations": ("observe", "rl/locomotion.py"),
    "  advantages": ("advantages", "rollout.py"),
    "metric of the trust region": ("natural_step", "trpo.py"),
    "line search": ("search", "trpo.py"),
}


def rounds(task: str, count: int) -> tuple[float, float]:
    """Return CPU microseconds of a time step: of the world, and of MuJoCo alone."""
    world = locomotion.Locomotion(task)
    rng = np.random.default_rng(0)
    goals = np.array([world.draw(rng) for _ in range(GOALS)])
    actions = rng.standard_normal((STEPS, GOALS, TRAJECTORIES, world.actions), "float32")
    alive = np.ones((GOALS, TRAJECTORIES), bool)

    def timed(step: Callable[[locomotion.Simulations, np.ndarray], object]) -> float:
        rngs = [np.random.default_rng(i) for i in range(GOALS)]
        now = world.start(goals, TRAJECTORIES, rngs)
        start = time.process_time()
        for some in actions:
            step(now, some)
        return (time.process_time() - start) / actions[..., 0].size * 1e6

    def bare(now: locomotion.Simulations, some: np.ndarray) -> None:
        now.ctrl[:] = some.reshape(now.ctrl.shape)
        now.batch.step(stage=world.stage)

    whole = lambda now, some: world.step(now, goals, some, alive)  # noqa: E731
    found = [(timed(whole), timed(bare)) for _ in range(count + 1)][1:]
    ours, alone = np.median(found, axis=0)
    return float(ours), float(alone)


def profile(config: Locomotion, count: int) -> tuple[float, dict[str, float]]:
    """Return the CPU seconds of an iteration, the least of some, and of its parts."""
    state, seconds = initial_state(config), []
    for _ in range(count):
        start = time.process_time()
        state, _ = policy_step.iterate(config, state, Here())
        seconds.append(time.process_time() - start)
    watch = cProfile.Profile(time.process_time)
    watch.runcall(policy_step.iterate, config, state, Here())
    found = pstats.Stats(watch).stats.items()
    parts = {
        part: sum(x[3] for key, x in found if key[2] == name and key[0].endswith(file))
        for part, (name, file) in PARTS.items()
    }
    return min(seconds), parts


def main() -> int:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="cheetah-dir", choices=locomotion.TASKS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--iterations", type=int, default=3)
    asked = parser.parse_args()
    machine.keep_freed_memory()
    ours, alone = rounds(asked.task, asked.rounds)
    print(f"{asked.task}: a time step of one trajectory")
    print(f"  with rewards {ours:.1f} us, MuJoCo alone {alone:.1f} us: {alone / ours:.0%}")
    config = Locomotion(task=asked.task)
    seconds, parts = profile(config, asked.iterations)
    print(f"an iteration of {config.tasks} tasks: {seconds:.1f} CPU s; with a profiler:")
    for part, spent in parts.items():
        print(f"  {part:<28} {spent:.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process: {peak:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
