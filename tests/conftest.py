"""Fixtures shared by the tests."""

import os
import pathlib
import signal

import pytest
from hypothesis import HealthCheck, Phase, settings

BUSY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}  # a busy machine is no failure
settings.register_profile("no deadline", **BUSY)
settings.register_profile(
    "mutants",  # the same verdict every time; one example that fails kills, and need not be the simplest one
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
)
# CI says the same of the same commit every time; a run by hand draws new examples each time.
settings.register_profile("ci", **BUSY, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "no deadline")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
    """The folder of the real data sets: NANOPRUNE_DATA, else ../shared/data beside the repository, else skip."""
    folder = os.environ.get("NANOPRUNE_DATA") or pathlib.Path(__file__).parents[2] / "shared" / "data"
    if not pathlib.Path(folder).is_dir():
        pytest.skip("no real data: name the folder above mnist/ and location30/ in NANOPRUNE_DATA")
    return pathlib.Path(folder)
