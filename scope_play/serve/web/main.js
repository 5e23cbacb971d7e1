// Which screen the player is on and what a choice there does.

import { Keys } from "./keys.js";
import { Link, clock, findToken } from "./link.js";
import { Pad } from "./pad.js";
import { Player } from "./player.js";
import { $, PANELS, Screens, curtain, hush, say } from "./screens.js";
import { Strip } from "./strip.js";

const SEEDS = 1_000_000, MOST_EVENTS = 400;

const app = {
  screen: "start", focus: 0, form: { scene: 0, picture: null, prompt: "", seed: 0, mode: "exact", record: false },
  scenes: [], pictures: new Map(), clips: [], spec: null, ready: false, padName: null, recording: null, prompt: "",
  events: [], stats: true, overlay: true, cameFrom: [],
};
app.strip = new Strip($("strip"), $("track-fill"), $("track-knob"));
const playing = () => app.screen === "play";

const emit = (event) => playing() && app.events.push(event);
const pad = new Pad(emit, nav, plugged);
const keys = new Keys($("view"), clock, {
  emit, nav, key: functionKey, playing, typing: () => $("line").open, used: () => (app.byMouse = false),
});
const link = new Link(findToken(), {
  heard, lost, ended, picture: (item) => player.picture(item), codecs: () => player.codecs, progress: () => player.progress,
});
const player = new Player(link, $("view"), sample, {
  begin: () => {
    app.events = [];
    keys.reset();
    pad.begin();
    if (app.byMouse) keys.lock();
  },
  stood: (chunk, canvas) => { app.strip.cut(chunk); app.strip.add(chunk, canvas); redraw(); },
  chunk: (n, canvas) => app.strip.add(n, canvas),
  stalled: (yes) => (yes ? say("The line stands still; waiting for it.", true) : hush()),
  say,
});
app.player = player;
Object.defineProperty(window, "scopePlay", { value: app });
const screens = new Screens({ app, player, link, pad, keys, playing, choose: pick });
const redraw = () => screens.redraw();

// Hands.

function sample() {
  pad.poll(clock());
  if (player.stalled) app.events = [];
  while (app.events.length) {
    let last = 0;
    const events = app.events.splice(0, MOST_EVENTS).map(([t, ...rest]) => [(last = Math.max(t, last)), ...rest]);
    link.send({ type: "in", events });
  }
}

function plugged(id) {
  const name = id?.replace(/ *\(.*/, "") ?? null;
  app.padName = name;
  say(name ? `${name} is plugged in.` : "The pad was unplugged.", !name);
  if (!name) pause();
  redraw();
}

setInterval(() => { if (!playing()) pad.poll(clock()); }, 1000 / 60);
addEventListener("blur", () => pause());
document.addEventListener("visibilitychange", () => document.hidden && pause());
document.addEventListener("fullscreenchange", redraw);
addEventListener("touchstart", () => say("To play you need a gamepad, or a keyboard and a mouse.", true), { passive: true });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) usePicture(event.dataTransfer.files[0]);
});

function functionKey(name) {
  if (name === "F1") app.stats = !app.stats;
  if (name === "F2") app.overlay = !app.overlay;
  if (name === "F9" && app.opened) toggleRecording();
  if (name === "F11") fullscreen();
  if (name === "F12" && app.opened) screenshot();
  redraw();
}

function nav(name) {
  if (playing()) {
    if (name === "menu") pause();
    if (name === "view") openRewind();
    return;
  }
  if (!$("curtain").hidden) return;
  if (name === "menu" && app.screen === "pause") name = "back";
  if (app.screen === "rewind") return navRewind(name);
  const items = app.items ?? [];
  if (name === "up" || name === "down") {
    app.focus = (app.focus + (name === "up" ? -1 : 1) + items.length) % items.length;
    return redraw();
  }
  const item = items[app.focus];
  if (name === "back") back();
  else if (item && !item.off && name === "ok") choose(item.key, 0);
  else if (item && !item.off && item.choice && (name === "left" || name === "right")) choose(item.key, name === "left" ? -1 : 1);
}

function navRewind(name) {
  const jump = Math.max(1, Math.round((5 * app.spec.fps) / player.perChunk));
  const steps = { left: -1, right: 1, up: jump, down: -jump };
  if (name in steps) app.strip.move(steps[name]);
  else if (name === "ok" && app.strip.item) {
    link.send({ type: "rewind", chunk: app.strip.item.chunk });
    app.resuming = true;
    curtain("Going back");
  } else if (name === "back" || name === "menu") to("pause");
}

