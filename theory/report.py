"""The written answer to all four questions: a PDF from theory/report.typ and the files in results/ and weights/.

Every measured number in it is read from a file that one of the scripts wrote. Takes seconds; the same files and
packages give the same bytes.
"""

import json
import platform
import sys
from importlib import metadata
from pathlib import Path

import typst

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from theory.command import ROOT, Parser, UserError, path, run_main, shown, write

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "matplotlib", "typst")


def compiler(root=ROOT):
    """typst's compiler of theory/report.typ, which names all files that it reads, in the repository at `root`."""
    versions = {"Python": platform.python_version(), **{package: metadata.version(package) for package in PACKAGES}}
    return typst.Compiler(str(root / "theory/report.typ"), root=str(root), ignore_system_fonts=True,
                          sys_inputs={"versions": json.dumps(versions)})


def build(root=ROOT, **options):
    """The bytes of the PDF; options are those of typst's compile. Raises UserError for a missing or odd result."""
    try:
        return compiler(root).compile(**options)
    except Exception as error:  # the package raises its own kinds; results/README.md says which command makes a file
        raise UserError(f"typst: {' '.join(str(error).split())[:300]} (results/README.md has the commands)") from None


def main():
    parser = Parser(description=__doc__, epilog="""examples:
  python theory/report.py
  python theory/report.py --out copy.pdf""")
    parser.add_argument("--out", type=path, default=ROOT / "results/runs/report.pdf", metavar="FILE",
                        help="the PDF (default: results/runs/report.pdf)")
    args = parser.parse_args()
    write(args.out, build())
    print(f"saved {shown(args.out)}")


if __name__ == "__main__":
    run_main(main)
