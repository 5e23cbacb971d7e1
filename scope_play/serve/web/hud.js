// What lies over the picture: the chain of delays, the recording light, and what is held.

const PARTS = [["input", "rgb(120 170 255)"], ["up", "rgb(120 210 150)"], ["queue", "rgb(255 98 88)"], ["denoise", "rgb(255 180 84)"], ["decode", "rgb(190 140 255)"], ["encode", "rgb(240 140 200)"], ["down", "rgb(110 200 190)"], ["show", "rgb(235 235 235)"]];

const node = (tag, text = "") => Object.assign(document.createElement(tag), { textContent: text });

export function drawStats(at, player, link) {
  const times = player.times;
  const top = node("div");
  top.className = "top";
  const total = times ? PARTS.reduce((sum, [name]) => sum + times[name], 0) : 0;
  const hint = player.pace.hint();
  const speed = node("span", hint);
  speed.style.color = hint === "real time" ? "var(--good)" : "var(--accent)";
  top.append(node("span", player.fps ? `${player.fps.toFixed(1)} fps` : "\u2013"), node("span", times ? `delay ${total.toFixed(0)} \u00b1 ${(link.roundTrip / 2).toFixed(0)} ms` : ""), speed);
  const bar = node("div"), parts = node("div");
  bar.className = "bar";
  parts.className = "parts";
  for (const [name, colour] of PARTS) {
    const value = times?.[name] ?? 0;
    const piece = node("i"), part = node("div"), number = node("b", value.toFixed(0));
    piece.style.width = `${total ? (96 * value) / total : 0}%`;
    piece.style.background = number.style.color = colour;
    part.append(node("span", name), number);
    bar.append(piece);
    parts.append(part);
  }
  at.replaceChildren(top, bar, parts);
}

export function drawPad(canvas, held, sticks, triggers) {
  const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(`--${name}`);
  const width = canvas.clientWidth * devicePixelRatio, height = canvas.clientHeight * devicePixelRatio;
  if (canvas.width !== Math.round(width)) [canvas.width, canvas.height] = [Math.round(width), Math.round(height)];
  const to = canvas.getContext("2d"), unit = width / 148;
  to.setTransform(unit, 0, 0, unit, 0, 0);
  to.clearRect(0, 0, 148, 74);
  const disc = (x, y, r, fill, stroke) => {
    to.beginPath();
    to.arc(x, y, r, 0, 7);
    if (fill) (to.fillStyle = fill), to.fill();
    if (stroke) (to.strokeStyle = stroke), to.stroke();
  };
  [["left", 30, held.left_trigger], ["right", 118, held.right_trigger]].forEach(([side, x, pulled], i) => {
    const [sx, sy] = sticks[side];
    disc(x, 44, 20, colour("raised"), side === "right" && held.right_thumb ? colour("accent") : colour("line"));
    disc(x + sx * 14, 44 + sy * 14, 6, sx || sy ? colour("accent") : colour("muted"));
    to.fillStyle = colour("line");
    to.fillRect(x - 20, 7, 40, 5);
    to.fillStyle = pulled ? colour("accent") : colour("muted");
    to.fillRect(x - 20, 7, 40 * Math.max(triggers[i], pulled ? 1 : 0), 5);
  });
  to.font = "700 9px Arial, Helvetica, sans-serif";
  to.textAlign = "center";
  to.textBaseline = "middle";
  for (const [letter, x, y, on] of [["Y", 74, 33, held.north], ["X", 63, 44, held.west], ["A", 74, 55, held.south], ["B", 85, 44, false]]) {
    disc(x, y, 6.5, on ? colour("accent") : colour("line"));
    to.fillStyle = on ? colour("on-accent") : colour("text");
    to.fillText(letter, x, y + 0.5);
  }
}
