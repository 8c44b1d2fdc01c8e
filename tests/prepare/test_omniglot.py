"""`tinymaml prepare omniglot` against damaged archives, bad networks and full disks.

Faults run the command in a process of its own. Where a whole data set would be needed
the process first sets SMALL, the counts of six characters with two drawings each.
"""

import contextlib
import hashlib
import http.server
import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from miniatures import BITMAP, png_header
from places import ROOT
from processes import here
from tinymaml.errors import UsageError, WorldError
from tinymaml.prepare import files, omniglot


SCRIPT = ROOT / "data_scripts" / "omniglot.py"
BACKGROUND, EVALUATION = "images_background.zip", "images_evaluation.zip"
SMALL = omniglot.Counts(3, 3, 2, vinyals=(3, 1, 2), finn=(3, 1, 2))
NAMES = {
    BACKGROUND: ["Armenian/character01", "Greek/character01", "Greek/character02"],
    EVALUATION: ["Gurmukhi/character01", "Gurmukhi/character42", "ULOG/character01"],
}
FIRST = "images_background/Armenian/character01/0001_01.png"
WITH_SMALL_COUNTS = f"""
import sys
from tinymaml.__main__ import main
from tinymaml.prepare import omniglot
omniglot.prepare.__defaults__ = (omniglot.Counts{tuple(SMALL)!r},)
omniglot.download.__defaults__ = (0.0,)
sys.argv[1:1] = ["prepare", "omniglot"]
main()
"""


# ----- Archives made here -----


def png(size=(105, 105), mode="1", kind="PNG", shift=0):
    """Return the bytes of a picture of a black bar on white paper."""
    image = Image.new(mode, size, 1 if mode == "1" else "white")
    image.paste(0, (20 + shift, 40, 80 + shift, 47))
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def members(archive):
    """Return {name: bytes} of a whole small archive, all drawings different."""
    half, drawings = Path(archive).stem, {}
    for row, name in enumerate(NAMES[archive]):
        for number in (1, 2):
            path = f"{half}/{name}/{row + 1:04}_{number:02}.png"
            drawings[path] = png(shift=2 * row + number)
    return drawings


def pack(path, entries):
    """Write a zip of (name or ZipInfo, bytes) pairs, in this order."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # zipfile warns of the duplicates wanted here
        for name, data in entries:
            archive.writestr(name, data, zipfile.ZIP_DEFLATED)


@pytest.fixture
def source(tmp_path):
    """A folder with both archives, sound and small."""
    folder = tmp_path / "source"
    folder.mkdir()
    for archive in NAMES:
        pack(folder / archive, members(archive).items())
    return folder


def with_first(source, data):
    """Replace the drawing FIRST by `data` (None: leave it out)."""
    entries = members(BACKGROUND) | {FIRST: data}
    pack(
        source / BACKGROUND,
        [item for item in entries.items() if item[1] is not None],
    )


def with_extra(source, name, data=b"x"):
    """Put one more member in front of the sound ones."""
    entries = [(name, data), *members(BACKGROUND).items()]
    pack(source / BACKGROUND, entries)


def edit(source, *changes):
    """Replace bytes of the background archive, lengths unchanged."""
    data = (source / BACKGROUND).read_bytes()
    for old, new in changes:
        assert old in data
        assert len(old) == len(new)
        data = data.replace(old, new)
    (source / BACKGROUND).write_bytes(data)


# ----- Running it -----


def tree(folder):
    """Return {path: bytes} of all that is in a folder."""
    return {
        str(path.relative_to(folder)): path.is_file() and path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def start(arguments, small=False, **options):
    """Start the script in a process of its own."""
    script = ["-c", WITH_SMALL_COUNTS] if small else [str(SCRIPT)]
    environment = {**os.environ, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, *script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def run(*arguments, small=False, **options):
    """Run the script; return its exit code, stdout and stderr."""
    with start(arguments, small, **options) as process:
        stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


def assert_one_line(result, *words):
    """The contract of a bad world: exit 1 and one line that says what and where."""
    code, stdout, stderr = result
    assert (code, stdout) == (1, ""), stderr
    assert stderr.startswith("Error: "), stderr
    assert stderr.count("\n") == 1, stderr
    assert "Traceback" not in stderr
    for word in words:
        assert word in stderr


def assert_refused(source, *words, small=False):
    """The command refuses the archives in `source` and leaves no trace anywhere."""
    before = tree(source.parent)
    result = run(
        "--from", source, "--out", source.parent / "out.npz", small=small, cwd=source
    )
    assert_one_line(result, *words)
    assert tree(source.parent) == before


@pytest.fixture
def later(monkeypatch):
    """Set this process's clock, but no other's, three years on."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e8)


# ----- Sound archives -----


