// Chapter 1's game on numbers: the same networks, first weights, losses and Adam, in JavaScript.

const REAL = { mean: 1, sd: 0.7 };
const SHOWN = 2000; // generated numbers in the histogram
const BETA = 0.99; // of Adam's squares; chapter 1 uses no momentum
const sigmoid = networks.activations.sigmoid;
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const density = (x) => {
  const far = (x - REAL.mean) / REAL.sd;
  return Math.exp(-0.5 * far * far) / (REAL.sd * Math.sqrt(2 * Math.PI));
};

// A chain of dense layers with LeakyReLU between them, for n inputs at a time.
class Player {
  constructor(description) {
    const layers = networks.load(description).layers.filter(({ kind }) => kind === "Dense");
    this.layers = layers.map(({ weights: [kernel, bias] }) => ({
      kernel, bias, out: bias.length, in: kernel.length / bias.length,
      kernelSquares: new Float32Array(kernel.length),
      biasSquares: new Float32Array(bias.length),
    }));
    this.moves = 0;
  }

  forward(x) {
    const n = x.length / this.layers[0].in;
    this.inputs = [];
    this.sums = [];
    this.layers.forEach((layer, number) => {
      this.inputs.push(x);
      const sum = new Float32Array(n * layer.out);
      for (let i = 0; i < n; i++) {
        for (let b = 0; b < layer.out; b++) sum[i * layer.out + b] = layer.bias[b];
        for (let a = 0; a < layer.in; a++) {
          const value = x[i * layer.in + a];
          for (let b = 0; b < layer.out; b++) {
            sum[i * layer.out + b] += value * layer.kernel[a * layer.out + b];
          }
        }
      }
      this.sums.push(sum);
      const last = number === this.layers.length - 1;
      x = last ? sum : sum.map((value) => (value > 0 ? value : 0.2 * value));
    });
    return x;
  }

  // The gradient at the output -> that at the input; keeps the gradients of the weights.
  backward(slope) {
    for (let number = this.layers.length - 1; number >= 0; number--) {
      const layer = this.layers[number];
      const x = this.inputs[number];
      if (number < this.layers.length - 1) {
        slope = slope.map((value, i) => (this.sums[number][i] > 0 ? value : 0.2 * value));
      }
      layer.kernelSlope = new Float32Array(layer.kernel.length);
      layer.biasSlope = new Float32Array(layer.out);
      const below = new Float32Array(x.length);
      for (let i = 0; i < slope.length / layer.out; i++) {
        for (let b = 0; b < layer.out; b++) layer.biasSlope[b] += slope[i * layer.out + b];
        for (let a = 0; a < layer.in; a++) {
          const value = x[i * layer.in + a];
          let sum = 0;
          for (let b = 0; b < layer.out; b++) {
            const up = slope[i * layer.out + b];
            layer.kernelSlope[a * layer.out + b] += value * up;
            sum += layer.kernel[a * layer.out + b] * up;
          }
          below[i * layer.in + a] = sum;
        }
      }
      slope = below;
    }
    return slope;
  }

  // Adam without momentum, as Keras computes it.
  move(rate) {
    this.moves += 1;
    const length = rate * Math.sqrt(1 - BETA ** this.moves);
    const change = (weights, slopes, squares) => {
      for (let i = 0; i < weights.length; i++) {
        squares[i] = BETA * squares[i] + (1 - BETA) * slopes[i] * slopes[i];
        weights[i] -= (length * slopes[i]) / (Math.sqrt(squares[i]) + 1e-7);
      }
    };
    for (const layer of this.layers) {
      change(layer.kernel, layer.kernelSlope, layer.kernelSquares);
      change(layer.bias, layer.biasSlope, layer.biasSquares);
    }
  }
}

class Game {
  constructor() {
    this.generator = new Player(window.networks_of_page.generator);
    this.discriminator = new Player(window.networks_of_page.discriminator);
    this.steps = 0;
  }

