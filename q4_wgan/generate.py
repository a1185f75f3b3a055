"""Draws new images: of --model dcgan or wgan, which ship, or of --run, a training of your own, even while it goes on.

Every image has a seed: seed 7 is the same image alone or among a thousand. Needs no data set; takes seconds.
"""

import re
import sys
from argparse import ArgumentTypeError
from itertools import count
from pathlib import Path

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from q4_wgan import classifier, images, sampling
from q4_wgan.command import Parser, UserError, add_folders, number, path, run_main, seed, shown, write

MOST = 20_000  # seeds in a list, and draws for --label before it gives up
CONFIDENCE = 0.9  # of the classifier, for --label
STEPS = 40  # of a walk as a GIF; 10 as a PNG
EXAMPLES = """examples:
  python q4_wgan/generate.py --model wgan                                 16 images in one grid
  python q4_wgan/generate.py --model dcgan --seeds 0-63 --out dcgan.png
  python q4_wgan/generate.py --model wgan --seeds 3,7,20-29 --separate --out pictures    pictures/seed0003.png ...
  python q4_wgan/generate.py --model wgan --label sneaker --seeds 0-7     eight sneakers, from seed 0 on
  python q4_wgan/generate.py --model wgan --label all --seeds 0-7         a row of eight for each class
  python q4_wgan/generate.py --model wgan --interpolate 3 8 --out walk.gif    a walk from seed 3 to seed 8
  python q4_wgan/generate.py --run results/runs/q4_wgan_fashion_seed0     a training of your own"""


def seed_list(text):
    """argparse type: '7', '0-15' or '1,5,20-23' -> list of seeds, each once."""
    seeds = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10}))?", part.strip(), re.ASCII)
        if not match:
            raise ArgumentTypeError(f"{text!r}: seeds are written like 7, 0-15 or 1,5,20-23")
        first, last = seed(match[1]), seed(match[2] or match[1])
        if not first <= last < first + MOST:
            raise ArgumentTypeError(f"{part.strip()!r}: a range goes upwards and holds at most {MOST} seeds")
        seeds.extend(range(first, last + 1))
    return list(dict.fromkeys(seeds))


def class_numbers(text):
    """argparse type: a class of Fashion-MNIST by its name, however it is spelled, or 0-9, or 'all' -> its numbers."""
    def plain(name):
        return re.sub("[^a-z]", "", name.lower())
    names = {plain(name): [i] for i, name in enumerate(images.FASHION)} | {str(i): [i] for i in range(10)}
    names |= {"all": list(range(10)), "boot": names["ankleboot"]}
    found = names.get(text.strip()) or names.get(plain(text))
    if not found:
        raise ArgumentTypeError(f"{text!r} is no class; classes are 0-9, {', '.join(images.FASHION)}, or all")
    return found


def draw_labels(generator, network, labels, seeds):
    """{label: [(seed, image)]}, as many of each as there are `seeds`, tried from the first one up: those that the
    classifier is sure of."""
    found = {label: [] for label in labels}
    with tqdm(total=len(seeds) * len(labels), unit="image", desc="found") as progress:
        for start in range(seeds[0], seeds[0] + MOST, sampling.ROWS):
            batch = range(start, start + sampling.ROWS)
            pictures = sampling.draw_seeds(generator, batch)
            _, given, sure = classifier.classify(network, pictures)
            for one, picture, label, confidence in zip(batch, pictures, given.tolist(), sure.tolist()):
                if label in found and confidence >= CONFIDENCE and len(found[label]) < len(seeds):
                    found[label].append((one, picture))
                    progress.update()
            if progress.n == progress.total:
                return found
    few = min(found, key=lambda label: len(found[label]))
    raise UserError(f"only {len(found[few])} of {len(seeds)} images of class {few} in {MOST:,} draws; ask for fewer")


def arguments():
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", choices=sampling.SHIPPED, help="one that ships")
    which.add_argument("--run", type=path, metavar="FOLDER", help="a run folder of train.py")
    add("--seeds", type=seed_list, default=list(range(16)), help="such as 7, 0-15 or 1,5,20-23 (default: 0-15)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--label", type=class_numbers, metavar="CLASS", help="only this class, a name or 0-9: goes up "
                      "from the first seed until the classifier found as many as there are --seeds; all: of each class")
    what.add_argument("--interpolate", type=seed, nargs=2, metavar=("A", "B"),
                      help="a walk from seed A to seed B along a great circle")
    what.add_argument("--separate", action="store_true", help="a PNG for each seed, in a folder")
    add("--scale", type=number(int, 1, 16), help="screen pixels per pixel (default: 4; 1 with --separate)")
    add("--out", type=path, metavar="PATH", help="a .png, a .gif of --interpolate, or the folder of --separate "
        "(default: the next free generated_....png in results/runs, or in the run folder)")
    add_folders(parser, data=False)
    args = parser.parse_args()
    endings = (".png", ".gif") if args.interpolate else (".png",)
    if args.out and args.out.suffix.lower() not in endings and not args.separate:
        raise UserError(f"--out {args.out}: must end in {' or '.join(endings)} (.gif is for --interpolate, a folder "
                        "for --separate)")
    args.scale = args.scale or (1 if args.separate else 4)
    return args


def main():
    args = arguments()
    generator, content = sampling.load_generator(args.run or sampling.SHIPPED[args.model])
    folder, word = (args.run, "generated") if args.run else (args.results_dir / "runs", f"generated_{args.model}")
    ending = "" if args.separate else ".png"
    free = (folder / f"{word}_{i}{ending}" for i in count(1))
    out = args.out or next(place for place in free if not place.exists())
    columns, moving = None, out.suffix.lower() == ".gif" and not args.separate
    if args.interpolate:
        columns = STEPS if moving else 10
        pixels = sampling.draw(generator, sampling.slerp(*sampling.latents(args.interpolate), columns))
    elif args.label:
        dataset = content.get("dataset", "fashion")
        found = draw_labels(generator, classifier.load(dataset, args.results_dir), args.label, args.seeds)
        for label, mine in found.items():
            print(f"class {images.class_names(dataset)[label]}: seeds {', '.join(str(one) for one, _ in mine)}")
        pixels = torch.stack([picture for mine in found.values() for _, picture in mine])
        columns = len(args.seeds) if len(found) > 1 else None
    else:
        pixels = sampling.draw_seeds(generator, args.seeds)

    if args.separate:
        for one, picture in zip(args.seeds, tqdm(pixels, unit="picture", disable=len(pixels) < 1000)):
            picture = sampling.grid(picture[None], scale=args.scale)
            write(out / f"seed{one:04d}.png", sampling.as_png(picture), sync=False)
        print(f"saved {len(pixels)} pictures in {shown(out)}")
        return
    if moving:
        frames = torch.stack([sampling.grid(picture[None], scale=args.scale) for picture in pixels])
        write(out, sampling.as_gif(torch.cat([frames, frames.flip(0)[1:-1]])))
    else:
        write(out, sampling.as_png(sampling.grid(pixels, columns, scale=args.scale)))
    print(f"saved {shown(out)}")


if __name__ == "__main__":
    run_main(main)
