"""Commands with unusable folders and arguments: errors are one line, and other files are not overwritten."""

import itertools
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.optimize import brentq
from scipy.stats import norm

import cli
from nanoprune.errors import ArgumentError
from nanoprune.lab.commands import common
from nanoprune.lab.data.catalogue import NAMES
from nanoprune.lab.models.model import load_model
from nanoprune.lab.privacy.accounting import Phase, epsilon, epsilon_rdp, noise_for

ROOT = pathlib.Path(__file__).parents[1]
linux = pytest.mark.skipif(sys.platform != "linux", reason="devices and limits as Linux has them")
TINY = ["--members", 60, "--reference", 40, "--nonmembers", 60, "--threads", 1]


def run(*arguments, **options):
    return CliRunner().invoke(cli.main, [str(a) for a in arguments], **options)


def as_process(*arguments, env=None, program=None, **options):
    words = [sys.executable, *(["-c", program] if program else [str(ROOT / "cli.py")]), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | (env or {})
    return subprocess.run(
        words, capture_output="stdout" not in options, env=environment, timeout=120, check=False, **options
    )


def refused(result, *words):
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr
    return True


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    out = tmp_path_factory.mktemp("m") / "m.h5"
    assert run("train", "digits", *TINY, "--epochs", 4, "--out", out).exit_code == 0
    return out


QUICK = ["--epochs", 2, "--iterations", 2, "--retrain-epochs", 1, "--threads", 1]


@pytest.fixture(scope="module")
def pruned(model):
    out = model.with_name("p.h5")
    assert run("prune", model, "--keep", 0.1, *QUICK, "--out", out).exit_code == 0
    return out


@pytest.fixture
def scores(tmp_path):
    rng = np.random.default_rng(0)
    probs = rng.dirichlet([1, 1, 1], 40)
    path = tmp_path / "scores.npz"
    member = np.arange(40) < 20
    np.savez(path, target_probs=probs, target_labels=rng.integers(0, 3, 40), target_member=member)
    return path


# --- nothing is overwritten without --overwrite ----------------------------------------------------------------------


def kept(path, *arguments):
    path.write_text("PRECIOUS")
    assert refused(run(*arguments), path.name, "already exists; --overwrite")
    assert path.read_text() == "PRECIOUS"


def test_files_are_overwritten_only_with_overwrite(model, scores, tmp_path):
    kept(tmp_path / "s.h5", "shrink", model, "--out", tmp_path / "s.h5")
    kept(tmp_path / "a.json", "audit", scores, "--json", tmp_path / "a.json")
    kept(tmp_path / "a.html", "audit", scores, "--report", tmp_path / "a.html")
    kept(tmp_path / "t.json", "attack", model, "--json", tmp_path / "t.json")
    kept(tmp_path / "p.json", "prune", model, "--keep", 0.5, "--out", tmp_path / "p.h5", "--json", tmp_path / "p.json")
    kept(tmp_path / "i.h5", "import", scores, "--network", "resnet18", "--out", tmp_path / "i.h5")
    assert run("shrink", model, "--out", tmp_path / "s.h5", "--overwrite").exit_code == 0
    assert load_model(tmp_path / "s.h5").net.output_shape == (10,)


@pytest.mark.parametrize("name", ["report.html", "curves.h5", "roc.svg", "accuracy.png"])
def test_reproduce_overwrites_no_other_files(name, tmp_path):
    (tmp_path / name).write_text("PRECIOUS")
    assert refused(run("reproduce", "digits", "--seeds", 1, "--out", tmp_path), name, "--overwrite replaces it")
    assert (tmp_path / name).read_text() == "PRECIOUS"


@pytest.mark.parametrize("content", ["", "{}\n", "[]"])
def test_a_file_that_holds_nothing_may_be_replaced(content, scores, tmp_path):
    """It is often made first to set its permissions."""
    path = tmp_path / "a.json"
    path.write_text(content)
    path.chmod(0o600)
    assert run("audit", scores, "--json", path, "--threads", 1).exit_code == 0
    assert json.loads(path.read_text())["members"] == 20
    assert path.stat().st_mode & 0o777 == 0o600


# --- pruned again, or pruned away ------------------------------------------------------------------------------------


def test_pruning_again_never_gives_pruned_weights_back(pruned, tmp_path):
    out = tmp_path / "q.h5"
    assert refused(
        run("prune", pruned, "--keep", 0.5, *QUICK, "--out", out),
        "keep: dense1 has 1,638 of 16,384",
        "keep at most 0.0999,",
    )
    assert not out.exists()
    assert refused(run("prune", pruned, "--keep", 0.5, "--scope", "global", *QUICK, "--out", out), "the network has")
    assert run("prune", pruned, "--keep", 0.05, *QUICK, "--out", out).exit_code == 0
    before, after = (np.asarray(load_model(path).net.nonzero())[0] for path in (pruned, out))
    assert after <= before / 2


def test_a_fully_pruned_layer_causes_no_division_by_zero(model, tmp_path):
    out, small = tmp_path / "p.h5", tmp_path / "s.h5"
    result = run(
        "prune", model, "--scope", "global", "--keep", 0.00004, *QUICK, "--out", out
    )  # 2 of three layers' weights
    assert result.exit_code == 0, result.output
    assert "has no weight left" in result.stderr
    assert "0 (none left)" in result.stdout
    result = run("shrink", out, "--out", small)
    assert result.exit_code == 0, result.output
    nets = [load_model(path).net for path in (out, small)]
    x = np.random.default_rng(0).random((1, 64, 5)).astype(np.float32)
    from nanoprune.nn import Workspace

    one, other = (np.array(net.forward(x, Workspace(training=False))) for net in nets)
    np.testing.assert_allclose(one, other, atol=1e-5)


# --- DP-SGD's budget -------------------------------------------------------------------------------------------------


def exact(mu: float, delta: float) -> float:
    """Epsilon of a Gaussian mechanism with sensitivity / sigma = mu: Balle & Wang 2018, theorem 8, in log space."""

    def excess(eps):
        logs = norm.logcdf(mu / 2 - eps / mu), eps + norm.logcdf(-mu / 2 - eps / mu)
        return logs[0] + math.log1p(-math.exp(logs[1] - logs[0])) - math.log(delta)

    return brentq(excess, 1e-9, 1e4)


@pytest.mark.parametrize("delta", [1e-5, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-15, 1e-20, 1e-100])
@pytest.mark.parametrize(("noise", "steps"), [(1.0, 10), (5.0, 40), (0.4, 1), (100.0, 10_000), (50.0, 10_000)])
def test_epsilon_is_never_below_the_exact_value_however_small_delta_is(noise, steps, delta):
    """10 steps with noise 1 are one Gaussian mechanism of mu = sqrt(10): 17.8566 at 1e-5, 29.6135 at 1e-15."""
    truth, ours = exact(math.sqrt(steps) / noise, delta), epsilon([Phase(1.0, noise, steps)], delta)
    assert truth * (1 - 1e-9) <= ours <= epsilon_rdp([Phase(1.0, noise, steps)], delta)
    assert ours <= 1.2 * truth
    if (noise, delta) == (1.0, 1e-15):
        assert truth == pytest.approx(29.6135, abs=1e-4)


@pytest.mark.parametrize("noise", [0.0, 1e-300, 1e-7, 1e-3, 0.05, 1.0, 1e3, 1e300])
@pytest.mark.parametrize("delta", [1e-320, 1e-5, 0.999999])
def test_extreme_noise_and_delta_have_an_epsilon_that_falls_with_both(noise, delta):
    ours = epsilon([Phase(0.1, noise, 30)], delta)
    assert ours >= 0
    assert ours <= epsilon([Phase(0.1, noise / 2, 30)], delta) * (1 + 1e-9) or math.isinf(ours)
    assert ours <= epsilon([Phase(0.1, noise, 30)], delta / 10) * (1 + 1e-3) + 1e-6 or math.isinf(ours)


@pytest.mark.parametrize(
    ("target", "delta"), [*itertools.product([1e-30, 0.5, 8.0, 1e30], [1e-320, 1e-15, 1e-5, 0.999999])]
)
def test_the_noise_for_a_target_is_found_or_refused_naming_it(target, delta):
    phases = [Phase(0.1, 0.0, 30)]
    if target in (1e-30, 1e30) or delta == 0.999999 or (target, delta) == (0.5, 1e-320):  # noise out of 0.05 to 1e4
        with pytest.raises(ArgumentError, match=re.escape(f"epsilon {target:g} ")):
            noise_for(target, delta, phases)
    else:
        assert 0.99 * target <= epsilon([Phase(0.1, noise_for(target, delta, phases), 30)], delta) <= target


def test_the_command_says_by_what_a_bound_is_and_never_that_there_is_no_noise():
    sizes = ("epsilon", "--records", 1000, "--batch", 1000, "--epochs", 10)
    small = run(*sizes, "--noise", 1, "--delta", 1e-15).stdout
    assert "by RDP, the tighter bound here" in small
    assert "no noise" not in small
    assert 29.61 <= float(small.splitlines()[-1]) <= 30.6
    assert "by PLD: " in run(*sizes, "--noise", 1).stdout
    assert "so little noise" in run(*sizes, "--noise", 1e-300).stdout


@pytest.mark.parametrize(("delta", "warned"), [(0.1, True), (0.005, True), (0.0049, False), (1e-5, False)])
def test_a_delta_of_one_of_n_or_more_is_warned_of(delta, warned, tmp_path):
    found = run("epsilon", "--records", 200, "--batch", 20, "--epochs", 3, "--noise", 1, "--delta", delta)
    assert ("too large for 200 records" in found.stderr) == warned
    options = ["--members", 200, "--epochs", 3, "--epsilon", 2, "--delta", delta, "--threads", 1]
    found = run("train", "digits", *options, "--out", tmp_path / "m.h5")
    assert ("too large for 200 records" in found.stderr) == warned


# --- streams, folders, environments ----------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize("words", [["info", "resnet18"], ["--help"], ["completion", "bash"]])
def test_standard_output_that_is_full_is_one_line(words):
    with open("/dev/full", "w") as full:
        done = as_process(*words, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.decode() == "error: No space left on device\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16"])
