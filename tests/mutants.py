"""Wrong programs, and the tests that reject them.

    python tests/mutants.py [NAME ...] [--write] [--jobs N]

Each mutation is a text replaced in a copy of the package; the tests of the modules that it
could touch run against the copy until one fails. With --write, the table goes to
tests/mutants.md. Exits 1 when a mutant survives.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple


ROOT = Path(__file__).resolve().parent.parent
TABLE = Path(__file__).with_name("mutants.md")


class Mutation(NamedTuple):
    """A wrong program: in `file`, `old` (which stands there once) becomes `new`."""

    name: str
    file: str
    old: str
    new: str
    tests: str


CHAIN_END = (
    "    for alpha_k, hvp_k in reversed(trail):\n        v = v - hvp_k(alpha_k * v)\n"
)
CORE = "test_maml.py test_laws.py"
GOLDEN = "harness/test_golden.py::test_every_case_gives_the_bytes_that_were_recorded"
RL = "rl/test_surrogates.py check/test_policy_gradients.py"
REPTILE = "algorithms/test_reptile.py"

MUTATIONS = [
    # ----- the chain -----
    Mutation("second-order term dropped", "maml.py", CHAIN_END, "", CORE),
    Mutation(
        "sign of the second-order term",
        "maml.py",
        CHAIN_END,
        CHAIN_END.replace("v - hvp", "v + hvp"),
        CORE,
    ),
    Mutation(
        "alpha * hvp(v) for hvp(alpha * v)",
        "maml.py",
        CHAIN_END,
        CHAIN_END.replace("hvp_k(alpha_k * v)", "alpha_k * hvp_k(v)"),
        CORE,
    ),
    Mutation(
        "chain in forward order",
        "maml.py",
        CHAIN_END,
        CHAIN_END.replace("reversed(trail)", "trail"),
        CORE,
    ),
    Mutation(
        "one step forgotten on the way back",
        "maml.py",
        CHAIN_END,
        CHAIN_END.replace("reversed(trail)", "reversed(trail[1:])"),
        CORE,
    ),
    Mutation(
        "Hessian at theta_{k+1}",
        "maml.py",
        "        trail.append((alpha_k, hvp_k))\n        theta = theta - alpha_k * g_k\n",
        "        theta = theta - alpha_k * g_k\n"
        "        hvp_k, _ = hvp_and_gradient(task.support(theta), theta)\n"
        "        trail.append((alpha_k, hvp_k))\n",
        CORE,
    ),
    Mutation(
        "half the second-order term",
        "maml.py",
        CHAIN_END,
        CHAIN_END.replace("v - hvp", "v - 0.5 * hvp"),
        CORE,
    ),
    Mutation(
        "Hessian of the query loss",
        "maml.py",
        "        hvp_k, g_k = hvp_and_gradient(task.support(theta), theta)\n",
        "        _, g_k = hvp_and_gradient(task.support(theta), theta)\n"
        "        hvp_k, _ = hvp_and_gradient(task.query(theta), theta)\n",
        CORE,
    ),
    Mutation(
        "low memory: every Hessian at theta_0",
        "maml.py",
        "hvp_k, _ = hvp_and_gradient(loss_k, theta_k)",
        "hvp_k, _ = hvp_and_gradient(loss_k, trail[0][2])",
        CORE,
    ),
    Mutation(
        "low memory: data drawn again on the way back",
        "maml.py",
        "hvp_k, _ = hvp_and_gradient(loss_k, theta_k)",
        "hvp_k, _ = hvp_and_gradient(task.support(theta_k), theta_k)",
        CORE,
    ),
    Mutation(
        "low memory: two graphs at a time",
        "maml.py",
        "        del hvp_k  # and its graph, before the next one is built\n",
        "",
        CORE,
    ),
    Mutation(
        "first order that is the plain gradient at theta_0",
        "maml.py",
        "    theta = adapt(theta, task, alpha, steps)\n    return value",
        "    return value",
        CORE,
    ),
    Mutation(
        "one inner step too many",
        "maml.py",
        "(steps, *theta.shape))",
        "(steps + 1, *theta.shape))",
        CORE,
    ),
    Mutation(
        "the last step size for every step",
        "maml.py",
        "    return np.broadcast_to(np.asarray(alpha, theta.dtype), (steps, *theta.shape))",
        "    a = np.broadcast_to(np.asarray(alpha, theta.dtype), (steps, *theta.shape))\n"
        "    return a[-1:].repeat(steps, 0) if steps else a",
        CORE,
    ),
    Mutation(
        "float64 step sizes",
        "maml.py",
        "np.asarray(alpha, theta.dtype)",
        "np.asarray(alpha, np.float64)",
        CORE,
    ),
    Mutation(
        "trace numbers reused across threads",
        "maml.py",
        "autograd.tracer.trace_stack = _UniqueTraces()",
        "pass",
        CORE,
    ),
    # ----- tasks and losses -----
    Mutation(
        "query data in the inner loop",
        "fewshot.py",
        "support = maker(loss, episode.x_support, episode.y_support)",
        "support = maker(loss, episode.x_query, episode.y_query)",
        "test_fewshot.py",
    ),
    Mutation(
        "batch statistics shared by support and query",
        "fewshot.py",
        "        return lambda _: lambda theta: loss(apply(theta, x), y)\n",
        "        both = np.concatenate([episode.x_support, episode.x_query], 1)\n"
        "        n = x.shape[1]\n"
        "        at = slice(0, n) if x is episode.x_support else slice(-n, None)\n"
        "        return lambda _: lambda theta: loss(apply(theta, both)[:, at], y)\n",
        "test_fewshot.py experiments/test_experiments.py",
    ),
    Mutation(
        "overlap of support and query",
        "fewshot.py",
        "query.append(drawings[shots:])",
        "query.append(drawings[:queries])",
        "test_fewshot.py",
    ),
    Mutation(
        "rotation drawn per drawing, not per class",
        "fewshot.py",
        "            drawings = np.rot90(drawings, rng.integers(4), axes=(1, 2))\n",
        "            turned = [np.rot90(d, rng.integers(4)) for d in drawings]\n"
        "            drawings = np.stack(turned)\n",
        "test_fewshot.py",
    ),
    Mutation(
        "a random stream that ignores the iteration",
        "fewshot.py",
        "key = (STREAMS.index(split), iteration, number)",
        "key = (STREAMS.index(split), 0, number)",
        "test_fewshot.py",
    ),
    Mutation(
        "sum for mean in the squared error",
        "losses.py",
        "(1.0 / (n * d))",
        "(1.0 / d)",
        "test_losses.py test_laws.py",
    ),
    Mutation(
        "sum for mean in the cross-entropy",
        "losses.py",
        "(-1.0 / (divisor or labels.shape[-1]))",
        "-1.0",
        "test_losses.py test_laws.py",
    ),
    Mutation(
        "a float64 scalar in a loss",
        "losses.py",
        "(-1.0 / (divisor or labels.shape[-1]))",
        "np.float64(-1.0 / (divisor or labels.shape[-1]))",
        "test_losses.py test_models.py test_ops.py",
    ),
    # ----- primitives -----
    Mutation(
        "adjoint of unfold shifted by one pixel",
        "ops.py",
        "return padded[..., top : top + h, left : left + w, :]",
        "return padded[..., top : top + h, : w, :]",
        "test_ops.py",
    ),
    Mutation(
        "adjoint of unfold with a border of its own",
        "ops.py",
        "padded[..., cols:, :] = 0",
        "padded[..., cols:, :] = 1",
        "test_ops.py",
    ),
    Mutation(
        "batch norm: rows' deviation a constant in the rule's rule",
        "ops.py",
        "_normalize(x, _value(centered), inverse_std(centered, eps))",
        "_normalize(x, centered, _value(inverse_std(centered, eps)))",
        "test_ops.py",
    ),
    Mutation(
        "convolution's last images left out",
        "ops.py",
        "for i in range(0, len(x), few):",
        "for i in range(0, len(x) - len(x) % few, few):",
        "test_ops.py",
    ),
    Mutation(
        "gradient by weights of the last images only",
        "ops.py",
        "w += _product(unfold.fun(x, kernel, 1).T, y.reshape(-1, y.shape[-1]))",
        "w[...] = _product(unfold.fun(x, kernel, 1).T, y.reshape(-1, y.shape[-1]))",
        "test_ops.py",
    ),
    Mutation(
        "relu'(0) = 1",
        "ops.py",
        "(x > 0).astype(x.dtype)",
        "(x >= 0).astype(x.dtype)",
        "test_ops.py",
    ),
    Mutation(
        "the odd pixel of padding first",
        "ops.py",
        "return outputs, pad // 2, pad - pad // 2",
        "return outputs, pad - pad // 2, pad // 2",
        "test_ops.py",
    ),
    Mutation(
        "batch norm: mean taken as a constant",
        "ops.py",
        "    out -= _row_mean(g)\n",
        "",
        "test_ops.py",
    ),
    Mutation(
        "batch norm: sign in the rule's rule",
        "ops.py",
        "u * (_row_mean(g * y) * -r) + g * (_row_mean(u * y) * -r)",
        "u * (_row_mean(g * y) * -r) - g * (_row_mean(u * y) * -r)",
        "test_ops.py",
    ),
    Mutation(
        "batch norm: second derivative without the deviation's",
        "ops.py",
        "lambda a, g, y, r: lambda u: sum_rows(u * a) / r,",
        "None,",
        "test_ops.py",
    ),
    Mutation(
        "unbiased variance in batch norm",
        "ops.py",
        "    return 1 / np.sqrt(_row_mean(centered * centered) + eps)",
        "    m = centered.shape[-2]\n"
        "    return 1 / np.sqrt(_row_mean(centered * centered) * m / (m - 1) + eps)",
        "test_ops.py",
    ),
    Mutation(
        "max-pooling to the last maximum",
        "ops.py",
        "return (b > a) | (b != b)",
        "return (b >= a) | (b != b)",
        "test_ops.py",
    ),
    Mutation(
        "max-pooling that loses a nan",
        "ops.py",
        "return (b > a) | (b != b)",
        "return b > a",
        "test_ops.py",
    ),
    Mutation(
        "max-pooling from the first image only",
        "ops.py",
        "starts = h * w * c * np.arange(prod(images.shape[:-3]))",
        "starts = 0 * np.arange(prod(images.shape[:-3]))",
        "test_ops.py",
    ),
    Mutation(
        "softmax gradient without its sum",
        "ops.py",
        "lambda g: g - anp.exp(y) * anp.sum(g, axis=-1, keepdims=True),",
        "lambda g: g - anp.exp(y) * g,",
        "test_ops.py",
    ),
    Mutation(
        "log-softmax that overflows",
        "ops.py",
        "shifted = logits - logits.max(-1, keepdims=True)",
        "shifted = logits",
        "test_ops.py",
    ),
    Mutation(
        "gradient pieces overwrite each other",
        "params.py",
        "_Pieces({**a, **b})",
        "_Pieces({**b})",
        "test_params.py",
    ),
    Mutation(
        "second derivatives handed to the wrong pieces",
        "params.py",
        "tuple(args[1][n - shapes_and_names] for n in argnums)",
        "tuple(args[1][i] for i, _ in enumerate(argnums))",
        "test_params.py",
    ),
    # ----- training -----
    Mutation(
        "Adam without bias correction",
        "optim.py",
        "unbiased_m = m / (1 - BETA1**iteration)",
        "unbiased_m = m",
        "test_optim.py",
    ),
    Mutation(
        "Adam's moments stale after a resume",
        "harness/checkpoints.py",
        'moments = Moments(arrays["m"], arrays["v"])',
        'moments = Moments(0 * arrays["m"], 0 * arrays["v"])',
        "harness/test_runs.py harness/test_loop.py",
    ),
    Mutation(
        "Adam's step count begins anew after a resume",
        "harness/step.py",
        "    args = state.theta, gradient, state.moments, number",
        "    calls = update.calls = getattr(update, 'calls', 0) + 1\n"
        "    args = state.theta, gradient, state.moments, calls",
        "harness/test_loop.py",
    ),
    Mutation(
        "metrics after the checkpoint kept on a resume",
        "harness/runs.py",
        'if r["iteration"] <= iteration',
        "if True",
        "harness/test_runs.py harness/test_loop.py",
    ),
    Mutation(
        "a gradient of another dtype taken",
        "harness/step.py",
        "    check_dtype(state.theta, gradient=means[1])\n",
        "",
        "harness/test_loop.py",
    ),
    Mutation(
        "a state of another dtype taken",
        "harness/loop.py",
        "                check_dtype(state.theta, theta=after.theta, m=m, v=v)\n",
        "",
        "harness/test_loop.py",
    ),
    Mutation(
        "a regressor's gradient converted to theta's dtype",
        "algorithms/averaged.py",
        "        check_dtype(state.theta, gradient=gradient)\n",
        "",
        "algorithms/test_averaged.py",
    ),
    Mutation(
        "TRPO's step converted to theta's dtype",
        "harness/policy_step.py",
        "    check_dtype(state.theta, gradient=gradient)"
        "  # the line search would convert its step\n",
        "",
        "rl/test_trpo.py",
    ),
    Mutation(
        "a checkpoint saved that is refused when read",
        "harness/checkpoints.py",
        "    for name, vector in vectors.items():\n",
        "    for name, vector in ():\n",
        "harness/test_runs.py",
    ),
    Mutation(
        "the pool's thread joined after a signal",
        "speed/workers.py",
        "        _kill_workers(others)\n        raise\n",
        "        _kill_workers(others)\n        pool.shutdown()\n        raise\n",
        "cli/test_main.py",
    ),
    Mutation(
        "Python's own exit after a signal",
        "__main__.py",
        "        _leave(stop.code)\n",
        "        raise\n",
        "cli/test_main.py",
    ),
    Mutation(
        "the average over tasks is a sum",
        "harness/step.py",
        "sum(parts) / config.tasks",
        "sum(parts)",
        "harness/test_loop.py experiments/test_experiments.py",
    ),
    Mutation(
        "chunks summed in reverse",
        "harness/step.py",
        "sum(parts) / config.tasks",
        "sum(reversed(parts)) / config.tasks",
        "harness/test_loop.py speed/test_workers.py harness/test_golden.py",
    ),
    Mutation(
        "an old run's best theta not found",
        "harness/runs.py",
        'BEST, PREVIOUS_BEST, THETA = "best.npz"',
        'BEST, PREVIOUS_BEST, THETA = "chosen.npz"',
        "harness/test_checkpoints.py harness/test_old_runs.py",
    ),
    Mutation(
        "every chunk computes the first tasks",
        "harness/step.py",
        'config.seed, "train", iteration, tasks)',
        'config.seed, "train", iteration, range(len(tasks)))',
        "harness/test_loop.py speed/test_workers.py experiments/test_experiments.py",
    ),
    Mutation(
        "chunks summed in the order in which they arrive",
        "speed/workers.py",
        "    return [*engine.map(partial(function, *fixed), chunks)]",
        "    from concurrent.futures import as_completed\n"
        "    futures = [engine.submit(function, *fixed, chunk) for chunk in chunks]\n"
        "    return [future.result() for future in as_completed(futures)]",
        "speed/test_engines.py",
    ),
    Mutation(
        "arrays at any address in Dask's workers",
        "speed/workers.py",
        "self.executor.submit(_unpickled, np.frombuffer(message, np.uint8))",
        "self.executor.submit(function, *args, **kwargs)",
        "speed/test_engines.py",
    ),
    Mutation(
        "a replay that keeps sums that later calls add into",
        "speed/replay.py",
        "        moved |= written\n",
        "        return moved\n",
        "speed/test_replay.py",
    ),
    Mutation(
        "a replay that keeps values of other inputs",
        "speed/replay.py",
        "if all(map(_same, known, rest))",
        "if known",
        "speed/test_replay.py",
    ),
    Mutation(
        "a replay that adds into its constants",
        "speed/replay.py",
        "if function.fun in ADDING_IN_PLACE and 1 not in names",
        "if not function and 1 not in names",
        "speed/test_replay.py",
    ),
    Mutation(
        "a replay that takes -0 for 0",
        "speed/replay.py",
        "np.array_equal(a, b) and np.array_equal(np.signbit(a), np.signbit(b))",
        "np.array_equal(a, b)",
        "speed/test_replay.py",
    ),
    Mutation(
        "a replay that keeps the first inputs",
        "speed/replay.py",
        "            call.parents[n] if n in call.parents else constant(arg)\n",
        "            call.parents[n]\n"
        "            if call.parents.get(n, 'x').startswith('v')\n"
        "            else constant(arg)\n",
        "speed/test_replay.py",
    ),
    Mutation(
        "checkpoints written in place",
        "harness/runs.py",
        '    beside = path.with_name(f"{TEMPORARY}{path.name}")\n',
        "    beside = path\n",
        "harness/test_runs.py",
    ),
    # ----- published settings -----
    Mutation(
        "the published inner rate on the mean loss",
        "experiments/images.py",
        'divisor=None if scale == "mean" else config.shots',
        "divisor=None",
        "published/test_presets.py",
    ),
    Mutation(
        "the query loss divided by its own number of shots",
        "experiments/images.py",
        'divisor=None if scale == "mean" else config.shots',
        'divisor=None if scale == "mean" else config.queries or config.shots',
        "published/test_presets.py",
    ),
    Mutation(
        "the gradient clipped by its norm",
        "optim.py",
        "return np.clip(gradient, -bound, bound)",
        "return gradient * min(1, bound / np.linalg.norm(gradient))",
        "test_optim.py harness/test_loop.py",
    ),
    Mutation(
        "the update clipped, not the gradient",
        "harness/step.py",
        "clip(gradient[:size], config.clip)",
        "gradient[:size]",
        "harness/test_loop.py",
    ),
    Mutation(
        "a preset wins over the command line",
        "experiments/common.py",
        "final)}\n        values |= given\n",
        "final)}\n            given |= preset\n        values |= given\n",
        "published/test_presets.py",
    ),
    Mutation(
        "a preset resolved anew by every copy",
        "experiments/common.py",
        'not in ("none", before.get("preset"))',
        '!= "none"',
        "published/test_presets.py",
    ),
    Mutation(
        "a published step size off by one digit",
        "published/finn2017.py",
        'Row("alpha", 0.01, "section 5.1", 1e-3,',
        'Row("alpha", 0.01, "section 5.1", 1e-4,',
        "published/test_presets.py",
    ),
    Mutation(
        "the paper's column for the code's",
        "published/presets.py",
        "row.option: row.values[n]",
        "row.option: row.paper",
        "published/test_presets.py",
    ),
    Mutation(
        "a preset that leaves MAML in place of its algorithm",
        "published/presets.py",
        "return next(iter(found)) if len(found) == 1 else None",
        "return None",
        "published/test_works.py",
    ),
    Mutation(
        "one of a preset's algorithms for all of them",
        "published/presets.py",
        "return next(iter(found)) if len(found) == 1 else None",
        "return min(found, default=None)",
        "published/test_works.py",
    ),
    Mutation(
        "the command of a preset has MAML's options",
        "cli/options.py",
        "        name = presets.algorithm(kind.name, preset)\n",
        "        del preset\n",
        "published/test_works.py",
    ),
    Mutation(
        "MAML's inner steps as our default beside MAML++",
        "cli/list.py",
        "    return usual | record.defaults({})\n",
        "    return usual\n",
        "published/test_works.py",
    ),
    Mutation(
        "the outer step size of mini-ImageNet's MAML++ falls to Omniglot's",
        "published/antoniou2019.py",
        'Row("schedule", "cosine", "section 4, CA", "constant", CONSTANT)',
        'Row("schedule", "cosine", "section 4, CA", "cosine", CONSTANT)',
        "published/test_works.py",
    ),
    Mutation(
        "BOIL with batch norm that is not adapted",
        "published/oh2021.py",
        'of_code("adapt_norm", True,',
        'of_code("adapt_norm", False,',
        "published/test_works.py",
    ),
    Mutation(
        "Reptile's 20-way step size in place of the 5-way one",
        "published/nichol2018.py",
        'of_code("alpha", 1e-3, f"{README} learning-rate"),\n'
        '        of_code("iterations", 100000, f"{README} meta-iters"),\n'
        '        of_code("test_batch", 5',
        'of_code("alpha", 5e-4, f"{README} learning-rate"),\n'
        '        of_code("iterations", 100000, f"{README} meta-iters"),\n'
        '        of_code("test_batch", 5',
        "published/test_works.py",
    ),
    Mutation(
        "T-net's 20-way step size on the mean loss",
        "published/lee2018.py",
        'of_code("inner_loss", "sum_over_shots", SCALE)',
        'of_code("inner_loss", "mean", SCALE)',
        "published/test_works.py",
    ),
    Mutation(
        "iMAML with as many steps as its code tests without",
        "published/rajeswaran2019.py",
        'of_code("inner_steps", 16,',
        'of_code("inner_steps", 5,',
        "published/test_works.py",
    ),
    Mutation(
        "a score of one part of MAML++ exchanged for another's",
        "published/scores.py",
        '"MAML, learned rates", "maml++", ABLATION, None, None, (95.77, 0.38)',
        '"MAML, learned rates", "maml++", ABLATION, None, None, (95.35, 0.38)',
        "published/test_figures.py",
    ),
    # ----- options and configurations -----
    Mutation(
        "no upper end of a range",
        "options.py",
        "if self.most is not None and value > self.most:",
        "if False:",
        "test_options.py",
    ),
    Mutation(
        "an open end of a range that is closed",
        "options.py",
        "and value <= self.above:",
        "and value < self.above:",
        "test_options.py",
    ),
    Mutation(
        "any text for a choice",
        "options.py",
        "if self.choices and value not in self.choices:",
        "if False:",
        "test_options.py",
    ),
    Mutation(
        "another default loses the range",
        "options.py",
        "metadata=changes)",
        'metadata={**changes, "limits": {}})',
        "test_options.py",
    ),
    Mutation(
        "an option without effect accepted",
        "experiments/common.py",
        "            if not _uses(record, key, values):\n",
        "            if False:\n",
        "experiments/test_experiments.py",
    ),
    Mutation(
        "an algorithm's options left out of a pickle",
        "experiments/common.py",
        "return self.values()  #",
        "return {k: x for k, x in self.values().items() if k != 'context'}  #",
        "experiments/test_experiments.py",
    ),
    Mutation(
        "another algorithm keeps the former's defaults",
        "experiments/common.py",
        " if former.get(k) != before[k]",
        "",
        "experiments/test_experiments.py",
    ),
    Mutation(
        "the first of two algorithms typed",
        "cli/options.py",
        "        if name == flag:\n            found = value\n",
        "        if name == flag and found is None:\n            found = value\n",
        "cli/test_main.py",
    ),
    Mutation(
        "exit code 1 for a wrong command line",
        "cli/main.py",
        "code = 2 if isinstance(error, UsageError) else 1",
        "code = 1",
        "cli/test_bad_input.py",
    ),
    Mutation(
        "exit code 0 for a run that diverges",
        "cli/main.py",
        "    raise SystemExit(code or 0)",
        "    raise SystemExit(code if code != 1 else 0)",
        "cli/test_main.py",
    ),
    Mutation(
        "as many test queries as in training",
        "experiments/images.py",
        "queries = max(config.test_queries, 0) or config.shots",
        "queries = queries",
        "experiments/test_experiments.py",
    ),
    Mutation(
        "the oracle's tasks hashed with what it alone is told",
        "harness/evaluation.py",
        "sample=family.plain or family.sample",
        "sample=family.sample",
        "harness/test_evaluation.py",
    ),
    Mutation(
        "a run that counts as two seeds",
        "harness/results.py",
        "if config.seed in seeds:",
        "if False:",
        "cli/test_evaluate.py",
    ),
    Mutation(
        "test tasks scored in spite of --no-test",
        "cli/train.py",
        "if config.test:",
        "if True:",
        "cli/test_seeds.py",
    ),
    Mutation(
        "diverged tasks left out of the median",
        "harness/results.py",
        "np.median(np.where(finite, last, np.inf))",
        "np.median(last[finite])",
        "harness/test_results.py",
    ),
    # ----- baselines -----
    Mutation(
        "a later wave's Adam corrected by the run's iterations",
        "algorithms/averaged.py",
        "state.iteration - begun + 1",
        "state.iteration + 1",
        "algorithms/test_averaged.py",
    ),
    Mutation(
        "pretraining on the query points too",
        "algorithms/baselines.py",
        "return maml.value_and_gradient(task.support(w), w)",
        (
            "return maml.value_and_gradient(\n"
            "        lambda at: task.support(at)(at) + task.query(at)(at), w\n"
            "    )"
        ),
        "algorithms/test_averaged.py",
    ),
    Mutation(
        "the oracle told another curve's amplitude",
        "data/sine.py",
        "    curves = draw_curves(streams, tasks, phases)\n    support",
        "    curves = draw_curves(lambda _: streams(1), tasks, phases)\n    support",
        "data/test_sine.py",
    ),
    Mutation(
        "sine tasks keyed by their place in a chunk",
        "data/sine.py",
        "rng.random((tasks.stop, columns))[tasks.start :]",
        "rng.random((len(tasks), columns))",
        "experiments/test_experiments.py",
    ),
    Mutation(
        "points in the stream of the curves",
        "data/sine.py",
        "_rows(streams(1), tasks, shots + queries)",
        "_rows(streams(0), tasks, shots + queries)",
        "data/test_sine.py",
    ),
    Mutation(
        "regressors trained on their average",
        "algorithms/averaged.py",
        "tasks.gradients(thetas[some], nets)",
        "tasks.gradients(0 * thetas[some] + thetas.mean(axis=0), nets)",
        "algorithms/test_averaged.py",
    ),
    Mutation(
        "half of the pull's gradient",
        "algorithms/averaged.py",
        "2 * pull * away",
        "pull * away",
        "algorithms/test_averaged.py",
    ),
    Mutation(
        "l2 pulls to the mean",
        "algorithms/averaged.py",
        "pulled_to(lambda thetas, _: np.zeros_like(thetas))",
        "pulled_to(lambda thetas, _: thetas.mean(axis=0))",
        "algorithms/test_averaged.py",
    ),
    Mutation(
        "the regressors' tasks drawn anew for every chunk",
        "harness/step.py",
        "return gradient_of(config, False)(w, *fixed_tasks(config, tasks))",
        "return gradient_of(config, False)(w, *fixed_tasks(config, range(len(tasks))))",
        "algorithms/test_averaged.py",
    ),
    Mutation(
        "regressors pulled to the mean of all",
        "algorithms/averaged.py",
        "center(thetas[some], thetas[: nets.start])",
        "center(thetas[some], thetas)",
        "algorithms/test_averaged.py",
    ),
    Mutation(
        "every wave trains all regressors so far",
        "algorithms/averaged.py",
        "range(2**wave // 2, ",
        "range(0, ",
        "algorithms/test_averaged.py",
    ),
    Mutation(
        "regressors judged on the points they were trained on",
        "algorithms/averaged.py",
        "    episodes = tasks.draw(range(regressors))\n",
        (
            "    episodes = tasks.draw(range(regressors))\n"
            "    episodes = type(episodes)(*episodes[:2], *episodes[:2])\n"
        ),
        "algorithms/test_averaged.py",
    ),
    Mutation(
        "held-out tasks adapt from the first regressor",
        "algorithms/averaged.py",
        "w.reshape(problem.options.regressors, -1).mean(axis=0)",
        "w.reshape(problem.options.regressors, -1)[0]",
        "algorithms/test_averaged.py",
    ),
    Mutation(
        "the step size tuned on test tasks",
        "harness/evaluation.py",
        'evaluate(config, w, "val", tasks, steps, engine)',
        'evaluate(config, w, "test", tasks, steps, engine)',
        "harness/test_tuning.py",
    ),
    Mutation(
        "the step size tuned before any step",
        "harness/evaluation.py",
        "steps, engine)[-1].astype(float)",
        "steps, engine)[0].astype(float)",
        "harness/test_tuning.py",
    ),
    Mutation(
        "the step size with the worst accuracy",
        "harness/evaluation.py",
        "-last.mean() if config.score.higher_is_better else last.mean()",
        "last.mean()",
        "harness/test_tuning.py",
    ),
    Mutation(
        "a step size that diverges is the best",
        "harness/evaluation.py",
        "cost if np.isfinite(cost) else np.inf",
        "cost if np.isfinite(cost) else -np.inf",
        "harness/test_tuning.py",
    ),
    Mutation(
        "the whole net adapts beside the context",
        "algorithms/context.py",
        '["z"]',
        "[*model.shapes]",
        "experiments/test_experiments.py",
    ),
    Mutation(
        "the context in front of the inputs",
        "models.py",
        "anp.concatenate([x, z], axis=-1)",
        "anp.concatenate([z, x], axis=-1)",
        "test_models.py",
    ),
    # ----- models -----
    Mutation(
        "a net split one block too high",
        "models.py",
        "].index(name)\n",
        "].index(name) + 1\n",
        "test_models.py",
    ),
    Mutation(
        "the first block as the head",
        "models.py",
        "for b in reversed(self.blocks) if",
        "for b in self.blocks if",
        "test_models.py",
    ),
    Mutation(
        "activations before each block",
        "models.py",
        "            found[block.name] = x = block.apply(p, x)\n",
        "            found[block.name], x = x, block.apply(p, x)\n",
        "test_models.py",
    ),
    Mutation(
        "a scale that starts at zero",
        "models.py",
        "gamma: lambda _, shape: np.ones(shape)",
        "gamma: lambda _, shape: np.zeros(shape)",
        "test_models.py",
    ),
    Mutation(
        "a scale of the offset too",
        "models.py",
        "add_row(rows * p[gamma] if scale else rows, p[beta])",
        "add_row(rows, p[beta]) * (p[gamma] if scale else 1)",
        "test_models.py",
    ),
    # ----- evaluation -----
    Mutation(
        "interval of one task, not of their mean",
        "harness/evaluation.py",
        " / np.sqrt(scores.shape[-1])",
        "",
        "harness/test_evaluation.py",
    ),
    Mutation(
        "test tasks drawn from training classes",
        "harness/evaluation.py",
        "drawn(problem(config), TASK_SEED, split, 0, tasks)",
        'drawn(problem(config), TASK_SEED, "train", 0, tasks)',
        "harness/test_evaluation.py data/test_omniglot.py",
    ),
    # ----- pictures -----
    Mutation(
        "a chain drawn with one step too few on the way back",
        "plots/chain.py",
        "chain.back(steps[k:], last)",
        "chain.back(steps[k + 1 :], last)",
        "plots/test_chain.py",
    ),
    Mutation(
        "a chain drawn with arrows uphill",
        "plots/chain.py",
        "axes.quiver(*found.thetas.T, *-vs.T,",
        "axes.quiver(*found.thetas.T, *vs.T,",
        "plots/test_chain.py",
    ),
    Mutation(
        "bands of one standard error",
        "plots/curves.py",
        "        low = np.maximum(mean - half,",
        "        half = half / 1.96\n        low = np.maximum(mean - half,",
        "plots/test_curves.py",
    ),
    Mutation(
        "band over tasks for a line of several seeds",
        "plots/curves.py",
        "if len(means) > 1 else half",
        "if len(means) > 9 else half",
        "plots/test_curves.py",
    ),
    Mutation(
        "a normal quantile for three seeds' learning",
        "plots/curves.py",
        "results.over_seeds(means[..., None])",
        "interval(means.T)[1]",
        "plots/test_curves.py",
    ),
    Mutation(
        "evaluation of a theta that the run no longer has",
        "plots/groups.py",
        " or found.iteration != kept.iteration",
        "",
        "plots/test_plots.py",
    ),
    Mutation(
        "fits with the step size of the training",
        "plots/groups.py",
        'config.restored(config.values() | {"alpha": found.alpha})',
        "config.restored(config.values())",
        "plots/test_fits.py",
    ),
    Mutation(
        "rows of different tasks",
        "plots/fits.py",
        "tasks = range(task, task + len(TASKS))",
        "task += len(config.algorithm)\n    tasks = range(task, task + len(TASKS))",
        "plots/test_fits.py",
    ),
    Mutation(
        "fit to points that are not those shown",
        "plots/fits.py",
        "thetas = adapted(judged, episodes,",
        'thetas = adapted(judged, held_out(config, "test", range(task, task + 2)),',
        "plots/test_fits.py",
    ),
    Mutation(
        "the label of the wrong class",
        "plots/sheets.py",
        'f"{names[answer]} {sign}"',
        'f"{names[truth]} {sign}"',
        "plots/test_sheets.py",
    ),
    Mutation(
        "answers of the net before its steps",
        "plots/sheets.py",
        "model.apply(thetas[step], episode.x_query)",
        "model.apply(thetas[0], episode.x_query)",
        "plots/test_sheets.py",
    ),
    Mutation(
        "answers in the order of the images, not of the classes",
        "plots/sheets.py",
        "logits[0].argmax(axis=-1)[orders[1]]",
        "logits[0].argmax(axis=-1)",
        "plots/test_sheets.py",
    ),
    # ----- data -----
    Mutation(
        "checksum of a mapped array not looked at",
        "data/prepared.py",
        "            while member.read(CHUNK):  # raises when the checksum is wrong\n"
        "                pass\n",
        "",
        "data/test_miniimagenet.py",
    ),
    Mutation(
        "map begun before the local header's extra field",
        "data/prepared.py",
        "sum(lengths)",
        "lengths[0]",
        "data/test_miniimagenet.py",
    ),
    Mutation(
        "size of a mapped array not compared with its shape",
        "data/prepared.py",
        " or size != info.file_size - begin",
        "",
        "data/test_miniimagenet.py",
    ),
    Mutation(
        "test classes that are trained on",
        "data/prepared.py",
        "if sorted(rows.tolist()) != list(range(len(images)))",
        "if not set(rows.tolist()) <= set(range(len(images)))",
        "data/test_miniimagenet.py",
    ),
    Mutation(
        "a hash of the support sets only",
        "harness/evaluation.py",
        "for array in map(np.asarray, arrays):",
        "for array in map(np.asarray, arrays[:2]):",
        "harness/test_evaluation.py",
    ),
    Mutation(
        "a hash of the chunks, not of the tasks",
        "harness/evaluation.py",
        'return b"".join(_digest(arrays) for arrays in zip(*episodes, strict=True))',
        "return _digest(episodes)",
        "harness/test_evaluation.py",
    ),
    Mutation(
        "a query alone, without the support set",
        "fewshot.py",
        "apply(theta, np.concatenate([support, one], axis)) for one",
        "apply(theta, one) for one",
        "harness/test_evaluation.py",
    ),
    Mutation(
        "a query that is called alone, among all others",
        "fewshot.py",
        "np.concatenate([support, one], axis)) for one",
        "np.concatenate([support, query, one], axis)) for one",
        "harness/test_evaluation.py",
    ),
    Mutation(
        "the worst theta on validation tasks is kept",
        "harness/checkpoints.py",
        "config.score.better(now.validation, best.validation)",
        "config.score.better(best.validation, now.validation)",
        "harness/test_checkpoints.py",
    ),
    Mutation(
        "the best theta written without the one before it",
        "harness/checkpoints.py",
        "runs.write(file, data, previous=path / PREVIOUS_BEST)",
        "runs.write(file, data)",
        "harness/test_checkpoints.py",
    ),
    Mutation(
        "the best theta found again takes the place of the one before",
        "harness/checkpoints.py",
        "if not file.exists() or file.read_bytes() != data:",
        "if True:",
        "harness/test_checkpoints.py",
    ),
    Mutation(
        "the best theta is forgotten by a resume",
        "harness/checkpoints.py",
        "return state, best and best[1]",
        "return state, None",
        "harness/test_checkpoints.py",
    ),
    Mutation(
        "a best theta from after the checkpoint",
        "harness/checkpoints.py",
        "if last <= iteration and",
        "if",
        "harness/test_checkpoints.py",
    ),
    Mutation(
        "a best theta from after the checkpoint, where no metrics are",
        "harness/checkpoints.py",
        "early = kept.iteration <= iteration",
        "early = True",
        "harness/test_checkpoints.py",
    ),
    Mutation(
        "an older theta used in silence where the newest is damaged",
        "harness/checkpoints.py",
        "if not allowed:",
        "if False:",
        "harness/test_checkpoints.py",
    ),
    Mutation(
        "training goes on with a best theta that is not its checkpoint's",
        "harness/checkpoints.py",
        "        if not wrong:\n",
        "        if True:\n",
        "harness/test_checkpoints.py",
    ),
    Mutation(
        "the damaged checkpoint moved over the whole one by the next save",
        "harness/checkpoints.py",
        "            os.replace(file, path / CHECKPOINT)\n",
        "",
        "harness/test_checkpoints.py",
    ),
    Mutation(
        "the last theta tested though validation chose another",
        "cli/train.py",
        "checkpoints.load(path, config), config.test_steps",
        "checkpoints.load(path, config, True), config.test_steps",
        "cli/test_evaluate.py",
    ),
    Mutation(
        "1.96 for an interval over three seeds",
        "harness/results.py",
        "t = STUDENT_95[min(len(means) - 1, len(STUDENT_95)) - 1]",
        "t = 1.96",
        "harness/test_results.py",
    ),
    Mutation(
        "an interval over runs and tasks as if all were tasks",
        "harness/results.py",
        "interval(scores.astype(float).mean(axis=0))",
        "interval(np.concatenate([*scores.astype(float)], axis=-1))",
        "harness/test_results.py",
    ),
    Mutation(
        "other shots that are told but not used",
        "harness/results.py",
        'config = config.with_changes({"shots": shots})',
        "pass",
        "cli/test_evaluate.py",
    ),
    Mutation(
        "several seeds that are one",
        "harness/plan.py",
        'config.with_changes({"seed": seed}))',
        "config)",
        "cli/test_seeds.py",
    ),
    Mutation(
        "our last step beside the paper's third",
        "report/tables.py",
        'ours.get(k, "-") for k in steps or [max(ours)]',
        "ours[max(ours)] for k in steps or [0]",
        "report/test_tables.py",
    ),
    Mutation(
        "figures of mini-ImageNet beside other images",
        "published/figures.py",
        " or not config.is_original",
        "",
        "published/test_figures.py report/test_tables.py",
    ),
    Mutation(
        "any file of the right form taken for mini-ImageNet",
        "data/miniimagenet.py",
        "return split == SPLIT and",
        "return",
        "data/test_miniimagenet.py",
    ),
    Mutation(
        "a sheet of own images with mini-ImageNet's name",
        "report/names.py",
        'configs[0].title if configs[0].is_original else "Images"',
        "configs[0].title",
        "plots/test_plots.py",
    ),
    Mutation(
        "a run without an evaluation left out in silence",
        "plots/__init__.py",
        'print(f"{str(run.path)!r} was not evaluated: {asked}", file=sys.stderr)',
        "del asked",
        "plots/test_plots.py",
    ),
    Mutation(
        "walks to other goals than the ones asked for",
        "plots/walks.py",
        "range(task, task + GOALS)",
        "range(GOALS)",
        "plots/test_walks.py",
    ),
    Mutation(
        "walks of every step in the frames of the last",
        "plots/figures.py",
        "        self.canvas.restore_region(self.still)\n",
        "",
        "plots/test_walks.py",
    ),
    Mutation(
        "gaits of the policy before its steps only",
        "plots/gaits.py",
        "score(thetas[step], draws)",
        "score(thetas[0], draws)",
        "plots/test_gaits.py",
    ),
    Mutation(
        "positions that change after they were kept",
        "plots/gaits.py",
        "trajectories, -1).copy()]",
        "trajectories, -1)]",
        "plots/test_gaits.py",
    ),
    Mutation(
        "a body that lies where it fell, as if it had been asked to",
        "plots/gaits.py",
        "(alive & np.isfinite(rewards))",
        "np.isfinite(rewards)",
        "plots/test_gaits.py",
    ),
    Mutation(
        "gaits in two tasks of one direction",
        "plots/gaits.py",
        "two = [asked.argmin(), asked.argmax()]",
        "two = [0, 1]",
        "plots/test_gaits.py",
    ),
    Mutation(
        "gaits over time steps of one simulation step",
        "plots/gaits.py",
        " * world.frame_skip",
        "",
        "plots/test_gaits.py",
    ),
    Mutation(
        "the farthest of the trajectories in the animation",
        "plots/gaits.py",
        "path = run.positions[i, task, 0]\n",
        "path = max(run.positions[i, task], key=lambda one: abs(one[-1, 0]))\n",
        "plots/test_gaits.py",
    ),
    Mutation(
        "a capsule's axis across its length",
        "plots/bodies.py",
        "reshape(-1, 3, 3)[:, ::2, 2]",
        "reshape(-1, 3, 3)[:, ::2, 0]",
        "plots/test_gaits.py",
    ),
    Mutation(
        "a floor that goes with the body",
        "plots/bodies.py",
        "number.set(x=whole + i - x,",
        "number.set(x=whole + i,",
        "plots/test_gaits.py",
    ),
    Mutation(
        "another split beside the paper's with nothing said",
        "experiments/omniglot.py",
        "        role=DATA,\n        choices=",
        "        role=PLACE,\n        choices=",
        "published/test_figures.py report/test_tables.py",
    ),
    Mutation(
        "compared with the options at test, not in training",
        "published/figures.py",
        "ours = _counted(trained.values(), trained)",
        "ours = _counted(config.values(), config)",
        "published/test_figures.py report/test_tables.py",
    ),
    Mutation(
        "the settings of other works taken for the paper's",
        "published/figures.py",
        "    if not figure.work:\n        return None\n"
        "    work = presets.WORKS[figure.work]\n",
        '    work = presets.WORKS[figure.work or "finn2017"]\n',
        "published/test_figures.py report/test_tables.py",
    ),
    Mutation(
        "the code's values taken for deviations from the paper",
        "published/figures.py",
        "presets.columns(work.name, config.name, of).values()",
        '[presets.columns(work.name, config.name, of)["paper"]]',
        "published/test_figures.py",
    ),
    Mutation(
        "every work's figures compared with the settings of Finn et al.",
        "published/figures.py",
        "presets.columns(work.name, config.name, of).values()",
        'presets.columns("finn2017", config.name, of).values()',
        "published/test_figures.py",
    ),
    Mutation(
        "our score beside that of another context",
        "published/figures.py",
        'method = {"algorithm": figure.algorithm, **figure.variant}',
        'method = {"algorithm": figure.algorithm}',
        "published/test_figures.py",
    ),
    Mutation(
        "dense nets beside convolutions",
        "published/figures.py",
        'x != "dense" if k == "net" else x',
        'True if k == "net" else x',
        "published/test_figures.py",
    ),
    Mutation(
        "a figure of a setting that its work did not publish taken as known",
        "published/figures.py",
        "    return work if known else None\n",
        "    return work\n",
        "published/test_figures.py",
    ),
    Mutation(
        "an agreeing run compared with another work's figures",
        "report/tables.py",
        "for title, found in known[:1]",
        "for title, found in known",
        "report/test_tables.py",
    ),
    Mutation(
        "batch-norm offsets adapted though they should not be",
        "experiments/images.py",
        "() if adapts_norm else model.norm",
        "()",
        "experiments/test_experiments.py",
    ),
    # ----- meta-policy-gradients -----
    Mutation(
        "DiCE's cumulative sum over trajectories",
        "rl/surrogates.py",
        "anp.cumsum(change, axis=-1)",
        "anp.cumsum(change, axis=-2)",
        RL,
    ),
    Mutation(
        "DiCE without what came before",
        "rl/surrogates.py",
        "anp.exp(total) - anp.exp(total - change)",
        "anp.exp(change)",
        RL,
    ),
    Mutation(
        "LVC without the ratio",
        "rl/surrogates.py",
        "    ratios = anp.exp(_change(logp, batch))\n",
        "    ratios = 1.0 + _change(logp, batch)\n",
        RL,
    ),
    Mutation(
        "steps that are over in the likelihood ratio",
        "rl/surrogates.py",
        "(logp - batch.logp_old) * _live(batch)",
        "logp - batch.logp_old",
        RL,
    ),
    Mutation(
        "score term before the chain's product",
        "chain.py",
        "        if second_order:\n"
        "            v = v - hvp(alpha.adjoint(v) if linear else alpha * v)\n"
        "        if added is not None:\n"
        "            v = v + added(k)\n",
        "        if added is not None:\n"
        "            v = v + added(k)\n"
        "        if second_order:\n"
        "            v = v - hvp(alpha.adjoint(v) if linear else alpha * v)\n",
        "rl/test_surrogates.py test_chain.py",
    ),
    Mutation(
        "slopes of the step sizes after the product",
        "chain.py",
        "        slopes.append(v if linear else -g * v)\n"
        "        if second_order:\n"
        "            v = v - hvp(alpha.adjoint(v) if linear else alpha * v)\n",
        "        if second_order:\n"
        "            v = v - hvp(alpha.adjoint(v) if linear else alpha * v)\n"
        "        slopes.append(v if linear else -g * v)\n",
        "test_chain.py",
    ),
    Mutation(
        "mean for sum over trajectories in the score term",
        "rl/surrogates.py",
        "loss[..., None, None] * _live(batch) * logp",
        "loss[..., None, None] * batch.weights * logp",
        RL,
    ),
    Mutation(
        "log pi of theta_0 at every inner step",
        "experiments/acting.py",
        "                path.append(act(theta, draws, len(path)))\n",
        "                path.append(act(theta, draws, len(path)))\n"
        "                path[-1] = path[-1]._replace(logp_old=path[0].logp_old)\n",
        RL,
    ),
    Mutation(
        "log pi of theta_0 in the enumerated worlds",
        "check/mdp.py",
        "        seen = batch(mdp, theta, trajectories, chances[..., None], baseline)\n",
        "        seen = batch(mdp, theta, trajectories, chances[..., None], baseline)\n"
        "        first = act.__dict__.setdefault('first', seen.logp_old)\n"
        "        seen = seen._replace(logp_old=first)\n",
        RL,
    ),
    Mutation(
        "mean over the numbers of an action in log pi",
        "rl/policy.py",
        "    return -anp.sum(log_std, axis=-1) - 0.5 * anp.sum(z**2, axis=-1) - constant\n",
        "    full = -anp.sum(log_std, axis=-1) - 0.5 * anp.sum(z**2, axis=-1) - constant\n"
        "    return full / actions.shape[-1]\n",
        RL,
    ),
    Mutation(
        "baseline fitted across tasks",
        "rl/rollout.py",
        "    for attempt in range(TRIES):\n",
        "    gram, moment = gram.sum(0, keepdims=True), moment.sum(0, keepdims=True)\n"
        "    for attempt in range(TRIES):\n",
        RL,
    ),
    Mutation(
        "the trust region's metric with J for J'",
        "rl/trpo.py",
        "chain.back(steps, v)[0]",
        "chain.back(steps[::-1], v)[0]",
        "rl/test_trpo.py",
    ),
    # ----- acting and the trust region -----
    Mutation(
        "actions that are not scaled",
        "rl/pointnav.py",
        "np.clip(STRIDE * actions, -STRIDE, STRIDE)",
        "np.clip(actions, -STRIDE, STRIDE)",
        "rl/test_pointnav.py",
    ),
    Mutation(
        "reward of the old position",
        "rl/pointnav.py",
        "        positions = positions + np.clip(STRIDE * actions, -STRIDE, STRIDE)\n"
        "        away = positions - goals[:, None]\n",
        "        away = positions - goals[:, None]\n"
        "        positions = positions + np.clip(STRIDE * actions, -STRIDE, STRIDE)\n",
        "rl/test_pointnav.py",
    ),
    Mutation(
        "done in a disc",
        "rl/pointnav.py",
        "(np.abs(away) < NEAR).all(-1)",
        "(away**2).sum(-1) < NEAR**2",
        "rl/test_pointnav.py",
    ),
    Mutation(
        "clipped actions kept",
        "rl/rollout.py",
        "    actions = mean + np.exp(log_std)[:, None] * draws\n",
        "    actions = np.clip(mean + np.exp(log_std)[:, None] * draws, -1, 1)\n",
        "rl/test_rollout.py",
    ),
    Mutation(
        "finished steps in the baseline",
        "rl/rollout.py",
        "np.where(flat(live)[..., None], x, 0)",
        "x",
        "rl/test_rollout.py",
    ),
    Mutation(
        "advantages scaled over all tasks",
        "rl/rollout.py",
        "(a**2).sum(axis=(1, 2), keepdims=True) / count",
        "(a**2).sum() / count.sum()",
        "rl/test_rollout.py",
    ),
    Mutation(
        "rewards after the end",
        "rl/rollout.py",
        "np.where(alive, reward, 0)",
        "reward",
        "rl/test_rollout.py",
    ),
    Mutation(
        "rewards that are not finite",
        "rl/rollout.py",
        "    if not count.all():\n",
        "    if False:\n",
        "rl/test_rollout.py",
    ),
    Mutation(
        "half of the log-std in the Fisher matrix",
        "rl/policy.py",
        "2**0.5 * log_std",
        "log_std",
        "rl/test_policy.py",
    ),
    Mutation(
        "the same noise at every inner step",
        "experiments/acting.py",
        "act(theta, draws, len(path))",
        "act(theta, draws, 0)",
        "rl/test_trpo.py",
    ),
    Mutation(
        "score on the trajectories adapted on",
        "experiments/acting.py",
        "SCORE = 2**31",
        "SCORE = 0",
        "experiments/test_pointnav.py",
    ),
    Mutation(
        "the first step halved when tested",
        "experiments/acting.py",
        "[1.0] + [0.5] * (steps - 1)",
        "[0.5] + [1.0] * (steps - 1)",
        "experiments/test_pointnav.py",
    ),
    Mutation(
        "the same goals in every iteration",
        "harness/policy_step.py",
        'config.seed, "train", iteration, tasks)',
        'config.seed, "train", 0, tasks)',
        "rl/test_trpo.py",
    ),
    Mutation(
        "a step whose length lacks its 2",
        "rl/trpo.py",
        "np.sqrt(2 * max_kl",
        "np.sqrt(max_kl",
        "rl/test_trpo.py",
    ),
    Mutation(
        "a failed line search taken",
        "rl/trpo.py",
        "    return theta, None, loss, 0.0\n",
        "    return there, TRIES, after, kl\n",
        "rl/test_trpo.py",
    ),
    Mutation(
        "twice the damping of the metric",
        "rl/trpo.py",
        "DAMPING = 1e-5",
        "DAMPING = 2e-5",
        f"rl/test_trpo.py experiments/test_pointnav.py {GOLDEN}[pointnav]",
    ),
    Mutation(
        "a line search that does not look at the KL",
        "rl/trpo.py",
        "after < loss and kl <= max_kl",
        "after < loss",
        "rl/test_trpo.py",
    ),
    Mutation(
        "a line search that does not adapt again",
        "rl/trpo.py",
        "    theta = maml.adapt(theta, task, alpha, len(losses))\n",
        "",
        "rl/test_trpo.py",
    ),
    # ----- the general reverse pass -----
    Mutation(
        "general pass: first-order slopes vanish",
        "chain.py",
        "slopes.append(v if linear else -g * v)",
        "slopes.append(v if linear else -g * v if second_order else 0.0 * v)",
        "test_chain.py",
    ),
    Mutation(
        "general pass: a term added before its step's product",
        "chain.py",
        (
            "        if second_order:\n"
            "            v = v - hvp(alpha.adjoint(v) if linear else alpha * v)\n"
            "        if added is not None:\n"
            "            v = v + added(k)\n"
        ),
        (
            "        if added is not None:\n"
            "            v = v + added(k)\n"
            "        if second_order:\n"
            "            v = v - hvp(alpha.adjoint(v) if linear else alpha * v)\n"
        ),
        "test_chain.py",
    ),
    Mutation(
        "general pass: alpha * hvp(v) for hvp(alpha * v)",
        "chain.py",
        "v = v - hvp(alpha.adjoint(v) if linear else alpha * v)",
        "v = v - (alpha.adjoint(hvp(v)) if linear else alpha * hvp(v))",
        "test_chain.py",
    ),
    Mutation(
        "general pass: slopes from the last step to the first",
        "chain.py",
        "return v, slopes[::-1]",
        "return v, slopes",
        "test_chain.py",
    ),
    Mutation(
        "general pass: a term of theta_0",
        "chain.py",
        "terms = [0.0 * theta, ",
        "terms = [slopes[0], ",
        "test_chain.py",
    ),
    Mutation(
        "general pass: query gradients without their weights",
        "chain.py",
        "*(u * slope for u, slope in",
        "*(slope for _, slope in",
        "test_chain.py",
    ),
    Mutation(
        "general pass: the loss without its weights",
        "chain.py",
        "loss = sum(u * value for u, value in",
        "loss = sum(value for _, value in",
        "test_chain.py",
    ),
    # ----- Meta-SGD -----
    Mutation(
        "Meta-SGD: slopes of the last step only",
        "algorithms/learned.py",
        "sum(slopes, 0.0 * v)",
        "slopes[-1]",
        "algorithms/test_metasgd.py",
    ),
    Mutation(
        "Meta-SGD: step sizes of batch norm's offsets that are learned",
        "algorithms/learned.py",
        "[v, mask * sum(",
        "[v, sum(",
        "algorithms/test_metasgd.py",
    ),
    Mutation(
        "Meta-SGD: tested with more steps than it was trained with",
        "algorithms/metasgd.py",
        'tested(1)({"rates": PARAMETER, **given})',
        "tested(1)(given)",
        "algorithms/test_metasgd.py",
    ),
    # ----- T-net and Meta-Curvature -----
    Mutation(
        "T-net: T is adapted",
        "algorithms/tnet.py",
        " if not name.startswith(T)]",
        "]",
        "algorithms/test_tnet.py",
    ),
    Mutation(
        "T-net: (x W) T + b",
        "algorithms/tnet.py",
        "for name in before_t}",
        "for name in before_t[:1]}",
        "algorithms/test_tnet.py",
    ),
    Mutation(
        "T-net: T transposed",
        "algorithms/tnet.py",
        "matmul(p[name], p[t])",
        "matmul(p[name], p[t].swapaxes(-1, -2))",
        "algorithms/test_tnet.py",
    ),
    Mutation(
        "T-net: T of batch norm's offsets",
        "algorithms/tnet.py",
        "[name for name in block.shapes if name not in block.norm]",
        "[*block.shapes]",
        "algorithms/test_tnet.py",
    ),
    Mutation(
        "Meta-Curvature: the map for its adjoint",
        "algorithms/kronecker.py",
        "[*map(_transposed, own)] if adjoint else own",
        "own",
        "algorithms/test_curvature.py",
    ),
    Mutation(
        "Meta-Curvature: step size behind the adjoint",
        "algorithms/curvature.py",
        "transformed(alpha * v, model, arrays, adjoint=True)",
        "alpha * transformed(v, model, arrays, adjoint=True)",
        "algorithms/test_curvature.py",
    ),
    Mutation(
        "Meta-Curvature: maps' gradient without its sign",
        "algorithms/curvature.py",
        "extras = -grad(along)(w)",
        "extras = grad(along)(w)",
        "algorithms/test_curvature.py",
    ),
    Mutation(
        "Meta-Curvature: maps' gradient of the last step alone",
        "algorithms/curvature.py",
        "ways = zip(after, linear, steps, strict=True)",
        "ways = zip(after[-1:], linear[-1:], steps[-1:], strict=True)",
        "algorithms/test_curvature.py",
    ),
    Mutation(
        "Meta-Curvature: channels before the kernel's positions",
        "algorithms/kronecker.py",
        '{"kernel": KERNEL, "in": rows // KERNEL, "out": f}',
        '{"kernel": rows // KERNEL, "in": KERNEL, "out": f}',
        "algorithms/test_curvature.py",
    ),
    Mutation(
        "Meta-Curvature: batch norm's offsets have maps",
        "algorithms/kronecker.py",
        "if moved[spans[name].start]:",
        "if True:",
        "algorithms/test_curvature.py",
    ),
    Mutation(
        "general pass: a linear map for its adjoint",
        "chain.py",
        "alpha.adjoint(v) if linear",
        "alpha.apply(v) if linear",
        "test_chain.py",
    ),
    Mutation(
        "general pass: v of the step before for a linear map",
        "chain.py",
        "        slopes.append(v if linear else -g * v)\n",
        "        slopes.append(v - hvp(alpha.adjoint(v)) if linear else -g * v)\n",
        "test_chain.py",
    ),
    # ----- the family: rates, parts, epochs, schedules -----
    Mutation(
        "Meta-SGD: a rate per array where one per parameter is asked for",
        "algorithms/metasgd.py",
        "redefault(PARAMETER, ",
        'redefault("tensor", ',
        "algorithms/test_metasgd.py",
    ),
    Mutation(
        "Meta-SGD: --adapts without effect",
        "algorithms/metasgd.py",
        "moved=learned.parts",
        "moved=lambda model, options: tuple(model.shapes)",
        "algorithms/test_metasgd.py",
    ),
    Mutation(
        "learned rates: that of the array before",
        "algorithms/learned.py",
        "params.spread(row, model)",
        "params.spread(anp.roll(row, 1, -1), model)",
        "algorithms/test_learned.py",
    ),
    Mutation(
        "learned rates: no slopes in first order",
        "algorithms/learned.py",
        "return loss, by_rates(v, slopes, problem)",
        "return loss, by_rates(v, [float(exact) * s for s in slopes], problem)",
        "algorithms/test_learned.py",
    ),
    Mutation(
        "learned rates: of what stays",
        "algorithms/learned.py",
        "mask = moved(problem).astype(w.dtype)",
        "mask = np.ones_like(w[0, :size])",
        "algorithms/test_learned.py",
    ),
    Mutation(
        "learned rates: the first ones again after the last step",
        "algorithms/learned.py",
        "found[min(k, last)]",
        "found[k % (last + 1)]",
        "algorithms/test_learned.py",
    ),
    Mutation(
        "learned rates: summed over the steps",
        "algorithms/learned.py",
        "sums = [params.totals(mask * s, problem.model.shapes) for s in slopes]",
        "sums = [params.totals(mask * sum(slopes), problem.model.shapes) for s in slopes]",
        "algorithms/test_learned.py",
    ),
    Mutation(
        "learned rates: ten test steps after one",
        "algorithms/learned.py",
        '({"test_steps": steps} if learned else {})',
        "{}",
        "algorithms/test_learned.py",
    ),
    Mutation(
        "learned rates: in the metric of TRPO",
        "algorithms/learned.py",
        '    if options.setting == RL:\n        return "--rates',
        '    if options.setting == "none":\n        return "--rates',
        "algorithms/test_learned.py",
    ),
    Mutation(
        "features: no term by those of the support set",
        "algorithms/features.py",
        "pull(v[..., n:])",
        'pull(v[..., n:] * (np.arange(v.shape[-1] - n) >= np.prod(shapes["support"])))',
        "algorithms/test_features.py",
    ),
    Mutation(
        "features: those of the query set in the inner loop",
        "algorithms/features.py",
        '"support": episode.x_support',
        '"support": episode.x_query',
        "algorithms/test_features.py",
    ),
    Mutation(
        "features: a cut one layer too low",
        "algorithms/features.py",
        'side="right"',
        'side="left"',
        "algorithms/test_features.py",
    ),
    Mutation(
        "features: a cut always below the head",
        "algorithms/features.py",
        "problem.model.split(blocks[at].name)",
        "problem.model.split(blocks[-1].name)",
        "algorithms/test_features.py",
    ),
    Mutation(
        "features: the weights of the losses lost",
        "algorithms/features.py",
        "chain.gradient(z, short, sizes, weights, second_order)",
        "chain.gradient(z, short, sizes, None, second_order)",
        "algorithms/test_features.py",
    ),
    Mutation(
        "ANIL that adapts the body",
        "algorithms/anil.py",
        "model.head",
        "model.body",
        "algorithms/test_anil.py",
    ),
    Mutation(
        "ANIL with the steps of BOIL",
        "algorithms/anil.py",
        "tested(5)",
        "tested(1)",
        "algorithms/test_boil.py",
    ),
    Mutation(
        "BOIL that adapts the head too",
        "algorithms/boil.py",
        "model.body",
        "(*model.body, *model.head)",
        "algorithms/test_boil.py",
    ),
    Mutation(
        "BOIL without the last layer of the body",
        "algorithms/boil.py",
        "model.body",
        "model.body[:-2]",
        "algorithms/test_anil.py algorithms/test_boil.py",
    ),
    Mutation(
        "CAVIA: a z that is meta-learned",
        "algorithms/cavia.py",
        "return loss, mask * found",
        "return loss, found",
        "algorithms/test_cavia.py",
    ),
    Mutation(
        "CAVIA: adaptation from the z in w",
        "algorithms/cavia.py",
        "learned.adapt(others(w, problem) * w, ",
        "learned.adapt(w, ",
        "algorithms/test_cavia.py",
    ),
    Mutation(
        "CAVIA: FiLM of the second convolution",
        "algorithms/cavia.py",
        'FILM_AFTER = "conv2"',
        'FILM_AFTER = "conv1"',
        "algorithms/test_cavia.py",
    ),
    Mutation(
        "FiLM after the activation",
        "models.py",
        "bare = block._replace(activation=same)",
        "bare = block",
        "test_models.py",
    ),
    Mutation(
        "FiLM with a scale that starts at zero",
        "models.py",
        "np.repeat([[1.0, 0.0]], channels",
        "np.repeat([[0.0, 0.0]], channels",
        "test_models.py",
    ),
    Mutation(
        "multi-step loss: epochs counted from one",
        "algorithms/multistep.py",
        "epoch = iteration // options.epoch",
        "epoch = iteration // options.epoch + 1",
        "algorithms/test_mamlpp.py",
    ),
    Mutation(
        "multi-step loss: weights without a floor",
        "algorithms/multistep.py",
        ", FLOOR / steps)",
        ", 0.0)",
        "algorithms/test_mamlpp.py",
    ),
    Mutation(
        "multi-step loss: a last weight that ignores the floor",
        "algorithms/multistep.py",
        "1 - others * (steps - 1)]",
        "1 / steps + epoch * (steps - 1) / (steps * last)]",
        "algorithms/test_mamlpp.py",
    ),
    Mutation(
        "multi-step loss: it never ends",
        "algorithms/multistep.py",
        "options.multi_step_loss and epoch < options.multi_step_epochs",
        "options.multi_step_loss",
        "algorithms/test_mamlpp.py",
    ),
    Mutation(
        "a first-order epoch too many",
        "algorithms/multistep.py",
        "epoch >= options.first_order_epochs",
        "epoch > options.first_order_epochs",
        "algorithms/test_mamlpp.py",
    ),
    Mutation(
        "batch norm by step with --adapt-norm",
        "algorithms/mamlpp.py",
        "if by_step and getattr(",
        "if False and getattr(",
        "algorithms/test_mamlpp.py",
    ),
    Mutation(
        "batch norm by step: the query reads the next step's",
        "algorithms/stepnorm.py",
        "count(first_query)",
        "count(first_query + 1)",
        "algorithms/test_mamlpp.py",
    ),
    Mutation(
        "batch norm by step: the last arrays in all later steps",
        "algorithms/stepnorm.py",
        "self.size + (k - 1) * n",
        "self.size + (self.later - 1) * n",
        "algorithms/test_mamlpp.py",
    ),
    Mutation(
        "batch norm by step: the first arrays after training's last step",
        "algorithms/stepnorm.py",
        "min(k, self.later)",
        "k * (k <= self.later)",
        "algorithms/test_mamlpp.py",
    ),
    Mutation(
        "batch norm by step: zeros in later steps",
        "algorithms/stepnorm.py",
        "np.tile(w[norm.places], norm.later)",
        "np.tile(0 * w[norm.places], norm.later)",
        "algorithms/test_mamlpp.py",
    ),
    Mutation(
        "a schedule that ends before its last epoch",
        "optim.py",
        "max(-(-options.iterations // options.epoch), 1)",
        "max(options.iterations // options.epoch, 1)",
        "test_optim.py",
    ),
    Mutation(
        "a cosine that falls within an epoch",
        "optim.py",
        "iteration // options.epoch / epochs",
        "iteration / options.epoch / epochs",
        "test_optim.py",
    ),
    Mutation(
        "a line that rises",
        "optim.py",
        "left = 1 - min(iteration",
        "left = min(iteration",
        "test_optim.py",
    ),
    Mutation(
        "gradient descent uphill",
        "optim.py",
        "return theta - beta * gradient, moments",
        "return theta + beta * gradient, moments",
        "test_optim.py",
    ),
    Mutation(
        "a schedule that counts updates from one",
        "optim.py",
        "beta = scheduled(options, iteration)",
        "beta = scheduled(options, number)",
        "test_optim.py",
    ),
    Mutation(
        "a schedule stretched by a resume",
        "experiments/common.py",
        'if saved.schedule != "constant" and',
        "if False and",
        "harness/test_plan.py",
    ),
    Mutation(
        "a clip of learned step sizes",
        "harness/step.py",
        "np.concatenate([clipped, gradient[size:]])",
        "np.concatenate([clipped, clip(gradient[size:], config.clip)])",
        "harness/test_loop.py",
    ),
    Mutation(
        "the phase of the first iteration for all",
        "harness/step.py",
        "config.method.phase(config, iteration)",
        "config.method.phase(config, 0)",
        "algorithms/test_own.py",
    ),
    Mutation(
        "the head's step size as a factor",
        "algorithms/algorithm.py",
        "alpha + (head - alpha) * params",
        "alpha + (head * alpha - alpha) * params",
        "algorithms/test_algorithm.py",
    ),
    Mutation(
        "numbers of arrays spread in reverse",
        "params.py",
        "np.repeat(numbers, [",
        "np.repeat(numbers[..., ::-1], [",
        "test_params.py",
    ),
    Mutation(
        "spread that is its own adjoint's mean",
        "params.py",
        "lambda g: spread(g, shapes))",
        "lambda g: spread(g, shapes) / len(shapes))",
        "test_params.py",
    ),
    Mutation(
        "put at sorted places",
        "params.py",
        "vector[..., places] = numbers",
        "vector[..., np.sort(places)] = numbers",
        "test_params.py",
    ),
    Mutation(
        "take whose adjoint is shorter",
        "params.py",
        "put(g, places, vector.shape[-1])",
        "put(g, np.sort(places), vector.shape[-1])",
        "test_params.py",
    ),
    Mutation(
        "leaky relu with slope one at zero",
        "ops.py",
        "np.where(x > 0, 1, LEAK)",
        "np.where(x >= 0, 1, LEAK)",
        "test_ops.py",
    ),
    Mutation(
        "a leak in float64",
        "ops.py",
        "np.where(x > 0, 1, LEAK).astype(x.dtype)",
        "np.where(x > 0, 1, LEAK)",
        "test_ops.py",
    ),
    Mutation(
        "linear maps: P in place of its adjoint",
        "chain.py",
        "hvp(alpha.adjoint(v) if",
        "hvp(alpha.apply(v) if",
        "test_chain.py",
    ),
    # ----- iMAML -----
    Mutation(
        "iMAML: plain gradient descent on S",
        "algorithms/imaml.py",
        "loss(phi) + half * anp.sum(",
        "loss(phi) + 0 * half * anp.sum(",
        "algorithms/test_imaml.py",
    ),
    Mutation(
        "iMAML: the pull of lambda |phi - theta|^2, twice that of the text",
        "algorithms/imaml.py",
        "problem.options.proximal / 2",
        "problem.options.proximal",
        "algorithms/test_imaml.py",
    ),
    Mutation(
        "iMAML: lambda adds to the damping, as in the published code",
        "algorithms/imaml.py",
        "system = lambda p: hvp(p) / problem",
        "system = lambda p: p + hvp(p) / problem",
        "algorithms/test_imaml.py",
    ),
    Mutation(
        "iMAML: grad Q for what inner steps do not move",
        "algorithms/imaml.py",
        "x + (1 - mask) * r",
        "x + (1 - mask) * q",
        "algorithms/test_imaml.py",
    ),
    Mutation(
        "iMAML: every phi is kept",
        "algorithms/imaml.py",
        "        phi = phi - alpha_k * grad(near.support(phi))(phi)\n",
        "        phi = phi - alpha_k * grad(near.support(phi))(phi)\n"
        "        near = Task(lambda at, old=near, kept=phi: old.support(at), task.query)\n",
        "algorithms/test_imaml.py",
    ),
    Mutation(
        "iMAML: tested with fewer steps than trained",
        "algorithms/imaml.py",
        'given.get("inner_steps", 16)',
        "10",
        "algorithms/test_imaml.py",
    ),
    Mutation(
        "CG: one scalar product over all tasks",
        "algorithms/conjugate.py",
        "return anp.sum(a * b, axis=-1, keepdims=True)",
        "return anp.sum(a * b) + 0 * a[..., :1]",
        "algorithms/test_conjugate.py",
    ),
    Mutation(
        "CG: a solved task divides 0 by 0",
        "algorithms/conjugate.py",
        "size / anp.where(bad, one, curvature))",
        "size / curvature)",
        "algorithms/test_conjugate.py",
    ),
    Mutation(
        "CG: goes on where the curvature is not positive",
        "algorithms/conjugate.py",
        "bad = curvature <= 0  #",
        "bad = curvature == 0  #",
        "algorithms/test_conjugate.py",
    ),
    Mutation(
        "CG: a solved task counts as stopped",
        "algorithms/conjugate.py",
        "anp.where(bad, anp.sign(size), 0 * size)",
        "anp.where(bad, 1 + 0 * size, 0 * size)",
        "algorithms/test_conjugate.py",
    ),
    Mutation(
        "CG: the ratio of the step before",
        "algorithms/conjugate.py",
        "p = anp.where(bad, 0 * p, rest + ratio * p)",
        "p = anp.where(bad, 0 * p, rest)",
        "algorithms/test_conjugate.py",
    ),
    Mutation(
        "check: the unrolled chain without its source",
        "check/implicit.py",
        "total = total - case.by_w(alpha * v, phi, w)",
        "total = total - 0 * case.by_w(alpha * v, phi, w)",
        "check/test_implicit.py algorithms/test_imaml.py",
    ),
    Mutation(
        "check: a search that ends where it begins",
        "check/implicit.py",
        "            phi, before = phi + way, slope\n",
        "            before = slope\n",
        "check/test_implicit.py",
    ),
    Mutation(
        "check: dense matrices that leave out what does not move",
        "check/implicit.py",
        "return (1 - case.moved) * (q - hvp(y)) -",
        "return (1 - case.moved) * q -",
        "check/test_implicit.py",
    ),
    # ----- the verifier -----
    Mutation(
        "a verifier that always says ok",
        "check/chain.py",
        "return bool(self.low <= self.figure <= self.high)",
        "return True",
        "check/test_chain.py",
    ),
    Mutation(
        "a report that passes whatever its rows say",
        "check/chain.py",
        "return all(row.passed for row in self.rows)",
        "return True",
        "check/test_chain.py",
    ),
    Mutation(
        "a verifier that compares the gradient with itself",
        "check/chain.py",
        "case.gradient, grad(case.objective)(case.w)",
        "case.gradient, case.gradient",
        "check/test_chain.py",
    ),
    Mutation(
        "a twin that is the gradient itself",
        "check/chain.py",
        "_, same = twin(*case.args)",
        "same = case.gradient",
        "check/test_chain.py",
    ),
    Mutation(
        "the second-order part of first order",
        "check/chain.py",
        "exact, (_, first) = case.gradient, case.method.first_order(*case.args)",
        "exact = first = case.gradient",
        "check/test_chain.py",
    ),
    Mutation(
        "a classifier that always answers exact",
        "check/classify.py",
        'kind = "exact" if error < EXACT else',
        'kind = "exact" if error < np.inf else',
        "check/test_chain.py",
    ),
    Mutation(
        "a classifier that takes any wrong gradient for first order",
        "check/classify.py",
        '"first-order" if first < EXACT else "neither"',
        '"first-order"',
        "check/test_chain.py",
    ),
    Mutation(
        "a classifier that judges a random loss",
        "check/classify.py",
        "if value(theta) != value(theta):",
        "if False:",
        "check/test_chain.py",
    ),
    Mutation(
        "a relative error that is always 0",
        "check/differences.py",
        "np.linalg.norm((claimed - measured)[sure]) /",
        "np.linalg.norm((claimed - claimed)[sure]) /",
        "check/test_chain.py",
    ),
    Mutation(
        "a difference that is always 0",
        "check/differences.py",
        "return float(np.linalg.norm(a - b) / (np.linalg.norm(b) or 1.0))",
        "return 0.0",
        "check/test_chain.py",
    ),
    Mutation(
        "a Taylor rate that is a constant",
        "check/differences.py",
        "    return float(windows[np.flatnonzero(",
        "    return 2.0 + (second is not None) + 0 * float(windows[np.flatnonzero(",
        "check/test_chain.py",
    ),
    Mutation(
        "differences over one step for two",
        "check/differences.py",
        "found.append((ahead - behind) / (2 * step))",
        "found.append((ahead - behind) / step)",
        "check/test_chain.py",
    ),
    Mutation(
        "kinks taken for errors of the gradient",
        "check/differences.py",
        "sure = doubts <= NUMERIC / 4 * (size or 1.0)",
        "sure = doubts <= np.inf",
        "check/test_chain.py",
    ),
    Mutation(
        "five-point differences of the wrong weights",
        "check/differences.py",
        "(8 * near - far) / (12 * step)",
        "(6 * near - far) / (8 * step)",
        "check/test_policy_gradients.py",
    ),
    Mutation(
        "an expected adaptation down the return",
        "check/exact.py",
        "theta = theta + world.alpha * ascent(theta)",
        "theta = theta - world.alpha * ascent(theta)",
        "check/test_policy_gradients.py",
    ),
    Mutation(
        "the stated Hessian of LVC without its product of scores",
        "check/exact.py",
        ('    if name == "lvc":\n        terms += _outer(g, g)\n'),
        "",
        "check/test_policy_gradients.py",
    ),
    Mutation(
        "draws that are all equally probable",
        "check/exact.py",
        "np.sum(np.prod(chances, 0) * mdp",
        "np.mean(0 * np.prod(chances, 0) + mdp",
        "check/test_policy_gradients.py",
    ),
    Mutation(
        "the bandit's closed form for half the steps",
        "check/exact.py",
        "(1 - 2 * alpha) ** (2 * steps)",
        "(1 - 2 * alpha) ** steps",
        "check/test_policy_gradients.py",
    ),
    Mutation(
        "trajectories without the probability of their start",
        "check/mdp.py",
        "mdp.start[states[:, 0]] * moved.prod(-1)",
        "moved.prod(-1)",
        "check/test_policy_gradients.py",
    ),
    Mutation(
        "a value function of the next time step",
        "check/mdp.py",
        "    return found[:-1]\n",
        "    return found[1:]\n",
        "check/test_policy_gradients.py",
    ),
    Mutation(
        "a policy-gradient check that finds no error",
        "check/policy_gradients.py",
        "return difference(found, exact.gradient(world, steps))",
        "return 0.0",
        "check/test_policy_gradients.py",
    ),
    # ----- feature reuse -----
    Mutation(
        "CKA of features that are not centred",
        "similarity.py",
        "return rows - rows.mean(axis=0)",
        "return rows",
        "test_similarity.py::test_cka_is_that_of_covariances",
    ),
    Mutation(
        "CCA as the mean of all correlations",
        "similarity.py",
        "kept = found[: 1 + int(np.argmax(share >= CUT))]",
        "kept = found",
        "test_similarity.py::test_small_correlations_are_cut",
    ),
    Mutation(
        "NIL by dot products",
        "similarity.py",
        "return _unit(query) @ np.swapaxes(_unit(sums), -1, -2)",
        "return query @ np.swapaxes(sums, -1, -2)",
        "test_similarity.py::test_cosines_are_those_of_the_class_means",
    ),
    Mutation(
        "the head's step times the factor squared",
        "harness/reuse.py",
        "np.sqrt(factor) * of_head",
        "factor * of_head",
        "harness/test_reuse.py::test_the_factor_multiplies_the_head_s_step",
    ),
    Mutation(
        "frozen layers that are forgotten",
        "harness/reuse.py",
        "at >= place.stop))",
        "at >= 0))",
        "harness/test_reuse.py::test_frozen_is_a_mask_on_step_sizes",
    ),
    Mutation(
        "diverged tasks with the accuracy of one class",
        "harness/reuse.py",
        "return np.where(finite, accuracy(outputs, labels), np.nan)",
        "return accuracy(outputs, labels)",
        "harness/test_reuse.py::test_a_diverged_task_is_no_number",
    ),
    Mutation(
        "a reach of the head that ignores its steps",
        "harness/reuse.py",
        '"reach": (len(thetas) - 1) * gain / self_gain',
        '"reach": gain / self_gain',
        "harness/test_reuse.py::test_the_reach_is_that_of_its_formula",
    ),
    Mutation(
        "a verdict of reuse in spite of changed layers",
        "harness/reuse.py",
        "reuse = reused == body and suffice and not changed",
        "reuse = reused == body and suffice",
        "harness/test_reuse.py::test_the_verdict_follows_its_rule",
    ),
    Mutation(
        "a mean over the tasks that did not diverge",
        "report/reuse.py",
        "mean, half = (None, None) if lost else map(float, interval(values))",
        "mean, half = map(float, interval(values[np.isfinite(values)]))",
        "harness/test_reuse.py::test_a_diverged_task_is_no_number",
    ),
    Mutation(
        "features that are always said to suffice",
        "report/reuse.py",
        "'suffice' if suffice else 'do not suffice'",
        "'suffice'",
        "harness/test_reuse.py::test_the_verdict_in_words",
    ),
    Mutation(
        "stars of NIL after adaptation",
        "plots/reuse.py",
        'one.figures["NIL", "before"]',
        'one.figures["NIL", "after"]',
        "plots/test_reuse.py",
    ),
    Mutation(
        "trained and untrained nets exchanged in the picture",
        "plots/reuse.py",
        'zip(nets, ("-", ":"), (name, None), strict=True)',
        'zip(nets[::-1], ("-", ":"), (name, None), strict=True)',
        "plots/test_reuse.py",
    ),
    Mutation(
        "an analysis that fails without matplotlib",
        "cli/reuse.py",
        "except WorldError as error:",
        "except ZeroDivisionError as error:",
        "cli/test_reuse.py::test_without_matplotlib_there_is_a_table",
    ),
    Mutation(
        "the first of several seeds alone",
        "cli/reuse.py",
        "for path in paths:",
        "for path in paths[:1]:",
        "cli/test_reuse.py::test_seeds_are_analysed_one_by_one",
    ),
    # ----- records of algorithms, old and own -----
    Mutation(
        "inner steps change what the algorithm leaves alone",
        "algorithms/algorithm.py",
        "return alpha * params.mask(model.shapes, moved)",
        "return alpha",
        "algorithms/test_records.py",
    ),
    Mutation(
        "an objective before adaptation",
        "algorithms/algorithm.py",
        "problem.options.inner_steps)[-1]",
        "problem.options.inner_steps)[0]",
        "algorithms/test_records.py",
    ),
    Mutation(
        "first-order MAML under the name of MAML",
        "algorithms/mamls.py",
        "return maml.meta_gradient(w, task, problem.alpha, problem.options.inner_steps)",
        "return maml.first_order(w, task, problem.alpha, problem.options.inner_steps)",
        "algorithms/test_records.py",
    ),
    Mutation(
        "a context vector of first order that is exact",
        "algorithms/learned.py",
        'exact = exact and options.order == "exact"',
        "exact = True",
        "algorithms/test_records.py",
    ),
    Mutation(
        "step sizes of a mask in float64",
        "experiments/__init__.py",
        "found._replace(alpha=found.alpha.astype(options.dtype))",
        "found",
        "algorithms/test_own.py",
    ),
    Mutation(
        "an algorithm's file that exits counts as a success",
        "algorithms/__init__.py",
        "except (Exception, SystemExit) as error:",
        "except Exception as error:",
        "algorithms/test_own.py",
    ),
    Mutation(
        "the hash of the name of an algorithm's file",
        "algorithms/__init__.py",
        "hashlib.sha256(file.read_bytes())",
        "hashlib.sha256(bytes(file))",
        "algorithms/test_own.py",
    ),
    Mutation(
        "an own option that hides the experiment's",
        "experiments/common.py",
        "if hasattr(kind, own):",
        "if False:",
        "algorithms/test_own.py",
    ),
    Mutation(
        "a run that is damaged for want of its algorithm's file",
        "harness/runs.py",
        "except (UsageError, WorldError) as error:\n        return str(error)",
        "except ZeroDivisionError as error:\n        return str(error)",
        "algorithms/test_own.py",
    ),
    Mutation(
        "an old context vector of first order read as exact",
        "algorithms/older.py",
        '"first" if first else "exact"',
        '"exact"',
        "harness/test_older.py",
    ),
    Mutation(
        "an old run's options of its algorithm lost",
        "algorithms/older.py",
        "if k in own or k not in SHARED",
        "if k not in SHARED",
        "harness/test_older.py",
    ),
    Mutation(
        "a loss that is nan goes on",
        "harness/loop.py",
        'numbers = found["loss"], after.theta, m, v',
        "numbers = after.theta, m, v",
        "harness/test_loop.py",
    ),
    Mutation(
        "resumed with another learning rate",
        "harness/plan.py",
        "        check_resumable(saved, config)\n",
        "",
        "harness/test_plan.py",
    ),
    # ----- Reptile -----
    Mutation(
        "Reptile: the gradient at phi",
        "algorithms/reptile.py",
        "sum(moves[1:], moves[0])",
        "moves[-1]",
        REPTILE,
    ),
    Mutation(
        "Reptile: the last minibatch's loss",
        "algorithms/reptile.py",
        "sum(losses[1:], losses[0]) / len(losses)",
        "losses[-1]",
        REPTILE,
    ),
    Mutation(
        "Reptile: second moments that move like theta",
        "algorithms/reptile.py",
        " - rest) / beta",
        " - rest) / (beta / beta)",
        REPTILE,
    ),
    Mutation(
        "Reptile: the same minibatches in every iteration",
        "algorithms/reptile.py",
        '"train", iteration, ORDER)',
        '"train", 0, ORDER)',
        REPTILE,
    ),
    Mutation(
        "Reptile: minibatches of the first shots alone",
        "algorithms/reptile.py",
        "(options.train_shots or options.shots)",
        "options.shots",
        REPTILE,
    ),
    Mutation(
        "Reptile: batch norm's offsets that never move",
        "algorithms/reptile.py",
        '    ignores=("adapt_norm",),\n',
        "",
        REPTILE,
    ),
    Mutation(
        "Reptile: no second moments for held-out tasks",
        "algorithms/minibatch.py",
        "    return walk(w, task, problem, shuffled(",
        "    w = w * (np.arange(w.shape[-1]) < params.count(problem.model.shapes))\n"
        "    return walk(w, task, problem, shuffled(",
        REPTILE,
    ),
    Mutation(
        "minibatches: every gradient at theta_0",
        "algorithms/minibatch.py",
        "maml.value_and_gradient(loss, thetas[-1])",
        "maml.value_and_gradient(loss, thetas[0])",
        REPTILE,
    ),
    Mutation(
        "minibatches: one shuffle for every cycle",
        "algorithms/minibatch.py",
        "*(rng.permutation(examples) for _ in range(cycles))",
        "*[rng.permutation(examples)] * cycles",
        REPTILE,
    ),
    Mutation(
        "minibatches: draws with replacement",
        "algorithms/minibatch.py",
        "rng.permutation(examples)",
        "rng.integers(examples, size=examples)",
        REPTILE,
    ),
    Mutation(
        "minibatches: --test-batch without effect",
        "algorithms/minibatch.py",
        "options.test_batch or options.inner_batch",
        "options.inner_batch",
        REPTILE,
    ),
    Mutation(
        "rms without bias correction",
        "optim.py",
        "anp.sqrt(1 - BETA2**t) * gradient",
        "gradient",
        "test_optim.py",
    ),
    Mutation(
        "sine: zero biases with PyTorch's weights",
        "models.py",
        "dict.fromkeys((w, b), uniform(shape[0]))",
        "{w: uniform(shape[0])}",
        "test_models.py",
    ),
    Mutation(
        "sine: support points of the grid that occur twice",
        "data/sine.py",
        "np.argsort(_rows(streams(1), tasks, len(GRID)), axis=-1)",
        "(_rows(streams(1), tasks, len(GRID)) * len(GRID)).astype(int)",
        "data/test_sine.py",
    ),
    Mutation(
        "models as large as one likes",
        "harness/plan.py",
        "if (count := checkpoints.size(config)) > MOST_PARAMETERS:",
        "if False:",
        "harness/test_plan.py",
    ),
    Mutation(
        "a baseline's policy scored where it does not act",
        "harness/policy_step.py",
        "if not method.inner_loop:",
        "if False:",
        f"{GOLDEN}[pointnav]",
    ),
    Mutation(
        "glyphs that depend on the number of drawings",
        "data/glyphs.py",
        "spawn_key=(index,)",
        "spawn_key=(index, drawings)",
        "data/test_glyphs.py",
    ),
    Mutation(
        "a part of Omniglot's classes in no split",
        "data/omniglot.py",
        '("finn_train", "finn_val")',
        '("finn_train",)',
        "data/test_omniglot.py",
    ),
    Mutation(
        "a value at the excluded end of its range",
        "options.py",
        "value <= self.above",
        "value < self.above",
        "test_options.py",
    ),
    Mutation(
        "a named BLAS kernel overruled",
        "speed/machine.py",
        "os.environ.get(CORETYPE, AVX512_KERNEL)",
        "AVX512_KERNEL",
        "speed/test_machine.py",
    ),
    # ----- locomotion -----
    Mutation(
        "the cheetah's mass not set",
        "rl/locomotion.py",
        "    mujoco.mj_setTotalmass(model, bodies.CHEETAH_MASS)\n",
        "",
        "rl/test_bodies.py",
    ),
    Mutation(
        "constants of the mass before it was set",
        "rl/locomotion.py",
        "    mujoco.mj_setConst(model, mujoco.MjData(model))\n",
        "",
        "rl/test_bodies.py",
    ),
    Mutation(
        "ankles of two legs exchanged",
        "rl/bodies.py",
        "    (-1, 1, (1, 1, 0), (-70, -30)),\n",
        "    (-1, 1, (1, 1, 0), (30, 70)),\n",
        "rl/test_bodies.py",
    ),
    Mutation(
        "the ant's motors in the order of its legs",
        "rl/bodies.py",
        "MOTORS = (4, 1, 2, 3)",
        "MOTORS = (1, 2, 3, 4)",
        "rl/test_bodies.py",
    ),
    Mutation(
        "the ant's degrees as radians",
        "rl/bodies.py",
        'motors, "degree"',
        'motors, "radian"',
        "rl/test_bodies.py",
    ),
    Mutation(
        "a simulation that breaks is begun anew",
        "rl/bodies.py",
        'element("flag", autoreset="disable")',
        'element("flag", autoreset="enable")',
        "rl/test_bodies.py rl/test_locomotion.py",
    ),
    Mutation(
        "an ant without contact forces",
        "rl/bodies.py",
        "defaults, geoms, sensor, **option)",
        "defaults, geoms, **option)",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "sensors before the last simulation step",
        "rl/locomotion.py",
        "mjtStage.mjSTAGE_NONE if late else self.stage",
        "mjtStage.mjSTAGE_NONE",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "contact forces that are not computed at the new state",
        "rl/locomotion.py",
        'mjtStage.mjSTAGE_ACC if self.body == "ant" else mjtStage.mjSTAGE_VEL',
        "mjtStage.mjSTAGE_VEL",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "velocity of the root for that of the body",
        "rl/locomotion.py",
        'v = now.sensors[:, 3] if self.velocity == "com" else',
        'v = now.qvel[:, 0] if self.velocity == "com" else',
        "rl/test_locomotion.py",
    ),
    Mutation(
        "velocity over one simulation step",
        "rl/locomotion.py",
        "seconds = self.frame_skip * batch.model.opt.timestep",
        "seconds = batch.model.opt.timestep",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "the cost of what the policy asked for",
        "rl/locomotion.py",
        "np.clip(now.ctrl, -1, 1) if rllab else now.ctrl",
        "now.ctrl",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "the sign of the goal for its half",
        "rl/locomotion.py",
        "np.where(goals < FASTEST[self.body] / 2, -1.0, 1.0)",
        "np.where(goals < 0, -1.0, 1.0)",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "the goals of the other body",
        "rl/locomotion.py",
        "np.array(rng.uniform(0, FASTEST[self.body]))",
        "np.array(rng.uniform(0, 2.0))",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "an ant that starts upright",
        "rl/locomotion.py",
        'CROUCHED if rllab and self.body == "ant" else model.qpos0',
        "model.qpos0",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "one noise of the start for all tasks",
        "rl/locomotion.py",
        "for i, rng in enumerate(rngs):",
        "for i, rng in enumerate(map(np.random.default_rng, [0] * len(rngs))):",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "the world's row of forces left out",
        "rl/locomotion.py",
        "np.clip(now.forces if rllab else now.forces[:, 1:], -1, 1)",
        "np.clip(now.forces[:, 1:], -1, 1)",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "forces that are not clipped in the reward",
        "rl/locomotion.py",
        "        forces = np.clip(now.forces, -1, 1)\n",
        "        forces = now.forces\n",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "simulations that are over go on",
        "rl/locomotion.py",
        "moving = None if alive.all() else np.flatnonzero(alive)",
        "moving = None",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "a fallen ant that is not done",
        "rl/locomotion.py",
        "return (low <= z) & (z <= high) if",
        "return (z <= high) if",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "Gymnasium's bonus for an ant that has fallen",
        "rl/locomotion.py",
        "part.alive * (standing | rllab)",
        "part.alive",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "a simulation that failed goes on",
        "rl/locomotion.py",
        "broken = failed | batch.warning[..., 1].any(axis=-1)",
        "broken = np.zeros_like(failed)",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "MuJoCo's log in the user's folder",
        "rl/locomotion.py",
        "    quiet.set()\n",
        "",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "MuJoCo silenced for good",
        "rl/locomotion.py",
        '            LOG["usual"].set()\n',
        "            pass\n",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "no advice where MuJoCo is missing",
        "rl/locomotion.py",
        "    except ImportError as error:\n",
        "    except ZeroDivisionError as error:\n",
        "experiments/test_locomotion.py::test_without_mujoco_one_line_says_what_to_install",
    ),
    Mutation(
        "advice that does not replace an old MuJoCo",
        "rl/locomotion.py",
        'install = old if find_spec("mujoco") else',
        "install =",
        "experiments/test_locomotion.py::test_an_old_mujoco_is_reported",
    ),
    Mutation(
        "a trajectory that goes on after a reward of nan",
        "rl/rollout.py",
        "        alive = alive & ~lost\n",
        "",
        "rl/test_rollout.py",
    ),
    Mutation(
        "a trajectory lost after its end",
        "rl/rollout.py",
        "lost |= alive & ~np.isfinite(reward)",
        "lost |= ~np.isfinite(reward)",
        "rl/test_rollout.py",
    ),
    Mutation(
        "a world that does not know who is over",
        "rl/rollout.py",
        "world.step(states, goals, actions, alive)",
        "world.step(states, goals, actions, np.ones_like(alive))",
        "rl/test_rollout.py",
    ),
    Mutation(
        "the noise of the actions for that of the starts",
        "experiments/acting.py",
        "STARTS = 2**32",
        "STARTS = 0",
        "experiments/test_locomotion.py::test_no_start_is_used_twice",
    ),
    Mutation(
        "the same starts at every inner step",
        "experiments/acting.py",
        "[int(x), STARTS + number]",
        "[int(x), STARTS]",
        "experiments/test_locomotion.py::test_no_start_is_used_twice",
    ),
    Mutation(
        "an oracle that sees nothing",
        "experiments/locomotion.py",
        "oracle=config.method.sees_task",
        "oracle=False",
        "experiments/test_locomotion.py::test_the_oracle_sees_the_goal",
    ),
    Mutation(
        "--frame-skip without effect",
        "experiments/locomotion.py",
        "config.frame_skip, config.velocity)",
        "1, config.velocity)",
        "experiments/test_locomotion.py::test_every_option_of_the_world_matters",
    ),
    Mutation(
        "lost trajectories of the first rollout only",
        "harness/policy_step.py",
        "for path in paths for met in path))",
        "for path in paths for met in path[:1]))",
        "experiments/test_locomotion.py::test_lost_trajectories_are_counted",
    ),
    Mutation(
        "a fixed number of sets kept in a replay",
        "speed/replay.py",
        "kept = ((rest, values), *kept)[:most]",
        "kept = ((rest, values), *kept)[:KEPT]",
        "speed/test_replay.py",
    ),
    Mutation(
        "versions of further libraries left out",
        "speed/machine.py",
        "        **{name: import_module(name).__version__ for name in libraries},\n",
        "",
        "speed/test_machine.py",
    ),
    Mutation(
        "MuJoCo's log back on while another thread simulates",
        "rl/locomotion.py",
        'elif LOG["threads"] == 0:',
        "else:",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "a world of unknown words",
        "rl/locomotion.py",
        "if not known or self.frame_skip < 1",
        "if self.frame_skip < 1",
        "rl/test_locomotion.py",
    ),
    Mutation(
        "a reward that float32 cannot hold",
        "rl/rollout.py",
        "        lost |= alive & ~np.isfinite(reward)\n",
        "        lost |= alive & np.isnan(reward)\n",
        "rl/test_rollout.py",
    ),
    Mutation(
        "another MuJoCo that is not noted",
        "harness/runs.py",
        "if before.get(n, now) != now",
        "if n not in before",
        "harness/test_runs.py",
    ),
]


def copy_of(mutation: Mutation, folder: Path) -> None:
    """Write the mutated package and the tests into `folder`."""
    for name in ("tinymaml", "tests", "data_scripts", ".github"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    file = folder / "tinymaml" / mutation.file
    text = file.read_text(encoding="utf-8")
    new = mutation.new
    if "COUNTER" in new:
        text = text.replace(
            "\nArray = ", "\nimport itertools\nCOUNTER = itertools.count(1)\nArray = ", 1
        )
    file.write_text(text.replace(mutation.old, new), encoding="utf-8")


def where(mutation: Mutation) -> int:
    """Return how often the text to mutate stands in its file."""
    text = (ROOT / "tinymaml" / mutation.file).read_text(encoding="utf-8")
    return text.count(mutation.old)


def killer(mutation: Mutation) -> str:
    """Return the first test that fails on the mutant, or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        copy_of(mutation, Path(folder))
        tests = [f"tests/{name}" for name in mutation.tests.split()]
        run = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-xq",
                "-n0",
                "-p",
                "no:cacheprovider",
                *tests,
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": folder},
            capture_output=True,
            text=True,
        )
        failed = re.findall(
            r"^(?:FAILED|ERROR) tests/(\S+?(?:\[.*\])?)(?: - |$)", run.stdout, re.MULTILINE
        )
        if run.returncode == 1 and failed:
            return failed[0]
        if run.returncode == 0:
            return ""
        raise SystemExit(f"{mutation.name}: the tests did not run\n{run.stdout[-2000:]}")


