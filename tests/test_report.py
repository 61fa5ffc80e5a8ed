"""The report says what the results say, escapes what it is given, fetches nothing and comes out the same twice."""

import copy
import html.parser
import io
import re
import xml.etree.ElementTree as ElementTree

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from rich.console import Console
from scipy import stats

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.report import markdown_table, plots, results_table, verdict, write_html, write_report
from nanoprune.lab.report.plots import interval_ends
from nanoprune.lab.report.table import number, summary_text, table_rows
from nanoprune.lab.report.verdict import change_text, in_words

SEEDS = 5
REFUSAL = "TPR at 0.1% FPR needs at least 1,000 scored non-members, there are 500"
# method: nonzero weights, then train, test and strongest attack in percent
METHODS = {
    "baseline": (83_000, 100.0, 90.3, 62.7),
    "early-stop": (83_000, 94.1, 88.6, 59.4),
    "small-dense": (8_240, 99.2, 87.1, 60.8),
    "minmax": (83_000, 98.0, 89.0, 59.9),
    "prune-0.1": (8_300, 99.5, 88.9, 57.6),
    "prune-0.05": (4_150, 92.4, 84.4, 54.6),
    "prune-0.1+minmax": (8_300, 97.0, 88.2, 56.9),
    "prune-0.05+minmax": (4_150, 90.0, 83.8, 54.0),
}
ATTACKS = {"network": -1.0, "correctness": -3.0, "confidence": 0.0, "entropy": -2.0, "modified_entropy": -0.2}


def summary(values):
    values = np.asarray(values, dtype=float)
    mean = float(values.mean())
    if len(values) == 1:
        return {"mean": mean, "low": None, "high": None, "values": values.tolist()}
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return {"mean": mean, "low": mean - half, "high": mean + half, "values": values.tolist()}


def make_results(seeds=SEEDS):
    rng = np.random.default_rng(0)

    def around(percent, spread=0.006):
        noise = rng.normal(size=seeds)
        return percent / 100 + spread * (noise - noise.mean())  # (seeds,) with exactly this mean

    methods = {}
    for name, (nonzero, train, test, attack) in METHODS.items():
        accuracies = {kind: summary(around(max(attack + less, 50.2))) for kind, less in ATTACKS.items()}
        methods[name] = {
            "weights": 83_000,
            "nonzero": nonzero,
            "compression": 83_000 / nonzero,
            "train_accuracy": summary(around(train, 0.001)),
            "test_accuracy": summary(around(test)),
            "attacks": {
                kind: {
                    "accuracy": accuracy,
                    "accuracy_per_class_threshold": summary(around(attack)) if kind == "confidence" else None,
                    "auc": summary(around(attack + 3)),
                    "tpr_at_fpr": {"0.01": summary(around(2.5, 0.003)), "0.001": None},
                }
                for kind, accuracy in accuracies.items()
            },
            "strongest_attack": "confidence",
            "strongest_attack_accuracy": accuracies["confidence"],
        }
        if name != "baseline":
            for change, figure in (
                ("attack_accuracy_change", "strongest_attack_accuracy"),
                ("test_accuracy_change", "test_accuracy"),
            ):
                methods[name][change] = summary(
                    np.subtract(methods[name][figure]["values"], methods["baseline"][figure]["values"])
                )
        if name.startswith("prune"):
            methods[name]["solver"] = {"status": ["max_iterations"] * seeds}
    return {
        "dataset": "digits",
        "network": "mlp",
        "device": "cpu",
        "precision": "float32",
        "seeds": list(range(seeds)),
        "seconds": 71.2,
        "versions": {"nanoprune": "0.1.0", "python": "3.11.4", "numpy": "2.4.6"},
        "command": "python cli.py reproduce digits",
        "recipe": {"epochs": 60, "admm": {"rho": 0.01, "iterations": 30}, "layers": [64, 256, 256, 10], "lr": None},
        "splits": {"members": 200, "reference": 200, "nonmembers": 1000, "sha256": "ab" * 32},
        "notes": [REFUSAL],
        "methods": methods,
    }


