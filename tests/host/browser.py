"""Drives the host's own front end in headless Chromium, by what a person sees and clicks."""

import shutil
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.host.api import Client, Entry, Prompt

Box = tuple[float, float, float, float]  # left, top, right and bottom, px of the canvas

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--lang=en-US",
    "--window-size=1920,1080",
]
READY = "return Boolean(window.app?.vueAppReady && app.graph && window.LiteGraph)"
NOTICES = "[role=dialog], [data-testid=error-overlay], .p-toast-message-error, .p-toast-message-warn"
DIALOGS = f"[...document.querySelectorAll('{NOTICES}')].filter(e => e.checkVisibility())"
BY_TEXT = """
const names = [...document.querySelectorAll('[role=dialog] span, [role=dialog] li')];
return names.find(e => !e.children.length && e.innerText.trim() === arguments[0]);
"""
MISSING = (
    "return app.graph._nodes.filter(n => n.has_errors || !LiteGraph.registered_node_types[n.type]).map(n => n.type)"
)
BOXES = """
return app.graph._nodes.map(n => [...(n.boundingRect ?? n.getBounding())]).concat(
    app.graph._groups.map(g => [...g._bounding]));
"""
# By the paths that the front end drew: a link under a node crosses the edge of its box.
HIDDEN = """
const {graph} = app.canvas, pen = document.createElement('canvas').getContext('2d');
const crosses = (path, [x, y, width, height]) => {
    for (let i = 0; i <= width; i += 2)
        if (pen.isPointInStroke(path, x + i, y) || pen.isPointInStroke(path, x + i, y + height)) return true;
    for (let i = 0; i <= height; i += 2)
        if (pen.isPointInStroke(path, x, y + i) || pen.isPointInStroke(path, x + width, y + i)) return true;
    return false;
};
pen.lineWidth = 3;
return [...graph._links.values()].flatMap(link => {
    const pieces = [link, ...[...graph.reroutes.values()].filter(reroute => reroute.linkIds.has(link.id))];
    const others = graph._nodes.filter(node => node.id != link.origin_id && node.id != link.target_id);
    const above = others.filter(node => pieces.some(({path}) => crosses(path, node.boundingRect)));
    return above.map(node => `link ${link.id} is under ${node.title}`);
});
"""
FIT = "document.querySelector(`button[aria-label^='Fit View']`).click()"
TEMPLATE = "[data-testid='template-workflow-{}']"
WAIT_SECONDS, CLICK_SECONDS, DRAW_SECONDS = 30, 5, 1.0
FINISHED_RENDERER = (1, 30)  # before that the new one is an experiment: it leaves out widgets that are HTML


def find_browser() -> tuple[str, str] | None:
    """Chromium and its driver, or None where these or selenium are missing."""
    chromium = next(filter(None, map(shutil.which, ("google-chrome", "chromium", "chromium-browser"))), None)
    driver = shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver and find_spec("selenium") else None


