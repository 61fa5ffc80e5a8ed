"""The table at the end of `make mutants`."""

import subprocess

import mutation_score

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