def test_small_archives_give_the_arrays_promised(source):
    arrays, digest = omniglot.prepare(source, SMALL)
    assert arrays["images"].shape == (6, 2, 28, 28)
    assert arrays["images"].dtype == np.uint8
    assert arrays["names"].tolist() == sorted(NAMES[BACKGROUND] + NAMES[EVALUATION])
    rows = {name: rows.tolist() for name, rows in arrays.items() if "_" in name}
    assert rows["lake_train"] == [0, 1, 2]
    assert rows["lake_test"] == [3, 4, 5]
    assert rows["vinyals_train"] == [1, 2, 3]
    assert rows["vinyals_val"] == [0]
    assert rows["vinyals_test"] == [4, 5]

    expected = hashlib.sha256()
    for archive in NAMES:
        drawings = list(members(archive).values())
        for row, name in enumerate(NAMES[archive]):
            expected.update(f"{name}\n".encode())
            for data in drawings[2 * row : 2 * row + 2]:
                pixels = np.asarray(Image.open(io.BytesIO(data)))
                expected.update(np.where(pixels, 255, 0).astype(np.uint8).tobytes())
    assert digest == expected.hexdigest()


def test_order_of_members_and_folders_do_not_matter(source):
    expected, digest = omniglot.prepare(source, SMALL)
    for archive in NAMES:
        drawings = members(archive)
        folders = {f"{Path(path).parent}/": b"" for path in drawings}
        folders |= {f"{Path(path).parents[1]}/": b"" for path in drawings}
        folders |= {f"{Path(archive).stem}/": b""}
        entries = [*reversed(drawings.items()), *folders.items()]
        pack(source / archive, entries)
    arrays, same = omniglot.prepare(source, SMALL)
    assert same == digest
    assert all(np.array_equal(arrays[name], expected[name]) for name in expected)


def test_shrunk_ink_is_white_grey_at_the_edge_on_black_paper(source):
    arrays, _ = omniglot.prepare(source, SMALL)
    image = arrays["images"][0, 0]
    assert image[0].max() == image[-1].max() == 0  # paper
    assert image.max() > 200  # ink
    # Nearest neighbour, Pillow's choice for mode "1", would know 0 and 255 only.
    assert len(np.unique(image)) > 10
    grey = Image.fromarray(
        np.where(np.asarray(Image.open(io.BytesIO(png(shift=1)))), 0, 255).astype("u1")
    )
    inverted_first = np.asarray(grey.resize((28, 28), Image.Resampling.LANCZOS))
    np.testing.assert_allclose(image, inverted_first.astype(int), atol=1)


def test_grey_pngs_are_as_good_as_one_bit_ones(source):
    _, digest = omniglot.prepare(source, SMALL)
    with_first(source, png(mode="L", shift=1))
    assert omniglot.prepare(source, SMALL)[1] == digest


def test_finn_split_is_a_seeded_shuffle_of_the_sorted_names():
    names = [f"Greek/character{i:02}" for i in range(10)]
    counts = SMALL._replace(vinyals=(10, 0, 0), finn=(5, 2, 3))
    splits = omniglot.make_splits(names, [0] * 10, counts)
    order = [8, 4, 7, 0, 1, 2, 5, 9, 6, 3]  # default_rng(1), NumPy 2.4
    assert splits["finn_train"].tolist() == sorted(order[:5])
    assert splits["finn_val"].tolist() == sorted(order[5:7])
    assert splits["finn_test"].tolist() == sorted(order[7:])


def test_success_is_told_on_stdout_and_strangeness_on_stderr(source, tmp_path):
    code, stdout, stderr = run("--from", source, small=True, cwd=tmp_path)
    assert code == 0
    assert stderr == "Warning: these drawings differ from the known ones\n"
    assert stdout.startswith("omniglot.npz\nimages        (6, 2, 28, 28) uint8\n")
    assert f"sha256 of the drawings: {omniglot.prepare(source, SMALL)[1]}\n" in stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "omniglot.npz",
        "source",
    ]
    with np.load(tmp_path / "omniglot.npz", allow_pickle=False) as saved:
        assert set(saved) == {
            *("images", "names", "lake_train", "lake_test"),
            *("vinyals_train", "vinyals_val", "vinyals_test"),
            *("finn_train", "finn_val", "finn_test"),
        }


def test_bytes_do_not_depend_on_the_clock_or_the_process(source, tmp_path, later):
    run("--from", source, small=True, cwd=tmp_path)
    omniglot.write(omniglot.prepare(source, SMALL)[0], tmp_path / "again.npz")
    again = (tmp_path / "again.npz").read_bytes()
    assert again == (tmp_path / "omniglot.npz").read_bytes()


def test_notes_are_for_terminals(capsys, monkeypatch):
    files.note("reading")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    files.note("writing")
    assert capsys.readouterr() == ("", "writing\n")


@pytest.mark.parametrize("error", [files.failure("a", "", "b"), UsageError("a: b")])
def test_an_error_is_named_once(error):
    """Rejects a line that names a file and then the other file that is at fault."""
    with pytest.raises(type(error), match=r"^a: b$"), files.naming("file", "not a zip"):
        raise error


# ----- Damaged archives -----


