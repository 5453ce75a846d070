// Chapter 4's generator between two latent codes.

const generate = networks.load(window.networks_of_page.generator);
const MOMENTS = 8; // in the strip under the picture

function imageOf(code) {
  return generate(code).map((x) => (x + 1) / 2);
}

// As in chapter 4: along the great circle from a (t = 0) to b (t = 1).
function slerp(a, b, t) {
  const dot = (u, v) => u.reduce((sum, value, i) => sum + value * v[i], 0);
  const omega = Math.acos(dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)));
  const partA = Math.sin((1 - t) * omega) / Math.sin(omega);
  const partB = Math.sin(t * omega) / Math.sin(omega);
  return a.map((value, i) => partA * value + partB * b[i]);
}

const place = document.getElementById("place");
const strip = document.getElementById("strip");
const walking = document.getElementById("walking");
const random = networks.random(4);
const length = window.networks_of_page.generator.input[0];
let start = random.normals(length);
let end = random.normals(length);

function show() {
  const t = Number(place.value);
  networks.paint(document.getElementById("digit"), imageOf(slerp(start, end, t)));
  document.getElementById("said").textContent = `${Math.round(100 * t)} % of the way`;
}

function drawStrip() {
  strip.width = 29 * MOMENTS - 1;
  strip.height = 28;
  for (let i = 0; i < MOMENTS; i++) {
    const code = slerp(start, end, i / (MOMENTS - 1));
    networks.paint(strip, imageOf(code), 28, 29 * i, 0);
  }
  show();
}

let timer = null;
let direction = 1;

function stop() {
  clearInterval(timer);
  timer = null;
  walking.textContent = "Walk";
}

function walk() {
  const next = Number(place.value) + 0.02 * direction;
  if (next <= 0 || next >= 1) direction = -direction;
  place.value = next;
  show();
}

walking.addEventListener("click", () => {
  if (timer) {
    stop();
  } else {
    timer = setInterval(walk, 60);
    walking.textContent = "Stop";
  }
});
document.getElementById("new-start").addEventListener("click", () => {
  start = random.normals(length);
  drawStrip();
});
document.getElementById("new-end").addEventListener("click", () => {
  end = random.normals(length);
  drawStrip();
});
place.addEventListener("input", () => {
  stop();
  show();
});
drawStrip();