// Screens.

function to(screen) {
  if (screen === app.screen) return redraw();
  if (screen in PANELS && app.screen !== "pause" && screen !== "pause" && screen !== app.cameFrom.at(-1)) app.cameFrom.push(app.screen);
  if (app.screen === "pause" && ["clips", "controls"].includes(screen)) app.cameFrom = ["pause"];
  if (app.screen === "start" && ["clips", "controls"].includes(screen)) app.cameFrom = ["start"];
  app.screen = screen;
  app.focus = 0;
  app.note = "";
  pad.letGo();
  if (screen !== "play" && document.pointerLockElement) document.exitPointerLock();
  if (screen === "rewind") app.strip.open();
  redraw();
}

function back() {
  if (app.screen === "pause") resume();
  else if (app.screen === "clip") to("clips");
  else if (app.screen !== "start") to(app.cameFrom[0] ?? "start");
}

function pause() {
  app.resuming = false;
  if (!playing()) return;
  player.pause();
  to("pause");
}

function resume() {
  if (!app.opened || !link.socket) return;
  hush();
  to("play");
  player.play();
}

function openRewind() {
  if (app.strip.items.length < 2) return;
  player.pause();
  to("rewind");
}

function pick(i) {
  app.focus = i;
  app.byMouse = true;
  if (!app.items[i].off) choose(app.items[i].key, 0);
}

async function choose(key, step) {
  const { form } = app;
  const leaf = { back, resume, rewind: openRewind, restart: () => start(app.began), screenshot, fullscreen, clips: openClips, controls: () => to("controls") };
  if (app.screen === "clips" && key !== "back") {
    app.clip = app.clips.find((clip) => clip.id === key);
    return app.clip && to("clip");
  }
  if (app.screen === "clip" && key !== "back") return clipDo(key);
  if (key in leaf) return leaf[key]();
  if (key === "play") start({ ...form });
  if (key === "scene") {
    if (!form.picture) form.scene = (form.scene + (step || 1) + app.scenes.length) % app.scenes.length;
    form.picture = null;
    showPreview();
  }
  if (key === "picture") $("file").click();
  if (key === "seed" && step) form.seed = (form.seed + step + SEEDS) % SEEDS;
  else if (key === "seed") ask("Seed", String(form.seed), (text) => (/^\d{1,6}$/.test(text) ? (form.seed = Number(text)) : say("A seed is a whole number below 1000000.", true)));
  if (key === "mode") form.mode = form.mode === "exact" ? "responsive" : "exact";
  if (key === "prompt") ask("Prompt", app.screen === "start" ? form.prompt : app.prompt, (text) => (app.screen === "start" ? (form.prompt = text) : link.send({ type: "prompt", text: (app.wished = text) })));
  if (key === "record") app.screen === "start" ? (form.record = !form.record) : toggleRecording();
  if (key === "leave") leave();
  redraw();
}

async function start(form) {
  if (!app.ready) return;
  curtain("Starting");
  app.began = form;
  try {
    const picture = form.picture ? (form.picture.id ??= (await (await link.fetch("/pictures", { method: "POST", body: form.picture.data })).json()).id) : form.scene ? `scene-${form.scene}` : null;
    app.resuming = true;
    link.send({ type: "start", image: picture, prompt: app.spec.has_text && form.prompt ? form.prompt : null, seed: form.seed, mode: form.mode });
  } catch (error) {
    curtain("");
    say(error.message, true);
  }
}

function leave() {
  link.send({ type: "leave" });
  app.opened = false;
  app.recording = null;
  player.standAt(0);
  app.strip.items = [];
  to("start");
}

function toggleRecording() {
  link.send({ type: "record", on: !app.recording });
}

function screenshot() {
  $("view").toBlob((blob) => save(blob, `scope-play ${new Date().toISOString().replaceAll(":", "-")}.png`));
}

function save(blob, name) {
  const anchor = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 60_000);
}

function fullscreen() {
  const asked = document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen();
  asked.catch(() => say("This browser refuses fullscreen.", true));
}

async function openClips() {
  try {
    app.clips = await (await link.fetch("/clips")).json();
    to("clips");
  } catch (error) {
    say(error.message, true);
  }
}

