"""q4_wgan's scores: every number of its READMEs stands in results/q4/, and the arithmetic behind these files."""

import argparse
import json

import numpy as np
import pytest
import torch
from helpers import ROOT, make_classifier, make_dataset, one_line, run_script
from PIL import Image

from q4_wgan import benchmark, compare, evaluate, figures, files, ledger, runs, stability, tune
from q4_wgan.command import UserError
from q4_wgan.networks import make_generator
from q4_wgan.objectives import OBJECTIVES

README, EXPERIMENTS = ((ROOT / "q4_wgan" / name).read_text(encoding="utf-8")
                       for name in ("README.md", "EXPERIMENTS.md"))
RESULTS = ROOT / "results/q4"


def words(text):
    return " ".join(text.split())


def rounded(content):
    """Processors differ in the last bits of logarithms."""
    return json.loads(json.dumps(content), parse_float=lambda text: round(float(text), 6))


# ---- the READMEs ---------------------------------------------------------------------------------

def test_readme_has_the_scores():
    scores = json.loads((RESULTS / "scores.json").read_text())
    real, calibration = scores["real"], scores["real"]["calibration"]
    text, (dcgan, wgan) = words(README), (scores[model] for model in evaluate.MODELS)
    assert evaluate.markdown(scores) in README
    accuracy = json.loads((RESULTS / "classifier.json").read_text())["test_accuracy"]
    first, middle, last = ({m["iteration"]: m for m in wgan["moments"]}[n] for n in (500, 10_000, 22_000))
    start, end = dcgan["moments"][0], dcgan["moments"][-1]
    lost, alone = calibration["without_one_class"], calibration["one_class_only"]
    pm = "{mean:.1f} ± {std:.1f}"
    for sentence in (
            f"The shipped DCGAN has a relative Fréchet distance of {pm.format(**dcgan['relative_distance'])}, the "
            f"shipped WGAN-GP of {pm.format(**wgan['relative_distance'])}",
            f"({100 * accuracy:.2f} % test accuracy)",
            f"to them: {real['real_distance_validation']:.4f}; to the test images: {real['real_distance']:.4f}",
            f"two disjoint sets of 10,000 training images are {real['distance_train_train']:.4f} apart, validation and "
            f"test images {real['distance_validation_test']:.4f}",
            f"blurred training images have {calibration['blurred_3x3']:.0f}",
            f"noise of 20 grey levels {calibration['noise_20_grey_levels']:.0f}",
            f"one class left out {min(lost):.0f} to {max(lost):.0f}",
            f"one class alone {min(alone):.0f} to {max(alone):.0f}",
            f"to the validation images is above {scores['failure']['relative_distance_above']:.0f}.",
            f"fewer than {100 * scores['failure']['class_frequency_below']:.0f} % of 10,000 generated images",
            f"took {dcgan['training']['seconds'] / 60:.0f} minutes", f"| {wgan['training']['seconds'] / 60:.0f} minutes",
            f"relative distance {last['relative_distance']:.1f}; shipped weights/q4_wgan.pt",
            f"falls from {-first['critic_loss']:.2f} (on validation images {-first['validation_critic_loss']:.2f}) at "
            f"iteration 500 to {-middle['critic_loss']:.2f} ({-middle['validation_critic_loss']:.2f}) at iteration 10,000, "
            f"and then rises to {-last['critic_loss']:.2f} ({-last['validation_critic_loss']:.2f}), while the relative "
            f"distance falls from {first['relative_distance']:.0f} to {middle['relative_distance']:.1f} and on to "
            f"{last['relative_distance']:.1f}",
            f"generator loss falls to {dcgan['lowest_generator_loss']['value']:.2f} (mean of the 500 iterations to "
            f"{dcgan['lowest_generator_loss']['iteration']:,}) and then rises to {end['generator_loss']:.2f}, while the "
            f"distance falls from {start['relative_distance']:.0f} to ",
            f"and ends at {end['relative_distance']:.1f}",
            f"falls from {start['critic_loss']:.2f} to {end['critic_loss']:.2f} (on validation images "
            f"{end['validation_critic_loss']:.2f})",
            f"DCGAN {dcgan['attempts']['failed_before_first_success']}, WGAN-GP "
            f"{wgan['attempts']['failed_before_first_success']}.**",
            f"{wgan['attempts']['given_up']} of WGAN-GP's trainings were given up by hand",
            f"failed in {wgan['attempts']['given_up'] + wgan['attempts']['failed']} of its {wgan['attempts']['attempts']} "
            f"attempts, and DCGAN in {dcgan['attempts']['given_up'] + dcgan['attempts']['failed']} of "
            f"{dcgan['attempts']['attempts']}",
            f"{wgan['attempts']['interrupted']} more were stopped",
            f"{wgan['attempts']['attempts']} attempts to DCGAN's {dcgan['attempts']['attempts']}"):
        assert sentence in text, sentence


