"""Checks pages in Chromium: check_page.py PAGE=PART,PART ... where PARTs name what a page must have:
scatter, table, command, neighbours, confusion, map, gallery, boxes. Ends with 1 and says what is wrong."""

import sys

from drive import chromium, page, violations

MOST_BYTES = 3 << 20


def plain(opened, path, width, scheme):
    """What must hold of every page on every screen."""
    wide = opened.evaluate("document.documentElement.scrollWidth")
    if wide > width:
        yield f"{wide} pixels wide on a screen of {width}"
    for found in violations(opened):
        yield found
    if not opened.evaluate("document.querySelector('.skip').getAttribute('href') === '#content'"):
        yield "no link to the content"


def by_keyboard(opened):
    """The first stop of the keyboard is the link to the content, and can be seen there."""
    opened.keyboard.press("Tab")
    link = opened.locator(".skip")
    if not link.evaluate("e => e === document.activeElement"):
        yield "the first stop of the keyboard is not the link to the content"
    if link.bounding_box()["x"] < 0:
        yield "the link to the content cannot be seen when it has the focus"


def table(opened):
    """Every table sorts by every column, numbers by their value."""
    tables = opened.locator("table.sortable")
    if tables.count() == 0:
        yield "no table that sorts"
    wrong = opened.evaluate(
        """() => {
          const wrong = [];
          const factor = { K: 1e3, M: 1e6, G: 1e9 };
          const number = (text) => {
            const found = text.trim().replace('−', '-').match(/^(-?[\\d,.]+) ?([KMG])?/);
            return found ? parseFloat(found[1].replace(/,/g, '')) * (factor[found[2]] ?? 1) : NaN;
          };
          for (const table of document.querySelectorAll('table.sortable')) {
            [...table.tHead.rows[0].cells].forEach((head, column) => {
              const before = table.tBodies[0].rows.length;
              for (const [way, sign] of [['ascending', 1], ['descending', -1]]) {
                const name = `${table.caption.textContent}, ${head.textContent}`;
                head.querySelector('button').click();
                if (head.getAttribute('aria-sort') !== way) wrong.push(`${name}: not ${way}`);
                const cells = [...table.tBodies[0].rows].map((row) => row.cells[column]);
                if (cells.length !== before) wrong.push(`${name}: rows were lost`);
                if (!head.matches('.num') || cells.some((cell) => cell.dataset.v)) continue;
                const values = cells.map((cell) => number(cell.textContent)).filter((v) => !Number.isNaN(v));
                if (values.some((v, i) => i && sign * (v - values[i - 1]) < 0)) wrong.push(`${name}: ${values}`);
              }
              const sorted = table.querySelectorAll('[aria-sort]').length;
              if (sorted !== 1) wrong.push(`${sorted} columns say that they are sorted`);
            });
          }
          return wrong;
        }"""
    )
    yield from wrong
    # And by keyboard.
    head = tables.first.locator("thead th").nth(1)
    head.locator("button").focus()
    before = head.get_attribute("aria-sort")
    opened.keyboard.press("Enter")
    if head.get_attribute("aria-sort") == before:
        yield "Enter on a column's head does not sort"


def settled(opened, what):
    """Scrolls to an element. Scrolling hides what a dot says, and its event comes a frame later."""
    what.scroll_into_view_if_needed()
    opened.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")


def tips(opened):
    """Shapes say their values to the pointer, once, and to the keyboard."""
    tip, chart = opened.locator(".tip"), opened.locator("svg[data-plot]:visible").first
    dot = chart.locator(".dot").last
    text = dot.locator("title").text_content()
    settled(opened, dot)
    dot.hover(force=True)
    if not tip.is_visible() or tip.text_content() != text:
        yield f"a dot that is pointed at does not say {text!r}"
    if dot.locator("title").count():
        yield "the browser would say it a second time"
    opened.mouse.move(1, 1)
    chart.evaluate("e => e.blur()")
    opened.locator(".zoom:visible button").first.focus()
    # Its two neighbours are disabled, so the chart is next.
    opened.keyboard.press("Tab")
    if not chart.evaluate("e => e === document.activeElement"):
        yield "a chart is no stop of the keyboard"
    said = set()
    for _ in range(3):
        opened.keyboard.press("ArrowRight")
        if not tip.is_visible():
            yield "a dot that the keyboard goes to says nothing"
        if opened.locator("[role=status]").text_content() != tip.text_content():
            yield "a screen reader is not told what a dot says"
        said.add(chart.evaluate("e => [...e.querySelectorAll('.dot')].indexOf(e.querySelector('.current'))"))
    if len(said) < 2:
        yield "arrows do not go from dot to dot"
    opened.keyboard.press("Escape")
    if tip.is_visible():
        yield "Escape does not hide what a dot says"


