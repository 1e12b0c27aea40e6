"""A headless Chromium by the WebDriver protocol, for what a page does when used."""

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request

OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")


def available() -> bool:
    """Whether there is a browser and its driver."""
    return bool(shutil.which("chromedriver") and _chromium())


def _chromium():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Browser:
    """One window; ``run`` evaluates JavaScript in it."""

    def __init__(self, port):
        self._driver = subprocess.Popen(
            [shutil.which("chromedriver"), f"--port={port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._root = f"http://127.0.0.1:{port}"
        self._wait()
        options = {"binary": _chromium(), "args": list(OPTIONS)}
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        body = {"capabilities": {"alwaysMatch": wanted}}
        session = self._call("POST", "/session", body)["sessionId"]
        self._root += f"/session/{session}"

    def _wait(self):
        for _ in range(200):
            try:
                if self._call("GET", "/status")["ready"]:
                    return
            except urllib.error.URLError:
                pass
            time.sleep(0.1)
        raise TimeoutError("chromedriver does not answer")

    def _call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._root + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, path, width, height):
        """Show a file in a window whose page has this size."""
        size = {"width": width, "height": height, "mobile": width < 600}
        command = "Emulation.setDeviceMetricsOverride"
        self._cdp(command, size | {"deviceScaleFactor": 1})
        self._call("POST", "/url", {"url": path.as_uri()})

    def _cdp(self, command, parameters):
        body = {"cmd": command, "params": parameters}
        return self._call("POST", "/goog/cdp/execute", body)

    def run(self, script, *arguments):
        """The value that a script returns."""
        body = {"script": script, "args": list(arguments)}
        return self._call("POST", "/execute/sync", body)

    def complaints(self):
        """What the console holds."""
        return self._call("POST", "/se/log", {"type": "browser"})

    def photograph(self, path):
        """The window as a PNG."""
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def close(self):
        """End the browser and its driver."""
        try:
            self._call("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.wait()