def linked(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    "name",
    [
        *("../evil.png", "/etc/evil.png", "C:\\evil.png"),
        *("images_background/../../evil.png", FIRST + ".sh", "README.md"),
        "images_evaluation/ULOG/character01/0001_01.png",
        "images_background/Greek/character01/0001_0\u0661.png",
        "images_background/Greek/character1/0001_01.png",
        "images_background/Greek/character01/line\nbreak.png",
        *("images_background/" * 3 + "Greek/character01/0003_01.png", "python/" + FIRST),
        *("images_background/._Greek/evil.png", "x.DS_Store"),
    ],
)
def test_only_names_of_drawings_are_accepted(source, name):
    with_extra(source, name)
    assert_refused(source, BACKGROUND, f"{name!r}", "expected images_background/")


# ----- Layouts -----


def extracted(source, archive, top):
    """Replace an archive by what is in it, below `top`; return the source."""
    for name, data in members(archive).items():
        file = source / top / name.partition("/")[2]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    (source / archive).unlink()
    return source


def repacked(source, archive, change):
    """Pack an archive with other names, in the order that they come."""
    pack(source / archive, [(change(x), data) for x, data in members(archive).items()])


def by_a_mac(source):
    """Repack both archives with what a Mac adds."""
    for archive in NAMES:
        entries = [*members(archive).items()]
        for name in members(archive):
            folder, _, file = name.rpartition("/")
            entries += [(f"__MACOSX/{folder}/._{file}", b"\0\5\26\7" * 20)]
            entries += [(f"{folder}/.DS_Store", b"x"), (f"{folder}/._{file}", b"x" * 99)]
        pack(source / archive, dict(entries).items())