def make_curves(path, methods=METHODS, seeds=SEEDS):
    rng = np.random.default_rng(1)
    fpr = np.logspace(-3, 0, 61)
    with h5py.File(path, "w") as file:
        for name in methods:
            group = file.create_group(name)
            group["loss"] = np.exp(-np.arange(60) / 12) + 0.02 * rng.random((seeds, 60))
            for attack in ATTACKS:
                group[f"roc/{attack}/fpr"] = fpr
                group[f"roc/{attack}/tpr"] = fpr ** (1.85 - METHODS[name][3] / 62.7)
            if name.startswith("prune"):
                steps = np.arange(30)
                wobble = np.exp(0.15 * rng.normal(size=(seeds, 30)))
                group["primal_residual"] = 9 * np.exp(-steps / 6) * wobble + 0.02
                dual = 3 * np.exp(-steps / 9) * wobble
                dual[:, 0] = 0.0  # the first dual residual has no predecessor
                dual[0, 25:] = np.nan  # this seed ended early
                group["dual_residual"] = dual
                group["primal_tolerance"] = np.full((seeds, 30), 0.08)
                group["dual_tolerance"] = np.full((seeds, 30), 0.05)
            if "minmax" in name:
                group["adversary_loss"] = 0.69 - 0.05 * (1 - np.exp(-np.arange(60) / 15)) * rng.random((seeds, 60))


class Page(html.parser.HTMLParser):
    """Collects the tags with their attributes and the text outside <style>; refuses unbalanced tags."""

    VOID = frozenset({"meta", "br", "link", "img"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def results():
    return make_results()


@pytest.fixture(scope="module")
def written(tmp_path_factory, results):
    out = tmp_path_factory.mktemp("report")
    make_curves(out / "curves.h5")
    write_report(results, out)
    return out


@pytest.fixture(scope="module")
def page(written):
    return (written / "report.html").read_text(encoding="utf-8")


def terminal(results, width=160):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(results_table(results))
    return console.file.getvalue()


# The table


def test_the_terminal_table_has_a_row_for_every_method_in_order(results):
    text = terminal(results)
    places = [text.index(f" {name} ") for name in METHODS]
    assert places == sorted(places)
    assert "8,300 (10.0x)" in text
    assert "83,000 (1.0x)" in text
    assert "confidence" in text
    assert "guessing scores 50.0" in text
    assert "5 seeds" in text


def test_eighty_columns_hold_every_name_and_number(results):
    text = terminal(results, width=80)
    for row in markdown_table(results).splitlines()[2 : 2 + len(METHODS)]:
        method, weights, *cells = (cell.strip().replace(" ± ", "±") for cell in row.strip("|").split("|"))
        first, second = weights.split()  # the one cell that takes two lines
        whole = " +".join(map(re.escape, [method, first, *cells]))
        assert re.search(rf"^ {whole} *\n +{re.escape(second)} *$", text, re.MULTILINE)


def test_accuracies_are_percent_with_the_half_width_of_their_interval(results):
    baseline = results["methods"]["baseline"]["strongest_attack_accuracy"]
    half = 100 * (baseline["high"] - baseline["low"]) / 2
    line = next(line for line in markdown_table(results).splitlines() if line.startswith("| baseline |"))
    assert f"| 62.7 ± {half:.1f} |" in line
    assert line.endswith("| confidence | - |")  # the baseline has no change
    change = next(line for line in markdown_table(results).splitlines() if line.startswith("| prune-0.1 |"))
    assert "| -5.1 ± " in change


def test_markdown_is_one_table_of_equal_width(results):
    lines = [line for line in markdown_table(results).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(METHODS)
    assert {line.count("|") for line in lines} == {8}


def test_markdown_cells_cannot_break_the_table(results):
    hostile = {**results, "methods": {"prune|<b>\nx": results["methods"]["prune-0.1"]}}
    row = markdown_table(hostile).splitlines()[2]
    assert row.startswith("| prune\\|&lt;b> x |")


def test_the_terminal_reads_no_markup_in_names(results):
    hostile = {**results, "dataset": "[red]x[/red]", "methods": {"[bold]": results["methods"]["baseline"]}}
    text = terminal(hostile)
    assert "[red]x[/red]" in text
    assert "[bold]" in text


def test_one_seed_shows_means_without_intervals():
    text = markdown_table(make_results(seeds=1))
    assert "One seed: no interval can be given." in text
    assert "±" not in text


@pytest.mark.parametrize(("value", "text"), [(-0.04, "0.0"), (0.0, "0.0"), (5.25, "+5.2"), (-5.14, "-5.1")])
def test_numbers_are_signed_and_never_minus_zero(value, text):
    assert number(value, sign=True) == text


def test_what_is_unknown_is_a_dash():
    assert summary_text(None) == "-"
    assert summary_text({"mean": float("nan"), "low": None, "high": None}) == "-"


# The verdict


def change(mean, low, high, seeds=1):
    return {"mean": mean, "low": low, "high": high, "values": [mean] * seeds}


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        (change(-0.052, -0.073, -0.031), "5.2 points fewer (95% interval 3.1 to 7.3)"),
        (change(0.052, 0.031, 0.073), "5.2 points more (95% interval 3.1 to 7.3)"),
        (change(-0.004, -0.015, 0.007), "no detectable effect (change -0.4 points, 95% interval -1.5 to +0.7)"),
        (change(0.0, -0.01, 0.01), "no detectable effect (change 0.0 points, 95% interval -1.0 to +1.0)"),
        (change(-0.1, None, None), "a change of -10.0 points, on which one seed gives no interval"),
        (change(-0.1, None, None, 2), "a change of -10.0 points, the same in all 2 seeds, which gives no interval"),
        (change(-0.1, -0.1, -0.1, 2), "a change of -10.0 points, the same in all 2 seeds, which gives no interval"),
    ],
)
def test_a_change_is_claimed_only_where_its_interval_excludes_zero(summary, text):
    assert change_text(summary).startswith(text)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("prune-0.1", "Pruning to 10% of the weights"),
        ("prune-0.005+minmax", "Pruning to 0.5% of the weights with the Min-Max game"),
        ("prune-lenet", "Pruning"),
        ("minmax", "The Min-Max game"),
        ("early-stop-3", "Stopping the dense network early"),
        ("dp-sgd", "Dp-sgd"),
    ],
)
def test_methods_have_names_in_words(name, words):
    assert in_words(name) == words


