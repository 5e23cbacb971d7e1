// Gamepads by the names on an Xbox pad, shaped as play/input/shaping.py does by default.

const BUTTONS = { 0: "south", 2: "west", 3: "north", 11: "right_thumb" };
const TRIGGERS = { 6: "left_trigger", 7: "right_trigger" };
const MENU = { 0: "ok", 1: "back", 8: "view", 9: "menu", 12: "up", 13: "down", 14: "left", 15: "right" };
const DEAD = 0.12, FULL = 0.97, PRESS = 0.3, RELEASE = 0.2, STEER = 0.6, LET_GO = 0.35, FIRST_REPEAT = 400, REPEAT = 110;

export function shapeStick(x, y, curve) {
  const deflection = Math.hypot(x, y);
  if (deflection <= DEAD) return [0, 0];
  const travel = Math.min(1, (deflection - DEAD) / (FULL - DEAD));
  const scale = Math.min(1, travel ** curve) / deflection;
  return [x * scale, y * scale];
}

export class Pad {
  // emit(event) for the game, nav(name) for menus, plugged(name or null)
  constructor(emit, nav, plugged) {
    this.emit = emit;
    this.nav = nav;
    this.plugged = plugged;
    this.index = null;
    this.stale = new Set(); // held from before a menu opened, or play began: must be let go first
    this.reset();
  }

  reset() {
    this.held = {};
    this.sticks = { left: [0, 0], right: [0, 0] };
    this.triggers = [0, 0];
  }

  // Play begins: what is held does not count until it is let go; sticks are where they stand.
  begin() {
    this.stale = new Set(Object.keys({ ...BUTTONS, ...TRIGGERS }));
    this.reset();
  }

  poll(now) {
    const pads = [...navigator.getGamepads()].filter((pad) => pad && pad.connected && pad.mapping === "standard");
    const pad = pads.find((each) => each.index === this.index && !pads.some((other) => other !== each && this.idle(each) && busy(other))) ?? pads.find(busy) ?? pads[0];
    if (!pad) {
      if (this.index !== null) this.plugged((this.index = null));
      return;
    }
    if (pad.index !== this.index) {
      this.index = pad.index;
      this.plugged(pad.id);
    }
    for (const [button, name] of Object.entries(BUTTONS)) this.edge(now, button, name, pad.buttons[button]?.pressed ?? false);
    for (const [button, name] of Object.entries(TRIGGERS)) {
      const value = pad.buttons[button]?.value ?? 0;
      this.triggers[button - 6] = value;
      this.edge(now, button, name, value >= (this.held[name] || this.stale.has(button) ? RELEASE : PRESS));
    }
    this.stick(now, "left", shapeStick(pad.axes[0], pad.axes[1], 1));
    this.stick(now, "right", shapeStick(pad.axes[2], pad.axes[3], 1.5));
    this.steer(now, pad);
  }

  idle(pad) {
    return !busy(pad);
  }

  edge(now, button, name, pressed) {
    if (this.stale.has(button)) {
      if (pressed) return;
      this.stale.delete(button);
    }
    if (pressed === Boolean(this.held[name])) return;
    this.held[name] = pressed;
    this.emit([now, "button", name, pressed]);
  }

  stick(now, side, [x, y]) {
    const [oldX, oldY] = this.sticks[side];
    if (x === oldX && y === oldY) return;
    this.sticks[side] = [x, y];
    this.emit([now, "stick", side, x, y]);
  }

  // Menus: buttons on their edges, directions again and again while held.
  steer(now, pad) {
    const [x, y] = pad.axes;
    const far = Math.max(Math.abs(x), Math.abs(y)), on = this.steering ? LET_GO : STEER;
    const pushed = far < on ? null : Math.abs(x) > Math.abs(y) ? (x < 0 ? "left" : "right") : y < 0 ? "up" : "down";
    const active = new Set(Object.entries(MENU).filter(([button]) => pad.buttons[button]?.pressed).map(([, name]) => name));
    if (pushed) active.add(pushed);
    this.steering = Boolean(pushed);
    this.active ??= new Map();
    for (const name of this.active.keys()) if (!active.has(name)) this.active.delete(name);
    for (const name of active) {
      const due = this.active.get(name);
      const direction = !["ok", "back", "view", "menu"].includes(name);
      if (due === undefined || (direction && now >= due)) {
        this.active.set(name, now + (due === undefined ? FIRST_REPEAT : REPEAT));
        this.nav(name);
      }
    }
  }

  // Another menu has opened: what is held does not act on it.
  letGo() {
    for (const name of this.active?.keys() ?? []) this.active.set(name, Infinity);
  }
}

function busy(pad) {
  return pad.buttons.some((button) => button.pressed) || pad.axes.some((axis) => Math.abs(axis) > 0.5);
}
