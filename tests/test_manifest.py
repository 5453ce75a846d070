"""The manifest of data/: what the scripts enter is what is read, and nothing else changes."""

import hashlib
import json

import pytest

from helpers import files
from tools import manifest


@pytest.fixture
def root(tmp_path, monkeypatch):
    content = {
        "about": "x",
        "sets": {"a": {"title": "A"}},
        "files": {"a/old": {"sha256": "0", "bytes": 1}},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setattr(files, "DATA", tmp_path)
    return tmp_path


def test_what_is_registered_is_read_and_checked(root):
    entry = manifest.register("a/new.txt", b"content", made_by="a script")
    assert entry == {
        "sha256": hashlib.sha256(b"content").hexdigest(),
        "bytes": 7,
        "made_by": "a script",
    }
    assert files.manifest() == {"a/old": {"sha256": "0", "bytes": 1}, "a/new.txt": entry}
    assert files.manifest("sets") == {"a": {"title": "A"}}
    assert files.checked_path("a/new.txt").read_bytes() == b"content"
    (root / "a" / "new.txt").write_bytes(b"other")
    manifest.register("a/new.txt")  # what is there, in place of the older entry
    assert files.content("a/new.txt") == b"other"


def test_a_packed_file_is_entered_with_what_its_original_is(root):
    whole = {"sha256": "1", "bytes": 100}
    assert manifest.register("a/new.xz", b"packed", **whole) == whole


def test_an_error_while_editing_changes_nothing(root):
    before = (root / "manifest.json").read_bytes()
    with pytest.raises(KeyError), manifest.edited() as content:
        content["files"].clear()
        raise KeyError
    assert (root / "manifest.json").read_bytes() == before


def test_the_committed_manifest_is_written_as_it_is(monkeypatch, tmp_path):
    text = (files.DATA / "manifest.json").read_bytes()
    (tmp_path / "manifest.json").write_bytes(text)
    monkeypatch.setattr(files, "DATA", tmp_path)
    with manifest.edited():
        pass
    assert (tmp_path / "manifest.json").read_bytes() == text
