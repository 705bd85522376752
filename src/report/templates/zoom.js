// Zoom: a window in pixels of the chart as it was drawn. Dots and names move, lines stretch.
const scale = (text) => {
  const [lo, hi, kind] = text.split(' ');
  const log = kind === 'log';
  const to = log ? Math.log : (v) => v;
  return { lo: to(Number(lo)), hi: to(Number(hi)), log };
};
const number = (value, digits) =>
  value.toLocaleString('en', { maximumFractionDigits: digits }).replace('-', '−');
const ticks = (lo, hi, most) => {
  const raw = (hi - lo) / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const found = [];
  for (let i = Math.ceil(lo / step); i * step <= hi; i += 1) found.push([i * step, number(i * step, digits)]);
  return found;
};
const draw = (tag, attributes) => {
  const element = document.createElementNS(document.querySelector('svg').namespaceURI, tag);
  for (const name in attributes) element.setAttribute(name, attributes[name]);
  return element;
};
let clips = 0;

class Zoom {
  constructor(chart) {
    this.chart = chart;
    [this.left, this.right, this.top, this.bottom] = chart.dataset.plot.split(' ').map(Number);
    this.scales = { x: scale(chart.dataset.x), y: scale(chart.dataset.y) };
    this.axes = {};
    for (const g of all('[data-axis]', chart)) this.axes[g.dataset.axis] = { g, drawn: g.innerHTML };
    this.clip();
    this.whole = { x0: this.left, x1: this.right, y0: this.top, y1: this.bottom };
    this.window = { ...this.whole };
  }

  clip() {
    this.id = `clip-${clips += 1}`;
    const clip = draw('clipPath', { id: this.id });
    const [width, height] = [this.right - this.left, this.bottom - this.top];
    clip.append(draw('rect', { x: this.left, y: this.top, width, height }));
    this.chart.prepend(clip);
  }

  x(px) { return this.left + ((px - this.window.x0) / (this.window.x1 - this.window.x0)) * (this.right - this.left); }

  y(px) { return this.top + ((px - this.window.y0) / (this.window.y1 - this.window.y0)) * (this.bottom - this.top); }

  isWhole() { return Object.keys(this.whole).every((k) => this.whole[k] === this.window[k]); }

  set(next) {
    const { left, right, top, bottom } = this;
    const [width, height] = [right - left, bottom - top];
    // Never more than the chart, and never less than a hundredth of it.
    const w = Math.min(Math.max(next.x1 - next.x0, width / 100), width);
    const h = Math.min(Math.max(next.y1 - next.y0, height / 100), height);
    const x0 = Math.min(Math.max((next.x0 + next.x1 - w) / 2, left), right - w);
    const y0 = Math.min(Math.max((next.y0 + next.y1 - h) / 2, top), bottom - h);
    this.window = { x0, x1: x0 + w, y0, y1: y0 + h };
    if (w === width && h === height) this.window = { ...this.whole };
    hide();
    this.draw();
  }

  draw() {
    const whole = this.isWhole();
    for (const button of this.buttons) button.disabled = whole && button.dataset.zoom !== 'in';
    for (const which of ['x', 'y']) this.axis(which, whole);
    for (const group of all('.clip', this.chart)) {
      if (whole) group.removeAttribute('clip-path');
      else group.setAttribute('clip-path', `url(#${this.id})`);
    }
    if (whole) {
      for (const shape of all('[transform]', this.chart)) shape.removeAttribute('transform');
      for (const shape of all('[style*=visibility]', this.chart)) shape.style.visibility = '';
      return;
    }
    const [sx, sy] = [this.x(1) - this.x(0), this.y(1) - this.y(0)];
    for (const line of all('.band, .whisker, .frontier', this.chart)) {
      line.setAttribute('transform', `matrix(${sx} 0 0 ${sy} ${this.x(0)} ${this.y(0)})`);
    }
    for (const shape of all('.dot, [data-at], .ref, .clip > .note', this.chart)) this.move(shape);
  }

  move(shape) {
    if (!shape.place) {
      const box = shape.getBBox();
      const at = shape.dataset.at?.split(' ').map(Number);
      shape.place = at ?? [box.x + box.width / 2, box.y + box.height / 2];
    }
    const [px, py] = shape.place;
    // A dashed line and its name keep their place from left to right.
    const dx = shape.matches('.ref, .note') ? 0 : this.x(px) - px;
    shape.setAttribute('transform', `translate(${dx} ${this.y(py) - py})`);
    const [x, y] = [px + dx, this.y(py)];
    const inside = x > this.left - 1 && x < this.right + 1 && y > this.top - 1 && y < this.bottom + 1;
    shape.style.visibility = inside ? '' : 'hidden';
  }

  // Value at a pixel of the whole chart, on the axis's own scale.
  value(which, px) {
    const { lo, hi } = this.scales[which];
    const [from, to] = which === 'x' ? [this.left, this.right] : [this.bottom, this.top];
    return lo + ((px - from) / (to - from)) * (hi - lo);
  }