def test_readme_compares_two_trainings_of_dcgan_with_the_two_models():
    shipped = json.loads((RESULTS / "scores.json").read_text())
    distance = {a["iterations"]: a["relative_distance"] for a in ledger.attempts(RESULTS / "attempts.jsonl")
                if a["model"] == "dcgan" and a["learning_rate"] == 2e-3}
    dcgan, wgan = (shipped[model]["training"]["validation_relative_distance"] for model in evaluate.MODELS)
    assert (f"with the same rates came to {distance[22_000]:.1f} (22,000 iterations on a CPU) and {distance[25_000]:.1f} "
            f"(25,000 on a GPU) on the validation images. They differ by {distance[22_000] - distance[25_000]:.1f}, the two "
            f"models here by {wgan - dcgan:.1f} on the same images." in words(README))


def test_scores_are_of_the_shipped_pair():
    scores = json.loads((RESULTS / "scores.json").read_text())
    for model in evaluate.MODELS:
        content = torch.load(ROOT / f"weights/q4_{model}.pt", weights_only=True)
        assert content["attempt"] == scores[model]["training"]["attempt"]


def test_experiments_has_the_search(monkeypatch):
    path = RESULTS / "tuning.jsonl"
    ended = {runs.key(line): line for line in reversed(files.read_lines(path))}
    monkeypatch.setattr(runs, "run_missing", lambda work, *_, **__: [ended[runs.key(options)] for options in work])
    lines = tune.search(argparse.Namespace(
        draws=tune.DRAWS, dim=tune.DIM, compute=tune.COMPUTE, jobs=1, results_dir=ROOT / "results", dataset="fashion",
        data_dir=ROOT / "data", weights_dir=ROOT / "weights", device="cpu"), path)
    assert tune.markdown(lines) in EXPERIMENTS
    assert tune.summarise(lines) == json.loads(path.with_suffix(".json").read_text())
    lost = {objective: found["outcomes"]["collapsed"] for objective, found in tune.summarise(lines).items()}
    assert (f"DCGAN {lost['dcgan']}, WGAN-GP {lost['wgan-gp']}, clipping {lost['wgan-clip']} of {tune.DRAWS} draws"
            in words(EXPERIMENTS))


def test_experiments_has_the_stability_study():
    result, text = json.loads((RESULTS / "stability.json").read_text()), words(EXPERIMENTS)
    lines = files.read_lines(RESULTS / "stability.jsonl")
    tuned = {objective: runs.tuned(ROOT / "results", "fashion", objective) for objective in OBJECTIVES}
    assert stability.summarise(stability.cells(tuned, stability.SEEDS), lines) == result
    assert stability.markdown(result) in EXPERIMENTS
    dcgan, wgan, clip = (result["totals"][objective] for objective in OBJECTIVES)
    pairs = result["only_dcgan_or_wgan_gp"]
    rates = [[total["trained_by_rate"][rate] for total in (dcgan, wgan, clip)] for rate in stability.RATES]
    assert wgan["settings_trained_at_some_rate"] == len(stability.SETTINGS)
    for sentence in (
            f"DCGAN did in {dcgan['settings_trained_at_some_rate']}, clipping in {clip['settings_trained_at_some_rate']}.",
            f"DCGAN trained in {dcgan['trained']}, WGAN-GP in {wgan['trained']}, clipping in {clip['trained']}.",
            f"only DCGAN trained in {pairs['only_dcgan']}, only WGAN-GP in {pairs['only_wgan_gp']}:",
            "DCGAN trained in {}, WGAN-GP in {} and clipping in {};".format(*rates[0]),
            "in {}, {} and {}; at the search's in {}, {} and {}.".format(*rates[1], *rates[2]),
            f"{sum(total['came_to_rest'] for total in (dcgan, wgan, clip))} of the {len(lines)} had",
            f"{sum(line.get('device') == 'cuda' for line in lines)} of the {len(lines)} runs"):
        assert sentence in text, sentence
    assert (f"in {dcgan['trained']} of 48 trainings of DCGAN, {wgan['trained']} of WGAN-GP and {clip['trained']} of weight "
            "clipping" in words(README))


