// When to show which frame and when to ask for the next chunk: play/pacing.py, in ms, on this page's clock.

const MEMORY = 9, STRETCH = 1.02, MARGIN = 12, FASTER = 0.97, HICCUPS = 4;
export const IN_FLIGHT = 3;

export class Pace {
  constructor(fps, chunk) {
    this.beat = 1000 / fps;
    this.chunk = chunk;
    this.due = null; // when the next frame may be shown; null: at once
    this.interval = 0;
    this.works = []; // what a chunk takes of the model
    this.answers = []; // from asking to the first frame, less waiting for the model
    this.hiccups = 0;
  }

  arrived(work, answer) {
    this.works = [...this.works, work].slice(-MEMORY);
    const typical = this.answers.length ? middle(this.answers) : answer;
    if (answer > 2.5 * typical + 150 && this.hiccups < HICCUPS) this.hiccups += 1; // the line stood still
    else {
      this.hiccups = 0;
      this.answers = [...this.answers, answer].slice(-MEMORY);
    }
  }

  isDue(now) {
    return this.due === null || now >= this.due;
  }

  shown(now, first) {
    if (first || !this.interval) this.interval = this.wanted();
    const onGrid = this.due !== null && now - this.due < this.interval / 2;
    this.due = (onGrid ? this.due : now) + this.interval;
  }

  stoodStill() {
    this.due = null;
  }

  // `ready` frames wait to be shown and `flying` ones were asked for, the oldest at `since`. Null: more would only delay.
  beginAt(now, ready, flying, since) {
    if (ready >= this.chunk || flying > (IN_FLIGHT - 1) * this.chunk) return null;
    const interval = this.interval || this.beat;
    const due = this.due === null ? now : Math.max(this.due, now - interval);
    const shown = due + ready * interval, lead = this.lead();
    return (flying ? Math.max(shown, since + lead) + flying * interval : shown) - lead;
  }

  lead() {
    if (!this.answers.length) return this.chunk * this.beat;
    const ordered = [...this.answers].sort((a, b) => a - b);
    return ordered[Math.max(ordered.length - 2, 0)] + MARGIN;
  }

  get speed() {
    return this.interval <= this.beat ? 1 : this.beat / this.interval;
  }

  hint() {
    return this.speed >= 0.995 ? "real time" : `slow ${Math.max(this.speed, 0.01).toPrecision(2)}x`;
  }

  wanted() {
    if (!this.works.length) return this.beat;
    const ordered = [...this.works].sort((a, b) => a - b);
    const kept = ordered.length >= 4 ? ordered.slice(1, -1) : ordered;
    const needed = kept.reduce((a, b) => a + b, 0) / kept.length;
    const real = this.chunk * this.beat * (this.interval > this.beat ? FASTER : 1);
    return needed <= real ? this.beat : Math.max(this.beat, (needed * STRETCH) / this.chunk);
  }
}

function middle(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}
