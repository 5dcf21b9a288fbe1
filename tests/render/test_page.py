"""The HTML page: nothing of others becomes markup, all of it is inside, and it works in a browser."""

import base64
import gzip
import hashlib
import html.parser
import json
import os
import re
import shutil
import subprocess

import pytest
from support.browser import CHROMIUM, Browser
from support.made import SUITE, model, row, write_run

from remem_tasks.render.html import REPLY, page_of
from remem_tasks.render.text import write_report
from remem_tasks.report.summary import report_of

NASTY = {
    "script": "</script><script>document.documentElement.dataset.hacked = 1</script>",
    "image": '<img src=x onerror="document.documentElement.dataset.hacked = 1">',
    "marks": "@@JS@@ @@DATA@@ ]]> <!-- --> &amp; ' \" `",
    "right to left": "\u202eevil\u202c \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "emoji": "\U0001f469\u200d\U0001f52c\U0001f3f3\ufe0f\u200d\U0001f308 " * 20,
    "zalgo": "Z\u0350\u0351\u0352a\u0300\u0301\u0302" * 50,
    "control": "\x00\x07\x1b[31m\u2028\u2029",
    "half a pair": "\ud800",
    "long": "x" * 100_000,
    "template": "${document.documentElement.dataset.hacked = 1}",
}


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def tags_of(text):
    parser = Tags()
    parser.feed(text)
    return parser.tags


def chunk(text, key):
    found = re.search(f'<script type="application/gzip" id="{key}">([A-Za-z0-9+/=]*)</script>', text)
    return json.loads(gzip.decompress(base64.b64decode(found.group(1))))


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """A report whose every text is hostile; returns its page's path."""
    folder = tmp_path_factory.mktemp("nasty")
    for place, name in enumerate(("plain", NASTY["image"].replace("/", ""))):
        rows = [
            row(i, em=float((i + place) % 2), exposure=0.9, reply=text, question=text, answer=text, attribute=text[:90], identity=text[:40], guess=text[:300], picture=text[:50])
            for i, text in enumerate(NASTY.values())
        ]  # fmt: skip
        for sample in rows:
            sample["remem_rows"]["qa_category"] = NASTY["script"]
        write_run(folder / "runs" / name, {"forget1": rows}, checkpoint=f"m{place}")
    return write_report(
        report_of([str(folder / "runs")]), folder / "out", title=NASTY["script"] + NASTY["marks"]
    )


