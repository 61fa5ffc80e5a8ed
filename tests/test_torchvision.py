"""Imported weights: a safetensors file with torchvision's names gives PyTorch's network, or is refused."""

import dataclasses
import json
import re
import struct

import numpy as np
import pytest
from click.testing import CliRunner

import cli
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data import Dataset
from nanoprune.lab.experiment.recipes import RECIPES
from nanoprune.lab.models.model import load_model
from nanoprune.lab.models.torchvision import import_model
from nanoprune.lab.workflow.single_model import prune_model
from nanoprune.nn import Workspace
from nanoprune.prune import ADMMSettings
from nanoprune.schedule import Schedule

WIDTH = 0.125


def write(path, tensors):
    """A safetensors file as its specification has it: the header's length, the header in JSON, the data."""
    header, start = {}, 0
    for name, tensor in tensors.items():
        kind = {"float32": "F32", "float64": "F64", "int64": "I64", "uint16": "BF16"}[str(tensor.dtype)]
        end = start + tensor.nbytes
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(t.tobytes() for t in tensors.values()))
    return path


def narrow_resnet(rng, classes=7):
    """The state dict of a ResNet18 with 8, 16, 32 and 64 channels, by the names that torchvision gives."""
    found = {}

    def conv(name, out, inputs, size):
        found[f"{name}.weight"] = rng.standard_normal((out, inputs, size, size)).astype(np.float32)

    def norm(name, channels):
        for part in ("weight", "bias", "running_mean"):
            found[f"{name}.{part}"] = rng.standard_normal(channels).astype(np.float32)
        found[f"{name}.running_var"] = rng.uniform(0.5, 2, channels).astype(np.float32)
        found[f"{name}.num_batches_tracked"] = np.array(3)

    conv("conv1", 8, 3, 7)
    norm("bn1", 8)
    before = 8
    for stage, channels in enumerate((8, 16, 32, 64), 1):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            conv(f"{name}.conv1", channels, before, 3)
            norm(f"{name}.bn1", channels)
            conv(f"{name}.conv2", channels, channels, 3)
            norm(f"{name}.bn2", channels)
            if before != channels:
                conv(f"{name}.downsample.0", channels, before, 1)
                norm(f"{name}.downsample.1", channels)
            before = channels
    found["fc.weight"] = rng.standard_normal((classes, 64)).astype(np.float32)
    found["fc.bias"] = rng.standard_normal(classes).astype(np.float32)
    return found


@pytest.fixture
def tensors():
    return narrow_resnet(np.random.default_rng(0))


@pytest.fixture
def _safetensors():
    pytest.importorskip("safetensors", reason="safetensors is not installed; it is in the extras import and test")


@pytest.mark.usefixtures("_safetensors")
def test_every_tensor_is_assigned_to_its_parameter(tensors, tmp_path):
    """Element by element; the names are sorted, as in safetensors, so the order in the file does not matter."""
    path = write(tmp_path / "w.safetensors", dict(sorted(tensors.items())))
    net = import_model(path, "resnet18", 64, WIDTH).net
    assert net.output_shape == (7,)
    assert net.size + net.state.shape[1] == sum(t.size for n, t in tensors.items() if "tracked" not in n)
    weights = [n for n, t in tensors.items() if t.ndim > 1]
    for name, p in zip(weights, net.weights, strict=True):
        theirs = tensors[name]
        ours = (
            p.value[0].reshape(len(theirs), *(theirs.shape[i] for i in (2, 1, 3))) if theirs.ndim == 4 else p.value[0]
        )
        for index in np.ndindex(theirs.shape):
            at = (index[0], index[2], index[1], index[3]) if theirs.ndim == 4 else index
            assert ours[at] == theirs[index], name
    others = [n for n, t in tensors.items() if t.ndim == 1 and "running" not in n]
    for name, p in zip(others, net.biases, strict=True):
        np.testing.assert_array_equal(p.value[0, :, 0], tensors[name])
    for name, s in zip([n for n in tensors if "running" in n], net.statistics, strict=True):
        np.testing.assert_array_equal(s.value[0, :, 0], tensors[name])


