"""Question 2: the real GAN Lab page, trained in a headless browser on a drawing, with what it shows.

A run takes 3 to 32 minutes of one core. Its folder results/runs/q2_NAME has the screenshots, graphs and numbers. Every
run that ends, good or bad, is a line of gan_lab.json in --out with its outcome by the criterion of drawings.py.
--publish NAME shows a run in --out, without a browser: a converged one as gan_lab.png, one whose samples match but
whose gradients or curves do not rest as gan_lab_hard.png, any other as gan_lab_failed.png.

Needed by this script alone: `pip install playwright` and a Chromium (Debian: `apt-get install chromium`;
elsewhere `playwright install chromium`).
"""

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from theory import command, drawings, plots, q2_page
from theory.command import UserError, number, shown

RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # those the page offers
LIMITS = {"layers": (0, 5), "neurons": (1, 100), "steps": (1, 10)}  # those the page allows
PLACES = {"converged": ("converged", "gan_lab.png"), "samples match": ("hard", "gan_lab_hard.png"),
          "not converged": ("failed", "gan_lab_failed.png")}


def parse():
    parser = command.Parser(description=__doc__, epilog="""examples:
  python theory/q2_gan_lab.py --draw smile --d-neurons 10 --g-neurons 14 --d-steps 3 --g-learning-rate 0.03
  python theory/q2_gan_lab.py --draw heart --name presets          # the page's own settings
  python theory/q2_gan_lab.py --url http://127.0.0.1:8000/ --draw moons --epochs 8000
  python theory/q2_gan_lab.py --publish presets                    # show a run made before; no browser""")
    add, epoch = parser.add_argument, number(int, 1, 100_000)
    add("--url", default="https://poloclub.github.io/ganlab/", help="the page (default %(default)s)")
    add("--chromium", type=command.path, help="the browser (default: chromium on PATH, else Playwright's own)")
    add("--draw", choices=[*drawings.DRAWINGS, *drawings.PRESETS], default="smile",
        help="what to learn (default %(default)s)")
    add("--epochs", type=epoch, default=5000, help="how long (default %(default)s)")
    add("--stages", type=epoch, nargs="+", default=[2, 250, 1000, 2500],
        help="epochs of the earlier screenshots (default 2 250 1000 2500)")
    add("--lower-rates", type=epoch, nargs="+", default=[], metavar="EPOCH",
        help="at these epochs both learning rates go one step down the page's list")
    add("--name", type=command.name, help="name of the run (default: the drawing's)")
    add("--publish", type=command.name, metavar="NAME", help="do not train: show this earlier run")
    add("--seed", type=command.seed, default=0, help="seeds the page's Math.random (default %(default)s)")
    add("--out", type=command.path, metavar="FOLDER",
        help="for gan_lab.json and what --publish shows (default: results/runs/q2)")
    command.add_folders(parser, data=False)
    group = parser.add_argument_group("settings of discriminator and generator (default: what the page comes with)")
    for net in "dg":
        for what, limits in LIMITS.items():
            group.add_argument(f"--{net}-{what}", type=number(int, *limits))
        group.add_argument(f"--{net}-learning-rate", type=number(float, 0), choices=RATES)
    args = parser.parse_args()
    args.name = args.publish or args.name or args.draw
    args.out = args.out or args.results_dir / "runs" / "q2"
    return args


def load_records(out):
    """The content of gan_lab.json, which a first run begins."""
    path = out / "gan_lab.json"
    return command.read_json(path) if path.exists() else {"attempts": [], "criterion": drawings.CRITERION}


def publish(name, folder, out):
    """Put a run's pictures and numbers in their places in `out` and redraw the histories."""
    if not (folder / "run.json").exists():
        raise UserError(f"{shown(folder)}: no finished run; --name {name} makes one of that name")
    run, records = command.read_json(folder / "run.json"), load_records(out)
    place, picture = PLACES[run["outcome"]]
    records[place] = run
    final = f"epoch{run['epoch']:06d}"
    pictures = {picture: (folder / f"{final}.png").read_bytes()}
    if place == "converged":
        pictures["gan_lab_graphs.png"] = (folder / f"{final}_graphs.png").read_bytes()
        pictures["gan_lab_stages.png"] = (folder / "stages.png").read_bytes()
    pictures["gan_lab_histories.png"] = plots.histories([records[key] for key, _ in PLACES.values() if key in records])
    for file, content in pictures.items():
        command.write(out / file, content, sync=False)
    command.write(out / "gan_lab.json", command.as_json(records))
    print(f"{name}: {run['outcome']} at epoch {run['epoch']:,}; see {shown(out / picture)}")


