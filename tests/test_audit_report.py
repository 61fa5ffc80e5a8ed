"""The audit's report says what the results say and no more, in words, in a table and on a page that fetches nothing."""

import copy
import html
import io
import re

import browsing
import numpy as np
import pytest
from rich.console import Console
from test_report import Page

from nanoprune.lab.report import audit_table, audit_verdict, write_audit_page

ATTACKS = {"confidence": 0.62, "modified_entropy": 0.68, "lira_online": 0.66, "network": 0.6}
REFUSAL = "tpr_at_fpr 0.001: needs at least 1,000 non-members, there are 500"


def around(value, half=0.02):
    return {"value": value, "low": value - half, "high": value + half}


def make_results():
    attacks = {
        name: {
            "accuracy": around(accuracy),
            "accuracy_per_class_threshold": around(accuracy - 0.01) if name == "confidence" else None,
            "auc": around(accuracy + 0.03),
            "tpr_at_fpr": {"0.01": around(accuracy - 0.55, 0.01), "0.001": None},
            "epsilon_lower_bound": 10 * (accuracy - 0.5) + 0.0099,
        }
        for name, accuracy in ATTACKS.items()
    }
    return {
        "members": 400,
        "nonmembers": 500,
        "classes": 12,
        "train_accuracy": 0.98,
        "test_accuracy": 0.71,
        "alpha": 0.05,
        "seed": 3,
        "fitted_on": "shadow",
        "bonferroni_divisor": 3,
        "attacks": attacks,
        "strongest": {
            "attack": "modified_entropy",
            "per_class": False,
            "candidates": 5,
            "accuracy": around(0.68, 0.03),
            "tail": {},
        },
        "verdict": {"degree": "clear", "sentences": ["Degree: clear leak.", "Of 100 records that an attacker accuses"]},
        "per_class": {str(c): {"members": 40, "nonmembers": 50, "auc": around(0.6 + c / 100, 0.08)} for c in range(10)},
        "worst_class": "9",
        "most_exposed": [
            {"row": 4321, "label": 7, "score": 12.5, "false_positive_rate": 0.0},
            {"row": 17, "label": 2, "score": 11.5, "false_positive_rate": 0.002},
        ],
        "discoveries": {
            "fdr": 0.05,
            "count": 1201,
            "records": [{"row": row, "label": 1, "p_value": 0.002} for row in range(5000, 6000)],
        },
        "refused": [REFUSAL],
        "validity": [
            {"name": "duplicates", "outcome": "passed", "found": "no record is both"},
            {"name": "labels", "outcome": "passed", "found": "p = 0.6"},
        ],
        "versions": {"nanoprune": "0.2.0", "numpy": "2.0.0"},
        "seconds": 1.25,
        "source": {"name": "scores.npz", "sha256": "cd" * 32},
        "command": "python cli.py audit scores.npz --seed 3",
        "groups": {"unknown": 1},
    }


def make_curves(attacks=ATTACKS):
    fpr = np.logspace(np.log10(1 / 500), 0, 61)
    curves = {}
    for name in attacks:
        tpr = np.where(fpr < 0.005, 0.0, fpr**0.6)  # a log scale cannot show where no member is found
        curves[name] = {"fpr": fpr, "tpr": tpr, "low": 0.7 * tpr, "high": np.minimum(1.3 * tpr + 0.01, 1)}
    return curves


def with_check(outcome, found, name="duplicates"):
    results = make_results()
    results["validity"].append({"name": name, "outcome": outcome, "found": found})
    return results


def with_accuracy(low, high, epsilon=0.0):
    results = make_results()
    results["strongest"]["accuracy"] = {"value": (low + high) / 2, "low": low, "high": high}
    for attack in results["attacks"].values():
        attack["epsilon_lower_bound"] = epsilon
    for entry in results["per_class"].values():  # no class shows anything
        entry["auc"] = around(0.5, 0.08)
    return results


def write(results, path, curves=None):
    write_audit_page(results, make_curves() if curves is None else curves, path)
    return path.read_text(encoding="utf-8")


def terminal(results, width=80):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(audit_table(results))
    return console.file.getvalue()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write(make_results(), tmp_path_factory.mktemp("audit") / "audit.html")


# The verdict