def test_readme_has_the_comparison():
    result = json.loads((RESULTS / "comparison.json").read_text())
    again = compare.summarise(files.read_lines(RESULTS / "comparison.jsonl"), result["settings"])
    assert rounded(again) == rounded(result)
    assert result["settings"]["dcgan"] == runs.tuned(ROOT / "results", "fashion", "dcgan")
    assert compare.markdown(result) in README and compare.times_markdown(result) in EXPERIMENTS
    gap, iterations = result["difference_at_equal_compute"], result["equal_iterations"]
    distance, pixels = ([result["equal_compute"][model][key] for model in evaluate.MODELS]
                        for key in ("relative_distance", "relative_distance_pixels"))
    then, between = ([iterations[model]["relative_distance"] for model in evaluate.MODELS],
                     result["difference_at_equal_iterations"]["relative_distance"])
    shipped = [json.loads((RESULTS / "scores.json").read_text())[model]["relative_distance"]["mean"] for model in evaluate.MODELS]
    # What the sentences say in words.
    assert gap["relative_distance"]["high"] < 0 < gap["relative_distance_pixels"]["low"]
    assert all(gap[score]["low"] < 0 < gap[score]["high"] for score in ("precision", "recall"))
    pm, text = "{mean:.1f} ± {std:.1f}", words(README)
    for sentence in (
            "features ({} against {})".format(*(pm.format(**found) for found in distance)),
            "in the pixels ({} against {})".format(*(pm.format(**found) for found in pixels[::-1])),
            "({:.1f} and {:.1f}, one training each)".format(*shipped),
            f"At equal *iterations* ({iterations['iterations']:,}, on the validation images) DCGAN has "
            f"{pm.format(**then[0])} and WGAN-GP {pm.format(**then[1])} (interval of the difference "
            f"{between['low']:+.1f} to {between['high']:+.1f}).".replace("-", "−").replace("WGAN−GP", "WGAN-GP")):
        assert sentence in text, sentence


def test_experiments_has_the_attempts():
    attempts = ledger.attempts(RESULTS / "attempts.jsonl")
    assert ledger.markdown(attempts) in EXPERIMENTS
    (dcgan, dcgan_pixels), (wgan, wgan_pixels) = (
        [sorted(a[key] for a in attempts if a["model"] == model and a.get("device") == "cuda")
         for key in ("relative_distance", "relative_distance_pixels")] for model in evaluate.MODELS)
    text = words(EXPERIMENTS)
    assert f"nearest to the validation images: {dcgan[0]:.1f}," in text
    assert f"WGAN-GP came to {wgan[0]:.1f} at best" in text
    assert ("its three have {:.1f}, {:.1f} and {:.1f}, DCGAN's {:.1f}, {:.1f} and {:.1f}"
            .format(*wgan_pixels, *dcgan_pixels) in text)


def test_experiments_has_the_speed():
    result = json.loads((RESULTS / "benchmark.json").read_text())
    assert benchmark.markdown(result) in EXPERIMENTS
    shipped = [found["textbook_over_shipped"] for found in result["dims"].values()]
    assert f"{max(shipped):.1f}, {sorted(shipped)[1]:.1f} and {min(shipped):.1f} times" in words(EXPERIMENTS)
    dims = json.loads((RESULTS / "benchmark_h200.json").read_text())["dims"].values()
    times = [{loop: 1000 * t["median"] for loop, t in found["seconds_per_iteration"].items()} for found in dims]
    gains = [100 * (1 - t["wgan-gp 64 float32"] / t["wgan-gp 64"]) for t in times]
    shipped = [found["textbook_over_shipped"] for found in dims]
    for values, text in (([t["dcgan"] for t in times], "of DCGAN takes {:.0f} to {:.0f} ms"), (gains, "{:.0f} to {:.0f} %"),
                         ([t["wgan-gp 16"] for t in times], "one of WGAN-GP {:.0f} to {:.0f} ms"),
                         (shipped, "{:.1f} to {:.1f} times")):
        assert text.format(min(values), max(values)) in words(EXPERIMENTS), text


