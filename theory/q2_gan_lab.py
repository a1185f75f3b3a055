"""Question 2: the real GAN Lab page, trained in a headless browser on a drawing, with what it shows.

Every finished run, good or bad, is kept in results/runs/q2_NAME/ and counted in results/q2/gan_lab.json with its
outcome by the criterion of drawings.py. A run takes 3 to 10 minutes of one core. --publish NAME shows a run in
results/q2/, without a browser: a converged one as gan_lab.png, one whose samples match but whose gradients or curves
do not rest as gan_lab_hard.png, any other as gan_lab_failed.png.

Needed by this script alone: `pip install playwright` and a Chromium (Debian: `apt-get install chromium`;
elsewhere `playwright install chromium`). Without internet see theory/README.md.
"""
import argparse
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from theory import drawings, plots, q2_page
from theory.command import (
    Parser,
    UserError,
    add_folders,
    as_json,
    check_writable,
    name,
    number,
    path,
    read,
    read_json,
    run_main,
    seed,
    write,
)

PAGE = "https://poloclub.github.io/ganlab/"
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # those the page offers
LIMITS = {"layers": (0, 5), "neurons": (1, 100), "steps": (1, 10)}  # those the page allows
SETTINGS = [*(f"{network}_{what}" for network in "dg" for what in (*LIMITS, "learning_rate", "optimizer")),
            "noise", "loss"]
PLACES = {"converged": ("converged", "gan_lab.png"), "samples match": ("hard", "gan_lab_hard.png"),
          "not converged": ("failed", "gan_lab_failed.png")}
NEW = {"attempts": [], "criterion": drawings.CRITERION}
epoch_number = number(int, 1, 100_000)


def rate(text):
    """argparse type: a learning rate of the page's list."""
    value = number(float)(text)
    if value not in RATES:
        raise argparse.ArgumentTypeError(f"the page offers {', '.join(map(str, RATES))}, not {text}")
    return value


def parse():
    parser = Parser(description=__doc__, epilog="""examples:
  python theory/q2_gan_lab.py --draw smile --d-neurons 10 --g-neurons 14 --d-steps 3 --g-learning-rate 0.03
  python theory/q2_gan_lab.py --draw heart --name presets          # the page's own settings
  python theory/q2_gan_lab.py --url http://127.0.0.1:8000/ --assets npm/ --draw moons --epochs 8000
  python theory/q2_gan_lab.py --publish presets                    # show a run made before; no browser""")
    parser.add_argument("--url", default=PAGE, help="the page (default %(default)s)")
    parser.add_argument("--assets", type=path, help="folder of the .tgz files of `npm pack`, for the page's CDNs")
    parser.add_argument("--chromium", type=path, help="the browser (default: chromium on PATH, else Playwright's own)")
    parser.add_argument("--draw", choices=[*drawings.DRAWINGS, *drawings.PRESETS], default="smile",
                        help="what to learn (default %(default)s)")
    parser.add_argument("--epochs", type=epoch_number, default=5000, help="at least so many (default %(default)s)")
    parser.add_argument("--max-epochs", type=epoch_number, help="at most so many, until converged (default: --epochs)")
    parser.add_argument("--stages", type=epoch_number, nargs="+", default=[2, 250, 1000, 2500],
                        help="epochs of the earlier screenshots (default 2 250 1000 2500)")
    parser.add_argument("--name", type=name, help="name of the run (default: the drawing's)")
    parser.add_argument("--publish", type=name, metavar="NAME", help="do not train: show this earlier run")
    parser.add_argument("--seed", type=seed, default=0, help="seeds the page's Math.random (default %(default)s)")
    add_folders(parser, "results")
    group = parser.add_argument_group("settings of the networks (default: what the page comes with)")
    for option in ("--d-layers", "--g-layers", "--d-neurons", "--g-neurons", "--d-steps", "--g-steps"):
        group.add_argument(option, type=number(int, *LIMITS[option.split("-")[-1]]))
    for option in ("--d-learning-rate", "--g-learning-rate"):
        group.add_argument(option, type=rate)
    for option in ("--d-optimizer", "--g-optimizer"):
        group.add_argument(option, choices=["SGD", "Adam"])
    group.add_argument("--noise", choices=["1D Uniform", "1D Gaussian", "2D Uniform", "2D Gaussian"])
    group.add_argument("--loss", choices=["Log loss", "LeastSq loss"])
    group.add_argument("--lower-rates", type=epoch_number, nargs="+", default=[], metavar="EPOCH",
                       help="at these epochs both learning rates go one step down the page's list")
    args = parser.parse_args()
    args.max_epochs = args.max_epochs or args.epochs
    args.name = args.name or args.draw
    if args.max_epochs < args.epochs:
        raise UserError("--max-epochs is below --epochs")
    if args.assets and not args.assets.is_dir():
        raise UserError(f"--assets: {args.assets}: no such folder")
    return args