LAYOUTS = {
    "extracted": lambda source: [
        extracted(source, archive, Path(archive).stem) for archive in NAMES
    ],
    "extracted twice": lambda source: [
        extracted(source, archive, f"{Path(archive).stem}/{Path(archive).stem}")
        for archive in NAMES
    ],
    "one extracted": lambda source: extracted(source, BACKGROUND, Path(BACKGROUND).stem),
    "no top": lambda source: [
        repacked(source, archive, lambda name: name.partition("/")[2]) for archive in NAMES
    ],
    "double top": lambda source: [
        repacked(source, archive, lambda name: f"{name.partition('/')[0]}/{name}")
        for archive in NAMES
    ],
    "by a Mac": by_a_mac,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_arrays(source, layout):
    """Rejects a reader of the original zips only, and one that takes a Mac's ._ files for
    drawings."""
    expected, digest = omniglot.prepare(source, SMALL)
    LAYOUTS[layout](source)
    arrays, same = omniglot.prepare(source, SMALL)
    assert same == digest
    assert all(np.array_equal(arrays[name], expected[name]) for name in expected)


def test_the_command_reads_folders(source):
    """Rejects an option that wants zips, and a trace in the folder that is read."""
    LAYOUTS["extracted"](source)
    (source / "images_background" / ".DS_Store").write_bytes(b"x")
    before = tree(source)
    code, stdout, _ = run("--from", source, small=True, cwd=source.parent)
    assert code == 0
    assert "images        (6, 2, 28, 28) uint8" in stdout
    assert tree(source) == before


def test_links_in_a_folder_are_refused(source):
    """Rejects a reader that follows a link out of the folder, or for ever."""
    folder = LAYOUTS["one extracted"](source) / "images_background"
    for name, to, told in (
        ("Zulu", "..", "expected images_background/"),
        ("Greek/character01/0003_09.png", "/etc/passwd", "a link"),
    ):
        (folder / name).symlink_to(to)
        assert_refused(source, Path(name).name, told)
        (folder / name).unlink()


def test_other_files_in_a_folder_are_refused(source):
    """Rejects a reader that overlooks what it does not know, or goes down for ever."""
    folder = LAYOUTS["one extracted"](source) / "images_background"
    for name in ("evil.sh", "Greek/README.md", "a/b/c/d/e/f.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
        assert_refused(source, "expected images_background/")
        (folder / name).unlink()
        if name.startswith("a/"):
            break


def test_drawings_in_a_folder_have_a_largest_size(source):
    """Rejects a file of any size that is read because it lies in a folder."""
    folder = LAYOUTS["one extracted"](source)
    (folder / FIRST).write_bytes(bytes(1 << 24))
    assert_refused(source, FIRST, "too large")


@pytest.mark.parametrize("name", ["small1", "small2"])
def test_a_small_background_set_has_lakes_split(source, name):
    """Rejects a small set that is refused, or gets splits that it cannot have."""
    expected, _ = omniglot.prepare(source, SMALL)
    small = f"images_background_{name}"
    entries = [
        (x.replace("images_background", small), data)
        for x, data in members(BACKGROUND).items()
    ]
    (source / BACKGROUND).rename(source / "x")
    pack(source / f"{small}.zip", entries)
    arrays, _ = omniglot.prepare(source, SMALL)
    assert arrays.keys() == {"images", "names", "lake_train", "lake_test"}
    for key in arrays:
        np.testing.assert_array_equal(arrays[key], expected[key])
    (source / "x").rename(source / BACKGROUND)
    full, _ = omniglot.prepare(source, SMALL)
    assert full.keys() == expected.keys()
    asked, _ = omniglot.prepare(source, SMALL, background=name)
    assert asked.keys() == arrays.keys()


def test_two_small_background_sets_need_a_choice(source):
    """Rejects a silent choice between two sets, and other numbers of characters."""
    (source / BACKGROUND).unlink()
    for name in ("small1", "small2"):
        top = f"images_background_{name}"
        pack(source / f"{top}.zip", [(f"{top}/Greek/", b"")])
    with pytest.raises(WorldError, match="small1 and small2: choose one by --background"):
        omniglot.prepare(source)
    for name, count in (("small1", 136), ("small2", 156)):
        with pytest.raises(WorldError, match=f"0 characters, expected {count}"):
            omniglot.prepare(source, background=name)


WORDS = [
    *("images_background", "Greek", "character01", "__MACOSX", "._x", ".DS_Store", ".."),
    *("0001_01.png", "0001_1.png", "evil.sh", "", "images_evaluation", "character1"),
]


@given(st.lists(st.sampled_from(WORDS), max_size=6).map("/".join).filter(bool))
def test_any_member_is_a_drawing_a_desktops_or_refused(tmp_path_factory, name):
    """Rejects a layout that takes one drawing for another, or overlooks what is neither."""
    path = tmp_path_factory.mktemp("zip") / BACKGROUND
    pack(path, [(name, b"x")])
    with zipfile.ZipFile(path) as archive:
        try:
            found = omniglot.find_drawings(archive, "images_background")
        except WorldError as error:
            told = str(error)
            found = None
    words, top = name.split("/"), "images_background"
    inside = words[1:] if words[0] == top else words
    inside = inside[1:] if inside != words and inside[:1] == [top] else inside
    if inside == ["Greek", "character01", "0001_01.png"]:
        assert [*found] == ["Greek/character01"]
    elif found is None:
        assert "expected images_background/" in told
    else:
        assert found == {}
        empty = inside in ([""], ["Greek", ""], ["Greek", "character01", ""])
        assert "__MACOSX" in words or {"._x", ".DS_Store"} & {*words[-2:]} or empty


def test_a_small_background_set_is_not_downloaded(tmp_path):
    """Rejects a download of another set than the one that is asked for."""
    told = here(
        "prepare", "omniglot", "--background", "small1", "--out", tmp_path / "x.npz"
    )
    assert (told.code, [*tmp_path.iterdir()]) == (2, [])
    assert "--background small1 needs --from" in told.err


def test_name_behind_a_nul_is_seen(source):
    name = "images_background/Zulu/character01/0001_01.png"
    with_extra(source, name + "X.sh")
    edit(source, (b".pngX", b".png\0"))
    assert_refused(source, repr(name + "\0.sh"))


def test_link_is_refused(source):
    name = "images_background/Zulu/character01/0001_01.png"
    with_extra(source, linked(name), b"/etc/passwd")
    assert_refused(source, BACKGROUND, name, "a link")


def test_encrypted_member_is_refused(source):
    # Bit 0 of the flags, behind the version in both kinds of header.
    edit(
        source,
        (b"PK\3\4\x14\0\0\0", b"PK\3\4\x14\0\1\0"),
        (b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"),
    )
    assert_refused(source, BACKGROUND, FIRST, "encrypted")


def test_unknown_compression_is_refused(source):
    with zipfile.ZipFile(source / BACKGROUND, "w") as archive:
        archive.writestr(FIRST, png(), zipfile.ZIP_LZMA)
    assert_refused(source, BACKGROUND, FIRST, "unknown compression")


def test_duplicate_name_is_refused(source):
    with_extra(source, FIRST, png())
    assert_refused(source, BACKGROUND, FIRST, "duplicate")


def test_two_drawings_with_one_number_are_refused(source):
    with_extra(source, FIRST.replace("0001_", "0007_"), png())
    assert_refused(source, BACKGROUND, FIRST, "duplicate")


def test_bomb_is_refused_by_its_size(source):
    with_first(source, bytes(1 << 24))
    assert (source / BACKGROUND).stat().st_size < 1 << 16
    assert_refused(source, BACKGROUND, FIRST, "too large")


def test_bomb_that_lies_about_its_size_is_refused(source):
    with_first(source, bytes(1 << 24))
    edit(source, (struct.pack("<I", 1 << 24), struct.pack("<I", 500)))
    assert_refused(source, BACKGROUND, FIRST, small=True)


def test_read_stops_after_the_limit_whatever_was_declared(source):
    with_first(source, bytes(1 << 17))
    with (
        zipfile.ZipFile(source / BACKGROUND) as archive,
        pytest.raises(WorldError, match="too large"),
    ):
        omniglot.decode(archive, archive.getinfo(FIRST))


def test_a_bomb_is_not_held_in_memory(source):
    """Rejects a drawing that is unpacked before its size is compared."""
    with_first(source, bytes(1 << 24))
    with zipfile.ZipFile(source / BACKGROUND) as archive:
        member = archive.getinfo(FIRST)
        tracemalloc.start()
        with pytest.raises(WorldError, match="too large"):
            omniglot.decode(archive, member)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("limit", ["TOTAL_BYTES", "MEMBERS", "ARCHIVE_BYTES"])
def test_limits_of_the_whole_archive(source, monkeypatch, limit):
    monkeypatch.setattr(omniglot, limit, 5)
    with pytest.raises(WorldError, match=rf"{BACKGROUND}.* 5\b"):
        omniglot.prepare(source, SMALL)


@pytest.mark.parametrize("half", [BACKGROUND, EVALUATION])
@pytest.mark.parametrize("length", [0, 100, -1])
def test_truncated_archive_is_refused(source, half, length):
    data = (source / half).read_bytes()
    (source / half).write_bytes(data[:length])
    with pytest.raises(WorldError, match=f"{half}: not a readable zip"):
        omniglot.prepare(source, SMALL)
    if half == BACKGROUND:
        assert_refused(source, half, "not a readable zip")


def test_damaged_member_is_refused(source):
    data = members(BACKGROUND)[FIRST]
    with zipfile.ZipFile(source / BACKGROUND) as archive:
        info = archive.getinfo(FIRST)
    offset = info.header_offset + 30 + len(FIRST)
    packed = (source / BACKGROUND).read_bytes()
    assert len(data) > 40
    torn = packed[: offset + 20] + bytes(20) + packed[offset + 40 :]
    (source / BACKGROUND).write_bytes(torn)
    assert_refused(source, BACKGROUND, FIRST, small=True)


def test_missing_archive_is_named(source):
    (source / EVALUATION).unlink()
    assert_refused(source, str(source / EVALUATION), "no such file")


def test_path_with_a_line_break_still_gives_one_line(tmp_path):
    folder = tmp_path / "two\nlines"
    folder.mkdir()
    assert_refused(folder, "two lines", "no such file")


def test_folder_in_place_of_an_archive_is_named(source):
    (source / EVALUATION).unlink()
    (source / EVALUATION).mkdir()
    assert_refused(source, str(source / EVALUATION), "no such file")


def test_missing_drawing_is_counted(source):
    with_first(source, None)
    words = "'Armenian/character01'", "1 drawings, expected numbers 1 to 2"
    assert_refused(source, BACKGROUND, *words, small=True)


def test_too_few_characters_are_counted(source):
    entries = [
        (f"images_background/Greek/character01/0001_{i:02}.png", png())
        for i in range(1, 21)
    ]
    pack(source / BACKGROUND, entries)
    assert_refused(source, BACKGROUND, "1 characters, expected 964")


def test_one_character_in_both_archives_is_refused(source):
    drawings = members(EVALUATION)
    entries = [
        (path.replace("ULOG/character01", "Greek/character01"), data)
        for path, data in drawings.items()
    ]
    pack(source / EVALUATION, entries)
    assert_refused(source, "'Greek/character01' is in both archives", small=True)


def test_other_alphabets_are_refused(source):
    drawings = members(EVALUATION).items()
    entries = [(path.replace("ULOG", "Zulu"), data) for path, data in drawings]
    pack(source / EVALUATION, entries)
    assert_refused(source, "not Omniglot's alphabets", "(3, 1, 2)", small=True)


def late_profile():
    """A PNG with an empty colour profile behind its pixels (IndexError in Pillow)."""
    body = b"iCCP"
    chunk = struct.pack(">I", 0) + body + struct.pack(">I", zlib.crc32(body))
    return png(mode="L")[:-12] + chunk + png()[-12:]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(png((1, 1)), "(1, 1) pixels", id="1x1"),
        pytest.param(png((105, 106)), "(105, 106) pixels", id="105x106"),
        pytest.param(png(mode="RGB"), "mode 'RGB'", id="rgb"),
        pytest.param(png()[:-30], "", id="truncated"),
        pytest.param(png()[:60], "", id="cut before the pixels"),
        pytest.param(b"", "not a readable PNG: another format", id="empty"),
        pytest.param(png(kind="GIF"), "not a readable PNG: another format", id="gif"),
        pytest.param(b"<!DOCTYPE html>", "not a readable PNG: another format", id="html"),
        pytest.param(png_header(10_000, 9_000, BITMAP), "", id="bomb that warns"),
        pytest.param(png_header(60_000, 60_000, BITMAP), "", id="bomb"),
        pytest.param(png_header(4_000, 4_000, BITMAP), "(4000, 4000)", id="small bomb"),
        pytest.param(late_profile(), "", id="index error"),
    ],
)
def test_bad_png_is_named(source, data, reason):
    with_first(source, data)
    assert_refused(source, BACKGROUND, FIRST, reason, small=True)


def test_blank_error_is_named_by_its_kind(source, monkeypatch):
    """Rejects a line that ends where the reason should be: zipfile's EOFError has none."""

    def end(*_):
        raise EOFError

    monkeypatch.setattr(zipfile.ZipFile, "open", end)
    with pytest.raises(WorldError, match=r"\.png': not a readable PNG: EOFError$"):
        omniglot.prepare(source, SMALL)


# ----- The disk -----


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch, call, error):
    def fail(*_):
        raise error

    out = tmp_path / "out.npz"
    out.write_bytes(b"old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises((WorldError, KeyboardInterrupt)) as raised:
        omniglot.write({"images": np.zeros(3)}, out)
    if isinstance(raised.value, WorldError):
        assert str(raised.value) == f"{out}: No space left"
    assert tree(tmp_path) == {"out.npz": b"old"}


KILLED = """
import os, signal
from pathlib import Path
from tinymaml.prepare.files import replacing
with replacing(Path("out.npz")):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_temporaries_of_killed_writers_are_swept(tmp_path):
    """Rejects a folder that fills with what kill -9 leaves there, and a sweep of what is
    another file's or of a process that lives."""
    for _ in range(2):
        subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path)
    [left] = tree(tmp_path)
    (tmp_path / f".out.npz.{os.getppid()}.tmp").write_bytes(b"")
    (tmp_path / left.replace("out.npz", "out2npz")).write_bytes(b"")
    (tmp_path / left.replace("out", "b.out")).write_bytes(b"")
    kept = tree(tmp_path).keys() - {left}
    omniglot.write({}, tmp_path / "out.npz")
    assert tree(tmp_path).keys() == kept | {"out.npz"}
    assert len(kept) == 3


