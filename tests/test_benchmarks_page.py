"""docs/benchmarks.md: it has the parts that were measured, with the figures of their files, and no others."""

import json
import pathlib
import re
import subprocess
import sys

import pytest
import strict_cupy

from nanoprune.backend import use_device

ROOT = pathlib.Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
MACHINE = {"processor": "abacus", "processors": 2, "python": "3.11.7", "numpy": "2.4.6"}
ROW = {"measure": "lenet5-step-32", "ours_seconds": 0.004, "ours_spread": [0.003, 0.005], "peer": "torch"}
ROW |= {"peer_seconds": 0.008, "peer_spread": [0.007, 0.009], "ratio": 0.5, "machine": MACHINE | {"torch": "2.13"}}


@pytest.fixture
def page(monkeypatch, tmp_path):
    """The module, which finds one row of results and nothing else."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import page

    for module, name in ((page.scaling, "scaling"), (page.command_memory, "memory"), (page.gpu, "gpu")):
        monkeypatch.setattr(module, "RESULT", tmp_path / f"{name}.json")
    monkeypatch.setattr(page, "RESULTS", tmp_path / "results.json")
    page.RESULTS.write_text(json.dumps([ROW]))
    return page


def headings(text):
    return set(re.findall(r"^## (.*)$", text, re.MULTILINE))


def cells(text, start):
    """The cells of the one row of a table that begins so."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_what_was_not_measured_is_left_out(page):
    written = page.page()
    assert "| lenet5-step-32 | 4 ms (3 to 5) | torch | 8 ms (7 to 9) | 0.50 |" in written
    assert "Nothing was measured on a GPU" in written
    assert not headings(written) & {"Scaling", "Memory of the commands", "On a GPU"}


def test_each_processor_has_a_table(page):
    """With the figures that were measured on it, of the same program."""
    other = ROW | {"ours_seconds": 0.006, "ratio": 0.75, "machine": MACHINE | {"processor": "slide rule"}}
    page.RESULTS.write_text(json.dumps([ROW, other]))
    first, second = page.page().split("slide rule, 2 processors")
    assert "abacus, 2 processors" in first
    assert "| lenet5-step-32 | 4 ms" in first
    assert "| lenet5-step-32 | 6 ms" not in first
    assert "| lenet5-step-32 | 6 ms" in second
    assert "| lenet5-step-32 | 4 ms" not in second


