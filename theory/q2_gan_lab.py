"""Question 2: train the real GAN Lab page in a headless browser on a drawing, and keep what it shows.

Every run, good or bad, is kept in results/runs/q2_NAME/ and counted in results/q2_gan_lab.json. A run that
meets the convergence criterion of drawings.py becomes results/q2_gan_lab.png with its stages; one that does
not becomes results/q2_gan_lab_failed.png. --publish NAME shows another run in its place, without a browser.

Needed by this script alone: `pip install playwright` and a Chromium (Debian: `apt-get install chromium`;
elsewhere `playwright install chromium`). Without internet serve branch gh-pages of github.com/poloclub/ganlab
on 127.0.0.1 and give --url and --assets (a folder with the npm packages listed in theory/README.md).
"""
import argparse
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

import drawings
import q2_figures
import q2_page

ROOT = Path(__file__).resolve().parent.parent
PAGE = "https://poloclub.github.io/ganlab/"
SETTINGS = {"d_layers": int, "g_layers": int, "d_neurons": int, "g_neurons": int, "d_steps": int, "g_steps": int,
            "d_learning_rate": float, "g_learning_rate": float}
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # those the page offers
LIMITS = {"layers": (0, 5), "neurons": (1, 100), "steps": (1, 10)}  # those the page allows


def fail(message):
    print(f"q2_gan_lab.py: {message}", file=sys.stderr)
    sys.exit(2)