  // One move of each player -> the losses of the discriminator and of the generator.
  step(real, latent, newLatent, { saturating, generatorRate, discriminatorRate }) {
    const n = real.length;
    const mean = (values, f) => values.reduce((sum, value) => sum + f(value), 0) / n;
    const fake = this.generator.forward(latent);
    const both = new Float32Array(2 * n);
    both.set(real);
    both.set(fake, n);
    const logits = this.discriminator.forward(both);
    const loss = mean(logits.slice(0, n), (s) => softplus(-s)) + mean(logits.slice(n), softplus);
    this.discriminator.backward(
      logits.map((s, i) => (i < n ? sigmoid(s) - 1 : sigmoid(s)) / n),
    );
    this.discriminator.move(discriminatorRate);

    const judged = this.discriminator.forward(this.generator.forward(newLatent));
    const fooling = saturating
      ? mean(judged, (s) => -softplus(s))
      : mean(judged, (s) => softplus(-s));
    const slope = judged.map((s) => (saturating ? -sigmoid(s) : sigmoid(s) - 1) / n);
    this.generator.backward(this.discriminator.backward(slope));
    this.generator.move(generatorRate);
    this.steps += 1;
    return [loss, fooling];
  }
}

// The page

const GRID = Float32Array.from({ length: 241 }, (_, i) => -6 + i / 20);
const SHOWN_CODES = networks.random(0).normals(SHOWN);
const BATCH = 128;

// The density of some numbers on the grid: a small bell around each (Scott's width).
function smoothed(points) {
  const n = points.length;
  const mean = points.reduce((a, b) => a + b, 0) / n;
  const spread = Math.sqrt(points.reduce((a, b) => a + (b - mean) ** 2, 0) / (n - 1));
  const width = Math.max(spread * n ** -0.2, 0.02);
  const bins = new Float32Array(1201); // of 0.02, from -12 to 12: faster than a bell a point
  for (const x of points) bins[Math.min(Math.max(Math.round(50 * (x + 12)), 0), 1200)] += 1;
  return GRID.map((x) => {
    let sum = 0;
    for (let i = 0; i < 1201; i++) {
      if (bins[i]) sum += bins[i] * Math.exp(-0.5 * ((x - i / 50 + 12) / width) ** 2);
    }
    return sum / (n * width * Math.sqrt(2 * Math.PI));
  });
}

function jensenShannon(q) {
  let sum = 0;
  GRID.forEach((x, i) => {
    const p = density(x);
    if (p > 1e-12) sum += 0.5 * p * Math.log((2 * p) / (p + q[i]));
    if (q[i] > 1e-12) sum += 0.5 * q[i] * Math.log((2 * q[i]) / (p + q[i]));
  });
  return sum * (GRID[1] - GRID[0]);
}

const control = (id) => document.getElementById(id);
let game, random, history;
let playing = false;

function rates() {
  const falling = control("falling").checked;
  // as in chapter 1: in 5,000 steps down to a fiftieth
  const share = falling ? 1 - 0.98 * Math.min(game.steps / 5000, 1) : 1;
  return {
    saturating: control("loss").value === "minimax",
    generatorRate: share * 10 ** control("generator-rate").value,
    discriminatorRate: share * 10 ** control("discriminator-rate").value,
  };
}

function advance() {
  const real = random.normals(BATCH).map((x) => REAL.mean + REAL.sd * x);
  return game.step(real, random.normals(BATCH), random.normals(BATCH), rates());
}

function colours() {
  const style = getComputedStyle(document.querySelector(".live"));
  const of = (name) => style.getPropertyValue(name).trim();
  return {
    real: of("--real"), generated: of("--generated"), text: of("--ink"), quiet: of("--quiet"),
  };
}