@pytest.mark.usefixtures("_safetensors")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer2.0.bn1.weight": None}, ["layer2.0.bn1.weight is missing", r"\(16,\)"]),
        ({"fc.weight": None}, ["fc.weight is missing"]),
        ({"layer3.1.conv2.weight": np.zeros((32, 32, 3, 1), np.float32)}, [r"layer3.1.conv2.weight has shape"]),
        ({"fc.bias": np.zeros(8, np.float32)}, [r"fc.bias has shape \(8,\)", r"needs \(7,\)"]),
        ({"layer5.0.conv1.weight": np.zeros(1, np.float32)}, ["resnet18 has no layer5.0.conv1.weight"]),
        ({"bn1.bias": np.full(8, np.nan, np.float32)}, ["bn1.bias holds NaN"]),
        ({"bn1.running_var": np.full(8, -1, np.float32)}, ["bn1.running_var holds NaN, infinity or a negative"]),
        ({"bn1.bias": np.zeros(8, np.int64)}, ["bn1.bias is int64, expected float32"]),
        ({"bn1.bias": np.zeros(8, np.uint16)}, ["bn1.bias has a type that NumPy does not have"]),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tensors, tmp_path, change, words):
    kept = {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}
    path = write(tmp_path / "w.safetensors", kept)
    for word in words:
        with pytest.raises(DataError, match=f"^{path}.*{word}"):
            import_model(path, "resnet18", 64, WIDTH)


@pytest.mark.usefixtures("_safetensors")
def test_untrusted_names_and_shapes_are_escaped(tensors, tmp_path):
    """A name with escapes, thousands of names, a shape of thousands of axes."""
    name = "\x1b]0;pwn\x07\x1b[31m"
    many = {f"{name}{i}{'x' * 100}": np.zeros(1, np.float32) for i in range(2000)}
    for change in ({name: np.zeros(1, np.float32)}, many, {"fc.bias": np.zeros((1,) * 60, np.float32)}):
        path = write(tmp_path / "w.safetensors", tensors | change)
        with pytest.raises(DataError) as caught:
            import_model(path, "resnet18", 64, WIDTH)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1000


@pytest.mark.usefixtures("_safetensors")
def test_another_width_or_network_is_refused(tensors, tmp_path):
    path = write(tmp_path / "w.safetensors", tensors)
    with pytest.raises(DataError, match=r"conv1.weight has shape .* width 1 needs"):
        import_model(path, "resnet18", 64, 1.0)
    with pytest.raises(DataError, match=r"features.0.weight, .* and 76 more are missing"):
        import_model(path, "vgg16", 64, WIDTH)
    with pytest.raises(ArgumentError, match=r"network must be one of vgg16, mobilenetv2, .*, got 'lenet-300'"):
        import_model(path, "lenet-300")


@pytest.mark.usefixtures("_safetensors")
@pytest.mark.parametrize("content", [None, b"", b"\xff" * 100, struct.pack("<Q", 2**40) + b"{}"])
def test_damaged_files_are_refused(tmp_path, content):
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path}: cannot be read as safetensors"):
        import_model(path, "resnet18")


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


@pytest.mark.usefixtures("_safetensors")
def test_the_command_writes_a_model_that_info_reads(tensors, tmp_path):
    path, out = write(tmp_path / "w.safetensors", tensors), tmp_path / "m.h5"
    result = run("import", path, "--network", "resnet18", "--input", 64, "--width", WIDTH, "--out", out)
    assert result.exit_code == 0, result.output
    model = load_model(out)
    np.testing.assert_array_equal(model.net.theta, import_model(path, "resnet18", 64, WIDTH).net.theta)
    np.testing.assert_array_equal(model.net.state, import_model(path, "resnet18", 64, WIDTH).net.state)
    assert (model.dataset, model.steps[0]["step"], model.steps[0]["file"]) == ("unknown", "import", "w.safetensors")
    found = json.loads(run("info", out, "--json").output)
    assert found["kept_weights"] == found["weights"] == model.net.weight_count
    refused = run("prune", out, "--keep", 0.1, "--out", tmp_path / "p.h5")
    assert refused.exit_code == 2
    assert "name them with --data" in refused.stderr


