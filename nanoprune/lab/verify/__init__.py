"""The certificate: every formula of the package is checked against an oracle that shares no code with it."""

from nanoprune.lab.verify.certificate import Check, run

__all__ = ["Check", "run"]