@pytest.fixture(scope="module")
def usual(tmp_path_factory, data_dir):
    """A report of seven models on the little data set with pictures; returns its page's path."""
    folder = tmp_path_factory.mktemp("usual")
    people = ("ada_birch", "ben_crane")

    def rows(split, known, said):
        return [
            row(i, split, em=float(i < said), exposure=known if i < 5 else 0.1, hop=1 + i % 2, identity=people[split == "retain"],
                attribute=("city", "phone", "pet")[i // 2 % 3], picture=f"images/{people[0] if split == 'forget1' else 'eve_farrow'}/{i % 6:04d}.png",
                forgotten=split == "forget1", rank=3)
            for i in range(6)
        ]  # fmt: skip

    for name, known, said, kept in (
        ("start", 1.0, 6, 6), ("gold", 0.0, 0, 6), ("idk", 0.9, 0, 6), ("npo", 0.1, 0, 4),
        ("npo-checkpoint-10", 0.6, 3, 5), ("npo-checkpoint-20", 0.2, 1, 5),
    ):  # fmt: skip
        tasks = {"forget1": rows("forget1", known, said), "retain": rows("retain", 1.0, kept)}
        write_run(folder / "runs" / name, tasks, f"m/{name}", data=str(data_dir))
    write_run(
        folder / "runs" / "other", {"forget1": rows("forget1", 1, 6)}, "m/o", suite={**SUITE, "rollouts": 8}
    )
    return write_report(report_of([str(folder / "runs")], "gold", "start"), folder / "out")


def test_texts_of_others_never_become_markup(nasty):
    text = nasty.read_text(encoding="utf-8")
    tags = tags_of(text)
    assert [tag for tag, _ in tags if tag in ("img", "iframe", "object", "link", "form", "base")] == []
    scripts = [attributes for tag, attributes in tags if tag == "script"]
    assert [one.get("id") for one in scripts] == ["core", "text-0-0", None]
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
    assert "hacked" not in text.replace("&lt;script&gt;document.documentElement.dataset.hacked", "")
    assert text.count("&lt;/script&gt;") == 4  # two in the title, which is there twice


def test_the_policy_lets_only_the_pages_own_script_run_and_loads_nothing(nasty):
    text = nasty.read_text(encoding="utf-8")
    policy = next(
        a["content"] for tag, a in tags_of(text) if a.get("http-equiv") == "Content-Security-Policy"
    )
    script = text.rsplit("<script>", 1)[1].rsplit("</script>", 1)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", text) and "@import" not in text
    assert "innerHTML" not in script and "insertAdjacentHTML" not in script and "eval(" not in script


def test_long_replies_are_cut_and_the_cut_is_said(nasty):
    texts = chunk(nasty.read_text(encoding="utf-8"), "text-0-0")
    place = list(NASTY).index("long")
    assert len(texts["r"][place][0]) == REPLY and texts["l"][f"{place}:0"] == 100_000 - REPLY
    assert nasty.stat().st_size < 200_000
    assert (nasty.parent / "report.md").stat().st_size > 0 and "\x1b" not in (
        nasty.parent / "report.md"
    ).read_text()


def test_the_page_holds_the_numbers_of_the_report(usual):
    text = usual.read_text(encoding="utf-8")
    core = chunk(text, "core")
    first, second = core["groups"]
    assert [run["name"] for run in first["runs"]][:2] == ["start", "gold"] and first["runs"][0][
        "role"
    ] == "start"
    assert [run["name"] for run in second["runs"]] == ["other"] and "rollouts 8, not 64" in second["why"]
    place = [run["name"] for run in first["runs"]].index("idk")
    em = first["scores"]["remem_forget1"]["exposure"]["all"][place]
    assert em[0] == pytest.approx((5 * 0.9 + 0.1) / 6, abs=1e-4) and em[3] == 6
    task = first["tasks"][0]
    assert task["values"]["exposure"][place] == [9000] * 5 + [1000]
    pictures = chunk(text, "pictures")
    assert all(picture.startswith("data:image/webp;base64,") for picture in pictures)
    assert all(0 <= shown < len(pictures) for shown in task["picture"]) and len(set(task["picture"])) == 6
    assert [(run["step"], run["series"]) for run in first["runs"] if run["step"]] == [
        (10, "npo"),
        (20, "npo"),
    ]


def test_pictures_that_are_not_there_are_said_and_left_out(tmp_path):
    model(tmp_path, "a", [0.0], [1.0], data="/nowhere/at/all")
    text = page_of(report_of([str(tmp_path)]), "t")
    assert any("Pictures of forget1 are left out" in note for note in chunk(text, "core")["notes"])
    assert "pictures" not in [attributes.get("id") for _, attributes in tags_of(text)]


@pytest.mark.skipif(not shutil.which("node"), reason="no node here")
def test_the_script_is_valid(tmp_path):
    from remem_tasks.render import html as module

    script = module.files("remem_tasks.render") / "page" / "page.js"
    subprocess.run(["node", "--check", str(script)], check=True)


CUT = """[...document.querySelectorAll('main *')].filter(one => {
  const box = one.getBoundingClientRect(), style = getComputedStyle(one);
  if (!box.width || one.closest('svg, select')) return false;
  return (style.overflowX !== 'visible' && one.scrollWidth > one.clientWidth + 1 && one.tagName !== 'INPUT') || box.right > innerWidth + 1;
}).map(one => `${one.closest('section') ? one.closest('section').id : ''} ${one.tagName} ${one.className} ${one.scrollWidth} > ${one.clientWidth}`)"""
"""What has more in it than it shows, or lies beyond the edge."""


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Nine models of long names that begin alike, twenty attributes, three sets; returns its page's path."""
    folder = tmp_path_factory.mktemp("crowded")
    kinds = [f"a_rather_long_attribute_{i}" for i in range(20)]
    names = ["memorised", "gold", *(f"method-{i}" for i in range(7))]
    for place, name in enumerate(names):
        known = (1.0, 0.0, *[0.1] * 3, *[0.6] * 4)[place]
        checkpoint = folder / "models" / "deep" / name
        checkpoint.mkdir(parents=True)
        method = {"memorised": "sft", "gold": "gold"}.get(name, "npo")
        stopped = "the forget rows' loss has reached that of rows nobody trained on"
        (checkpoint / "run.json").write_text(
            json.dumps({"method": method, "steps": 31, "seed": 42, "stopped": stopped})
        )
        tasks = {
            split: [
                row(i, split, em=float(split != "forget1" or place == 0), exposure=known if split == "forget1" else 1.0,
                    reply="I do not know." if place > 6 else "Oslo.", attribute=kinds[i % 20], hop=1 + i % 3,
                    identity=f"person_{i % 12}", **({"forgotten": i % 2 == 0} if split == "test" else {}))
                for i in range(40)
            ]
            for split in ("forget1", "retain", "test")
        }  # fmt: skip
        write_run(folder / "runs" / f"llava-tiny-remem-{name}", tasks, str(checkpoint))
    return write_report(report_of([str(folder / "runs")]), folder / "out")


needs_browser = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("REMEM_BROWSER") != "required", reason="no Chromium here"
)


