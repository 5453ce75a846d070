// The layers of Keras that the live pages need, for one input at a time.
// An array is a Float32Array with a shape: [n] or [height, width, channels].

const networks = {};

networks.halves = function (text) {
  // base64 of 16-bit floats, little-endian -> Float32Array
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const values = new Float32Array(bytes.length / 2);
  for (let i = 0; i < values.length; i++) {
    const half = view.getUint16(2 * i, true);
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    if (exponent === 0) values[i] = sign * 2 ** -24 * fraction;
    else values[i] = sign * 2 ** (exponent - 15) * (1 + fraction / 1024);
  }
  return values;
};

networks.activations = {
  linear: (x) => x,
  relu: (x) => Math.max(x, 0),
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  tanh: Math.tanh,
};

networks.dense = function (x, settings, [kernel, bias]) {
  const units = settings.units;
  const y = new Float32Array(units);
  if (bias) y.set(bias);
  for (let i = 0; i < x.length; i++) {
    for (let j = 0; j < units; j++) y[j] += x[i] * kernel[i * units + j];
  }
  return { values: y, shape: [units] };
};

// A convolution adds up what lies under its kernel; a transposed one stamps its kernel.
networks.convolution = function (x, shape, settings, [kernel, bias], transposed) {
  const [height, width, channels] = shape;
  const [size] = settings.kernel_size;
  const [stride] = settings.strides;
  const filters = settings.filters;
  const scaled = (n) => (transposed ? n * stride : Math.ceil(n / stride));
  const [rows, columns] = [scaled(height), scaled(width)];
  const [small, large] = transposed ? [height, rows] : [rows, height];
  const before = Math.floor(Math.max((small - 1) * stride + size - large, 0) / 2);
  const y = new Float32Array(rows * columns * filters);
  for (let i = 0; bias && i < y.length; i++) y[i] = bias[i % filters];
  const [stepsDown, stepsAcross] = transposed ? [height, width] : [rows, columns];
  for (let row = 0; row < stepsDown; row++) {
    for (let column = 0; column < stepsAcross; column++) {
      for (let down = 0; down < size; down++) {
        for (let across = 0; across < size; across++) {
          const far = row * stride + down - before;
          const right = column * stride + across - before;
          const [limitDown, limitAcross] = transposed ? [rows, columns] : [height, width];
          if (far < 0 || right < 0 || far >= limitDown || right >= limitAcross) continue;
          const near = (row * stepsAcross + column);
          const other = far * limitAcross + right;
          const from = (transposed ? near : other) * channels;
          const to = (transposed ? other : near) * filters;
          const tap = (down * size + across) * channels * filters;
          for (let c = 0; c < channels; c++) {
            const value = x[from + c];
            if (value === 0) continue;
            for (let f = 0; f < filters; f++) {
              const place = transposed ? f * channels + c : c * filters + f;
              y[to + f] += value * kernel[tap + place];
            }
          }
        }
      }
    }
  }
  return { values: y, shape: [rows, columns, filters] };
};

networks.enlarge = function (x, [height, width, channels], [down, across]) {
  const y = new Float32Array(x.length * down * across);
  for (let row = 0; row < height * down; row++) {
    for (let column = 0; column < width * across; column++) {
      const from = (Math.floor(row / down) * width + Math.floor(column / across)) * channels;
      const to = (row * width * across + column) * channels;
      for (let c = 0; c < channels; c++) y[to + c] = x[from + c];
    }
  }
  return { values: y, shape: [height * down, width * across, channels] };
};

networks.normalise = function (x, settings, [scale, shift, mean, variance]) {
  const channels = scale.length;
  return x.map((value, i) => {
    const c = i % channels;
    return ((value - mean[c]) / Math.sqrt(variance[c] + settings.epsilon)) * scale[c] + shift[c];
  });
};

// A network as tools/train_live.py describes it -> a function of one input.
networks.load = function (description) {
  const all = networks.halves(description.weights);
  let first = 0;
  const layers = description.layers.map(({ kind, settings, shapes }) => {
    const weights = shapes.map((shape) => {
      const length = shape.reduce((a, b) => a * b, 1);
      first += length;
      return all.slice(first - length, first);
    });
    return { kind, settings, weights };
  });

  function step({ values, shape }, { kind, settings, weights }) {
    if (kind === "Dense") return networks.dense(values, settings, weights);
    if (kind === "Conv2D") return networks.convolution(values, shape, settings, weights, false);
    if (kind === "Conv2DTranspose") {
      return networks.convolution(values, shape, settings, weights, true);
    }
    if (kind === "UpSampling2D") return networks.enlarge(values, shape, settings.size);
    if (kind === "BatchNormalization") {
      return { values: networks.normalise(values, settings, weights), shape };
    }
    if (kind === "Reshape") return { values, shape: settings.target_shape };
    if (kind === "ReLU" || kind === "LeakyReLU") {
      const slope = settings.negative_slope;
      return { values: values.map((x) => (x > 0 ? x : slope * x)), shape };
    }
    if (kind === "Activation") return { values, shape };
    throw new Error(`networks.js has no layer ${kind}.`);
  }

  function run(input) {
    let state = { values: Float32Array.from(input), shape: description.input };
    for (const layer of layers) {
      state = step(state, layer);
      const activation = layer.settings.activation;
      if (activation && activation !== "linear") {
        state.values = state.values.map(networks.activations[activation]);
      }
    }
    return state.values;
  }
  run.layers = layers;
  return run;
};

// Random numbers of a seed, from 0 to 1 (mulberry32), and normal ones (Box and Muller).
networks.random = function (seed) {
  let state = seed >>> 0;
  function uniform() {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
  const normal = () =>
    Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return { uniform, normal, normals: (n) => Float32Array.from({ length: n }, normal) };
};

// Grey values from 0 to 1 on a canvas, one pixel each; the style sheet enlarges it.
networks.paint = function (canvas, grey, side = 28, left = 0, top = 0) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  for (let i = 0; i < side * side; i++) {
    const value = Math.round(255 * Math.min(Math.max(grey[i], 0), 1));
    image.data.set([value, value, value, 255], 4 * i);
  }
  context.putImageData(image, left, top);
};
