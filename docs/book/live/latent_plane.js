// Chapter 2's decoder over the plane of its two latent numbers.

const decode = networks.load(window.networks_of_page.decoder);
const FAR = 3; // the plane reaches from -3 to 3
const TILES = 15;

function digitAt(first, second) {
  return decode([first, second]).map(networks.activations.sigmoid);
}

const plane = document.getElementById("plane");
const sliders = ["first", "second"].map((id) => document.getElementById(id));
const said = document.getElementById("said");

function drawPlane() {
  plane.width = plane.height = 28 * TILES;
  for (let row = 0; row < TILES; row++) {
    for (let column = 0; column < TILES; column++) {
      const first = -FAR + (2 * FAR * (column + 0.5)) / TILES;
      const second = FAR - (2 * FAR * (row + 0.5)) / TILES;
      networks.paint(plane, digitAt(first, second), 28, 28 * column, 28 * row);
    }
  }
}

function show() {
  const [first, second] = sliders.map((slider) => Number(slider.value));
  networks.paint(document.getElementById("digit"), digitAt(first, second));
  const mark = document.getElementById("mark");
  mark.style.left = `${(50 * (first + FAR)) / FAR}%`;
  mark.style.top = `${(50 * (FAR - second)) / FAR}%`;
  said.textContent = `z = (${first.toFixed(2)}, ${second.toFixed(2)})`;
}

function move(event) {
  const box = plane.getBoundingClientRect();
  const across = (event.clientX - box.left) / box.width;
  const down = (event.clientY - box.top) / box.height;
  sliders[0].value = FAR * (2 * across - 1);
  sliders[1].value = FAR * (1 - 2 * down);
  show();
}

plane.addEventListener("pointermove", move);
plane.addEventListener("pointerdown", move);
sliders.forEach((slider) => slider.addEventListener("input", show));
drawPlane();
show();