def test_the_verdict_begins_with_whether_the_model_leaks_and_all_that_shows_it():
    assert audit_verdict(make_results())[0] == (
        "This model gives away who was in its training data: over all records an attacker classifies 68.0% "
        "correctly, guessing 50.0%; members are distinguished within 10 of 10 classes, best in class 9 (AUC 0.690, "
        "guessing 0.500); training was not differentially private for any epsilon below 1.80. These statements hold "
        "jointly with 95% confidence."
    )


def test_the_strongest_attack_is_said_beside_its_chance_floor():
    second = audit_verdict(make_results())[1]
    assert second.startswith(
        "The strongest attack (modified entropy; the best of 5 rules on the attacker's own records) distinguishes "
        "members from non-members with 68.0% balanced accuracy"
    )
    assert "95% interval 65.0 to 71.0, adjusted for 3 kinds of evidence" in second
    assert "guessing scores 50.0%." in second
    assert "Of 100 records, half of them members, it classifies about 68 correctly; guessing 50." in second


def test_thresholds_of_each_class_are_named():
    results = make_results()
    results["strongest"] |= {"attack": "confidence", "per_class": True}
    assert "(confidence, one threshold per class; the best" in audit_verdict(results)[1]


def test_attacks_that_were_chosen_apart_are_both_named():
    results = make_results()
    results["strongest"]["chosen"] = [{"attack": name, "per_class": name == "network"} for name in ("loss", "network")]
    assert "(loss; on the other half network, one threshold per class; the best" in audit_verdict(results)[1]
    results["strongest"]["chosen"] = [{"attack": "loss", "per_class": False}] * 2
    assert "(loss; the best" in audit_verdict(results)[1]


def test_without_a_random_split_there_is_no_word_of_epsilon_but_the_reason():
    results = with_accuracy(0.48, 0.55)
    for attack in results["attacks"].values():
        attack["epsilon_lower_bound"], attack["epsilon_with_delta"] = None, None
    results["refused"] = ["bounds on epsilon: membership was not drawn at random"]
    *text, refused = audit_verdict(results)
    assert "epsilon" not in " ".join(text)
    assert "private" not in " ".join(text)
    assert "not drawn at random" in refused
    assert text[0].startswith("No leak is detected.")
    assert terminal(results)


def test_bounds_at_a_delta_are_told_with_what_they_are_for():
    results = make_results()
    for size, attack in enumerate(results["attacks"].values()):
        attack["epsilon_with_delta"] = {"delta": 1e-5, "any": 0.505 + size / 10, "gaussian": 1.009 + size / 10}
    text = " ".join(audit_verdict(results))
    assert (
        "At delta 1e-05 the bound is 0.80; for training whose trade-off curve is that of the Gaussian mechanism" in text
    )
    assert "it is 1.30." in text
    runs = {"value": 0.509, "delta": 1e-5, "neighbours": "one member replaced by another", "row": 12, "models": 40}
    text = " ".join(audit_verdict(results | {"epsilon_of_runs": runs}))
    assert "From 80 shadow models and record 12, the recipe's epsilon at delta 1e-05 is at least 0.50, with one" in text
    assert "shadow models" not in " ".join(audit_verdict(results | {"epsilon_of_runs": runs | {"value": 0.0}}))


def test_no_leak_detected_is_not_no_leak():
    first, *others = audit_verdict(with_accuracy(0.48, 0.55))
    assert first == (
        "No leak is detected. Not distinguishable from chance: all records together (an attacker classifies 51.5% "
        "correctly, guessing 50.0%); any single class (the highest is class 9: AUC 0.500, guessing 0.500); a bound on "
        "epsilon above 0. These statements hold jointly with 95% confidence. This does not prove that there is no "
        "leak: over all records the accuracy may be up to 55.0%, and a stronger attack may find more."
    )
    assert "gives away" not in " ".join(others)
    assert "No attack gives a lower bound on epsilon above 0. That does not prove differential privacy." in others[1]


def test_chance_must_lie_below_the_interval_not_at_its_end():
    results = with_accuracy(0.5, 0.56)
    for entry in results["per_class"].values():
        entry["auc"] = {"value": 0.6, "low": 0.5, "high": 0.7}
    assert audit_verdict(results)[0].startswith("No leak is detected.")


def seen_in_a_class(results):
    results["per_class"]["9"]["auc"] = around(0.69, 0.1)


def seen_by_epsilon(results):
    results["attacks"]["network"]["epsilon_lower_bound"] = 0.8


