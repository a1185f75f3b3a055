"""GAN Lab in headless Chromium: the page's buttons, its drawing canvas and its histories, behind a few methods."""
import contextlib
import re
import shutil

import numpy as np

from . import drawings
from .command import UserError

# Material Design Lite puts the play icon in the wrong place in headless Chromium; the rest is tracking and video.
BLOCKED = re.compile("code.getmdl.io|googletagmanager|google-analytics|youtube")
# The page asks once whether WebGL exists and then lets TensorFlow.js choose. Without a GPU the pure JavaScript
# backend is three times as fast as emulated WebGL, so every request after the first is answered with no.
# Math.random is replaced by a seedable generator (mulberry32), the page's only source of randomness.
PREPARE = """
(() => {
  let asked = 0;
  const original = HTMLCanvasElement.prototype.getContext;
  HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
    if (/webgl/.test(kind)) return asked++ === 0 ? {} : null;
    return original.call(this, kind, ...rest);
  };
  let state = 0;
  window.reseed = (seed) => { state = seed >>> 0; };
  Math.random = () => {
    state = (state + 0x6D2B79F5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
})();
"""
ATLAS_BATCHES = 80  # the page's 12,000 samples in batches of 150: one full turn leaves its counters where they were


@contextlib.contextmanager
def open_page(url, chromium=None):
    """The GanLab of a new browser. Raises UserError where playwright, the browser or the page fail."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise UserError("needs playwright: pip install playwright (and a Chromium, see --help)") from None
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                headless=True, args=["--no-sandbox", "--disable-gpu"],
                executable_path=chromium or shutil.which("chromium"))
            page = browser.new_page(viewport={"width": 1600, "height": 1000}, device_scale_factor=2)
            page.add_init_script(PREPARE)
            page.route(BLOCKED, lambda route: route.abort())
            page.goto(url, wait_until="load", timeout=60_000)
            page.wait_for_function(
                "document.querySelectorAll('#vis-true-samples .true-dot').length === 450", timeout=60_000)
            page.wait_for_timeout(500)
            yield GanLab(page, "Chromium " + browser.version)
            browser.close()
    except Error as error:
        raise UserError(f"no browser, or the page {url} does not answer: {str(error).splitlines()[0]}") from None


class GanLab:
    """The opened page. `version` is the browser's."""

    def __init__(self, page, version):
        self.page, self.version = page, version

    def choose(self, name):
        """Selects a preset distribution, or draws one with the mouse and applies it."""
        preset = name in drawings.PRESETS
        self.page.click(f"#distribution-item-{name if preset else 'drawing'}")
        if not preset:
            box = self.page.locator("#input-drawing-canvas").bounding_box()
            for stroke in drawings.strokes(name):
                pixels = [(box["x"] + x * box["width"], box["y"] + (1 - y) * box["height"]) for x, y in stroke]
                self.page.mouse.move(*pixels[0])
                self.page.mouse.down()
                for pixel in pixels[1:]:
                    self.page.mouse.move(*pixel)
                self.page.mouse.up()
            self.page.evaluate("document.getElementById('finish-drawing').click()")
        self.page.wait_for_timeout(1000)

    def set(self, wanted):
        """Click the page's own controls until they show {"d_layers": 2, "g_learning_rate": 0.03, ...}."""
        self.page.click("#edit-model-button")
        for key, value in wanted.items():
            net, _, what = key.partition("_")
            if what == "learning_rate":
                done = self.page.evaluate(
                    """([menu, value]) => { for (const item of document.querySelectorAll(`#${menu} paper-item`))
                         if (item.innerText.trim() === value) { item.click(); return true; } return false; }""",
                    [f"{net}-learning-rate-dropdown", f"{value:g}"])
            else:
                label, button = (f"k-{net}-steps",) * 2 if what == "steps" else (f"num-{net}-{what}", f"{net}-{what}")
                done = self.page.evaluate(
                    """([label, button, value]) => { for (let i = 0; i < 200; i++) {
                         const now = +document.getElementById(label).innerText;
                         if (now === value) return true;
                         document.getElementById(button + (now < value ? '-add' : '-remove') + '-button').click();
                       } return false; }""", [label, button, value])
            if not done:
                raise UserError(f"the page does not take {key} = {value}")
        self.page.click("#edit-model-button")
        self.page.mouse.move(5, 5)  # away from the button, which would show as hovered

    def start(self, seed):
        """Fresh networks, noise and samples from the seed; the page then stands at epoch 0."""
        # The page trains one epoch per animation frame; looking once per frame stops it at the very epoch. That
        # matters: every pause draws the plots, and drawing moves the page on in its list of samples.
        self.page.evaluate("""(seed) => {
            window.gl = document.querySelector('gan-lab');
            window.press = () => document.getElementById('play-pause-button').click();
            reseed(seed); gl.createExperiment();
            const look = () => { if (gl.isPlaying && gl.iterationCount >= gl.pauseAt) press();
                                 requestAnimationFrame(look); };
            look(); }""", seed)
        self.page.wait_for_timeout(200)

    def play_until(self, epoch, progress):
        """Trains to that epoch exactly and pauses there; progress(epoch) is called about once a second."""
        # Pausing runs one more epoch, so the button is pressed one epoch early.
        self.page.evaluate("(pauseAt) => { gl.pauseAt = pauseAt; if (!gl.isPlaying) press(); }", epoch - 1)
        while True:
            playing, now = self.page.evaluate("[gl.isPlaying, gl.iterationCount]")
            progress(now)
            if not playing:
                break
            self.page.wait_for_timeout(min(1000, 100 + 10 * (epoch - now)))

    def samples(self):
        """All real and all generated samples of the page's atlas, two arrays (12000, 2)."""
        both = self.page.evaluate(
            """(batches) => { const real = [], fake = [];
                 for (let i = 0; i < batches; i++) {
                   const x = gl.trueSampleProvider.getNextCopy(); real.push(...x.dataSync()); x.dispose();
                   const z = gl.noiseProvider.getNextCopy(); const g = gl.model.generator(z);
                   fake.push(...g.dataSync()); g.dispose(); z.dispose(); }
                 return [real, fake]; }""", ATLAS_BATCHES)
        return [np.array(values).reshape(-1, 2) for values in both]

    def gradients(self):
        """Lengths (150,) of the gradient of D at the fake samples of the last pause, as the page draws them."""
        arrows = self.page.evaluate("""() => { const drawn = '#vis-generator-gradients .gradient-generated';
            return [...document.querySelectorAll(drawn)].map(e => e.__data__.slice(2)); }""")
        return np.linalg.norm(np.array(arrows, float), axis=1)

    def screenshot(self, folder):
        """Saves epochNNNNNN.png (the whole tool), _plot.png (the distributions) and _graphs.png; returns the epoch."""
        self.page.wait_for_timeout(1600)  # dots and gradients glide to their places in 1.25 s
        epoch = self.page.evaluate("gl.iterationCount")
        bottom = self.page.locator("#main-panel").bounding_box()
        clip = {"x": 0, "y": 0, "width": 1600, "height": min(1000, bottom["y"] + bottom["height"])}
        self.page.screenshot(path=folder / f"epoch{epoch:06d}.png", clip=clip)
        for part, selector in (("plot", "#vis-svg"), ("graphs", "#chart-container")):
            self.page.locator(selector).screenshot(path=folder / f"epoch{epoch:06d}_{part}.png")
        return epoch

    def settings(self):
        """The settings as the page holds them."""
        return self.page.evaluate(
            """() => ({d_layers: gl.numDiscriminatorLayers, g_layers: gl.numGeneratorLayers,
                 d_neurons: gl.numDiscriminatorNeurons, g_neurons: gl.numGeneratorNeurons, d_steps: gl.kDSteps,
                 g_steps: gl.kGSteps, d_learning_rate: gl.dLearningRate, g_learning_rate: gl.gLearningRate,
                 d_optimizer: gl.dOptimizerType, g_optimizer: gl.gOptimizerType,
                 noise: gl.selectedNoiseType, loss: gl.lossType})""")

    def losses(self):
        """The two losses as the page shows them."""
        return {f"{net}_loss": float(self.page.text_content(f"#{net}-loss-value")) for net in "dg"}

    def histories(self):
        """The page's own curves: name -> list of [epoch, value or None]."""
        curves = self.page.evaluate("""() => [...gl.costChartData, ...gl.evalChartData].map(
            c => c.map(p => [p.x, p.y === null ? null : +p.y]))""")
        return dict(zip(("d_loss", "g_loss", "kl", "js"), curves))