def scatter(opened):
    """Dots say their values; charts zoom and can be reset."""
    yield from tips(opened)
    chart = opened.locator("svg[data-plot]:visible").first
    state = "e => [...e.querySelectorAll('.dot, [data-axis] text')].map(d => d.getBoundingClientRect().x + ' ' + d.textContent).join()"
    buttons = chart.locator("xpath=preceding-sibling::*[1]").locator("button")

    def expect(what, act, changes):
        before = chart.evaluate(state)
        act()
        if (chart.evaluate(state) != before) != changes:
            yield f"{what} {'does nothing' if changes else 'changes a chart'}"

    def reset(what, act):
        act()
        if chart.evaluate(state) != whole:
            yield f"{what} does not bring the whole chart back"

    def drag(from_, to):
        box = chart.bounding_box()
        place = lambda share: (box["x"] + share[0] * box["width"], box["y"] + share[1] * box["height"])
        opened.mouse.move(*place(from_))
        opened.mouse.down()
        opened.mouse.move(*place(to), steps=4)
        opened.mouse.up()

    def wheel(ctrl):
        chart.hover(position={"x": 200, "y": 100}, force=True)
        if ctrl:
            opened.keyboard.down("Control")
        opened.mouse.wheel(0, -100)
        opened.wait_for_timeout(100)
        if ctrl:
            opened.keyboard.up("Control")

    settled(opened, chart)
    whole = chart.evaluate(state)
    zoom_in, zoom_out, whole_again = buttons.nth(0), buttons.nth(1), buttons.nth(2)
    if zoom_out.is_enabled() or whole_again.is_enabled():
        yield "a whole chart can be zoomed out"
    yield from expect("the button to zoom in", zoom_in.click, True)
    yield from expect("the button to zoom out", zoom_out.click, True)
    zoom_in.click()
    yield from reset("the button to reset", whole_again.click)
    yield from expect("a box", lambda: drag((0.3, 0.2), (0.6, 0.7)), True)
    yield from reset("a double click", lambda: chart.dblclick(position={"x": 300, "y": 20}, force=True))
    yield from expect("a click", lambda: chart.click(position={"x": 300, "y": 20}, force=True), False)
    yield from expect("Ctrl with the wheel", lambda: wheel(True), True)
    chart.focus()
    yield from reset("0", lambda: opened.keyboard.press("0"))
    yield from expect("plus", lambda: opened.keyboard.press("+"), True)
    yield from expect("Shift with an arrow", lambda: opened.keyboard.press("Shift+ArrowRight"), True)
    yield from reset("0", lambda: opened.keyboard.press("0"))


def command(opened):
    """A dot leads to the commands of its net, which can be copied."""
    section = opened.locator(".with-commands:has(.commands):has(svg[data-plot])").first
    chart = section.locator("svg[data-plot]:visible").first
    dots, commands = chart.locator(".dot"), section.locator(".commands")
    name = commands.locator(".arch").text_content()
    lines = lambda: commands.locator("code").all_text_contents()
    if not all(name in line and line.startswith("engine ") for line in lines()):
        yield f"commands without {name}: {lines()}"
    other = chart.evaluate(
        """(e, name) => [...e.querySelectorAll('.dot')].findIndex((dot) => {
          const title = dot.querySelector('title');
          return title && !title.textContent.startsWith(name);
        })""",
        name,
    )
    chosen = dots.nth(other).locator("title").text_content().split("\n")[0]
    dots.nth(other).dispatch_event("click")
    if not all(chosen in line and name not in line for line in lines()):
        yield f"a click on {chosen} gives {lines()}"
    if commands.locator(".arch").text_content() != chosen:
        yield f"after a click on {chosen} the commands are said to be another net's"
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    commands.locator("button.copy").first.click()
    commands.locator("button.copy", has_text="Copied").wait_for()
    copied = opened.evaluate("navigator.clipboard.readText()")
    if copied != lines()[0]:
        yield f"{copied!r} was copied instead of {lines()[0]!r}"


