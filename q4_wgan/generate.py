"""Draws new images from the trained weights: --model dcgan or --model wgan. Needs no data set.

Every image has a seed, and its own random generator: seed 7 is the same image alone or among a thousand.
"""

import re
import sys
import zlib
from argparse import ArgumentTypeError
from pathlib import Path

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q4_wgan import classifier, images, sampling
from q4_wgan.command import ROOT, Parser, UserError, add_folders, number, path, run_main, seed, write

MAX_DRAWS = 20_000  # for --label, before it gives up
MAX_PIXELS = 400_000_000  # of a picture
EXAMPLES = """examples:
  python q4_wgan/generate.py --model wgan                                 16 images in one grid
  python q4_wgan/generate.py --model dcgan --seeds 0-63 --out dcgan.png
  python q4_wgan/generate.py --model wgan --seeds 3,7,20-29 --separate --out pictures/    pictures/seed0003.png ...
  python q4_wgan/generate.py --model wgan --label sneaker --seeds 0-7     eight sneakers
  python q4_wgan/generate.py --model wgan --interpolate 3 8 --out walk.gif    a walk from seed 3 to seed 8
  python q4_wgan/generate.py --model wgan --weights results/runs/q4_wgan_seed1/generator.pt    a run of your own"""


def seed_list(text):
    """argparse type: '7', '0-15' or '1,5,20-23' -> list of seeds, each once."""
    seeds = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,10})(?:\s*-\s*(\d{1,10}))?\s*", part, re.ASCII)
        if not match:
            raise ArgumentTypeError(f"{text!r}: seeds are written like 7, 0-15 or 1,5,20-23")
        first, last = seed(match[1]), seed(match[2] or match[1])
        if last < first or last - first >= 10_000:
            raise ArgumentTypeError(f"{part.strip()!r}: a range goes upwards and holds at most 10000 seeds")
        seeds.extend(range(first, last + 1))
    return list(dict.fromkeys(seeds))


def class_number(text):
    """argparse type: a class as its number 0-9 or as a name of Fashion-MNIST's, in any case."""
    names = [label.lower() for label in images.FASHION]
    if text.lower() in names:
        return names.index(text.lower())
    if text in map(str, range(10)):
        return int(text)
    raise ArgumentTypeError(f"{text!r} is no class; classes are 0-9 or {', '.join(images.FASHION)}")


def draw_label(generator, network, label, seeds, confidence):
    """(seeds, images, number drawn): as many images of class `label` as there are seeds, tried from the first one up.

    An image counts where the classifier gives `label` at least `confidence`.
    """
    found, kept = [], []
    candidates = range(seeds[0], min(seeds[0] + MAX_DRAWS, 2**32))
    with tqdm(total=len(seeds), unit="image", desc="found") as progress:
        for number_drawn, one in enumerate(candidates, start=1):
            progress.set_postfix_str(f"{number_drawn} drawn", refresh=False)
            picture = sampling.draw(generator, sampling.latents([one]))
            _, labelled, sure = classifier.classify(network, picture)
            if labelled == label and sure >= confidence:
                found.append(one)
                kept.append(picture)
                progress.update()
                if len(found) == len(seeds):
                    return found, torch.cat(kept), number_drawn
    raise UserError(f"only {len(found)} of {len(seeds)} images of class {label} at confidence {confidence:g} in "
                    f"{len(candidates)} draws; ask for fewer, or lower --confidence")