@pytest.mark.parametrize(
    ("leak", "seen", "unseen"),
    [
        (seen_in_a_class, "distinguished within 1 of 10 classes, best in class 9 (AUC 0.690", "epsilon above 0"),
        (seen_by_epsilon, "not differentially private for any epsilon below 0.80", "any single class"),
    ],
)
def test_one_sign_is_enough(leak, seen, unseen):
    """Where all records together show nothing, a class or the bound on epsilon may."""
    results = with_accuracy(0.48, 0.55)
    leak(results)
    shown, other = audit_verdict(results)[0].split("Not distinguishable from chance: ")
    assert shown.startswith("This model gives away who was in its training data: ")
    assert seen in shown
    assert "all records together (an attacker classifies 51.5% correctly" in other
    assert unseen in other
    assert "No leak" not in " ".join(audit_verdict(results))


def test_a_bound_that_is_less_than_a_hundredth_is_no_sign():
    assert audit_verdict(with_accuracy(0.48, 0.55, epsilon=0.009))[0].startswith("No leak is detected.")


def test_worse_than_guessing_points_at_the_data():
    results = with_accuracy(0.4, 0.45)
    results["per_class"]["3"]["auc"] = around(0.3, 0.1)
    first = audit_verdict(results)[0]
    assert first.startswith("Worse than guessing: all records together, class 3. That points to a fault in the data")
    assert "is the member column the wrong way round?" in first
    assert "Worse" not in audit_verdict(with_accuracy(0.45, 0.5))[0]


def test_a_void_audit_says_so_first_and_concludes_nothing():
    results = with_check("void", "3 records are there as members and as non-members")
    text = audit_verdict(results)
    assert text[0].startswith("This audit is void: duplicates: 3 records are there as members and as non-members.")
    assert "68.0%" in text[1]
    for conclusion in ("Not disting", "No leak", "gives away", "private", "most exposed class"):
        assert conclusion not in " ".join(text)
    assert "(void)" in terminal(results)


def test_the_members_found_are_those_of_the_attack_that_finds_the_most():
    results = make_results()
    results["attacks"]["network"]["tpr_at_fpr"]["0.01"] = around(0.25, 0.01)
    second = audit_verdict(results)[2]
    assert "At 1% false positives, an attacker finds 25.0% of the members (network; 95% interval 24.0 to" in second
    assert "not adjusted for choosing the best of 4 attacks); guessing finds 1%." in second


def test_epsilon_is_rounded_down_and_its_confidence_said_for_all_attacks_together():
    second = audit_verdict(make_results())[2]  # the largest is 1.8099
    assert "The largest lower bound on epsilon is 1.80 (modified entropy)" in second
    assert "not (epsilon, 0)-differentially private for any epsilon below 1.80." in second
    assert second.endswith("The confidence of this is 95% for all 4 bounds together.")
    results = make_results()
    results["attacks"] = {"modified_entropy": results["attacks"]["modified_entropy"]}
    assert audit_verdict(results)[2].endswith("The confidence of this is 95%.")


def test_the_confidence_is_that_of_alpha():
    results = make_results() | {"alpha": 0.001}
    text = " ".join(audit_verdict(results))
    assert "99.9% interval" in text
    assert "95%" not in text


def test_too_few_non_members_are_no_figure():
    results = make_results()
    for attack in results["attacks"].values():
        attack["tpr_at_fpr"] = {"0.01": None, "0.001": None}
    assert (
        "too few non-members to measure how many members are found at 1% false positives" in audit_verdict(results)[2]
    )


def test_accuracy_class_warnings_and_refusals_are_said():
    results = with_check("warning", "p = 0.0001: they differ", "labels")
    text = audit_verdict(results)
    assert text[0].endswith("See the warnings below.")
    assert (
        "The model classifies 98.0% of these 400 members and 71.0% of these 500 non-members correctly: a gap of 27.0 "
        "points."
    ) in text
    assert "Warning: labels: p = 0.0001: they differ." in text
    assert f"Refused: {REFUSAL}." in text
    worst = next(paragraph for paragraph in text if paragraph.startswith("The most exposed class is 9"))
    assert "0.690 (95% interval 0.610 to 0.770, for all 10 classes and 3 kinds of evidence together)" in worst
    assert "distinguishable" not in worst