def parse(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python theory/q2_gan_lab.py --draw heart --d-neurons 20 --g-neurons 14 --d-steps 3 --g-learning-rate 0.03
  python theory/q2_gan_lab.py --draw heart --name presets          # the page's own settings
  python theory/q2_gan_lab.py --url http://127.0.0.1:8000/ --assets npm/ --draw moons --epochs 8000
  python theory/q2_gan_lab.py --publish heart                      # show a run made before; no browser""")
    parser.add_argument("--url", default=PAGE, help="the page (default %(default)s)")
    parser.add_argument("--assets", type=Path, help="folder with .tgz files of `npm pack`, served in place of the page's CDNs")
    parser.add_argument("--chromium", help="path of the browser (default: chromium on PATH, else Playwright's own)")
    parser.add_argument("--draw", choices=[*drawings.DRAWINGS, *drawings.PRESETS], default="heart", help="what to learn (default %(default)s)")
    parser.add_argument("--epochs", type=int, default=5000, help="train at least this long (default %(default)s)")
    parser.add_argument("--max-epochs", type=int, help="and at most this long, until converged (default: --epochs)")
    parser.add_argument("--stages", type=int, nargs="+", default=[2, 250, 1000, 2500], help="epochs of the earlier screenshots")
    parser.add_argument("--name", help="name of the run's folder (default: the drawing)")
    parser.add_argument("--publish", metavar="NAME", help="do not train: show this earlier run")
    parser.add_argument("--seed", type=int, default=0, help="seeds the page's Math.random (default %(default)s)")
    parser.add_argument("--results-dir", type=Path, default=ROOT / "results")
    group = parser.add_argument_group("settings of the networks (default: what the page comes with)")
    for name, kind in SETTINGS.items():
        group.add_argument("--" + name.replace("_", "-"), type=kind)
    group.add_argument("--d-optimizer", choices=["SGD", "Adam"])
    group.add_argument("--g-optimizer", choices=["SGD", "Adam"])
    group.add_argument("--noise", choices=["1D Uniform", "1D Gaussian", "2D Uniform", "2D Gaussian"])
    group.add_argument("--loss", choices=["Log loss", "LeastSq loss"])
    group.add_argument("--lower-rates", type=int, nargs="+", default=[], metavar="EPOCH",
                       help="at these epochs both learning rates go one step down the page's list")
    args = parser.parse_args(argv)
    args.max_epochs = args.max_epochs or args.epochs
    args.name = args.name or args.draw
    if args.epochs < 1 or args.max_epochs < args.epochs:
        parser.error("--epochs must be positive and not above --max-epochs")
    if min(args.stages + args.lower_rates) < 1:
        parser.error("--stages and --lower-rates must be positive epochs")
    for name in SETTINGS:
        value = getattr(args, name)
        if value is None:
            continue
        if name.endswith("learning_rate"):
            if value not in RATES:
                parser.error(f"--{name.replace('_', '-')}: the page offers {', '.join(map(str, RATES))}")
        else:
            low, high = LIMITS[name.split("_")[1]]
            if not low <= value <= high:
                parser.error(f"--{name.replace('_', '-')}: the page allows {low} to {high}")
    if args.assets and not args.assets.is_dir():
        parser.error(f"--assets: no such folder: {args.assets}")
    for name in (args.name, args.publish):
        if name and (Path(name).name != name or name.startswith(".")):
            parser.error("a run's name is a plain word, not a path")
    return args


def write_json(path, value):
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(temporary, path)


def read_json(path, default=None):
    if default is not None and not path.exists():
        return default
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        fail(f"cannot read {path}: {error}")


def publish(run, folder, results):
    """Copies a run's pictures and numbers to their places in results/ (see the docstring) and redraws the histories."""
    ledger = read_json(results / "q2_gan_lab.json", {"attempts": []})
    ledger["criterion"] = {
        "reach": drawings.REACH, "min_precision": drawings.MIN_PRECISION, "min_coverage": drawings.MIN_COVERAGE,
        "max_w1": drawings.MAX_W1, "in_a_row": drawings.CHECKS_IN_A_ROW, "every_epochs": drawings.MEASURE_EVERY}
    shown, picture = ("converged", "q2_gan_lab.png") if run["outcome"] == "converged" else ("failed", "q2_gan_lab_failed.png")
    ledger[shown] = run
    try:
        temporary = results / (picture + ".tmp")
        shutil.copyfile(folder / f"epoch{run['epoch']:06d}.png", temporary)
        os.replace(temporary, results / picture)
        if shown == "converged":
            q2_figures.stages(run, folder, results / "q2_gan_lab_stages.png")
        q2_figures.histories([ledger[k] for k in ("converged", "failed") if k in ledger], results / "q2_gan_lab_histories.png")
    except (OSError, KeyError, ValueError) as error:
        fail(f"run {run.get('name')} cannot be published: {error!r}")
    write_json(results / "q2_gan_lab.json", ledger)
    print(f"{run['name']}: {run['outcome']} at epoch {run['epoch']:,}; see {results / picture}")


def lower(rate):
    """The next smaller learning rate that the page offers."""
    return max((r for r in RATES if r < rate), default=min(RATES))


def attempt(run):
    """A run's line in the list of attempts."""
    return {k: run[k] for k in ("name", "draw", "seed", "settings", "epoch", "outcome", "seconds")} | {"worst_of_last": drawings.worst(run["measures"])}


def train(page, args, folder):
    """One run from the first epoch to its end; returns what run.json holds."""
    settings = {**page.settings(), "lower_rates": sorted(args.lower_rates)}
    measures, shots, started = [], [], time.time()
    bar = tqdm(total=args.max_epochs, unit="epoch", desc=args.name, dynamic_ncols=True)
    stops = {*args.stages, *args.lower_rates} | set(range(drawings.MEASURE_EVERY, args.max_epochs + 1, drawings.MEASURE_EVERY)) | {args.epochs, args.max_epochs}
    for stop in sorted(s for s in stops if s <= args.max_epochs):
        page.play_until(stop, lambda epoch: bar.update(epoch - bar.n))
        last = stop >= args.max_epochs
        if stop % drawings.MEASURE_EVERY == 0 or last:
            measures.append({"epoch": stop, **drawings.measure(*page.samples())})
            bar.set_postfix({k: measures[-1][k] for k in ("precision", "coverage", "w1")})
            last = last or (stop >= args.epochs and drawings.converged(measures))
        if stop in args.stages or last:
            shots.append(page.screenshot(folder))
        if last:
            break
        if stop in args.lower_rates:
            page.set({key: lower(value) for key, value in page.settings().items() if key.endswith("learning_rate")})
    bar.close()
    seconds = time.time() - started
    good = drawings.converged(measures)
    return {"name": args.name, "draw": args.draw, "seed": args.seed, "settings": settings, "browser": page.version,
            "epoch": shots[-1], "shots": shots, "seconds": round(seconds), "epochs_per_second": round(stop / seconds, 1),
            "outcome": "converged" if good else "not converged", **page.values(), "measures": measures,
            "histories": page.histories()}


def main():
    args = parse()
    results = args.results_dir
    if args.publish:
        folder = results / "runs" / f"q2_{args.publish}"
        publish(read_json(folder / "run.json"), folder, results)
        return
    folder = results / "runs" / f"q2_{args.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"cannot write to {folder}: {error.strerror}")
    if (folder / "run.json").exists():
        fail(f"run {args.name} exists; give another --name (attempts are counted, not overwritten)")
    try:
        urllib.request.urlopen(args.url, timeout=20).close()
    except (OSError, ValueError) as error:
        fail(f"the page {args.url} cannot be reached: {getattr(error, 'reason', error)}")
    try:
        with q2_page.GanLab(args.url, args.assets, args.chromium) as page:
            page.choose(args.draw)
            page.set({k: getattr(args, k) for k in [*SETTINGS, "d_optimizer", "g_optimizer", "noise", "loss"]})
            page.start(args.seed)
            run = train(page, args, folder)
    except q2_page.PageError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted; the unfinished run is not counted")
    write_json(folder / "run.json", run)
    ledger = read_json(results / "q2_gan_lab.json", {"attempts": []})
    ledger["attempts"].append(attempt(run))
    write_json(results / "q2_gan_lab.json", ledger)
    publish(run, folder, results)


if __name__ == "__main__":
    main()
