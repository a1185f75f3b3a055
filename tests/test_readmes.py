"""What the READMEs name is there, what is there is named, and the numbers of the top README stand in results/."""

import json
import re
import shlex
import subprocess
import sys
from decimal import ROUND_HALF_UP, Decimal

import pytest
import times
from helpers import ROOT

from q4_wgan import ledger

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
            files = ((ROOT / words[0]), folder / "command.py", folder / "files.py")
            source = "".join(file.read_text(encoding="utf-8") for file in files if file.exists())
            options = [word.split("=")[0] for word in words if word.startswith("--") and word != "--"]
            folders = ("--data-dir", "--weights-dir", "--results-dir")
            unknown += [f"{text.name}: {words[0]} {o}" for o in options if f'"{o}"' not in source and o not in folders]
    assert not unknown


# ---- the top README ------------------------------------------------------------------------------

README = (ROOT / "README.md").read_text(encoding="utf-8")


def result(name):
    return json.loads((ROOT / "results" / name).read_text(encoding="utf-8"))


def plus_minus(mean, std, digits="0.01"):
    """Halves up, as the other tables round."""
    return " ± ".join(str(Decimal(str(value)).quantize(Decimal(digits), ROUND_HALF_UP)) for value in (mean, std))


@pytest.mark.parametrize("data, title", [("fashion", "Fashion-MNIST"), ("mnist", "MNIST")])
def test_test_errors_are_those_of_the_record(data, title):
    rows = result(f"q3/table_{data}.json")["rows"]
    shown = re.findall(rf"(?m)^\| {title}, (?!paper)([^|]+) \| (.+) \|$", README)
    assert len(shown) >= 2
    for method, cells in shown:
        found = [plus_minus(row["error_mean"], row["error_std"]) for row in rows if row["method"] == method]
        assert cells.split(" | ") == found, method
    best = next(row for row in rows if row["method"] == "M1+transductive" and row["labels"] == 100)
    assert f"{plus_minus(best['error_mean'], best['error_std'])} %" in README


def test_distances_and_training_times_are_those_of_the_scores():
    scores = result("q4/scores.json")
    found = [plus_minus(scores[m]["relative_distance"]["mean"], scores[m]["relative_distance"]["std"], "0.1")
             for m in ("dcgan", "wgan")]
    assert f"relative Fréchet distance of {found[0]} and {found[1]}" in " ".join(README.split())
    for attempt in ledger.attempts(ROOT / "results/q4/attempts.jsonl"):
        if attempt["iterations"] == 22_000 and attempt["outcome"] == "converged":  # the defaults without CUDA
            text, minutes = f"| `python q4_wgan/train.py --model {attempt['model']}` | ", attempt["seconds"] / 60
            assert f"{text}{minutes:.0f} minutes" in README
    assert f"--retrain` | {result('q3/vae_fashion.json')['last_epoch']['seconds']:.0f} s" in README


def test_times_are_those_measured():
    for command in times.COMMANDS:
        assert f"| `{command}` |" in README
    if (ROOT / "results/times.json").exists():
        for command, seconds in result("times.json")["seconds"].items():
            assert times.row(command, seconds) in README


def test_mishaps_are_those_counted():
    counts = [entry for part in result("mishaps.json").values() for entry in part.values()]
    assert not any(entry["wrong"] for entry in counts)
    assert f"On Linux {sum(entry['cases'] for entry in counts):,} such cases were run" in " ".join(README.split())


def test_the_python_example_runs(tmp_path):
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert '"/path/to/vae-gan-wgan"' in example
    words = [sys.executable, "-c", example.replace('"/path/to/vae-gan-wgan"', repr(str(ROOT)))]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "(2, 28, 28) (2, 50)\n", done.stderr


@pytest.mark.parametrize("room", ["q3_vae_m1", "q4_wgan"])
def test_the_python_example_of_a_room_runs(room):
    text = (ROOT / room / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    done = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- the model cards -----------------------------------------------------------------------------

def test_model_cards_say_what_the_records_say():
    text = (ROOT / "weights/README.md").read_text(encoding="utf-8")
    for data in ("fashion", "mnist"):
        for kind, by_count in result(f"q3/classifiers_{data}.json").items():
            for n, found in by_count.items():
                assert f"| `q3_{kind}_{data}_{n}.joblib` | {found['error']:.2f} |" in text
        for name in (f"vae_{data}", f"vae_{data}_bernoulli"):
            last = result(f"q3/{name}.json")["last_epoch"]
            assert re.search(rf"`q3_{name}.pt` .*\| {last['epoch']} \| {last['seconds']:.0f} "
                             rf"\| {last['validation_elbo']:.1f} \| {last['active_latents']} \|", text), name
    scores, classifier = result("q4/scores.json"), result("q4/classifier.json")
    for model in ("dcgan", "wgan"):
        training, distance = scores[model]["training"], scores[model]["relative_distance"]
        assert re.search(rf"`q4_{model}.pt` .*\| {training['iterations']:,} \| {training['seconds'] / 60:.0f} "
                         rf"\| {plus_minus(distance['mean'], distance['std'], '0.1')} \|", text), model
    assert f"{classifier['epochs']} epochs in {classifier['seconds']}" in text and f"{classifier['test_accuracy']:.2%}"[:-1] in text


# ---- question 2 ----------------------------------------------------------------------------------

def test_runs_of_question_2_are_counted_as_recorded_and_the_command_is_that_of_the_shown_run():
    text = " ".join((ROOT / "theory/README.md").read_text(encoding="utf-8").split())
    record = result("q2/gan_lab.json")
    attempts, run = record["attempts"], record["converged"]
    different = {json.dumps([a[k] for k in ("draw", "seed", "settings", "epoch", "seen")]): a["outcome"]
                 for a in attempts}
    counts = [list(different.values()).count(outcome) for outcome in ("converged", "samples match", "not converged")]
    assert f"each of the {len(attempts)}, with settings" in text
    assert (f"so {len(different)} are different: {counts[0]} converged, in {counts[1]} the samples match but "
            f"gradients or curves were not at rest or not recorded, and {counts[2]} did not converge") in text
    settings = run["settings"]
    assert (f"--draw {run['draw']} --name arc --seed {run['seed']} --epochs {run['epoch']} --stages "
            f"{' '.join(map(str, run['shots'][:-1]))} --d-neurons {settings['d_neurons']} --g-neurons "
            f"{settings['g_neurons']} --d-steps {settings['d_steps']} --g-learning-rate {settings['g_learning_rate']} "
            f"--lower-rates {' '.join(map(str, settings['lower_rates']))}") in text
    assert run["seed"] == 1 and any(a["draw"] == "smile" and a["seed"] == 0 and a["outcome"] == "converged"
                                    for a in attempts)
