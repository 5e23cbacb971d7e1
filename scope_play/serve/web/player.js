// One game on this side: pictures in, the frame that is due on the canvas, and the next chunk asked for in time.

import { FRAME, clock } from "./link.js";
import { Pace } from "./pace.js";

const STALL = 1000, SLOW_DECODER = 1200;

export class Player {
  // sample() gives what the hands did since the last time; on.stood(chunk), on.chunk(n, frame), on.stalled(yes)
  constructor(link, canvas, sample, on) {
    this.link = link;
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.sample = sample;
    this.on = on;
    this.worker = new Worker("/web/video.worker.js");
    this.worker.onmessage = ({ data }) => this.decoded(data);
    this.gen = 0;
    this.ids = 0;
    this.playing = false;
    this.jpeg = typeof VideoDecoder === "undefined";
    this.shownLog = [];
    this.standAt(0);
    setInterval(() => this.ask(), 4);
    const frame = () => {
      requestAnimationFrame(frame);
      this.show();
    };
    requestAnimationFrame(frame);
  }

  get codecs() {
    return this.jpeg ? ["jpeg"] : ["h264", "jpeg"];
  }

  get progress() {
    return { have: this.have, shown: this.shownLog };
  }

  welcome(message) {
    const { width, height, fps, stream, frames_per_latent: latent } = message.spec;
    this.perChunk = stream.chunk * latent;
    if (this.canvas.width !== width || this.canvas.height !== height) [this.canvas.width, this.canvas.height] = [width, height];
    this.worker.postMessage({ size: [width, height] });
    this.pace ??= new Pace(fps, this.perChunk);
    if (this.have === 0) this.shown = message.chunk; // this page has shown nothing yet
    this.forget(message.chunk);
    this.have = message.chunk;
    this.asked = message.limits.asked;
    for (const n of this.askedAt.keys()) if (n > this.asked) this.askedAt.delete(n);
  }

  // A new line of play: nothing that was on its way counts.
  standAt(chunk) {
    this.stalled = false;
    for (const item of this.pending ?? []) item.frame.close();
    this.pending = [];
    this.have = this.asked = this.shown = chunk;
    this.shownLog = [];
    this.askedAt = new Map();
    this.forget(chunk);
    this.lastRowEnd = null;
    this.times = null;
    this.shownAt = [];
  }

  // What was not wholly in hand comes again.
  forget(have) {
    this.gen += 1;
    this.inDecoder = new Map();
    this.pending = (this.pending ?? []).filter((item) => item.n <= have || item.frame.close());
    this.parts = 0;
    this.fresh = true;
  }

  play() {
    this.playing = true;
    this.pace.stoodStill();
    this.link.send({ type: "play", t: clock() });
    this.on.begin();
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.link.send({ type: "pause" });
  }

  // A picture came.
  picture(item) {
    const id = (this.ids += 1);
    this.inDecoder.set(id, { ...item, payload: null, at: clock() });
    const { codec, key, payload } = item;
    this.worker.postMessage({ gen: this.gen, id, codec, key, payload, fresh: this.fresh }, [payload]);
    this.fresh = false;
    const oldest = this.inDecoder.values().next().value;
    if (codec === "h264" && clock() - oldest.at > SLOW_DECODER) this.useJpeg();
  }

  useJpeg() {
    this.jpeg = true;
    this.link.send({ type: "key", codec: "jpeg" });
    this.on.say("This browser decodes video too slowly; pictures are sent as JPEG.");
  }

  decoded({ gen, id, frame, error }) {
    if (error) {
      if (gen === this.gen && !this.jpeg) this.useJpeg();
      return;
    }
    const item = this.inDecoder.get(id);
    if (gen !== this.gen || !item) return frame.close();
    this.inDecoder.delete(id);
    const now = clock();
    if (item.kind !== FRAME) {
      this.draw(frame);
      this.on.stood(item.n, this.canvas);
      frame.close();
      return;
    }
    if (item.part === 0) this.arrived(item, now);
    this.parts = item.part + 1;
    if (this.parts === this.perChunk) {
      this.have = item.n;
      this.parts = 0;
    }
    this.pending.push({ frame, n: item.n, part: item.part, item, now });
  }

  arrived(item, now) {
    const asked = this.askedAt.get(item.n);
    this.askedAt.delete(item.n);
    if (this.stalled) {
      this.on.stalled((this.stalled = false));
      if (this.playing) this.play(); // what was done while the picture stood still does not count
    }
    if (asked === undefined) return;
    const answer = now - asked - item.queued;
    this.pace.arrived(item.work, answer);
    const way = answer - item.denoise - item.decode - item.encode;
    this.ways = [...(this.ways ?? []), way].slice(-50);
    this.link.lag = way - Math.min(...this.ways);
    const span = this.lastRowEnd === null ? 0 : item.rowEnd - this.lastRowEnd;
    this.lastRowEnd = item.rowEnd;
    const up = Math.min(this.link.roundTrip / 2, way);
    item.times = { input: span / 2, up, queue: item.queued, denoise: item.denoise, decode: item.decode, encode: item.encode, down: way - up };
  }

  get flying() {
    return (this.asked - this.have) * this.perChunk - this.parts;
  }

  ask() {
    if (!this.playing || !this.pace) return;
    this.sample();
    const now = clock();
    const ready = this.pending.length;
    const since = this.askedAt.values().next().value ?? -Infinity;
    const begin = this.pace.beginAt(now, ready, this.flying, since);
    if (begin !== null && now >= begin && this.link.socket) {
      this.asked += 1;
      this.askedAt.set(this.asked, now);
      this.link.send({ type: "go", n: this.asked, now });
    }
    const oldest = this.askedAt.values().next().value;
    if (!this.stalled && oldest !== undefined && now - oldest > STALL + 3 * this.pace.lead()) this.on.stalled((this.stalled = true));
  }

  show() {
    const now = clock();
    if (!this.playing || !this.pending.length || !this.pace.isDue(now + 4)) return;
    const { frame, n, part, item, now: decodedAt } = this.pending.shift();
    this.draw(frame);
    this.pace.shown(now, part === 0);
    if (part === 0) {
      this.shown = n;
      this.shownLog = [...this.shownLog.slice(-7), [n, now]];
      this.link.send({ type: "shown", n, t: now });
      if (item.times) this.times = { ...item.times, show: now - decodedAt };
    }
    this.shownAt = [...this.shownAt, now].slice(-41);
    if (part === this.perChunk - 1) this.on.chunk(n, this.canvas);
    frame.close();
  }

  draw(frame) {
    this.context.drawImage(frame, 0, 0, this.canvas.width, this.canvas.height);
  }

  get fps() {
    const at = this.shownAt;
    return at.length < 2 ? 0 : (1000 * (at.length - 1)) / Math.max(at.at(-1) - at[0], 1e-6);
  }
}