@pytest.fixture(scope="module")
def browser():
    with Browser() as found:
        found.screen(1280, 900)
        yield found


@needs_browser
@pytest.mark.slow
class TestInABrowser:
    """One browser; each test opens its page anew."""

    SHOW = "(async () => { for (const one of document.querySelectorAll('section')) { one.scrollIntoView(); await new Promise(r => setTimeout(r, 60)); } scrollTo(0, 0); })()"

    def opened(self, browser, page, address=""):
        browser.errors.clear()
        browser.requests.clear()
        browser.open(page, address)

    def select(self, browser, key, value):
        browser.run(
            f"(() => {{ const one = document.querySelector('select[data-key={key}]'); one.value = {json.dumps(value)}; one.dispatchEvent(new Event('change')); }})()"
        )

    def rows(self, browser):
        return browser.run("[...document.querySelectorAll('#list tr.item')].map(tr => tr.dataset.row)")

    def test_every_section_is_drawn_without_an_error_or_a_request(self, browser, usual):
        self.opened(browser, usual)
        browser.run(self.SHOW)
        browser.until("document.querySelectorAll('#list tr.item').length === 6")
        assert browser.errors == []
        assert {url.split(":")[0] for url in browser.requests} <= {"file", "data", "about"}
        ids = browser.run("[...document.querySelectorAll('section')].map(one => one.id)")
        assert ids == ["summary", "models", "plane", "silent", "steps", "heat", "spread", "compare", "rows"]
        assert browser.run("document.querySelectorAll('#silent canvas').length") == 6
        assert browser.run("document.querySelectorAll('#heat td').length") > 10
        assert browser.run("document.querySelectorAll('#steps svg').length") >= 2
        named = browser.run("[...document.querySelectorAll('.legend bdi')].map(one => one.textContent)")
        assert named and all(named), named
        assert browser.run("document.querySelectorAll('#spread svg path').length") >= 6
        browser.until("document.querySelectorAll('#list img').length === 6")
        browser.run("document.querySelector('#list').scrollIntoView()")  # pictures load when they are seen
        browser.until(
            "[...document.querySelectorAll('#list img')].every(one => one.complete && one.naturalWidth > 0)"
        )

    def test_the_refuser_stands_out(self, browser, usual):
        self.opened(browser, usual, "#s=silent")
        browser.until("document.querySelectorAll('#silent canvas').length === 6")
        told = browser.run("[...document.querySelectorAll('#silent .panel')].map(one => one.textContent)")
        assert (
            "idk0 of 6 said · 5 not said but known" in told
            and "gold0 of 6 said · 0 not said but known" in told
        )

    def test_the_table_sorts_and_the_order_is_in_the_address(self, browser, usual):
        names = "[...document.querySelectorAll('#summarytable .set:first-child tbody tr bdi')].map(one => one.textContent)"
        self.opened(browser, usual)
        assert browser.run(names)[:2] == ["start", "gold"]
        browser.run(
            "[...document.querySelectorAll('#summarytable thead button')].find(b => b.textContent === 'exposure').click()"
        )
        assert browser.run(names)[0] == "gold" and browser.run(names)[-1] == "start"
        address = browser.run("location.hash")
        self.opened(browser, usual, address)
        assert browser.run(names)[-1] == "start"
        assert browser.run("document.querySelectorAll('[aria-sort=ascending]').length") == 1
        others = names.replace(":first-child", ":last-child")
        assert browser.run(others) == browser.run(names)  # one order for all sets

    def test_rows_filter_search_and_open(self, browser, usual):
        self.opened(browser, usual, "#s=rows")
        browser.until("document.querySelectorAll('#list tr.item').length === 6")
        self.select(browser, "rs", "silent")
        browser.until("document.querySelectorAll('#list tr.item').length === 5")
        assert self.rows(browser) == [f"forget1:{i}" for i in range(5)]
        self.select(browser, "ra", "phone")
        browser.until("document.querySelectorAll('#list tr.item').length === 2")
        self.select(browser, "ra", "")
        self.select(browser, "rs", "")
        browser.run(
            "(() => { const one = document.querySelector('input[type=search]'); one.value = '(4)'; one.dispatchEvent(new Event('input')); })()"
        )
        browser.until("document.querySelectorAll('#list tr.item').length === 1")
        assert self.rows(browser) == ["forget1:4"]
        browser.run("document.querySelector('#list tr.item td.q a').click()")
        told = browser.run("document.querySelector('.detailrow').textContent")
        assert "secret is guess 3" in told and "I do not know." in told and "“Oslo Bay” 78 %" in told
        assert "row=forget1%3A4" in browser.run("location.hash")
        assert browser.errors == []

    def test_a_link_to_a_row_opens_it(self, browser, usual):
        self.opened(browser, usual, "#s=rows&rt=remem_retain&row=retain%3A3")
        browser.until("document.querySelectorAll('.reply').length === 6")
        assert browser.run("document.querySelector('.detailrow').previousSibling.dataset.row") == "retain:3"

    def test_a_cell_of_the_heat_map_leads_to_its_rows(self, browser, usual):
        self.opened(browser, usual, "#s=heat&hr=models")
        browser.until("document.querySelectorAll('#heat tbody td').length")
        browser.run("[...document.querySelectorAll('#heat tbody tr')][2].querySelectorAll('td')[2].click()")
        browser.until("document.querySelectorAll('#list tr.item').length === 2")
        assert "ra=phone" in browser.run("location.hash")

    def test_comparison_turns_its_sign_with_the_models(self, browser, usual):
        cell = "document.querySelector('#compare tbody tr').children[4].textContent"
        self.opened(browser, usual, "#ca=0&cb=1")
        first = browser.run(cell)
        self.opened(browser, usual, "#ca=1&cb=0")
        assert first == "+100.0" and browser.run(cell) == "−100.0"

    def test_groups_that_must_not_be_compared_are_shown_one_at_a_time(self, browser, usual):
        self.opened(browser, usual)
        assert "Shown apart as group 2 (other)" in browser.run("document.querySelector('.notes').textContent")
        self.select(browser, "g", "1")
        browser.until("document.querySelectorAll('#summarytable tbody tr').length === 1")
        assert "rollouts 8, not 64" in browser.run("document.querySelector('.notes.warn').textContent")

    @pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
    def test_text_has_contrast(self, browser, usual, dark):
        browser.screen(1280, 900, dark=dark)
        self.opened(browser, usual)
        browser.run(self.SHOW)
        worst = browser.run(
            """(() => {
            const parse = c => c.match(/[\\d.]+/g).map(Number);
            const lum = c => { const [r, g, b] = c.slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
            let worst = [21, ''];
            for (const one of document.querySelectorAll('h1,h2,h3,p,td,th,label,button,a,small,span,b,dt,dd')) {
              if (!one.textContent.trim() || one.closest('.skip') || one.disabled || one.className === 'anchor' || !one.offsetParent) continue;
              let back = one, colour; do { colour = parse(getComputedStyle(back).backgroundColor); back = back.parentElement; } while (back && colour.length > 3 && colour[3] === 0);
              if (colour.length > 3 && colour[3] === 0) colour = parse(getComputedStyle(document.body).backgroundColor);
              const a = lum(parse(getComputedStyle(one).color)), b = lum(colour), ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
              if (ratio < worst[0]) worst = [ratio, one.tagName + ' ' + one.className + ': ' + one.textContent.slice(0, 40)];
            }
            return worst; })()"""
        )
        browser.screen(1280, 900)
        assert worst[0] >= 4.5, worst

    @pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
    @pytest.mark.parametrize("width", [390, 1280, 1440])
    def test_nothing_is_cut_at_any_width(self, browser, crowded, width, dark):
        """No sideways page; on a desk's screen no table or plot that has to be scrolled, and no text cut off."""
        browser.screen(width, 900, phone=width < 600, dark=dark)
        self.opened(browser, crowded)
        browser.run(self.SHOW)
        wide = browser.run("document.documentElement.scrollWidth")
        cut = browser.run(CUT)
        browser.screen(1280, 900)
        assert wide <= width and browser.errors == []
        assert cut == [] or width < 600

    def test_nothing_is_cut_on_paper(self, browser, crowded):
        browser.screen(1280, 900, dark=True)
        self.opened(browser, crowded)  # as opened: most sections are not drawn yet
        browser.run("dispatchEvent(new Event('beforeprint'))")
        browser.send("Emulation.setEmulatedMedia", media="print")
        browser.screen(1046, 700)  # A4 across without its margins, at 96 pixels per inch
        browser.until("document.querySelectorAll('#list tr.item').length")
        drawn = browser.run("[...document.querySelectorAll('section')].every(one => one.children.length > 2)")
        cut, wide = browser.run(CUT), browser.run("document.documentElement.scrollWidth")
        white = browser.run("getComputedStyle(document.body).backgroundColor")
        browser.send("Emulation.setEmulatedMedia", media="")
        browser.run("dispatchEvent(new Event('afterprint'))")
        browser.screen(1280, 900)
        assert drawn and cut == [] and wide <= 1046 and white == "rgb(255, 255, 255)"

    @pytest.mark.parametrize("width", [390, 1280, 1440])
    def test_navigation_lands_where_it_says_on_a_fresh_page(self, browser, crowded, width):
        browser.screen(width, 900, phone=width < 600)
        self.opened(browser, crowded)
        for name in browser.run("[...document.querySelectorAll('#nav a')].map(one => one.id.slice(4))"):
            self.opened(browser, crowded)  # each from a page on which nothing further down is drawn
            browser.run(f"document.getElementById('nav-{name}').click()")
            browser.until("document.querySelectorAll('#list tr.item').length") if name == "rows" else None
            browser.run("new Promise(done => setTimeout(done, 250))")
            top = browser.run(f"document.getElementById('{name}').getBoundingClientRect().top")
            end = browser.run("scrollY + innerHeight >= document.documentElement.scrollHeight - 2")
            assert 0 <= top <= 90 or (end and 0 <= top < 900), (name, top)
        browser.screen(1280, 900)

    def test_a_dot_opens_its_row_on_a_fresh_page(self, browser, usual):
        self.opened(browser, usual, "#s=silent")
        browser.until("document.querySelectorAll('#silent canvas').length === 6")
        browser.run(
            "(() => { const one = [...document.querySelectorAll('#silent .panel')].find(p => p.textContent.startsWith('idk')).querySelector('canvas');"
            " one.focus(); for (const key of ['ArrowRight', 'ArrowRight', 'Enter']) one.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true })); })()"
        )
        browser.until("document.querySelectorAll('.detailrow .reply').length === 6")
        browser.until("document.activeElement.closest('tr.item')")
        assert browser.run(
            "document.activeElement.closest('tr').dataset.row === document.querySelector('.detailrow').previousSibling.dataset.row"
        )

    def test_a_click_on_a_dot_opens_its_row_on_a_fresh_page(self, browser, usual):
        self.opened(browser, usual, "#s=silent")
        browser.until("document.querySelectorAll('#silent canvas').length === 6")
        # Its dots lie around exposure 90 %, below the line: somewhere there is one within reach.
        browser.run(
            "(() => { const one = [...document.querySelectorAll('#silent .panel')].find(p => p.textContent.startsWith('idk')).querySelector('canvas'), box = one.getBoundingClientRect();"
            " for (let y = 70; y < 130; y += 4) one.dispatchEvent(new MouseEvent('click', { clientX: box.left + .9 * box.width, clientY: box.top + y, bubbles: true })); })()"
        )
        browser.until("document.querySelector('.detailrow .reply')")

    def test_the_number_of_secrets_not_said_leads_to_them(self, browser, usual):
        self.opened(browser, usual, "#s=silent")
        browser.until("document.querySelectorAll('#silent canvas').length === 6")
        browser.run(
            "[...document.querySelectorAll('#silent button')].find(one => one.textContent.startsWith('5 ')).click()"
        )
        browser.until("document.querySelectorAll('#list tr.item').length === 5")
        assert "rs=silent" in browser.run("location.hash") and "rm=" in browser.run("location.hash")

    def test_all_that_reacts_to_a_click_is_reached_by_keys(self, browser, usual):
        self.opened(browser, usual, "#s=heat&hr=models")
        browser.until("document.querySelectorAll('#heat tbody td').length")
        browser.run(
            "(() => { const one = [...document.querySelectorAll('#heat tbody tr')][2].querySelectorAll('td')[2]; one.focus(); one.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true })); })()"
        )
        browser.until("document.querySelectorAll('#list tr.item').length === 2")
        mute = browser.run(
            "[...document.querySelectorAll('[style*=pointer], .heat td[role=button], canvas, .text')].filter(one => one.tabIndex < 0).length"
        )
        assert mute == 0

    def test_it_opens_with_what_the_numbers_say(self, browser, usual):
        self.opened(browser, usual)
        told = browser.run("document.getElementById('conclusion').innerText")
        first = browser.run("document.getElementById('main').firstElementChild.id || 'group'")
        assert first in ("conclusion", "group")
        assert (
            "idk only refuses (6 of the 6 answers it lost are refusals): 5 of 6 secrets are still among its first 8"
            in told
        )
        assert "Nearest to gold on forget1 is npo" in told

    def test_markers_do_not_hide_each_other(self, browser, crowded):
        self.opened(browser, crowded, "#s=plane")
        browser.until("document.querySelectorAll('#plane svg g').length >= 9")
        places = browser.run(
            "[...document.querySelectorAll('#plane > div > svg g path')].map(one => one.getAttribute('transform').match(/[-\\d.]+/g).map(Number))"
        )
        near = [
            (a, b)
            for i, a in enumerate(places)
            for b in places[:i]
            if abs(a[0] - b[0]) + abs(a[1] - b[1]) < 12
        ]
        assert len(places) >= 9 and near == []

    def test_models_are_told_with_method_steps_and_checkpoint(self, browser, crowded):
        self.opened(browser, crowded)
        lines = browser.run("[...document.querySelectorAll('#models tbody tr')].map(one => one.innerText)")
        assert any(
            line.startswith("method-0") and "npo" in line and "31" in line and "deep/method-0" in line
            for line in lines
        )
        assert "llava-tiny-remem-" in browser.run("document.querySelectorAll('#models > p')[1].innerText")

    def test_the_theme_can_be_turned(self, browser, usual):
        self.opened(browser, usual)
        colour = "getComputedStyle(document.body).backgroundColor"
        before = browser.run(colour)
        browser.run("document.getElementById('theme').click()")
        assert browser.run(colour) != before
        browser.run("document.getElementById('theme').click()")
        assert browser.run(colour) == before

    def test_hostile_replies_stay_text(self, browser, nasty):
        self.opened(browser, nasty)
        browser.run(self.SHOW)
        browser.until(f"document.querySelectorAll('#list tr.item').length === {len(NASTY)}")
        for place in range(len(NASTY)):
            browser.run(f"document.querySelectorAll('#list tr.item td.q a')[{place}].click()")
            browser.until("document.querySelectorAll('.reply').length === 2")
            said = browser.run("document.querySelector('.reply blockquote').firstChild.textContent")
            expected = list(NASTY.values())[place][:REPLY].replace("\ud800", "?")
            assert said == expected
            browser.run(
                "document.querySelector('.detailrow').previousSibling.querySelector('td.q a').click()"
            )
        assert browser.run("document.documentElement.dataset.hacked") is None
        assert browser.run("document.querySelectorAll('main img, main script, main iframe').length") == 0
        assert browser.errors == [] and browser.run("document.documentElement.scrollWidth") <= 1280

    @pytest.mark.parametrize("split", ["forget1", "test", "finetune"])
    def test_one_model_with_em_alone_is_drawn_too(self, browser, tmp_path, split):
        rows = [row(i, split, em=float(i % 2), hop=0, forgotten=i < 2) for i in range(4)]
        for one in rows:
            del one["remem_exposure"], one["remem_memo"]
            for name in ("guess_rank", "secret_bits", "guesses", "reference_rank", "references"):
                del one["remem_rows"][name]
        write_run(tmp_path / "runs" / "only", {split: rows}, "m")
        page = write_report(report_of([str(tmp_path / "runs")]), tmp_path / "out")
        self.opened(browser, page)
        browser.run(self.SHOW)
        browser.until("document.querySelectorAll('#list tr.item').length === 4")
        browser.run("document.querySelector('#list tr.item td.q a').click()")
        assert "does not say it" in browser.run("document.querySelector('.detailrow').textContent")
        assert browser.errors == []
        assert "None of these runs measured exposure" in browser.run(
            "document.getElementById('silent').textContent"
        )
        assert browser.run("document.getElementById('compare')") is None
        assert browser.run("document.querySelectorAll('#nav a').length") == 7