# ---- what evaluate.py derives --------------------------------------------------------------------

def losses_csv(path, iterations=2_000):
    """Losses as train.py writes them: the critic's is iteration / 1,000, the distance 2,000 / iteration."""
    rows = ["iteration,seconds,generator_loss,critic_loss,validation_critic_loss,distance"]
    for i in range(10, iterations + 1, 10):
        rows.append(f"{i},{i / 10},{abs(i - 1_000)},{i / 1000}," + (f"{i},{2_000 / i}" if i % 500 == 0 else ","))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def test_losses_at_moments(tmp_path):
    losses_csv(tmp_path / "losses.csv")
    losses = evaluate.read_losses(tmp_path / "losses.csv")
    moments = evaluate.moments_of(losses, 0.5)
    assert [moment["iteration"] for moment in moments] == [500, 1_000, 2_000]
    assert moments[0]["critic_loss"] == pytest.approx(np.mean(np.arange(410, 510, 10)) / 1000)  # iterations 401 to 500
    assert (moments[0]["validation_critic_loss"], moments[0]["relative_distance"]) == (500, 8.0)
    found = evaluate.lowest(losses, "generator_loss")
    assert found["iteration"] in (1_240, 1_250) and found["value"] == pytest.approx(125, abs=1)


def test_nearest():
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 256, (n, 28, 28), generator=random, dtype=torch.uint8) for n in (30, 40))
    brute = torch.cdist(a.flatten(1).double() / 255, b.flatten(1).double() / 255).min(1).values
    assert torch.allclose(evaluate.nearest(a, b, chunk=7).double(), brute, atol=1e-3)


def test_inception_fid_with_random_weights(monkeypatch):
    """Through torchmetrics, with a network of random weights in Inception's place."""
    fid = pytest.importorskip("torchmetrics.image.fid")

    class Features(torch.nn.Module):
        num_features = 8

        def forward(self, x):
            return x.float().flatten(1)[:, 300:308]
    real_class = fid.FrechetInceptionDistance
    monkeypatch.setattr(fid, "FrechetInceptionDistance", lambda: real_class(Features(), input_img_size=(3, 28, 28)))
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randint(low, 256, (300, 28, 28), generator=random, dtype=torch.uint8) for low in (0, 100))
    metric = evaluate.inception()
    assert evaluate.inception_fid(metric, a, a) == pytest.approx(0, abs=0.1)
    assert evaluate.inception_fid(metric, b, a) > 10


# ---- the commands --------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A small data set, a classifier of it, and two generators that were never trained, with made-up losses."""
    base = tmp_path_factory.mktemp("scores")
    make_dataset(base / "data")
    make_classifier(base)
    weights = {}
    for model in evaluate.MODELS:
        generator = make_generator("conv", 2)
        weights[f"q4_{model}_toy.pt"] = files.as_torch({
            "model": model, "dataset": "toy", "arch": "conv", "dim": 2, "attempt": model, "seconds": 5,
            "state": {name: value.contiguous() for name, value in generator.state_dict().items()}})
        losses_csv(base / f"results/q4/{model}_toy_losses.csv")
    files.ship(base / "weights", weights)
    return base


def command(script, world, *more, **how):
    folders = ("--data-dir", world / "data", "--weights-dir", world / "weights", "--results-dir", world / "results")
    return run_script(f"q4_wgan/{script}.py", "--dataset", "toy", *folders, *more, **how)


