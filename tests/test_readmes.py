"""What the READMEs name is there, what is there is named, their commands are understood, their numbers are the records'."""

import argparse
import json
import re
import runpy
import shlex
import subprocess
import sys
from decimal import ROUND_HALF_UP, Decimal
from fnmatch import fnmatch

import pytest
from helpers import ROOT, tables

TEXTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("*/experiments/*.md")])
ROOMS = "q3_vae_m1|q4_wgan|theory|results|weights|tests"


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def record(name):
    return json.loads(read(name))


def ids(path):
    return path.relative_to(ROOT).as_posix()


# ---- paths and commands --------------------------------------------------------------------------

@pytest.mark.parametrize("text", TEXTS, ids=ids)
def test_every_path_exists(text):
    content = text.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", content) if "://" not in link]
    missing = [link for link in links if not (text.parent / link).exists()]
    named = re.findall(rf"(?<![\w/.-])((?:{ROOMS})/[\w./-]*\w)(?![\w*{{/-])", content)
    made_later = re.compile(r"^results/runs|[A-Z]{4}|_N\b")  # of a run still to come, or a name with a part to fill in
    assert missing + [name for name in named if not made_later.search(name) and not (ROOT / name).exists()] == []


def test_every_result_is_named_in_its_readme():
    """By its name or a pattern such as `q4/tuning.*`."""
    words = ["git", "-C", str(ROOT), "ls-files", "results"]
    names = [name.removeprefix("results/") for name in subprocess.run(words, capture_output=True, text=True).stdout.splitlines()
             if (ROOT / name).exists()]
    patterns = re.findall(r"`([^`\s]+)`", read("results/README.md"))
    assert [name for name in names if name != "README.md" and not any(fnmatch(name, p) for p in patterns)] == []


class Understood(Exception):
    """The arguments of a command were."""


@pytest.mark.parametrize("text", TEXTS, ids=ids)
def test_every_command_is_understood(text, monkeypatch):
    """Each `python SCRIPT ...` of ours, as far as its arguments; a word of one N stands for a number."""
    parse = argparse.ArgumentParser.parse_args

    def stop(self, *args, **more):
        parse(self, *args, **more)
        raise Understood
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    for line in re.findall(rf"python ((?:{ROOMS})/[\w/]+\.py[^\n`|]*)", text.read_text(encoding="utf-8")):
        script, *words = shlex.split(line.split("&&")[0], comments=True)
        assert (ROOT / script).exists(), line
        monkeypatch.setattr(sys, "argv", [script, *("1" if word == "N" else word for word in words)])
        with pytest.raises(Understood):
            runpy.run_path(str(ROOT / script))["main"]()


def example(name):
    return re.search(r"```python\n(.*?)```", read(name), re.DOTALL)[1]


def test_the_python_example_runs_from_anywhere(tmp_path):
    code = example("README.md").replace('"/path/to/vae-gan-wgan"', repr(str(ROOT)))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "(2, 28, 28) (2, 50)\n", done.stderr


@pytest.mark.parametrize("room", ["q3_vae_m1", "q4_wgan"])
def test_the_python_example_of_a_room_runs(room, monkeypatch):
    monkeypatch.chdir(ROOT)
    exec(example(f"{room}/README.md"), {})


# ---- numbers -------------------------------------------------------------------------------------

def table(name, *header):
    """The table of a README whose header begins with these cells."""
    return next(rows for rows in tables(read(name)) if rows[0][:len(header)] == list(header))


def plus_minus(mean, std, digits="0.01"):
    """Halves up, as the other tables round."""
    return " ± ".join(str(Decimal(str(value)).quantize(Decimal(digits), ROUND_HALF_UP)) for value in (mean, std))


def test_test_errors_are_those_of_the_record():
    header, *rows = table("README.md", "labels")
    found = {}
    for data, title in (("fashion", "Fashion-MNIST"), ("mnist", "MNIST")):
        for row in record(f"results/q3/table_{data}.json")["rows"]:
            found[f"{title}, {row['method']}", str(row["labels"])] = plus_minus(row["error_mean"], row["error_std"])
    ours = [(name.replace("M1 (ours)", "M1"), cells) for name, *cells in rows if "paper:" not in name]
    assert len(ours) >= 4
    for name, cells in ours:
        assert cells == [found[name, labels] for labels in header[1:]], name


def test_model_cards_say_what_the_records_say():
    for folder, *cells in table("weights/README.md", "folder", "likelihood")[1:]:
        last = record(f"weights/{folder.strip('`')}/vae.json")["last_epoch"]
        assert cells[2:] == [str(last["epoch"]), f"{last['seconds']:.0f}", f"{last['validation_elbo']:.1f}",
                             str(last["active_latents"])], folder
    header, *rows = table("weights/README.md", "labels")
    for file, *errors in rows:
        paths = [ROOT / f"weights/{file.strip('`')}".replace("_N.joblib", f"_{n}.json") for n in header[1:]]
        assert errors == [f"{record(path)['error']:.2f}" if path.exists() else "" for path in paths], file
    scores = record("results/q4/scores.json")
    for folder, *cells in table("weights/README.md", "folder", "what")[1:]:
        training, distance = (scores[folder.strip("`").removeprefix("q4_")][key] for key in ("training", "relative_distance"))
        assert cells[-3:] == [f"{training['iterations']:,}", f"{training['seconds'] / 60:.0f}",
                              plus_minus(distance["mean"], distance["std"], "0.1")], folder
    outcome = record("weights/q4_classifier/outcome.json")
    assert f"{100 * outcome['test_accuracy']:.2f} % test accuracy" in " ".join(read("weights/README.md").split())


def test_the_run_of_question_2_that_is_shown_is_that_of_its_command():
    run = record("results/q2/gan_lab.json")["converged"]
    settings, text = run["settings"], read("theory/README.md")
    assert (f"--draw {run['draw']} --name arc --seed {run['seed']} --epochs {run['epoch']} --stages "
            f"{' '.join(map(str, run['shots'][:-1]))} --d-neurons {settings['d_neurons']} --g-neurons "
            f"{settings['g_neurons']} --d-steps {settings['d_steps']} --g-learning-rate {settings['g_learning_rate']} "
            f"--lower-rates {' '.join(map(str, settings['lower_rates']))}") in " ".join(text.split())
