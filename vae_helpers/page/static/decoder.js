// The decoder of a VAE in plain JavaScript: no framework, no build step, no request.
//
//   const bytes = await unpacked(text);
//   const arrays = readArrays(spec.arrays, bytes);        // typed arrays by name
//   const decoder = new Decoder(spec.models[0].decoder, arrays);
//   const x = decoder.decode(z, label);                   // Float32Array of pixels, 0 to 1
//
// A decoder is a list of layers, as vae_helpers/page/decoding.py writes it. Anything that is unknown, cut or
// altered throws an Error with one sentence.

const HALF = (() => {  // every float16 as a number
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent === 31 ? (fraction ? NaN : Infinity)
      : exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction;
    table[bits] = bits >> 15 ? -size : size;
  }
  return table;
})();

const WIDTH = { float16: 2, float32: 4, int32: 4, uint8: 1 };

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** The CRC-32 of bytes. */
export function crc32(bytes) {
  let crc = -1;
  for (let i = 0; i < bytes.length; i++) crc = CRC[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** Bytes of base64 text. */
export function fromBase64(text) {
  const raw = atob(text.trim()), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

/** Bytes from a page's text: zlib's format in base64. */
export async function unpacked(text) {
  if (!globalThis.DecompressionStream) throw new Error("this browser is older than 2023");
  try {
    const stream = new Blob([fromBase64(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new Error("its data are damaged");
  }
}

/** {name: {dtype, shape, offset}} and the bytes they lie in -> {name: typed array}; float16 becomes Float32Array. */
export function readArrays(index, bytes) {
  const found = {};
  for (const [name, { dtype, shape, offset }] of Object.entries(index)) {
    const size = Array.isArray(shape) ? shape.reduce((a, b) => a * b, 1) : NaN, width = WIDTH[dtype];
    if (!width) throw new Error(`the array ${name} has the type ${dtype}, which this page cannot read`);
    if (!(offset >= 0 && size >= 0 && offset + size * width <= bytes.length))
      throw new Error(`the array ${name} is cut: the file has ${bytes.length} bytes`);
    const part = bytes.slice(offset, offset + size * width);  // a copy starts at an address that any type may have
    if (dtype === "uint8") found[name] = part;
    else if (dtype === "int32") found[name] = new Int32Array(part.buffer);
    else if (dtype === "float32") found[name] = new Float32Array(part.buffer);
    else found[name] = Float32Array.from(new Uint16Array(part.buffer), bits => HALF[bits]);
    if (dtype.startsWith("float") && !found[name].every(Number.isFinite))
      throw new Error(`the array ${name} holds values that are no numbers`);
  }
  return found;
}

const sigmoid = v => 1 / (1 + Math.exp(-v));

const POINTWISE = {
  relu: v => (v > 0 ? v : 0),
  leaky_relu: (v, { slope }) => (v > 0 ? v : slope * v),
  elu: v => (v > 0 ? v : Math.expm1(v)),
  softplus: v => (v > 20 ? v : Math.log1p(Math.exp(v))),
  tanh: Math.tanh,
  sigmoid,
  // the mean of a continuous Bernoulli from its logit
  continuous_bernoulli: v => (Math.abs(v) < 1e-2 ? 0.5 + v / 12 : -1 / Math.expm1(-v) - 1 / v),
};

function pointwise(layer) {
  const f = POINTWISE[layer.op];
  return x => {
    for (let i = 0; i < x.length; i++) x[i] = f(x[i], layer);
    return x;
  };
}

/** y = W x + b, W stored by rows. */
function dense({ n_in, n_out, weight, bias }, get) {
  const w = get(weight, n_in * n_out), b = bias ? get(bias, n_out) : new Float32Array(n_out);
  const y = new Float32Array(n_out), whole = n_in - (n_in % 4);
  return x => {
    expect(x, n_in);
    for (let o = 0, at = 0; o < n_out; o++) {
      let s0 = 0, s1 = 0, s2 = 0, s3 = 0, i = 0;
      for (; i < whole; i += 4, at += 4) {
        s0 += w[at] * x[i]; s1 += w[at + 1] * x[i + 1]; s2 += w[at + 2] * x[i + 2]; s3 += w[at + 3] * x[i + 3];
      }
      for (; i < n_in; i++, at++) s0 += w[at] * x[i];
      y[o] = b[o] + s0 + s1 + s2 + s3;
    }
    return y;
  };
}

// four pixels of `doubling` for one output channel, in WebAssembly: ../doubling.wat by scripts/build_wasm.py
const FOUR_PIXELS = "AGFzbQEAAAABDAFgCH9/f39/f31/AAIIAQFtAW0CAAEDAgEABwgBBGZvdXIAAAqbBAGYBAICfwV7IAb9EyELIAshDCALIQ0gCyEOA0AgAyAFayEIIAMgBWohCSAI/QAEACEKIAsgCiAB/QkCPP3mAf3kASELIAj9AAQEIQogCyAKIAH9CQI0/eYB/eQBIQsgDCAKIAH9CQI4/eYB/eQBIQwgCP0ABAghCiAMIAogAf0JAjD95gH95AEhDCAD/QAEACEKIAsgCiAB/QkCHP3mAf3kASELIA0gCiAB/QkCLP3mAf3kASENIAP9AAQEIQogCyAKIAH9CQIU/eYB/eQBIQsgDCAKIAH9CQIY/eYB/eQBIQwgDSAKIAH9CQIk/eYB/eQBIQ0gDiAKIAH9CQIo/eYB/eQBIQ4gA/0ABAghCiAMIAogAf0JAhD95gH95AEhDCAOIAogAf0JAiD95gH95AEhDiAJ/QAEACEKIA0gCiAB/QkCDP3mAf3kASENIAn9AAQEIQogDSAKIAH9CQIE/eYB/eQBIQ0gDiAKIAH9CQII/eYB/eQBIQ4gCf0ABAghCiAOIAogAf0JAgD95gH95AEhDiADIARqIQMgASACaiEBIABBAWsiAA0ACyAHIAsgDP0NAAECAxAREhMEBQYHFBUWF/0LBAAgByALIAz9DQgJCgsYGRobDA0ODxwdHh/9CwQQIAcgDSAO/Q0AAQIDEBESEwQFBgcUFRYX/QsEICAHIA0gDv0NCAkKCxgZGhsMDQ4PHB0eH/0LBDALAHIEbmFtZQJdAQAPAAFuAQFrAgRzdGVwAwF4BAVwbGFuZQUEd2lkZQYEYmlhcwcBeQgCdXAJBGRvd24KAXYLCWV2ZW5fZXZlbgwIZXZlbl9vZGQNCG9kZF9ldmVuDgdvZGRfb2RkAwwBAAEAB2NoYW5uZWw=";

function fourPixels(memory) {
  try {
    return new WebAssembly.Instance(new WebAssembly.Module(fromBase64(FOUR_PIXELS)), { m: { m: memory } }).exports.four;
  } catch {
    return null;  // an old browser, or a page that forbids it
  }
}

/** A transposed convolution with a 4x4 kernel, stride 2 and padding 1, four pixels at a time; null without WebAssembly. */
function doubling({ n_in, n_out, height, width, weight, bias }, get) {
  const k = get(weight, n_in * n_out * 16), b = get(bias, n_out);
  const wide = 4 * Math.ceil(width / 4) + 2, plane = (height + 2) * wide, images = k.length, end = images + n_in * plane;
  const memory = globalThis.WebAssembly && new WebAssembly.Memory({ initial: Math.ceil((4 * end + 64) / 65536) });
  const four = memory && fourPixels(memory);
  if (!four) return null;
  const floats = new Float32Array(memory.buffer), y = new Float32Array(n_out * 4 * height * width);  // kernels, images, sums
  floats.set(k);
  return x => {
    expect(x, n_in * height * width);
    for (let row = 0; row < n_in * height; row++) {
      const at = images + Math.floor(row / height) * plane + (row % height + 1) * wide + 1;
      floats.set(x.subarray(row * width, (row + 1) * width), at);
    }
    for (let o = 0, to = 0; o < n_out; o++)
      for (let r = 1; r <= height; r++, to += 2 * width)
        for (let q = 0; q < width; q += 4) {
          four(n_in, 64 * o, 64 * n_out, 4 * (images + r * wide + q), 4 * plane, 4 * wide, b[o], 4 * end);
          for (let i = end; i < end + Math.min(8, 2 * (width - q)); i++, to++) {
            y[to] = floats[i]; y[to + 2 * width] = floats[i + 8];
          }
        }
    return y;
  };
}

/** Any other transposed convolution: for each input pixel and each place of the kernel, a dot product over channels. */
function convTranspose(layer, get) {
  const { n_in, n_out, height, width, kernel: [kh, kw], stride: [sh, sw], padding: [ph, pw] } = layer;
  const [oh, ow] = layer.output_padding;
  const doubles = kh === 4 && kw === 4 && sh === 2 && sw === 2 && ph === 1 && pw === 1 && !oh && !ow;
  const fast = doubles && doubling(layer, get);
  if (fast) return fast;
  const k = get(layer.weight, n_in * n_out * kh * kw), b = get(layer.bias, n_out), size = height * width;
  const rows = (height - 1) * sh - 2 * ph + kh + oh, columns = (width - 1) * sw - 2 * pw + kw + ow;
  const w = new Float32Array(k.length), pixels = new Float32Array(size * n_in), y = new Float32Array(n_out * rows * columns);
  for (let i = 0, from = 0; i < n_in; i++)  // (in, out, place) -> (place, out, in)
    for (let o = 0; o < n_out; o++)
      for (let place = 0; place < kh * kw; place++) w[(place * n_out + o) * n_in + i] = k[from++];

  function addPixel(at, to, place) {
    for (let o = 0, j = place * n_out * n_in; o < n_out; o++, to += rows * columns) {
      let even = 0, odd = 0, i = 0;
      for (; i + 1 < n_in; i += 2, j += 2) {
        even += w[j] * pixels[at + i]; odd += w[j + 1] * pixels[at + i + 1];
      }
      if (i < n_in) even += w[j++] * pixels[at + i];
      y[to] += even + odd;
    }
  }

  return x => {
    expect(x, n_in * size);
    for (let i = 0; i < n_in; i++) for (let s = 0; s < size; s++) pixels[s * n_in + i] = x[i * size + s];
    for (let o = 0; o < n_out; o++) y.fill(b[o], o * rows * columns, (o + 1) * rows * columns);
    for (let r = 0; r < height; r++)
      for (let q = 0; q < width; q++)
        for (let u = 0; u < kh; u++)
          for (let v = 0; v < kw; v++) {
            const row = r * sh + u - ph, column = q * sw + v - pw;
            if (row >= 0 && row < rows && column >= 0 && column < columns)
              addPixel((r * width + q) * n_in, row * columns + column, u * kw + v);
          }
    return y;
  };
}

/** A convolution; rows and columns beyond the image are 0. */
function conv({ n_in, n_out, height, width, kernel: [kh, kw], stride: [sh, sw], padding: [ph, pw], weight, bias }, get) {
  const k = get(weight, n_in * n_out * kh * kw), b = get(bias, n_out);
  const rows = Math.floor((height + 2 * ph - kh) / sh) + 1, columns = Math.floor((width + 2 * pw - kw) / sw) + 1;
  const tall = height + 2 * ph, wide = width + 2 * pw, padded = new Float32Array(n_in * tall * wide);
  const y = new Float32Array(n_out * rows * columns);
  return x => {
    expect(x, n_in * height * width);
    for (let i = 0; i < n_in; i++)
      for (let r = 0; r < height; r++)
        padded.set(x.subarray((i * height + r) * width, (i * height + r + 1) * width), (i * tall + r + ph) * wide + pw);
    for (let o = 0, to = 0; o < n_out; o++)
      for (let r = 0; r < rows; r++)
        for (let q = 0; q < columns; q++, to++) {
          let sum = b[o], at = o * n_in * kh * kw;
          for (let i = 0; i < n_in; i++)
            for (let u = 0, from = (i * tall + r * sh) * wide + q * sw; u < kh; u++, from += wide)
              for (let v = 0; v < kw; v++) sum += k[at++] * padded[from + v];
          y[to] = sum;
        }
    return y;
  };
}

/** The first rows and columns of each channel. */
function crop({ channels, height, width, rows, columns }) {
  const y = new Float32Array(channels * rows * columns);
  return x => {
    expect(x, channels * height * width);
    for (let c = 0; c < channels; c++)
      for (let r = 0; r < rows; r++) {
        const from = (c * height + r) * width;
        y.set(x.subarray(from, from + columns), (c * rows + r) * columns);
      }
    return y;
  };
}

const LAYERS = {
  dense, conv, conv_transpose: convTranspose, crop,
  first: ({ size }) => x => x.subarray(0, size),
  add_label: ({ table, size }, get) => {
    const rows = get(table, null, size);
    return (x, k) => {
      for (let i = 0; i < size; i++) x[i] += rows[k * size + i];
      return x;
    };
  },
  join_label: ({ table, size }, get) => {
    const rows = get(table, null, size);
    return (x, k) => {
      const y = new Float32Array(x.length + size);
      y.set(x);
      y.set(rows.subarray(k * size, (k + 1) * size), x.length);
      return y;
    };
  },
  film: ({ scale, shift, size }, get) => {
    const s = get(scale, null, size), t = get(shift, null, size);
    return (x, k) => {
      for (let i = 0; i < size; i++) x[i] = x[i] * (1 + s[k * size + i]) + t[k * size + i];
      return x;
    };
  },
  ...Object.fromEntries(Object.keys(POINTWISE).map(op => [op, pointwise])),
};

function expect(x, size) {
  if (x.length !== size) throw new Error(`a layer takes ${size} values and gets ${x.length}: the file is damaged`);
}

/** p(x | z) or p(x | y, z) of one model: codes in, pixels out. An encoder is one too: pixels in, means out. */
export class Decoder {
  constructor({ z_dim, n_classes, size, layers }, arrays) {
    Object.assign(this, { z_dim, n_classes, size });  // numbers in, labels, numbers out
    const get = (name, length, multiple = 1) => {
      const array = Object.hasOwn(arrays, name) ? arrays[name] : null;
      if (!array) throw new Error(`the weights ${name} are missing`);
      if (length === null ? array.length !== n_classes * multiple : array.length !== length)
        throw new Error(`the weights ${name} have ${array.length} values, which is not what their layer needs`);
      return array;
    };
    this.steps = layers.map(layer => {
      if (!Object.hasOwn(LAYERS, layer.op)) throw new Error(`this page cannot run the layer ${layer.op}`);
      return LAYERS[layer.op](layer, get);
    });
  }

  /** z (Z,) and a label 0 to K - 1 (null for a model without labels) -> pixels (D,), valid until the next call. */
  decode(z, label = null) {
    expect(z, this.z_dim);
    if (this.n_classes && !(label >= 0 && label < this.n_classes)) throw new Error(`there is no label ${label}`);
    const x = this.steps.reduce((h, step) => step(h, label), Float32Array.from(z));
    expect(x, this.size);
    return x;
  }
}