def test_evaluate(world):
    done = command("evaluate", world, "--repeats", 2)
    assert done.returncode == 0, done.stderr
    path = world / "results/q4/scores_toy.json"
    scores = json.loads(path.read_text())
    assert scores["real"]["images"] == 100 and len(scores["real"]["calibration"]["without_one_class"]) == 10
    for model in evaluate.MODELS:
        assert scores[model]["relative_distance"]["n"] == 2 and scores[model]["relative_distance"]["mean"] > 1
        assert sum(scores[model]["class_frequencies"]) == pytest.approx(1)
        assert scores[model]["training"]["validation_relative_distance"] == pytest.approx(
            1 / scores["real"]["real_distance_validation"])
    assert evaluate.markdown(scores) in done.stdout
    done = command("evaluate", world, "--repeats", 2, "--model", "wgan", "--seed", 5)
    again = json.loads(path.read_text())
    assert again["dcgan"] == scores["dcgan"] and again["wgan"]["sampling_seeds"] == [5, 6]
    path.write_text("{")
    one_line(command("evaluate", world, "--model", "wgan"), "scores_toy.json", "damaged")
    path.unlink()


def test_another_classifier_than_in_training_is_told():
    """Its distances are of another scale: the losses that ship would be divided by a unit that is not theirs."""
    ledger.check_units({"dcgan": {"real_distance": 0.1}, "wgan": {}}, 0.1004)
    for content in ({"real_distance": 0.1}, {"floor": 0.1, "distance": 1.0, "shares": []}):
        with pytest.raises(UserError, match="wgan"):
            ledger.check_units({"wgan": content}, 0.11)


def test_figures(world, monkeypatch, capsys):
    """Also the strip and the GIF, of the model whose training shipped a record of its images."""
    monkeypatch.setattr(figures, "first_of_class", lambda *_: (0, torch.zeros(28, 28, dtype=torch.uint8)))
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.full((1, 10, 28, 28), 100, dtype=np.uint8)
    np.savez(world / "results/q4/wgan_toy_grids.npz", iterations=np.array([100, 200, 250]), images=images)
    folders = ("--data-dir", world / "data", "--weights-dir", world / "weights", "--results-dir", world / "results")
    monkeypatch.setattr("sys.argv", ["figures.py", "--dataset", "toy", *map(str, folders)])
    figures.main()
    for stem in ("losses_toy", "distances_toy", "dcgan_toy_samples", "wgan_toy_samples", "images_toy", "wgan_toy_training"):
        assert Image.open(world / f"results/q4/{stem}.png").size[0] >= 900
    film = Image.open(world / "results/q4/wgan_toy_training.gif")
    assert film.n_frames == 3 and film.size == (444, 190)
    for frame in range(3):
        film.seek(frame)
        assert film.convert("L").getpixel((40, 60)) == 100 * frame  # in the first image
    assert not (world / "results/q4/dcgan_toy_training.png").exists()
    assert "saved the figures" in capsys.readouterr().out
    for damaged in (b"", b"PK damaged", b"PK\x03\x04 cut short"):
        (world / "results/q4/wgan_toy_grids.npz").write_bytes(damaged)
        with pytest.raises(UserError, match="wgan_toy_grids.npz"):
            figures.main()


def test_an_image_of_a_class_has_neighbours_of_it(world, monkeypatch):
    """The classifier's word alone does not do."""
    features = torch.eye(20)[:, :20]
    labels = torch.tensor([3] * 10 + [7] * 10)
    inside = features[:10].mean(0)[None]
    answers = {0: (inside, 5, 0.99), 1: (features[15:16], 3, 0.99), 2: (inside, 3, 0.98), 3: (inside, 3, 0.995)}
    monkeypatch.setattr(figures.sampling, "draw", lambda generator, z: torch.full((1, 28, 28), z, dtype=torch.uint8))
    monkeypatch.setattr(figures.sampling, "latents", lambda seeds: seeds[0])

    def classify(network, picture):
        mine, label, confidence = answers[picture[0, 0, 0].item()]
        return mine, torch.tensor([label]), torch.tensor([confidence])
    monkeypatch.setattr(figures.classifier, "classify", classify)
    assert figures.first_of_class(None, 3, None, features, labels)[0] == 3


@pytest.mark.parametrize("script, arguments, message", [
    ("evaluate", ["--repeats", "1"], "--repeats"), ("evaluate", ["--weights-dir", "/nowhere"], "/nowhere"),
    ("figures", ["--results-dir", ""], "empty path"), ("figures", ["--weights-dir", "/nowhere"], "/nowhere")])
def test_bad_input(world, script, arguments, message):
    one_line(command(script, world, *arguments), message)
