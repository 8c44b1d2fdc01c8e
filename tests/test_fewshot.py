"""Episodes: the laws of the sampler, of the random streams, of stacking and of tasks.

The images are built so that every drawing tells its class, its number and its turn.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymaml import fewshot, losses, models
from tinymaml.fewshot import Episode, as_task, sample, stack, stream


CLASSES, DRAWINGS, SIDE = 12, 20, 5


def coded_images():
    """Images of one grey level each, class * DRAWINGS + drawing, with one white corner."""
    codes = np.arange(CLASSES * DRAWINGS).reshape(CLASSES, DRAWINGS, 1, 1)
    images = codes.repeat(SIDE, 2).repeat(SIDE, 3).astype(np.uint8)
    images[..., 0, 0] = 255
    return images


IMAGES = coded_images()
# Where np.rot90 moves the top left corner after 0, 1, 2, 3 turns.
CORNERS = ((0, 0), (-1, 0), (-1, -1), (0, -1))


def read(x):
    """Return the classes, drawings and turns that episode images (n, h, w, 1) show.

    Whole images are compared, so that a pixel which moved or mixed is seen.
    """
    classes, drawings, turns = [], [], []
    for image in np.rint(x[..., 0].astype(float) * 255).astype(np.uint8):
        row, drawing = divmod(int(image[SIDE // 2, SIDE // 2]), DRAWINGS)
        [turn] = [i for i, corner in enumerate(CORNERS) if image[corner] == 255]
        np.testing.assert_array_equal(image, np.rot90(IMAGES[row, drawing], turn))
        classes.append(row)
        drawings.append(drawing)
        turns.append(turn)
    return np.array(classes), np.array(drawings), np.array(turns)


SEEDS = st.integers(0, 2**64 - 1)
SPLITS = st.sampled_from(["train", "val", "test"])
NUMBERS = st.integers(0, 10**8)


# ----- Law 26: what an episode is -----


@given(
    SEEDS,
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from(["float32", "float64"]),
)
def test_episode_has_distinct_classes_and_distinct_drawings(
    seed, ways, shots, queries, rotate, dtype
):
    """Rejects sampling with replacement, overlapping support and query, labels that are
    not those of the class, a class from outside the split, a turn for each image."""
    rng = np.random.default_rng(seed)
    split = rng.choice(CLASSES, 7, replace=False)
    episode = sample(rng, IMAGES, split, ways, shots, queries, rotate, dtype)
    parts = (
        (episode.x_support, episode.y_support, shots),
        (episode.x_query, episode.y_query, queries),
    )
    seen = {}
    for x, y, count in parts:
        assert x.shape == (ways * count, SIDE, SIDE, 1)
        assert x.dtype == dtype
        assert x.min() >= 0
        assert x.max() == 1  # the white corner: exactly 1, not beside it
        np.testing.assert_array_equal(y, np.arange(ways).repeat(count))
        assert np.issubdtype(y.dtype, np.integer)
        for label, *told in zip(y.tolist(), *read(x), strict=True):
            seen.setdefault(label, []).append(told)
    rows = []
    for label in range(ways):
        classes, drawings, turns = zip(*seen[label], strict=True)
        assert len(set(classes)) == 1
        assert len(set(drawings)) == shots + queries
        assert len(set(turns)) == 1
        assert rotate or turns[0] == 0
        rows.append(classes[0])
    assert len(set(rows)) == ways
    assert set(rows) <= set(split.tolist())


@pytest.mark.parametrize("rotate", [False, True])
def test_same_stream_gives_the_same_episode(rotate):
    """Rejects a sampler that draws from anything but the generator it is given."""
    first, second = (
        sample(stream(3, "val", 5, 7), IMAGES, np.arange(12), 5, 2, 3, rotate)
        for _ in range(2)
    )
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_class_drawing_and_label_is_drawn_alike():
    """Rejects a sampler that keeps some drawings for the query, or classes in order.

    2000 episodes of 3 ways, 1 shot: of 12 classes each has label 0 in 1 of 12, of 20
    drawings each is in the support in 1 of 20. Bound: 5 standard deviations of a
    binomial, passed by chance once in a million; the seed is fixed.
    """
    rng, episodes = np.random.default_rng(0), 2000
    first, support = [], []
    for _ in range(episodes):
        episode = sample(rng, IMAGES, np.arange(12), 3, 1, 1)
        classes, drawings, _ = read(episode.x_support)
        first.append(classes[0])
        support.append(drawings[0])
    for drawn, kinds in ((first, CLASSES), (support, DRAWINGS)):
        p = 1 / kinds
        bound = 5 * np.sqrt(episodes * p * (1 - p))
        assert np.abs(np.bincount(drawn, minlength=kinds) - episodes * p).max() < bound


def test_images_are_not_changed():
    """Rejects a sampler that scales or turns the data set in place."""
    before = IMAGES.copy()
    sample(np.random.default_rng(0), IMAGES, np.arange(12), 12, 10, 10, rotate=True)
    np.testing.assert_array_equal(IMAGES, before)


def test_images_with_channels_keep_them():
    """Rejects an extra axis on colour images, or a turn that moves the channels."""
    colour = np.stack([IMAGES, np.zeros_like(IMAGES), 255 - IMAGES], axis=-1)
    rng = np.random.default_rng(0)
    x = sample(rng, colour, np.arange(12), 5, 2, 1, rotate=True).x_support
    assert x.shape == (10, SIDE, SIDE, 3)
    assert (x[..., 1] == 0).all()
    # In float32: 1 - a rounded value, one unit in the last place.
    np.testing.assert_allclose(x[..., 0] + x[..., 2], 1, atol=2e-7)
    read(x[..., :1])


@pytest.mark.parametrize(
    ("ways", "shots", "queries", "told"),
    [
        (13, 1, 1, "13 ways asked for, the split has 12 classes"),
        (5, 11, 10, "11 shots and 10 queries asked for, a class has 20"),
        (5, 1, 20, "1 shots and 20 queries asked for, a class has 20"),
    ],
)
def test_too_few_classes_or_drawings_are_refused(ways, shots, queries, told):
    """Rejects a sampler that repeats a class or a drawing when it runs out of them."""
    with pytest.raises(ValueError, match=told):
        sample(stream(0, "train", 0, 0), IMAGES, np.arange(12), ways, shots, queries)


def test_equal_classes_in_a_list_give_the_same_episode():
    """Rejects another stream for a list of classes than for an array of them."""
    for rotate in (False, True):
        first, second = (
            sample(stream(0, "val", 1, 2), some, np.arange(12), 5, 2, 3, rotate)
            for some in (IMAGES, [*IMAGES])
        )
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)


def test_every_drawing_of_a_larger_class_is_drawn():
    """Rejects a sampler that cuts all classes to the smallest, or draws beyond one."""
    sizes = [3, 20, 7, 4]
    some = [IMAGES[row, :size] for row, size in enumerate(sizes)]
    rng, seen = np.random.default_rng(0), set()
    for _ in range(200):
        episode = sample(rng, some, np.arange(4), 3, 1, 2)
        classes, drawings, _ = read(np.concatenate([episode.x_support, episode.x_query]))
        seen |= {*zip(classes, drawings, strict=True)}
    assert seen == {(row, i) for row, size in enumerate(sizes) for i in range(size)}


def test_the_smallest_class_of_the_split_counts():
    """Rejects a size check on the first class, or on classes of another split."""
    some = [IMAGES[row, :size] for row, size in enumerate((9, 3, 5, 1))]
    assert fewshot.fewest(some, np.array([0, 2])) == 5
    assert fewshot.fewest(IMAGES, np.array([0, 2])) == 20
    sample(np.random.default_rng(0), some, np.array([0, 2]), 2, 4, 1)
    with pytest.raises(ValueError, match="2 shots and 2 queries asked for, a class has 3"):
        sample(np.random.default_rng(0), some, np.array([0, 1, 2]), 2, 2, 2)
    with pytest.raises(ValueError, match="different rows of 4"):
        sample(np.random.default_rng(0), some, np.array([0, 4]), 2, 1, 1)
    with pytest.raises(ValueError, match="no classes of images"):
        sample(np.random.default_rng(0), [], np.arange(0), 2, 1, 1)
    with pytest.raises(TypeError, match="images must be uint8"):
        sample(np.random.default_rng(0), [x / 255 for x in some], np.arange(3), 2, 1, 1)


def test_all_classes_and_all_drawings_can_be_used():
    """Rejects a size check that is off by one."""
    episode = sample(stream(0, "train", 0, 0), IMAGES, np.arange(12), 12, 15, 5)
    classes = read(np.concatenate([episode.x_support, episode.x_query]))[0]
    np.testing.assert_array_equal(np.bincount(classes), np.full(12, 20))


# ----- Law 28: turns -----


@pytest.mark.parametrize("row", [0, 7])
def test_four_turns_are_the_identity(row):
    """Rejects turns about another angle or axis, for which the reader here would fail."""
    image = IMAGES[row, 3]
    turned = [np.rot90(image, turn) for turn in range(5)]
    np.testing.assert_array_equal(turned[0], turned[4])
    for turn in range(4):
        assert read(turned[turn][None, ..., None] / 255)[2] == [turn]


def test_each_turn_is_drawn_alike_and_per_class():
    """Rejects three turns of four, mirror images, and one turn for a whole task.

    800 classes in 160 tasks; bound of 5 standard deviations for each turn.
    """
    rng, turns = np.random.default_rng(0), []
    for _ in range(160):
        episode = sample(rng, IMAGES, np.arange(12), 5, 1, 1, rotate=True)
        support, query = (read(x)[2] for x in (episode.x_support, episode.x_query))
        np.testing.assert_array_equal(support, query)
        turns.append(support)
    counts = np.bincount(np.ravel(turns), minlength=4)
    assert len(counts) == 4
    assert np.abs(counts - 200).max() < 5 * np.sqrt(800 * 0.25 * 0.75)
    # Five equal turns of five happen in 1 task of 256.
    assert np.mean([len(set(task)) == 1 for task in turns]) < 0.05


# ----- Law 27: streams -----


@given(SEEDS, SPLITS, NUMBERS, NUMBERS)
def test_stream_does_not_depend_on_what_was_drawn_before(seed, split, iteration, task):
    """Rejects one generator that is passed on, or a cached one that goes on."""
    first = stream(seed, split, iteration, task)
    told = first.bit_generator.random_raw(4)
    stream(seed, split, iteration, task + 1).random(100)
    np.random.default_rng(0).random(3)
    again = stream(seed, split, iteration, task)
    assert again is not first
    np.testing.assert_array_equal(told, again.bit_generator.random_raw(4))


@given(SEEDS, SPLITS, NUMBERS, NUMBERS)
def test_stream_differs_from_every_neighbour(seed, split, iteration, task):
    """Rejects a key that leaves the seed, split, iteration or task out or adds them up."""
    others = [s for s in fewshot.STREAMS if s != split]
    keys = [
        (seed, split, iteration, task),
        ((seed + 1) % 2**64, split, iteration, task),
        (seed, split, iteration + 1, task),
        (seed, split, iteration, task + 1),
        (seed, split, iteration + 1, task + 1),
        *((seed, other, iteration, task) for other in others),
    ]
    told = [stream(*key).bit_generator.random_raw() for key in keys]
    assert len(set(told)) == len(keys)


def test_no_two_of_many_streams_agree():
    """Rejects keys that are mixed before they are used, as seed + iteration + task."""
    told = {
        stream(seed, split, iteration, task).bit_generator.random_raw()
        for seed in range(4)
        for split in fewshot.STREAMS
        for iteration in range(10)
        for task in range(10)
    }
    assert len(told) == 4 * 4 * 10 * 10


def test_streams_are_those_of_earlier_versions():
    """Rejects a new order of STREAMS or a new key: old results would not be repeatable.

    The raw numbers of SeedSequence and PCG64, which NumPy promises to keep.
    """
    told = [
        stream(0, "train", 0, 0).bit_generator.random_raw(),
        stream(1, "test", 2, 3).bit_generator.random_raw(),
        stream(0, "init", 0, 0).bit_generator.random_raw(),
    ]
    assert told == [11118994801665663401, 7030517997779578526, 971003334128630962]


# ----- Tasks and stacks -----


def test_task_has_the_losses_of_support_and_query():
    """Rejects support and query that are exchanged, or inputs without their targets."""
    rng = np.random.default_rng(0)
    model = models.mlp((1, 3, 1))
    theta = rng.standard_normal(10)
    arrays = rng.standard_normal((4, 6, 1))
    task = as_task(Episode(*arrays), model.apply, losses.mse)
    x_support, y_support, x_query, y_query = arrays
    # Another theta for the maker: a supervised loss must not depend on it.
    for maker, x, y in (
        (task.support, x_support, y_support),
        (task.query, x_query, y_query),
    ):
        expected = np.mean((model.apply(theta, x) - y) ** 2)
        # The same sum in another order: a few units of 1e-16.
        assert maker(np.zeros(10))(theta) == pytest.approx(expected, rel=1e-14)


def test_stack_puts_tasks_in_front():
    """Rejects a stack that concatenates, or mixes the four arrays of an episode."""
    rng = np.random.default_rng(0)
    episodes = [sample(rng, IMAGES, np.arange(12), 5, 1, 2) for _ in range(3)]
    together = stack(episodes)
    assert isinstance(together, Episode)
    for name in Episode._fields:
        array = getattr(together, name)
        for i, episode in enumerate(episodes):
            np.testing.assert_array_equal(array[i], getattr(episode, name))
            assert array.dtype == getattr(episode, name).dtype


def test_stack_refuses_episodes_of_other_shapes():
    """Rejects a stack that broadcasts, cuts or makes an array of objects."""
    rng = np.random.default_rng(0)
    episodes = [sample(rng, IMAGES, np.arange(12), ways, 1, 1) for ways in (2, 3)]
    with pytest.raises(ValueError, match="same shape"):
        stack(episodes)


# ----- What is refused -----


@pytest.mark.parametrize(
    "images",
    [IMAGES / 255, IMAGES.astype(int), IMAGES.astype(np.float32), IMAGES[0], IMAGES[0, 0]],
)
def test_images_are_bytes(images):
    """Rejects images in [0, 1] divided by 255 again, and drawings read as classes."""
    with pytest.raises(
        TypeError, match=r"images must be uint8 \(classes, drawings, h, w\)"
    ):
        sample(np.random.default_rng(0), images, np.arange(5), 2, 1, 1)


@pytest.mark.parametrize("classes", [[0, 1, -1], [0, 1, 1], [0, 1, CLASSES]])
def test_classes_are_different_rows(classes):
    """Rejects one class under two labels, and rows counted from the end."""
    with pytest.raises(ValueError, match=f"different rows of {CLASSES}"):
        sample(np.random.default_rng(0), IMAGES, np.array(classes), 2, 1, 1)


@pytest.mark.parametrize("wanted", [(0, 1, 1), (2, 0, 1), (2, 1, 0), (2, -1, 3)])
def test_an_episode_has_examples(wanted):
    """Rejects an episode whose mean loss has nothing to average."""
    with pytest.raises(ValueError, match="must be 1 or more"):
        sample(np.random.default_rng(0), IMAGES, np.arange(5), *wanted)


@pytest.mark.parametrize("tasks", [range(0), range(3, 3), range(0, 4, 2), range(3, 0, -1)])
def test_tasks_are_consecutive(tasks):
    """Rejects no task, and a step that a sampler of rows passes over."""
    with pytest.raises(ValueError, match="one or more consecutive"):
        fewshot.drawn(None, 0, "train", 0, tasks)


def test_nothing_is_refused_by_name():
    """Rejects an IndexError or a division by zero for no episode, query or split."""
    with pytest.raises(ValueError, match="no episodes"):
        stack([])
    with pytest.raises(ValueError, match="one of train, val, test, init, not 'tset'"):
        stream(0, "tset", 0, 0)
    x, y = np.ones((3, 2)), np.zeros(3, int)
    with pytest.raises(ValueError, match="no query examples"):
        fewshot.apply_alone(lambda theta, x: x, np.ones(2), Episode(x, y, x[:0], y[:0]))


SMALL = np.zeros((5, 6, 8, 8), np.uint8)


@pytest.mark.parametrize("classes", [[True, False], [0.0, 1.0], [[0, 1], [2, 3]]])
def test_classes_are_a_list_of_rows(classes):
    """Rejects an IndexError from the inside for truth values."""
    with pytest.raises(ValueError, match="classes must be different rows of 5"):
        sample(np.random.default_rng(0), SMALL, np.array(classes), 2, 1, 1)


def test_images_have_pixels_and_are_square_to_be_rotated():
    """Rejects an episode without pixels, and one whose images lie on their side."""
    rng = np.random.default_rng(0)
    with pytest.raises(TypeError, match=r"uint8 \(5, 6, 0, 8\)"):
        sample(rng, SMALL[:, :, :0], [0, 1, 2], 2, 1, 1)
    with pytest.raises(ValueError, match="only square images can be rotated"):
        sample(rng, SMALL[..., :4], [0, 1, 2], 2, 1, 1, rotate=True)


@pytest.mark.parametrize("seed", [None, 1.5, [1, 2]])
def test_a_seed_is_one_integer(seed):
    """Rejects None, with which NumPy draws another stream at every call."""
    with pytest.raises(TypeError, match="integer"):
        stream(seed, "train", 0, 0)


def test_a_query_is_not_normalised_by_itself():
    """Rejects the batch norm of a single image where there is no support example."""
    x, y = np.ones((3, 2)), np.zeros(3, int)
    with pytest.raises(ValueError, match="no support examples"):
        fewshot.apply_alone(lambda theta, x: x, np.ones(2), Episode(x[:0], y[:0], x, y))
