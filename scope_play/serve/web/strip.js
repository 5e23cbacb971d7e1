// The rewind strip: what was seen, a thumbnail a chunk, and where to go back to.

const REACH = 600, ROWS = 96;

export class Strip {
  constructor(at, fill, knob) {
    Object.assign(this, { at, fill, knob });
    this.cut(0);
    this.items = [];
  }

  add(chunk, canvas) {
    const height = Math.min(ROWS, canvas.height), width = Math.round((canvas.width * height) / canvas.height);
    const small = Object.assign(document.createElement("canvas"), { width, height });
    small.getContext("2d", { alpha: false }).drawImage(canvas, 0, 0, width, height);
    this.items = [...this.items.filter((item) => item.chunk < chunk), { chunk, small }].slice(-REACH);
  }

  cut(chunk) {
    this.items = (this.items ?? []).filter((item) => item.chunk <= chunk);
  }

  get newest() {
    return this.items.at(-1)?.chunk ?? 0;
  }

  open() {
    this.chosen = this.items.length - 1;
    this.draw();
  }

  move(step) {
    this.chosen = Math.min(Math.max(this.chosen + step, 0), this.items.length - 1);
    this.draw();
  }

  get item() {
    return this.items[this.chosen];
  }

  draw() {
    const part = this.items.length > 1 ? this.chosen / (this.items.length - 1) : 1;
    this.fill.style.width = this.knob.style.left = `${100 * part}%`;
    const around = this.items.slice(Math.max(0, this.chosen - 6), this.chosen + 7);
    for (const item of around) item.small.classList.toggle("on", item === this.item);
    this.at.replaceChildren(...around.map((item) => item.small));
    const on = this.item?.small;
    if (on) this.at.scrollLeft = on.offsetLeft - this.at.offsetLeft - this.at.clientWidth / 2 + on.clientWidth / 2;
  }
}