def gallery(opened):
    """Every drawing shows its image, also those that show an image of another drawing."""
    widths = opened.evaluate(
        """() => [...document.querySelectorAll('.shots svg')].map((drawing) => {
          const image = drawing.querySelector(':scope > image, :scope > use');
          return [image?.getBoundingClientRect().width ?? 0, drawing.getBoundingClientRect().width];
        })"""
    )
    for image, drawing in widths:
        if image < 50 or abs(image - drawing) > 1:
            yield f"a drawing {drawing} pixels wide shows an image of {image}"


def boxes(opened):
    """Boxes say what they are."""
    tip, box = opened.locator(".tip"), opened.locator(".shots .object:has(title)").last
    text = box.locator("title").text_content()
    settled(opened, box)
    box.dispatch_event("pointerover")
    if not tip.is_visible() or tip.text_content() != text:
        yield f"a box that is pointed at does not say {text!r}"


PARTS = {"scatter": scatter, "table": table, "command": command, "gallery": gallery, "boxes": boxes}

# What must be there in any case, also without scripts.
MARKUP = {
    "scatter": "svg[data-plot] .dot title",
    "table": "table.sortable tbody tr",
    "command": ".commands code",
    "neighbours": ".queries .near img",
    "confusion": "table.confusion td.diagonal",
    "gallery": ".gallery .shots svg image",
    "boxes": ".shots .object title",
    "map": ".map svg[data-plot] .dot",
}


def check(browser, path, parts):
    """All that is wrong with a page."""
    size = len(open(path, "rb").read())
    if size > MOST_BYTES:
        yield f"{size} bytes, at most {MOST_BYTES}"
    for scheme in ("light", "dark"):
        for width in (1280, 400):
            touched = []
            with page(browser, path, width, scheme, touched=touched) as opened:
                for found in plain(opened, path, width, scheme):
                    yield f"{scheme}, {width}: {found}"
            yield from touched
    for part in [part for part in parts if part in PARTS]:
        touched = []
        with page(browser, path, touched=touched) as opened:
            for found in PARTS[part](opened):
                yield f"{part}: {found}"
        yield from touched
    with page(browser, path) as opened:
        yield from by_keyboard(opened)
    yield from read_without_scripts(browser, path, parts)


def read_without_scripts(browser, path, parts):
    """Tables and charts are all there, and nothing that only scripts could make work."""
    counts = lambda opened: [opened.locator(what).count() for what in ("svg path, svg circle", "tbody tr", "img", "h2, h3")]
    with page(browser, path, scripts=False) as opened:
        without = counts(opened)
        for part in parts:
            if opened.locator(MARKUP[part]).count() == 0:
                yield f"without scripts there is no {part}"
        if opened.locator("button").count():
            yield "without scripts there are buttons that do nothing"
        for chart in opened.locator("svg:visible").all()[:40]:
            box = chart.bounding_box()
            if box["width"] < 10 or box["height"] < 10:
                yield f"without scripts a chart has no size: {box}"
    with page(browser, path) as opened:
        # Clips of zoomed charts are no shapes.
        if counts(opened) != without:
            yield f"scripts change how much there is: {without}, {counts(opened)}"


def main(pages):
    wrong = 0
    with chromium() as browser:
        for arg in pages:
            path, parts = arg.rsplit("=", 1)
            for found in check(browser, path, parts.split(",")):
                print(f"{path}: {found}")
                wrong += 1
    sys.exit(1 if wrong else 0)


main(sys.argv[1:])
