"""The errors that nanoprune raises: one line each, naming what was wrong, what was found and what would do."""


class NanopruneError(Exception):
    """Base of every error of this package; the command line prints it on one line and exits with status 2."""


class ArgumentError(NanopruneError, ValueError):
    """An argument or option has a value that cannot be used."""


class DataError(NanopruneError):
    """A data set, model or results file is missing, damaged or not what it should be."""


class VersionError(DataError):
    """A file is of a format that this version does not read."""


class DeviceError(NanopruneError):
    """The device that was asked for is not there, or an array lives on another one."""


class WorkspaceError(NanopruneError, RuntimeError):
    """A backward pass was asked for without its forward pass, or twice."""


class Interrupted(NanopruneError):
    """The work was ended because another part of it failed."""


class Stopped(NanopruneError):
    """A signal, SIGINT or SIGTERM, asked the work to stop; the exit status is 128 + `signal`."""

    signal = 2


class WorkerError(NanopruneError):
    """A worker process did not live to tell its result."""


class DivergenceError(NanopruneError, ArithmeticError):
    """A loss stopped being a finite number. `replicas`: those of the fleet that it happened to, where that is known."""

    replicas: tuple[int, ...] = ()
