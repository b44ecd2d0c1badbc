// One run's tiles on a canvas, with a legend and a line of words. Knows nothing of the host but its colours.

// As in the pack's Region Map: evaluations from none to all, and what a tile is doing.
const RAMP = ["#440154", "#472c7a", "#3b518b", "#2c718e", "#21908d", "#27ad81", "#5cc863", "#aadc32", "#fde725"];
const CLASSES = [
  ["growing", "#ff7043"],
  ["stable", "#f0f3f8"],
  ["saturated", "#4fc3f7"],
  ["untouched", "#787c84"],
];
const UNTOUCHED = 3;
const LONG_SIDE = 1024; // of the canvas, in its own px
const WORDS_PX = 92; // legend and words below it
const STYLE = {
  box: `display:flex; flex-direction:column; gap:4px; box-sizing:border-box; padding:6px; border-radius:6px; overflow:hidden;
    background:var(--comfy-menu-bg); color:var(--input-text); border:1px solid var(--border-color); font:11px/1.35 sans-serif;`,
  canvas: "flex:0 1 auto; min-height:0; width:100%; object-fit:contain; cursor:crosshair;",
  legend: "display:flex; flex-wrap:wrap; align-items:center; gap:2px 10px; flex:none;",
  words: "flex:none; height:3.9em; overflow:hidden; color:var(--descrip-text);",
  ramp: `display:inline-block; width:56px; height:9px; margin:0 4px; background:linear-gradient(90deg, ${RAMP.join(",")});`,
};

function make(tag, style, parent, text = "") {
  const element = document.createElement(tag);
  element.style.cssText = style;
  element.textContent = text;
  parent?.append(element);
  return element;
}

function tint(share) {
  const place = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
  const low = Math.min(Math.floor(place), RAMP.length - 2);
  const mix = [1, 3, 5].map((at) => {
    const [from, to] = [RAMP[low], RAMP[low + 1]].map((colour) => parseInt(colour.slice(at, at + 2), 16));
    return Math.round(from + (to - from) * (place - low));
  });
  return `rgb(${mix})`;
}

function count(number, word) {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}

export class RegionMap {
  constructor() {
    this.element = make("div", STYLE.box, null);
    this.element.className = "adadiffsr-regions";
    this.canvas = make("canvas", STYLE.canvas, this.element);
    this.canvas.setAttribute("role", "img");
    this.legend = make("div", STYLE.legend, this.element);
    this.words = make("div", STYLE.words, this.element);
    this.canvas.addEventListener("pointermove", (event) => this.point(this.find(event)));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.isRunning = false;
  }

  // The least height of the element, px.
  get height() {
    return this.mapHeight + WORDS_PX;
  }

  // Evaluations at the bright end of the colours, as in the Region Map: a quarter of the steps, or the most that a tile took.
  get bright() {
    return Math.max(1, Math.ceil(this.steps / 4), ...this.tiles.map((tile) => tile.nfe));
  }

  // A run's first message.
  begin({ canvas, images, steps, cells }) {
    const [height, width] = canvas;
    this.steps = steps;
    this.cells = cells;
    this.size = [width, height];
    // Images of a batch stand in rows, about as many as there are columns.
    this.columns = Math.ceil(Math.sqrt((images * height) / width)) || 1;
    this.columns = Math.min(this.columns, images);
    this.rows = Math.ceil(images / this.columns);
    const sides = [width * this.columns, height * this.rows];
    this.zoom = LONG_SIDE / Math.max(...sides);
    [this.canvas.width, this.canvas.height] = sides.map((side) => Math.max(1, Math.round(side * this.zoom)));
    this.canvas.style.aspectRatio = `${sides[0]} / ${sides[1]}`;
    this.mapHeight = Math.round(Math.min(Math.max((320 * sides[1]) / sides[0], 160), 400));
    this.element.style.minHeight = `${this.height}px`;
    // id -> { nfe, kind, done }; `kind` is a place in CLASSES, or -1 before the first evaluation.
    this.tiles = Array.from({ length: images * cells.length }, () => ({ nfe: 0, kind: -1, done: false }));
    this.images = images;
    this.stories = null;
    this.picture = null;
    this.pointed = null;
    this.isRunning = true;
  }

  // Any message: tiles that are new or changed, [id, evaluations, class, finished].
  change(tiles) {
    for (const [id, nfe, kind, done] of tiles) this.tiles[id] = { nfe, kind, done: Boolean(done) };
    this.refresh();
  }

  // A run's last message: [base indices, likeness] of each tile.
  end(stories) {
    this.stories = stories;
    this.isRunning = false;
    this.refresh();
  }

  // The host's newest preview, which is of the first image.
  show(picture) {
    this.picture?.close();
    this.picture = picture;
    this.refresh();
  }

  // Have the words tell of a tile, or of the whole run.
  point(id) {
    if (id === this.pointed) return;
    this.pointed = id;
    this.refresh();
  }

