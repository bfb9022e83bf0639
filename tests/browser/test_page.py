"""Explorers as files of their own, in Chromium: mouse, keyboard and touch, sizes and themes, damage, speed."""

import json
import re
import statistics
from pathlib import Path

import pytest
import torch
from chromium import PIXELS, changes, wait_until

import vae_helpers as vh
from vae_helpers.data import load_mnist, load_portraits, to_grey
from vae_helpers.experiments import sprites
from vae_helpers.page import comparison_spec, factor_spec, write_page

RESULTS = Path(__file__).resolve().parents[2] / "test-results"
KINDS = {
    "pad": "m1/z2",
    "latents": "m1/z20",
    "labels": "m2/m2_n1000",
    "components": "m1/gmvae_k500",
    "comparison": "",
    "faces": "nonsyn/faces_vae",
    "factors": "supervised/line",
}
# milliseconds from an input event to the next frame after its picture, and without the wait for that frame
SPEED = """async move => {
    const { act, times } = eval(move)(), drawn = [], framed = [];
    for (let i = 0; i < times; i++) {
        await new Promise(resolve => requestAnimationFrame(resolve));
        const began = performance.now();
        act(i);
        drawn.push(performance.now() - began);
        await new Promise(resolve => requestAnimationFrame(resolve));
        framed.push(performance.now() - began);
    }
    return { drawn, framed };
}"""
MOVE_SLIDER = """() => {
    const input = [...document.querySelectorAll('input[type=range]')].at(-2);
    return { times: 120, act: i => {
        input.value = -3 + 6 * (i % 60) / 60;
        input.dispatchEvent(new Event('input', { bubbles: true }));
    } };
}"""
MOVE_PAD = """() => {
    const pad = document.querySelector('.vae-pad'), box = pad.getBoundingClientRect();
    return { times: 120, act: i => pad.dispatchEvent(new PointerEvent('pointermove', { buttons: 1, bubbles: true,
        clientX: box.left + box.width * (i % 60) / 60, clientY: box.top + box.height / 2 })) };
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of each kind, by name."""
    folder = tmp_path_factory.mktemp("pages")
    digits, portraits = load_mnist(download=False), load_portraits()
    x, y = to_grey(digits.x_test[:300]), digits.y_test[:300]
    for kind, name in KINDS.items():
        path = folder / f"{kind}.html"
        if kind == "comparison":
            models = {part: vh.load(f"conditional/{part}").model for part in ("both", "encoder")}
            write_page(comparison_spec(models, x, y, shape=(28, 28)), path, title=kind)
        elif kind == "factors":
            models = {"supervised": vh.load(name).model}
            write_page(factor_spec(models, sprites.images_of("rendered"), sprites.CODES["line"]), path, title=kind)
        else:
            vh.save_page(vh.load(name), path, portraits if kind == "faces" else digits, title=kind)
    return folder


@pytest.fixture
def opened(browser, pages):
    """A function that opens a page and fails the test if anything was fetched or went wrong in it."""
    opened, troubles = [], []

    def open_page(kind, width=1100, folder=pages, script="", **options):
        page = browser.new_page(viewport={"width": width, "height": 760}, **options)
        page.add_init_script(script)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        address = f"file://{folder / kind}.html"
        page.on(
            "request",
            lambda request: None if request.url.startswith((address, "blob:")) else troubles.append(request.url),
        )
        page.goto(address)
        opened.append(page)
        return page

    yield open_page
    for page in opened:
        page.close()
    assert troubles == []


def edited(page):
    return page.locator(".vae-view .vae-strip:not(.vae-small) canvas, .vae-view > figure canvas").last


def slider(page, name):
    return page.get_by_role("slider", name=re.compile(f"^{name}(,|$)"))


def first_latent(page):
    return page.locator(".vae-row input[aria-label^=z], .vae-row input[aria-label^=latent]").first


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("pad", "factors")])
def test_keys_and_mouse_move_a_latent(opened, kind):
    page = opened(kind)
    handle, picture = first_latent(page), edited(page)
    value = page.locator(".vae-value").last.inner_text()
    changes(picture, lambda: [handle.press("ArrowRight") for _ in range(10)])
    changes(picture, lambda: handle.press("Home"))
    assert float(handle.input_value()) == -3
    box = handle.bounding_box()
    y = box["y"] + box["height"] / 2

    def drag():
        page.mouse.move(box["x"] + box["width"] / 2, y)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 4, y, steps=8)
        page.mouse.up()

    changes(picture, drag)
    assert float(handle.input_value()) > 2
    assert value is not None