def train(page, args, folder):
    """One run from the first epoch to its end; returns what run.json holds."""
    settings = {**page.settings(), "lower_rates": sorted(args.lower_rates)}
    measures, shots, started = [], [], time.time()
    measured = {*range(drawings.MEASURE_EVERY, args.epochs, drawings.MEASURE_EVERY), args.epochs}
    stops = sorted(stop for stop in {*args.stages, *args.lower_rates, *measured} if stop <= args.epochs)
    with tqdm(total=args.epochs, unit="epoch", desc=args.name, dynamic_ncols=True) as bar:
        for stop in stops:
            page.play_until(stop, lambda epoch: bar.update(epoch - bar.n))
            if stop in measured:
                gradient = round(float(np.median(page.gradients())), 6)
                measures.append({"epoch": stop, **drawings.measure(*page.samples()), "gradient": gradient})
                bar.set_postfix({k: measures[-1][k] for k in ("precision", "coverage", "w1", "gradient")})
            if stop in args.stages or stop == args.epochs:
                shots.append(page.screenshot(folder))
            if stop in args.lower_rates:
                now = {k: v for k, v in page.settings().items() if k.endswith("learning_rate")}
                page.set({k: max((r for r in RATES if r < v), default=RATES[0]) for k, v in now.items()})
    seconds, histories = round(time.time() - started), page.histories()
    seen, outcome = drawings.verdict(measures, histories)
    return {"name": args.name, "draw": args.draw, "seed": args.seed, "settings": settings, "browser": page.version,
            "epoch": shots[-1], "shots": shots, "seconds": seconds, "outcome": outcome, "seen": seen, **page.losses(),
            "measures": measures, "histories": histories}


def keep(run, folder, out):
    """Write what the run folder lacks beside its screenshots, and count the run."""
    panels = {epoch: np.asarray(Image.open(folder / f"epoch{epoch:06d}_plot.png")) for epoch in run["shots"]}
    command.write(folder / "stages.png", plots.stages(panels), sync=False)
    command.write(folder / "histories.png", plots.histories([run]), sync=False)
    command.write(folder / "run.json", command.as_json(run))
    records = load_records(out)
    records["attempts"].append(
        {k: run[k] for k in ("name", "draw", "seed", "settings", "epoch", "outcome", "seconds", "seen")})
    command.write(out / "gan_lab.json", command.as_json(records))


def main():
    args = parse()
    folder = args.results_dir / "runs" / f"q2_{args.name}"
    if args.publish:
        return publish(args.publish, folder, args.out)
    wanted = {f"{net}_{what}": getattr(args, f"{net}_{what}") for net in "dg" for what in (*LIMITS, "learning_rate")}
    wanted = {key: value for key, value in wanted.items() if value is not None}
    if (folder / "run.json").exists():
        run = command.read_json(folder / "run.json")
        there = {**run["settings"], "draw": run["draw"], "seed": run["seed"], "epochs": run["epoch"]}
        asked = {"draw": args.draw, "seed": args.seed, "epochs": args.epochs, "lower_rates": sorted(args.lower_rates)}
        for key, value in {**asked, **wanted}.items():
            if value != there[key]:
                raise UserError(f"{shown(folder)}: the run there has {key.replace('_', '-')} {there[key]}, not {value};"
                                " give another --name")
        print(f"{shown(folder)}: this run has ended")
    else:
        try:
            with q2_page.open_page(args.url, args.chromium) as page:
                folder.mkdir(parents=True, exist_ok=True)
                page.choose(args.draw)
                page.set(wanted)
                page.start(args.seed)
                run = train(page, args, folder)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted; the unfinished run is not counted") from None
        keep(run, folder, args.out)
    print(f"{args.name}: {run['outcome']} at epoch {run['epoch']:,}, {run['seen']}\npictures are in {shown(folder)}\n"
          f"show it: python theory/q2_gan_lab.py --publish {args.name}")


if __name__ == "__main__":
    command.run_main(main)
