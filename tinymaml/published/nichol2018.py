"""Nichol, Achiam & Schulman, "On First-Order Meta-Learning Algorithms", 2018: Reptile.

The official code is openai/supervised-reptile; the values are the flags of its README. That
of sine curves is a demo in a gist, of which copies were read.
"""

from tinymaml.published.work import Published, Work, of_code, part, settings


README = "README, flag"
RUN, NETS = "reptile.py", "models.py"
OF_ALL = (
    of_code("outer", "sgd", f"{RUN}:62-72: interpolation"),
    of_code("schedule", "linear", f"{README} meta-step-final"),
    of_code("beta_end", 0.0, f"{README} meta-step-final"),
    of_code("clip", 0.0, "not in the code"),
    of_code("validate_every", 0, "not in the code"),
)
OF_IMAGES = (
    *OF_ALL,
    of_code("beta", 1.0, f"{README} meta-step"),
    of_code("tasks", 5, f"{README} meta-batch"),
    of_code("inner", "rms", f"{NETS}:10: Adam with beta1 = 0"),
    of_code("queries", 1, f"{RUN}:112, of held-out tasks"),
    of_code("test_queries", 0, f"{RUN}:112"),
    of_code("test_steps", 50, f"{README} eval-iters"),
    of_code("test_tasks", 10000, "args.py:35"),
    of_code("activation", "relu", f"{NETS}, tf.nn.relu"),
    of_code("norm_scale", True, f"{NETS}, tf.layers.batch_normalization"),
    of_code("norm_eps", 1e-3, f"{NETS}: TensorFlow's default (from memory)"),
    of_code("head", "glorot", f"{NETS}: TensorFlow's default (from memory)"),
    of_code("inner_loss", "mean", f"{NETS}: a sum; Adam cancels the factor"),
)
OMNIGLOT = (
    part(
        *OF_IMAGES,
        of_code("train_shots", 10, f"{README} train-shots"),
        of_code("net", "conv", f"{NETS}, strides=2"),
        of_code("filters", 64, f"{NETS}, OmniglotModel"),
        of_code("split", "finn-1200", "omniglot.py: 1200 to train on, the rest to test"),
        of_code("rotate", True, "omniglot.py: rotations are classes, in training only"),
    ),
    part(
        of_code("inner_batch", 10, f"{README} inner-batch"),
        of_code("inner_steps", 5, f"{README} inner-iters"),
        of_code("alpha", 1e-3, f"{README} learning-rate"),
        of_code("iterations", 100000, f"{README} meta-iters"),
        of_code("test_batch", 5, f"{README} eval-batch"),
        ways=5,
    ),
    part(
        of_code("inner_batch", 20, f"{README} inner-batch"),
        of_code("inner_steps", 10, f"{README} inner-iters"),
        of_code("alpha", 5e-4, f"{README} learning-rate"),
        of_code("iterations", 200000, f"{README} meta-iters"),
        of_code("test_batch", 10, f"{README} eval-batch"),
        ways=20,
    ),
)
MINI = (
    part(
        *OF_IMAGES,
        of_code("train_shots", 15, f"{README} train-shots"),
        of_code("inner_batch", 10, f"{README} inner-batch"),
        of_code("inner_steps", 8, f"{README} inner-iters"),
        of_code("alpha", 1e-3, f"{README} learning-rate"),
        of_code("iterations", 100000, f"{README} meta-iters"),
        of_code("net", "pooled", f"{NETS}, max_pooling2d"),
        of_code("filters", 32, f"{NETS}, MiniImageNetModel"),
    ),
    part(of_code("test_batch", 5, f"{README} eval-batch"), shots=1),
    part(of_code("test_batch", 15, f"{README} eval-batch"), shots=5),
)
DEMO = "gist of the sine demo"
SINE = part(
    *OF_ALL,
    of_code("beta", 0.1, f"{DEMO}: outerstepsize0"),
    of_code("tasks", 1, f"{DEMO}: serial"),
    of_code("iterations", 30000, f"{DEMO}: niterations"),
    of_code("inner", "sgd", f"{DEMO}: train_on_batch"),
    of_code("alpha", 0.02, f"{DEMO}: innerstepsize"),
    of_code("train_shots", 50, f"{DEMO}: all points"),
    of_code("inner_batch", 10, f"{DEMO}: ntrain"),
    of_code("test_batch", 0, f"{DEMO}: ntrain"),
    of_code("inner_steps", 5, f"{DEMO}: one shuffled pass of the points"),
    of_code("test_steps", 32, f"{DEMO} (from memory)"),
    of_code("shots", 10, f"{DEMO}: ntrain"),
    of_code("queries", 0, f"{DEMO}: all points"),
    of_code("grid", True, f"{DEMO}: 50 points on [-5, 5]"),
    of_code("phases", "full", f"{DEMO}: U[0, 2 pi]"),
    of_code("weights", "uniform", f"{DEMO}: PyTorch's default"),
    of_code("hidden", (64, 64), f"{DEMO}: 1-64-64-1"),
    of_code("activation", "tanh", f"{DEMO}: Tanh"),
)

OTHER = "another version of the README, at 0487665, has other values for most flags"
CARRIED = (
    "the second moments of a task are handed to the next (reptile.py:24, :62-72), here"
    " their mean over a meta-batch"
)
FLAT = "the head has 256 inputs, not the mean over places; pixels are not inverted"
PADDED = "max-pooling pads odd sides, and comes before batch norm"
REPTILE = ("reptile",)
NICHOL2018 = Work(
    name="nichol2018",
    title="Nichol et al. 2018",
    code="openai/supervised-reptile 8f2b71c",
    experiments={
        "sine": Published(settings(algorithm=REPTILE), (SINE,)),
        "omniglot": Published(
            settings(algorithm=REPTILE, ways=(5, 20), shots=(1, 5)),
            OMNIGLOT,
            notes=(OTHER,),
            missing=(CARRIED, FLAT),
        ),
        "miniimagenet": Published(
            settings(algorithm=REPTILE, ways=(5,), shots=(1, 5)),
            MINI,
            notes=(OTHER,),
            missing=(CARRIED, PADDED),
        ),
    },
)
