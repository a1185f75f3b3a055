"""The tables of README.md and EXPERIMENTS.md, from the files in results/q3. table.py puts them there."""

import re
from decimal import ROUND_HALF_UP, Decimal

from . import classifiers, images
from .classifiers import COUNTS
from .command import read_json


def tables(folder, dataset):
    """All tables of a data set, as Markdown whose header no other table has. folder: results/q3."""
    def of(name):
        path = folder / f"{name}.json"
        return read_json(path, object) if path.exists() else {}

    title, content = images.title(dataset), of(f"table_{dataset}")
    paper = [row | {"method": f"paper: {row['method']}"} for row in content.get("paper", ())]
    main = {row["method"] for row in content["rows"]}
    own, others = ([e for e in of("differences") if e["dataset"] == dataset and (e["a"] in main) == wanted]
                   for wanted in (True, False))
    vaes, settings, graphs = (of(f"{what}_search_{dataset}").get("rows", ())
                              for what in ("vae", "transductive", "graph"))
    found = [
        table([f"{title}: test error in %", "trainings"], error_cells(content["rows"] + paper)),
        table([f"{title}: difference in points"], difference_cells(own)),
        table([f"{title}: ablations, test error in %", "trainings"], error_cells(content["ablations"])),
        table([f"{title}: ablations, difference in points"], difference_cells(others)),
        table([f"{title}: likelihood", "KL weight", "distortion", "active latents", "kernel"], (
            [s["likelihood"], f"{s['kl_weight']:g}", f"{s['distort']:g}", f"{row['active_latents']} of 50",
             "exponential" if row["power"] == 1 else "RBF", *searched(row)]
            for row in vaes for s in [row["settings"]])),
        table([f"{title}: alpha, steps", "rounds", "weight", "sharpness"], (
            [f"{s['alpha']:g}, {s['steps']}", s["rounds"], f"{s['weight']:g}", f"{s['sharpness']:g}", *searched(row)]
            for row in settings for s in [classifiers.TRANSDUCTIVE | row["change"]])),
        table([f"{title}: graph of"], ([row["graph"], *searched(row)] for row in graphs)),
    ]
    return [made for made in found if made.count("\n") > 2]


def table(head, rows):
    """Columns of `head`, then one for each label count."""
    lines = [[*head, *COUNTS], ["---"] * (len(head) + len(COUNTS)), *rows]
    return "".join("| " + " | ".join(map(str, cells)) + " |\n" for cells in lines)


def two_digits(value):
    """Halves up, as the report rounds."""
    return str(Decimal(str(value)).quantize(Decimal("0.01"), ROUND_HALF_UP))


def searched(row):
    """Cells of tune.py's validation errors."""
    return [two_digits(row["errors"][str(n)]) for n in COUNTS]


def error_cells(rows):
    """For every method: mean ± standard deviation over the draws (over the trainings)."""
    for method in dict.fromkeys(row["method"] for row in rows):
        own = {row["labels"]: row for row in rows if row["method"] == method}
        cells = []
        for n in COUNTS:
            row = own.get(n, {"error_mean": None})
            values = [row.get(key) for key in ("error_mean", "error_std", "training_std")]
            texts = [form.format(two_digits(v)) for form, v in zip(("{}", " ± {}", " ({})"), values) if v is not None]
            cells.append("".join(texts) or "–")
        yield [method, next(iter(own.values())).get("trainings") or "", *cells]


def difference_cells(entries):
    """For every pair a - b: the mean and its 95 % interval."""
    by_pair = {}
    for e in entries:
        mean, low, high = (f"{Decimal(two_digits(e[key])):+}" for key in ("difference", "low", "high"))
        by_pair.setdefault((e["a"], e["b"]), []).append(f"{mean} [{low}, {high}]".replace("-", "−"))
    return [[f"{a} − {b}", *cells] for (a, b), cells in by_pair.items()]


def with_tables(text, made):
    """A text whose tables are replaced by those of `made` that have the same header."""
    for table in made:
        text = re.sub(re.escape(table.split("\n")[0]) + r"\n(\|.*\n)*", lambda _, table=table: table, text)
    return text
