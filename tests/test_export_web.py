"""The web page computes the network in Node and in a headless browser, offline and under its own security policy."""

import base64
import html
import json
import re
import shutil
import subprocess
import zlib

import browsing
import numpy as np
import pytest
from click.testing import CliRunner
from exporting import OTHERS, ZOO, model_of, network, secrets_in

import cli
from nanoprune.lab.export import export_model
from nanoprune.lab.export.about import about
from nanoprune.lab.export.check import difference, logits
from nanoprune.lab.export.packing import program_of
from nanoprune.lab.export.quantise import quantised_network
from nanoprune.lab.export.web import to_html
from nanoprune.lab.models.model import save_model

NODE = shutil.which("node")
STAND_IN = """
const node = () => ({getContext: () => ({fillRect() {}}), replaceChildren() {}, append() {}, elements: {}});
const known = {};
globalThis.document = {getElementById: id => known[id] ??= node(), createElement: node};
globalThis.location = {hash: '#test%d'};
%s
setInterval(() => {
  if (known.test && known.test.textContent) { console.log(known.test.textContent); process.exit(0); }
}, 10);
"""


def page_of(net, form):
    return to_html([("net", program_of(net, form), form, about(model_of(net), form))])


def scripted(page: str) -> str:
    return re.search(r"<script>(.*)</script>", page, re.DOTALL)[1]


def records_of(net, count):
    """The records of `#testN`: MINSTD from 1 on, / (2^31 - 1), channels first."""
    state, values = 1, []
    H, *rest = net.input_shape
    shape = (rest[0], H, rest[1]) if rest else (H,)
    for _ in range(count * int(np.prod(shape))):
        state = state * 48271 % 2147483647
        values.append(state / 2147483647)
    return np.array(values, np.float32).reshape(count, *shape)


def in_node(page: str, folder, count: int) -> list:
    program = folder / "page.js"
    program.write_text(STAND_IN % (count, scripted(page)))
    done = subprocess.run([NODE, program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])["logits"]


@pytest.mark.skipif(NODE is None, reason="no Node.js")
@pytest.mark.parametrize("form", ["packed", "int8"])
@pytest.mark.parametrize("name", [*ZOO, *OTHERS])
def test_page_computes_the_network_in_node(name, form, tmp_path):
    net = OTHERS[name]() if name in OTHERS else network(name, "float64", keep=0.2)
    net.description = net.description or {"network": "other", "input_shape": [], "classes": 0}
    (found,) = in_node(page_of(net, form), tmp_path, 2)
    expected = quantised_network(net) if form == "int8" else net
    assert difference(np.array(found), logits(expected, records_of(net, 2))) < 2e-6


def in_browser(page: str, folder, count: int) -> str:
    (folder / "page.html").write_text(page)
    url = f"{(folder / 'page.html').as_uri()}#test{count}"
    return browsing.dom(url, folder / "profile", ready="document.getElementById('test').textContent")


@pytest.mark.skipif(browsing.BROWSER is None, reason=browsing.NO_BROWSER)
@pytest.mark.parametrize("name", ["lenet-5", "lenet-300-100", "resnet18"])
def test_page_computes_the_network_in_a_browser(name, tmp_path):
    net = network(name, "float32", keep=0.1, shape=(28, 1, 28) if name == "lenet-5" else None)
    dom = in_browser(page_of(net, "int8"), tmp_path, 3)
    (found,) = json.loads(html.unescape(re.search(r'<pre id="test"[^>]*>(.*?)</pre>', dom, re.DOTALL)[1]))["logits"]
    assert difference(np.array(found), logits(quantised_network(net), records_of(net, 3))) < 1e-5
    row = re.search(r'<tbody id="networks">(.*?)</tbody>', dom, re.DOTALL)[1]
    assert f"{int(quantised_network(net).nonzero()[0]):,}" in row
    assert "not audited" in row


@pytest.mark.skipif(browsing.BROWSER is None, reason=browsing.NO_BROWSER)
def test_an_injected_script_does_not_run(tmp_path):
    page = page_of(network("lenet-5", "float32", keep=0.1), "int8")
    hostile = page.replace("</html>", "<script>document.getElementById('test').textContent = 'owned'</script></html>")
    assert "'owned'" in hostile
    dom = in_browser(hostile, tmp_path, 1)
    assert '"logits"' in html.unescape(dom)
    assert ">owned<" not in dom


def test_page_refers_to_nothing_outside_of_it():
    page = page_of(network("lenet-5", "float32", keep=0.1), "int8")
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|//[a-z]+\.[a-z]|\bsrc=|\bhref=|fetch\(|XMLHttpRequest|import\(", page)


def test_untrusted_text_cannot_become_markup():
    net = network("mlp", "float32", keep=0.1)
    metadata = about(model_of(net), "packed", labels=["</script><b>"] * 7, licence="<b>free</b>")
    page = to_html([("<i>", program_of(net, "packed"), "packed", metadata)])
    assert page.count("</script>") == 1
    assert "<b>" not in page
    assert "<i>" not in page


def test_the_page_reveals_nothing_about_the_members(tmp_path):
    model = model_of(network("lenet-5", "float32", keep=0.1))
    files, _ = export_model(model.net, "web", "int8", about(model, "int8"), tmp_path / "net.html")
    (page,) = files.values()
    data = re.findall(rb'"data":"([^"]+)"', page)
    unpacked = [zlib.decompress(base64.b64decode(text), -15) for text in data]
    assert len(unpacked) == 1
    assert [secrets_in(of) for of in [page, *unpacked]] == [[], []]


def test_pruned_and_dense_side_by_side(tmp_path):
    for name, keep in (("dense", 1.0), ("pruned", 0.1)):
        save_model(model_of(network("lenet-5", "float32", keep=keep)), tmp_path / f"{name}.h5")
    arguments = ["export", "pruned.h5", "--to", "web", "--weights", "int8", "--beside", "dense.h5", "--out", "net.html"]
    paths = [str(tmp_path / a) if "." in a else a for a in arguments]
    found = CliRunner().invoke(cli.main, paths)
    assert found.exit_code == 0, found.output
    assert re.findall(r'"name":"(\w+)"', (tmp_path / "net.html").read_text()) == ["pruned", "dense"]
    refused = CliRunner().invoke(cli.main, [a.replace("web", "onnx").replace("net.html", "net.onnx") for a in paths])
    assert (refused.exit_code, "--beside is for web" in refused.output) == (2, True)