def test_what_attack_says_of_accuracies_is_told_from_what_prune_prints():
    results = make_results() | {
        "held_out": 1397,
        "shadows": {"count": 16, "train_accuracy": 1.0, "test_accuracy": 0.625},
    }
    (text,) = [paragraph for paragraph in audit_verdict(results) if paragraph.startswith("The model classifies")]
    assert "test accuracy that `train` and `prune` print is over all 1,397 held-out records." in text
    assert text.endswith("The 16 shadow models, trained alike, classify 100.0% and 62.5% correctly.")
    same = make_results() | {"held_out": 500}
    assert "held-out" not in " ".join(audit_verdict(same))


def test_a_class_at_chance_is_not_called_a_leak_and_none_is_not_named():
    results = make_results()
    results["per_class"]["9"]["auc"] = around(0.55, 0.1)
    assert "This is not distinguishable from guessing." in " ".join(audit_verdict(results))
    assert "class" not in " ".join(audit_verdict(results | {"per_class": {}, "worst_class": None})).replace(
        "classif", ""
    )


# The table


def test_eighty_columns_hold_every_attack_and_number():
    text = terminal(make_results())
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert re.search(r"^ *confidence +62\.0 \(60\.0\.\.64\.0\) +61\.0 +0\.650 +7\.0 +refused +1\.20 *$", text, re.M)
    assert re.search(r"^ *modified entropy +68\.0 \(66\.0\.\.70\.0\) +- +0\.710 +13\.0 +refused +1\.80 *$", text, re.M)
    for name in ("lira", "online", "network"):
        assert name in text


def test_eighty_columns_hold_the_widest_numbers_and_refusals():
    results = make_results()
    results["nonmembers"] = 60
    for attack in results["attacks"].values():
        attack["accuracy"] = {"value": 1.0, "low": 0.9991, "high": 1.0}
        attack["accuracy_per_class_threshold"] = around(1.0, 0.0)
        attack["tpr_at_fpr"] = {"0.01": None, "0.001": None}
        attack["epsilon_lower_bound"] = 12.345
    results["attacks"]["correctness"] = results["attacks"]["network"]  # the longest word of all names
    text = terminal(results)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    row = r"^ *correctness +100\.0 \(99\.9\.\.100\.0\) +100\.0 +\d\.\d{3} +refused +refused +12\.34 *$"
    assert re.search(row, text, re.M)


def test_the_terminal_reads_no_markup_in_names():
    results = make_results()
    results["source"]["name"] = "[red]x[/red]"
    results["attacks"]["[bold]"] = results["attacks"]["network"]
    text = terminal(results)
    assert "[red]x[/red]" in text
    assert "[bold]" in text


# The page


def test_the_page_has_the_verdict_first_and_every_attack_and_class(page):
    results, parsed = make_results(), Page(page)
    for paragraph in [*results["verdict"]["sentences"], *audit_verdict(results)]:
        assert paragraph in parsed.text
    for name in ("confidence", "modified entropy", "lira online", "network"):
        assert name in parsed.text.split("Every attack")[1]
    cells = parsed.words
    for c in range(10):
        assert f"{c} (the most exposed)" if c == 9 else str(c) in cells
    assert "5000, 5001, " in parsed.text
    assert "5199 and 1,001 more, which are in the JSON" in parsed.text
    assert "at most 5% of them are there by chance" in parsed.text
    for word in ("4321", "scores.npz", "cd" * 32, results["command"], "no record is both", "0.2.0", "shadow", REFUSAL):
        assert word in parsed.text
    order = (
        "Verdict",
        "The evidence",
        "Every attack",
        "Each class",
        "The most exposed records",
        "Is this audit valid?",
        "How to repeat it",
    )
    places = [parsed.text.index(heading) for heading in order]
    assert places == sorted(places)


def test_the_page_explains_its_words_and_those_of_shadows_where_there_are_any(page, tmp_path):
    words = Page(page).text.split("Glossary")[1]
    for word in ("AUC", "TPR at 1% FPR", "epsilon", "accuracy (balanced)", "interval", "threshold attacks"):
        assert word in words
    assert "RMIA" not in words
    results = make_results() | {"shadows": {"count": 16, "train_accuracy": 1.0, "test_accuracy": 0.5}}
    words = Page(write(results, tmp_path / "a.html")).text.split("Glossary")[1]
    for word in ("LiRA", "RMIA", "adaptive", "shadow models", "difficulty", "mask alone"):
        assert word in words