def table(killers: dict[str, str]) -> str:
    """Return the table in Markdown."""
    files = {mutation.name: mutation.file for mutation in MUTATIONS}
    lines = [
        "Generated by `python tests/mutants.py --write`: wrong programs, and the first",
        "test that rejects each.",
        "",
        "| wrong program | in | rejected by |",
        "|---|---|---|",
    ]
    for name, test in killers.items():
        lines.append(
            f"| {name} | `{files[name]}` | {f'`{test}`' if test else '**nothing**'} |"
        )
    return "\n".join(lines) + "\n"


def kept() -> dict[str, str]:
    """Return the tests that the table names, by mutant."""
    if not TABLE.exists():
        return {}
    row = r"^\| (.+?) \| `[\w/.]+` \| `(.+?)` \|$"
    return dict(re.findall(row, TABLE.read_text(encoding="utf-8"), re.MULTILINE))


def main(arguments: list[str]) -> int:
    """Run the mutants named, or all; return 1 when one survives."""
    jobs = int(arguments[arguments.index("--jobs") + 1]) if "--jobs" in arguments else 2
    named = [m for m in MUTATIONS if m.name in arguments] or MUTATIONS
    if lost := [mutation.name for mutation in named if where(mutation) != 1]:
        raise SystemExit(f"the code has no longer what these mutate: {lost}")
    found = {}
    with ThreadPoolExecutor(jobs) as pool:
        for mutation, test in zip(named, pool.map(killer, named), strict=True):
            print(
                f"{'killed' if test else 'SURVIVED':<9} {mutation.name}: {test}", flush=True
            )
            found[mutation.name] = test
    if "--write" in arguments:
        told = kept() | found
        TABLE.write_text(
            table({m.name: told.get(m.name, "") for m in MUTATIONS}), encoding="utf-8"
        )
    survivors = [name for name, test in found.items() if not test]
    print(f"{len(found)} mutants, {len(survivors)} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