@pytest.mark.usefixtures("_safetensors")
@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"),
        ([0.485, 0.456, 0.406], [58.395, 57.12, 57.375], "are of images in [0, 1], got 58.395"),
        ([123.675, 116.28, 103.53], [0.229, 0.224, 0.225], "are of images in [0, 1], got 123.675"),
        ([-0.1, 0.4, 0.4], [0.2, 0.2, 0.2], "mean must lie in [0, 1]"),
        ([0.4, 0.4, 0.4], [0.2, 0.0, 0.2], "std in (0, 1]"),
        ([float("nan"), 0.4, 0.4], [0.2, 0.2, 0.2], "mean must lie in [0, 1]"),
        ([0.4, 0.4, 0.4], [float("inf"), 0.2, 0.2], "got inf"),
    ],
)
def test_a_mean_that_no_image_between_0_and_1_has_is_refused(tensors, tmp_path, mean, std, words):
    """ImageNet's mean for images in [0, 255] (torchvision's times 255) would silently make the network useless."""
    path = write(tmp_path / "w.safetensors", tensors)
    with pytest.raises(ArgumentError, match=re.escape(words)):
        import_model(path, "resnet18", 64, WIDTH, [mean, std])


def test_a_network_of_standardised_images_takes_images_between_0_and_1(tensors, tmp_path):
    path, out = write(tmp_path / "w.safetensors", tensors), tmp_path / "m.h5"
    arguments = ["import", path, "--network", "resnet18", "--input", 64, "--width", WIDTH, "--out", out]
    result = run(*arguments, "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")
    assert result.exit_code == 0, result.output
    X = np.random.default_rng(0).random((1, 64, 3, 64, 2)).astype(np.float32)
    mean, std = (np.array(v, np.float32)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    expected = import_model(path, "resnet18", 64, WIDTH).net.forward((X - mean) / std, Workspace(training=False))
    found = load_model(out).net.forward(X, Workspace(training=False))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    for option in (["--mean", "0.5,0.5,0.5"], ["--mean", "0.5", "--std", "1"], ["--mean", "a", "--std", "1"]):
        result = run(*arguments, *option)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


@pytest.mark.usefixtures("_safetensors")
def test_an_imported_network_can_be_pruned(tensors, tmp_path):
    path, rng = write(tmp_path / "w.safetensors", tensors), np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 64, 3, 64)).astype(np.uint8)
    dataset = Dataset.of("images", images, np.arange(12) % 7, 7, scale=255, train=8)
    model = import_model(path, "resnet18", 64, WIDTH, dataset=dataset)
    assert (model.dataset, model.data_sha256, model.members, model.nonmembers) == ("images", dataset.sha256, None, 4)
    plan, admm = Schedule(epochs=1, batch=4, lr=1e-4), ADMMSettings(iterations=1)
    recipe = dataclasses.replace(RECIPES["digits"], dense=plan, prune=plan, retrain=plan, admm=admm, minmax=0.0)
    pruned = prune_model(model, dataset, recipe, 0.25, threads=2)
    assert pruned.net.nonzero()[0] == sum(max(1, p.size // 4) for p in model.net.weights)
    assert (pruned.net.state != model.net.state).any()
    assert [step["step"] for step in pruned.steps] == ["import", "prune"]
    with pytest.raises(ArgumentError, match="not made for images"):
        import_model(path, "resnet18", 32 + 64, WIDTH, dataset=dataset)


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    with pytest.raises(ArgumentError, match=r"pip install 'nanoprune\[import\]'"):
        import_model(tmp_path / "w.safetensors", "resnet18")


# Against PyTorch, where it is installed


def modules(torch):
    """torchvision's three networks, written out: the same layers under the same names."""
    nn = torch.nn

    def conv_bn(inputs, outputs, size, stride=1, groups=1, relu=nn.ReLU6):
        layers = [nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)]
        return nn.Sequential(*layers, nn.BatchNorm2d(outputs), relu())

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.downsample = None
            if stride > 1:
                shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

        def forward(self, x):
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            return torch.relu(y + (x if self.downsample is None else self.downsample(x)))

    class ResNet18(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
            before = 64
            for stage, channels in enumerate((64, 128, 256, 512), 1):
                blocks = [Block(before, channels, 1 if stage == 1 else 2), Block(channels, channels, 1)]
                setattr(self, f"layer{stage}", nn.Sequential(*blocks))
                before = channels
            self.fc = nn.Linear(512, classes)

        def forward(self, x):
            x = torch.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
            for stage in (1, 2, 3, 4):
                x = getattr(self, f"layer{stage}")(x)
            return self.fc(x.mean((2, 3)))

    class NarrowVGG16(nn.Module):  # a quarter as wide, so that the test does not take a minute
        def __init__(self, classes, side):
            super().__init__()
            layers, before = [], 3
            for channels, count in ((16, 2), (32, 2), (64, 3), (128, 3), (128, 3)):
                for _ in range(count):
                    layers += [nn.Conv2d(before, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
                    before = channels
                layers.append(nn.MaxPool2d(2))
            self.features = nn.Sequential(*layers)
            units = 128 * (side // 32) ** 2
            hidden = [nn.Linear(units, 1024), nn.ReLU(), nn.Dropout(), nn.Linear(1024, 1024), nn.ReLU(), nn.Dropout()]
            self.classifier = nn.Sequential(*hidden, nn.Linear(1024, classes))

        def forward(self, x):
            return self.classifier(self.features(x).flatten(1))

    class Inverted(nn.Module):
        def __init__(self, inputs, outputs, expansion, stride):
            super().__init__()
            hidden = inputs * expansion
            layers = [conv_bn(inputs, hidden, 1)] if expansion > 1 else []
            layers.append(conv_bn(hidden, hidden, 3, stride, groups=hidden))
            layers += [nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
            self.conv, self.shortcut = nn.Sequential(*layers), stride == 1 and inputs == outputs

        def forward(self, x):
            return x + self.conv(x) if self.shortcut else self.conv(x)

    class MobileNetV2(nn.Module):
        def __init__(self, classes):
            super().__init__()
            layers, before = [conv_bn(3, 32, 3, 2)], 32
            table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2))
            for t, c, n, s in (*table, (6, 320, 1, 1)):
                for i in range(n):
                    layers.append(Inverted(before, c, t, s if i == 0 else 1))
                    before = c
            self.features = nn.Sequential(*layers, conv_bn(320, 1280, 1))
            self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

        def forward(self, x):
            return self.classifier(self.features(x).mean((2, 3)))

    return {"resnet18": ResNet18, "mobilenetv2": MobileNetV2, "vgg16": lambda classes: NarrowVGG16(classes, 64)}


@pytest.mark.usefixtures("_safetensors")
@pytest.mark.parametrize(
    ("network", "side", "width"), [("resnet18", 65, 1), ("mobilenetv2", 65, 1), ("vgg16", 64, 0.25)]
)
def test_outputs_are_those_of_pytorch(network, side, width, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; it is in the extra bench")
    torch.manual_seed(0)
    model = modules(torch)[network](6)
    x = np.random.default_rng(0).standard_normal((4, 3, side, side)).astype(np.float32)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.from_numpy(x))  # statistics that are those of some data
    model.eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()  # (N, classes)
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    net = import_model(write(tmp_path / "w.safetensors", tensors), network, side, width).net
    Y = net.forward(np.ascontiguousarray(x.transpose(2, 1, 3, 0))[None], Workspace(training=False))  # (1, H, C, W, N)
    assert np.ptp(expected, axis=0).min() > 0.01  # a hundred tolerances: the outputs depend on the input
    np.testing.assert_allclose(Y[0].T, expected, rtol=0, atol=1e-4)
