"""What ships: weights that describe themselves, written all or nothing, with their SHA-256 beside them."""
import hashlib
import json
import os
import pickle
from pathlib import Path

import joblib
import torch

from m1 import M1

ROOT = Path(__file__).resolve().parent.parent


class StoreError(Exception):
    """Weights are missing, corrupt or foreign. One line, made for the user."""


def replace(path: Path, write) -> None:
    """Calls `write(temporary path)` and moves the result to `path`: a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def save_json(path: Path, content) -> None:
    replace(path, lambda partial: partial.write_text(json.dumps(content, indent=1) + "\n"))


def load_json(path: Path):
    """Raises StoreError where the file is missing or no JSON."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {error}") from None


def check_writable(*folders: Path) -> None:
    """Raises StoreError where a folder cannot be written, before any work is done."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".writable.{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(f"cannot write to {folder}: {error.strerror}") from None


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_sums(folder: Path) -> dict[str, str]:
    """SHA256SUMS of a weights folder, as {file name: digest}; empty where there is none."""
    path = folder / "SHA256SUMS"
    lines = path.read_text().splitlines() if path.is_file() else []
    return {name.lstrip("*"): digest for digest, name in (line.split(maxsplit=1) for line in lines if line.strip())}


def ship(path: Path, write) -> None:
    """Replaces a file of the weights folder, and its line in SHA256SUMS (`sha256sum -c` form, other lines kept)."""
    replace(path, write)
    sums = read_sums(path.parent) | {path.name: sha256(path)}
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    replace(path.parent / "SHA256SUMS", lambda partial: partial.write_text(text))


def checked(path: Path, command: str) -> Path:
    """`path`, once it exists and matches SHA256SUMS. Raises StoreError, which names `command` as the way to make it."""
    if not path.is_file():
        raise StoreError(f"{path} does not exist: make it with `{command}`")
    expected = read_sums(path.parent).get(path.name)
    if expected is None:
        raise StoreError(f"{path} is not listed in {path.parent / 'SHA256SUMS'}: make it again with `{command}`")
    if sha256(path) != expected:
        raise StoreError(f"{path} does not match its line in SHA256SUMS: restore it, or make it again with `{command}`")
    return path


def vae_path(weights_dir: Path, dataset: str, likelihood: str) -> Path:
    return weights_dir / f"q3_vae_{dataset}{'' if likelihood == 'gaussian' else '_' + likelihood}.pt"


def classifier_path(weights_dir: Path, dataset: str, likelihood: str, n: int, classifier: str = "svm") -> Path:
    return weights_dir / f"q3_{classifier}_{dataset}{'' if likelihood == 'gaussian' else '_' + likelihood}_{n}.joblib"


def save_vae(path: Path, model: M1, description: dict) -> None:
    """Weights as float16 (half the size; the classifiers are fitted on what is read back), `description` of plain values."""
    parameters = {name: value.detach().cpu().half() for name, value in model.state_dict().items()}
    content = {"model": "M1", "likelihood": model.likelihood, "sizes": model.sizes, "parameters": parameters, **description}
    ship(path, lambda partial: torch.save(content, partial))


def load_vae(path: Path, command: str, device: torch.device = torch.device("cpu")) -> tuple[M1, dict]:
    """The network, rebuilt from the file alone, and the file's description with its "sha256". Raises StoreError."""
    checked(path, command)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        model = M1(content["likelihood"], **content["sizes"])
        model.load_state_dict({name: value.float() for name, value in content.pop("parameters").items()})
        if content["model"] != "M1" or not isinstance(content["dataset"], str):
            raise ValueError("not an M1 file")
    except (pickle.UnpicklingError, RuntimeError, KeyError, ValueError, TypeError, EOFError, AttributeError):
        raise StoreError(f"{path} holds no weights of M1: make it again with `{command}`") from None
    return model.to(device).eval(), content | {"sha256": sha256(path)}


def load_classifier(path: Path, vae: dict, command: str) -> dict:
    """A classifier file of classify.py, unpickled only after its SHA-256 is checked. Raises StoreError if it belongs to another VAE."""
    checked(path, command)
    try:
        content = joblib.load(path)
        fitted_on = content["vae_sha256"]
    except Exception:  # unpickling a foreign file can raise anything
        raise StoreError(f"{path} holds no classifier of M1: make it again with `{command}`") from None
    if fitted_on != vae["sha256"]:
        raise StoreError(f"{path} was fitted on another VAE than the one in {path.parent}: fit it again with `{command}`")
    return content
