"""What the rooms share as the same bytes: the command line, files, devices, records, and the images."""

import argparse
import gzip
import io
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT, idx, make_dataset

from q4_wgan import command, files, images


@pytest.mark.parametrize("name, rooms", [
    ("command.py", ("q3_vae_m1", "q4_wgan", "theory")), ("files.py", ("q3_vae_m1", "q4_wgan")),
    ("images.py", ("q3_vae_m1", "q4_wgan"))])
def test_the_copies_are_the_same_bytes(name, rooms):
    assert len({(ROOT / room / name).read_bytes() for room in rooms}) == 1


# ---- the command line ----------------------------------------------------------------------------

@pytest.mark.parametrize("error, status", [
    (command.UserError("a\nb"), 2), (FileNotFoundError(2, "No such file", "x"), 2), (MemoryError(), 2),
    (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation"), 2), (KeyboardInterrupt(), 130),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you"), 2)])
def test_an_error_is_one_line_with_its_status(error, status, capsys):
    def main():
        raise error
    with pytest.raises(SystemExit) as end:
        command.run_main(main)
    assert end.value.code == status and len(capsys.readouterr().err.splitlines()) == 1


def test_a_defect_of_ours_stays_a_traceback():
    with pytest.raises(RuntimeError, match="shapes"):
        command.run_main(lambda: exec("raise RuntimeError('shapes differ')"))


