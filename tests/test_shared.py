"""What the rooms share as the same bytes: the command line, files that ship, records, and the images."""

import builtins
import gzip
import hashlib
import io
import multiprocessing
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT, idx, make_dataset

sys.path.insert(0, str(ROOT))
from q4_wgan import command, files, images  # noqa: E402  (after the path)


@pytest.mark.parametrize("name, rooms", [
    ("command.py", ("q3_vae_m1", "q4_wgan", "theory")), ("files.py", ("q3_vae_m1", "q4_wgan")),
    ("images.py", ("q3_vae_m1", "q4_wgan"))])
def test_the_copies_are_the_same_bytes(name, rooms):
    assert len({(ROOT / room / name).read_bytes() for room in rooms}) == 1


# ---- the command line ----------------------------------------------------------------------------

@pytest.mark.parametrize("kind, good, bad", [
    (command.number(int, 1, 10), ["1", "10", " 7 "], ["0", "11", "1.5", "", "x", "1e3", "9" * 5000]),
    (command.number(float, above=0), ["1e-9", "3"], ["0", "-1", "nan", "inf", "1e999", ""]),
    (command.number(float, 0, below=1), ["0", "0.999"], ["1", "-0.1", "nan"]),
    (command.seed, ["0", "4294967295"], ["-1", "4294967296", "4294967301", "1" * 20]),
    (command.path, ["a b"], ["", "  "]),
    (command.name, ["run_1.b-c"], ["", "a/b", "..", "-x", "ü", "a\nb"])])
def test_argument_types(kind, good, bad):
    for text in good:
        kind(text)
    for text in bad:
        with pytest.raises(command.argparse.ArgumentTypeError) as caught:
            kind(text)
        assert "\n" not in str(caught.value)


def test_a_parser_names_its_error_in_one_line_and_takes_no_abbreviation():
    parser = command.Parser()
    parser.add_argument("--labels", type=command.positive)
    for words in (["--labels", "0"], ["--lab", "3"], ["--unknown"]):
        with pytest.raises(command.UserError) as caught:
            parser.parse_args(words)
        assert "\n" not in str(caught.value)


def ends(main, monkeypatch, out=None):
    """(status, stderr) of run_main; the streams are put back."""
    error = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out or io.StringIO())
    monkeypatch.setattr(sys, "stderr", error)
    with pytest.raises(SystemExit) as end:
        command.run_main(main)
    return end.value.code, error.getvalue()


def raising(error):
    def main():
        raise error
    return main


@pytest.mark.parametrize("error, status", [
    (command.UserError("a\nb"), 2), (FileNotFoundError(2, "No such file", "x"), 2), (MemoryError(), 2),
    (KeyboardInterrupt(), 130), (KeyboardInterrupt("stopped; --resume goes on"), 130)])
def test_an_error_is_one_line_with_its_status(error, status, monkeypatch):
    code, text = ends(raising(error), monkeypatch)
    assert code == status and len(text.splitlines()) == 1


class Gone(io.StringIO):
    def write(self, text):
        raise BrokenPipeError

    flush = close = lambda self: None


def test_a_reader_that_is_gone_does_not_end_the_work(monkeypatch):
    done = []

    def main():
        print("one")
        print("two", flush=True)
        done.append(1)
    assert ends(main, monkeypatch, out=Gone()) == (0, "") and done


def test_letters_that_a_terminal_does_not_know(monkeypatch):
    raw = io.BytesIO()
    assert ends(lambda: print("Fréchet"), monkeypatch, out=io.TextIOWrapper(raw, "ascii"))[0] == 0
    assert b"Fr\\xe9chet" in raw.getvalue()


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from theory.command import run_main

def main():
    for i in range(20000):
        print("line", i)
    print("note", file=sys.stderr)
    open("done", "w").close()
    return 3
