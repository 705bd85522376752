// What the page can do beyond reading: sort tables, say values of dots, zoom, copy commands.
// Everything is there without this script; nothing here asks the network.
const all = (what, where = document) => [...where.querySelectorAll(what)];
const make = (tag, attributes, text = '') => {
  const element = document.createElement(tag);
  for (const name in attributes) element.setAttribute(name, attributes[name]);
  element.textContent = text;
  return element;
};
const said = make('div', { role: 'status', class: 'unseen' });
const tip = make('div', { class: 'tip', 'aria-hidden': 'true', hidden: '' });
document.body.append(said, tip);

// Tables: a column's values are its cells' data-v, else their text. A number is what it begins with:
// `4.74 MMACs`, `−11.04`, `1,536`, `89.3 % ±1.4`, `3M..5M`.
const PREFIXES = { K: 1e3, M: 1e6, G: 1e9, T: 1e12 };
const valueOf = (row, column) => {
  const cell = row.cells[column];
  const text = cell.dataset.v ?? cell.textContent.trim();
  const found = /^([−-]?[\d,]*\.?\d+(?:e[−-]?\d+)?)\s?([KMGT])?/.exec(text);
  return found ? Number(found[1].replace('−', '-').replaceAll(',', '')) * (PREFIXES[found[2]] ?? 1) : text;
};
const compare = (a, b) => {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  if (typeof a === 'number') return -1;
  if (typeof b === 'number') return 1;
  return a.localeCompare(b, 'en', { numeric: true });
};
const isMissing = (value) => value === '' || value === '–';
const sort = (table, header) => {
  const column = header.cellIndex;
  const up = header.getAttribute('aria-sort') !== 'ascending';
  const rows = [...table.tBodies[0].rows];
  const keyed = rows.map((row, place) => ({ row, place, value: valueOf(row, column) }));
  keyed.sort((a, b) => {
    const missing = isMissing(a.value) - isMissing(b.value);
    return missing || (up ? 1 : -1) * compare(a.value, b.value) || a.place - b.place;
  });
  table.tBodies[0].append(...keyed.map((entry) => entry.row));
  all('th', table.tHead).forEach((th) => th.removeAttribute('aria-sort'));
  header.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  said.textContent = `Sorted by ${header.textContent}, ${up ? 'ascending' : 'descending'}`;
};
for (const table of all('table.sortable')) {
  for (const header of table.tHead.rows[0].cells) {
    if (!header.textContent.trim()) continue;
    const button = make('button', { type: 'button', class: 'sort' });
    button.append(...header.childNodes);
    button.addEventListener('click', () => sort(table, header));
    header.append(button);
  }
}

// Tips: what a shape's <title> says, by pointer and by keyboard. The title goes, so that browsers
// do not show it a second time.
const texts = new Map();
const textOf = (shape) => {
  const title = shape.querySelector(':scope > title');
  if (title) {
    texts.set(shape, title.textContent);
    title.remove();
  }
  return texts.get(shape);
};
let shown = null;
const hide = () => {
  shown?.classList.remove('current');
  shown = null;
  tip.hidden = true;
};
const show = (shape, by) => {
  const text = textOf(shape);
  if (text === undefined) return;
  hide();
  shown = shape;
  shape.classList.add('current');
  tip.textContent = text;
  tip.hidden = false;
  if (by === 'keyboard') said.textContent = text;
  const box = shape.getBoundingClientRect();
  const middle = box.left + box.width / 2 - tip.offsetWidth / 2;
  const most = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(8, Math.min(middle, most))}px`;
  const above = Math.max(box.top, 0) - tip.offsetHeight - 8;
  tip.style.top = `${above < 8 ? Math.min(box.bottom, innerHeight - tip.offsetHeight - 16) + 8 : above}px`;
};
document.addEventListener('pointerover', (event) => {
  const shape = event.target.closest?.('svg *');
  if (shape && textOf(shape) !== undefined) show(shape, 'pointer');
  else if (!document.activeElement?.matches('svg')) hide();
});
document.addEventListener('scroll', hide, { passive: true });

// A chart is one stop of the keyboard; arrows walk through its shapes from left to right.
const steps = (chart) => {
  const places = all('[class]', chart)
    .filter((shape) => !shape.matches('.band') && textOf(shape) !== undefined)
    .filter((shape) => shape.style.visibility !== 'hidden')
    .map((shape) => ({ shape, box: shape.getBoundingClientRect() }));
  const middle = (box) => [box.left + box.width / 2, box.top + box.height / 2];
  places.sort((a, b) => {
    const [[ax, ay], [bx, by]] = [middle(a.box), middle(b.box)];
    return ax - bx || ay - by;
  });
  return places.map((place) => place.shape);
};
const walk = (chart, key) => {
  const order = steps(chart);
  if (!order.length) return;
  const at = order.indexOf(chart.last);
  const next = {
    ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1,
    Home: 0, End: order.length - 1, stay: Math.max(at, 0),
  }[key];
  chart.last = order[Math.max(0, Math.min(next, order.length - 1))];
  show(chart.last, 'keyboard');
};

// Commands: those of a chart's section, for the net that was chosen last.
const choose = (chart, shape) => {
  const commands = chart.closest('.with-commands')?.querySelector('.commands');
  const name = commands && textOf(shape)?.split('\n')[0];
  if (!name || !shape.matches('.dot')) return;
  const label = commands.querySelector('.arch');
  for (const pre of all('pre code', commands)) {
    pre.textContent = pre.textContent.replaceAll(label.textContent, name);
  }
  label.textContent = name;
  said.textContent = `The commands below the chart are those of ${name}`;
  commands.scrollIntoView({ block: 'nearest' });
  commands.focus({ preventScroll: true });
};
const copy = async (code) => {
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    const selection = getSelection();
    selection.selectAllChildren(code);
    document.execCommand('copy');
    selection.removeAllRanges();
  }
  said.textContent = 'Copied';
};
for (const code of all('pre.command code')) {
  const button = make('button', { type: 'button', class: 'copy' }, 'Copy');
  button.addEventListener('click', async () => {
    await copy(code);
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  });
  code.parentElement.append(button);
}

for (const chart of all('svg').filter((svg) => svg.querySelector('title'))) {
  const zoom = chart.dataset.plot ? new Zoom(chart) : null;
  zoom?.addButtons();
  zoom?.listen();
  chart.setAttribute('tabindex', '0');
  chart.setAttribute('role', 'application');
  chart.setAttribute('aria-roledescription', 'chart');
  const keys = zoom ? 'plus, minus and 0 zoom, Shift with arrows moves' : 'Home and End go to its ends';
  chart.setAttribute('aria-description', `Arrow keys go from value to value; ${keys}`);
  chart.addEventListener('focus', () => { if (chart.matches(':focus-visible')) walk(chart, 'stay'); });
  chart.addEventListener('blur', hide);
  chart.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') hide();
    else if (zoom?.key(event)) event.preventDefault();
    else if (/^(Arrow|Home|End)/.test(event.key)) { event.preventDefault(); walk(chart, event.key); }
    else if (event.key === 'Enter' && chart.last) choose(chart, chart.last);
  });
  chart.addEventListener('click', (event) => {
    const shape = event.target.closest('svg *');
    if (!shape || textOf(shape) === undefined) return;
    chart.last = shape;
    choose(chart, shape);
  });
}