def test_the_verdict_compares_with_the_baseline_and_with_the_controls(results):
    first, count, *rest = verdict(results)
    assert re.search(r"62\.7% accuracy \(95% interval 6\d\.\d to 6\d\.\d\); guessing scores 50\.0%\.$", first)
    assert count == (
        "Of 4 pruned settings, 4 leaked detectably less, 0 showed no detectable effect and 0 leaked detectably more."
    )
    pruned = next(text for text in rest if "(prune-0.1)" in text)
    assert "57.6%, 5.1 points fewer than without defence (95% interval" in pruned
    assert (
        "At about the same test accuracy (88.6% against 88.9%), stopping the dense network early gives 59.4%, "
        "prune-0.1 57.6%: 1.8 points fewer" in pruned
    )
    far = next(text for text in rest if "(prune-0.05)" in text)
    assert "No control comes within 1.0 point of its test accuracy" in far
    assert "the nearest, small-dense, gives 60.8% at test accuracy 87.1%" in far


def test_the_nearest_early_stop_is_the_control(results):
    more = copy.deepcopy(results)
    more["methods"]["early-stop-12"] = copy.deepcopy(more["methods"]["early-stop"])
    more["methods"]["early-stop-12"]["test_accuracy"] = more["methods"]["prune-0.05"]["test_accuracy"]
    far = next(text for text in verdict(more) if "(prune-0.05)" in text)
    assert "At about the same test accuracy (84.4% against 84.4%)" in far


def test_the_verdict_says_when_pruning_leaks_more_or_nothing_is_found(results):
    other = copy.deepcopy(results)
    other["methods"]["prune-0.1"]["attack_accuracy_change"] = change(0.03, 0.01, 0.05)
    other["methods"]["prune-0.05"]["attack_accuracy_change"] = change(0.001, -0.01, 0.012)
    other["methods"]["baseline"]["strongest_attack_accuracy"] = change(0.502, 0.49, 0.514)
    text = verdict(other)
    assert "(95% interval 49.0 to 51.4); guessing scores 50.0%: no leak is detected." in text[0]
    assert "2 leaked detectably less, 1 showed no detectable effect and 1 leaked detectably more" in text[1]