run_main(main)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
@pytest.mark.parametrize("redirection", ["| head -n 1", "> /dev/full", ">&-", "2>&-", ">&- 2>&- <&-", "2> /dev/full"])
def test_streams_that_fail_do_not_end_the_work(tmp_path, redirection):
    if "/dev/full" in redirection and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    (tmp_path / "script.py").write_text(SCRIPT.format(root=str(ROOT)), encoding="utf-8")
    shell = f"{{ '{sys.executable}' script.py; echo $? > status; }} {redirection}"
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert (tmp_path / "status").read_text().strip() == "3" and (tmp_path / "done").exists()
    assert done.stderr in ("", "note\n")  # nothing that Python adds when it ends


@pytest.mark.parametrize("message", [
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to",
    "CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation", "MPS backend out of memory",
    "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."])
def test_no_room_and_what_mps_lacks_are_one_line(message, monkeypatch):
    status, text = ends(raising(RuntimeError(message)), monkeypatch)
    assert status == 2 and text.count("\n") == 1 and message.splitlines()[0] in text
    with pytest.raises(RuntimeError):  # a defect of ours stays a traceback
        command.run_main(raising(RuntimeError("shapes differ")))


# ---- devices -------------------------------------------------------------------------------------

def test_a_device_without_memory_is_not_faster(monkeypatch):
    def ones(*size, device=None, dtype=None):
        raise RuntimeError("MPS backend out of memory")
    monkeypatch.setattr(torch, "ones", ones)
    assert not files.faster("mps", "cpu", torch.float16)