def arguments():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--model", choices=sampling.MODELS, required=True)
    add = parser.add_argument_group("what to draw").add_argument
    add("--seeds", type=seed_list, default=list(range(16)), help="such as 7, 0-15 or 1,5,20-23 (default: 0-15)")
    add("--label", type=class_number, metavar="CLASS", help="only this class, a name or 0-9: goes up from the first "
        "seed until the classifier has found as many as there are --seeds")
    add("--confidence", type=number(float, 0, below=1), default=0.9, help="of the classifier (default: 0.9)")
    add("--interpolate", type=seed, nargs=2, metavar=("A", "B"), help="walk from seed A to seed B along a great circle")
    add("--steps", type=number(int, 2, 1000), help="images of the walk (default: 10; a .gif 40)")
    add = parser.add_argument_group("where from and where to").add_argument
    add("--out", type=path, metavar="PATH", help="a .png, a .gif for --interpolate, or a folder for --separate "
        "(default: results/runs/generated_..., named after what it shows)")
    add("--separate", action="store_true", help="one PNG per seed, named seed0007.png")
    add("--scale", type=number(int, 1, 64), help="screen pixels per pixel (default: 4; 1 with --separate)")
    add("--weights", type=path, metavar="FILE", help="other weights than q4_MODEL.pt in --weights-dir")
    add("--dataset", type=images.dataset_name, default="fashion",
        help="that the model was trained on (default: fashion)")
    add_folders(parser, "weights", "results")
    args = parser.parse_args()
    if args.interpolate and (args.label is not None or args.separate):
        raise UserError("--interpolate goes with neither --label nor --separate")
    if args.steps and not args.interpolate:
        raise UserError("--steps belongs to --interpolate")
    endings = (".png", ".gif") if args.interpolate else (".png",)
    if args.out and not args.separate and args.out.suffix.lower() not in endings:
        raise UserError(f"--out {args.out}: must end in {' or '.join(endings)} (a .gif needs --interpolate, a folder "
                        "--separate)")
    if args.separate and args.out and args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out}: with --separate this must be a folder, and it is a file")
    moving = bool(args.out) and args.out.suffix.lower() == ".gif"
    args.steps = args.steps or (40 if moving else 10)
    args.scale = args.scale or (1 if args.separate else 4)
    shown = args.steps if args.interpolate else len(args.seeds)
    if not args.separate and (30 * args.scale)**2 * shown > MAX_PIXELS:
        raise UserError(f"{shown} images at --scale {args.scale}: the picture would have over {MAX_PIXELS:,} pixels")
    return args


def default_name(args, dataset):
    """What the picture shows, so that different ones do not overwrite each other."""
    words = [args.weights_dir.name if args.weights_dir != ROOT / "weights" else "", args.model, dataset]
    if args.weights:
        file = args.weights.resolve()
        words[0] = file.parent.name if file.name == "generator.pt" else file.stem
    if args.interpolate:
        words += ["walk", *args.interpolate, "steps", args.steps]
    else:
        seeds, ends = args.seeds, []
        for one in seeds:  # 1, 2, 3, 7 -> 1-3, 7
            if ends and one == ends[-1][1] + 1:
                ends[-1][1] = one
            else:
                ends.append([one, one])
        text = "_".join(str(a) if a == b else f"{a}-{b}" for a, b in ends)
        if args.label is not None:
            words += ["class", args.label, args.confidence]
        many = f"{seeds[0]}_and_{len(seeds) - 1}_more_{zlib.crc32(text.encode())}"
        words += ["seeds", text if len(text) < 80 else many]
    return "_".join(map(str, filter(lambda word: word != "", words))) + (f"_x{args.scale}" if args.scale != 4 else "")


def main():
    args = arguments()
    weights = args.weights or sampling.weights_path(args.weights_dir, args.model, args.dataset)
    generator, content = sampling.load_generator(weights, args.model)
    seeds, dataset = args.seeds, content.get("dataset", "fashion")
    if args.interpolate:
        pixels = sampling.draw(generator, sampling.slerp(*sampling.latents(args.interpolate), args.steps))
    elif args.label is not None:
        network = classifier.load(args.weights_dir, dataset)
        seeds, pixels, drawn = draw_label(generator, network, args.label, seeds, args.confidence)
        label = images.class_names(dataset)[args.label]
        print(f"drew {drawn} to find {len(seeds)} of class {label} at confidence {args.confidence:g} or more: seeds "
              f"{', '.join(map(str, seeds))}")
    else:
        pixels = sampling.draw(generator, sampling.latents(seeds))

    ending = "" if args.separate else ".png"
    out = args.out or args.results_dir / "runs" / f"generated_{default_name(args, dataset)}{ending}"
    shown = out.relative_to(Path.cwd()) if out.is_relative_to(Path.cwd()) else out
    if args.separate:
        for one, picture in zip(seeds, pixels):
            write(out / f"seed{one:04d}.png", sampling.as_png(sampling.grid(picture[None], scale=args.scale)))
        print(f"saved {len(seeds)} pictures in {shown}")
    elif out.suffix.lower() == ".gif":
        frames = torch.stack([sampling.grid(picture[None], scale=args.scale) for picture in pixels])
        write(out, sampling.as_gif(torch.cat([frames, frames.flip(0)[1:-1]])))
        print(f"saved {shown}")
    else:
        columns = len(pixels) if args.interpolate and len(pixels) <= 20 else None
        write(out, sampling.as_png(sampling.grid(pixels, columns, scale=args.scale)))
        print(f"saved {shown}")


if __name__ == "__main__":
    run_main(main)