def test_letters_that_a_terminal_does_not_know(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    with pytest.raises(SystemExit) as end:
        command.run_main(lambda: print("Fréchet"))
    assert end.value.code == 0 and b"Fr\\xe9chet" in raw.getvalue()


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_a_reader_that_is_gone_ends_without_a_word(tmp_path):
    (tmp_path / "script.py").write_text(f"""import sys
sys.path.insert(0, {str(ROOT)!r})
from theory.command import run_main
run_main(lambda: [print("line", i) for i in range(20000)] and None)""")
    done = subprocess.run(["sh", "-c", f"'{sys.executable}' script.py | head -n 1"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("line 0\n", "")


# ---- files and records ---------------------------------------------------------------------------

def test_a_write_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "new folder" / "a.json"
    command.write(path, "ä\n")
    command.write(path, "ö\n", sync=False)
    assert path.read_bytes() == "ö\n".encode() and os.listdir(path.parent) == ["a.json"]

    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        command.write(path, b"123456")
    assert path.read_bytes() == "ö\n".encode()


def test_a_file_that_a_reader_holds_open_is_replaced_when_it_lets_go(tmp_path, monkeypatch):
    """On Windows os.replace fails meanwhile."""
    real, refusals = os.replace, [2]

    def held(old, new):
        refusals[0] -= 1
        if refusals[0] >= 0:
            raise PermissionError(13, "Permission denied")
        real(old, new)
    monkeypatch.setattr(os, "replace", held)
    monkeypatch.setattr(command.time, "sleep", lambda seconds: None)
    command.write(tmp_path / "a", "new")
    refusals[0] = 99
    with pytest.raises(PermissionError):
        command.write(tmp_path / "a", "newer")
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.parametrize("data", [b"", b"junk", files.as_torch([1]), files.as_torch({"b": 1}),
                                  files.as_torch({"a": torch.ones(3)})[:-30], files.as_torch({"a": argparse.Namespace()})])
def test_torch_files_that_are_not_ours_are_named(tmp_path, data):
    (tmp_path / "x.pt").write_bytes(data)
    with pytest.raises(command.UserError, match="x.pt"):
        files.load_torch(tmp_path / "x.pt", "a")


def test_a_line_cut_short_is_passed_over(tmp_path):
    path = tmp_path / "record.jsonl"
    files.append_line(path, {"a": 1})
    path.write_bytes(path.read_bytes() + b'{"a": 2, "b')
    files.append_line(path, {"a": 5})
    assert [line["a"] for line in files.read_lines(path)] == [1, 5] and files.read_lines(tmp_path / "none") == []


def test_the_commit_is_of_this_repository(tmp_path, monkeypatch):
    """Not of the one that GIT_DIR names, nor of one around it."""
    usual = files.commit()
    files.commit.cache_clear()
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert files.commit() == usual
    files.commit.cache_clear()
    subprocess.run(["git", "init", "-q", str(tmp_path)], env={k: v for k, v in os.environ.items() if k != "GIT_DIR"})
    monkeypatch.setattr(files, "ROOT", tmp_path / "inside")
    assert files.commit() == "unknown"
    files.commit.cache_clear()


# ---- devices and options -------------------------------------------------------------------------

def test_device_and_precision(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert files.pick_device("auto").type == "cpu"
    with pytest.raises(command.UserError, match="--device cuda"):
        files.pick_device("cuda")
    cpu = torch.device("cpu")
    assert files.pick_precision("bfloat16", cpu) == "bfloat16"
    for has, quick, wanted in ((True, True, "bfloat16"), (True, False, "float32"), (False, True, "float32")):
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, name, lambda has=has: has, raising=False)
        monkeypatch.setattr(files, "bfloat16_is_quick", lambda quick=quick: quick)
        assert files.pick_precision("auto", cpu) == wanted


# ---- images --------------------------------------------------------------------------------------

@pytest.fixture
def raw(tmp_path):
    return make_dataset(tmp_path, train=60, test=20) / "toy" / "raw"


@pytest.mark.parametrize("text, dataset", [("MNIST", "mnist"), ("FashionMNIST", "fashion"), ("Fashion-MNIST", "fashion"),
                                           ("kmnist", "kmnist"), ("Toy", "Toy")])
def test_spellings_of_the_known_sets(text, dataset):
    assert images.dataset_name(text) == dataset


def test_a_data_set_of_ones_own(tmp_path, raw):
    data = images.load("toy", tmp_path)
    assert [tuple(part.shape) for part in data[::2]] == [(50, 28, 28), (10, 28, 28), (20, 28, 28)]
    assert data.train.dtype == torch.uint8 and data.train_labels.dtype == torch.int64
    for name in images.FILES[1:3]:  # packed, as torchvision does
        (raw / f"{name}.gz").write_bytes(gzip.compress((raw / name).read_bytes()))
        (raw / name).unlink()
    again = images.load("toy", tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(data, again))


def test_a_set_of_ones_own_that_is_sorted_by_class_is_shuffled_and_a_known_one_is_not(tmp_path, raw):
    labels = raw / images.FILES[1]
    labels.write_bytes(idx(np.repeat(np.arange(10, dtype=np.uint8), 6)))
    data = images.load("toy", tmp_path)
    assert len(set(data.train_labels.tolist())) == 10 and len(set(data.validation_labels.tolist())) > 3
    (tmp_path / "toy").rename(tmp_path / "MNIST")
    data = images.load("mnist", tmp_path)
    assert torch.cat((data.train_labels, data.validation_labels)).tolist() == sorted([*range(10)] * 6)


BLACK = np.zeros((60, 28, 28), np.uint8)


@pytest.mark.parametrize("file, data, message", [
    (0, idx(BLACK)[:-1], "not an idx file"), (0, idx(BLACK)[:10], "not an idx file"), (0, b"", "not an idx file"),
    (0, b"\1" + idx(BLACK), "not an idx file"), (0, idx(BLACK)[:2] + b"\x0d" + idx(BLACK)[3:], "not an idx file"),
    (0, idx(BLACK.reshape(60, 784)), "not an idx file"), (0, idx(np.zeros((60, 32, 32), np.uint8)), "32x32"),
    (0, idx(BLACK[:55]), "60 labels for 55 images"), (0, idx(BLACK[:0]), "not an idx file"), (1, idx(BLACK[:, 0, 0] + 10), "a label 10"),
    (1, idx(BLACK), "not an idx file"), (2, None, "t10k-images"), (3, b"hello", "t10k-labels")])
def test_files_that_are_not_right_are_refused_by_name(tmp_path, raw, file, data, message):
    path = raw / images.FILES[file]
    path.write_bytes(data) if data is not None else path.unlink()
    with pytest.raises(command.UserError, match=message) as caught:
        images.load("toy", tmp_path)
    assert str(raw) in str(caught.value) and "\n" not in str(caught.value)


def test_an_archive_that_is_damaged_and_a_set_that_is_nowhere(tmp_path, raw):
    path = raw / images.FILES[0]
    path.unlink()
    (raw / f"{path.name}.gz").write_bytes(b"\x1f\x8bjunk")
    for name in ("toy", "absent"):
        with pytest.raises(command.UserError) as caught:
            images.load(name, tmp_path)
        assert all(file in str(caught.value) for file in images.FILES)
    assert not path.exists() and not (tmp_path / "absent").exists()  # nothing half unpacked, no folder of a misspelt name