def test_device_and_precision(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for quick in (True, False):
        monkeypatch.setattr(files, "faster", lambda *a, quick=quick: quick)
        assert files.pick_device("auto").type == ("mps" if quick else "cpu")
    with pytest.raises(command.UserError):
        files.pick_device("cuda")
    cpu = torch.device("cpu")
    assert files.pick_precision("float32", cpu) == "float32"
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    for quick, wanted in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(files, "faster", lambda *a, quick=quick: quick)
        assert files.pick_precision("auto", cpu) == wanted


# ---- files ---------------------------------------------------------------------------------------

def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "new folder" / "a.json"
    command.write(path, "ä\n")
    assert path.read_bytes() == "ä\n".encode()
    monkeypatch.setattr(builtins, "open", full_after(3))
    with pytest.raises(command.UserError, match="No space"):
        command.write(path, b"123456")
    monkeypatch.undo()
    assert path.read_bytes() == "ä\n".encode() and os.listdir(path.parent) == ["a.json"]


def full_after(room):
    """An `open` on a disk with room for so many bytes."""
    real, left = open, [room]

    def fake(path, mode="r", *args, **more):
        file = real(path, mode, *args, **more)
        if "w" not in mode and "a" not in mode:
            return file
        write = file.write

        class Full:
            def write(self, data):
                left[0] -= len(data)
                if left[0] < 0:
                    raise OSError(28, "No space left on device")
                return write(data)

            def __getattr__(self, name):
                return getattr(file, name)

            def __enter__(self):
                return self

            def __exit__(self, *error):
                file.close()
        return Full()
    return fake


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
    with pytest.raises(command.UserError, match="Permission"):
        command.write(tmp_path / "a", "newer")
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a file that is not regular")
def test_a_device_does_not_become_a_file(tmp_path):
    os.mkfifo(tmp_path / "null")
    with pytest.raises(command.UserError, match="not a file"):
        command.write(tmp_path / "null", "x")


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_damaged_json_is_named(tmp_path, data):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(command.UserError, match="a.json"):
        command.read_json(tmp_path / "a.json")


@pytest.mark.parametrize("data", [b"", b"junk", files.as_torch([1]), files.as_torch({"a": torch.ones(3)})[:-30]])
def test_damaged_torch_files_are_named(data):
    with pytest.raises(command.UserError, match="x.pt"):
        files.from_torch(data, "x.pt")


class Stop(BaseException):
    """A kill: nothing after it runs but the unwinding."""


OLD, NEW = {"a.pt": b"old a", "b.pt": b"old b"}, {"a.pt": b"new a", "b.pt": b"new b"}


def state(folder, result):
    return {path.name: path.read_bytes() for path in (*folder.glob("*.pt"), *result.parent.glob("*.csv"))}


@pytest.mark.parametrize("older", [True, False], ids=["with older weights", "into an empty folder"])
def test_shipping_killed_anywhere_is_all_or_nothing(tmp_path, monkeypatch, older):
    """Killed before and after every file that is written or moved: the next reading gives the old ones or the new."""
    kills, count = 0, [0]
    put, replace = files.put, os.replace

    def killing(function, kill):
        def wrapped(*args):
            count[0] += 1
            if count[0] == kill:
                raise Stop
            function(*args)
            count[0] += 1
            if count[0] == kill:
                raise Stop
        return wrapped
    while True:
        kills += 1
        folder, result = tmp_path / str(kills) / "weights", tmp_path / str(kills) / "results" / "losses.csv"
        if older:
            files.ship(folder, OLD, {result: b"old"})
        before = state(folder, result)
        count[0] = 0
        monkeypatch.setattr(files, "put", killing(put, kills))
        monkeypatch.setattr(command, "put", killing(put, kills))
        monkeypatch.setattr(os, "replace", killing(replace, kills))
        try:
            files.ship(folder, NEW, {result: b"new"})
            ended = True
        except Stop:
            ended = False
        monkeypatch.undo()
        try:
            files.read_shipped(folder / "a.pt", "train.py")
        except command.UserError:
            assert not older
        after = state(folder, result)
        assert after in (before, {**NEW, "losses.csv": b"new"}), kills
        sums = files.read_sums(folder)
        assert sums == {name: hashlib.sha256(data).hexdigest() for name, data in after.items() if name != "losses.csv"}
        files.ship(folder, NEW, {result: b"new"})  # and the next shipping goes through
        assert state(folder, result) == {**NEW, "losses.csv": b"new"}
        if ended:
            break
    assert kills > 12


def killed_before_the_moves(folder, monkeypatch):
    """A folder whose shipping was killed when its journal was there and nothing moved."""
    files.ship(folder, OLD)
    with monkeypatch.context() as patch:
        patch.setattr(files, "replace", raising_fetch("killed"))
        with pytest.raises(OSError, match="killed"):
            files.ship(folder, NEW)


def test_a_half_shipped_folder_is_mended_where_it_was_moved_to(tmp_path, monkeypatch):
    killed_before_the_moves(tmp_path / "a", monkeypatch)
    (tmp_path / "a").rename(tmp_path / "b")
    assert files.read_shipped(tmp_path / "b" / "a.pt", "") == b"new a"
    assert files.read_shipped(tmp_path / "b" / "b.pt", "") == b"new b"


def test_a_half_shipped_folder_that_is_read_only_has_its_old_weights(tmp_path, monkeypatch):
    killed_before_the_moves(tmp_path, monkeypatch)

    def refuse(*args, **more):
        raise PermissionError(30, "Read-only file system")
    monkeypatch.setattr(files, "FileLock", refuse)
    assert files.read_shipped(tmp_path / "a.pt", "") == b"old a"
    with pytest.raises(command.UserError, match="Read-only"):
        files.ship(tmp_path, NEW)


def test_a_strangers_journal_moves_nothing_of_the_users(tmp_path):
    """Only `.NAME.new` beside NAME is ever moved."""
    for name in ("mine", "other"):
        (tmp_path / name).write_text(name)
    folder = tmp_path / "weights"
    files.ship(folder, OLD)
    for journal in ({str(tmp_path / "other"): str(tmp_path / "mine")}, [str(tmp_path / "mine"), "../mine", 3, None]):
        command.write(folder / files.JOURNAL, command.as_json(journal))
        assert files.read_shipped(folder / "a.pt", "") == b"old a"
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_full_disk_ships_nothing(tmp_path, monkeypatch):
    files.ship(tmp_path, OLD)
    for room in range(0, 3000, 60):
        monkeypatch.setattr(builtins, "open", full_after(room))
        try:
            files.ship(tmp_path, NEW)
            shipped = True
        except command.UserError:
            shipped = False
        monkeypatch.undo()
        assert {path.name: path.read_bytes() for path in tmp_path.glob("*.pt")} == (NEW if shipped else OLD)
        assert files.read_shipped(tmp_path / "a.pt", "") == (NEW if shipped else OLD)["a.pt"]
        if shipped:
            return
    pytest.fail("there was never enough room")


def ship_many(folder, who, n):
    for i in range(n):
        files.ship(folder, {f"{who}{i}.pt": b"x"})
        files.append_line(folder / "record.jsonl", {"who": who, "i": i})


def test_two_processes_ship_and_record_at_once(tmp_path):
    processes = multiprocessing.get_context("spawn")
    work = [processes.Process(target=ship_many, args=(tmp_path, who, 12)) for who in "ab"]
    for process in work:
        process.start()
    for process in work:
        process.join(120)
    assert [process.exitcode for process in work] == [0, 0]
    assert len(files.read_sums(tmp_path)) == 24 and len(files.read_lines(tmp_path / "record.jsonl")) == 24


def test_a_lock_that_another_holds(tmp_path):
    with files.locked(tmp_path), pytest.raises(command.UserError, match="busy"), files.locked(tmp_path, busy="busy"):
        pass


def test_sums_are_read_strictly(tmp_path):
    digest = "0" * 64
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  a.pt\n{digest} *b.pt\n")
    assert files.read_sums(tmp_path) == {"a.pt": digest, "b.pt": digest}
    (tmp_path / "a.pt").write_bytes(b"other")
    with pytest.raises(command.UserError, match="SHA-256"):
        files.read_shipped(tmp_path / "a.pt", "train.py")
    for line in (f"{digest} a.pt", "junk", f"{digest}  a/b.pt", "\xff", f"{digest}  a.pt"):
        (tmp_path / "SHA256SUMS").write_bytes(f"{digest}  a.pt\n{line}\n".encode("latin-1"))
        with pytest.raises(command.UserError, match="line 2"):
            files.read_sums(tmp_path)


def test_weights_that_no_line_names_are_refused(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"a")
    with pytest.raises(command.UserError, match="not listed"):
        files.read_shipped(tmp_path / "a.pt", "train.py")
    with pytest.raises(command.UserError, match="no such file.*train.py"):
        files.read_shipped(tmp_path / "b.pt", "train.py")


def test_a_line_cut_short_is_passed_over(tmp_path):
    path = tmp_path / "record.jsonl"
    files.append_line(path, {"a": 1})
    path.write_bytes(path.read_bytes() + b'{"a": 2, "b\n[3]\n{"a": 4')
    files.append_line(path, {"a": 5})
    assert [line["a"] for line in files.read_lines(path)] == [1, 5]


# ---- images --------------------------------------------------------------------------------------

@pytest.fixture
def raw(tmp_path):
    return make_dataset(tmp_path, train=60, test=20) / "toy" / "raw"


@pytest.mark.parametrize("text, dataset", [("MNIST", "mnist"), ("FashionMNIST", "fashion"), ("Fashion-MNIST", "fashion"),
                                           ("kmnist", "kmnist"), ("Toy", "Toy")])
def test_spellings_of_the_known_sets(text, dataset):
    assert images.dataset_name(text) == dataset


def refused(tmp_path, *words):
    with pytest.raises(command.UserError) as caught:
        images.load("toy", tmp_path)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_data_set_of_ones_own(tmp_path, raw):
    data = images.load("toy", tmp_path)
    assert [tuple(part.shape) for part in data[::2]] == [(50, 28, 28), (10, 28, 28), (20, 28, 28)]
    assert data.train.dtype == torch.uint8 and data.train_labels.tolist() == [i % 10 for i in range(50)]
    packed = raw / "t10k-images-idx3-ubyte"
    (raw / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    assert torch.equal(images.load("toy", tmp_path).test, data.test)


def test_files_that_are_not_right_are_refused_by_name(tmp_path, raw):
    path = raw / "train-images-idx3-ubyte"
    good = path.read_bytes()
    for data, word in ((good[:-1], "idx"), (good[:10], "idx"), (b"", "idx"), (b"\1" + good, "idx"),
                       (idx(np.zeros((60, 32, 32), np.uint8)), "32x32"), (idx(np.zeros((60, 784), np.uint8)), "idx"),
                       (idx(np.zeros((55, 28, 28), np.uint8)), "60 labels for 55 images")):
        path.write_bytes(data)
        refused(tmp_path, word, str(raw))
    path.unlink()
    path.with_suffix(".gz").write_bytes(b"\x1f\x8bjunk")
    shutil.move(path.with_suffix(".gz"), raw / f"{path.name}.gz")
    refused(tmp_path, "gzip", path.name)
    (raw / f"{path.name}.gz").unlink()
    path.write_bytes(good)
    (raw / "t10k-labels-idx1-ubyte").write_bytes(idx(np.full(20, 10, np.uint8)))
    refused(tmp_path, "label 10", "t10k-labels")


def test_a_set_that_is_nowhere(tmp_path):
    refused(tmp_path, "toy", *images.FILES)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A small set that counts as the published Fashion-MNIST, and no copy of the operating system's."""
    source = make_dataset(tmp_path / "published", "FashionMNIST", 60, 20) / "FashionMNIST" / "raw"
    digests = tuple(hashlib.sha256((source / name).read_bytes()).hexdigest() for name in images.FILES)
    monkeypatch.setitem(images.SHA256, "fashion", digests)
    monkeypatch.setattr(images, "SYSTEM_COPY", tmp_path / "nowhere")
    return source


def test_the_order_of_the_sources(tmp_path, published, monkeypatch):
    monkeypatch.setattr(images, "from_torchvision", raising_fetch("no network at all"))
    monkeypatch.setattr(images, "from_debian", raising_fetch("no apt here"))
    with pytest.raises(command.UserError, match="no network at all.*no apt here"):
        images.load("fashion", tmp_path / "data")
    monkeypatch.setattr(images, "from_debian", lambda dataset, scratch: published)
    assert len(images.load("fashion", tmp_path / "data").test) == 20
    monkeypatch.setattr(images, "from_debian", raising_fetch("not needed any more"))
    assert len(images.load("fashion", tmp_path / "data").test) == 20  # it was kept
    monkeypatch.setattr(images, "SYSTEM_COPY", published)
    assert len(images.load("fashion", tmp_path / "other").test) == 20


def raising_fetch(message):
    def fetch(dataset, scratch):
        raise OSError(message)
    return fetch


def test_a_users_own_files_are_never_written_over(tmp_path, published, monkeypatch):
    raw = tmp_path / "data/FashionMNIST/raw"
    raw.mkdir(parents=True)
    mine = raw / images.FILES[0]
    mine.write_bytes(b"my own")
    monkeypatch.setattr(images, "from_torchvision", lambda dataset, scratch: published)
    with pytest.raises(command.UserError, match="SHA-256 differs"):  # not mixed with fetched ones either
        images.load("fashion", tmp_path / "data")
    assert mine.read_bytes() == b"my own" and os.listdir(raw) == [mine.name]
    mine.write_bytes((published / mine.name).read_bytes())
    images.load("fashion", tmp_path / "data")
    assert sorted(os.listdir(raw)) == sorted(images.FILES)


