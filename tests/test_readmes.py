"""What the READMEs name is there, and what is there is named."""

import re
import shlex
import subprocess

import pytest
from helpers import ROOT

TEXTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("*/*.md")])
ROOMS = "q3_vae_m1|q4_wgan|theory|results|weights|tests"


def tracked(folder):
    """The files of `folder` that git tracks; without git, all but runs."""
    try:
        words = ["git", "-C", str(ROOT), "ls-files", folder]
        names = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        names = [path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [name for name in names if not name.startswith("results/runs/") and (ROOT / name).exists()]


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_path_exists(text):
    content = text.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", content) if "://" not in link]
    missing = [link for link in links if not (text.parent / link).exists()]
    named = re.findall(rf"(?<![\w/.-])((?:{ROOMS})/[\w./-]*\w)(?![\w*{{/-])", content)
    # Of a run still to come, or a name with a part to fill in.
    made_later = re.compile(r"^results/runs|[A-Z]{4}|_N\b|q4/(comparison|stability)\b")
    missing += [name for name in named if not made_later.search(name) and not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("folder", ["results", "weights"])
def test_every_file_is_named_in_the_readme_of_its_folder(folder):
    content = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    names = [name.removeprefix(f"{folder}/") for name in tracked(folder)]
    assert names, "nothing is tracked"
    assert [name for name in names if name != "README.md" and f"`{name}`" not in content] == []


def test_every_script_in_a_readme_knows_its_options():
    """Words that begin with -- beside a script of ours must be options that the script's source names."""
    unknown = []
    for text in TEXTS:
        for line in re.findall(rf"(?m)^.*?python ((?:{ROOMS})/\w+\.py[^\n`|#]*)", text.read_text(encoding="utf-8")):
            words = shlex.split(line.replace("'", "").replace('"', ""))
            folder = (ROOT / words[0]).parent
            source = (ROOT / words[0]).read_text(encoding="utf-8") + (folder / "command.py").read_text(encoding="utf-8")
            source += (folder / "files.py").read_text(encoding="utf-8") if (folder / "files.py").exists() else ""
            options = [word.split("=")[0] for word in words if word.startswith("--") and word != "--"]
            folders = ("--data-dir", "--weights-dir", "--results-dir")
            unknown += [f"{text.name}: {words[0]} {o}" for o in options if f'"{o}"' not in source and o not in folders]
    assert not unknown