async function clipDo(key) {
  try {
    if (key === "check") {
      app.note = "Replaying";
      link.send({ type: "check", clip: app.clip.id });
    } else if (key === "download") save(await (await link.fetch(`/clips/${app.clip.id}/zip`)).blob(), `${app.clip.name}.zip`);
    else {
      $("video").src = URL.createObjectURL(await (await link.fetch(`/clips/${app.clip.id}/video`)).blob());
      app.watching = app.clip.id;
      $("video").play().catch(() => {});
    }
  } catch (error) {
    say(error.message, true);
  }
  redraw();
}

async function usePicture(file) {
  app.form.picture = { name: file.name, data: file };
  app.focus = 0;
  showPreview();
  redraw();
}
$("file").onchange = ({ target }) => target.files[0] && usePicture(target.files[0]);

function ask(label, text, done) {
  $("line-label").textContent = `${label} (Enter to keep, Esc to leave it)`;
  $("line-text").value = text;
  $("line").onclose = () => { if ($("line").returnValue !== "cancelled") { done($("line-text").value.trim()); redraw(); } };
  $("line").oncancel = () => { $("line").returnValue = "cancelled"; };
  $("line").returnValue = "";
  $("line").showModal();
}

async function showPreview() {
  const { picture, scene } = app.form, key = picture ?? scene;
  try {
    if (!app.pictures.has(key)) app.pictures.set(key, URL.createObjectURL(picture ? picture.data : await (await link.fetch(`/scenes/${scene}`)).blob()));
    $("preview").src = app.pictures.get(key);
    $("no-preview").textContent = "";
  } catch (error) {
    $("preview").removeAttribute("src");
    $("no-preview").textContent = error.message;
  }
}

// What the server says.

async function heard(message) {
  switch (message.type) {
    case "welcome":
      app.spec = message.spec;
      app.ready = true;
      app.model = message.model.split(/[\\/]/).at(-1);
      app.recording = message.recording ? (app.recording ?? clock()) : null;
      player.welcome(message);
      curtain("");
      if (message.playing && !app.opened) Object.assign(app, { opened: true, began: { ...app.form } });
      if (message.playing && ["start", "play"].includes(app.screen)) to("pause");
      if (!message.playing && app.opened) {
        leave();
        say("The server no longer has this game.", true);
      }
      if (!app.scenes.length) {
        app.scenes = await (await link.fetch("/scenes")).json();
        showPreview();
      }
      break;
    case "opened":
      app.opened = true;
      app.prompt = message.prompt ?? "";
      player.standAt(0);
      app.strip.items = [];
      app.recording = null;
      if (app.began.record) link.send({ type: "record", on: true });
      goOn();
      break;
    case "back":
      player.standAt(message.chunk);
      app.strip.cut(message.chunk);
      goOn();
      break;
    case "recording":
      app.recording = message.on ? (app.recording ?? clock()) : null;
      if (message.state === "saved") say(message.text || "Recording saved; it is under Clips.");
      else if (message.state === "recording") say("Recording.");
      else say(message.text, true);
      if (message.state === "saved" && app.screen === "clips") openClips();
      break;
    case "checked":
      app.note = message.different !== null ? `different: frame ${message.different} is the first that is not as recorded` : message.done === message.total ? `same: all ${message.total} frames are identical` : `Replaying, ${message.done} of ${message.total} frames`;
      break;
    case "status":
      if (message.phase === "loading" || message.phase === "rewinding") curtain(message.text);
      else say(message.text, true);
      if (message.phase === "idle") pause();
      break;
    case "queue":
      curtain(`All seats are taken. Your place in the queue: ${message.place}`);
      break;
    case "done":
      if (message.what === "prompt") {
        app.prompt = app.wished;
        say("The new prompt holds from the next moment on.");
      }
      break;
    case "refused":
      say(message.text, true);
      if (app.note === "Replaying") app.note = "";
      break;
    case "failed":
      curtain("");
      app.opened = false;
      player.standAt(0);
      player.playing = false;
      to("start");
      say(message.text, true);
      break;
  }
  redraw();
}

function goOn() {
  curtain("");
  if (app.resuming) {
    to("play");
    player.play();
  } else to("pause");
  app.resuming = false;
}

function lost(text) {
  player.playing = false;
  if (playing()) to("pause");
  curtain(text);
}

function ended(text) {
  player.playing = false;
  if (playing()) to("pause");
  curtain(text, true);
}

curtain(findToken() ? "Connecting" : "Open the address that the server printed, with everything after the #.", !findToken());
redraw();
