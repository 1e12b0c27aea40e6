"""A headless Chromium, driven by Selenium, in which tests use a page."""

import shutil

from selenium import webdriver

_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def is_available() -> bool:
    """Tell whether a browser and its driver are installed."""
    return bool(shutil.which("chromedriver") and _chromium())


def _chromium():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Browser:
    """One browser with one page; ``run`` evaluates JavaScript in it."""

    def __init__(self, profile):
        """Start a browser.

        Args:
            profile: an empty folder for the files of the browser.
        """
        options = webdriver.ChromeOptions()
        options.binary_location = _chromium()
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for option in (*_OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        # Given the path, Selenium neither searches for a driver nor downloads one.
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self._driver = webdriver.Chrome(options, service)
        self._driver.set_page_load_timeout(60)
        self._driver.set_script_timeout(60)
        self.run = self._driver.execute_script

    def open(self, path, width, height):
        """Show a file on a screen of a size.

        Args:
            path: of the HTML file.
            width: of the page, pixels.
            height: of the page, pixels.
        """
        size = {"width": width, "height": height, "mobile": width < 600}
        command = "Emulation.setDeviceMetricsOverride"
        self._driver.execute_cdp_cmd(command, size | {"deviceScaleFactor": 1})
        self._driver.get(path.as_uri())

    def console(self):
        """Return the messages of the console."""
        return self._driver.get_log("browser")

    def close(self):
        """Stop the browser and its driver."""
        self._driver.quit()
