"""Draws new pictures from the trained weights: --model dcgan or --model wgan. Needs no data set.

Every picture has a seed, and its own random generator: seed 7 is the same picture alone or among a thousand.
"""

import re
from argparse import ArgumentTypeError
from pathlib import Path

import torch

import classifier
import files
import images
import pictures
from files import UserError
from networks import make_generator

MAX_DRAWS = 20_000  # for --label, before it gives up


def seed_list(text):
    """argparse type: '7', '0-15' or '1,5,20-23' -> list of seeds."""
    seeds = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,18})(?:\s*-\s*(\d{1,18}))?\s*", part)
        if not match:
            raise ArgumentTypeError(f"'{text}': seeds are written like 7, 0-15 or 1,5,20-23")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= 10_000:
            raise ArgumentTypeError(f"'{part.strip()}': a range goes upwards and holds at most 10000 seeds")
        seeds.extend(range(first, last + 1))
    return seeds


def class_number(text):
    """argparse type: a class as its number 0-9 or its name, in any case."""
    names = [name.lower() for name in images.CLASSES]
    if text.lower() in names:
        return names.index(text.lower())
    if text in map(str, range(10)):
        return int(text)
    raise ArgumentTypeError(f"'{text}' is no class; classes are 0-9 or {', '.join(images.CLASSES)}")


def share(text):
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise ArgumentTypeError(f"'{text}' is not a number from 0 to below 1")
    return value


def load_generator(path, model):
    """(generator in evaluation mode, the dict that came with its weights)."""
    content = files.load_weights(path, model)
    try:
        generator = make_generator(content["arch"], content["dim"])
        state = content["state"]
    except KeyError as key:
        raise UserError(f"{path}: {key} is missing or unknown (corrupt or from another version)") from None
    files.load_state(generator, state, path)
    return generator.eval(), content


@torch.no_grad()
def draw(generator, z):
    """uint8 (n, 28, 28) of z (n, 128), one by one: sums, and so bits, do not depend on the company."""
    return torch.cat([images.to_pixels(generator(row)) for row in z.split(1)])


def draw_label(generator, label, seeds, confidence, weights_dir):
    """(seeds, pictures, number drawn): as many pictures of class `label` as there are seeds, tried from the first one up.

    A picture counts when the shipped classifier gives `label` at least `confidence`.
    """
    network = classifier.load(weights_dir)
    found, kept, seed = [], [], seeds[0]
    while len(found) < len(seeds):
        if seed - seeds[0] >= MAX_DRAWS:
            raise UserError(f"only {len(found)} of {len(seeds)} pictures of class {images.CLASSES[label]} at confidence "
                            f"{confidence:g} in {MAX_DRAWS} draws; ask for fewer, or lower --confidence")
        picture = draw(generator, pictures.latents([seed]))
        _, found_label, found_confidence = classifier.judge(network, picture)
        if found_label.item() == label and found_confidence.item() >= confidence:
            found.append(seed)
            kept.append(picture)
        seed += 1
    return found, torch.cat(kept), seed - seeds[0]


def walk(a, b, steps):
    """z (steps, 128) from seed a to seed b along a great circle, where normal z are; the ends are the seeds' own."""
    first, last = pictures.latents([a, b])
    angle = torch.arccos(torch.nn.functional.cosine_similarity(first, last, dim=0))
    t = torch.linspace(0, 1, steps).unsqueeze(1)
    if angle < 1e-3:  # a walk from a seed to itself
        return torch.lerp(first, last, t)
    return (torch.sin((1 - t) * angle) * first + torch.sin(t * angle) * last) / torch.sin(angle)


def main():
    parser = files.Parser(description=__doc__, epilog="""examples:
  python q4_wgan/generate.py --model wgan                                 16 pictures in one grid
  python q4_wgan/generate.py --model dcgan --seeds 0-63 --out dcgan.png
  python q4_wgan/generate.py --model wgan --seeds 3,7,20-29 --separate --out pictures/    pictures/seed0003.png ...
  python q4_wgan/generate.py --model wgan --label sneaker --seeds 0-7     eight sneakers
  python q4_wgan/generate.py --model wgan --interpolate 3 8               a walk from seed 3 to seed 8
  python q4_wgan/generate.py --model wgan --weights results/runs/q4_wgan_seed1/generator.pt   a run of your own""")
    parser.add_argument("--model", choices=files.MODELS, required=True)
    group = parser.add_argument_group("what to draw")
    group.add_argument("--seeds", type=seed_list, default=list(range(16)), help="such as 7, 0-15 or 1,5,20-23 (default: 0-15)")
    group.add_argument("--label", type=class_number, metavar="CLASS",
                       help="only this class, a name or 0-9: goes up from the first seed until the classifier has found as "
                            "many as there are --seeds")
    group.add_argument("--confidence", type=share, default=0.9, help="of the classifier, for --label (default: 0.9)")
    group.add_argument("--interpolate", type=files.natural, nargs=2, metavar=("A", "B"), help="walk from seed A to seed B")
    group.add_argument("--steps", type=files.positive, default=10, help="pictures of the walk (default: 10)")
    group = parser.add_argument_group("where from and where to")
    group.add_argument("--out", type=Path, metavar="PATH",
                       help="PNG file of the grid, or folder with --separate (default: runs/generated_MODEL[.png] in --results-dir)")
    group.add_argument("--separate", action="store_true", help="one PNG per seed, named seed0007.png")
    group.add_argument("--scale", type=files.positive, help="screen pixels per pixel (default: 4 in a grid, 1 with --separate)")
    group.add_argument("--weights", type=Path, metavar="FILE", help="other weights than q4_MODEL.pt in --weights-dir")
    files.add_folders(group, "weights", "results")
    args = parser.parse_args()
    if args.interpolate and (args.label is not None or args.separate):
        raise UserError("--interpolate goes with neither --label nor --separate")
    if args.scale and args.scale > 64:
        raise UserError("--scale: at most 64")
    if args.out and not args.separate and args.out.suffix.lower() != ".png":
        raise UserError(f"--out {args.out}: a grid is saved as a .png file (a folder needs --separate)")
    if args.separate and args.out and args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out}: with --separate this must be a folder, and it is a file")

    generator, _ = load_generator(args.weights or args.weights_dir / f"q4_{args.model}.pt", args.model)
    seeds = args.seeds
    if args.interpolate:
        pixels = draw(generator, walk(*args.interpolate, args.steps))
    elif args.label is not None:
        seeds, pixels, drawn = draw_label(generator, args.label, seeds, args.confidence, args.weights_dir)
        print(f"drew {drawn} to find {len(seeds)} of class {images.CLASSES[args.label]} at confidence "
              f"{args.confidence:g} or more: seeds {', '.join(map(str, seeds))}")
    else:
        pixels = draw(generator, pictures.latents(seeds))

    out = args.out or args.results_dir / "runs" / f"generated_{args.model}{'' if args.separate else '.png'}"
    if args.separate:
        for seed, picture in zip(seeds, pixels):
            pictures.save_png(out / f"seed{seed:04d}.png", pictures.grid(picture[None], scale=args.scale or 1))
        print(f"saved {len(seeds)} pictures in {out}")
    else:
        columns = len(pixels) if args.interpolate and len(pixels) <= 20 else None
        pictures.save_png(out, pictures.grid(pixels, columns, scale=args.scale or 4))
        print(f"saved {out}")
    return 0


if __name__ == "__main__":
    files.run_main(main)
