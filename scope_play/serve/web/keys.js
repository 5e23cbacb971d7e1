// Keyboard by the place of its keys, and a locked mouse: the window's default bindings (play/input/keyboard.py).

const BUTTONS = { Space: "south", KeyF: "right_thumb", KeyR: "west", KeyQ: "north" };
const MOUSE = { 0: "right_trigger", 1: "right_thumb", 2: "left_trigger" };
const PUSH = { KeyW: ["left", 0, -1], KeyS: ["left", 0, 1], KeyA: ["left", -1, 0], KeyD: ["left", 1, 0], ArrowUp: ["right", 0, -1], ArrowDown: ["right", 0, 1], ArrowLeft: ["right", -1, 0], ArrowRight: ["right", 1, 0] };
const NAV = { ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right", Enter: "ok", Escape: "menu", Backspace: "view" };
const LOOK_SPEED = 0.6, MOUSE_PIXELS = 40;

export class Keys {
  // emit(event), nav(name), key(name) for F1 and the like; playing() and typing() say what keys mean now
  constructor(canvas, clock, { emit, nav, key, playing, typing, used }) {
    Object.assign(this, { canvas, clock, emit, playing, typing });
    this.reset();
    addEventListener("keydown", (event) => {
      if (typing() || event.metaKey || event.ctrlKey || event.altKey) return;
      if (/^F(1|2|9|11|12)$/.test(event.key)) {
        event.preventDefault();
        return event.repeat || key(event.key);
      }
      if (!(event.code in NAV || event.code in BUTTONS || event.code in PUSH)) return;
      event.preventDefault();
      used();
      if (playing()) {
        if (event.repeat) return;
        if (event.code in NAV && !(event.code in PUSH)) return nav(NAV[event.code]);
        this.hold(event.code, true);
      } else if (event.code in NAV) nav(NAV[event.code] === "menu" ? "back" : NAV[event.code], event.repeat);
    });
    addEventListener("keyup", ({ code }) => this.hold(code, false));
    canvas.addEventListener("mousedown", ({ button }) => {
      if (!playing()) return;
      used();
      if (document.pointerLockElement !== canvas) return this.lock();
      if (button in MOUSE) this.press(MOUSE[button], `mouse${button}`, true);
    });
    addEventListener("mouseup", ({ button }) => button in MOUSE && this.press(MOUSE[button], `mouse${button}`, false));
    addEventListener("contextmenu", (event) => event.preventDefault());
    addEventListener("wheel", () => {
      if (!playing() || this.held.has("wheel")) return;
      const now = clock();
      emit([now, "button", "north", true]);
      emit([now, "button", "north", false]);
    });
    addEventListener("mousemove", ({ movementX, movementY }) => {
      if (playing() && document.pointerLockElement === canvas && (movementX || movementY)) emit([clock(), "look", movementX / MOUSE_PIXELS, movementY / MOUSE_PIXELS]);
    });
    document.addEventListener("pointerlockchange", () => {
      if (!document.pointerLockElement && playing()) nav("menu"); // Escape leaves the lock, and is the pause key
    });
  }

  async lock() {
    try {
      await this.canvas.requestPointerLock({ unadjustedMovement: true });
    } catch {
      await this.canvas.requestPointerLock()?.catch?.(() => {});
    }
  }

  reset() {
    this.held = new Set();
    this.sticks = { left: [0, 0], right: [0, 0] };
  }

  hold(code, pressed) {
    if (code in BUTTONS) return this.press(BUTTONS[code], code, pressed);
    if (!(code in PUSH) || pressed === this.held.has(code) || (pressed && !this.playing())) return;
    pressed ? this.held.add(code) : this.held.delete(code);
    const side = PUSH[code][0];
    const pushes = [...this.held].filter((each) => PUSH[each]?.[0] === side).map((each) => PUSH[each]);
    let [x, y] = [pushes.reduce((sum, push) => sum + push[1], 0), pushes.reduce((sum, push) => sum + push[2], 0)];
    const length = Math.hypot(x, y), most = side === "right" ? LOOK_SPEED : 1;
    if (length) [x, y] = [(x / Math.max(length, 1)) * most, (y / Math.max(length, 1)) * most];
    this.sticks[side] = [x, y];
    this.emit([this.clock(), "stick", side, x, y]);
  }

  press(name, control, pressed) {
    if (pressed === this.held.has(control) || (pressed && !this.playing())) return;
    pressed ? this.held.add(control) : this.held.delete(control);
    this.emit([this.clock(), "button", name, pressed]);
  }
}
