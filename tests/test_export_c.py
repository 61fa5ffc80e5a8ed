"""The emitted C computes the network's outputs, within its buffers, for every vector width."""

import re
import shutil
import subprocess

import pytest
from exporting import OTHERS, ZOO, compiler, model_of, network, randomised, run, run_c, secrets_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanoprune import nn
from nanoprune.errors import ArgumentError
from nanoprune.lab import layers as lab_layers
from nanoprune.lab.export import export_model
from nanoprune.lab.export.about import about
from nanoprune.lab.export.c import to_c
from nanoprune.lab.export.check import difference, logits, probes
from nanoprune.lab.export.packing import program_of
from nanoprune.lab.export.quantise import quantised_network
from nanoprune.nn import Network

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler")
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
ROUNDING = 2e-6  # of float32, of the largest logit; both sides round


def made(name, keep):
    return OTHERS[name]() if name in OTHERS else network(name, keep=keep)


@needs_compiler
@pytest.mark.parametrize("form", ["dense", "packed", "int8"])
@pytest.mark.parametrize("name", [*ZOO, *OTHERS])
def test_c_is_the_network_and_stays_in_its_buffers(name, form, tmp_path):
    net = made(name, 0.2)
    x = probes(net.input_shape, 2)
    source, header = to_c(program_of(net, form), {}, form, "net")
    found = run_c(source, header, tmp_path, x, *SANITIZED)
    assert difference(found, logits(quantised_network(net) if form == "int8" else net, x)) < ROUNDING


@needs_compiler
@pytest.mark.parametrize("lanes", [1, 4, 8, 16])
def test_every_vector_width_computes_the_same_network(lanes, tmp_path):
    net = network("resnet18", keep=0.2)
    x = probes(net.input_shape, 2)
    source, header = to_c(program_of(net, "packed"), {}, "packed", "net")
    flags = ("-O1", f"-DNANOPRUNE_LANES={lanes}", "-Wno-psabi")
    assert difference(run_c(source, header, tmp_path, x, *flags), logits(net, x)) < ROUNDING


@needs_compiler
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_convolutions_of_any_geometry(data, tmp_path):
    """Sizes, strides and paddings with and without incomplete rows, vectors and blocks.

    A sum of n products in float32, in any order, is within n u sum |w| |x| of the exact one, u = 2^-24 (Higham,
    Accuracy and Stability of Numerical Algorithms, 2nd ed., eq. 3.5). Layer upon layer: the n add up, and the sum is
    the output of the network of |w| at |x|. ReLU6 enlarges no error, so the bound leaves it out.
    """
    draw = data.draw
    size, stride, padding = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(0, 3))
    H, W = (draw(st.integers(max(1, size - 2 * padding), 40)) for _ in "HW")
    channels, kernels = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    conv = nn.Conv2D(channels, kernels, size, stride, padding)
    linear = [conv, lab_layers.DepthwiseConv2D(kernels, 3, stride, 1), lab_layers.GlobalAvgPool(), nn.Dense(kernels, 3)]
    body = nn.Sequential(linear[0], lab_layers.ReLU6(), *linear[1:])
    net = randomised(Network(body, (H, channels, W), dtype="float64"), keep=draw(st.sampled_from([0.15, 1.0])))
    x = probes(net.input_shape, 2)
    source, header = to_c(program_of(net, "packed"), {}, "packed", "net")
    found, exact = run_c(source, header, tmp_path, x, *SANITIZED), logits(net, x)
    magnitude = Network(nn.Sequential(*linear), net.input_shape, theta=abs(net.theta))
    rows, columns = conv.output_shape(net.input_shape)[::2]
    roundings = channels * size**2 + 9 + rows * columns + kernels + 4 * 2  # of the products; of each weight and bias
    assert (abs(found - exact) <= roundings * 2.0**-24 * logits(magnitude, abs(x))).all()


@needs_compiler
def test_nothing_is_allocated_and_nothing_is_kept(tmp_path):
    """The object file calls only these functions of the C library, and has no writable data."""
    source, header = to_c(program_of(made("every layer", 1), "int8"), {}, "int8", "net")
    (tmp_path / "net.c").write_text(source)
    (tmp_path / "net.h").write_text(header)
    run([compiler(), "-std=c99", "-O2", "-c", "-o", tmp_path / "net.o", tmp_path / "net.c"])
    symbols = [line.split()[-2:] for line in run(["nm", tmp_path / "net.o"]).splitlines()]
    assert {name for kind, name in symbols if kind == "U"} <= {"memcpy", "memset", "tanhf", "sqrtf"}
    assert not [name for kind, name in symbols if kind in "dDbBC"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_header_is_for_cpp_too(tmp_path):
    _, header = to_c(program_of(network("mlp"), "packed"), {"labels": ["*/ int oops;", "??/"]}, "packed", "net")
    (tmp_path / "net.h").write_text(header)
    (tmp_path / "main.cpp").write_text('#include "net.h"\nint main() { return NET_OUTPUTS != 7; }\n')
    subprocess.run(["g++", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", tmp_path / "main.cpp"], check=True)


def test_packed_source_has_only_the_weights_that_are_not_zero():
    net = network("lenet-300-100", keep=0.05)
    source, _ = to_c(program_of(net, "packed"), {}, "packed", "net")
    values = ",".join(re.findall(r"const float v\d+\[\] = \{(.*?)\}", source, re.DOTALL)).split(",")
    assert sum(float(v.strip().removesuffix("f")) != 0 for v in values) == int(net.nonzero()[0])


def test_source_reveals_nothing_about_the_members(tmp_path):
    model = model_of(network("lenet-5", "float32", keep=0.1))
    for form in ("dense", "packed", "int8"):
        files, _ = export_model(model.net, "c", form, about(model, form, licence="MIT"), tmp_path / "net.c")
        assert [path.name for path in files] == ["net.c", "net.h"]
        assert [secrets_in(data) for data in files.values()] == [[], []]


def test_a_name_that_is_no_identifier_is_refused():
    with pytest.raises(ArgumentError, match="C identifier"):
        to_c(program_of(network("mlp"), "packed"), {}, "packed", "3d-net")