def test_a_result_replaces_the_one_of_the_same_processor_alone(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import measure

    monkeypatch.setattr(measure, "RESULTS", tmp_path / "results.json")
    for name, ratio in (("abacus", 0.5), ("slide rule", 0.6), ("abacus", 0.7)):
        monkeypatch.setattr(measure, "machine", lambda name=name: MACHINE | {"processor": name})
        measure.keep({"measure": "lenet5-step-32", "ratio": ratio})
    kept = json.loads(measure.RESULTS.read_text())
    assert {row["machine"]["processor"]: row["ratio"] for row in kept} == {"abacus": 0.7, "slide rule": 0.6}
    assert len(kept) == 2


def test_the_page_in_the_repository_is_the_one_that_is_made(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import page

    assert page.PAGE.read_text("utf-8") == page.page()


def test_scaling_has_its_plots_and_a_row_for_each_number_of_cores(page):
    """Time grows 4-fold, the limit, arithmetic and then traffic, 5-fold; two cores are 1.25 and twice as fast."""
    sizes = {  # x, cores: seconds, arithmetic, traffic
        (16, 1): (0.010, 0.005, 0.001),
        (64, 1): (0.040, 0.004, 0.025),
        (16, 2): (0.008, 0.002, 0.001),
        (64, 2): (0.020, 0.004, 0.012),
    }
    points = [
        {"x": x, "threads": threads, "seconds": seconds, "arithmetic": arithmetic, "traffic": traffic}
        for (x, threads), (seconds, arithmetic, traffic) in sizes.items()
    ]
    rates = {str(threads): {"sgemm": threads * 1e11, "copy": [[5e5, 4e10], [1.28e8, 1e10]]} for threads in (1, 2)}
    series = {"name": "batch-mlp", "title": "step", "x": "batch", "machine": MACHINE, "rates": rates, "points": points}
    page.scaling.RESULT.write_text(json.dumps({"series": [series]}))
    written = page.page()
    assert "Scaling" in headings(written)
    assert "(scaling_training.svg)" in written
    assert "(roofline.svg)" in written
    assert "(scaling_audit.svg)" not in written
    assert cells(written, "step (`batch-mlp`) | 1 |")[2:] == [
        *("batch 16 to 64", "10 ms to 40 ms", "4", "5", "50% to 62%", "-"),
    ]
    assert cells(written, "step (`batch-mlp`) | 2 |")[2:] == [
        *("batch 16 to 64", "8 ms to 20 ms", "2.5", "6", "25% to 60%", "1.25 to 2.00"),
    ]
    assert "2 cores: products at 200 GFLOP/s; copies at 40 GB/s for 0.5 MB, 10 GB/s for 128 MB." in written


def test_memory_grows_in_bytes_for_each_byte_of_input(page):
    made = {"command": "train data.npz --out model.h5", "input": "data.npz", "size": [4_000_000, 40_000_000]}
    seeds = {"command": "report results", "input": "seeds", "size": [1, 4], "largest": [10**8] * 2}
    alone = {"command": "verify", "input": "", "size": [0], "largest": [2 * 10**8], "together": [2 * 10**8]}
    rows = [made | {"largest": [10**8, 1.2e8], "together": [1.1e8, 2e8]}, seeds | {"together": [10**8] * 2}, alone]
    content = {"groups": [{"name": "data", "machine": MACHINE, "rows": rows}]}
    page.command_memory.RESULT.write_text(json.dumps(content))
    written = page.page()
    assert "Memory of the commands" in headings(written)
    assert cells(written, "`python cli.py train")[1:] == ["data.npz", "4.0, 40 MB", "100, 120 MB", "110, 200 MB", "2.5"]
    assert cells(written, "`python cli.py report")[1:] == ["seeds", "1, 4", "100, 100 MB", "100, 100 MB", "-"]
    assert cells(written, "`python cli.py verify")[1:] == ["-", "-", "200 MB", "200 MB", "-"]


def test_what_the_stand_in_measured_is_a_section(page, monkeypatch):
    """The parts of gpu.py with CuPy's stand-in, as `make gpu` writes them; two parts failed."""
    monkeypatch.setitem(sys.modules, "cupy", strict_cupy.module)
    gpu = page.gpu
    for name, small in {"REPLICAS": 2, "BATCH": 3, "SIDE": 16, "ROUNDS": 1}.items():
        monkeypatch.setattr(gpu, name, small)
    monkeypatch.setattr(gpu, "torch_on_gpu", lambda: None)
    monkeypatch.setattr(gpu, "part", lambda name, limit: parts[name])
    try:
        found = {name: gpu.PARTS[name]() | {"seconds": 2.0} for name in ("rates", "fleet")}
    finally:
        use_device("cpu")
    parts = {"tests": {"failed": "no | compiler"}, "verify": {"found": "all 70 checks hold", "seconds": 9.0}}
    parts |= {"resnet18": {"failed": "took longer than 40 s"}}
    parts |= {"reproduce": {"data": "digits", "found": "results/digits", "seconds": 41.0}} | found
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert gpu.main() == 1
    written = page.page()
    assert "On a GPU" in headings(written)
    assert "Nothing was measured on a GPU" not in written
    assert cells(written, "tests")[1:] == ["failed: no / compiler", "-"]
    assert cells(written, "verify")[1:] == ["all 70 checks hold", "9"]
    assert cells(written, "reproduce")[1:] == ["digits; results/digits", "41"]
    assert "TFLOP/s" in cells(written, "rates")[1]
    taken, share = re.fullmatch(r"nanoprune (\S+) ms; (\d+)% of the limit", cells(written, "fleet")[1]).groups()
    operations = 2 * 3 * 2 * (2 * 24 * 24 * 20 * 25 + 3 * (8 * 8 * 50 * 500 + 800 * 500 + 500 * 10))
    least = operations / (found["rates"]["gpu TFLOP/s"] * 1e12)
    # three digits of the time are printed, and no decimals of the share
    assert float(share) == pytest.approx(100 * least / (1e-3 * float(taken)), rel=0.005, abs=1)


def test_a_peer_that_failed_and_the_ratio_are_told(page):
    of = {"nanoprune ms": 2.0, "vmap ms": 4.0, "compiled failed": "no compiler", "ratio": 0.5, "GFLOP": 10.0}
    words = "nanoprune 2 ms; vmap 4 ms; compiled failed: no compiler; ratio 0.50; 25% of the limit"
    assert page.gpu_words(of, 20.0) == words


@pytest.fixture
def memory(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import command_memory

    return command_memory


def test_every_command_is_measured(memory):
    from nanoprune.lab.commands import main

    words = [step.words.split() for group in memory.GROUPS.values() for step in group.steps if step.measured]
    assert {of[0] for of in words} == set(main.commands)
    kinds = {of[of.index("--to") + 1] for of in words if "--to" in of}
    assert kinds == {"onnx", "c", "safetensors", "torch-code", "web"}


def test_a_process_that_holds_so_much_is_measured_to_be_so_large(memory, tmp_path, monkeypatch):
    """A stand-in for cli.py: a process with 100 MB and another below it with 200 MB, at the same time."""
    inner = "import time; held = b'1' * 200_000_000; time.sleep(0.6)"
    outer = "import subprocess, sys; held = b'1' * 100_000_000; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    (tmp_path / "cli.py").write_text(outer)
    monkeypatch.setattr(memory, "ROOT", tmp_path)
    command = [sys.executable, "-c", CHILD, str(BENCHMARKS), str(tmp_path), inner]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    largest, together = json.loads(ran.stdout)
    assert 200e6 < largest < 240e6
    assert 300e6 < together < 360e6


# in a small process, since the kernel counts from the size of the one that starts a command
CHILD = """
import json, pathlib, sys
sys.path.insert(0, sys.argv[1])
import command_memory
command_memory.ROOT = pathlib.Path(sys.argv[2])
print(json.dumps(command_memory.peak([sys.argv[3]], command_memory.ROOT)))
"""


def test_a_quick_run_of_one_group(tmp_path):
    out = tmp_path / "found.json"
    command = [sys.executable, str(BENCHMARKS / "command_memory.py"), "table", "--quick", "--out", str(out)]
    subprocess.run(command, check=True, cwd=ROOT)
    (group,) = json.loads(out.read_text())["groups"]
    assert [row["command"] for row in group["rows"]] == [
        "data describe table.csv --label class",
        "train table.csv --label class --epochs 1 --out model.h5",
    ]
    for row in group["rows"]:
        assert row["size"][0] > 2500 * 30 * 6  # records, columns, and characters such as 0.1234
        assert row["together"][0] >= row["largest"][0] > row["size"][0]


@pytest.mark.parametrize(
    ("words", "said"),
    [(["date"], "there is no group 'date'; there are data, "), (["--quick"], "give --out FILE")],
)
def test_wrong_arguments_are_refused_by_name(memory, words, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        memory.main(words)
    assert said in capsys.readouterr().err
