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
  if (from) box(drawn(), "#8ab4f8", true);
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
  if (!shown) return;
  picture.setPointerCapture(event.pointerId);
  from = to = where(event);
  ask("hold", { frame: track.frame }).catch(() => {});
});
picture.addEventListener("pointermove", (event) => {
  if (!from) return;
  to = where(event);
  draw();
});
picture.addEventListener("pointercancel", () => { from = null; draw(); });
picture.addEventListener("pointerup", (event) => {
  if (!from) return;
  to = where(event);
  let b = drawn();
  // A tap: something of an eighth of the picture around it.
  if (b[2] < 6 || b[3] < 6) {
    const side = picture.width / 8;
    b = [to[0] - side / 2, to[1] - side / 2, side, side];
  }
  from = null;
  tell("follow", { box: b, frame: track.frame }, "Following.");
});
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