// A drawing surface with axes: x from a to b, y from c to d; sharp on every screen.
function surface(canvas, [a, b], [c, d], ticks) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const colour = colours();
  const x = (value) => 34 + ((width - 44) * (value - a)) / (b - a);
  const y = (value) => height - 24 - ((height - 34) * (value - c)) / (d - c);
  context.font = "12px system-ui, sans-serif";
  context.fillStyle = colour.text;
  context.strokeStyle = colour.quiet;
  context.beginPath();
  context.moveTo(x(a), y(c));
  context.lineTo(x(b), y(c));
  context.stroke();
  context.textAlign = "center";
  for (const tick of ticks.x) context.fillText(tick.toLocaleString("en"), x(tick), height - 8);
  context.textAlign = "right";
  for (const tick of ticks.y) context.fillText(tick, 28, y(tick) + 4);

  function line(xs, ys, stroke, dash = [], fill = false) {
    context.beginPath();
    xs.forEach((value, i) => context.lineTo(x(value), y(Math.min(Math.max(ys[i], c), d))));
    if (fill) {
      context.lineTo(x(xs[xs.length - 1]), y(c));
      context.lineTo(x(xs[0]), y(c));
      context.globalAlpha = 0.45;
      context.fillStyle = stroke;
      context.fill();
      context.globalAlpha = 1;
    } else {
      context.strokeStyle = stroke;
      context.lineWidth = 2;
      context.setLineDash(dash);
      context.stroke();
      context.setLineDash([]);
      context.lineWidth = 1;
    }
  }
  return { line, colour };
}

function draw() {
  const points = game.generator.forward(SHOWN_CODES);
  const q = smoothed(points);
  const js = jensenShannon(q);
  const opinion = game.discriminator.forward(GRID).map(sigmoid);
  const seen = Array.from(GRID.keys()).filter((i) => Math.abs(GRID[i]) <= 4);
  const part = (values) => seen.map((i) => values[i]);
  const left = surface(control("numbers"), [-4, 4], [0, 1.05], {
    x: [-4, -2, 0, 2, 4], y: [0, 0.5, 1],
  });
  left.line(part(GRID), part(GRID).map(density), left.colour.real, [], true);
  left.line(part(GRID), part(q), left.colour.generated, [], true);
  left.line(part(GRID), part(opinion), left.colour.text);

  history.push([game.steps, js]);
  const last = Math.max(500, game.steps);
  const right = surface(control("divergence"), [0, last], [0, 0.7], {
    x: [0, Math.round(last / 2), last], y: [0, 0.35, 0.7],
  });
  const steps = history.map(([step]) => step);
  right.line(steps, history.map(([, value]) => value), right.colour.generated);
  if (history.length > 600) history = history.filter((_, i) => i % 2 === 0);
  control("said").textContent =
    `Step ${game.steps.toLocaleString("en")}. JS divergence ${js.toFixed(3)} nats.`;
}

function setPlaying(wanted) {
  playing = wanted;
  control("play").textContent = playing ? "Pause" : "Play";
  if (playing) requestAnimationFrame(frame);
}

function frame() {
  if (!playing) return;
  const end = performance.now() + 12;
  let losses;
  do losses = advance();
  while (performance.now() < end);
  tell(losses);
  draw();
  requestAnimationFrame(frame);
}

function tell([discriminator, generator]) {
  control("losses").textContent =
    `Loss of the discriminator ${discriminator.toFixed(2)} (2 log 2 = 1.39 where it cannot tell), ` +
    `of the generator ${generator.toFixed(2)}.`;
}

function restart() {
  setPlaying(false);
  game = new Game();
  random = networks.random(1);
  history = [];
  control("losses").textContent = "Nobody has moved yet.";
  draw();
}

function showRates() {
  for (const id of ["generator-rate", "discriminator-rate"]) {
    control(`${id}-said`).textContent = Number(10 ** control(id).value).toFixed(4);
  }
}

control("play").addEventListener("click", () => setPlaying(!playing));
control("one").addEventListener("click", () => {
  setPlaying(false);
  tell(advance());
  draw();
});
control("again").addEventListener("click", restart);
["generator-rate", "discriminator-rate"].forEach((id) =>
  control(id).addEventListener("input", showRates),
);
new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
window.addEventListener("resize", draw);
showRates();
restart();
