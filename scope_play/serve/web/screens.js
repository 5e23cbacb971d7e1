// How every screen looks: what of the page is shown, and what it says.

import { drawPad, drawStats } from "./hud.js";
import { clock } from "./link.js";
import { CONTROLS, GAME_CAPS, HINTS, clipItems, clipsItems, drawCaps, drawRows, pauseItems, startItems } from "./menus.js";

export const $ = (id) => document.getElementById(id);
export const PANELS = { pause: pauseItems, clips: clipsItems, clip: clipItems, controls: () => [{ key: "back", label: "Back" }] };
const MESSAGE = 4000;
let hushing = 0;

export function say(text, alert = false) {
  if (!text) return;
  $("message").textContent = text[0].toUpperCase() + text.slice(1);
  $("message").className = `glass${alert ? " alert" : ""}`;
  $("message").hidden = false;
  clearTimeout(hushing);
  hushing = setTimeout(hush, MESSAGE * (alert ? 2 : 1));
}

export function hush() {
  $("message").hidden = true;
}

export function curtain(text, still = false) {
  $("curtain").hidden = !text;
  $("curtain").classList.toggle("still", still);
  $("curtain").firstElementChild.textContent = text;
}

function fit() {
  const unit = Math.max(Math.min(innerWidth / 640, innerHeight / 360), 0.75) ** 0.85;
  document.documentElement.style.setProperty("--u", `${unit}px`);
  const view = $("view"), scale = Math.min(innerWidth / view.width, innerHeight / view.height);
  view.style.width = `${Math.floor(view.width * scale)}px`;
  view.style.height = `${Math.floor(view.height * scale)}px`;
}

export class Screens {
  // app's state, what it plays on and with; choose(i) acts on a row
  constructor(parts) {
    Object.assign(this, parts);
    addEventListener("resize", fit);
    setInterval(() => this.overlay(), 250);
    this.follow();
  }

  redraw() {
    const { app } = this, { screen } = app;
    const inGame = screen !== "start" && app.opened, usesPad = app.padName !== null;
    fit();
    document.body.classList.toggle("playing", this.playing());
    $("view").hidden = !inGame;
    $("shade").hidden = !(screen in PANELS);
    $("start").hidden = screen !== "start" && !(screen in PANELS && !app.opened);
    $("panel").hidden = !(screen in PANELS);
    $("panel").classList.toggle("wide", ["controls", "clips"].includes(screen) || (screen === "clip" && app.watching === app.clip?.id));
    $("rewind").hidden = screen !== "rewind";
    $("video").hidden = !(screen === "clip" && app.watching === app.clip?.id);
    if ($("video").hidden) $("video").pause();
    $("table").hidden = screen !== "controls";
    app.items = screen === "start" ? startItems(app) : (PANELS[screen]?.(app) ?? []);
    app.focus = Math.min(app.focus, Math.max(app.items.length - 1, 0));
    const point = (i) => {
      if (app.focus === i) return;
      app.focus = i;
      this.redraw();
    };
    drawRows($(screen === "start" ? "start-menu" : "panel-menu"), app.items, app.focus, point, this.choose);
    if (screen in PANELS) {
      $("heading").textContent = { pause: "Paused", clips: "Clips", clip: app.clip?.name, controls: "Controls" }[screen];
      $("note").textContent = app.note || { pause: `${app.model}, seed ${app.began?.seed ?? 0}${app.prompt ? `, ${app.prompt}` : ""}`, clips: "Recorded here since the server was started.", clip: "Every frame is made again and compared.", controls: "" }[screen];
      $("note").hidden = !$("note").textContent;
      $("note").classList.toggle("alert", app.note?.startsWith("different") ?? false);
    }
    if (screen === "controls") $("table").replaceChildren(...CONTROLS.flat().map((text) => Object.assign(document.createElement("span"), { textContent: text })));
    if (app.spec) {
      $("model").textContent = app.model;
      $("facts").textContent = `${app.spec.width}x${app.spec.height}, ${app.spec.fps} frames a second, ${app.spec.stream.steps} step${app.spec.stream.steps === 1 ? "" : "s"}, ${app.spec.device}, over the wire`;
      $("ready").textContent = `${app.model} is ready.`;
    }
    drawCaps($("legend"), GAME_CAPS[usesPad ? "pad" : "keys"]);
    drawCaps($("hints"), (HINTS[screen] ?? HINTS.other)(usesPad));
    $("device").textContent = app.padName ?? "keyboard and mouse";
    this.overlay();
  }

  overlay() {
    const { app } = this;
    $("stats").hidden = !(this.playing() && app.stats);
    $("pad").hidden = !(this.playing() && app.overlay);
    $("light").hidden = app.recording === null || app.screen === "start";
    if (this.playing() && app.stats) drawStats($("stats"), this.player, this.link);
    if (app.recording !== null) {
      const seconds = Math.floor((clock() - app.recording) / 1000);
      $("light").lastElementChild.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    }
  }

  follow() {
    requestAnimationFrame(() => this.follow());
    const { app, pad, keys } = this;
    if (!this.playing() || !app.overlay) return;
    const held = { ...pad.held };
    const marks = { Space: "south", KeyF: "right_thumb", KeyR: "west", KeyQ: "north", mouse0: "right_trigger", mouse1: "right_thumb", mouse2: "left_trigger" };
    for (const control of keys.held) if (marks[control]) held[marks[control]] = true;
    const stick = (side) => (keys.sticks[side].some(Boolean) ? keys.sticks[side] : pad.sticks[side]);
    drawPad($("pad"), held, { left: stick("left"), right: stick("right") }, pad.triggers);
  }
}
