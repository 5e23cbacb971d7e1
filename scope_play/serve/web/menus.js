// What each screen offers: rows of {key, label, value, choice, off}.

export const GAME_CAPS = { keys: [["W A S D", "move"], ["Mouse", "look"], ["Left click", "fire"], ["Right click", "aim"], ["Space", "jump"], ["F", "melee"], ["R", "reload"], ["Q", "switch"], ["Esc", "pause"], ["Backspace", "rewind"]],
  pad: [["Left stick", "move"], ["Right stick", "look"], ["RT", "fire"], ["LT", "aim"], ["A", "jump"], ["Right stick click", "melee"], ["X", "reload"], ["Y", "switch"], ["Menu", "pause"], ["View", "rewind"]] };

export const CONTROLS = [["", "pad", "keyboard and mouse"], ["Move", "left stick", "W A S D"], ["Look", "right stick", "mouse or arrow keys"], ["Fire", "right trigger", "left mouse button"], ["Aim", "left trigger", "right mouse button"],
  ["Jump", "A", "space"], ["Melee", "right stick click", "F or middle mouse button"], ["Reload", "X", "R"], ["Switch weapon", "Y", "Q or the wheel"], ["Pause", "Menu", "Esc"], ["Rewind", "View", "Backspace"],
  ["Speed and delay", "", "F1"], ["Controller overlay", "", "F2"], ["Record", "", "F9"], ["Fullscreen", "", "F11"], ["Screenshot", "", "F12"]];

export const HINTS = {
  start: (pad) => [[pad ? "Stick" : "Arrows", "move"], [pad ? "A" : "Enter", "choose"]],
  pause: (pad) => [[pad ? "Stick" : "Arrows", "move"], [pad ? "A" : "Enter", "choose"], [pad ? "B" : "Esc", "resume"]],
  rewind: (pad) => [[pad ? "A" : "Enter", "play from here"], [pad ? "B" : "Esc", "stay"], ["Left, right", "one step"], ["Up, down", "five seconds"]],
  other: (pad) => [[pad ? "Stick" : "Arrows", "move"], [pad ? "A" : "Enter", "choose"], [pad ? "B" : "Esc", "back"]],
};

const onOff = (value) => (value ? "on" : "off");

export function startItems(app) {
  const { form, spec } = app;
  const text = spec?.has_text;
  return [
    { key: "play", label: "Play", value: app.ready ? (app.padName ? "press A" : "press Enter") : "when loaded" },
    { key: "scene", label: "Scene", value: form.picture ? "your own picture" : (app.scenes[form.scene] ?? ""), choice: true },
    { key: "picture", label: "Own picture", value: form.picture?.name ?? "choose or drop a file" },
    { key: "prompt", label: "Prompt", value: text ? form.prompt || "write one" : "this model takes none", off: !text },
    { key: "seed", label: "Seed", value: String(form.seed), choice: true },
    { key: "mode", label: "Input", value: form.mode, choice: true },
    { key: "record", label: "Record", value: onOff(form.record), choice: true },
    { key: "clips", label: "Clips" },
    { key: "controls", label: "Controls" },
    { key: "fullscreen", label: "Fullscreen", value: onOff(document.fullscreenElement) },
  ];
}

export function pauseItems(app) {
  return [
    { key: "resume", label: "Resume" },
    { key: "rewind", label: "Rewind", off: app.strip.items.length < 2 },
    { key: "restart", label: "Restart" },
    ...(app.spec?.has_text ? [{ key: "prompt", label: "Prompt", value: app.prompt }] : []),
    { key: "record", label: app.recording ? "Stop recording" : "Start recording" },
    { key: "screenshot", label: "Screenshot" },
    { key: "clips", label: "Clips" },
    { key: "controls", label: "Controls" },
    { key: "fullscreen", label: "Fullscreen", value: onOff(document.fullscreenElement) },
    { key: "leave", label: "Back to the start screen" },
  ];
}

export function clipsItems(app) {
  const clips = app.clips.map((clip) => ({ key: clip.id, label: clip.name, value: `${((clip.frames - 1) / app.spec.fps).toFixed(1)} s, ${(clip.bytes / 1e6).toFixed(1)} MB` }));
  return [...(clips.length ? clips : [{ key: "none", label: "No clips yet", off: true }]), { key: "back", label: "Back" }];
}

export function clipItems() {
  return [
    { key: "watch", label: "Watch" },
    { key: "check", label: "Replay and check" },
    { key: "download", label: "Download" },
    { key: "back", label: "Back" },
  ];
}

export function drawRows(at, items, focus, point, choose) {
  at.replaceChildren(
    ...items.map((item, i) => {
      const row = document.createElement("div");
      row.className = `row${i === focus ? " on" : ""}${item.off ? " off" : ""}`;
      row.dataset.key = item.key;
      for (const text of [item.label, item.value ?? ""]) row.append(Object.assign(document.createElement("span"), { textContent: text }));
      row.onmousemove = () => point(i);
      row.onclick = () => choose(i);
      return row;
    }),
  );
  at.children[focus]?.scrollIntoView({ block: "nearest" });
}

export function drawCaps(at, caps) {
  at.replaceChildren(
    ...caps.map(([cap, what]) => {
      const item = document.createElement("span");
      item.append(Object.assign(document.createElement("kbd"), { textContent: cap }), what);
      return item;
    }),
  );
}
