// The connection: one WebSocket that comes back by itself, and fetches with the token.

const PATIENCE = 110_000, PING_EVERY = 500, SILENCE = 20_000, FINAL = [4400, 4401, 4409, 1013];
export const VERSION = 1;

export const clock = () => performance.timeOrigin + performance.now();

export function findToken() {
  if (location.hash.length > 1) {
    sessionStorage.setItem("token", location.hash.slice(1));
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token") || "";
}

export class Link {
  // heard(message), picture(header), lost(text), ended(text); progress() -> {have, shown}; codecs() -> names
  constructor(token, handlers) {
    this.token = token;
    this.on = handlers;
    this.lag = 0;
    this.trips = [];
    this.resume = sessionStorage.getItem("resume");
    this.lostAt = clock();
    this.wait = 50;
    setInterval(() => this.pulse(), PING_EVERY);
    this.connect();
  }

  get roundTrip() {
    return this.trips.length ? Math.min(...this.trips) : 0;
  }

  // A line that was unplugged somewhere closes nothing: a server that does not answer for long is lost.
  pulse() {
    if (this.socket && clock() - this.heardAt > SILENCE) {
      this.socket.onclose = this.socket.onmessage = null;
      this.socket.close();
      return this.closed(1006);
    }
    this.send({ type: "ping", c: clock(), lag: Math.min(Math.max(this.lag, 0), 60_000) });
  }

  connect() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    socket.binaryType = "arraybuffer";
    this.told = "";
    socket.onopen = () => {
      const hello = { type: "hello", version: VERSION, token: this.token, codecs: this.on.codecs(), ...this.on.progress() };
      socket.send(JSON.stringify(this.resume ? { ...hello, resume: this.resume } : hello));
    };
    socket.onmessage = ({ data }) => {
      this.heardAt = clock();
      if (typeof data !== "string") return this.on.picture(readPicture(data));
      const message = JSON.parse(data);
      if (message.type === "welcome") {
        this.socket = socket;
        this.lostAt = null;
        this.wait = 50;
        message.known = this.resume === message.resume;
        this.resume = message.resume;
        sessionStorage.setItem("resume", this.resume);
      } else if (message.type === "pong") {
        this.trips = [...this.trips, clock() - message.c].slice(-10);
      } else if (message.type === "error") this.told = message.text;
      this.on.heard(message);
    };
    socket.onclose = ({ code }) => this.closed(code);
  }

  closed(code) {
    const wasOpen = this.socket;
    this.socket = null;
    if (FINAL.includes(code) || this.told) return this.on.ended(this.told || `The server closed the connection (${code}).`);
    if (wasOpen || this.lostAt === null) this.lostAt = clock();
    if (clock() - this.lostAt > PATIENCE) return this.on.ended("No connection; check that the server runs and the tunnel stands, then load this page again.");
    this.on.lost("The connection was lost; trying again.");
    setTimeout(() => this.connect(), this.wait);
    this.wait = Math.min(2 * this.wait, 2000);
  }

  send(message) {
    if (this.socket && this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  async fetch(path, options = {}) {
    const answer = await fetch(path, { ...options, headers: { authorization: `Bearer ${this.token}` } });
    if (!answer.ok) throw new Error(await answer.text());
    return answer;
  }
}

export const FRAME = 1;
const CODECS = ["h264", "jpeg", "lossless", "raw"];

function readPicture(data) {
  const view = new DataView(data);
  const times = ["queued", "denoise", "decode", "encode", "work"].map((name, i) => [name, view.getFloat32(16 + 4 * i, true)]);
  return {
    kind: view.getUint8(0), codec: CODECS[view.getUint8(1)], key: view.getUint8(2) === 1, part: view.getUint8(3),
    n: view.getUint32(4, true), rowEnd: view.getFloat64(8, true), ...Object.fromEntries(times), payload: data.slice(40),
  };
}
