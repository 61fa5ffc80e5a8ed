"""The table at the end of `make mutants`."""

import subprocess

import mutation_score
import numpy as np
import pytest

TOLD = """
    nanoprune.prune.admm.x_norm__mutmut_1: killed
    nanoprune.prune.admm.x_norm__mutmut_2: survived
    nanoprune.prune.admm.xǁADMMǁupdate__mutmut_1: timeout
    nanoprune.prune.admm.xǁADMMǁupdate__mutmut_2: no tests
    nanoprune.nn.loss.x_softmax__mutmut_1: killed
    nanoprune.nn.loss.x_softmax__mutmut_2: segfault
    nanoprune.nn.loss.x_softmax__mutmut_3: not checked
"""


def told(monkeypatch, text):
    monkeypatch.setattr(subprocess, "run", lambda command, **how: subprocess.CompletedProcess(command, 0, text, ""))


def test_without_mutmut_there_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert mutation_score.main([]) == 2
    assert capsys.readouterr().out.startswith("error: mutmut is not on the PATH")


def test_only_killed_mutants_count_and_unrun_ones_are_reported(monkeypatch, capsys):
    told(monkeypatch, TOLD)
    assert mutation_score.main([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:5] == [
        "| nanoprune/nn/loss.py | 2 | 1 | 0 | 0 | 1 | 50.0% |",
        "| nanoprune/prune/admm.py | 4 | 1 | 2 | 1 | 0 | 25.0% |",
        "| total | 6 | 2 | 2 | 1 | 1 | 33.3% |",
    ]
    assert lines[5].startswith("1 mutants were not run")


def test_the_exit_status_says_whether_nineteen_of_twenty_are_killed(monkeypatch, capsys):
    for killed, status in ((19, 0), (18, 1)):
        told(
            monkeypatch,
            "".join(f"    n.m.x_f__mutmut_{i}: {'killed' if i < killed else 'survived'}\n" for i in range(20)),
        )
        assert mutation_score.main([]) == status
    told(monkeypatch, TOLD)
    assert mutation_score.main(["nanoprune.prune.admm.x_norm__mutmut_1"]) == 0
    assert "| total | 1 | 1 | 0 | 0 | 0 | 100.0% |" in capsys.readouterr().out
    assert mutation_score.main(["nothing*"]) == 2


def test_a_sample_is_the_same_each_time_and_its_interval_decides(monkeypatch, capsys):
    names = [f"n.m.x_f__mutmut_{i}" for i in range(400)]
    told(monkeypatch, "".join(f"    {name}: killed\n" for name in names))
    for _ in range(2):
        assert mutation_score.main(["--draw", "50"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert len(set(first.split())) == 50
    assert set(first.split()) <= set(names)
    for survivors, status in ((0, 1), (8, 1)):  # 50 of 50 killed still leave 6 or more percent of all in doubt
        alive = first.split()[:survivors]
        told(monkeypatch, "".join(f"    {name}: {'survived' if name in alive else 'killed'}\n" for name in names))
        assert mutation_score.main(["--sample", "50"]) == status
        assert f"| total | 50 | {50 - survivors} | {survivors} |" in capsys.readouterr().out
    told(monkeypatch, "".join(f"    {name}: killed\n" for name in names))
    assert mutation_score.main(["--sample", "200"]) == 0


def test_samples_of_two_seeds_are_drawn_independently(monkeypatch, capsys):
    """Of 400 names 100 and 100: both have 25 in common, by the hypergeometric distribution between 13 and 37."""
    names = [f"n.m.x_f__mutmut_{i}" for i in range(400)]
    told(monkeypatch, "".join(f"    {name}: killed\n" for name in names))
    for seed in ([], ["--seed", "0"], ["--seed", "1"], ["--seed", "2"]):
        assert mutation_score.main(["--draw", "100", *seed]) == 0
    default, zero, one, two = (set(line.split()) for line in capsys.readouterr().out.splitlines())
    assert default == zero
    for a, b in ((zero, one), (zero, two), (one, two)):
        assert 13 <= len(a & b) <= 37
    told(monkeypatch, "".join(f"    {name}: {'survived' if name in zero - one else 'killed'}\n" for name in names))
    for seed, survivors in (("0", len(zero - one)), ("1", 0)):
        mutation_score.main(["--sample", "100", "--seed", seed])
        assert f"| total | 100 | {100 - survivors} | {survivors} |" in capsys.readouterr().out


@pytest.mark.parametrize("share", [0.8, 0.97])
def test_the_interval_of_a_sample_holds_the_share_of_all_in_nineteen_of_twenty_samples(share):
    total, count = 300, 60
    killed = np.random.default_rng(0).hypergeometric(round(share * total), total - round(share * total), count, 400)
    ends = {k: mutation_score.interval(k, count, total) for k in set(killed.tolist())}
    held = [ends[k][0] <= share <= ends[k][1] for k in killed.tolist()]
    assert np.mean(held) >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 400)
    assert mutation_score.interval(total, total, total) == (1.0, 1.0)