def test_a_rate_that_could_not_be_measured_is_refused(page):
    assert Page(page).words.count("refused") == len(ATTACKS)


def test_the_page_fetches_nothing_and_runs_nothing(page):
    parsed = Page(page)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in parsed.attributes
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(parsed.tags)
    assert "@import" not in page
    for target in re.findall(r"url\(([^)]*)\)", page):
        assert target.startswith("#")
    for name, value in parsed.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href", "srcset", "action"):
            assert value.startswith("#")
        if not name.startswith("xmlns"):
            assert "://" not in (value or "")


def test_the_plot_has_words_and_identifiers_are_used_once(page):
    parsed = Page(page)
    assert parsed.tags.count("svg") == 1
    assert ("role", "img") in parsed.attributes
    alt = next(value for name, value in parsed.attributes if name == "aria-label")
    assert "modified entropy) finds: 13.0% of the members at 1% false positives; refused at 0.1%" in alt
    identifiers = [value for name, value in parsed.attributes if name == "id"]
    assert len(identifiers) == len(set(identifiers))
    labels = {value for name, value in parsed.attributes if name in ("aria-labelledby", "aria-describedby")}
    assert labels <= set(identifiers)


def test_hostile_text_is_escaped(tmp_path):
    bad = '<script>alert("1")</script>$x_{$'
    results = copy.deepcopy(make_results()) | {"command": bad, "refused": [bad], "notes": [bad], "worst_class": bad}
    results["source"] = {"name": bad, "sha256": bad}
    results["versions"][bad] = bad
    results["per_class"][bad] = results["per_class"]["9"]
    results["attacks"][bad] = results["attacks"]["network"]
    results["strongest"]["attack"] = bad
    results["validity"].append({"name": bad, "outcome": bad, "found": bad})
    text = write(results, tmp_path / "audit.html", make_curves([*ATTACKS, bad]))
    assert "<script" not in text
    parsed = Page(text)
    assert "script" not in parsed.tags
    assert parsed.text.count(bad.replace("_", " ")) > 2  # attacks: an underscore is a space
    assert parsed.text.count(bad) > 5


def test_what_is_not_there_is_left_out(tmp_path):
    results = make_results() | {"per_class": {}, "worst_class": None, "most_exposed": [], "refused": [], "validity": []}
    results["discoveries"] = {"fdr": 0.05, "count": 0, "records": []}
    for key in ("source", "command"):
        del results[key]
    parsed = Page(write(results, tmp_path / "audit.html", {}))
    assert "svg" not in parsed.tags
    for heading in (
        "Records to look at",
        "Each class",
        "The most exposed records",
        "Notes and refusals",
        "Is this audit valid?",
        "None",
    ):
        assert heading not in parsed.text
    assert "lira online" in parsed.text


def test_the_same_audit_makes_the_same_bytes(page, tmp_path):
    assert write(make_results(), tmp_path / "audit.html") == page
    assert [path.name for path in tmp_path.iterdir()] == ["audit.html"]


def test_a_void_audit_is_marked_on_the_page(tmp_path):
    parsed = Page(write(with_check("void", "3 records"), tmp_path / "audit.html"))
    assert ("class", "verdict void") in parsed.attributes
    assert "This audit is void: duplicates: 3 records." in parsed.text


# A browser's view


@pytest.mark.skipif(browsing.BROWSER is None, reason=browsing.NO_BROWSER)
def test_a_phone_shows_the_verdict_and_nothing_runs_off_its_side(tmp_path):
    results = make_results()
    results["source"]["name"] = "x" * 120 + ".npz"
    text = write(results, tmp_path / "audit.html")
    frame = (  # a window cannot be made as narrow as a phone, a frame can; what it measures becomes the title
        '<!DOCTYPE html><html><body><iframe style="border:0;width:390px;height:844px" srcdoc="'
        f'{html.escape(text)}"></iframe><script>onload = () => {{ const d = frames[0].document;'
        "document.title = [d.documentElement.scrollWidth, d.querySelector('.verdict').getBoundingClientRect().top | 0,"
        "d.querySelector('.verdict p').innerText].join('|') }</script></body></html>"
    )
    (tmp_path / "frame.html").write_text(frame, encoding="utf-8")
    url = (tmp_path / "frame.html").as_uri()
    dom = browsing.dom(url, tmp_path / "profile", "--window-size=800,900", ready="document.title")
    title = html.unescape(re.search(r"<title>(.*?)</title>", dom, re.DOTALL)[1])
    width, top, said = title.split("|")
    assert int(width) <= 390
    assert int(top) < 844
    assert said == results["verdict"]["sentences"][0]


