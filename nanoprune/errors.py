"""The errors that nanoprune raises: one line each, naming what is wrong, what was found and what to do instead."""


class NanopruneError(Exception):
    """Base of every error of this package; the command line prints it on one line and exits with status 2."""


class ArgumentError(NanopruneError, ValueError):
    """An argument or option has a value that cannot be used."""


class DataError(NanopruneError):
    """A data set, model or results file is missing, damaged or of the wrong kind."""


class VersionError(DataError):
    """A file is of a format that this version does not read."""


class DeviceError(NanopruneError):
    """The requested device is not available, or an array is on another one."""


class WorkspaceError(NanopruneError, RuntimeError):
    """A backward pass was run without its forward pass, or twice."""


class Interrupted(NanopruneError):
    """The work was stopped because another part of it failed."""


class Stopped(NanopruneError):
    """A signal, SIGINT or SIGTERM, asked the work to stop; the exit status is 128 + `signal`."""

    signal = 2


class WorkerError(NanopruneError):
    """A worker process ended without returning its result."""


class DivergenceError(NanopruneError, ArithmeticError):
    """A loss is no longer finite. `replicas`: the diverged replicas of the fleet, where they are known."""

    replicas: tuple[int, ...] = ()