class Browser:
    """One window with one host's front end.

    Attributes:
        address: of the host.
    """

    def __init__(self, chromium: str, driver: str, address: str, profile: Path):
        from selenium import webdriver  # only the browser tests need it

        self.address = address
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in [*FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self._driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))

    def close(self) -> None:
        """End the browser and its driver."""
        self._driver.quit()

    def open(self) -> None:
        """Load the page anew and wait for it; what it complains of until then is the host's own affair."""
        self._driver.get(self.address)
        self._until(READY)
        time.sleep(DRAW_SECONDS)
        self._driver.get_log("browser")

    def open_template(self, module: str, name: str) -> None:
        """Click a workflow of a pack in the template browser and wait until it is on the canvas."""
        if not self._find("[role=dialog]"):  # the first visit opens it by itself
            self._click("button[aria-label=Templates]")
        self._steadily(lambda: self._choose(module, TEMPLATE.format(name)))
        self._driver.execute_script("app.graph._nodes.forEach(node => { node.wasBefore = true })")
        self._click(TEMPLATE.format(name))
        self._until("return app.graph._nodes.length && !app.graph._nodes.some(node => node.wasBefore)")
        time.sleep(DRAW_SECONDS)

    def resize(self, width: int, height: int) -> None:
        """Make the window so large, px, its own bars included."""
        self._driver.set_window_size(width, height)
        time.sleep(DRAW_SECONDS)

    def fit(self) -> float:
        """Show the whole canvas; its zoom then."""
        self._driver.execute_script(FIT)  # by a script, for a notice may lie above the button
        time.sleep(DRAW_SECONDS)
        return self.zoom()

    def zoom(self) -> float:
        """How the canvas is shown now, where 1 is pixel by pixel."""
        return float(self._driver.execute_script("return app.canvas.ds.scale"))

    def boxes(self) -> tuple[list[Box], list[Box]]:
        """Of nodes, headers included, and of groups, as the front end has them now."""
        found = [(x, y, x + width, y + height) for x, y, width, height in self._driver.execute_script(BOXES)]
        count = self._driver.execute_script("return app.graph._nodes.length")
        return found[:count], found[count:]

    def hidden_links(self) -> list[str]:
        """Links that are drawn under nodes that they do not belong to; all of them must have been in sight."""
        return list(self._driver.execute_script(HIDDEN))

    def load(self, workflow: Mapping[str, Any]) -> Prompt:
        """Open a saved workflow; the prompt that Run would post."""
        script = """
        const done = arguments[arguments.length - 1];
        app.loadGraphData(arguments[0]).then(() => app.graphToPrompt()).then(made => done(made.output));
        """
        return dict(self._driver.execute_async_script(script, workflow))

    def missing_nodes(self) -> list[str]:
        """Types of the nodes on the canvas that the host does not know."""
        return list(self._driver.execute_script(MISSING))

    def node_types(self) -> list[str]:
        """Types of all nodes on the canvas, sorted."""
        return sorted(self._driver.execute_script("return app.graph._nodes.map(node => node.type)"))

    def dialogs(self) -> list[str]:
        """The text of each dialog and error notice that is open."""
        return list(self._driver.execute_script(f"return {DIALOGS}.map(e => e.innerText)"))

    def run(self, client: Client, timeout: float = 180) -> Entry:
        """Press Run and wait for the end; what `/history` says of it."""
        before = client.json("/history").keys()
        self._click("[data-testid=queue-button] button, button[data-testid=queue-button]")
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if new := client.json("/history").keys() - before:
                time.sleep(DRAW_SECONDS)
                return client.wait(new.pop())
            if dialogs := self.dialogs():
                raise RuntimeError(f"instead of running it says: {dialogs}")
            time.sleep(0.2)
        raise TimeoutError(f"nothing ended within {timeout} s of pressing Run")

    def errors(self) -> list[str]:
        """Errors on the console since the last call, without those of pages that the internet would have."""
        found = [entry["message"] for entry in self._driver.get_log("browser") if entry["level"] == "SEVERE"]
        return [message for message in found if "https://" not in message and "/api/userdata" not in message]

    def script(self, text: str, *arguments: Any) -> Any:
        """What the body of a function gives when the page runs it, once what it promises is there."""
        return self._driver.execute_script(text, *arguments)

    def is_experimental(self) -> bool:
        """Whether the page is drawn by a new renderer that is not what it was to be yet."""
        release = tuple(map(int, version("comfyui_frontend_package").split(".")[:2]))
        return bool(self.script("return Boolean(LiteGraph.vueNodesMode)")) and release < FINISHED_RENDERER

    def use_renderer(self, is_new: bool) -> None:
        """Have nodes drawn by the new renderer, or by the classic one, and load the page anew."""
        setting = "return app.extensionManager.setting.set('Comfy.VueNodes.Enabled', arguments[0])"
        self._driver.execute_script(setting, is_new)
        self.open()

    def hover(self, selector: str) -> None:
        """Put the pointer on the middle of what is found, and leave it there."""
        from selenium.webdriver import ActionChains

        ActionChains(self._driver).move_to_element(self._find(selector)[0]).perform()
        time.sleep(DRAW_SECONDS)

    def drop(self, name: str) -> None:
        """Search for a node by double-clicking the canvas, choose the one that is found, and put it there."""
        from selenium.webdriver import ActionChains, Keys

        canvas = self._find("#graph-canvas")[0]

        def search() -> None:
            ActionChains(self._driver).double_click(canvas).perform()
            self._until("return document.activeElement.tagName === 'INPUT'", seconds=CLICK_SECONDS)

        self._steadily(search)  # two clicks too far apart are none
        ActionChains(self._driver).send_keys(name).perform()
        self._until("return document.body.innerText.includes(arguments[0])", name)
        ActionChains(self._driver).pause(DRAW_SECONDS).send_keys(Keys.ENTER).perform()
        self._until("return app.graph._nodes.length")
        ActionChains(self._driver).move_to_element(canvas).click().perform()
        time.sleep(DRAW_SECONDS)

    def screenshot(self, file: Path) -> None:
        """Save what the window shows as PNG."""
        self._driver.save_screenshot(str(file))

    def _find(self, selector: str) -> list[Any]:
        return [element for element in self._driver.find_elements("css selector", selector) if element.is_displayed()]

    def _click(self, selector: str) -> None:
        self._until(f"return document.querySelector({selector!r})")
        self._steadily(lambda: self._find(selector)[0].click())

    def _choose(self, module: str, expected: str) -> None:
        self._until(BY_TEXT, module).click()
        self._until(f"return document.querySelector({expected!r})", seconds=CLICK_SECONDS)

    def _steadily(self, action: Callable[[], None]) -> None:
        """Do it, again if the page redraws what it was about to touch, moves it, or loses the click."""
        from selenium.common.exceptions import ElementClickInterceptedException, StaleElementReferenceException

        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return action()
            except (StaleElementReferenceException, ElementClickInterceptedException, TimeoutError):
                if time.monotonic() > deadline:
                    raise

    def _until(self, script: str, *arguments: Any, seconds: float = WAIT_SECONDS) -> Any:
        deadline = time.monotonic() + seconds
        while not (result := self._driver.execute_script(script, *arguments)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the page did not come to: {script.strip()} {arguments}")
            time.sleep(0.1)
        return result
