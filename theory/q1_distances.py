"""Question 1 by numbers: KL, JS and Wasserstein distance of two parallel segments, and the gradients they give.

P has x = 0 and Q has x = theta; y ~ U(0,1) in both. Closed forms (derived in the report): for theta != 0
KL = infinity both ways, JS = log 2, W = |theta|; all three are 0 at theta = 0. Three checks, each a function:
  transport()  W of samples by optimal assignment against |theta|;
  blurred()    KL, JS and their gradients in theta on a grid, both segments blurred by N(0, sigma^2), sigma -> 0;
  networks()   a discriminator and a critic with gradient penalty trained on P and Q: the gradient at points of Q.
Writes distances.png and distances.json; two minutes of one core.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import log_ndtr
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the repository, wherever the script is started
from theory import command, drawings, plots

DRAWS = 100  # pairs of samples per theta
REPEATS = 5  # discriminators and critics trained per theta
THETAS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
SIGMAS = (0.2, 0.1, 0.05, 0.02, 0.01)
PENALTY = 10.0  # lambda of Gulrajani et al. 2017, Algorithm 1
SHOWN = (0.25, 1.0)  # thetas whose gradient fields are drawn


def wasserstein(theta, n, rng):
    """W of n samples of P and n of Q: an optimal coupling of two uniform samples is an assignment."""
    p = np.stack([np.zeros(n), rng.random(n)], axis=1)
    q = np.stack([np.full(n, theta), rng.random(n)], axis=1)
    return drawings.wasserstein(p, q)


def transport(n, rng):
    """W by assignment for every theta: mean and standard deviation over independent samples of size n."""
    rows = []
    for theta in tqdm(THETAS, desc="transport"):
        values = [wasserstein(theta, n, rng) for _ in range(DRAWS)]
        rows.append({"theta": theta, "n": n, "repeats": DRAWS, "closed_form": theta,
                     "mean": float(np.mean(values)), "std": float(np.std(values, ddof=1))})
    return rows


def blurred(theta, sigma):
    """KL(P||Q), JS(P,Q) and dJS/dtheta, in nats, with both segments convolved with N(0, sigma^2 I).

    Sums over a grid of the plane. p(x,y) = N(x; 0, sigma^2) g(y) and q(x,y) = N(x; theta, sigma^2) g(y), where
    g(y) = Phi(y/sigma) - Phi((y-1)/sigma) is the blurred uniform. All in logarithms: the densities underflow.
    dJS/dtheta = 1/2 integral (dq/dtheta) log(q/m), since the terms with d(log .)/dtheta integrate to zero.
    """
    x = np.linspace(-8 * sigma, theta + 8 * sigma, 401)[:, None]
    y = np.linspace(-8 * sigma, 1 + 8 * sigma, 201)[None, :]
    area = (x[1, 0] - x[0, 0]) * (y[0, 1] - y[0, 0])
    # log(Phi(a) - Phi(b)) with a > b, mirrored to the side where it keeps its digits
    a, b = np.where(y < 0.5, y, 1 - y) / sigma, np.where(y < 0.5, y - 1, -y) / sigma
    log_g = log_ndtr(a) + np.log1p(-np.exp(log_ndtr(b) - log_ndtr(a)))
    constant = -np.log(sigma * np.sqrt(2 * np.pi))
    log_p = constant - x**2 / (2 * sigma**2) + log_g
    log_q = constant - (x - theta)**2 / (2 * sigma**2) + log_g
    log_m = np.logaddexp(log_p, log_q) - np.log(2)
    p, q = np.exp(log_p), np.exp(log_q)
    kl = (p * (log_p - log_q)).sum() * area
    js = (p * (log_p - log_m) + q * (log_q - log_m)).sum() * area / 2
    slope = (q * (x - theta) / sigma**2 * (log_q - log_m)).sum() * area / 2
    return float(kl), float(js), float(slope)


class Networks(torch.nn.Module):
    """K independent networks 2-32-32-1 with LeakyReLU, trained side by side: (K, n, 2) -> (K, n)."""

    def __init__(self, k, generator):
        super().__init__()
        sizes = [2, 32, 32, 1]
        self.weights = torch.nn.ParameterList(
            torch.randn(k, a, b, generator=generator) * (2 / a) ** 0.5 for a, b in zip(sizes, sizes[1:]))
        self.biases = torch.nn.ParameterList(torch.zeros(k, 1, b) for b in sizes[1:])

    def forward(self, x):
        for weight, bias in zip(self.weights[:-1], self.biases[:-1]):
            x = F.leaky_relu(torch.baddbmm(bias, x, weight), 0.2)
        return torch.baddbmm(self.biases[-1], x, self.weights[-1])[..., 0]


def input_gradient(values, x, **options):
    return torch.autograd.grad(values.sum(), x, **options)[0]


def networks(thetas, steps, seed, batch=64):
    """Trains REPEATS discriminators and critics per theta; returns records and the gradient fields for the picture.

    Loss of a discriminator with logit d: -E_P log D - E_Q log(1 - D), D = sigmoid(d). Loss of a critic f:
    E_Q f - E_P f + lambda E (|grad f| - 1)^2 between pairs. What a point of Q is told (the direction in which its
    generator loss falls): -grad log(1 - D) = D grad d under the minimax loss, -grad(-log D) = (1 - D) grad d under
    the non-saturating one, grad f under the critic. Every number of a record is a median over the networks; D and the
    lengths are medians over 21 points of Q first.
    """
    generator = torch.Generator().manual_seed(seed)
    k = len(thetas) * REPEATS
    shift = torch.tensor(thetas, dtype=torch.float32).repeat_interleave(REPEATS)[:, None]
    discriminator, critic = Networks(k, generator), Networks(k, generator)
    parameters = [*discriminator.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3, betas=(0.5, 0.9))

    def segments(height_p, height_q):
        """Points of P and of Q at these heights (k, n)."""
        return (torch.stack([torch.zeros_like(height_p), height_p], dim=2),
                torch.stack([shift.expand_as(height_q), height_q], dim=2))

    line = torch.linspace(0, 1, 21).expand(k, 21)
    at_p, points = segments(line, line)
    points.requires_grad_()  # the gradient is read here

    def signals():
        logits = discriminator(points)
        slope = input_gradient(logits, points)
        d_at_q = torch.sigmoid(logits.detach())[..., None]
        found = {"minimax": d_at_q * slope, "non_saturating": (1 - d_at_q) * slope,
                 "critic": input_gradient(critic(points), points)}
        return {name: value.view(len(thetas), REPEATS, 21, 2) for name, value in found.items()}

    watched = sorted({round(s) for s in np.geomspace(1, steps, 30)})
    lengths = []  # at every watched step: name -> medians over the points (thetas, REPEATS)
    for step in tqdm(range(1, steps + 1), desc="networks"):
        p, q = segments(*torch.rand(2, k, batch, generator=generator))
        mix = torch.rand(k, batch, 1, generator=generator)
        between = (mix * p + (1 - mix) * q).requires_grad_()
        slope = input_gradient(critic(between), between, create_graph=True)
        # Sums over the networks: each is trained on its own mean loss.
        loss = (F.softplus(-discriminator(p)).mean(1) + F.softplus(discriminator(q)).mean(1)
                + critic(q).mean(1) - critic(p).mean(1) + PENALTY * ((slope.norm(dim=2) - 1) ** 2).mean(1)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in watched:
            final = signals()
            lengths.append({name: value.norm(dim=3).median(dim=2).values for name, value in final.items()})
    with torch.no_grad():
        fake = torch.sigmoid(discriminator(points)).median(dim=1).values.view(len(thetas), REPEATS)
        estimate = (critic(at_p) - critic(points)).mean(1).view(len(thetas), REPEATS)
    records = []
    for i, theta in enumerate(thetas):
        record = {"theta": theta, "repeats": REPEATS, "steps": steps, "watched_steps": watched,
                  "D_on_Q": float(fake[i].median()), "critic_estimate": float(estimate[i].median()),
                  # slope s of the best linear critic: max of s theta - lambda (s - 1)^2
                  "critic_length_expected": 1 + theta / (2 * PENALTY)}
        for name, field in final.items():
            per_run = torch.stack([at_step[name][i] for at_step in lengths])  # (watched, REPEATS)
            towards = -F.normalize(field[i], dim=2, eps=1e-30)[..., 0].median(dim=1).values  # cosine to (-1, 0)
            record[name] = {"length": float(per_run[-1].median()), "lengths": per_run[-1].tolist(),
                            "towards_P": float(towards.median()),
                            "history": per_run.median(dim=1).values.tolist()}
        records.append(record)
    return records, {name: field[:, 0].numpy() for name, field in final.items()}


def blurred_table():
    """Rows of `blurred` against its closed forms for every theta and sigma, and the curves of the picture."""
    fine = np.concatenate([np.linspace(0, 0.12, 25), np.linspace(0.14, 1, 36)])
    rows, curves = [], {"theta": fine.tolist(), "js": [], "slope": []}
    for sigma in tqdm(SIGMAS, desc="blurred"):
        _, js, slope = np.transpose([blurred(theta, sigma) for theta in fine])
        curves["js"].append(js.tolist())
        curves["slope"].append(slope.tolist())
        for theta in THETAS:
            kl, js, slope = blurred(theta, sigma)
            rows.append({"theta": theta, "sigma": sigma, "kl": kl, "kl_closed_form": theta**2 / (2 * sigma**2),
                         "js": js, "js_gap_to_log2": float(np.log(2)) - js, "js_slope": slope, "w": theta,
                         "w_slope": 1.0})
    return rows, curves


def main():
    parser = command.Parser(description=__doc__, epilog="""examples:
  python theory/q1_distances.py
  python theory/q1_distances.py --steps 200 --samples 100""")
    add = parser.add_argument
    add("--seed", type=command.seed, default=0, help="of samples and networks (default %(default)s)")
    add("--steps", type=command.number(int, 1, 100_000), default=1000,
        help="training steps of the networks (default %(default)s)")
    add("--samples", type=command.number(int, 1, 5000), default=1000,
        help="points of each segment in the assignment (default %(default)s)")
    add("--out", type=command.path, default=command.ROOT / "results/runs/q1", metavar="FOLDER",
        help="for the picture and the numbers (default: results/runs/q1)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)  # before the work: an error here costs nothing
    torch.set_num_threads(1)  # networks this small only wait for one another
    rows = transport(args.samples, np.random.default_rng(args.seed))
    grid, curves = blurred_table()
    records, fields = networks(THETAS[1:], args.steps, args.seed)  # at theta = 0 there is nothing to tell apart
    result = {"seed": args.seed, "transport": rows, "blurred": grid, "networks": records}
    picture = plots.distances(result | {"curves": curves}, fields, SIGMAS, SHOWN)
    command.write(args.out / "distances.png", picture, sync=False)
    command.write(args.out / "distances.json", command.as_json(result))
    print(f"theta = 1: W {rows[-1]['mean']:.4f}, JS {grid[-1]['js']:.6f} (blurred), gradient at Q by the discriminator "
          f"{records[-1]['minimax']['length']:.1e}, by the critic {records[-1]['critic']['length']:.3f}")
    print(f"saved {command.shown(args.out / 'distances.png')} and .json")


if __name__ == "__main__":
    command.run_main(main)