def test_any_encoding_of_standard_output_will_do(encoding):
    done = as_process("info", "lenet-5", env={"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    assert "conv1" in done.stdout.decode(encoding)


@linux
@pytest.mark.parametrize("words", [["info", "lenet-5"], ["train", "digits", "--epochs", 1, "--out", "m.h5"]])
def test_a_missing_working_folder_is_one_line_or_ignored(words, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    program = "import os, sys; import cli; os.rmdir(os.getcwd()); cli.main()"
    done = as_process(*words, program=program, cwd=gone)
    said = done.stderr.decode()
    assert "Traceback" not in said
    assert (done.returncode, said) == (0, "") or (done.returncode == 2 and said.count("\n") == 1)


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_a_narrow_terminal_loses_no_word_and_no_number(columns):
    flat = "".join(as_process("info", "lenet-5", env={"COLUMNS": str(columns)}).stdout.decode().split())
    for word in ("layer", "conv1", "dense2", "flatten", "25,000", "400,000", "1.6M", "2.293M"):
        assert word in flat


@linux
def test_matplotlibrc_and_other_backends_are_ignored(tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nlines.linewidth: 9\n")
    os.mkfifo(tmp_path / "fifo")
    program = (
        "import nanoprune.lab.report, matplotlib, os; "
        "print(matplotlib.rcParams['text.usetex'], matplotlib.rcParams['lines.linewidth'], os.getcwd())"
    )
    environment = {"MPLBACKEND": "bogus", "MPLCONFIGDIR": "/proc/none"}
    done = as_process(program=program, cwd=tmp_path, env=environment)
    assert done.stderr.decode() == ""
    assert done.stdout.decode().split() == ["False", "1.5", str(tmp_path)]
    (tmp_path / "matplotlibrc").unlink()
    (tmp_path / "fifo").rename(tmp_path / "matplotlibrc")  # a reader would wait for ever
    assert as_process(program=program, cwd=tmp_path, env=environment).returncode == 0


def test_settings_that_a_notebook_has_made_stay():
    program = (
        "import matplotlib; matplotlib.rcParams['lines.linewidth'] = 7; "
        "import nanoprune.lab.report; print(matplotlib.rcParams['lines.linewidth'])"
    )
    assert as_process(program=program).stdout == b"7.0\n"


# --- arguments and help ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], ["train"]),
        (["train", "mnits", "--out", "m.h5"], ["did you mean mnist"]),
        (["train", "nothing", "--out", "m.h5"], ["there are digits, mnist"]),
        (["info", "resnet81"], ["did you mean resnet18"]),
        (["prune", "m.h5", "--kep", "1"], ["--keep"]),
        (["train", "digits", "--out", "m.h5", "--threads", "100000"], ["100000 threads on"]),
        (["reproduce", "digits", "--seeds", "1000000"], ["--seeds"]),
        (["reproduce", "digits", "--first-seed", "1000000000000001"], ["--first-seed"]),
        (["train", "\x1b]0;pwn\x07", "--out", "m.h5"], [r"\x1b]0;pwn\x07"]),
        (["info", "no\x1b[31m.h5"], [r"\x1b[31m"]),
    ],
)
def test_mistaken_arguments_are_one_line_that_helps(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert refused(result, *said)
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize(("mean", "std"), [("123.675,116.28,103.53", "58.395,57.12,57.375"), ("-0.1,0,0", "1,1,1")])
def test_means_that_no_image_in_0_to_1_has_are_refused(mean, std, tmp_path):
    words = ["import", "w.safetensors", "--network", "mobilenetv2", "--mean", mean, "--std", std]
    assert refused(run(*words, "--out", tmp_path / "m.h5"), "images are in [0, 1]")


def every_command(command=cli.main, words=()):
    """Each command with the words that call it; those of groups too."""
    yield list(words)
    for name, inner in getattr(command, "commands", {}).items():
        yield from every_command(inner, (*words, name))


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
@pytest.mark.parametrize(
    ("called", "shown"),
    [
        ("/usr/bin/nanoprune", "nanoprune"),
        ("cli.py", "python cli.py"),
        ("nanoprune/__main__.py", "python -m nanoprune"),
    ],
)
def test_every_help_shows_defaults_and_the_name_that_was_called(words, called, shown, monkeypatch):
    """What a reader sees: a default or [required] for each option with a value, and no other name of the program."""
    monkeypatch.setattr(sys, "argv", [called])
    monkeypatch.setenv("COLUMNS", "120")
    text = CliRunner().invoke(cli.main, [*words, "--help"], prog_name=shown).stdout
    assert text.startswith(f"Usage: {' '.join([shown, *words])} ")
    assert shown == "python cli.py" or "cli.py" not in text
    assert "{datasets}" not in text
    options = text.partition("\nOptions:\n")[2].partition("\n\n")[0]
    for option in re.split(r"\n(?=  -)", options):
        takes_value = re.match(r"  (-\w, )?--[\w-]+ [^ ]", option)
        assert not takes_value or re.search(r"\[(default:|this or|.*required)", option.replace("\n", " ")), option
    if words and words[-1] in ("train", "reproduce"):
        assert all(name in text for name in NAMES)


def test_no_help_is_lost_where_docstrings_are():
    for words in every_command():
        command = cli.main
        for word in words:
            command = command.commands[word]
        assert command.get_short_help_str()
        assert not command.callback.__doc__, f"{words}: its help is a docstring, which python -OO drops"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data", "fetch", "mnits"], "did you mean mnist"),
        (["data", "fecth", "mnist"], "fetch"),
        (["reproduce", "dgits"], "did you mean digits"),
        (["prune", "m.h5", "--data", "location3", "--keep", "0.1", "--out", "p.h5"], "did you mean location30"),
        (["attack", "m.h5", "--data", "cifar11"], "did you mean cifar10"),
        (["import", "w.safetensors", "--network", "resnet81", "--out", "m.h5"], "did you mean resnet18"),
        (["import", "w.safetensors", "--data", "minst", "--out", "m.h5"], "did you mean mnist"),
        (["attack", "m.h5", "--attacks", "lira,bavria"], "did you mean bavaria"),
        (["train", "mnist", "--network", "lenet5", "--out", "m.h5"], "did you mean lenet-5"),
        (["export", "m.h5", "--to", "onxx", "--out", "m.onnx"], "did you mean onnx"),
        (["export", "m.h5", "--to", "onnx", "--weights", "pakced", "--out", "m.onnx"], "did you mean packed"),
    ],
)
def test_mistyped_names_are_told_what_they_may_mean(words, said):
    assert refused(run(*words), said)


def test_errors_say_the_name_that_was_called(tmp_path):
    program = "import sys; sys.argv[0] = '/usr/bin/nanoprune'; import cli; cli.main()"
    done = as_process("train", "mnist", "--data-dir", tmp_path, "--out", tmp_path / "m.h5", program=program)
    assert b"run 'nanoprune data fetch mnist'" in done.stderr
    assert b"cli.py" not in done.stderr


def test_help_needs_no_docstrings():
    done = as_process("--help", env={"PYTHONOPTIMIZE": "2"})
    assert "audit       Audit the predictions" in done.stdout.decode()
    assert b"target_member" in as_process("audit", "--help", env={"PYTHONOPTIMIZE": "2"}).stdout
    assert b"Usage: python cli.py" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_names_of_data_sets_and_networks(shell):
    assert "_NANOPRUNE_COMPLETE" in run("completion", shell).stdout
    program = "import sys; sys.argv[0] = 'nanoprune'; import cli; cli.main(prog_name='nanoprune')"
    for words, names in (
        ("nanoprune train m", "mnist"),
        ("nanoprune info resn", "resnet18"),
        ("nanoprune tra", "train"),
        ("nanoprune reproduce loc", "location30"),
        ("nanoprune data fetch cifar1", "cifar100"),
        ("nanoprune prune m.h5 --data dig", "digits"),
        ("nanoprune import w.safetensors --network mob", "mobilenetv2"),
        ("nanoprune train mnist --network len", "lenet-300-100"),
        ("nanoprune export m.h5 --to saf", "safetensors"),
        ("nanoprune attack m.h5 --attacks lira,bav", "lira,bavaria_online"),
        ("nanoprune train mine.n", "file"),  # a data set may be a file: the shell completes it
    ):
        asked = {"_NANOPRUNE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        assert names in as_process(program=program, env=asked).stdout.decode()


@pytest.mark.parametrize(
    ("words", "recorded"),
    [
        (["reproduce", "digits", "--keep-file=/secret/keep.json"], "nanoprune reproduce digits --keep-file=keep.json"),
        (
            ["reproduce", "digits", "--keep-file", "/secret/keep.json"],
            "nanoprune reproduce digits --keep-file keep.json",
        ),
        (["audit", "s.npz", "--json=/secret/a.json", "--overwrite"], "nanoprune audit s.npz"),
        (["audit", "s.npz", "--json", "/secret/a.json", "--seed", "3"], "nanoprune audit s.npz --seed 3"),
    ],
)
def test_the_recorded_command_can_be_repeated_and_says_nothing_of_folders(words, recorded, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["nanoprune", *words])
    assert common.command() == recorded


def test_where_there_is_no_terminal_progress_is_a_line_every_30_seconds(monkeypatch, capsys):
    from nanoprune.lab.engine import progress as bars

    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(bars.time, "monotonic", lambda: float(next(clock)))
    with bars.ProgressBars() as progress:
        progress.start("train mlp", 100)
        for _ in range(7):
            progress.advance()
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 3
    assert all(line.startswith("train mlp: ") and " of 100, " in line and line.endswith(" left") for line in lines)


def test_a_step_that_takes_long_is_seen_to_go_on(monkeypatch, capsys):
    """A line by the timer, though the work says nothing; and none once the bars are gone."""
    from nanoprune.lab.engine import progress as bars

    monkeypatch.setattr(bars, "PERIOD", 0.1)
    with bars.ProgressBars() as progress:
        progress.start("measure", 5)
        progress.advance()
        until = time.monotonic() + 10
        while time.monotonic() < until and len(lines := capsys.readouterr().err.splitlines()) < 1:
            time.sleep(0.25)
    assert lines
    assert all(line.startswith("measure: 1 of 5, 0:0") for line in lines)
    capsys.readouterr()
    time.sleep(0.3)
    assert capsys.readouterr().err == ""
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