@pytest.mark.parametrize("kind", ["latents", "labels", "components", "comparison", "faces"])
def test_another_example_random_and_reset(opened, kind):
    page = opened(kind)
    picture = edited(page)
    changes(picture, lambda: slider(page, "start from").press("ArrowRight"))
    there = picture.evaluate(PIXELS)
    changes(picture, page.get_by_role("button", name="Random").click)
    page.get_by_role("button", name="Reset").click()
    wait_until(lambda: picture.evaluate(PIXELS) == there, 5)


def test_factors_turn_move_and_reshape_truth_and_model(opened):
    page = opened("factors")
    rows = page.locator(".vae-strip")
    assert rows.count() == 2
    truth, model, again = (
        rows.nth(0).locator("canvas").nth(0),
        rows.nth(0).locator("canvas").nth(1),
        rows.nth(1).locator("canvas"),
    )
    for name in ("shape", "scale", "orientation", "x", "y"):
        before = again.evaluate(PIXELS), truth.evaluate(PIXELS)
        changes(model, lambda name=name: slider(page, name).press("PageUp"))
        wait_until(lambda before=before: again.evaluate(PIXELS) != before[0] and truth.evaluate(PIXELS) != before[1], 5)
    start = model.evaluate(PIXELS)
    changes(model, page.get_by_role("button", name="Random").click)
    page.get_by_role("button", name="Reset").click()
    assert start is not None
    assert slider(page, "x").input_value() == "0.05"


def test_the_pad_follows_mouse_and_keys_and_stays_inside(opened):
    page = opened("pad")
    pad, picture, readout = page.locator(".vae-pad"), edited(page), page.locator(".vae-readout")
    changes(picture, lambda: pad.click(position={"x": 60, "y": 60}))
    changes(picture, lambda: [page.keyboard.press("ArrowRight") for _ in range(5)])
    for _ in range(80):
        page.keyboard.press("Shift+ArrowUp")
    limit = re.search(r"to ([\d.]+)", page.locator(".vae-axis").inner_text())[1]
    up = float(re.findall(r"[+−]([\d.]+)", readout.inner_text())[1])
    assert up == pytest.approx(float(limit), abs=0.06)
    assert page.locator(".vae-legend span span").count() == 10


@pytest.mark.parametrize("kind", KINDS)
def test_touch_moves_a_slider_or_the_pad(opened, kind):
    page = opened(kind, width=400, has_touch=True, is_mobile=True)
    handle = {"pad": page.locator(".vae-pad"), "factors": slider(page, "orientation")}.get(kind, first_latent(page))
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    where = box["x"] + box["width"] * 0.9, box["y"] + box["height"] * (0.3 if kind == "pad" else 0.5)
    changes(edited(page), lambda: page.touchscreen.tap(*where))


def test_a_label_keeps_the_code_and_the_row_shows_all_labels(opened):
    page = opened("labels")
    picture = edited(page)
    chosen = int(page.locator(".vae-label[aria-pressed=true]").inner_text())
    other = (chosen + 5) % 10
    before = first_latent(page).input_value()
    changes(picture, page.get_by_role("button", name=f"label {other}").click)
    assert first_latent(page).input_value() == before
    small = page.locator(".vae-small figure")
    assert small.count() == 10
    wait_until(lambda: "vae-chosen" in (small.nth(other).get_attribute("class") or ""), 5)
    assert small.nth(other).locator("canvas").evaluate(PIXELS) == picture.evaluate(PIXELS)
    assert small.nth(chosen).locator("canvas").evaluate(PIXELS) != picture.evaluate(PIXELS)


def test_a_label_moves_only_the_model_that_is_given_it(opened):
    page = opened("comparison")
    pictures = [page.locator(".vae-view").nth(i).locator(".vae-strip").first.locator("canvas").last for i in range(2)]
    chosen = int(page.locator(".vae-label[aria-pressed=true]").inner_text())
    fixed = pictures[1].evaluate(PIXELS)
    changes(pictures[0], page.get_by_role("button", name=f"label {(chosen + 1) % 10}").click)
    assert pictures[1].evaluate(PIXELS) == fixed


