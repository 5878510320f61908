"""A file that a table or suite names is found however the name was written, or refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from fc_bench.errors import UserError
from fc_bench.suites.named_files import named_file


@pytest.fixture
def root(tmp_path) -> Path:
    """A folder with images, one of them in a store of git-annex."""
    folder = tmp_path / "my images"
    (folder / "sub").mkdir(parents=True)
    store = tmp_path / ".git" / "annex" / "objects"
    store.mkdir(parents=True)
    (store / "key").write_bytes(b"x")
    for name in ("1.png", "sub/IMG_2.PNG", "Jos\u0065\u0301.png", "a b.png", "100%25.png", "x.png", "X.png"):
        (folder / name).write_bytes(b"x")
    (folder / "kept.png").symlink_to("../.git/annex/objects/key")
    (folder / "gone.png").symlink_to("../.git/annex/objects/gone")
    (tmp_path / "secret.png").write_bytes(b"x")
    (folder / "secret.png").symlink_to("../secret.png")
    return folder


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("1.png", "1.png"),
        ("./1.png", "1.png"),
        ("../my images/1.png", "1.png"),
        ("sub\\IMG_2.PNG", "sub/IMG_2.PNG"),
        ("Sub/img_2.png", "sub/IMG_2.PNG"),
        ("Jos\u00e9.png", "Jos\u0065\u0301.png"),
        ("a%20b.png", "a b.png"),
        ("100%25.png", "100%25.png"),
        ("file://{root}/a%20b.png", "a b.png"),
        ("{root}/1.png", "1.png"),
        ("x.png", "x.png"),
        ("kept.png", "kept.png"),
    ],
)
def test_name_of_any_system_means_its_file(root, name, file):
    assert named_file(root, name.replace("{root}", str(root)), "the image") == root / file


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no.png", "does not exist in the folder"),
        ("/etc/passwd", "lies outside the folder .*; put it there"),
        ("../secret.png", "lies outside the folder"),
        ("..\\secret.png", "lies outside the folder"),
        ("%2e%2e/secret.png", "does not exist|lies outside"),
        ("secret.png", "lies outside the folder"),
        ("C:\\Users\\ada\\1.png", 'lies outside the folder .*; write "1.png"'),
        ("gone.png", "is a link to a file that is not here; fetch it"),
        ("sub", "is not a file"),
        ("a\0b.png", "has no usable name"),
        ("x" * 300, "has no usable name"),
    ],
)
def test_name_that_means_no_file_of_the_folder_is_refused(root, name, told):
    with pytest.raises(UserError, match=told):
        named_file(root, name, "the image")


def test_name_that_may_mean_two_files_is_refused(root):
    for name in ("IMG.png", "img.PNG"):
        (root / name).write_bytes(b"x")
    with pytest.raises(UserError, match=r"matches IMG\.png and img\.PNG"):
        named_file(root, "Img.Png", "the image")