  axis(which, whole) {
    const axis = this.axes[which];
    if (whole) { axis.g.innerHTML = axis.drawn; return; }
    const { x0, x1, y0, y1 } = this.window;
    const { lo: first, hi: last, log } = this.scales[which];
    const ends = which === 'x' ? [this.value('x', x0), this.value('x', x1)] : [this.value('y', y1), this.value('y', y0)];
    const [from, to] = which === 'x' ? [this.left, this.right] : [this.bottom, this.top];
    const [lo, hi] = log ? ends.map(Math.exp) : ends;
    axis.g.replaceChildren();
    for (const [value, label] of ticks(lo, hi, Math.abs(to - from) / (which === 'x' ? 70 : 40))) {
      const place = from + (((log ? Math.log(value) : value) - first) / (last - first)) * (to - from);
      const text = draw('text', { class: 'tick' });
      text.textContent = label;
      if (which === 'x') {
        const at = this.x(place);
        text.setAttribute('text-anchor', 'middle');
        text.setAttribute('x', at);
        text.setAttribute('y', this.bottom + 16);
        axis.g.append(draw('path', { class: 'axis', d: `M${at} ${this.bottom}v4` }), text);
      } else {
        const at = this.y(place);
        text.setAttribute('text-anchor', 'end');
        text.setAttribute('x', this.left - 6);
        text.setAttribute('y', at + 4);
        axis.g.append(draw('path', { class: 'grid', d: `M${this.left} ${at}H${this.right}` }), text);
      }
    }
  }

  // By a factor around a point of the window, by default that of the dot chosen last.
  by(factor, around) {
    const { x0, x1, y0, y1 } = this.window;
    const dot = this.chart.last?.place;
    const [ax, ay] = around ?? dot ?? [(x0 + x1) / 2, (y0 + y1) / 2];
    this.set({
      x0: ax - (ax - x0) / factor, x1: ax + (x1 - ax) / factor,
      y0: ay - (ay - y0) / factor, y1: ay + (y1 - ay) / factor,
    });
  }

  pan(dx, dy) {
    const { x0, x1, y0, y1 } = this.window;
    const [w, h] = [(x1 - x0) * dx, (y1 - y0) * dy];
    this.set({ x0: x0 + w, x1: x1 + w, y0: y0 + h, y1: y1 + h });
  }

  reset() { this.set(this.whole); }

  // Where a pointer is, in pixels of the whole chart.
  at(event) {
    const box = this.chart.getBoundingClientRect();
    const [, , width, height] = this.chart.getAttribute('viewBox').split(' ').map(Number);
    const px = ((event.clientX - box.left) / box.width) * width;
    const py = ((event.clientY - box.top) / box.height) * height;
    const { x0, x1, y0, y1 } = this.window;
    return [
      x0 + ((px - this.left) / (this.right - this.left)) * (x1 - x0),
      y0 + ((py - this.top) / (this.bottom - this.top)) * (y1 - y0),
    ];
  }

  listen() {
    let from = null;
    const frame = draw('rect', { class: 'frame' });
    const stop = () => { from = null; frame.remove(); };
    const mark = (to) => {
      const [ax, ay, bx, by] = [this.x(from[0]), this.y(from[1]), this.x(to[0]), this.y(to[1])];
      const box = { x: Math.min(ax, bx), y: Math.min(ay, by), width: Math.abs(ax - bx), height: Math.abs(ay - by) };
      for (const name in box) frame.setAttribute(name, box[name]);
      return box.width > 6 && box.height > 6;
    };
    this.chart.addEventListener('pointerdown', (event) => {
      // A finger scrolls the page; it has the buttons.
      if (event.button === 0 && event.pointerType !== 'touch') from = this.at(event);
    });
    addEventListener('pointermove', (event) => {
      if (!from) return;
      if (mark(this.at(event))) this.chart.append(frame);
    });
    addEventListener('pointerup', (event) => {
      if (!from) return;
      const [start, end] = [from, this.at(event)];
      const isBox = mark(end);
      stop();
      if (isBox) {
        const [x0, x1] = [start[0], end[0]].sort((a, b) => a - b);
        const [y0, y1] = [start[1], end[1]].sort((a, b) => a - b);
        this.set({ x0, x1, y0, y1 });
      }
    });
    addEventListener('pointercancel', stop);
    this.chart.addEventListener('dblclick', () => this.reset());
    this.chart.addEventListener('wheel', (event) => {
      // The wheel alone scrolls the page.
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.by(event.deltaY < 0 ? 1.3 : 1 / 1.3, this.at(event));
    }, { passive: false });
  }

  addButtons() {
    const bar = make('div', { class: 'zoom', role: 'group', 'aria-label': `Zoom of ${this.chart.getAttribute('aria-label')}` });
    const button = (what, text, label, act) => {
      const one = make('button', { type: 'button', 'data-zoom': what, 'aria-label': label }, text);
      one.addEventListener('click', act);
      bar.append(one);
      return one;
    };
    this.buttons = [
      button('in', '+', 'Zoom in', () => this.by(1.6)),
      button('out', '−', 'Zoom out', () => this.by(1 / 1.6)),
      button('reset', 'Reset', 'Reset zoom', () => this.reset()),
    ];
    bar.append(make('span', { class: 'hint' }, 'Drag a box, or Ctrl and wheel'));
    this.buttons[1].disabled = true;
    this.buttons[2].disabled = true;
    this.chart.before(bar);
  }

  key(event) {
    const act = {
      '+': () => this.by(1.6), '=': () => this.by(1.6), '-': () => this.by(1 / 1.6), 0: () => this.reset(),
    }[event.key];
    const pan = event.shiftKey && {
      ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, -0.2], ArrowDown: [0, 0.2],
    }[event.key];
    if (pan) this.pan(...pan);
    else if (act) act();
    return Boolean(pan || act);
  }
}