  // Id of the tile under the pointer, or null. The canvas is fitted into its box, with bars at two sides.
  find(event) {
    const box = this.canvas.getBoundingClientRect();
    const fit = Math.min(box.width / this.canvas.width, box.height / this.canvas.height);
    const x = (event.clientX - box.left - (box.width - this.canvas.width * fit) / 2) / fit / this.zoom;
    const y = (event.clientY - box.top - (box.height - this.canvas.height * fit) / 2) / fit / this.zoom;
    const [width, height] = this.size;
    const [column, row] = [Math.floor(x / width), Math.floor(y / height)];
    const image = row * this.columns + column;
    if (column < 0 || column >= this.columns || row < 0 || image >= this.images) return null;
    const [left, top] = [x - column * width, y - row * height];
    const cell = this.cells.findIndex(([x0, y0, x1, y1]) => left >= x0 && left < x1 && top >= y0 && top < y1);
    return cell < 0 ? null : image * this.cells.length + cell;
  }

  // Everything anew, at most once for each frame of the screen.
  refresh() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
      this.drawLegend();
      const words = this.pointed === null ? this.summary() : this.story(this.pointed);
      this.words.textContent = words;
      this.canvas.setAttribute("aria-label", words);
    });
  }

  draw() {
    const context = this.canvas.getContext("2d");
    const [width, height] = this.size.map((side) => side * this.zoom);
    context.fillStyle = "#26282c";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    if (this.picture) {
      context.filter = "saturate(15%) brightness(75%)"; // so that the colours above it are seen
      context.drawImage(this.picture, 0, 0, width, height);
      context.filter = "none";
    }
    const bright = this.bright;
    this.tiles.forEach((tile, id) => {
      const image = Math.floor(id / this.cells.length);
      const [x, y] = [(image % this.columns) * width, Math.floor(image / this.columns) * height];
      const [left, top, right, bottom] = this.cells[id % this.cells.length].map((edge) => edge * this.zoom);
      this.drawTile(context, tile, [x + left, y + top, right - left, bottom - top], bright, id === this.pointed);
    });
  }

  drawTile(context, { nfe, kind, done }, [left, top, width, height], bright, isPointed) {
    const side = Math.min(width, height);
    if (nfe) {
      context.globalAlpha = 0.42;
      context.fillStyle = tint(nfe / bright);
      context.fillRect(left, top, width, height);
      context.globalAlpha = 1;
    }
    const border = isPointed ? 10 : kind < 0 ? 1 : Math.max(2, Math.min(6, side / 24));
    context.lineWidth = border;
    context.strokeStyle = CLASSES[kind]?.[1] ?? "#9a9da3";
    context.setLineDash(done || kind < 0 ? [] : [3 * border, 2 * border]);
    context.strokeRect(left + border / 2 + 1, top + border / 2 + 1, width - border - 2, height - border - 2);
    context.setLineDash([]);
    if (kind === UNTOUCHED) return;
    const text = `${nfe}${done ? "\u2009✓" : ""}`;
    const font = Math.min(0.36 * height, (1.3 * width) / (text.length + 1), 72);
    if (font < 22) return; // smaller than could be read
    context.font = `600 ${font}px sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = font / 6;
    context.lineJoin = "round";
    context.strokeStyle = "#000a";
    context.fillStyle = kind < 0 ? "#ffffff80" : "#ffffff";
    context.strokeText(text, left + width / 2, top + height / 2);
    context.fillText(text, left + width / 2, top + height / 2);
  }

  drawLegend() {
    this.legend.replaceChildren();
    const ramp = make("span", "white-space:nowrap", this.legend, "evaluations: 0");
    make("span", STYLE.ramp, ramp);
    ramp.append(String(this.bright));
    CLASSES.forEach(([name, colour], kind) => {
      const number = this.tiles.filter((tile) => tile.kind === kind).length;
      if (kind === UNTOUCHED && !number) return;
      const item = make("span", "white-space:nowrap", this.legend);
      make("span", `display:inline-block; width:7px; height:7px; margin-right:4px; border:2px solid ${colour};`, item);
      item.append(`${name} ${number}`);
    });
    if (this.tiles.some((tile) => !tile.done)) make("span", "white-space:nowrap", this.legend, "┅ still at work");
    make("span", "white-space:nowrap", this.legend, "✓ finished");
  }

  summary() {
    const spent = this.tiles.reduce((sum, tile) => sum + tile.nfe, 0);
    const done = this.tiles.filter((tile) => tile.done).length;
    const all = this.tiles.length * this.steps;
    if (this.isRunning) return `${count(spent, "evaluation")} so far; ${done} of ${count(this.tiles.length, "tile")} finished.`;
    const share = Math.round((100 * spent) / all);
    return `${count(this.tiles.length, "tile")} took ${spent} of ${all} evaluations (${share} %). Point at a tile for its story.`;
  }

  story(id) {
    const { nfe, kind, done } = this.tiles[id];
    const [image, cell] = [Math.floor(id / this.cells.length) + 1, (id % this.cells.length) + 1];
    const name = this.images > 1 ? `Image ${image}, tile ${cell}` : `Tile ${cell}`;
    if (kind < 0) return `${name} has not begun.`;
    if (kind === UNTOUCHED) return `${name} was left untouched, as the compute mask asks.`;
    const spent = `${name}: ${nfe} of ${count(this.steps, "evaluation")}`;
    const [word] = CLASSES[kind];
    if (!this.stories) return `${spent} so far; ${done ? `finished, ${word} at the end` : word}.`;
    const [steps, likeness] = this.stories[id];
    const places = `at base step${steps.length === 1 ? "" : "s"} ${steps.join(", ")}`;
    const near = likeness === null ? "" : `; about ${likeness.toFixed(1)} dB like the result of all steps`;
    return `${spent}, ${places}; ${word} at the end${near}.`;
  }
}