def test_one_seed_allows_no_conclusion():
    text = " ".join(verdict(make_results(seeds=1)))
    assert "accuracy, on which one seed gives no interval and allows no conclusion; guessing scores 50.0%." in text
    assert "detectably" not in text
    assert "fewer" not in text


def equal(summary, width):
    """The mean in every seed; width: the interval of files that were written with one of no width."""
    mean, seeds = summary["mean"], len(summary["values"])
    ends = (mean, mean) if width else (None, None)
    return {"mean": mean, "low": ends[0], "high": ends[1], "values": [mean] * seeds}


@pytest.mark.parametrize("width", [False, True], ids=["written now", "written before"])
def test_equal_values_in_every_seed_show_nothing(results, width):
    """Neither a leak of the baseline nor an effect, in words or in the table; the other methods keep theirs."""
    same = copy.deepcopy(results)
    baseline, pruned = same["methods"]["baseline"], same["methods"]["prune-0.1"]
    baseline["strongest_attack_accuracy"] = equal(baseline["strongest_attack_accuracy"], width)
    for kind in ("attack", "test"):
        pruned[f"{kind}_accuracy_change"] = equal(pruned[f"{kind}_accuracy_change"], width)
    first, count, *rest = verdict(same)
    reason = f"the same in all {SEEDS} seeds, which gives no interval and allows no conclusion"
    assert first.endswith(f"62.7% accuracy, {reason}; guessing scores 50.0%.")
    assert count == (
        "Of 4 pruned settings, 3 leaked detectably less, 0 showed no detectable effect and 0 leaked detectably more; "
        "1 changed alike in every seed, which gives no interval."
    )
    text = next(text for text in rest if "(prune-0.1)" in text)
    assert f"the strongest attack reaches 57.6%, a change of -5.1 points, {reason}." in text
    rows = {row[0]: row for row in table_rows(same)}
    assert (rows["baseline"][4], rows["prune-0.1"][-1]) == ("62.7", "-5.1")
    assert "±" in rows["prune-0.05"][-1]
    assert "figure without ± is the same in every seed" in markdown_table(same)
    assert "figure without ±" not in markdown_table(results)
    assert interval_ends(baseline["strongest_attack_accuracy"]) == pytest.approx((62.7, 62.7))


# The files


def test_every_plot_and_the_page_are_written_and_nothing_else(written):
    names = {"accuracy.svg", "accuracy.png", "roc.svg", "residuals.svg", "adversary.svg", "report.html", "curves.h5"}
    assert {path.name for path in written.iterdir()} == names
    assert 'id="training"' in (written / "report.html").read_text(encoding="utf-8")


def test_the_same_results_make_the_same_bytes(written, results, tmp_path):
    make_curves(tmp_path / "curves.h5")
    write_report(results, tmp_path)
    write_html(results, tmp_path / "curves.h5", tmp_path / "alone.html")
    for path in written.iterdir():
        assert path.suffix == ".h5" or path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name
    assert (tmp_path / "alone.html").read_bytes() == (tmp_path / "report.html").read_bytes()


@pytest.mark.parametrize("name", ["accuracy", "roc", "residuals", "adversary"])
def test_drawings_are_well_formed_and_undated(written, name):
    text = (written / f"{name}.svg").read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "<metadata>" not in text
    assert "nan" not in re.findall(r' d="([^"]*)"', text)


def test_without_pruning_or_a_game_there_is_no_plot_of_them(results, tmp_path):
    kept = {name: results["methods"][name] for name in ("baseline", "early-stop")}
    make_curves(tmp_path / "curves.h5", kept)
    write_report({**results, "methods": kept, "notes": []}, tmp_path)
    assert {path.stem for path in tmp_path.glob("*.svg")} == {"accuracy", "roc"}
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'id="training"' not in html
    assert "Notes and refusals" not in Page(html).text


