"""The commands of docs/import.md, run: on networks of PyTorch where it is installed, and on such graphs without it."""

import pathlib
import re
import shlex
import warnings

import numpy as np
import pytest
from click.testing import CliRunner

import cli
from nanoprune.lab.data import load
from nanoprune.lab.export.check import difference, logits
from nanoprune.lab.models.model import load_model

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx_writer import Writer, residual_network, run

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "import.md").read_text("utf-8")
QUICK = {  # few epochs, those of shadow models included
    "import": ["--epochs", "1", "--batch", "32", "--lr", "0.01"],
    "prune": ["--iterations", "2", "--epochs", "2", "--retrain-epochs", "1", "--lr", "0.01"],
}
MEMBERS = 60


@pytest.fixture
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save_data(x, y):
    """mine.npz with an array `member`."""
    member = np.zeros(len(y), bool)
    member[np.random.default_rng(0).permutation(len(y))[:MEMBERS]] = True
    np.savez("mine.npz", x=x, y=y, member=member)


def records(x):
    """x of mine.npz as a network of PyTorch reads it."""
    return x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def commands(text):
    """The commands of the first block, with few epochs and shadow models."""
    block = re.search(r"(?:^    python cli\.py .*\n)+", text, re.MULTILINE).group()
    for line in block.replace("--shadows 16", "--shadows 6").splitlines():
        words = shlex.split(line.strip().removeprefix("python cli.py "))
        yield words + QUICK.get(words[0], [])


def follow_the_page(file="mine.onnx", *options):
    """Run every command of the page: what is exported is what was pruned. The imported network, and some records."""
    for words in commands(PAGE):
        words = [file if word == "mine.onnx" else word for word in words]
        result = CliRunner().invoke(cli.main, words + (list(options) if words[0] == "import" else []))
        assert result.exit_code == 0, f"{words}: {result.output}"
    pruned, x = load_model("pruned.h5"), np.load("mine.npz")["x"][:20].astype(np.float32)
    assert pruned.net.nonzero()[0] <= 0.1001 * pruned.net.weight_count + len(pruned.net.weights)
    assert difference(run("pruned.onnx", records(x)), logits(pruned.net, records(x))) < 1e-4
    return load_model("mine.h5").net, records(x)


def digits():
    found = load("digits")
    return found.x[:400].reshape(-1, 8, 8).copy(), found.y[:400]


def images():
    rng = np.random.default_rng(0)
    y = np.arange(150) % 3
    return np.clip(rng.normal(0.3 + 0.2 * y[:, None, None, None], 0.1, (150, 32, 32, 3)), 0, 1).astype(np.float32), y


WRITTEN = {
    "mlp": lambda: Writer((64,)).dense(32).act("Relu").dense(16).act("Relu").dense(10),
    "lenet": lambda: lenet().dense(20).act("Relu").dense(10),
}


def lenet():
    return Writer((1, 8, 8)).conv(6, padding=1).act("Relu").pool("MaxPool", 2).flatten("view")


@pytest.mark.usefixtures("_folder")
@pytest.mark.parametrize("name", WRITTEN)
def test_the_commands_of_the_page(name):
    x, y = digits()
    save_data(x.reshape(-1, 64) if name == "mlp" else x, y)
    WRITTEN[name]().save(pathlib.Path("mine.onnx"))
    net, x = follow_the_page()
    assert difference(logits(net, x), run("mine.onnx", x)) < 1e-5


@pytest.mark.usefixtures("_folder")
def test_residual_blocks_can_be_pruned():
    x, y = images()
    save_data(x[:, 5:14, 7:16], y)
    net = residual_network()
    net.act("Relu").dense(3).save(pathlib.Path("mine.onnx"))
    for words in (
        ["import", "mine.onnx", "--data", "mine.npz", "--out", "m.h5"],
        ["prune", "m.h5", "--keep", "0.1", *QUICK["prune"], "--out", "p.h5"],
    ):
        result = CliRunner().invoke(cli.main, words)
        assert result.exit_code == 0, result.output
    pruned = load_model("p.h5").net
    assert 0 < pruned.nonzero()[0] < 0.2 * pruned.weight_count


