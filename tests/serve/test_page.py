"""The page in a real browser, by what a person does; skipped where Playwright or a chromium is not installed."""

import re
import shutil

import pytest

api = pytest.importorskip(
    "playwright.sync_api", reason="a browser's driver of 165 MB, which the lock leaves out: pip install playwright"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the page is used in chromium, which this machine has not")
TEXT = "the sea was calm and a cold wind came from the north"


@pytest.fixture(scope="module")
def browser():
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser, listening):
    """A page that was opened; whatever it complains of, or asks of another machine, is a failure."""
    context = browser.new_context(viewport={"width": 400, "height": 800})
    context.set_default_timeout(8000)
    found, wrong = context.new_page(), []
    refused = "Failed to load resource: the server responded with a status of 4"  # which the page shows
    found.on("console", lambda message: message.text.startswith(refused) or wrong.append(message.text))
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on("request", lambda asked: asked.url.startswith(listening.url) or wrong.append(asked.url))
    found.goto(listening.url)
    api.expect(found.locator(".chunk").first).to_be_visible()
    yield found
    context.close()
    assert wrong == []


def told(page, text: str) -> None:
    api.expect(page.locator("#told")).to_contain_text(text)


def test_a_text_is_recalled_as_it_is_typed_and_lost_as_numbers_are_taken(page):
    page.locator("#text").fill("")
    told(page, "There is no text.")
    page.locator("#text").type(TEXT)
    told(page, f"{len(TEXT)} characters, 19 tokens in 3 vectors: 100.0 % right")
    chunks = page.locator(".chunk")
    assert "".join(chunks.nth(n).locator("p").nth(1).text_content() for n in range(chunks.count())) == TEXT
    assert page.locator(".chunk mark").count() == 0
    page.get_by_label("Numbers kept").focus()
    page.keyboard.press("Home")
    told(page, "vectors: 0.0 % right")
    assert re.match("was “.+”; .+ % sure", page.locator(".chunk mark").first.get_attribute("title"))
    page.get_by_role("button", name="Whole vectors again").click()
    told(page, "100.0 % right")
    page.get_by_label("Check: encode again").check()
    api.expect(chunks.first).to_contain_text("all right; it encodes to this vector")
    page.get_by_label("Bits a number").press("Home")  # which the perfect one can spare
    api.expect(page.locator(".chunk figcaption").first).to_have_text("auto: 256 numbers, 32 bytes")
    told(page, "100.0 % right")
    page.get_by_label("Noise added").press("End")
    api.expect(page.locator(".chunk mark").first).to_be_visible()


def test_a_model_is_asked_by_keyboard_and_tells_what_it_read(page):
    page.locator("#document").fill(TEXT)
    page.get_by_label("Prompt").fill("the sea")
    page.get_by_label("Prompt").press("Enter")
    api.expect(page.locator("#said")).to_contain_text("copied from memories")
    memories, tokens = page.locator("#memories li"), page.locator(".token")
    assert "".join(memories.locator(":scope").all_text_contents()).count("memory") == memories.count() > 1
    tokens.first.focus()
    page.keyboard.press("ArrowRight")
    api.expect(tokens.nth(1)).to_be_focused()
    api.expect(tokens.nth(1)).to_have_attribute("aria-current", "true")
    api.expect(page.locator("#memories li.open").first).to_contain_text("of this token")
    page.locator("#reader").select_option("vector")
    page.get_by_role("button", name="Go on").click()
    api.expect(page.locator("#said")).to_contain_text("less likely without a memory")


def test_a_refusal_is_shown_and_goes_away(page):
    page.locator("#document").fill("the sea " * 2000)
    page.get_by_role("button", name="Go on").click()
    api.expect(page.get_by_role("alert")).to_contain_text("memories")
    page.locator("#document").fill(TEXT)
    page.get_by_role("button", name="Go on").click()
    api.expect(page.get_by_role("alert")).to_be_hidden()


def test_markup_in_a_text_is_text(page):
    page.locator("#text").fill("<img src=x onerror=alert(1)> & </textarea>")
    told(page, "characters")
    assert page.locator(".chunk img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_and_is_readable(browser, listening, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(listening.url)
    api.expect(page.locator(".chunk").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] > 128")
    assert light == (scheme == "light")
    first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert first < 1000, "first paint under a second"
    context.close()


def test_a_key_is_asked_for(browser, start):
    locked = start(key="sesame")
    context = browser.new_context()
    page = context.new_page()
    page.goto(locked.url)
    page.get_by_label("This server asks for a key").fill("sesame")
    page.get_by_role("button", name="Use it").click()
    api.expect(page.locator(".chunk").first).to_be_visible()
    context.close()
    locked.close()
