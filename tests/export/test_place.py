"""A bundle reaches its place at one stroke, and what is not ours is never replaced."""

import ctypes
import errno
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from export.place import PlaceRefused, Present, present, put, refuse_foreign, refuse_full_disk, refuse_other, workplace


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "model_repository"


def manifest_of(folder: Path) -> dict[str, object]:
    return {"policy": folder.name, "family": "tiny", "version": 3, "source": {"sha256": {"config.pbtxt": "0"}}}


def bundle(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(content)
    (folder / "manifest.json").write_text(json.dumps(manifest_of(folder)))
    return folder


def test_what_was_there_is_exchanged_for_the_new(tmp_path: Path) -> None:
    fresh, served = bundle(tmp_path / "fresh", "new"), bundle(tmp_path / "served", "old")
    put(fresh, served)
    assert ((served / "config.pbtxt").read_text(), (fresh / "config.pbtxt").read_text()) == ("new", "old")


def test_the_first_bundle_is_moved_in(tmp_path: Path) -> None:
    put(bundle(tmp_path / "fresh", "new"), tmp_path / "served")
    assert (tmp_path / "served" / "config.pbtxt").read_text() == "new"
    assert not (tmp_path / "fresh").exists()


def test_an_unlocked_workplace_is_a_leftover_and_goes(repository: Path) -> None:
    leftover = repository.parent / ".other.exporting"
    bundle(leftover / "other", "half")
    with workplace(repository, "tiny") as folder:
        assert not leftover.exists()
        assert list(folder.iterdir()) == []
    assert [path.name for path in repository.parent.iterdir()] == ["model_repository"]


def test_a_workplace_in_use_is_left_alone(repository: Path) -> None:
    with workplace(repository, "one") as folder:
        (folder / "half").write_text("")
        with workplace(repository, "two"):
            assert (folder / "half").exists()
        with pytest.raises(PlaceRefused, match="another export of 'one' is at work"), workplace(repository, "one"):
            pass
        assert (folder / "half").exists()


def test_a_bundle_that_was_moved_aside_by_a_killed_export_comes_back(repository: Path) -> None:
    """On a file system that cannot exchange, two renames can be cut apart."""
    bundle(repository.parent / ".tiny.exporting" / "old" / "tiny", "served before")
    with workplace(repository, "tiny"):
        assert (repository / "tiny" / "config.pbtxt").read_text() == "served before"


def test_a_workplace_is_gone_after_a_failure(repository: Path) -> None:
    with pytest.raises(FileNotFoundError), workplace(repository, "tiny") as folder:
        put(folder / "never built", repository / "tiny")
    assert not folder.exists()


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(PlaceRefused, match=r"thesis\.tex, which no export has written"):
        refuse_foreign(tmp_path)


def test_a_bundle_with_a_foreign_file_is_refused(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "tiny", "served")
    refuse_foreign(folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(PlaceRefused, match=r"notes\.txt"):
        refuse_foreign(folder)


def test_an_empty_or_missing_folder_and_measurements_are_fine_but_a_file_is_not(tmp_path: Path) -> None:
    refuse_foreign(tmp_path / "nowhere")
    refuse_foreign(tmp_path)
    folder = bundle(tmp_path / "tiny", "served")
    (folder / "benchmark.json").write_text("{}")
    refuse_foreign(folder)
    with pytest.raises(PlaceRefused, match="is not a folder"):
        refuse_foreign(folder / "benchmark.json")


@pytest.mark.parametrize("name", ["MODEL_CARD.md", "benchmark.json", "parity.json", "__pycache__"])
def test_a_folder_with_nothing_but_names_like_ours_is_foreign(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(PlaceRefused, match=f"holds {name}, which no export has written"):
        refuse_foreign(tmp_path)


@pytest.mark.parametrize(
    "changes", [{"policy": "other"}, {"family": 3}, {"version": "1"}, {"source": []}, {"source": {"sha256": None}}]
)
def test_a_manifest_that_is_none_of_ours_is_foreign(changes: dict[str, object], tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest_of(folder) | changes))
    with pytest.raises(PlaceRefused, match=r"holds manifest\.json, which no export has written"):
        refuse_foreign(folder)


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000])
def test_a_manifest_that_is_none_at_all_is_foreign(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(PlaceRefused, match=r"holds manifest\.json"):
        refuse_foreign(tmp_path)


def test_the_same_or_a_later_version_of_the_same_family_may_replace_it(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "tiny", "served")
    assert present(folder) == Present(family="tiny", version=3, files=frozenset({"config.pbtxt"}))
    for version in (3, 4):
        refuse_other(folder, "tiny", version)
    refuse_other(tmp_path / "nowhere", "act", 1)
    with pytest.raises(PlaceRefused, match="holds version 3: "):
        refuse_other(folder, "tiny", 2)
    with pytest.raises(PlaceRefused, match="family tiny, not act: choose another --name"):
        refuse_other(folder, "act", 3)


class _Usage(NamedTuple):
    free: int


def test_too_little_room_is_said_with_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(free=3_000_000_000))
    refuse_full_disk(tmp_path, 2_000_000_000)
    with pytest.raises(PlaceRefused, match=r"needs about 15\.2 GB .*, 3\.0 GB are free"):
        refuse_full_disk(tmp_path, 15_200_000_000)


def test_without_an_exchange_two_renames_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Libc:
        """A C library on a file system that cannot exchange."""

        @staticmethod
        def renameat2(*_: object) -> int:
            ctypes.set_errno(errno.EINVAL)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Libc)
    fresh, served = bundle(tmp_path / "work" / "tiny", "new"), bundle(tmp_path / "tiny", "old")
    put(fresh, served)
    assert (served / "config.pbtxt").read_text() == "new"
    assert (tmp_path / "work" / "old" / "tiny" / "config.pbtxt").read_text() == "old"
