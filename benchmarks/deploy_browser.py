"""The web export in headless Chromium: milliseconds per record, and bytes of the page. A part of deploy.py."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import tempfile

from nanoprune.lab.export.packing import program_of
from nanoprune.lab.export.web import to_html
from nanoprune.nn import Network

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def in_chromium(nets: dict[str, Network]) -> None:
    """Print the time that the page of each network, for ten digits, measures itself (`#test1`), with int8 weights."""
    program = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if program is None:
        print("\nbrowser: no Chromium here")
        return
    about = {"network": "lenet-5", "weights": "", "labels": [*"0123456789"], "licence": "MIT"}
    for name, net in nets.items():
        page = to_html([(name, program_of(net, "int8"), "int8", about)])
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "page.html")
            path.write_text(page)
            flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
            command = [program, *flags, "--enable-logging=stderr", f"file://{path}#test1"]
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
                line = next(line for line in process.stderr if '"measured ' in line)
                process.terminate()
        time_ms = float(line.split('"measured ')[1].split('"')[0])
        print(f"\nbrowser, LeNet-5 {name}, int8: {time_ms:.2f} ms a record, the page has {len(page):,} bytes")
