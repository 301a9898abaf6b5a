"use strict";
const at = (id) => document.getElementById(id);
const picture = at("picture");
const pen = picture.getContext("2d");
const colours = { idle: "#9aa0a6", tracking: "#58d68d", uncertain: "#f5c542", lost: "#ff6b5e" };
const graphs = { fps: [], latency: [] };
// Of the picture that is shown: its bitmap, what the tracker said about it, and its number.
let shown = null, track = null, number = null;
// Where a box began, and where it is now, in pixels of the image; while there is one the picture stands still.
let from = null, to = null;
// Where the pointer went down on the screen, and how far it may tremble in a tap: a fingertip is not a mouse.
let down = null;
const TREMBLE_CSS_PX = { touch: 14, pen: 8, mouse: 4 };
// Where somebody tapped, until the tracker has taken it up.
let tapped = null;
let token = sessionStorage.getItem("token") || "";
if (location.hash.startsWith("#token=")) {
  token = decodeURIComponent(location.hash.slice(7));
  sessionStorage.setItem("token", token);
  history.replaceState(null, "", "./");
}

function say(text) { at("hint").textContent = text; }

async function ask(path, body) {
  const options = { headers: {}, cache: "no-store" };
  if (token) options.headers.Authorization = "Bearer " + token;
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  if (answer.status === 401) {
    at("ask").showModal();
    await new Promise((done) => at("ask").addEventListener("close", done, { once: true }));
    token = at("token").value;
    sessionStorage.setItem("token", token);
  }
  return answer;
}

async function tell(path, body, done) {
  try {
    const answer = await ask(path, body);
    say(answer.ok ? done : (await answer.text()).trim());
  } catch (e) {
    say("the board does not answer");
  }
}

function box(b, colour, dashed) {
  pen.strokeStyle = colour;
  pen.lineWidth = Math.max(2, picture.width / 300);
  pen.setLineDash(dashed ? [8, 6] : []);
  pen.strokeRect(b[0], b[1], b[2], b[3]);
}

function drawn() {
  const [x0, x1] = [from[0], to[0]].sort((a, b) => a - b);
  const [y0, y1] = [from[1], to[1]].sort((a, b) => a - b);
  return [x0, y0, x1 - x0, y1 - y0];
}

function draw() {
  if (!shown) return;
  if (picture.width !== shown.width || picture.height !== shown.height) {
    picture.width = shown.width;
    picture.height = shown.height;
    picture.style.setProperty("--aspect", shown.width / shown.height);
  }
  pen.drawImage(shown, 0, 0);
  if (track.box) box(track.box, colours[track.phase], track.phase !== "tracking");
  if (from && !isTap()) box(drawn(), "#8ab4f8", true);
  if (tapped) {
    pen.beginPath();
    pen.setLineDash([]);
    pen.arc(tapped[0], tapped[1], picture.width / 40, 0, 2 * Math.PI);
    pen.stroke();
  }
}

function isTap() {
  return Math.hypot(down.x - down.startX, down.y - down.startY) < (TREMBLE_CSS_PX[down.kind] || TREMBLE_CSS_PX.mouse);
}

function graph(id, values) {
  const canvas = at(id), to = canvas.getContext("2d");
  const most = Math.max(...values, 1) * 1.1;
  to.clearRect(0, 0, canvas.width, canvas.height);
  to.strokeStyle = "#8ab4f8";
  to.beginPath();
  values.forEach((value, n) => to.lineTo((n * canvas.width) / 119, canvas.height * (1 - value / most)));
  to.stroke();
  to.fillStyle = "#bdc1c6";
  to.fillText(values.length ? values[values.length - 1].toFixed(1) : "", 4, 12);
}

async function look() {
  try {
    const answer = await ask("live.jpg" + (number === null ? "" : "?after=" + number));
    if (answer.status === 200) {
      const said = JSON.parse(answer.headers.get("X-Track"));
      const bitmap = await createImageBitmap(await answer.blob());
      number = said.frame;
      // Whoever draws a box draws it on a picture that stands still.
      if (!from) {
        if (shown) shown.close();
        [shown, track] = [bitmap, said];
        at("phase").textContent = said.phase;
        at("phase").className = said.phase;
        draw();
      }
    }
    setTimeout(look, 60);
  } catch (e) {
    say("the board does not answer");
    setTimeout(look, 1000);
  }
}

async function figures() {
  try {
    const answer = await ask("state");
    if (answer.ok) {
      const state = await answer.json();
      at("choose").hidden = !state.can_choose;
      at("fps").textContent = state.fps.toFixed(1) + " fps" + (state.camera_open ? "" : ", no camera");
      at("latency").textContent = state.latency_p50_ms.toFixed(0) + " ms, worst of a hundred " + state.latency_p99_ms.toFixed(0);
      graphs.fps.push(state.fps);
      graphs.latency.push(state.latency_p50_ms);
      for (const values of Object.values(graphs)) if (values.length > 120) values.shift();
      graph("fps-graph", graphs.fps);
      graph("latency-graph", graphs.latency);
    }
  } catch (e) { /* `look` says it. */ }
  setTimeout(figures, 1000);
}

function where(event) {
  const area = picture.getBoundingClientRect();
  const clamp = (value, most) => Math.min(Math.max(value, 0), most);
  return [
    clamp(((event.clientX - area.left) * picture.width) / area.width, picture.width),
    clamp(((event.clientY - area.top) * picture.height) / area.height, picture.height),
  ];
}

picture.addEventListener("pointerdown", (event) => {
  // A second finger means to look closer, not to draw.
  if (!event.isPrimary) { from = null; draw(); return; }
  if (!shown || event.button > 0) return;
  picture.setPointerCapture(event.pointerId);
  from = to = where(event);
  down = { kind: event.pointerType, startX: event.clientX, startY: event.clientY, x: event.clientX, y: event.clientY };
  ask("hold", { frame: track.frame }).catch(() => {});
});
picture.addEventListener("pointermove", (event) => {
  if (!from || !event.isPrimary) return;
  to = where(event);
  [down.x, down.y] = [event.clientX, event.clientY];
  draw();
});
picture.addEventListener("pointercancel", () => { from = null; draw(); });
picture.addEventListener("pointerup", async (event) => {
  if (!from || !event.isPrimary) return;
  to = where(event);
  [down.x, down.y] = [event.clientX, event.clientY];
  const [b, point, frame] = [drawn(), from, track.frame];
  const tap = isTap();
  from = null;
  if (tap) {
    tapped = point;
    draw();
    await tell("follow", { point, frame }, "Following what is there. If the box is wrong, draw one.");
    tapped = null;
  } else if (b[2] < 1 || b[3] < 1) {
    say("That box has no area.");
  } else {
    tell("follow", { box: b, frame }, "Following.");
  }
});
at("choose").addEventListener("click", () => tell("choose", {}, "Following whom a driver would watch, as soon as somebody is there."));
at("stop").addEventListener("click", () => tell("stop", {}, "Following nothing."));
at("mark").addEventListener("click", () => tell("mark", {}, "This moment is kept, where the board records."));
at("snapshot").addEventListener("click", () => {
  if (!shown) return;
  const link = document.createElement("a");
  link.download = "roadhound-" + track.unix_micros + ".png";
  link.href = picture.toDataURL("image/png");
  link.click();
});
look();
figures();