def publish(run, folder, results):
    """Put a run's pictures and numbers in their places in results/q2/ and redraw the histories."""
    records = read_json(results / "gan_lab.json") if (results / "gan_lab.json").exists() else dict(NEW)
    try:
        place, picture = PLACES[run["outcome"]]
        records[place] = run
        final = folder / f"epoch{run['epoch']:06d}"
        pictures = {picture: read(final.with_suffix(".png"))}
        if place == "converged":
            pictures["gan_lab_graphs.png"] = read(final.with_name(final.name + "_graphs.png"))
            pictures["gan_lab_stages.png"] = plots.stages(run, folder)
        pictures["gan_lab_histories.png"] = plots.histories([records[k] for k, _ in PLACES.values() if k in records])
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"run {run.get('name')} cannot be shown: {error!r}") from None
    for file, content in pictures.items():
        write(results / file, content)
    write(results / "gan_lab.json", as_json(records))
    print(f"{run['name']}: {run['outcome']} at epoch {run['epoch']:,}; see {results / picture}")


def lower(rate):
    """The next smaller learning rate that the page offers."""
    return max((r for r in RATES if r < rate), default=min(RATES))


def train(page, args, folder):
    """One run from the first epoch to its end; returns what run.json holds."""
    settings = {**page.settings(), "lower_rates": sorted(args.lower_rates)}
    measures, shots, started = [], [], time.time()
    every = range(drawings.MEASURE_EVERY, args.max_epochs + 1, drawings.MEASURE_EVERY)
    stops = {*args.stages, *args.lower_rates, *every, args.epochs, args.max_epochs}
    bar = tqdm(total=args.max_epochs, unit="epoch", desc=args.name, dynamic_ncols=True)
    for stop in sorted(s for s in stops if s <= args.max_epochs):
        page.play_until(stop, lambda epoch: bar.update(epoch - bar.n))
        last = stop == args.max_epochs
        if stop in every or last:
            gradient = round(float(np.median(page.gradients())), 6)
            measures.append({"epoch": stop, **drawings.measure(*page.samples()), "gradient": gradient})
            bar.set_postfix({k: measures[-1][k] for k in ("precision", "coverage", "w1", "gradient")})
            seen, outcome = drawings.verdict(measures, page.histories())
            last = last or (stop >= args.epochs and outcome == "converged")
        if stop in args.stages or last:
            shots.append(page.screenshot(folder))
        if last:
            break
        if stop in args.lower_rates:
            page.set({k: lower(v) for k, v in page.settings().items() if k.endswith("learning_rate")})
    bar.close()
    seconds = time.time() - started
    return {"name": args.name, "draw": args.draw, "seed": args.seed, "settings": settings, "browser": page.version,
            "epoch": shots[-1], "shots": shots, "seconds": round(seconds),
            "epochs_per_second": round(stop / seconds, 1), "outcome": outcome, "seen": seen, **page.values(),
            "measures": measures, "histories": page.histories()}


def main():
    args = parse()
    results, folder = args.results_dir / "q2", args.results_dir / "runs" / f"q2_{args.publish or args.name}"
    if args.publish:
        publish(read_json(folder / "run.json"), folder, results)
        return
    if (folder / "run.json").exists():
        raise UserError(f"run {args.name} exists; give another --name (runs are counted, not overwritten)")
    try:
        urllib.request.urlopen(args.url, timeout=20).close()
    except (OSError, ValueError) as error:
        raise UserError(f"the page {args.url} cannot be reached: {getattr(error, 'reason', error)}") from None
    check_writable(folder, results)
    try:
        with q2_page.GanLab(args.url, args.assets, args.chromium) as page:
            page.choose(args.draw)
            page.set({k: getattr(args, k) for k in SETTINGS})
            page.start(args.seed)
            run = train(page, args, folder)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the unfinished run is not counted") from None
    write(folder / "run.json", as_json(run))
    records = read_json(results / "gan_lab.json") if (results / "gan_lab.json").exists() else dict(NEW)
    records["attempts"].append(
        {k: run[k] for k in ("name", "draw", "seed", "settings", "epoch", "outcome", "seconds", "seen")})
    write(results / "gan_lab.json", as_json(records))
    print(f"{args.name}: {run['outcome']} at epoch {run['epoch']:,}, {run['seen']}\nshow it: --publish {args.name}")


if __name__ == "__main__":
    run_main(main)
