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
        "support=maker(episode.x_support, episode.y_support)",
        "support=maker(episode.x_query, episode.y_query)",
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
        "test_fewshot.py test_experiments.py",
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
        "key = (STREAMS.index(split), iteration, task)",
        "key = (STREAMS.index(split), 0, task)",
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
        "(-1.0 / labels.shape[-1])",
        "-1.0",
        "test_losses.py test_laws.py",
    ),
    Mutation(
        "a float64 scalar in a loss",
        "losses.py",
        "(-1.0 / labels.shape[-1])",
        "np.float64(-1.0 / labels.shape[-1])",
        "test_losses.py test_models.py test_ops.py",
    ),
    # ----- primitives -----
    Mutation(
        "adjoint of unfold shifted by one pixel",
        "ops.py",
        "padded[..., top : top + h, left : left + w, :])",
        "padded[..., bottom : bottom + h, right : right + w, :])",
        "test_ops.py",
    ),
    Mutation(
        "relu'(0) = 1", "ops.py", "return g * (x > 0)", "return g * (x >= 0)", "test_ops.py"
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
        "(g - _row_mean(g) - y * _row_mean(g * y)) * r",
        "(g - y * _row_mean(g * y)) * r",
        "test_ops.py",
    ),
    Mutation(
        "batch norm: sign in the rule's rule",
        "ops.py",
        "lambda _, g, y, r: lambda u: -r * (u * _mean(g * y) + g * _mean(u * y)),",
        "lambda _, g, y, r: lambda u: -r * (u * _mean(g * y) - g * _mean(u * y)),",
        "test_ops.py",
    ),
    Mutation(
        "batch norm: second derivative without the deviation's",
        "ops.py",
        "lambda a, g, y, r: lambda u: anp.sum(u * a, axis=-2, keepdims=True) / r,",
        "None,",
        "test_ops.py",
    ),
    Mutation(
        "unbiased variance in batch norm",
        "ops.py",
        "    return 1 / np.sqrt(_row_mean(x * x) + eps)",
        "    return 1 / np.sqrt(_row_mean(x * x) * x.shape[-2] / (x.shape[-2] - 1) + eps)",
        "test_ops.py",
    ),
    Mutation(
        "max-pooling to the last maximum",
        "ops.py",
        "_windows(images).argmax(-2)",
        "3 - _windows(images)[..., ::-1, :].argmax(-2)",
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
        "flat.shape[-1]] += flat",
        "flat.shape[-1]] = flat",
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
        "runs.py",
        'moments = Moments(arrays["m"], arrays["v"])',
        'moments = Moments(0 * arrays["m"], 0 * arrays["v"])',
        "test_runs.py test_train.py",
    ),
    Mutation(
        "Adam's step count begins anew after a resume",
        "train.py",
        "*adam(state.theta, gradient, state.moments, iteration, config.beta)",
        "*adam(state.theta, gradient, state.moments, COUNTER.__next__(), config.beta)",
        "test_train.py",
    ),
    Mutation(
        "metrics after the checkpoint kept on a resume",
        "runs.py",
        'if record["iteration"] <= iteration',
        "if True",
        "test_runs.py test_train.py",
    ),
    Mutation(
        "the average over tasks is a sum",
        "train.py",
        "sum(gradients) / config.tasks",
        "sum(gradients)",
        "test_train.py test_experiments.py",
    ),
    Mutation(
        "every chunk computes the first tasks",
        "train.py",
        '"train", iteration, task)) for task in tasks]',
        '"train", iteration, task)) for task in range(len(tasks))]',
        "test_train.py test_workers.py test_experiments.py",
    ),
    Mutation(
        "a replay that keeps the first inputs",
        "replay.py",
        "            call.parents[n] if n in call.parents else constant(arg)\n",
        "            call.parents[n]\n"
        "            if call.parents.get(n, 'x').startswith('v')\n"
        "            else constant(arg)\n",
        "test_replay.py",
    ),
    Mutation(
        "checkpoints written in place",
        "runs.py",
        '    beside = path.with_name(f"{TEMPORARY}{path.name}")\n',
        "    beside = path\n",
        "test_runs.py",
    ),
    # ----- evaluation -----
    Mutation(
        "interval of one task, not of their mean",
        "evaluation.py",
        " / np.sqrt(scores.shape[-1])",
        "",
        "test_evaluation.py",
    ),
    Mutation(
        "test tasks drawn from training classes",
        "evaluation.py",
        "family.sample(split, stream(TASK_SEED, split, 0, task))",
        'family.sample("train", stream(TASK_SEED, split, 0, task))',
        "test_evaluation.py test_data_omniglot.py",
    ),
    # ----- data -----
    Mutation(
        "checksum of a mapped array not looked at",
        "data/prepared.py",
        "            while member.read(CHUNK):  # raises when the checksum is wrong\n"
        "                pass\n",
        "",
        "test_data_miniimagenet.py",
    ),
    Mutation(
        "map begun before the local header's extra field",
        "data/prepared.py",
        "sum(lengths)",
        "lengths[0]",
        "test_data_miniimagenet.py",
    ),
    Mutation(
        "size of a mapped array not compared with its shape",
        "data/prepared.py",
        " or size != info.file_size - begin",
        "",
        "test_data_miniimagenet.py",
    ),
    Mutation(
        "test classes that are trained on",
        "data/prepared.py",
        "if sorted(rows.tolist()) != list(range(total))",
        "if not set(rows.tolist()) <= set(range(total))",
        "test_data_omniglot.py test_data_miniimagenet.py",
    ),
    Mutation(
        "batch-norm offsets adapted though they should not be",
        "experiments/images.py",
        'if name.startswith("beta")',
        'if name.startswith("gamma")',
        "test_experiments.py",
    ),
]


def copy_of(mutation: Mutation, folder: Path) -> None:
    """Write the mutated package and the tests into `folder`."""
    for name in ("tinymaml", "tests", "data_scripts"):
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
            [sys.executable, "-m", "pytest", "-xq", "-p", "no:cacheprovider", *tests],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": folder},
            capture_output=True,
            text=True,
        )
        failed = re.findall(
            r"^(?:FAILED|ERROR) tests/(\S+?)(?: - |$)", run.stdout, re.MULTILINE
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