def with_dense(results, value, half):
    results["attacks"]["lira_dense_and_pruned"] = {
        "accuracy": around(value, half / 2),
        "accuracy_per_class_threshold": None,
        "auc": around(0.95),
        "tpr_at_fpr": {"0.01": around(0.91, 0.01), "0.001": None},
        "epsilon_lower_bound": 6.5,
    }
    results["auxiliary_attacks"] = {"lira_dense_and_pruned": around(value, half)}
    results["bonferroni_divisor"] = 4
    return results


def test_an_attacker_who_holds_the_dense_network_too_is_told_apart():
    results = with_dense(make_results(), 0.93, 0.02)
    del results["auxiliary_attacks"]
    named = " ".join(audit_verdict(results))
    assert "also has the dense network" not in named
    assert "91.0%" in named  # as an attack on the model alone it would be the one that finds the most
    results = with_dense(make_results(), 0.93, 0.02)
    paragraphs = audit_verdict(results)
    assert "an attacker who also has the dense network classifies 93.0% correctly" in paragraphs[0]
    (auxiliary,) = [text for text in paragraphs if text.startswith("An attacker who also has the dense network")]
    assert "93.0% balanced accuracy (95% interval 91.0 to 95.0, adjusted for 4 kinds of evidence" in auxiliary
    assert "epsilon at least 6.50" in auxiliary
    others = [text for text in paragraphs if text != auxiliary]
    assert not any("91.0%" in text or "6.50" in text for text in others)
    assert any(text.endswith("for all 5 bounds together.") for text in others)  # its own is among them
    assert "93.0" in terminal(results)  # in the table it stands with the others


def test_a_leak_that_only_the_dense_network_shows_is_the_verdict():
    first = audit_verdict(with_dense(with_accuracy(0.48, 0.55), 0.7, 0.1))[0]
    assert first.startswith(
        "This model alone shows no leak, but together with the dense network it does: an attacker who"
    )
    assert "No leak is detected" not in first
    unseen = audit_verdict(with_dense(with_accuracy(0.48, 0.55), 0.55, 0.1))[0]
    assert unseen.startswith("No leak is detected.")
    assert "an attacker who also has the dense network (55.0%)" in unseen


def test_exposure_is_told_with_its_worst_class(tmp_path):
    results = make_results()
    interval = {"value": -1.5, "low": -1.75, "high": -1.25}
    results["exposure"] = {
        "dense": {"value": 2.5, "low": 2.0, "high": 3.0},
        "pruned": {"value": 1.0, "low": 0.5, "high": 1.5},
        "change": interval,
        "more_exposed": {"value": 0.125, "low": 0.0625, "high": 0.25},
        "per_class": {"3": interval, "8": {"value": 0.25, "low": -0.25, "high": 0.75}},
        "worst_class": "8",
        "most_risen": [{"row": 4711, "label": 8, "dense": 0.5, "pruned": 2.25}],
        "attack_accuracy_change": {"value": -0.142, "low": -0.153, "high": -0.131},
        "test_accuracy_change": {"value": -0.003, "low": -0.011, "high": 0.005},
    }
    results["shadows"] = {"count": 16, "train_accuracy": 1.0, "test_accuracy": 0.6}
    assert audit_verdict(results)[1] == (
        "Over the 16 shadow models, pruning changes the share of records that an attacker classifies correctly by "
        "-14.2 points (95% interval -15.3 to -13.1), and the test accuracy by -0.3 points (95% interval -1.1 to 0.5; "
        "not distinguishable from no change)."
    )
    (text,) = [text for text in audit_verdict(results) if "more exposed" in text]
    for figure in (
        "2.50",
        "1.00",
        "-1.50",
        "-1.75 to -1.25",
        "12.5%",
        "6.2 to 25.0",
        "half of them",
        "Class 8",
        "+0.25",
    ):
        assert figure in text
    assert text.endswith("+0.25 (-0.25 to 0.75), which is not distinguishable from no change.")
    html = write(results, tmp_path / "a.html")
    assert "8 (the worst)" in html
    assert "4711" in html
