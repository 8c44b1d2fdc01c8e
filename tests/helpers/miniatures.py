"""Small mini-ImageNets in every layout in which the real one is had."""

import csv
import io
import pickle
import struct
import tarfile
import zlib

import numpy as np
from PIL import Image


SIDE = 84
# Classes of a small set by split, and images of each.
SPLITS = {"train": ["n00000003", "n00000001"], "val": ["n00000004"], "test": ["n00000002"]}
IMAGES = 3
# The numbers of ImageNet's names of a class, not in the order of the alphabet; and the
# places among them, counted from 1, that the csv files name.
NUMBERS = [3, 6, 26, 27, 28, 100, 1003]
PLACES = [2, 5, 7]


def photo(label, number, size=(100, 90), mode="RGB"):
    """Draw an image: a colour that the class has, a bar that the image has."""
    rng = np.random.default_rng(int(label[1:]))
    image = Image.new("RGB", size, tuple(int(x) for x in rng.integers(0, 200, 3)))
    image.paste((255, 255, 255), (3 * number % 70, 20, 3 * number % 70 + 12, 70))
    return image.convert(mode)


def encoded(image, kind="JPEG", **options):
    """Return the bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write_csv(folder, splits=SPLITS, places=PLACES):
    """Write the three csv files in the form of Ravi & Larochelle's."""
    folder.mkdir(exist_ok=True)
    for split, labels in splits.items():
        with open(folder / f"{split}.csv", "w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["filename", "label"])
            rows.writerows([f"{x}{n:08}.jpg", x] for x in labels for n in places)
    return folder


def labels(splits=SPLITS):
    """Return all class labels, sorted."""
    return sorted(label for names in splits.values() for label in names)


# ----- Layouts of image files -----


def plain(folder, splits=SPLITS, places=PLACES, inside=""):
    """The images by their csv names, in one folder."""
    write_csv(folder, splits, places)
    for split, names in splits.items():
        for label in names:
            place = folder / inside.format(split=split, label=label)
            place.mkdir(parents=True, exist_ok=True)
            for number in places:
                data = encoded(photo(label, number))
                (place / f"{label}{number:08}.jpg").write_bytes(data)
    return folder


def image_names(label):
    """Return {ImageNet's name: bytes} of a class; image number N is the N-th by number."""
    return {
        f"{label}_{number}.JPEG": encoded(photo(label, place))
        for place, number in enumerate(NUMBERS, 1)
    }


def class_folders(folder, splits=SPLITS):
    """ImageNet's training images, a folder for each class, and one that is not wanted."""
    write_csv(folder, splits)
    for label in [*labels(splits), "n99999999"]:
        (folder / label).mkdir()
        for name, data in image_names(label).items():
            (folder / label / name).write_bytes(data)
    return folder


def add(tar, name, data=b"", **changes):
    """Add a member to a tar, with fields of its header changed."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in changes.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data))


def class_tar(label, entries=None):
    """Return the bytes of a class's tar; `entries` in the place of its images."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        # As they come, not by number: the order of the members means nothing.
        for name, data in sorted((entries or image_names(label)).items()):
            add(tar, name, data)
    return file.getvalue()


def class_tars(folder, splits=SPLITS):
    """ImageNet's training images, a tar for each class."""
    write_csv(folder, splits)
    for label in [*labels(splits), "n99999999"]:
        (folder / f"{label}.tar").write_bytes(class_tar(label))
    return folder


def tar_of_tars(folder, splits=SPLITS):
    """ILSVRC2012_img_train.tar; returns the path of the tar."""
    write_csv(folder, splits)
    path = folder / "ILSVRC2012_img_train.tar"
    with tarfile.open(path, "w") as tar:
        for label in ["n99999999", *labels(splits)]:
            add(tar, f"{label}.tar", class_tar(label))
    return path


# ----- Layouts of pickles -----


def small_images(count, seed=0):
    """Return images uint8 (count, 84, 84, 3)."""
    rng = np.random.default_rng(seed)
    return rng.integers(256, size=(count, SIDE, SIDE, 3), dtype=np.uint8)


def cache_of(names, images=IMAGES, seed=0):
    """Return what a mini-imagenet-cache pickle holds; classes lie interleaved."""
    pixels = small_images(len(names) * images, seed)
    dealt = {name: [*range(i, len(pixels), len(names))] for i, name in enumerate(names)}
    return {"image_data": pixels, "class_dict": dealt}


def labels_of(names, first=0, images=IMAGES, seed=0):
    """Return what a miniImageNet_category_split pickle holds."""
    pixels = small_images(len(names) * images, seed)
    labels = [first + i % len(names) for i in range(len(pixels))]
    numbered = {name: first + i for i, name in enumerate(names)}
    return {"data": pixels, "labels": labels, "catname2label": numbered}


def python2_pickle(content):
    """Return what cPickle of Python 2 writes in protocol 2 for a cache or labels dict.

    Its strings are bytes (opcodes U and T), its booleans of old were ints, its memo is put
    to with q and r, and NumPy was numpy.core.
    """
    out, memo = [b"\x80\x02"], [0]

    def put():
        out.append(b"q" + bytes([memo[0]]) if memo[0] < 256 else b"r" + u4(memo[0]))
        memo[0] += 1

    def u4(number):
        return struct.pack("<I", number)

    def string(data):
        short = len(data) < 256
        out.append(b"U" + bytes([len(data)]) if short else b"T" + u4(len(data)))
        out.append(data)
        put()

    def integer(value):
        if value < 0 or value > 0xFFFF:
            out.append(b"J" + struct.pack("<i", value))
        elif value > 0xFF:
            out.append(b"M" + struct.pack("<H", value))
        else:
            out.append(b"K" + bytes([value]))

    def name(module, attribute):
        out.append(f"c{module}\n{attribute}\n".encode())
        put()

    def array(pixels):
        name("numpy.core.multiarray", "_reconstruct")
        name("numpy", "ndarray")
        integer(0)
        out.append(b"\x85")
        put()
        string(b"b")
        out.append(b"\x87")
        put()
        out.append(b"R")
        put()
        out.append(b"(")
        integer(1)
        out.append(b"(")
        for size in pixels.shape:
            integer(size)
        out.append(b"t")
        put()
        name("numpy", "dtype")
        string(b"u1")
        integer(0)
        integer(1)
        out.append(b"\x87")
        put()
        out.append(b"R")
        put()
        out.append(b"(")
        integer(3)
        string(b"|")
        out.append(b"NNN")
        integer(-1)
        integer(-1)
        integer(0)
        out.append(b"t")
        put()
        out.append(b"b\x89")
        string(pixels.tobytes())
        out.append(b"t")
        put()
        out.append(b"b")

    def value(content):
        if isinstance(content, dict):
            out.append(b"}")
            put()
            out.append(b"(")
            for key, item in content.items():
                string(key.encode())
                value(item)
            out.append(b"u")
        elif isinstance(content, list):
            out.append(b"]")
            put()
            out.append(b"(")
            for item in content:
                value(item)
            out.append(b"e")
        elif isinstance(content, int):
            integer(content)
        else:
            array(content)

    value(content)
    out.append(b".")
    return b"".join(out)


def python2_text(content):
    """Return what pickle of Python 2 writes in protocol 0: lines of text."""
    if isinstance(content, dict):
        items = (python2_text(k) + python2_text(x) + b"s" for k, x in content.items())
        body = b"(dp0\n" + b"".join(items)
    elif isinstance(content, list):
        body = b"(lp1\n" + b"".join(python2_text(item) + b"a" for item in content)
    elif isinstance(content, int):
        body = f"I{content}\n".encode()
    elif isinstance(content, str):
        body = f"S{content!r}\np2\n".encode()
    else:
        pixels = repr(content.tobytes())[1:].encode()  # as repr of Python 2's string
        body = (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n("
            + b"".join(map(python2_text, content.shape))
            + b"tcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS"
            + pixels
            + b"\ntb"
        )
    return body


CACHES = {split: f"mini-imagenet-cache-{split}.pkl" for split in SPLITS}
CATEGORIES = {
    "train": "miniImageNet_category_split_train_phase_train.pickle",
    "val": "miniImageNet_category_split_val.pickle",
    "test": "miniImageNet_category_split_test.pickle",
}


def dumped(content, protocol):
    """Pickle with a protocol of this Python, or as Python 2 did."""
    if protocol == "python 2, 0":
        return python2_text(content) + b"."
    if protocol == "python 2":
        return python2_pickle(content)
    return pickle.dumps(content, protocol)


def caches(folder, protocol=4, splits=SPLITS, images=IMAGES):
    """The three pickles mini-imagenet-cache-{train,val,test}.pkl."""
    folder.mkdir(exist_ok=True)
    for seed, (split, names) in enumerate(splits.items()):
        data = dumped(cache_of(names, images, seed), protocol)
        (folder / CACHES[split]).write_bytes(data)
    return folder


def categories(folder, protocol=4, splits=SPLITS, images=IMAGES):
    """The three pickles miniImageNet_category_split_*.pickle."""
    folder.mkdir(exist_ok=True)
    first = 0
    for seed, (split, names) in enumerate(splits.items()):
        data = dumped(labels_of(names, first, images, seed), protocol)
        (folder / CATEGORIES[split]).write_bytes(data)
        first += len(names)
    return folder


BITMAP, COLOUR = (1, 0), (8, 2)  # bits of a channel, and PNG's number for the kind


def png_header(width: int, height: int, kind: tuple[int, int]) -> bytes:
    """Return a PNG that says it is width x height and holds no pixel."""
    data = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, *kind, 0, 0, 0)
    for name, body in ((b"IHDR", header), (b"IDAT", b""), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + name + body
        data += struct.pack(">I", zlib.crc32(name + body))
    return data
