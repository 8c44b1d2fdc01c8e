"""The reader of shared pickles: what it reads, and that it runs nothing, whatever it gets.

The dangerous ones are built by hand, opcode by opcode, and by pickling objects whose
__reduce__ would run something. They are judged in a process of their own whose audit hook
sees every import, call of exec and opening of a file.
"""

import codecs
import contextlib
import io
import json
import os
import pickle
import pickletools
import struct
import subprocess
import sys

import numpy as np
import pytest

import miniatures
from places import ROOT
from tinymaml.prepare import pickles as reader
from tinymaml.prepare.caches import read_classes
from tinymaml.prepare.pickles import load


BINARY = [2, 3, 4, 5, "python 2"]
PROTOCOLS = [*BINARY, 0, 1, "python 2, 0"]
NAMES = ["n00000002", "n00000001"]
FORMS = {"cache": miniatures.cache_of, "labels": miniatures.labels_of}


def read(data):
    """Return {class name: images} of a pickle's bytes."""
    classes, pixels = read_classes(io.BytesIO(data))
    return {name: pixels.read(indices) for name, indices in classes.items()}


def refused(data):
    """Return the one line with which a pickle is refused."""
    with pytest.raises(ValueError, match=r"\w") as caught:
        read(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def expected_of(content):
    """Return {class name: images}, read as those who share the pickles read them."""
    if "class_dict" in content:
        pixels, classes = content["image_data"], content["class_dict"]
        return {name: pixels[indices] for name, indices in classes.items()}
    labels = np.array(content["labels"])
    named = content["catname2label"].items()
    return {name: content["data"][labels == label] for name, label in named}


# ----- What is read -----


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("form", FORMS)
def test_both_forms_in_every_protocol(form, protocol):
    """Rejects a reader of one protocol, and images in the order of the file."""
    content = FORMS[form](NAMES)
    found = read(miniatures.dumped(content, protocol))
    expected = expected_of(content)
    assert found.keys() == expected.keys()
    for name, images in expected.items():
        np.testing.assert_array_equal(found[name], images)


def test_python_2_stream_is_one():
    """Rejects a drawn stream that Python's own reader, which knows it, reads otherwise."""
    content = miniatures.cache_of(NAMES)
    data = miniatures.python2_pickle(content)
    codes = {opcode.name for opcode, _, _ in pickletools.genops(data)}
    assert {"SHORT_BINSTRING", "BINSTRING", "GLOBAL", "BUILD", "BINPUT"} <= codes
    assert not codes & {"BINUNICODE", "SHORT_BINBYTES", "BINBYTES", "MEMOIZE", "FRAME"}
    found = pickle.loads(data, encoding="latin1")
    np.testing.assert_array_equal(found["image_data"], content["image_data"])
    assert found["class_dict"] == content["class_dict"]


@pytest.mark.parametrize("core", ["core", "_core"])
@pytest.mark.parametrize("protocol", BINARY[1:4])
def test_numpy_of_either_name(protocol, core):
    """Rejects a reader that knows only the NumPy at hand: 1 has core, 2 has _core."""
    content = miniatures.cache_of(NAMES)
    data = pickle.dumps(content, protocol)
    for module in (b"multiarray", b"numeric"):
        long, short = b"numpy._core." + module, b"numpy.core." + module
        old, new = (long, short) if long in data else (short, long)
        if core == ("core" if old == short else "_core") or old not in data:
            continue
        if protocol >= 4:
            old, new = (bytes([len(text)]) + text for text in (old, new))
        data = data.replace(old, new)
    assert read(data).keys() == {*NAMES}


def test_names_may_be_bytes():
    """Rejects a reader of text only: who reads Python 2's with "bytes" shares those."""
    content = miniatures.cache_of(NAMES)
    classes = {name.encode(): rows for name, rows in content["class_dict"].items()}
    told = {b"image_data": content["image_data"], b"class_dict": classes}
    assert read(pickle.dumps(told, 4)).keys() == {*NAMES}


def test_label_without_a_name_is_called_by_its_number():
    """Rejects a KeyError where catname2label is not there, or has other labels."""
    content = miniatures.labels_of(NAMES, first=80)
    del content["catname2label"]
    assert read(pickle.dumps(content)).keys() == {"label080", "label081"}


def test_images_stay_in_the_file():
    """Rejects a reader that holds the images: a string is left where it lies."""
    for protocol in PROTOCOLS:
        data = miniatures.dumped(miniatures.cache_of(NAMES), protocol)
        content = load(io.BytesIO(data))

        array = content["image_data"]
        data = array.args[0] if array.state is None else array.state[-1]
        span = data.args[0] if isinstance(data, reader.Call) else data
        assert isinstance(span, reader.Span)
        assert span.size >= 6 * 84 * 84 * 3
        assert span.is_text == (protocol in (0, 1, 2))


KINDS = ["i1", "u1", "<i2", ">u2", "i4", "u4", "i8", ">i8"]


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_indices_may_be_of_numpy(protocol):
    """Rejects a reader of lists of Python's integers only, and another byte order."""
    content = miniatures.cache_of(NAMES)
    expected = expected_of(content)
    for kind in KINDS:
        lists = content["class_dict"].items()
        for make in (np.array, lambda rows, kind: [*np.array(rows, kind)]):
            changed = {name: make(rows, kind) for name, rows in lists}
            found = read(pickle.dumps({**content, "class_dict": changed}, protocol))
            for name, images in expected.items():
                np.testing.assert_array_equal(found[name], images)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
@pytest.mark.parametrize("images", [3, 60])
def test_labels_may_be_of_numpy(protocol, images):
    """Rejects a reader that takes an array for no list, or only a short one."""
    content = miniatures.labels_of(NAMES, 64, images)
    expected = expected_of(content)
    names = {name: np.int64(label) for name, label in content["catname2label"].items()}
    for kind in ("i8", "u1"):
        labels = np.array(content["labels"], kind)
        for some in (labels, [*labels]):
            found = read(
                pickle.dumps({**content, "labels": some, "catname2label": names}, protocol)
            )
            for name, images in expected.items():
                np.testing.assert_array_equal(found[name], images)


@pytest.mark.parametrize("protocol", [0, 1, "python 2, 0"])
def test_every_byte_survives_the_escapes(protocol):
    """Rejects characters that are counted as bytes, and backslashes in a row as one each:
    the images begin with all pairs of bytes that have an escape."""
    odd = [0, 10, 13, 26, 34, 39, 92, 117, 120, 48, 127, 128, 255]
    pairs = np.array([(a, b) for a in odd for b in odd], np.uint8).ravel()
    content = miniatures.cache_of(NAMES)
    pixels = content["image_data"].reshape(6, -1)
    pixels[:, : len(pairs)] = pairs
    pixels[:, -len(pairs) :] = pairs[::-1]
    pixels[1] = 92
    found = read(miniatures.dumped(content, protocol))
    for name, images in expected_of(content).items():
        np.testing.assert_array_equal(found[name], images)


def test_python_2_text_is_a_pickle():
    """Rejects a drawn stream that Python's own reader, which knows it, reads otherwise."""
    content = miniatures.cache_of(NAMES)
    data = miniatures.dumped(content, "python 2, 0")
    found = pickle.loads(data, encoding="latin1")
    np.testing.assert_array_equal(found["image_data"], content["image_data"])
    assert found["class_dict"] == content["class_dict"]


# ----- Wrong content -----


def changed(**changes):
    """Pickle a cache with changes."""
    return pickle.dumps({**miniatures.cache_of(NAMES), **changes})


def array_of(dtype, shape, order="C"):
    return np.zeros(shape, dtype, order)


SIX = (6, 84, 84, 3)
WRONG = {
    "not-a-dict": (pickle.dumps([1]), "not a dict"),
    "other-keys": (pickle.dumps({"images": 1}), "neither"),
    "no-array": (changed(image_data=[1]), "not a NumPy array"),
    "number": (changed(image_data=3), "not a NumPy array"),
    "bool": (changed(image_data=array_of(bool, SIX)), "not uint8"),
    "int8": (changed(image_data=array_of("i1", SIX)), "not uint8"),
    "float": (changed(image_data=array_of("f4", SIX)), "not uint8"),
    "objects": (changed(image_data=array_of(object, (2,))), "not uint8"),
    "odd-uint8": (
        pickle.dumps(miniatures.cache_of(NAMES), 2).replace(b"K\x00tq", b"K\x01tq"),
        "not uint8",
    ),
    "records": (changed(image_data=array_of([("a", "u1")], SIX)), "not uint8"),
    "flat": (changed(image_data=array_of("u1", (6, 21168))), "not of shape"),
    "grey": (changed(image_data=array_of("u1", (6, 84, 84))), "not of shape"),
    "channels-first": (changed(image_data=array_of("u1", (6, 3, 84, 84))), "not of shape"),
    "small": (changed(image_data=array_of("u1", (6, 28, 28, 3))), "not of shape"),
    "none": (changed(image_data=array_of("u1", (0, 84, 84, 3))), "bytes"),
    "fortran": (changed(image_data=array_of("u1", SIX, "F")), "C order"),
    "classes-list": (changed(class_dict=[1]), "not a dict"),
    "classes-array": (changed(class_dict={"a": np.arange(3)}), "leaves out 3"),
    "classes-floats": (changed(class_dict={"a": np.ones(3)}), "list of integers"),
    "classes-bools": (changed(class_dict={"a": np.ones(3, bool)}), "list of integers"),
    "classes-table": (changed(class_dict={"a": np.ones((1, 6), int)}), "list of integers"),
    "classes-beyond": (changed(class_dict={"a": np.arange(7)}), "below 6"),
    "classes-negative": (changed(class_dict={"a": np.arange(-1, 5)}), "below 6"),
    "index-numpy-float": (changed(class_dict={"a": [np.float64(1)]}), "not a list"),
    "labels-table": (
        pickle.dumps({"data": array_of("u1", SIX), "labels": np.ones((6, 1), int)}),
        "list of integers",
    ),
    "index-text": (changed(class_dict={"a": ["1"]}), "not a list"),
    "index-bool": (changed(class_dict={"a": [True]}), "not a list"),
    "index-float": (pickle.dumps({"a": 1.5}), "instruction"),
    "index-negative": (changed(class_dict={"a": [-1]}), "below 6"),
    "index-beyond": (changed(class_dict={"a": [0, 6]}), "below 6"),
    "index-huge": (changed(class_dict={"a": [2**60]}), "below 6"),
    "twice-in-one": (changed(class_dict={"a": [0, 0]}), "twice"),
    "twice-in-two": (changed(class_dict={"a": [0, 1], "b": [1]}), "twice"),
    "left-out": (changed(class_dict={"a": [0, 5]}), "leaves out 4 of the images"),
    "one-name-twice": (changed(class_dict={b"a": [0, 1, 2], "a": [3, 4, 5]}), "twice"),
    "name-not-ascii": (changed(class_dict={b"\xff": [0]}), "ascii"),
    "name-a-number": (changed(class_dict={1: [0]}), "not names"),
    "labels-few": (pickle.dumps({"data": array_of("u1", SIX), "labels": [0]}), "list of 6"),
    "labels-text": (
        pickle.dumps({"data": array_of("u1", SIX), "labels": ["a"] * 6}),
        "not a small integer",
    ),
    "names-swapped": (
        pickle.dumps({**miniatures.labels_of(NAMES), "catname2label": {"a": "b"}}),
        "catname2label",
    ),
    "two-labels-one-name": (
        pickle.dumps({**miniatures.labels_of(NAMES), "catname2label": {"label001": 0}}),
        "one name",
    ),
    "one-label-twice": (
        pickle.dumps({**miniatures.labels_of(NAMES), "catname2label": {b"a": 0, "a": 0}}),
        "one name twice",
    ),
    "one-key-twice": (
        pickle.dumps({**miniatures.cache_of(NAMES), b"image_data": 1}),
        "one name twice",
    ),
    "html": (b"<!DOCTYPE html><html>", "HTML page"),
    "empty": (b"", "no pickle"),
    "text-protocol": (pickle.dumps({"a": 1}, 0), "neither"),
    "text-list": (pickle.dumps([1], 0), "not a dict"),
    "text-number": (b"(dI1x\n.", "not a number"),
    "text-long-number": (b"(dI" + b"1" * 300 + b"\n.", "not a number"),
    "text-no-quotes": (b"(dSabc\n.", "without quotes"),
    "text-one-quote": (b"(dS'\n.", "without quotes"),
    "text-other-quote": (b"(dS'a\"\n.", "without quotes"),
    "text-escape": (b"(dS'\\x'\n.", "escape"),
    "text-no-end": (b"(dVabc", "too early"),
    "protocol-9": (b"\x80\x09.", "protocol 9"),
    "numpy": (b"\x93NUMPY\x01\x00", "no pickle"),
    "endless": (b"\x80\x02" + b"]" * (reader.OPCODES + 1), "more than"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_content_is_refused(case):
    """Rejects a reader that trusts dtype, shape, order, sizes or indices."""
    data, told = WRONG[case]
    assert told in refused(data)


@pytest.mark.parametrize("protocol", BINARY)
@pytest.mark.parametrize("lost", [1, -1, 84])
def test_length_of_the_images_is_checked(protocol, lost):
    """Rejects np.frombuffer on what is too short, and a shape that leaves bytes over."""
    content = miniatures.cache_of(NAMES)
    shape = content["image_data"].shape
    short = content["image_data"].reshape(-1)[: -lost if lost > 0 else None]
    if lost < 0:
        short = np.append(short, np.uint8(0))
    content["image_data"] = short.reshape(len(short), 1, 1, 1)
    data = miniatures.dumped(content, protocol)
    # The shape as it is drawn here, replaced by the one that is wanted.
    drawn = pickletools.optimize(pickle.dumps((len(short), 1, 1, 1), 2))[2:-1]
    wanted = pickletools.optimize(pickle.dumps(shape, 2))[2:-1]
    drawn, wanted = (part.rstrip(b"tq\x00\x94") for part in (drawn, wanted))
    assert data.count(drawn) == 1
    assert "bytes that their shape needs" in refused(data.replace(drawn, wanted))


LETTERS = 6 * 84 * 84 * 3
TEXT = {
    "other-coding": ("\xe9" * LETTERS, "utf-8", "bytes that their shape needs"),
    "short": ("\xe9" * (LETTERS - 1), "latin1", "bytes that their shape needs"),
    "long": ("\xe9" * LETTERS + "a", "latin1", "bytes that their shape needs"),
    "no-byte": ("a" * (LETTERS - 1) + "\u20ac", "latin1", "latin-1"),
    "no-character": ("\xe9" * (LETTERS - 1) + "\xff", "latin1", "utf-8"),
}


@pytest.mark.parametrize("case", TEXT)
def test_text_that_does_not_stand_for_the_images_is_refused(case):
    """Rejects a reader that believes the text in which protocol 2 of Python 3 has bytes."""
    letters, coding, told = TEXT[case]
    call, args, state = array_of("u1", SIX).__reduce__()
    array = EvilState(call, args, (*state[:4], Evil(codecs.encode, letters, coding)))
    data = changed(image_data=array)
    assert told in refused(data.replace(b"\xc3\xbf", b"\xff\xbf"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_truncated_pickles_are_refused(protocol):
    """Rejects an EOFError, an IndexError or half of the images."""
    data = miniatures.dumped(miniatures.cache_of(NAMES), protocol)
    for length in [*range(200), *range(200, len(data), 999), len(data) - 1]:
        refused(data[:length])


# ----- Pickles that would do something -----


class Evil:
    """Pickles into a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class EvilState:
    """Pickles into a call, and then into a state for what it returns."""

    def __init__(self, function, args, state):
        self.call = function, args, state

    def __reduce__(self):
        return self.call


def short(text):
    return b"\x8c" + bytes([len(text)]) + text.encode()


def evil_pickles(sprung):
    """Return {name: pickle}; each would make the folder `sprung`, or take all memory."""
    shell, code = f"mkdir {sprung}", f"__import__('os').mkdir({str(sprung)!r})"
    reduce_ = b"\x80\x02cos\nsystem\nX" + struct.pack("<I", len(shell)) + shell.encode()
    array = np.zeros(1).__reduce__()[:2]
    found = {
        "os.system": Evil(os.system, shell),
        "os.mkdir": Evil(os.mkdir, str(sprung)),
        "eval": Evil(eval, code),
        "exec": Evil(exec, code),
        "numpy.load": Evil(np.load, str(sprung)),
        "open": Evil(open, str(sprung), "w"),
        "getattr": Evil(getattr, "", "join"),
        "subprocess": Evil(subprocess.Popen, ["mkdir", str(sprung)]),
        "state": EvilState(dict, (), {"a": Evil(os.system, shell)}),
        "as the images": {
            "image_data": Evil(os.system, shell),
            "class_dict": {"n00000001": [0]},
        },
        "as a class": {
            **miniatures.cache_of(NAMES),
            "class_dict": {"a": Evil(os.system, shell)},
        },
        "in the array's state": {
            "image_data": EvilState(*array, Evil(os.system, shell)),
            "class_dict": {},
        },
        "object array": np.array([Evil(os.system, shell)], dtype=object),
    }
    made = {name: pickle.dumps(evil, 4) for name, evil in found.items()}
    for protocol in (0, 1, 2):
        made |= {
            f"{name}, protocol {protocol}": pickle.dumps(x, protocol)
            for name, x in found.items()
        }
    return made | {
        "dotted name": b"\x80\x04" + short("os") + short("path.os.system") + b"\x93"
        b"(" + short(shell) + b"tR.",
        "called by hand": reduce_ + b"\x85R.",
        "instance": b"\x80\x02(X" + reduce_[14:] + b"ios\nsystem\n.",
        "object": b"\x80\x02(cos\nsystem\nX" + reduce_[14:] + b"o.",
        "new object": b"\x80\x02cos\nsystem\n)\x81.",
        "new object, keywords": b"\x80\x04"
        + short("os")
        + short("system")
        + b"\x93)}\x92.",
        "persistent": b"\x80\x02Pos.system\n.",
        "persistent text": b"(dPos.system\n.",
        "instance text": b"(S'" + shell.encode() + b"'\nios\nsystem\n.",
        "memo text": b"(dp-1\n.",
        "number of many digits": b"(dI" + b"9" * 150 + b"\n" * 9 + b".",
        "line without an end": b"(dV" + b"x" * 100_000,
        "persistent, binary": b"\x80\x02X\x01\0\0\0aQ.",
        "extension": b"\x80\x02\x82\x01.",
        "out of band": b"\x80\x05\x97\x98.",
        "build on a name": b"\x80\x02cbuiltins\ndict\n}(X\x01\0\0\0aK\x01ub.",
        "build on a number": b"\x80\x02K\x01}b.",
        "call of a call": reduce_ + b"\x85R)R.",
        "call of a number": b"\x80\x02K\x01)R.",
        "arguments no tuple": b"\x80\x02cos\nsystem\nK\x01R.",
        "name of bytes": b"\x80\x04C\x02\xff\xfeC\x01a\x93.",
        "memo bomb": b"\x80\x02]r\xff\xff\xff\x7f.",
        "memo bomb 2": b"\x80\x02]r\xff\xff\xff\xff0.",
        "memo unknown": b"\x80\x02h\x07.",
        "frame of petabytes": b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
        "bytes of petabytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b"x.",
        "bytes of all": b"\x80\x04\x8e" + b"\xff" * 8 + b"x.",
        "text of petabytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**50) + b"x.",
        "bytearray of petabytes": b"\x80\x05\x96" + struct.pack("<Q", 2**50) + b"x.",
        "string of 2 GB": b"\x80\x02T\xff\xff\xff\x7fx.",
        "long of 2 GB": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "deep lists": b"\x80\x02" + b"]" * 9 + b"]a" * 50_000 + b".",
        "deep tuples": b"\x80\x02)" + b"\x85" * 100_000 + b".",
        "deep tuple for a key": b"\x80\x02}(" + b")" + b"\x85" * 100_000 + b"K\x01u.",
        "list in itself": b"\x80\x02]q\0h\0a.",
        "dict in itself": b"\x80\x02}q\0X\x01\0\0\0ah\0s.",
        "marks": b"\x80\x02" + b"(" * 100_000 + b".",
        "nothing on the stack": b"\x80\x02.",
        "no mark": b"\x80\x02K\x01t.",
        "odd dict": b"\x80\x02}(K\x01u.",
    }


JUDGE = """
import io, json, os, resource, sys
folder, out = sys.argv[1:3]
limit = 1 << 30
sys.path.insert(0, folder)
from tinymaml.prepare import caches
import encodings.latin_1, encodings.utf_8, encodings.ascii, encodings.raw_unicode_escape
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
events = []
HARMLESS = {"object.__getattr__", "object.__setattr__"}
sys.addaudithook(lambda name, args: events.append((name, repr(args)[:99])))

def judge(data):
    events.clear()
    told = "accepted"
    try:
        classes, pixels = caches.read_classes(io.BytesIO(data))
        for indices in classes.values():
            assert pixels.read(indices[:2]).shape[1:] == (84, 84, 3)
    except ValueError as error:
        told = "refused: " + str(error)
    return told, [event for event in events if event[0] not in HARMLESS]
"""
JUDGE_EVIL = (
    JUDGE
    + """
pickles = json.load(sys.stdin)
results = {name: judge(bytes.fromhex(data)) for name, data in pickles.items()}
# Not ru_maxrss, which has the parent's memory in it.
status = open("/proc/self/status").read()
print(json.dumps(results), status.partition("VmHWM:")[2].split()[0], sep="\\n")
"""
)
JUDGE_MUTANTS = (
    JUDGE
    + """
import numpy as np
drawn = [bytes.fromhex(data) for data in json.load(sys.stdin)]
rng = np.random.default_rng(int(sys.argv[3]))

def mutant(data):
    # The pixels are most of it, and nothing there can go wrong.
    before, after = data.find(b"\\7" * 99), data.rfind(b"\\7" * 99) + 99
    spots = np.arange(len(data))
    if before >= 0:
        spots = np.delete(spots, np.s_[before:after])
    data = bytearray(data)
    places = rng.choice(spots, rng.integers(1, 4), replace=False)
    for place in sorted(places.tolist(), reverse=True):
        other = int(rng.choice(spots))
        kind = rng.integers(6)
        if kind == 0:
            data[place] ^= 1 << rng.integers(8)
        elif kind == 1:
            data[place] = rng.integers(256)
        elif kind == 2:
            data.insert(place, rng.integers(256))
        elif kind == 3:
            del data[place]
        elif kind == 4:
            data[place:place + 4] = data[other:other + 4]
        elif rng.random() < 0.1:
            del data[place:]
    return bytes(data)

accepted = 0
for _ in range(int(sys.argv[4])):
    data = mutant(drawn[rng.integers(len(drawn))])
    told, seen = judge(data)
    if seen:
        raise SystemExit(f"{seen} of {data.hex()}")
    accepted += told == "accepted"
print(json.dumps({"accepted": accepted}))
"""
)


def judge(script, *args, pickles):
    """Run a judge in a process with 1 GiB of memory; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", script, str(ROOT), *map(str, args)],
        input=json.dumps(pickles),
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_nothing_is_run_and_no_memory_is_taken(tmp_path):
    """Rejects pickle.load, a find_class that looks names up, recursion, and a reader
    that believes lengths: all are refused in one line, with 1 GiB of memory."""
    sprung = tmp_path / "sprung"
    evil = evil_pickles(sprung)
    told = judge(JUDGE_EVIL, "-", pickles={k: v.hex() for k, v in evil.items()})
    results, kilobytes = told
    assert results.keys() == evil.keys()
    for name, (verdict, events) in results.items():
        assert verdict.startswith("refused: "), name
        assert "\n" not in verdict, name
        assert events == [], name
    assert not sprung.exists()
    assert kilobytes < 300 * 1024


TRAPS = ["os.system", "os.mkdir", "eval", "as a class", "in the array's state"]


@pytest.mark.parametrize("name", TRAPS)
def test_the_traps_are_traps(tmp_path, name):
    """Rejects evil pickles that would do nothing anyway, and so prove nothing."""
    sprung = tmp_path / "sprung"
    with contextlib.suppress(TypeError):  # of the array, which comes too late
        pickle.loads(evil_pickles(sprung)[name])
    assert sprung.is_dir()


def mutate(number, seed=0):
    """Judge that many mutants of pickles of both forms in all protocols."""
    pixels = np.full((2, 84, 84, 3), 7, np.uint8)
    drawn = []
    for protocol in PROTOCOLS:
        cache = {**miniatures.cache_of(NAMES, 1), "image_data": pixels}
        labels = {**miniatures.labels_of(NAMES, 64, 1), "data": pixels}
        drawn += [miniatures.dumped(x, protocol).hex() for x in (cache, labels)]
    drawn += [x.hex() for x in evil_pickles("sprung").values() if len(x) < 10_000]
    [told] = judge(JUDGE_MUTANTS, "-", seed, number, pickles=drawn)
    return told["accepted"]


def test_mutants_are_refused_or_harmless():
    """Rejects a reader that lets any other exception through, crashes, runs something or
    takes memory: 5,000 mutated pickles. (An accepted one has whole images.)"""
    assert 0 < mutate(5_000) < 2_500


@pytest.mark.slow
def test_many_mutants_are_refused_or_harmless():
    """The same with 100,000."""
    assert 0 < mutate(100_000, seed=1) < 50_000
