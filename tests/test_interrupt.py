"""SIGINT and SIGTERM: never lost, never a traceback; ignored ones stay ignored, previous handlers are restored."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from nanoprune.errors import Stopped
from nanoprune.lab.engine import interrupt

ROOT = pathlib.Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
both = pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


def ended(program, *arguments, **options):
    """Exit status, stdout and stderr of a Python program."""
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT, **options)
    return done.returncode, done.stdout, done.stderr


@both
def test_a_signal_after_the_last_check_is_not_lost(number, status):
    with pytest.raises(Stopped) as stopped, interrupt.graceful():
        os.kill(os.getpid(), number)  # and nobody looks again
    assert stopped.value.signal == number
    assert not interrupt.stop_requested()  # the next run is not stopped by it


def fail_after(number):
    os.kill(os.getpid(), number)
    raise ZeroDivisionError


@both
def test_another_error_is_not_hidden_by_the_signal(number, status):
    with pytest.raises(ZeroDivisionError), interrupt.graceful():
        fail_after(number)
    assert not interrupt.stop_requested()


@both
def test_previous_handlers_are_restored(number, status):
    caught, before = [], signal.getsignal(number)
    try:
        signal.signal(number, lambda *_: caught.append(number))
        with pytest.raises(Stopped), interrupt.graceful():
            os.kill(os.getpid(), number)
        assert not caught
        os.kill(os.getpid(), number)
        assert caught == [number]
    finally:
        signal.signal(number, before)


@both
def test_a_handler_set_by_c_code_is_restored(number, status):
    """Python does not know a handler that was set before it started (None), or later by C code."""
    program = """
        import ctypes, os, signal, sys
        from nanoprune.errors import Stopped
        from nanoprune.lab.engine import interrupt

        number = int(sys.argv[1])
        libc = ctypes.CDLL(None)
        handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: os.write(1, b"C "))
        libc.signal(number, handler)
        if sys.argv[2] == "unknown":
            signal.getsignal = lambda number: None
        for _ in range(2):
            try:
                with interrupt.graceful():
                    os.kill(os.getpid(), number)
            except Stopped:
                os.write(1, b"stopped ")
            os.kill(os.getpid(), number)
    """
    for known in ("known", "unknown"):
        assert ended(program, int(number), known)[:2] == (0, "stopped C stopped C ")


@both
@pytest.mark.parametrize("how", ["signal.signal(number, signal.SIG_IGN)", "ctypes.CDLL(None).signal(number, 1)"])
def test_an_ignored_signal_stays_ignored(number, status, how):
    """As in a background job of a shell without job control."""
    program = f"""
        import ctypes, os, signal, sys
        from nanoprune.lab.engine import interrupt

        number = int(sys.argv[1])
        {how}
        with interrupt.at_once():
            with interrupt.graceful():
                os.kill(os.getpid(), number)
                interrupt.raise_if_stopping()
            os.kill(os.getpid(), number)
        print("done")
    """
    assert ended(program, int(number)) == (0, "done\n", "")


def test_other_threads_and_inner_ones_leave_the_handlers_alone():
    with interrupt.graceful():
        outer = signal.getsignal(signal.SIGINT)
        with interrupt.graceful():
            assert signal.getsignal(signal.SIGINT) is outer
        assert signal.getsignal(signal.SIGINT) is outer

    def enter():
        with interrupt.graceful():
            seen.append(signal.getsignal(signal.SIGINT))

    before, seen = signal.getsignal(signal.SIGINT), []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]


@both
@pytest.mark.parametrize("module", ["click", "rich.console", "nanoprune.lab.commands.console", "numpy"])
@pytest.mark.parametrize("entry", ["cli.py", "nanoprune/__main__.py"])
def test_a_signal_while_modules_are_imported_is_one_line(number, status, module, entry):
    program = f"""
        import builtins, os, runpy, sys
        load = builtins.__import__

        def loading(name, *rest, **named):
            if name == {module!r} and sys.modules.get("nanoprune"):
                os.kill(os.getpid(), int(os.environ["NUMBER"]))
            return load(name, *rest, **named)

        builtins.__import__ = loading
        sys.argv = ["nanoprune", "info", "lenet-5"]
        runpy.run_path({entry!r}, run_name="__main__")
    """
    code, out, err = ended(program, env=os.environ | {"NUMBER": str(int(number))})
    assert (code, err) == (status, "error: interrupted\n")
    assert module == "rich.console" or not out  # which is imported where something is drawn


@both
def test_a_command_without_a_run_ends_at_once_with_one_line(number, status):
    program = """
        import os, runpy, sys
        import nanoprune.lab.models.inventory as inventory

        def interrupted(*_):
            os.kill(os.getpid(), int(os.environ["NUMBER"]))
            raise AssertionError("went on")

        inventory.inventory_of = interrupted
        sys.argv = ["cli.py", "info", "lenet-5"]
        runpy.run_path("cli.py", run_name="__main__")
    """
    assert ended(program, env=os.environ | {"NUMBER": str(int(number))}) == (status, "", "error: interrupted\n")


@both
def test_a_signal_while_python_shuts_down_is_not_lost(number, status):
    """After the last bytecode no Python handler runs: the system's default action must be restored."""
    program = """
        import atexit, ctypes, os, runpy, sys

        atexit.register(ctypes.CDLL(None).kill, os.getpid(), int(os.environ["NUMBER"]))  # C code, the last to be called
        sys.argv = ["cli.py", "--version"]
        runpy.run_path("cli.py", run_name="__main__")
    """
    died, _, err = ended(program, env=os.environ | {"NUMBER": str(int(number))})
    assert (died, err) == (-number, "")