def test_a_report_without_curves_still_has_its_tables(results, tmp_path):
    with h5py.File(tmp_path / "curves.h5", "w"):
        pass
    write_report(results, tmp_path)
    assert {path.stem for path in tmp_path.glob("*.svg")} == {"accuracy"}


def test_missing_curves_and_missing_results_are_named(results, tmp_path):
    with pytest.raises(DataError, match=r"curves\.h5"):
        write_report(results, tmp_path)
    with pytest.raises(DataError, match="splits"):
        write_report({key: value for key, value in results.items() if key != "splits"}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_kinds_of_picture_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match=r"got \.pdf"):
        plots.save(Figure(), tmp_path / "plot.pdf")
    assert list(tmp_path.iterdir()) == []


def test_labels_of_the_accuracy_plot_name_every_method_and_do_not_overlap(results):
    figure = plots.accuracy_plot(results)
    axes = figure.axes[0]
    notes = [note for note in axes.texts if note.get_text() in METHODS]
    assert {note.get_text() for note in notes} == set(METHODS)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(note) for note in notes]  # an annotation's own extent holds its line and point too
    shared = [plots.overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert max(shared) == 0


# The page


def test_the_page_is_well_formed_and_names_every_method(page, results):
    text = Page(page).text
    for name in METHODS:
        assert name in text
    for paragraph in verdict(results):
        assert paragraph in text
    assert "62.7 ± " in text
    assert "8,300 (10.0x)" in text
    assert "python cli.py reproduce digits" in text
    assert "ab" * 32 in text
    assert "admm.rho 0.01" in text
    assert "64, 256, 256, 10" in text
    assert "prune-0.1: max_iterations in 5 of 5 seeds" in text
    assert text.index("Verdict") < text.index("Results") < text.index("Every attack")


def test_the_page_fetches_nothing_and_runs_nothing(page):
    parsed = Page(page)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(parsed.tags)
    assert "@import" not in page
    for target in re.findall(r"url\(([^)]*)\)", page):
        assert target.startswith("#")
    for name, value in parsed.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "action"):
            assert value.startswith("#")
        if not name.startswith("xmlns"):
            assert "://" not in (value or "")
        assert not name.startswith("on")


def test_every_plot_has_words_and_identifiers_of_its_own(page):
    parsed = Page(page)
    assert parsed.tags.count("svg") == 4
    assert parsed.attributes.count(("role", "img")) == 4
    alt = next(value for name, value in parsed.attributes if name == "aria-label" and "baseline 62.7" in value)
    assert "prune-0.05+minmax 54.0" in alt
    identifiers = [value for name, value in parsed.attributes if name == "id"]
    assert len(identifiers) == len(set(identifiers))
    targets = {value[1:] for name, value in parsed.attributes if name == "xlink:href"}
    assert targets <= set(identifiers)


def test_a_rate_that_could_not_be_measured_is_refused_in_words(page):
    text = Page(page).text
    assert "TPR % at 1% FPR" in text
    assert "TPR % at 0.1% FPR" in text
    assert text.count("refused") == 1 + len(METHODS) * len(ATTACKS)  # the caption explains, each cell says it
    assert REFUSAL in text


def test_hostile_text_is_escaped(results, tmp_path):
    bad = '<script>alert("1")</script>'
    hostile = {**copy.deepcopy(results), "dataset": bad, "notes": [bad], "command": bad, "recipe": {bad: {bad: bad}}}
    hostile["methods"] = {bad + "$x_{$": results["methods"]["prune-0.05"], **results["methods"]}
    hostile["splits"] = {"sha256": bad}
    make_curves(tmp_path / "curves.h5")
    write_report(hostile, tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    parsed = Page(text)
    assert "script" not in parsed.tags
    assert "<script" not in text
    assert bad in parsed.text


def test_one_seed_is_reported_without_intervals(tmp_path):
    make_curves(tmp_path / "curves.h5", seeds=1)
    write_report(make_results(seeds=1), tmp_path)
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "1 seed, float32 on cpu" in text
    assert not re.search(r"\d ± \d", text)
