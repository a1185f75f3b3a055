"""Times one WGAN-GP generator iteration (5 critic steps and 1 generator step) of train.py against the textbook loop, side
by side in one run: same machine, network, batch and images.

Textbook: float32, torch's own convolutions, DataLoader with ToTensor, separate passes over real, generated and interpolated
images, one generator pass per critic step, double backward. Rounds alternate, so that both see the same state of the machine; the median
counts. Also prints the achieved GFLOP/s as a share of this machine's own bfloat16 matrix-product rate. Writes
results/q4_benchmark.json.
"""

import statistics
import time

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import to_tensor
from tqdm import tqdm

import files
import images
import networks
from objectives import LAMBDA, OBJECTIVES
from training import Training, pick_precision


def plain(network):
    """The network with torch's own transposed convolutions and the default memory format, as most code has it."""
    for module in network.modules():
        if isinstance(module, networks.Up):
            module.forward = torch.nn.ConvTranspose2d.forward.__get__(module)
    return network.to(memory_format=torch.contiguous_format)


class Textbook:
    """The loop as most public WGAN-GP code has it, with this room's networks."""

    class Images(Dataset):
        def __init__(self, pixels):
            self.pixels = pixels.numpy()

        def __len__(self):
            return len(self.pixels)

        def __getitem__(self, index):
            return to_tensor(self.pixels[index]) * 2 - 1

    def __init__(self, options, pixels, device):
        torch.manual_seed(options["seed"])
        self.device = device
        self.generator = plain(networks.make_generator("conv", options["dim"])).to(device)
        self.critic = plain(networks.make_critic("conv", options["dim"], False)).to(device)
        settings = OBJECTIVES["wgan-gp"]
        self.optimizers = [torch.optim.Adam(network.parameters(), options["learning_rate"], settings.betas)
                           for network in (self.generator, self.critic)]
        self.loader = DataLoader(self.Images(pixels), options["batch"], shuffle=True, drop_last=True)
        self.batches = iter(self.loader)

    def next_batch(self):
        try:
            return next(self.batches).to(self.device)
        except StopIteration:
            self.batches = iter(self.loader)
            return next(self.batches).to(self.device)

    def step(self):
        for _ in range(5):
            real = self.next_batch()
            fake = self.generator(torch.randn(len(real), networks.Z, device=self.device)).detach()
            epsilon = torch.rand(len(real), 1, 1, 1, device=self.device)
            mixed = (epsilon * real + (1 - epsilon) * fake).requires_grad_()
            gradient = torch.autograd.grad(self.critic(mixed).sum(), mixed, create_graph=True)[0]
            penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
            loss = self.critic(fake).mean() - self.critic(real).mean() + LAMBDA * penalty
            self.optimizers[1].zero_grad()
            loss.backward()
            self.optimizers[1].step()
        loss = -self.critic(self.generator(torch.randn(len(real), networks.Z, device=self.device))).mean()
        self.optimizers[0].zero_grad()
        loss.backward()
        self.optimizers[0].step()


def multiply_adds(dim):
    """Multiply-adds of one image through (generator, critic), convolutions and linear layers only."""
    critic = 25 * dim * (14 * 14 + 49 * 2 * dim + 16 * 8 * dim) + 64 * dim
    generator = networks.Z * 64 * dim + 25 * dim * (16 * 8 * dim + 49 * 2 * dim + 14 * 14)
    return generator, critic


def operations(dim, batch):
    """Floating-point operations of one iteration as train.py does it, two per multiply-add.

    Critic step: forward and backward over real and generated images (3 passes' worth on 2 batches), the penalty's
    forward, its chain and the chain's backward (4 on one); a generator pass; the generator step.
    """
    generator, critic = multiply_adds(dim)
    return 2 * batch * (5 * (6 * critic + 4 * critic + generator) + 3 * generator + 2 * critic)


def timed(function, device):
    def finish():
        if device.type == "cuda":
            torch.cuda.synchronize()
    finish()
    start = time.perf_counter()
    function()
    finish()
    return time.perf_counter() - start


def matrix_rate(device, dtype, n=2048, rounds=9):
    """FLOP/s of an n x n matrix product, the best of some rounds."""
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    a @ b
    return 2 * n**3 / min(timed(lambda: a @ b, device) for _ in range(rounds))


def main():
    parser = files.Parser(description=__doc__, epilog="""examples:
  python q4_wgan/benchmark.py                 on an otherwise idle machine (a minute or two)
  python q4_wgan/benchmark.py --rounds 3 --dim 32""")
    parser.add_argument("--rounds", type=files.positive, default=15, help="timed iterations of each (default: 15)")
    parser.add_argument("--dim", type=files.positive, default=64, help="width D (default: 64)")
    parser.add_argument("--seed", type=files.natural, default=0, help="seed of all randomness (default: 0)")
    files.add_device(parser)
    files.add_folders(parser, "data", "results")
    args = parser.parse_args()

    device = files.pick_device(args.device)
    pixels, held_out = images.split(images.load(args.data_dir)[0][0])
    options = {"objective": "wgan-gp", "arch": "conv", "dim": args.dim, "batch": 64, "iterations": 10**6,
               "learning_rate": 2e-4, "seed": args.seed, "precision": pick_precision("auto", device)}
    loops = {"ours": Training(options, pixels, held_out, device),
             "ours_float32": Training({**options, "precision": "float32"}, pixels, held_out, device),
             "textbook": Textbook(options, pixels, device)}
    seconds = {name: [] for name in loops}
    for round_ in tqdm(range(args.rounds + 2), unit="round"):
        for name, loop in loops.items():
            taken = timed(loop.step, device)
            if round_ >= 2:  # the first two rounds are warm-up
                seconds[name].append(taken)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    dtype = torch.bfloat16 if options["precision"] == "bfloat16" else torch.float32
    peak, flops = matrix_rate(device, dtype), operations(args.dim, 64)
    result = {
        "seconds_per_iteration": {name: {"median": median[name], "min": min(values), "max": max(values), "n": len(values)}
                                  for name, values in seconds.items()},
        "textbook_over_ours": median["textbook"] / median["ours"],
        "gflop_per_iteration": flops / 1e9, "achieved_gflop_per_second": flops / median["ours"] / 1e9,
        "matrix_product_gflop_per_second": peak / 1e9, "share_of_matrix_product_rate": flops / median["ours"] / peak,
        "precision": options["precision"], "dim": args.dim, "batch": 64, "device": device.type,
        "processor": torch.cuda.get_device_name() if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(), "torch": torch.__version__,
    }
    files.save_json(args.results_dir / "q4_benchmark.json", result)
    for name, value in median.items():
        print(f"{name:13} {value:.3f} s per iteration (median of {args.rounds}; {min(seconds[name]):.3f} to "
              f"{max(seconds[name]):.3f})")
    print(f"textbook / ours = {result['textbook_over_ours']:.2f}; {result['achieved_gflop_per_second']:.0f} GFLOP/s, "
          f"{result['share_of_matrix_product_rate']:.0%} of this machine's {options['precision']} matrix product "
          f"({result['matrix_product_gflop_per_second']:.0f} GFLOP/s); saved {args.results_dir / 'q4_benchmark.json'}")
    return 0


def processor():
    """The processor's name, where the system tells it."""
    try:
        lines = files.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown"


if __name__ == "__main__":
    files.run_main(main)