def test_components_and_draws_from_them(opened):
    page = opened("components")
    picture = edited(page)
    changes(picture, lambda: slider(page, "component").press("ArrowRight"))
    assert "% of the examples" in page.locator(".vae-about").inner_text()
    changes(picture, page.get_by_role("button", name="Draw from it").click)


def test_values_are_copied_and_the_picture_is_saved(opened, browser):
    page = opened("labels", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy values").click()
    page.get_by_text("Copied.").wait_for(timeout=5000)
    text = page.evaluate("navigator.clipboard.readText()")
    codes, label = re.fullmatch(r"z = (\[.*\]); y = (\d)", text).groups()
    assert len(json.loads(codes)) == 50
    assert 0 <= int(label) <= 9
    with page.expect_download(timeout=5000) as download:
        page.get_by_role("button", name="Save picture").click()
    assert download.value.suggested_filename == "picture.png"
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("theme", "width"), [("light", 1100), ("dark", 1100), ("light", 400)])
def test_nothing_is_wider_than_the_window(opened, kind, theme, width):
    page = opened(kind, width=width, color_scheme=theme)
    edited(page).wait_for()
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    RESULTS.mkdir(exist_ok=True)
    page.screenshot(path=RESULTS / f"page_{kind}_{theme}_{width}.png", full_page=True)


def test_all_controls_have_a_name(opened):
    for kind in KINDS:
        page = opened(kind)
        for control in page.locator("input, button, canvas[role], [tabindex]").all():
            assert control.get_attribute("aria-label") or control.inner_text(), kind


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: re.sub(r'(-data">.{400})....', r"\1AAAA", text), "its data are damaged"),
        (lambda text: re.sub(r'-data">[^<]*', '-data">AAAA', text), "its data are damaged"),
        (lambda text: text.replace('"version":1', '"version":2'), "made by another version (2)"),
        (lambda text: text.replace('"op":"elu"', '"op":"swish"'), "cannot run the layer swish"),
        (lambda text: re.sub(r'-fields">\{', '-fields">', text), "cannot be shown"),
    ],
    ids=["changed", "foreign", "version", "layer", "fields"],
)
def test_a_damaged_page_says_so(opened, pages, tmp_path, damage, words):
    (tmp_path / "bad.html").write_text(damage((pages / "latents.html").read_text()))
    page = opened("bad", folder=tmp_path)
    page.get_by_text(words).wait_for(timeout=5000)
    assert page.locator("canvas").count() == 0


def test_without_scripts_a_sentence_stands_in_its_place(browser, pages):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"file://{pages / 'latents.html'}")
    page.get_by_text("This explorer needs JavaScript.").wait_for(timeout=5000)
    context.close()


def test_the_page_lets_webassembly_draw_a_face(opened):
    count = "constructor(...given) { super(...given); window.made = (window.made ?? 0) + 1; }"
    script = f"WebAssembly.Instance = class extends WebAssembly.Instance {{ {count} }};"
    page = opened("faces", script=script)
    edited(page).wait_for()
    assert page.evaluate("window.made") == 4  # transposed convolutions of the decoder


def test_a_script_in_a_name_does_nothing(opened, tmp_path):
    evil = "<img src=x onerror=alert(1)></script><script>document.title = 'owned'</script>"
    digits = load_mnist(download=False)
    model, x, y = vh.load("m2/m2_n1000"), to_grey(digits.x_test[:40]), digits.y_test[:40]
    vh.save_page(model, tmp_path / "evil.html", x, y, title=evil, classes=[f"{evil}{k}" for k in range(10)])
    page = opened("evil", folder=tmp_path)
    edited(page).wait_for()
    assert page.title() == evil
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("kind", ["latents", "faces", "pad"])
def test_speed_is_reported(opened, kind, capsys):
    page = opened(kind)
    edited(page).wait_for()
    found = page.evaluate(SPEED, MOVE_PAD if kind == "pad" else MOVE_SLIDER)
    drawn, framed = found["drawn"][20:], found["framed"][20:]
    with capsys.disabled():
        print(
            f"\n{kind}: input to drawn picture {statistics.median(drawn):.1f} ms in the median, "
            f"{torch.tensor(drawn).quantile(0.95):.1f} ms 95 %; "
            f"a move in every frame: {1000 / statistics.mean(framed):.0f} frames a second"
        )
    assert len(drawn) == 100  # how fast is a measurement, not a condition