# With PyTorch


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed; it is in the extra bench")


def trained_by_the_page():
    """The page's own program: it writes mine.onnx."""
    (program,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "optimiser" in block]
    names: dict = {}
    exec(program.replace("range(40)", "range(8)"), names)
    return names["net"]


def resnet18(torch, classes=3, width=8):
    """A ResNet18 for images of 32 x 32, under torchvision's names."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
            self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
            beside = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)]
            self.downsample = nn.Sequential(*beside) if stride > 1 else None

        def forward(self, x):
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(y + (x if self.downsample is None else self.downsample(x)))

    class ResNet18(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1, before = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), width
            for stage in (1, 2, 3, 4):
                channels = width * 2 ** (stage - 1)
                blocks = [Block(before, channels, 1 if stage == 1 else 2), Block(channels, channels, 1)]
                setattr(self, f"layer{stage}", nn.Sequential(*blocks))
                before = channels
            self.fc = nn.Linear(before, classes)

        def forward(self, x):
            x = torch.relu(self.bn1(self.conv1(x)))
            for stage in (1, 2, 3, 4):
                x = getattr(self, f"layer{stage}")(x)
            return self.fc(x.mean((2, 3)))

    return ResNet18()


def measured(torch, net, x):
    """The network with running statistics of some data, in evaluation mode."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    with torch.no_grad():
        net.train()(torch.from_numpy(x))
    return net.eval()


def outputs(torch, net, x):
    with torch.no_grad():
        return net(torch.from_numpy(x)).numpy()


@pytest.mark.usefixtures("_folder")
def test_the_pages_program_and_its_commands(torch):
    save_data(*digits())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = trained_by_the_page()
    ours, x = follow_the_page()
    assert difference(logits(ours, x), outputs(torch, net, x)) < 1e-5


@pytest.mark.usefixtures("_folder")
def test_an_mlp_of_ones_own(torch):
    nn, (x, y) = torch.nn, digits()
    save_data(x.reshape(-1, 64), y)
    hidden = [nn.BatchNorm1d(24), nn.Tanh(), nn.Dropout(), nn.Linear(24, 16), nn.ReLU6()]
    net = measured(torch, nn.Sequential(nn.Linear(64, 24), *hidden, nn.Linear(16, 10)), x.reshape(-1, 64))
    export(torch, net, np.zeros((2, 64), np.float32), dynamo=False)
    ours, x = follow_the_page()
    assert difference(logits(ours, x), outputs(torch, net, x)) < 1e-5


def export(torch, net, x, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.from_numpy(x),), "mine.onnx", verbose=False, **options)


@pytest.mark.usefixtures("_folder")
def test_a_resnet18_of_ones_own(torch):
    """By both exporters, which fold BatchNorm, by the one that keeps it, and as safetensors, which is then pruned."""
    from safetensors.torch import save_file

    x, y = images()
    save_data(x, y)
    x = np.ascontiguousarray(records(x))
    net = measured(torch, resnet18(torch), x[:60])
    expected = outputs(torch, net, x[:8])
    for options, name in (
        ({"dynamo": False}, "sequential"),
        ({"dynamo": True}, "sequential"),
        ({"dynamo": False, "training": torch.onnx.TrainingMode.PRESERVE}, "resnet18"),
    ):
        export(torch, net, x[:2], **options)
        result = CliRunner().invoke(cli.main, ["import", "mine.onnx", "--overwrite", "--out", "o.h5"])
        assert result.exit_code == 0, result.output
        found = load_model("o.h5").net
        assert found.description["network"] == name
        assert difference(logits(found, x[:8]), expected) < 1e-5
    save_file({f"module.{name}": of for name, of in net.state_dict().items()}, "mine.safetensors")
    ours, x = follow_the_page("mine.safetensors", "--network", "resnet18", "--input", "32")
    assert ours.description["width"] == 0.125
    assert difference(logits(ours, x), outputs(torch, net, np.ascontiguousarray(x))) < 1e-5
