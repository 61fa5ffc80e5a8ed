"""Some mutated files for every reader; the long run is `make fuzz`. And the fuzzer itself: it finds known faults."""

import random

import broken
import pytest
import run
from hypothesis import given, settings
from hypothesis import strategies as st
from mutate import LONGEST, mutate
from readers import READERS

SHORT = 12  # mutated inputs a reader, or fewer where each takes long


def test_nothing_but_our_own_errors_comes_out_of_any_reader():
    names = [name for name, reader in READERS.items() if reader.valid]  # the others unpack gigabytes
    tallies = run.fuzz(names, SHORT)
    assert {tally.name: tally.failed for tally in tallies if tally.failed} == {}
    assert all(tally.accepted > 0 for tally in tallies)  # the valid file, at the least
    assert sum(tally.inputs - tally.accepted for tally in tallies) > sum(tally.accepted for tally in tallies)


@pytest.fixture(scope="module")
def found() -> dict[str, run.Tally]:
    return {tally.name: tally for tally in run.fuzz(broken.READERS, 4, module="broken")}


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("allocate", "MemoryError"),
        ("hide", "asked for too much"),
        ("hide_of_hdf5", "asked for too much"),
        ("leak", "KeyError"),
        ("many_lines", "not one line"),
    ],
)
def test_every_failing_input_is_distinguished(found, name, what):
    assert [number for number, _ in found[name].failed] == [1, 2, 3]
    assert all(text.startswith(what) for _, text in found[name].failed)
    assert found[name].accepted == 1


@pytest.mark.parametrize(("name", "number", "what"), [("crash", 2, "SIGSEGV"), ("hang", 3, "hang")])
def test_the_death_of_a_child_is_reported_and_the_next_one_continues(found, name, number, what):
    assert [(at, text[: len(what)]) for at, text in found[name].failed] == [(number, what)]
    assert found[name].accepted == 3


def test_a_reader_that_refuses_the_valid_file_is_reported(found):
    assert [number for number, _ in found["refuse"].failed] == [0]
    assert found["refuse"].failed[0][1] == "refused"


def test_a_sound_reader_has_no_failures(found):
    assert (found["sound"].failed, found["sound"].accepted, found["sound"].inputs) == ([], 2, 4)


@settings(max_examples=60)
@given(st.binary(max_size=400), st.integers(0, 1 << 32))
def test_an_input_depends_on_its_number_only_and_is_bounded(data, number):
    first, second = (mutate(data, random.Random(number)) for _ in range(2))
    assert first == second
    assert len(first) <= LONGEST


@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.formats and reader.valid])
def test_mutations_that_know_a_format_change_it(name):
    reader = READERS[name]
    valid = run.valid_file(reader)
    made = {change(valid, random.Random(i)) for change in reader.formats for i in range(6)}
    assert len(made - {valid}) > 3