def test_full_disk_is_one_line(source, tmp_path):
    resource = pytest.importorskip("resource", reason="POSIX only")
    before = tree(tmp_path)
    result = run(
        *("--from", source, "--out", tmp_path / "out.npz"),
        small=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)),
    )
    assert_one_line(result, str(tmp_path / "out.npz"), "File too large")
    assert tree(tmp_path) == before


def test_missing_folder_is_told_before_any_work(tmp_path):
    out = tmp_path / "nowhere" / "out.npz"
    assert_one_line(run("--out", out), f"{out.parent}: no such folder")
    assert tree(tmp_path) == {}


# ----- The network -----


@pytest.fixture
def serve(monkeypatch):
    """Start servers on the loopback; each answers by a function of the handler."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with contextlib.ExitStack() as stack:

        def begin(answer):
            requests = []

            class Handler(http.server.BaseHTTPRequestHandler):
                def do_GET(self):
                    requests.append(self.headers["Range"])
                    with contextlib.suppress(ConnectionError):
                        answer(self, len(requests))

                def log_message(self, *_):
                    pass

            server = stack.enter_context(
                http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            )
            server.daemon_threads = True
            server.block_on_close = False
            thread = threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.02}
            )
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}", requests

        yield begin


def reply(handler, body, code=200, length=None, **headers):
    """Send `body`, declaring `length` bytes."""
    handler.send_response(code)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


BODY = bytes(range(256)) * 400  # more than one read
MD5 = hashlib.md5(BODY).hexdigest()


def fetch(url, folder, md5=MD5):
    """Download url/x.zip into `folder` without pauses."""
    omniglot.download(f"{url}/x.zip", folder / "x.zip", md5, pause=0.0)


def test_download_happens_once(serve, tmp_path):
    url, requests = serve(lambda handler, _: reply(handler, BODY))
    (tmp_path / "x.zip").write_bytes(b"wrong")
    fetch(url, tmp_path)
    assert tree(tmp_path) == {"x.zip": BODY}
    fetch(url, tmp_path)
    assert requests == [None]


@pytest.mark.parametrize("page", [False, True])
def test_wrong_bytes_are_removed(serve, tmp_path, page):
    body = b"\n<html>no such luck</html>" if page else b"wrong"
    url, _ = serve(lambda handler, _: reply(handler, body))
    (tmp_path / "x.zip").write_bytes(b"old")
    with pytest.raises(WorldError) as raised:
        fetch(url, tmp_path)
    message = str(raised.value)
    assert message.startswith(f"{url}/x.zip: ")
    assert hashlib.md5(body).hexdigest() in message
    assert MD5 in message
    assert ("looks like an HTML page" in message) == page
    assert tree(tmp_path) == {"x.zip": b"old"}


def test_broken_download_goes_on_where_it_stopped(serve, tmp_path):
    def answer(handler, number):
        if number == 1:
            return reply(handler, BODY[:70_000], length=len(BODY))
        span = f"bytes 70000-{len(BODY) - 1}/{len(BODY)}"
        return reply(handler, BODY[70_000:], 206, Content_Range=span)

    url, requests = serve(answer)
    fetch(url, tmp_path)
    assert requests == [None, "bytes=70000-"]
    assert tree(tmp_path) == {"x.zip": BODY}


def test_part_of_a_hopeless_download_is_kept_for_later(serve, tmp_path):
    url, requests = serve(lambda h, _: reply(h, BODY[:9], length=len(BODY)))
    with pytest.raises(WorldError, match="IncompleteRead"):
        fetch(url, tmp_path)
    assert len(requests) == omniglot.TRIES
    assert tree(tmp_path) == {"x.zip.part": BODY[:9]}


@pytest.mark.parametrize("code", [200, 206])
def test_ignored_range_starts_over(serve, tmp_path, code):
    span = f"bytes 0-{len(BODY) - 1}/{len(BODY)}"
    headers = {"Content_Range": span} if code == 206 else {}
    url, requests = serve(lambda handler, _: reply(handler, BODY, code, **headers))
    (tmp_path / "x.zip.part").write_bytes(BODY[:10])
    fetch(url, tmp_path)
    assert requests == ["bytes=10-"]
    assert tree(tmp_path) == {"x.zip": BODY}


def test_part_as_long_as_the_file_starts_over(serve, tmp_path):
    def answer(handler, number):
        return reply(handler, b"", 416) if number == 1 else reply(handler, BODY)

    url, requests = serve(answer)
    (tmp_path / "x.zip.part").write_bytes(BODY)
    fetch(url, tmp_path)
    assert requests == [f"bytes={len(BODY)}-", None]
    assert tree(tmp_path) == {"x.zip": BODY}


def test_server_error_is_tried_again_and_a_redirect_followed(serve, tmp_path):
    def answer(handler, number):
        if number == 1:
            return reply(handler, b"busy", 503)
        if number == 2:
            return reply(handler, b"", 302, Location="/elsewhere")
        return reply(handler, BODY)

    url, requests = serve(answer)
    fetch(url, tmp_path)
    assert len(requests) == 3
    assert tree(tmp_path) == {"x.zip": BODY}


def test_missing_file_is_not_tried_again(serve, tmp_path):
    url, requests = serve(lambda handler, _: reply(handler, b"<html>", 404))
    with pytest.raises(WorldError, match=r"x\.zip: HTTP Error 404.* --from DIR"):
        fetch(url, tmp_path)
    assert len(requests) == 1
    assert tree(tmp_path) == {}


def test_silent_server_is_given_up(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(omniglot, "TIMEOUT", 0.1)
    over = threading.Event()
    url, requests = serve(lambda *_: over.wait(10))
    with pytest.raises(WorldError, match="timed out"):
        fetch(url, tmp_path)
    over.set()
    assert len(requests) == omniglot.TRIES
    assert tree(tmp_path) == {}


def test_endless_file_is_cut_off(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(omniglot, "ARCHIVE_BYTES", 1 << 17)
    sent = []

    def answer(handler, _):
        handler.send_response(200)
        handler.end_headers()
        while sum(sent) < 1 << 26:
            sent.append(handler.wfile.write(bytes(1 << 16)))

    url, _ = serve(answer)
    with pytest.raises(WorldError, match="expected md5"):
        fetch(url, tmp_path)
    assert tree(tmp_path) == {}
    assert sum(sent) < 1 << 26


def closed_port():
    """Return a URL on the loopback where nobody listens."""
    with http.server.HTTPServer(("127.0.0.1", 0), None) as server:
        return f"http://127.0.0.1:{server.server_port}"


def test_pauses_grow_between_tries(tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(WorldError, match="refused"):
        omniglot.download(closed_port(), tmp_path / "x.zip", MD5)
    assert pauses == [0.0, 1.0, 2.0]
    assert tree(tmp_path) == {}


def test_full_disk_while_downloading(serve, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    (tmp_path / "x.zip.part").symlink_to("/dev/full")
    (tmp_path / "x.zip").write_bytes(b"old")
    url, requests = serve(lambda handler, _: reply(handler, BODY))
    with pytest.raises(WorldError, match=r"x\.zip\.part: No space left on device"):
        fetch(url, tmp_path)
    assert len(requests) == 1
    assert (tmp_path / "x.zip").read_bytes() == b"old"


def test_command_downloads_what_is_missing(serve, source, tmp_path, monkeypatch):
    bodies = {name: (source / name).read_bytes() for name in NAMES}
    url, requests = serve(lambda handler, _: reply(handler, bodies[handler.path[3:]]))
    md5 = {name: hashlib.md5(body).hexdigest() for name, body in bodies.items()}
    monkeypatch.setattr(omniglot, "MD5", md5)
    monkeypatch.setattr(omniglot.prepare, "__defaults__", (SMALL,))
    cache, out = tmp_path / "new" / "cache", tmp_path / "out.npz"
    arguments = ["--cache", cache, "--out", out, "--url", f"{url}/x"]
    result = here("prepare", "omniglot", *arguments)
    assert result.code == 0, result
    assert out.exists()
    assert tree(cache) == bodies
    assert here("prepare", "omniglot", *arguments).code == 0
    assert len(requests) == 2


@pytest.mark.parametrize(
    ("code", "words"), [(200, "looks like an HTML page"), (404, "HTTP Error 404")]
)
def test_command_tells_of_a_bad_download(serve, tmp_path, code, words):
    url, _ = serve(lambda handler, _: reply(handler, b"<html>", code))
    result = run("--url", url, cwd=tmp_path)
    assert_one_line(result, f"{url}/{BACKGROUND}", words)
    assert tree(tmp_path) == {}


def test_command_tells_of_no_network(tmp_path):
    url = closed_port()
    result = run("--url", url, small=True, cwd=tmp_path)
    assert_one_line(result, f"{url}/{BACKGROUND}", "refused", "--from DIR")
    assert tree(tmp_path) == {}


def test_url_that_cannot_be_read_is_one_line(tmp_path):
    result = run("--url", "http://[::1/", small=True, cwd=tmp_path)
    assert_one_line(result, "http://[::1/", BACKGROUND)
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_while_waiting(serve, tmp_path, number, code):
    asked, over = threading.Event(), threading.Event()
    url, _ = serve(lambda *_: asked.set() or over.wait(30))
    with start(["--url", url], cwd=tmp_path) as process:
        assert asked.wait(30)
        process.send_signal(number)
        assert process.communicate(timeout=30) == ("", "")
    over.set()
    assert process.returncode == code
    assert tree(tmp_path) == {}


# ----- The command line -----


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--bogus"], ["extra"], ["--from", "nowhere"], ["--from", ""]),
        *(["--out", ""], ["--out", "."], ["--out", "images_background.zip"]),
        *(["--out", "folder.npz"], ["--url", "file:///etc"], ["--url", ""]),
    ],
)
def test_wrong_command_line_is_exit_2(tmp_path, arguments):
    (tmp_path / "folder.npz").mkdir()
    code, stdout, stderr = run(*arguments, cwd=tmp_path)
    assert (code, stdout) == (2, "")
    assert stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in stderr
    assert tree(tmp_path) == {"folder.npz": False}


def test_debug_shows_the_traceback(source):
    (source / BACKGROUND).write_bytes(b"no zip")
    code, _, stderr = run("--from", source, "--debug", cwd=source)
    assert code == 1
    assert "Traceback" in stderr
    assert "BadZipFile" in stderr
    assert stderr.splitlines()[-1].startswith("Error: ")


def test_stdout_that_fails_is_no_traceback(source, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-c", WITH_SMALL_COUNTS, "--from", str(source)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
    assert process.returncode == 1
    assert process.stderr == "Error: standard output: No space left on device\n"


# ----- The real drawings -----


@pytest.fixture(scope="module")
def built(omniglot_zips, tmp_path_factory):
    """The file, stdout and stderr of one run on the real archives."""
    out = tmp_path_factory.mktemp("omniglot") / "omniglot.npz"
    code, stdout, stderr = run("--from", omniglot_zips, "--out", out)
    assert code == 0, stderr
    return out, stdout, stderr


@pytest.fixture(scope="module")
def arrays(built):
    with np.load(built[0], allow_pickle=False) as saved:
        return dict(saved)


@pytest.mark.data
def test_real_drawings_are_the_known_ones(built):
    out, stdout, stderr = built
    assert stderr == ""
    assert f"sha256 of the drawings: {omniglot.KNOWN_DRAWINGS}\n" in stdout
    assert [path.name for path in out.parent.iterdir()] == ["omniglot.npz"]


@pytest.mark.data
def test_real_arrays_written_again_are_the_same_bytes(built, arrays, tmp_path, later):
    omniglot.write(arrays, tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == built[0].read_bytes()


@pytest.mark.data
def test_real_shapes_and_ink(arrays):
    images = arrays["images"]
    assert images.shape == (1623, 20, 28, 28)
    assert images.dtype == np.uint8
    corners = images[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.mean() < 1.0
    assert 0.02 < images.mean() / 255 < 0.2
    assert (images.max(axis=(2, 3)) > 128).all()
    names = arrays["names"].tolist()
    assert names == sorted(set(names))
    assert len(names) == 1623


@pytest.mark.data
@pytest.mark.parametrize("split", ["lake", "vinyals", "finn"])
def test_real_splits_hold_each_character_once(arrays, split):
    parts = [rows for name, rows in arrays.items() if name.startswith(f"{split}_")]
    sizes = {"lake": [964, 659], "vinyals": [1028, 172, 423], "finn": [1100, 100, 423]}
    assert [len(rows) for rows in parts] == sizes[split]
    assert all((np.diff(rows) > 0).all() for rows in parts)
    assert sorted(np.concatenate(parts)) == list(range(1623))


@pytest.mark.data
@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_real_vinyals_split_is_the_reference(omniglot_zips, arrays, part):
    reference = omniglot_zips / "splits" / f"vinyals_{part}.txt"
    text = reference.read_text(encoding="utf-8")
    names = arrays["names"][arrays[f"vinyals_{part}"]]
    assert set(names.tolist()) == set(text.split())
    assert len(names) == len(text.split())


@pytest.mark.data
def test_real_lake_split_is_the_archives(omniglot_zips, arrays):
    for archive, part in ((BACKGROUND, "train"), (EVALUATION, "test")):
        with zipfile.ZipFile(omniglot_zips / archive) as opened:
            paths = {Path(name).parts[1:3] for name in opened.namelist()}
        names = arrays["names"][arrays[f"lake_{part}"]].tolist()
        assert {"/".join(parts) for parts in paths} == set(names)
