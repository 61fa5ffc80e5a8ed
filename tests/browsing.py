"""A headless Chromium that is asked through its debugging pipe until the page says that it is ready.

`--dump-dom` writes what is there after a time, which on a busy machine may come before the page has computed anything.
"""

import json
import pathlib
import shutil
import subprocess
import threading

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
NO_BROWSER = f"no browser: install Chromium ({', '.join(NAMES)})"
DEADLINE = 180.0  # seconds after which a page that is not ready never will be
HTML = """new Promise(done => {
  const ask = () => (%s) ? done(document.documentElement.outerHTML) : setTimeout(ask, 20);
  ask();
})"""


def dom(url: str, profile: pathlib.Path, *flags: str, ready: str = "true") -> str:
    """The document at `url`, as HTML, once it is loaded and the expression `ready` is true in it."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *flags]
    # Chromium reads from descriptor 3 and writes to 4.
    shell = ["sh", "-c", 'exec "$0" "$@" 3<&0 4>&1 1>&2', *command, "--remote-debugging-pipe"]
    with subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        timer = threading.Timer(DEADLINE, process.kill)
        timer.start()
        try:
            ask = _Session(process)
            target = ask("Target.createTarget", url="about:blank")["targetId"]
            ask.sessionId = ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            ask("Page.enable")
            ask("Page.navigate", url=url)
            ask.wait(lambda message: message.get("method") == "Page.loadEventFired")
            found = ask("Runtime.evaluate", expression=HTML % ready, awaitPromise=True, returnByValue=True)
            return found["result"]["value"]
        finally:
            timer.cancel()
            process.kill()


class _Session:
    """Calls of the DevTools protocol: JSON, each message ended by a zero byte."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process, self.count, self.sessionId, self.read = process, 0, None, b""

    def __call__(self, method: str, **params) -> dict:
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        session = {"sessionId": self.sessionId} if self.sessionId else {}
        self.process.stdin.write(json.dumps(message | session).encode() + b"\0")
        self.process.stdin.flush()
        answer = self.wait(lambda answer: answer.get("id") == message["id"])
        assert "result" in answer, answer
        return answer["result"]

    def wait(self, wanted) -> dict:
        while True:
            while b"\0" not in self.read:
                received = self.process.stdout.read1(1 << 16)
                assert received, "the browser ended, or the page was not ready in time"
                self.read += received
            message, self.read = self.read.split(b"\0", 1)
            if wanted(parsed := json.loads(message)):
                return parsed
